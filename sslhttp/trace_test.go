package sslhttp_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// events has the hooks of a trace that were called, up to the one before the request
// is written.
type events struct {
	mu   sync.Mutex
	list []string
	conn net.Conn
	err  error // of TLSHandshakeDone
}

func (e *events) add(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf(format, args...))
}

func (e *events) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:           func(addr string) { e.add("GetConn %s", addr) },
		ConnectStart:      func(network, addr string) { e.add("ConnectStart %s %s", network, addr) },
		ConnectDone:       func(network, addr string, err error) { e.add("ConnectDone %s %s %v", network, addr, err) },
		TLSHandshakeStart: func() { e.add("TLSHandshakeStart") },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			e.add("TLSHandshakeDone %t %s %s %q %q %d %d", s.HandshakeComplete, tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite),
				s.NegotiatedProtocol, s.ServerName, len(s.PeerCertificates), len(s.VerifiedChains))
			e.mu.Lock()
			defer e.mu.Unlock()
			e.err = err
		},
		GotConn: func(info httptrace.GotConnInfo) {
			e.add("GotConn reused=%t idle=%t", info.Reused, info.WasIdle)
			e.mu.Lock()
			defer e.mu.Unlock()
			e.conn = info.Conn
		},
	})
}

// fetchTraced makes one request and returns its events.
func fetchTraced(rt http.RoundTripper, url string) (*events, error) {
	e := new(events)
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(e.trace(ctx), "GET", url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return e, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return e, err
}

// A trace has the same events, in the same order and with the same state of TLS, as
// with net/http's own Transport: with both protocols, without a proxy and through
// each kind of proxy, for the first request and for one on the same connection.
func TestTrace(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		site := httptest.NewUnstartedServer(http.NotFoundHandler())
		site.EnableHTTP2, site.TLS = true, testkit.GoServer(t, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
		site.StartTLS()
		defer site.Close()
		p := &tunnels{backend: site.Listener.Addr().String(), asked: make(chan *http.Request, 100)}
		plain, secure := httptest.NewServer(p), httptest.NewUnstartedServer(p)
		defer plain.Close()
		secure.TLS = testkit.GoServer(t, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
		secure.StartTLS()
		defer secure.Close()
		socks, _ := socksServer(t, p.backend, "", "", 0)
		for _, proxy := range []string{"", plain.URL, secure.URL, "socks5://" + socks} {
			for _, protocols := range [][]string{both, {"http/1.1"}} {
				t.Run(fmt.Sprint(tls.VersionName(version), protocols, proxy), func(t *testing.T) {
					theirs := goTransport(t, len(protocols) == 2)
					ours := transport(t, protocols...)
					if proxy != "" {
						theirs.Proxy = proxyURL(proxy)
						ours.Base = &http.Transport{Proxy: proxyURL(proxy)}
					}
					theirs.TLSClientConfig.NextProtos = protocols
					for range 2 {
						want, err := fetchTraced(theirs, site.URL)
						require.NoError(t, err)
						got, err := fetchTraced(ours, site.URL)
						require.NoError(t, err)
						if proxy != "" { // for a connection of HTTP/2 that exists, net/http gives the server's address
							want.list[0] = "GetConn " + proxy[strings.Index(proxy, "//")+2:]
						}
						require.Equal(t, want.list, got.list)
						require.IsType(t, new(sslnet.Conn), got.conn)
						require.NoError(t, got.err)
					}
				})
			}
		}
	}
}

// TLSHandshakeDone gets the error of a handshake that fails.
func TestTraceOfFailedHandshakes(t *testing.T) {
	site := goSite(t, http.NotFoundHandler())
	o := clientOptions(both...)
	o.CACrt = testkit.PKI("other.crt")
	tr := &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: testkit.Ctx(t, o)}}
	e, err := fetchTraced(tr, site)
	require.Error(t, err)
	require.ErrorIs(t, err, e.err)
	require.Contains(t, e.list[len(e.list)-1], "TLSHandshakeDone false")
}

// Response.TLS has the state of the connection, and chains only if OpenSSL has
// verified the certificate.
func TestResponseTLS(t *testing.T) {
	site := goSite(t, http.NotFoundHandler())
	for _, protocols := range [][]string{both, {"http/1.1"}} {
		for _, skip := range []bool{false, true} {
			o := clientOptions(protocols...)
			o.InsecureSkipVerify = skip
			if skip {
				o.CACrt = testkit.PKI("other.crt")
			}
			tr := &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: testkit.Ctx(t, o)}}
			var last *tls.ConnectionState
			for range 2 {
				_, resp := get(t, tr, site)
				s := resp.TLS
				require.True(t, s.HandshakeComplete)
				require.EqualValues(t, tls.VersionTLS13, s.Version)
				require.NotZero(t, s.CipherSuite)
				require.Equal(t, len(protocols) == 2, s.NegotiatedProtocol == "h2")
				require.Equal(t, testkit.Cert(t, "server.crt").Raw, s.PeerCertificates[0].Raw)
				require.Equal(t, skip, len(s.VerifiedChains) == 0)
				require.True(t, last == nil || last == s, "it is made once for a connection")
				last = s
			}
			tr.CloseIdleConnections()
		}
	}
}
