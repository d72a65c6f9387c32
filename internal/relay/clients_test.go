package relay

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// requiring returns the lines of a relay that requires a valid client certificate.
func requiring(allowed ...string) string {
	text := crt() + fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true\n", testkit.AbsPKI("root.crt"))
	if len(allowed) > 0 {
		text += fmt.Sprintf("allow-clients = [\"%s\"]\n", strings.Join(allowed, `", "`))
	}
	return text
}

func fingerprint(t *testing.T, crt string) string {
	return fmt.Sprintf("%x", sha256.Sum256(testkit.Cert(t, crt).Raw))
}

// In the modes tcp and imap, a client that is not in allow-clients loses its connection after
// the handshake, and no backend sees it.
func TestClientsNotAllowed(t *testing.T) {
	for _, mode := range []string{"tcp", "imap"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(mode+tls.VersionName(version), func(t *testing.T) {
				var reached atomic.Int32
				echo := backend(t, func(conn net.Conn) {
					reached.Add(1)
					io.WriteString(conn, "* OK ready\r\n")
					testkit.Echo(conn)
				})
				f := start(t, fmt.Sprintf("mode = %q", mode), `listen = ["127.0.0.1:0"]`, requiring("cn:client valid", "cn:another"), fmt.Sprintf("backend = %q", echo))
				conf := clientConfig(t, "client-ec")
				conf.MaxVersion = version
				conn := tls.Client(testkit.Dial(t, f.addr()), conf)
				require.NoError(t, conn.Handshake())
				_, err := io.ReadAll(conn)
				require.Error(t, err, "the end is not an orderly one")
				conn.Close()
				f.logs(`error="the client is not in allow-clients"`)
				f.logs(`certificate=valid subject="/C=DE/O=Oracle Test/CN=client EC"`)
				f.logs("fingerprint=" + fingerprint(t, "client-ec.crt"))
				require.Zero(t, reached.Load())
				require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.certDenied }))
				require.Zero(t, f.count(func(c *counters) value64 { return &c.certValid }))

				allowed := newLines(t, dialTLS(t, f.addr(), "client"))
				allowed.expect("* OK")
				require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.certValid }))
			})
		}
	}
}

// The list also applies to connections that use STARTTLS.
func TestClientsNotAllowedSTARTTLS(t *testing.T) {
	var reached atomic.Int32
	f := start(t, `mode = "imap"`, `listen = ["starttls:127.0.0.1:0"]`, requiring("sha256:"+fingerprint(t, "client.crt")),
		fmt.Sprintf("backend = %q", backend(t, func(net.Conn) { reached.Add(1) })))
	c := newLines(t, testkit.Dial(t, f.addr()))
	c.expect("* OK")
	c.say("a STARTTLS\r\n")
	c.expect("a OK")
	conn := tls.Client(c.Conn, clientConfig(t, "client-ec"))
	require.NoError(t, conn.Handshake())
	_, err := io.ReadAll(conn)
	require.Error(t, err)
	f.logs("the client is not in allow-clients")
	require.Zero(t, reached.Load())
}

