package sslacme_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/seed-014b8713/sslfilter"
	sslacme "github.com/seed-014b8713/sslfilter/examples/acme"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/internal/testpki"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

const (
	name       = "www.example.test"
	unknown    = "unknown.example.test"
	refusal    = sslfilter.AlertError(112) // unrecognized_name
	longEnough = 24 * time.Hour
)

// web is an HTTPS server, and what it has done.
type web struct {
	addr     string
	requests atomic.Int32

	mu      sync.Mutex
	chosen  []*sslfilter.Ctx // for usual connections
	answers []*sslfilter.Ctx // for challenges
	failed  []error
}

// serve starts a server on below for the name.
func serve(t *testing.T, below net.Listener, manager *autocert.Manager, o sslfilter.Options) *web {
	t.Helper()
	manager.Prompt, manager.HostPolicy = autocert.AcceptTOS, autocert.HostWhitelist(name)
	certificates, err := sslacme.New(manager, o)
	require.NoError(t, err)
	w := &web{addr: below.Addr().String()}
	l := certificates.Listen(below)
	l.HandshakeTimeout = testkit.Patience
	l.Choose = func(ctx context.Context, conn net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		chosen, err := certificates.Choose(ctx, conn, hello)
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case err != nil:
		case slices.Contains(chosen.ALPN(), acme.ALPNProto):
			w.answers = append(w.answers, chosen)
		default:
			w.chosen = append(w.chosen, chosen)
		}
		return chosen, err
	}
	l.HandshakeError = func(_ net.Conn, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failed = append(w.failed, err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.requests.Add(1)
		fmt.Fprint(rw, r.Proto)
	})}
	go sslhttp.Serve(server, l)
	t.Cleanup(func() { server.Close() })
	return w
}

// contexts returns the contexts of usual connections and of challenges.
func (w *web) contexts() (chosen, answers []*sslfilter.Ctx) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.chosen), slices.Clone(w.answers)
}

// last returns the context of the last usual connection.
func (w *web) last() *sslfilter.Ctx {
	chosen, _ := w.contexts()
	return chosen[len(chosen)-1]
}

// errors returns the errors of handshakes.
func (w *web) errors() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.failed)
}

// get makes a request on a new connection and returns the certificate of the server.
func (w *web) get(t *testing.T, config *tls.Config) *x509.Certificate {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, w.addr)
		},
	}
	resp, err := (&http.Client{Transport: transport, Timeout: testkit.Patience}).Get("https://" + name + "/")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "HTTP/2.0", string(body))
	require.NotEmpty(t, resp.TLS.VerifiedChains)
	return resp.TLS.PeerCertificates[0]
}

// refuses checks that the server has no certificate for a client.
func (w *web) refuses(t *testing.T, name string, alpn ...string) {
	t.Helper()
	before := len(w.errors())
	_, err := w.dial(t, sslfilter.Options{Client: true, ServerName: name, InsecureSkipVerify: true, ALPN: alpn})
	require.Equal(t, refusal, testkit.As[sslfilter.AlertError](t, err))
	testkit.Eventually(t, func() bool { return len(w.errors()) > before }, "no error of the server")
	require.Equal(t, name, testkit.As[*sslfilter.ServerNameError](t, w.errors()[before]).ServerName)
}

// dial connects with the client of this library.
func (w *web) dial(t *testing.T, o sslfilter.Options) (*sslnet.Conn, error) {
	t.Helper()
	d := sslnet.Dialer{Ctx: testkit.Ctx(t, o), HandshakeTimeout: testkit.Patience}
	conn, err := d.Dial("tcp", w.addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*sslnet.Conn), nil
}

func only(version uint16, roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: version, MaxVersion: version}
}

