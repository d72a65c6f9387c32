package live_test

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Programs of other projects connect to a server whose context depends on the name that
// they send: the certificate, the version and the policy for client certificates. Each
// verifies the certificate. A name that is unknown is refused.
func TestServerNames(t *testing.T) {
	site := func(name string, changes ...testkit.Change) *sslfilter.Ctx {
		o := sslfilter.Options{
			CrtMem: testkit.Mint(t, x509.Certificate{DNSNames: []string{name}}), Key: testkit.PKI("client.key"), ALPN: []string{"http/1.1"},
		}
		return testkit.Ctx(t, testkit.With(o, changes...))
	}
	names, err := sslfilter.NewNameMap(nil, site("old.example", testkit.TLS12), site("*.new.example", testkit.TLS13),
		site("members.example", func(o *sslfilter.Options) { o.CACrt, o.RequireValidClientCert = testkit.PKI("root.crt"), true }))
	require.NoError(t, err)
	l := &sslnet.Listener{
		Listener: testkit.Listen(t),
		Choose: func(_ context.Context, _ net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
			return names.Choose(hello)
		},
		HandshakeError: func(net.Conn, error) {},
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Host+" over "+sslhttp.FromContext(r.Context()).Version())
	})}
	go sslhttp.Serve(srv, l)
	defer srv.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	ca, crt, key := testkit.AbsPKI("root.crt"), testkit.AbsPKI("client.crt"), testkit.AbsPKI("client.key")

	type command func(t *testing.T, name string, member bool) (path string, args []string)
	openssl := func(series string) command {
		return func(t *testing.T, name string, member bool) (string, []string) {
			args := []string{"s_client", "-connect", "127.0.0.1:" + port, "-servername", name, "-verify_hostname", name, "-verify_return_error", "-CAfile", ca}
			if member {
				args = append(args, "-cert", crt, "-key", key)
			}
			return peers.FindOpenSSL(t, series), args
		}
	}
	for program, command := range map[string]command{
		"openssl 1.1.1": openssl("1.1.1"), "openssl 3.0": openssl("3.0"), "openssl 3.5": openssl("3.5"),
		"gnutls-cli": func(t *testing.T, name string, member bool) (string, []string) {
			args := []string{"--x509cafile", ca, "--sni-hostname", name, "--verify-hostname", name, "--port", port}
			if member {
				args = append(args, "--x509certfile", crt, "--x509keyfile", key)
			}
			return peers.Find(t, "gnutls-bin", "gnutls-cli"), append(args, "127.0.0.1")
		},
		"curl": func(t *testing.T, name string, member bool) (string, []string) {
			args := []string{"-sS", "--cacert", ca, "--noproxy", "*", "--resolve", name + ":" + port + ":127.0.0.1"}
			if member {
				args = append(args, "--cert", crt, "--key", key)
			}
			return peers.FindCurl(t), append(args, "https://"+name+":"+port+"/")
		},
	} {
		t.Run(program, func(t *testing.T) {
			for _, c := range []struct {
				name    string
				member  bool
				version string // "" if the client is refused
			}{
				{"old.example", false, "TLSv1.2"}, {"x.new.example", false, "TLSv1.3"}, {"members.example", true, "TLSv1.3"},
				{"members.example", false, ""}, {"other.example", false, ""},
			} {
				path, args := command(t, c.name, c.member)
				p := peers.StartForeign(t, nil, path, args...)
				if program != "curl" {
					p.Write([]byte("GET / HTTP/1.1\r\nHost: " + c.name + "\r\nConnection: close\r\n\r\n")) // it may have ended
				}
				if c.version != "" {
					p.Await(" over " + c.version)
				}
				p.CloseInput()
				p.Wait()
				if c.version == "" {
					require.NotContains(t, p.Output(), " over TLS", c.name)
				}
			}
		})
	}
}
