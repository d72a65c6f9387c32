package examples_test

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func startHTTPSServer(t *testing.T, args ...string) (p *peers.Program, url, ca string) {
	t.Helper()
	p = example(t, "httpsserver", append([]string{"-listen", "127.0.0.1:0"}, args...)...)
	url = p.Await("httpsserver listens on ")
	return p, url, p.Await("throw-away certificates: ")
}

func TestHTTPSServer(t *testing.T) {
	server, url, ca := startHTTPSServer(t)
	for _, version := range []string{"1.2", "1.3"} {
		for _, c := range []struct{ flag, status string }{{"--http1.1", "HTTP/1.1 200 OK\r\n"}, {"--http2", "HTTP/2 200 \r\n"}} {
			t.Run("TLS "+version+" "+c.flag, func(t *testing.T) {
				curl := func(args ...string) string {
					out, status := peers.Curl(t, append(args, "-i", "--cacert", ca, "--tlsv"+version, "--tls-max", version, c.flag)...)
					require.Zero(t, status, out)
					return out
				}
				page := curl(url + "some/page?x=1")
				require.True(t, strings.HasPrefix(page, c.status), page)
				require.Contains(t, page, "Hi, you fetched /some/page?x=1\n")
				require.Contains(t, strings.ToLower(page), "server: my server\r\n")
				for _, empty := range []string{"dir/x", "file"} {
					require.NotContains(t, curl(url+empty), "Hi")
				}
				// The original crashes after 1 to 6 connections with TLS 1.3, and hangs after 9 to 30
				// with TLS 1.2.
				pages := curl(url+"[1-40]", "-H", "Connection: close")
				require.Equal(t, 40, strings.Count(pages, "Hi, you fetched"))
			})
		}
	}
	require.NotContains(t, server.Output(), "error")
	end(t, server, ca)
}

func TestHTTPSServerWithOtherClients(t *testing.T) {
	server, url, ca := startHTTPSServer(t, "-timeout", "1s", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-tls1_2")
	addr := strings.TrimSuffix(strings.TrimPrefix(url, "https://"), "/")
	silent := testkit.Dial(t, addr)

	client := peers.Start(t, peers.Find(t, "openssl", "openssl"), "s_client", "-connect", addr, "-CAfile", ca, "-verify_return_error", "-crlf")
	client.Await("Cipher is ECDHE-ECDSA-AES128-GCM-SHA256")
	client.Say("GET /openssl HTTP/1.0\n\n")
	client.Await("Hi, you fetched /openssl")
	client.Await("closed")
	require.Zero(t, client.Wait())
	require.NotContains(t, client.Output(), "unexpected eof")

	client = peers.Start(t, peers.Find(t, "gnutls-bin", "gnutls-cli"), "--x509cafile="+ca, "--port="+peers.Port(t, addr), "localhost")
	client.Await("Simple Client Mode")
	client.Say("GET /gnutls HTTP/1.0\r\n\r\n")
	client.Await("Hi, you fetched /gnutls")
	client.Await("Peer has closed the GnuTLS connection")

	out, status := peers.Curl(t, "http://"+addr+"/")
	require.Zero(t, status, out)
	require.Contains(t, out, "HTTP request to an HTTPS server")
	_, err := io.Copy(io.Discard, silent)
	require.NoError(t, err) // closed after the timeout
	server.Await("handshake timeout")
	end(t, server, ca)
}