// The first connection makes the server order a certificate. It answers the challenge of
// the CA on the same port. All later connections use that certificate, and its context.
// A nonce that the CA rejects is repeated.
func TestCertificateFromTheCA(t *testing.T) {
	for _, rejects := range []string{"0", "70"} {
		t.Run("nonces rejected "+rejects, func(t *testing.T) {
			t.Parallel()
			below := testkit.Listen(t)
			ca := startCA(t, below.Addr().String(), rejects, longEnough)
			w := serve(t, below, &autocert.Manager{Client: ca.client()}, sslfilter.Options{ALPN: []string{"h2", "http/1.1"}})
			first := w.get(t, only(tls.VersionTLS13, ca.roots(t)))
			require.Equal(t, x509.ECDSA, first.PublicKeyAlgorithm)
			require.NoError(t, first.VerifyHostname(name))
			ca.requireIssued(t, 1)
			require.Equal(t, rejects != "0", ca.rejected.Load() > 0)
			ctx := w.last()

			second := w.get(t, only(tls.VersionTLS12, ca.roots(t)))
			require.True(t, first.Equal(second))
			ours := sslfilter.Options{Client: true, ServerName: name, CACrtMem: [][]byte{ca.root}, ALPN: []string{acme.ALPNProto, "h2"}}
			conn, err := w.dial(t, ours)
			require.NoError(t, err)
			require.True(t, conn.Peer().Valid)
			require.Equal(t, "h2", conn.ALPN()) // a client that offers both protocols is not the CA
			require.Len(t, conn.Peer().Chain, 3)
			chosen, answers := w.contexts()
			require.Len(t, chosen, 3)
			for _, c := range chosen {
				require.Same(t, ctx, c)
			}
			require.NotEmpty(t, answers) // pebble connects three times
			for _, c := range answers {
				require.Equal(t, []string{acme.ALPNProto}, c.ALPN())
				require.Same(t, answers[0], c)
			}

			w.refuses(t, unknown)
			w.refuses(t, "")
			testkit.Eventually(t, func() bool { // autocert removes the certificate of the challenge in a goroutine
				_, err := w.dial(t, sslfilter.Options{Client: true, ServerName: name, InsecureSkipVerify: true, ALPN: []string{acme.ALPNProto}})
				return err != nil
			}, "the challenge is not over")
			w.refuses(t, name, acme.ALPNProto)
			ca.requireIssued(t, 1)
			require.EqualValues(t, 2, w.requests.Load())
		})
	}
}