// In mode http the answer is 403. A reload changes the list for new connections, and a kept
// connection ends with its next answer.
func TestClientsNotAllowedHTTP(t *testing.T) {
	text := func(allowed string) string {
		return relayTable(`mode = "http"`, `listen = ["127.0.0.1:0"]`, requiring(allowed), fmt.Sprintf("backend = %q", mirror(t)))
	}
	f := startAll(t, text("cn:client valid"))
	curl := func(crt string) string {
		args := []string{
			"-sS", "--max-time", "20", "--noproxy", "*", "-w", "%{http_code}", "--cacert", testkit.AbsPKI("root.crt"), "--resolve", "localhost:" + port(f.addr()) + ":127.0.0.1",
			"--cert", testkit.AbsPKI(crt + ".crt"), "--key", testkit.AbsPKI(crt + ".key"), "https://localhost:" + port(f.addr()) + "/",
		}
		out, err := exec.Command(peers.FindCurl(t, args...), args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	require.Contains(t, curl("client"), "X-Client-Verdict: valid")
	require.Equal(t, "The client certificate is not allowed.\n403", curl("client-ec"))
	f.logs(`msg="request refused"`)
	f.logs(`reason="the client is not in allow-clients"`)
	require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.certDenied }))

	kept := newLines(t, dialTLS(t, f.addr(), "client"))
	status, _ := kept.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, 200, status)
	c, err := config.Parse([]byte(text("dns:nobody")))
	require.NoError(t, err)
	require.NoError(t, f.Reload(c))
	require.Equal(t, "The client certificate is not allowed.\n403", curl("client"))
	status, _ = kept.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, 200, status, "the list with which the connection began")
	kept.end()
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// The log line of a client that is refused in the handshake has the certificate, and says that
// the key is not proved. No text in a certificate can end the line.
func TestClientsRefusedAreLogged(t *testing.T) {
	openssl := peers.Find(t, "openssl", "openssl")
	evil := testkit.TempFile(t, "evil.crt", testkit.SelfSigned(t, x509.Certificate{Subject: pkix.Name{CommonName: "x\nlevel=ERROR msg=\"\x1b[2Jforged\" a=b\x00"}}))
	f := start(t, `listen = ["127.0.0.1:0"]`, requiring(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
	for i, c := range []struct {
		crt, key string
		want     []string
	}{
		{testkit.AbsPKI("client-expired.crt"), testkit.AbsPKI("client-expired.key"), []string{
			`subject="/C=DE/O=Oracle Test/CN=client expired" issuer="/C=DE/O=Oracle Test/CN=Oracle Root CA" serial=`, "fingerprint=" + fingerprint(t, "client-expired.crt"),
			"key_proved=false verify_error=10 reason=\"invalid: certificate has expired (10) at depth 0", "the peer has not proved that it has the key"}},
		{testkit.AbsPKI("client-unknown.crt"), testkit.AbsPKI("client-unknown.key"), []string{"verify_error=20", "fingerprint=" + fingerprint(t, "client-unknown.crt")}},
		{evil, testkit.AbsPKI("client.key"), []string{`\\x0Alevel=ERROR`, "verify_error=18", `\\x1B`}},
	} {
		for _, flag := range []string{"-tls1_2", "-tls1_3"} {
			cmd := exec.Command(openssl, "s_client", "-connect", f.addr(), flag, "-cert", c.crt, "-key", c.key, "-CAfile", testkit.AbsPKI("root.crt"))
			cmd.Run() // its status differs
		}
		for _, want := range c.want {
			f.logs(want)
		}
		testkit.Eventually(t, func() bool { return f.count(func(c *counters) value64 { return &c.certRefused }) == int64(2*i+2) }, "not %d refusals", 2*i+2)
	}
	for line := range strings.Lines(f.log.String()) {
		require.True(t, strings.HasPrefix(line, "time="), "%q", line)
		require.NotContains(t, line, "\x1b")
	}
	conn := tls.Client(testkit.Dial(t, f.addr()), clientConfig(t)) // without a certificate
	conn.Handshake()
	conn.Read(make([]byte, 1))
	conn.Close()
	testkit.Eventually(t, func() bool { return f.count(func(c *counters) value64 { return &c.handshakesFailed }) == 7 }, "not 7 failures")
	require.EqualValues(t, 6, f.count(func(c *counters) value64 { return &c.certRefused }))
}

// In JSON, each refused client is one object with the same fields.
func TestClientsRefusedAreLoggedAsJSON(t *testing.T) {
	c, err := config.Parse([]byte(relayTable(`listen = ["127.0.0.1:0"]`, requiring(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))))
	require.NoError(t, err)
	f := &fixture{t: t, log: new(testkit.Log)}
	f.Server, err = New(c, slog.New(slog.NewJSONHandler(f.log, nil)))
	require.NoError(t, err)
	go f.Serve()
	t.Cleanup(f.Close)
	conn := tls.Client(testkit.Dial(t, f.addr()), clientConfig(t, "client-expired"))
	conn.Handshake()
	conn.Read(make([]byte, 1))
	conn.Close()
	f.logs(`"fingerprint":"` + fingerprint(t, "client-expired.crt") + `","key_proved":false,"verify_error":10,"reason":"invalid: certificate has expired (10) at depth 0`)
}

func TestCheckShowsAllowedClients(t *testing.T) {
	_, out := check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, requiring("cn:alice", "uri:spiffe://example.org/web"))
	require.Contains(t, out, "    allows         cn:alice\n    allows         uri:spiffe://example.org/web\n")
}
