package sslhttp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// idnSite is a server for every host whose certificate has these names, and a dial
// function that always connects to it. The server answers with the SNI that it got and
// the host of the request.
func idnSite(t *testing.T, names ...string) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	return secured(t, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "SNI %q, Host %q", r.TLS.ServerName, r.Host)
	}), names...)
}

// secured runs a server with TLS whose certificate has these names, and returns a dial
// function that always connects to it.
func secured(t *testing.T, h2 bool, handler http.Handler, names ...string) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	key := testkit.Key(t, "client.key")
	der := testkit.Mint(t, x509.Certificate{DNSNames: names})
	cert := tls.Certificate{Certificate: [][]byte{testkit.DER(t, der)}, PrivateKey: key}
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2, s.TLS = h2, &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
}

// An internationalized host is sent and verified as its A-label, as net/http does, and
// a name that has none is an error in both.
func TestInternationalHosts(t *testing.T) {
	dial := idnSite(t, "xn--bcher-kva.example", "xn--fa-hia.example", "xn--wgv71a119e.example")
	for _, host := range []string{
		"xn--bcher-kva.example", "bücher.example", "BÜCHER.Example", "b\u0075\u0308cher.example", "bücher\u3002example", "b%C3%BCcher.example",
		"faß.example", "日本語.example",
		"müller.example", // not in the certificate
		"a\u200db.example", "ü-.example", "xn--ü.example", "\u2024ü.example", "ü\u2060\u00a0.example", "\ufffdü.example",
	} {
		t.Run(host, func(t *testing.T) {
			theirs := goTransport(t, false) // with HTTP/2, it waits forever for some of these hosts
			theirs.DialContext = dial
			want, _, wantErr := tryGet(theirs, "https://"+host+"/")
			for _, protocols := range [][]string{both, {"http/1.1"}} {
				ours := transport(t, protocols...)
				ours.Base = &http.Transport{DialContext: dial}
				for range 2 {
					got, resp, err := tryGet(ours, "https://"+host+"/")
					if wantErr != nil {
						require.Error(t, err, "net/http: %v", wantErr)
						continue
					}
					require.NoError(t, err)
					require.Equal(t, want, got)
					require.Equal(t, len(protocols) == 2, resp.ProtoMajor == 2)
				}
			}
		})
	}
	tr := transport(t, both...)
	tr.Base = &http.Transport{DialContext: dial}
	_, _, err := tryGet(tr, "https://a\u200db.example/")
	require.ErrorContains(t, err, `the host name "a\u200db.example" has no A-label`)
}

// A proxy is asked for the A-label.
func TestInternationalHostsThroughProxies(t *testing.T) {
	dial := idnSite(t, "xn--bcher-kva.example")
	p := &tunnels{asked: make(chan *http.Request, 10), dial: dial}
	proxy := httptest.NewServer(p)
	defer proxy.Close()
	tr := transport(t, both...)
	tr.Base = &http.Transport{Proxy: proxyURL(proxy.URL)}
	text, _ := get(t, tr, "https://bücher.example/")
	require.Equal(t, `SNI "xn--bcher-kva.example", Host "xn--bcher-kva.example"`, text)
	require.Equal(t, "xn--bcher-kva.example:443", (<-p.asked).RequestURI)
}

// The host of a proxy is converted too: the address that is dialed is the one that
// net/http dials, for http and for https requests.
func TestInternationalProxies(t *testing.T) {
	refused := errors.New("refused")
	for _, proxy := range []string{
		"http://bücher.example:3128", "https://BÜCHER.example", "socks5://日本語.example", "socks5h://faß.example:1", "http://b%C3%BCcher.example", "http://xn--bcher-kva.example", "http://[::1]:1",
	} {
		for _, site := range []string{"http://server.test", "https://server.test"} {
			var dialed []string
			base := &http.Transport{Proxy: proxyURL(proxy), DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
				dialed = append(dialed, addr)
				return nil, refused
			}}
			_, _, err := tryGet(base.Clone(), site)
			require.ErrorIs(t, err, refused)
			tr := transport(t, both...)
			tr.Base = base
			req, err := http.NewRequest("GET", site, nil)
			require.NoError(t, err)
			req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GetConn: func(addr string) {
				if req.URL.Scheme == "https" {
					dialed = append(dialed, addr)
				}
			}}))
			_, err = tr.RoundTrip(req)
			require.ErrorIs(t, err, refused)
			require.GreaterOrEqual(t, len(dialed), 2)
			require.Len(t, slices.Compact(dialed), 1, "%s, %s", proxy, site)
		}
	}
	tr := transport(t, both...)
	tr.Base = &http.Transport{Proxy: proxyURL("http://a\u200db.example:1"), DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		return nil, fmt.Errorf("dials %q", addr)
	}}
	_, _, err := tryGet(tr, "https://server.test")
	require.ErrorContains(t, err, `the host name "a\u200db.example" has no A-label`)
}

// TLS with an internationalized proxy verifies its A-label.
func TestInternationalProxiesWithTLS(t *testing.T) {
	p := &tunnels{asked: make(chan *http.Request, 10), dial: idnSite(t, "xn--fa-hia.example")}
	tr := transport(t, both...)
	tr.Base = &http.Transport{Proxy: proxyURL("https://bücher.example:3128"), DialContext: secured(t, false, p, "xn--bcher-kva.example")}
	text, _ := get(t, tr, "https://faß.example/")
	require.Equal(t, `SNI "xn--fa-hia.example", Host "xn--fa-hia.example"`, text)
	require.Equal(t, "xn--bcher-kva.example", (<-p.asked).TLS.ServerName)
}