// A renewed certificate gets a new context. Connections that exist continue.
func TestRenewal(t *testing.T) {
	t.Parallel()
	below := testkit.Listen(t)
	ca := startCA(t, below.Addr().String(), "0", time.Hour)
	// The certificate is renewed at once, and again and again.
	w := serve(t, below, &autocert.Manager{Client: ca.client(), RenewBefore: 2 * time.Hour}, sslfilter.Options{ALPN: []string{"h2", "http/1.1"}})
	ours := sslfilter.Options{Client: true, ServerName: name, CACrtMem: [][]byte{ca.root}, ALPN: []string{"http/1.1"}}
	old, err := w.dial(t, ours)
	require.NoError(t, err)
	ctx, leaf := w.last(), old.ConnectionState().PeerCertificates[0]
	testkit.Eventually(t, func() bool { return ca.issued() > 1 }, "no renewal")
	testkit.Eventually(t, func() bool { return !leaf.Equal(w.get(t, only(tls.VersionTLS13, ca.roots(t)))) }, "the old certificate")
	require.NotSame(t, ctx, w.last())
	testkit.Say(t, old, "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
	testkit.Hear(t, old, "HTTP/1.1 200 OK\r\n")
}

// memory is an autocert.Cache.
type memory map[string][]byte

func (m memory) Get(_ context.Context, key string) ([]byte, error) {
	if data, ok := m[key]; ok {
		return data, nil
	}
	return nil, autocert.ErrCacheMiss
}

func (m memory) Put(context.Context, string, []byte) error { return nil }
func (m memory) Delete(context.Context, string) error      { return nil }

// put adds a certificate in the format of autocert.
func (m memory) put(t *testing.T, key string, private crypto.PrivateKey, chain ...[]byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	m[key] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, cert := range chain {
		m[key] = append(m[key], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	}
}

// filled returns a cache with certificates of both kinds and one for a challenge.
func filled(t *testing.T) (cache memory, root []byte) {
	t.Helper()
	cache = memory{}
	ca, err := testpki.NewCA("CA")
	require.NoError(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for key, private := range map[string]crypto.Signer{name: nil, name + "+rsa": weak} {
		cert, err := ca.Issue(testpki.Spec{Name: name, Hosts: []string{name}, Key: private})
		require.NoError(t, err)
		cache.put(t, key, cert.Key, cert.Raw)
	}
	account, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	token, err := (&acme.Client{Key: account}).TLSALPN01ChallengeCert("token", name)
	require.NoError(t, err)
	cache.put(t, name+"+token", token.PrivateKey, token.Certificate...)
	return cache, ca.CertPEM()
}

// The CA gets the certificate of the challenge, which has the extension of RFC 8737, and
// nothing else: the connection is then closed, and the program does not see it.
func TestChallenge(t *testing.T) {
	cache, _ := filled(t)
	w := serve(t, testkit.Listen(t), &autocert.Manager{Cache: cache}, sslfilter.Options{ALPN: []string{"http/1.1"}, ClientCert: true, CACrt: "../../testdata/pki/root.crt"})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := only(version, nil)
		config.NextProtos, config.ServerName, config.InsecureSkipVerify = []string{acme.ALPNProto}, strings.ToUpper(name), true
		conn, err := tls.Dial("tcp", w.addr, config)
		require.NoError(t, err)
		defer conn.Close()
		state := conn.ConnectionState()
		require.Equal(t, acme.ALPNProto, state.NegotiatedProtocol)
		require.Equal(t, []string{name}, state.PeerCertificates[0].DNSNames)
		identifier := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}
		require.True(t, slices.ContainsFunc(state.PeerCertificates[0].Extensions, func(e pkix.Extension) bool {
			return e.Critical && e.Id.Equal(identifier)
		}))
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
		require.NoError(t, err)
		conn.SetReadDeadline(time.Now().Add(testkit.Patience))
		_, err = conn.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	}
	require.Zero(t, w.requests.Load())
	_, answers := w.contexts()
	require.Len(t, answers, 2)
	require.Same(t, answers[0], answers[1])
}

// A client that does not accept an ECDSA certificate gets one with an RSA key.
func TestKeyOfTheCertificate(t *testing.T) {
	cache, root := filled(t)
	w := serve(t, testkit.Listen(t), &autocert.Manager{Cache: cache}, sslfilter.Options{ALPN: []string{"http/1.1"}})
	for _, c := range []struct {
		what   string
		change testkit.Change
		want   x509.PublicKeyAlgorithm
	}{
		{"default", func(*sslfilter.Options) {}, x509.ECDSA},
		{"TLS 1.2", testkit.TLS12, x509.ECDSA},
		{"TLS 1.3", testkit.TLS13, x509.ECDSA},
		{"RSA suites", testkit.Cipher("ECDHE-RSA-AES128-GCM-SHA256"), x509.RSA},
		{"RSA suites, TLS 1.2", func(o *sslfilter.Options) { o.TLS12, o.Cipher = true, "ECDHE-RSA-AES128-GCM-SHA256" }, x509.RSA},
		{"RSA signatures", func(o *sslfilter.Options) { o.SignatureAlgorithms = "rsa_pss_rsae_sha256:RSA+SHA256" }, x509.RSA},
		{"another curve, TLS 1.2", func(o *sslfilter.Options) { o.TLS12, o.Groups = true, "P-384" }, x509.RSA},
	} {
		conn, err := w.dial(t, testkit.With(sslfilter.Options{Client: true, ServerName: name, CACrtMem: [][]byte{root}}, c.change))
		require.NoError(t, err, c.what)
		require.Equal(t, c.want, conn.ConnectionState().PeerCertificates[0].PublicKeyAlgorithm, c.what)
	}
}

// A connection that waits for the CA ends when it is canceled. Connections for the same
// name share one order, which continues without them.
func TestOrderOutlivesItsConnections(t *testing.T) {
	asked, goOn := make(chan bool, 100), make(chan bool)
	ca := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- true
		<-goOn
	}))
	defer ca.Close()
	defer close(goOn)
	manager := &autocert.Manager{
		HostPolicy: autocert.HostWhitelist(name), Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	certificates, err := sslacme.New(manager, sslfilter.Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	hello := &sslfilter.ClientHello{ServerName: name, Versions: []sslfilter.Version{sslfilter.VersionTLS13}}
	ended := make(chan error)
	for range 50 {
		go func() {
			_, err := certificates.Choose(ctx, nil, hello)
			ended <- err
		}()
	}
	<-asked
	cancel()
	testkit.Within(t, "the end of the connections", func() {
		for range 50 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	_, err = certificates.Choose(ctx, nil, hello)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, asked)
}

// Errors in the options are found before the first connection.
func TestNewRefuses(t *testing.T) {
	policy := &autocert.Manager{HostPolicy: autocert.HostWhitelist(name)}
	for want, c := range map[string]struct {
		manager *autocert.Manager
		o       sslfilter.Options
	}{
		"HostPolicy": {new(autocert.Manager), sslfilter.Options{}},
		"client":     {policy, sslfilter.Options{Client: true}},
		"empty":      {policy, sslfilter.Options{Crt: "server.crt"}},
		"acme-tls/1": {policy, sslfilter.Options{ALPN: []string{"acme-tls/1"}}},
		"CACrt":      {policy, sslfilter.Options{CACrt: "missing.crt", ClientCert: true}},
	} {
		_, err := sslacme.New(c.manager, c.o)
		require.ErrorContains(t, err, want)
	}
}

// The program gets its certificate, and keeps it for the next start.
func TestProgram(t *testing.T) {
	t.Parallel()
	addr := "127.0.0.1:" + peers.FreePort(t)
	ca := startCA(t, addr, "0", longEnough)
	dir := t.TempDir()
	require.NoError(t, peers.Build(dir, "./cmd"))
	for range 2 {
		program := peers.Start(t, filepath.Join(dir, "cmd"), "-listen", addr, "-names", "other.example.test,"+name,
			"-cache", filepath.Join(dir, "cache"), "-directory", ca.directory, "-cacrt", ca.crt, "-accept-tos")
		program.Await("acme listens on ")
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: ca.roots(t)}, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, addr)
			},
		}
		resp, err := (&http.Client{Transport: transport, Timeout: testkit.Patience}).Get("https://" + name + "/")
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		require.Equal(t, "this is "+name+"\n", string(text))
		program.Signal(syscall.SIGTERM)
		require.Zero(t, program.Wait())
		ca.requireIssued(t, 1)
	}
}
