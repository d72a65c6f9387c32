package sslacme_test

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/acme"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/internal/testpki"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// pebble is an ACME CA for tests, by the makers of Let's Encrypt. It resolves all names to
// 127.0.0.1.
type pebble struct {
	program   *peers.Program
	directory string // URL
	crt       string // PEM file with the CA that verifies the directory
	http      *http.Client
	rejected  atomic.Int32
	root      []byte // PEM: the root of the certificates that it issues
}

// startCA starts a pebble that connects to this address for challenges. It rejects a
// percentage of nonces, which a client must then repeat. Its certificates are valid for
// the given time.
func startCA(t *testing.T, addr, rejects string, validity time.Duration) *pebble {
	t.Helper()
	program := peers.Find(t, "pebble", "pebble")
	resolver := peers.Find(t, "pebble", "pebble-challtestsrv")
	dir := t.TempDir()
	ca, err := testpki.NewCA("CA of the directory")
	require.NoError(t, err)
	cert, err := ca.Issue(testpki.Spec{Name: "pebble", Hosts: []string{"127.0.0.1"}})
	require.NoError(t, err)
	require.NoError(t, ca.Write(dir, "ca"))
	require.NoError(t, cert.Write(dir, "pebble"))
	dns, api, management := peers.FreePort(t), peers.FreePort(t), peers.FreePort(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress":             "127.0.0.1:" + api,
		"managementListenAddress":   "127.0.0.1:" + management,
		"certificate":               filepath.Join(dir, "pebble.crt"),
		"privateKey":                filepath.Join(dir, "pebble.key"),
		"tlsPort":                   json.Number(peers.Port(t, addr)),
		"certificateValidityPeriod": int(validity / time.Second),
	}})
	require.NoError(t, err)
	file := filepath.Join(dir, "pebble.json")
	require.NoError(t, os.WriteFile(file, config, 0o600))

	peers.StartForeign(t, nil, resolver, "-dns01", "127.0.0.1:"+dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-management", "127.0.0.1:"+peers.FreePort(t)).AwaitPort(dns)
	p := &pebble{directory: "https://127.0.0.1:" + api + "/dir", crt: filepath.Join(dir, "ca.crt")}
	p.program = peers.StartForeign(t, []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", "PEBBLE_WFE_NONCEREJECT=" + rejects},
		program, "-config", file, "-dnsserver", "127.0.0.1:"+dns)
	p.program.AwaitPort(api)
	p.program.AwaitPort(management)

	ctx, err := sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: p.crt})
	require.NoError(t, err)
	transport := &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: ctx}, Base: new(http.Transport)}
	t.Cleanup(transport.Base.CloseIdleConnections)
	p.http = &http.Client{Transport: impatient{transport, &p.rejected}}
	resp, err := p.http.Get("https://127.0.0.1:" + management + "/roots/0")
	require.NoError(t, err)
	defer resp.Body.Close()
	p.root, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	return p
}

// client returns an ACME client for this CA.
func (p *pebble) client() *acme.Client {
	return &acme.Client{
		DirectoryURL: p.directory, HTTPClient: p.http,
		RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return time.Millisecond },
	}
}

func (p *pebble) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(p.root))
	return roots
}

// issued counts the certificates that the CA has issued until now.
func (p *pebble) issued() int { return strings.Count(p.program.Output(), "Issued certificate serial ") }

// requireIssued checks the number of certificates. The log of the CA may arrive late.
func (p *pebble) requireIssued(t *testing.T, n int) {
	t.Helper()
	testkit.Eventually(t, func() bool { return p.issued() >= n }, "the CA has issued %d certificates, and not %d", p.issued(), n)
	require.Equal(t, n, p.issued())
}

// impatient makes a client ask for the state of an order after 20 milliseconds instead of
// one second. It counts the requests that the CA rejects.
type impatient struct {
	http.RoundTripper
	rejected *atomic.Int32
}

func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := i.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusBadRequest {
		i.rejected.Add(1)
	}
	time.Sleep(20 * time.Millisecond)
	resp.Header.Set("Retry-After", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	return resp, nil
}
