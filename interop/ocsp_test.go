package interop_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// stapled returns a server whose response has a status.
func stapled(t testing.TB, status int) sslfilter.Options {
	t.Helper()
	staple, err := sslfilter.NewStaple(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), Status: status}))
	require.NoError(t, err)
	return testkit.Server(func(o *sslfilter.Options) {
		o.Staple, o.Crt = staple, ""
		o.ChainMem = slices.Concat(testkit.PKIBytes(t, "server.crt"), testkit.PKIBytes(t, "root.crt")) // curl looks for the issuer in the chain that is sent
	})
}

// openssl s_client prints the stapled response.
func TestStapleForOpenSSL(t *testing.T) {
	l, conns := echo(t, stapled(t, 0))
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			client := start(t, "openssl", "openssl", "s_client", "-connect", l.Addr().String(), version, "-status", "-CAfile", testkit.PKI("root.crt"))
			next(t, conns)
			require.Contains(t, client.await("OCSP Response Status:", 1), "successful")
			require.Contains(t, client.await("Cert Status:", 1), "good")
			client.stdin.Close()
		})
	}
}

// GnuTLS accepts a good response, and rejects a revoked certificate.
func TestStapleForGnuTLS(t *testing.T) {
	for status, accepted := range map[int]bool{0: true, 1: false} {
		l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, stapled(t, status)))
		require.NoError(t, err)
		testkit.Serve(t, l, testkit.Echo)
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		client := start(t, "gnutls-bin", "gnutls-cli", "--x509cafile", testkit.PKI("root.crt"), "--port", port, "localhost")
		if accepted {
			client.await("Simple Client Mode", 1)
			client.stdin.Close()
			continue
		}
		require.Error(t, client.wait())
		require.Contains(t, client.output(), "revoked")
	}
}

// curl --cert-status accepts a good response alone.
func TestStapleForCurl(t *testing.T) {
	path := peers.FindCurl(t)
	for name, o := range map[string]sslfilter.Options{"good": stapled(t, 0), "revoked": stapled(t, 1), "missing": testkit.Server()} {
		l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, o))
		require.NoError(t, err)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page") })}
		t.Cleanup(func() { server.Close() })
		go sslhttp.Serve(server, l)
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		cmd := exec.Command(path, "-sS", "--cert-status", "--cacert", testkit.PKI("root.crt"), "--resolve", "localhost:"+port+":127.0.0.1", "https://localhost:"+port+"/")
		cmd.Env = peers.ForeignEnv()
		out, err := cmd.CombinedOutput()
		require.Equal(t, name == "good", err == nil, "%s: %s", name, out)
		if name == "good" {
			require.Equal(t, "page", string(out))
		}
	}
}

// checked dials addr with OCSPRequire and returns the result.
func checked(t testing.TB, addr string, version sslfilter.Version) (status sslfilter.OCSPStatus, err error) {
	t.Helper()
	c, err := sslnet.Dial("tcp", addr, testkit.Ctx(t, testkit.Client(testkit.UpTo(version), func(o *sslfilter.Options) { o.OCSPCheck = sslfilter.OCSPRequire })))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(testkit.Patience)))
	return c.Peer().OCSP.Status, nil
}

// A client checks what openssl s_server and nginx staple.
func TestOCSPCheckOfServers(t *testing.T) {
	for status, want := range []sslfilter.VerifyCode{0, sslfilter.VerifyCertRevoked} {
		file := testkit.TempFile(t, fmt.Sprintf("%d.der", status), testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), Status: status}))
		crt, key := testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key")
		port := freePort(t)
		nginx(t, port, fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.2 TLSv1.3; ssl_stapling on; ssl_stapling_file %s;", crt, key, file))
		openssl := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", crt, "-key", key, "-status_file", file).await("ACCEPT ", 1)
		for name, addr := range map[string]string{"nginx": "127.0.0.1:" + port, "openssl": openssl} {
			for _, version := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
				t.Run(fmt.Sprint(name, " ", version, " ", status), func(t *testing.T) {
					got, err := checked(t, addr, version)
					if want == 0 {
						require.NoError(t, err)
						require.Equal(t, sslfilter.OCSPGood, got)
						return
					}
					require.Equal(t, want, testkit.As[*sslfilter.VerifyError](t, err).Code)
				})
			}
		}
	}
}
