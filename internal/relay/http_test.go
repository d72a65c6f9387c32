package relay

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// mirror starts an HTTP backend that answers with the header of the request.
func mirror(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "Host: %s\n", r.Host)
		r.Header.Write(w)
		r.Trailer.Write(w)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// ask sends a request on a kept connection, and returns status and body.
func (l *lines) ask(head string) (int, string) {
	l.t.Helper()
	l.say(head)
	r, err := http.ReadResponse(l.in, nil)
	require.NoError(l.t, err)
	body, err := io.ReadAll(r.Body)
	require.NoError(l.t, err)
	return r.StatusCode, string(body)
}

func header(body, name string) (all []string) {
	for line := range strings.SplitSeq(body, "\n") {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\r"), ": "); ok && strings.EqualFold(key, name) {
			all = append(all, value)
		}
	}
	return all
}

func httpRelay(t *testing.T, more ...string) *fixture {
	t.Helper()
	return start(t, append([]string{
		`mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", mirror(t)),
		fmt.Sprintf("cacrt = %q\ncacrl = %q\n", testkit.AbsPKI("root.crt"), testkit.AbsPKI("crl.pem")), "clientcert = true",
	}, more...)...)
}

func TestHeadersTellTheVerdict(t *testing.T) {
	f := httpRelay(t)
	for who, want := range map[string][]string{
		"client":         {"valid", "/C=DE/O=Oracle Test/CN=client valid", "/C=DE/O=Oracle Test/CN=Oracle Root CA", "20:01"},
		"client-revoked": {"invalid", "/C=DE/O=Oracle Test/CN=client revoked", "/C=DE/O=Oracle Test/CN=Oracle Root CA", ""},
		"":               {"none", "", "", ""},
	} {
		var names []string
		if who != "" {
			names = []string{who}
		}
		c := newLines(t, dialTLS(t, f.addr(), names...))
		for range 2 { // the connection is kept
			status, body := c.ask("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
			require.Equal(t, 200, status)
			for i, name := range []string{"X-Client-Verdict", "X-Client-Subject", "X-Client-Issuer", "X-Client-Serial"} {
				switch {
				case want[i] != "":
					require.Equal(t, []string{want[i]}, header(body, name), who)
				case who == "":
					require.Empty(t, header(body, name), who)
				}
			}
			require.Equal(t, []string{"TLS_AES_256_GCM_SHA384"}, header(body, "X-TLS-Cipher"))
			require.Equal(t, []string{"TLSv1.3"}, header(body, "X-TLS-Protocol"))
			require.Equal(t, []string{"example.org"}, header(body, "Host"))
			require.Equal(t, []string{"127.0.0.1"}, header(body, "X-Forwarded-For"))
			require.Equal(t, []string{"https"}, header(body, "X-Forwarded-Proto"))
		}
	}
}

// A header of the relay contains only the relay's value, however a client writes it.
func TestHeadersCannotBeForged(t *testing.T) {
	f := httpRelay(t, "[relay.headers]", `verdict = "X-SSL-Verify"`, `serial = ""`)
	forged := []string{
		"X-SSL-Verify: valid", "x-ssl-verify: valid", "X_SSL_Verify: valid", "x-Ssl_verify: valid", "X-SSL-VERIFY: valid",
		"X.SSL.Verify: valid", "X-SSL~Verify: valid", "X-Client-Verdict: valid", "X-Client-Serial: 01", "X_Client_Serial: 01",
		"X-Client-Subject: /CN=admin", "X_Client_Subject: /CN=admin", "X-Client-Issuer: /CN=x", "X-TLS-Cipher: NULL", "X_TLS_PROTOCOL: TLSv9",
		"X-Forwarded-For: 192.0.2.66", "X_Forwarded_For: 192.0.2.66", "X-Real-IP: 192.0.2.66", "Forwarded: for=192.0.2.66", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: evil.test",
	}
	c := newLines(t, dialTLS(t, f.addr()))
	for _, extra := range []string{"", "Connection: X-SSL-Verify, x-forwarded-for, X-TLS-Cipher\r\n", "Connection: keep-alive, X_SSL_Verify\r\nX-Ssl-Verify: valid\r\n"} {
		status, body := c.ask("GET / HTTP/1.1\r\nHost: example.org\r\n" + strings.Join(forged, "\r\n") + "\r\n" + extra + "\r\n")
		require.Equal(t, 200, status)
		require.Equal(t, []string{"none"}, header(body, "X-SSL-Verify"))
		require.NotContains(t, body, "valid")
		require.Empty(t, header(body, "X-Client-Serial"), "a header that the configuration turns off")
		require.NotContains(t, body, "admin")
		require.NotContains(t, body, "192.0.2.66")
		require.NotContains(t, body, "evil.test")
		require.NotContains(t, strings.ToLower(body), "x_")
		require.Equal(t, []string{"TLS_AES_256_GCM_SHA384"}, header(body, "X-TLS-Cipher"))
		require.Equal(t, []string{"TLSv1.3"}, header(body, "X-TLS-Protocol"))
		require.Equal(t, []string{"https"}, header(body, "X-Forwarded-Proto"))
	}
	status, body := c.ask("POST / HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\nTrailer: X-SSL-Verify\r\n\r\n1\r\nx\r\n0\r\nX-SSL-Verify: valid\r\n\r\n")
	require.Equal(t, 200, status)
	require.NotContains(t, body, "valid")
	require.Empty(t, header(body, "X-Client-Serial"))
}

func TestTrustForwarded(t *testing.T) {
	c := newLines(t, dialTLS(t, httpRelay(t, "trust-forwarded = true").addr()))
	_, body := c.ask("GET / HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.test\r\nX_Forwarded_For: x\r\n\r\n")
	require.Equal(t, []string{"192.0.2.7, 127.0.0.1"}, header(body, "X-Forwarded-For"))
	require.Equal(t, []string{"outer.test"}, header(body, "X-Forwarded-Host"))
	require.NotContains(t, body, "X_F")
}

func TestHTTPBackendThatIsDown(t *testing.T) {
	f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", testkit.ClosedPort(t)))
	c := newLines(t, dialTLS(t, f.addr()))
	status, body := c.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, http.StatusBadGateway, status)
	require.Equal(t, "Bad Gateway\n", body) // no details of the backend
	f.logs("connection refused")
}

// An invalid body is the client's mistake, and not a failure of the backend.
func TestBrokenBodyIsTheClients(t *testing.T) {
	f := httpRelay(t)
	c := newLines(t, dialTLS(t, f.addr()))
	status, body := c.ask("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "Bad Request\n", body)
	require.Zero(t, f.count(func(c *counters) value64 { return &c.backendFailed }))
}

func TestUpgradesPassThrough(t *testing.T) {
	where := backend(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(conn, in)
	})
	f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", where))
	c := newLines(t, dialTLS(t, f.addr()))
	c.say("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r, err := http.ReadResponse(c.in, nil)
	require.NoError(t, err)
	require.Equal(t, 101, r.StatusCode)
	c.say("hello\r\n")
	c.expect("hello")
}

// After an upgrade to another protocol, such as HTTP/2, a client could send requests
// that the relay does not parse, with a forged verdict header. So only an upgrade to
// WebSocket is forwarded.
func TestOtherUpgradesAreNotForwarded(t *testing.T) {
	f := httpRelay(t)
	c := newLines(t, dialTLS(t, f.addr()))
	for _, upgrade := range []string{"h2c", "websocket, h2c", "TLS/1.2", "HTTP/2.0", "h2c\r\nUpgrade: websocket", "\xff"} {
		status, body := c.ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + upgrade + "\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
		require.Equal(t, 200, status, upgrade)
		require.NotContains(t, strings.ToLower(body), "upgrade", upgrade)
		require.NotContains(t, strings.ToLower(body), "http2-settings", upgrade)
	}
}

func TestTargetsAreForwardedAsTheyCame(t *testing.T) {
	f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(line), line)
	})))
	c := newLines(t, dialTLS(t, f.addr()))
	for _, target := range []string{"/", "/a?x=1;y=2", "/?%zz", "/?a=b&&c=%", "/?", "//a/../b%2fc?q"} {
		status, body := c.ask("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")
		require.Equal(t, 200, status, target)
		require.Equal(t, "GET "+target+" HTTP/1.1\r\n", body)
	}
}

func TestHTTPToATLSBackend(t *testing.T) {
	inner := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", mirror(t)), `cacrt = "`+testkit.AbsPKI("root.crt")+`"`, "requirevalidclientcert = true")
	f := start(t, `mode = "http"`, `listen = ["plain:127.0.0.1:0"]`, trust(), fmt.Sprintf("backend-crt = %q\nbackend-key = %q\n", testkit.AbsPKI("client.crt"), testkit.AbsPKI("client.key")),
		fmt.Sprintf("backend = \"tls:%s\"", inner.addr()), "[relay.headers]", `verdict = "X-Outer"`)
	c := newLines(t, testkit.Dial(t, f.addr()))
	status, body := c.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, 200, status)
	require.Equal(t, []string{"valid"}, header(body, "X-Client-Verdict"))
	require.Equal(t, []string{"none"}, header(body, "X-Outer"))
}

// copyPKI copies files of the PKI to a place where a test can replace them.
func copyPKI(t *testing.T, names ...string) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range names {
		replace(t, file(name), testkit.AbsPKI(name))
	}
	return file
}

func replace(t *testing.T, file, with string) {
	t.Helper()
	data, err := os.ReadFile(with)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data, 0o600))
}

func serial(t *testing.T, addr string) string {
	t.Helper()
	config := clientConfig(t)
	config.InsecureSkipVerify = true
	conn := tls.Client(testkit.Dial(t, addr), config)
	require.NoError(t, conn.Handshake())
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestReloadTakesCertificatesOrKeepsThem(t *testing.T) {
	file := copyPKI(t, "server.crt", "server.key")
	text := relayTable(`listen = ["127.0.0.1:0"]`, fmt.Sprintf("crt = %q\nkey = %q", file("server.crt"), file("server.key")), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
	f := startAll(t, text)
	reload := func() error {
		c, err := config.Parse([]byte(text))
		require.NoError(t, err)
		return f.Reload(c)
	}
	before := serial(t, f.addr())
	kept := dialTLS(t, f.addr())
	testkit.Exchange(t, kept, "one")

	replace(t, file("server.crt"), testkit.AbsPKI("server-ec.crt")) // the key does not match
	require.ErrorContains(t, reload(), "does not match")
	require.Equal(t, before, serial(t, f.addr()))
	replace(t, file("server.key"), testkit.AbsPKI("garbage.pem"))
	require.ErrorContains(t, reload(), `relay "r": key`)
	require.Equal(t, before, serial(t, f.addr()))

	replace(t, file("server.key"), testkit.AbsPKI("server-ec.key"))
	require.NoError(t, reload())
	require.NotEqual(t, before, serial(t, f.addr()))
	testkit.Exchange(t, kept, "two") // the existing connection continues
	require.EqualValues(t, 1, f.process.reloads.Value())
	require.EqualValues(t, 2, f.process.reloadsFailed.Value())
}

// The CRL of the last reload is used. If the file is then removed, or is being
// rewritten, no client is rejected.
func TestReloadTakesCRLsOrKeepsThem(t *testing.T) {
	file := copyPKI(t, "crl.pem")
	replace(t, file("crl.pem"), testkit.AbsPKI("crl-other.pem"))
	text := relayTable(`mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", mirror(t)),
		"clientcert = true", fmt.Sprintf("cacrt = %q\ncacrl = %q\n", testkit.AbsPKI("root.crt"), file("crl.pem")))
	f := startAll(t, text)
	reload := func() error {
		c, err := config.Parse([]byte(text))
		require.NoError(t, err)
		return f.Reload(c)
	}
	verdict := func(c *lines) string {
		t.Helper()
		_, body := c.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		return strings.Join(header(body, "X-Client-Verdict"), ",")
	}
	kept := newLines(t, dialTLS(t, f.addr(), "client-revoked"))
	require.Equal(t, "valid", verdict(kept)) // not on this list

	require.NoError(t, os.Remove(file("crl.pem")))
	require.Equal(t, "valid", verdict(kept))
	require.ErrorContains(t, reload(), "cacrl")
	replace(t, file("crl.pem"), testkit.AbsPKI("crl-trunc.pem"))
	require.ErrorContains(t, reload(), file("crl.pem"))
	require.Equal(t, "valid", verdict(kept))
	require.Equal(t, "valid", verdict(newLines(t, dialTLS(t, f.addr(), "client-revoked"))))

	replace(t, file("crl.pem"), testkit.AbsPKI("crl-all.pem"))
	require.NoError(t, reload())
	require.Equal(t, "invalid", verdict(newLines(t, dialTLS(t, f.addr(), "client-revoked"))))
	_, body := kept.ask("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: longer\r\n\r\n") // the last response on this connection, whatever headers the client sends
	require.Equal(t, []string{"valid"}, header(body, "X-Client-Verdict"))
	kept.end()
}

func TestReloadRefusesWhatNeedsARestart(t *testing.T) {
	f := start(t, `listen = ["127.0.0.1:0"]`, crt(), `backend = "127.0.0.1:1"`)
	for change, what := range map[string]string{
		relayTable(`listen = ["127.0.0.1:1"]`, crt(), `backend = "127.0.0.1:1"`):                           `listen of relay "r"`,
		relayTable(`mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), `backend = "127.0.0.1:1"`):          `mode of relay "r"`,
		"max-connections = 3\n" + relayTable(`listen = ["127.0.0.1:0"]`, crt(), `backend = "127.0.0.1:1"`): "max-connections",
	} {
		c, err := config.Parse([]byte(change))
		require.NoError(t, err)
		require.ErrorContains(t, f.Reload(c), what)
	}
}

func TestCounters(t *testing.T) {
	f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
	conn := dialTLS(t, f.addr())
	testkit.Exchange(t, conn, "hello")
	require.NoError(t, conn.CloseWrite())
	io.ReadAll(conn)
	conn.Close()
	testkit.Eventually(t, func() bool { return f.count(func(c *counters) value64 { return &c.bytesFromClients }) == 5 }, "not counted")
	w := httptest.NewRecorder()
	f.Counters().ServeHTTP(w, httptest.NewRequest("GET", "/debug/vars", nil))
	var got struct {
		Sslrelay struct {
			Relays map[string]map[string]int64
		}
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got), w.Body.String())
	r := got.Sslrelay.Relays["r"]
	require.EqualValues(t, 1, r["connections"])
	require.EqualValues(t, 1, r["handshakes"])
	require.EqualValues(t, 1, r["forwarded"])
	require.EqualValues(t, 5, r["bytes_from_backends"])
	require.Greater(t, r["certificate_not_after"], int64(1<<31))
}

// Every request header of max-header bytes is accepted. net/http reads up to 4096
// bytes more before it refuses a header.
func TestMaxHeader(t *testing.T) {
	const limit = 2000
	served := backend(t, func(conn net.Conn) {
		for in := bufio.NewReader(conn); ; {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	f := start(t, `mode = "http"`, `listen = ["plain:127.0.0.1:0"]`, fmt.Sprintf("backend = %q\nmax-header = %d", served, limit))
	for size, want := range map[int]int{limit: http.StatusNoContent, limit + 4096 + 1: http.StatusRequestHeaderFieldsTooLarge} {
		conn := testkit.Dial(t, f.addr())
		head := "GET / HTTP/1.1\r\nHost: h\r\nX: "
		_, err := io.WriteString(conn, head+strings.Repeat("x", size-len(head)-4)+"\r\n\r\n")
		require.NoError(t, err)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, want, answer.StatusCode, size)
	}
}
