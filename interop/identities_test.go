package interop_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// openssl s_client gets the certificate that fits its signature algorithms.
func TestIdentitiesOpenSSLClient(t *testing.T) {
	l, conns := echo(t, testkit.Server(func(o *sslfilter.Options) {
		o.Identities = []sslfilter.Identity{{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key")}}
	}))
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		for algorithms, want := range map[string]int{"RSA-PSS+SHA256": -1, "ECDSA+SHA256": 0} {
			t.Run(version+" "+algorithms, func(t *testing.T) {
				client := start(t, "openssl", "openssl", "s_client", "-connect", l.Addr().String(), version, "-sigalgs", algorithms)
				require.Equal(t, want, next(t, conns).State().Shown.Index)
				client.stdin.Close()
			})
		}
	}
}

// twoClients returns options with a certificate of each of two CAs, which have keys of the
// same type: Crt is from "other", and the first of Identities from "root".
func twoClients(t testing.TB) sslfilter.Options {
	fromOther := testkit.MintFrom(t, testkit.CA(t, "other"), x509.Certificate{}, testkit.Key(t, "client.key").Public())
	return testkit.Client(func(o *sslfilter.Options) {
		o.CrtMem, o.Key = fromOther, testkit.PKI("client.key")
		o.Identities = []sslfilter.Identity{{Crt: testkit.PKI("client.crt"), Key: testkit.PKI("client.key")}}
	})
}

// shownTo dials addr and returns the index of the identity that was shown, or -2.
func shownTo(t testing.TB, addr string, o sslfilter.Options) int {
	t.Helper()
	c, err := sslnet.Dial("tcp", addr, testkit.Ctx(t, o))
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(testkit.Patience)))
	if s := c.State().Shown; s != nil {
		return s.Index
	}
	return -2
}

// A client shows each server the certificate that this server's CAs have issued.
func TestIdentitiesShownToOpenSSL(t *testing.T) {
	for ca, want := range map[string]int{"other.crt": -1, "root.crt": 0, "inter2.crt": -2} {
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			t.Run(ca+" "+version, func(t *testing.T) {
				server := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", version, "-cert", testkit.PKI("server.crt"),
					"-key", testkit.PKI("server.key"), "-CAfile", testkit.PKI(ca), "-verify", "2")
				require.Equal(t, want, shownTo(t, server.await("ACCEPT ", 1), twoClients(t)))
			})
		}
	}
}

func TestIdentitiesShownToGnuTLS(t *testing.T) {
	for ca, want := range map[string]int{"other.crt": -1, "root.crt": 0} {
		port := freePort(t)
		server := start(t, "gnutls-bin", "gnutls-serv", "--echo", "--port", port, "--x509cafile", testkit.PKI(ca),
			"--x509certfile", testkit.PKI("server.crt"), "--x509keyfile", testkit.PKI("server.key"), "--require-client-cert")
		server.await("listening on IPv4", 1)
		require.Equal(t, want, shownTo(t, "127.0.0.1:"+port, twoClients(t)), ca)
	}
}

func TestIdentitiesShownToNginx(t *testing.T) {
	for ca, want := range map[string]int{"other.crt": -1, "root.crt": 0} {
		port := freePort(t)
		nginx(t, port, fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_verify_client optional; ssl_client_certificate %s;",
			testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"), testkit.AbsPKI(ca)))
		require.Equal(t, want, shownTo(t, "127.0.0.1:"+port, twoClients(t)), ca)
	}
}

// nginx runs a server with these directives.
func nginx(t testing.TB, port, server string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log stderr info;
events {}
http {
	access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server { listen 127.0.0.1:%[2]s ssl; %[3]s }
}
`, dir, port, server), 0o600))
	p := peers.StartForeign(t, nil, peers.FindDaemon(t, "nginx-light", "nginx"), "-p", dir, "-e", "stderr", "-c", file)
	p.AwaitPort(port)
}

// After a renegotiation, Shown is about the last handshake.
func TestIdentitiesAfterARenegotiation(t *testing.T) {
	server := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2", "-no_ticket", "-no_cache",
		"-cert", testkit.PKI("server.crt"), "-key", testkit.PKI("server.key"), "-CAfile", testkit.PKI("root.crt"))
	w := newWire(t, testkit.Dial(t, server.await("ACCEPT ", 1)), twoClients(t))
	w.pumpUntil("the handshake", w.HandshakeDone)
	require.Nil(t, w.State().Shown, "the server does not ask")
	w.say("before\n")
	server.await("before", 1)
	server.say("R\n") // it asks for a certificate in the next handshake
	w.pumpUntil("the second handshake", func() bool { return w.State().Shown != nil && w.Flushed() })
	require.Zero(t, w.State().Shown.Index)
	server.say("reply\n")
	w.pumpUntilGot("reply\n")
}
