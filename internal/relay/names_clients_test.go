package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// twoSites starts relays in a mode for a.test and b.test, each with a backend of its own.
// a.test allows the certificate of "client", and b.test another one. reached counts the
// requests that the backend of b.test gets.
func twoSites(t *testing.T, mode string) (f *sharing, reached *atomic.Int64) {
	t.Helper()
	reached = new(atomic.Int64)
	site := func(name, allowed string) string {
		backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if name == "b" {
				reached.Add(1)
			}
			fmt.Fprintf(w, "backend %s, %s", name, r.Proto)
		}))
		backend.Config.Protocols = new(http.Protocols)
		backend.Config.Protocols.SetHTTP1(true)
		backend.Config.Protocols.SetUnencryptedHTTP2(true)
		backend.Start()
		t.Cleanup(backend.Close)
		more := ""
		if mode == "tcp" {
			more = `alpn = ["h2"]`
		}
		return named(t, name, []string{name + ".test"}, fmt.Sprintf("mode = %q\nbackend = %q\n%s", mode, backend.Listener.Addr(), more),
			fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true\nallow-clients = [%q]", testkit.AbsPKI("root.crt"), allowed))
	}
	return share(t, site("a", "cn:client valid"), site("b", "cn:client EC")), reached
}

// A client whose certificate is allowed for one name cannot use its connection for another
// name, for which it is not allowed: the answer to that host is 421, and to a connection
// of that name 403.
func TestNamesAllowTheirOwnClients(t *testing.T) {
	f, reached := twoSites(t, "http")
	for _, version := range []func(*tls.Config){withTLS12, func(*tls.Config) {}} {
		connect := func(sni, crt string) *lines {
			conn, err := f.dial(sni, version, func(c *tls.Config) { c.Certificates = clientConfig(t, crt).Certificates })
			require.NoError(t, err)
			return newLines(t, conn)
		}
		for _, request := range []string{"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n", "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"} {
			kept := connect("a.test", "client")
			status, body := kept.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			require.Equal(t, 200, status)
			require.Equal(t, "backend a, HTTP/1.1", body)
			status, _ = kept.ask(request)
			require.Equal(t, http.StatusMisdirectedRequest, status)
			kept.end()
		}
		status, _ := connect("b.test", "client").ask("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n")
		require.Equal(t, http.StatusForbidden, status)
		status, _ = connect("b.test", "client").ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		require.Equal(t, http.StatusMisdirectedRequest, status)
	}
	require.Zero(t, reached.Load())
	conn, err := f.dial("b.test", func(c *tls.Config) { c.Certificates = clientConfig(t, "client-ec").Certificates })
	require.NoError(t, err)
	_, body := newLines(t, conn).ask("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n")
	require.Equal(t, "backend b, HTTP/1.1", body)
	require.EqualValues(t, 1, reached.Load())
}

// HTTP/2 passes the relay in mode tcp only. There the name of the connection chooses the
// backend, and no :authority leads to another one.
func TestNamesAllowTheirOwnClientsHTTP2(t *testing.T) {
	f, reached := twoSites(t, "tcp")
	get := func(sni, crt, authority string) (string, error) {
		client := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return f.dial(sni, func(c *tls.Config) {
				c.NextProtos, c.Certificates = []string{"h2"}, clientConfig(t, crt).Certificates
			})
		}}
		defer client.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+sni+"/", nil)
		require.NoError(t, err)
		req.Host = authority
		resp, err := client.RoundTrip(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	for _, authority := range []string{"a.test", "b.test"} {
		body, err := get("a.test", "client", authority)
		require.NoError(t, err)
		require.Equal(t, "backend a, HTTP/2.0", body)
	}
	for _, authority := range []string{"a.test", "b.test"} {
		_, err := get("b.test", "client", authority)
		require.Error(t, err)
	}
	require.Zero(t, reached.Load())
	body, err := get("b.test", "client-ec", "b.test")
	require.NoError(t, err)
	require.Equal(t, "backend b, HTTP/2.0", body)
}
