package sslhttp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// idnSite is a server for every host whose certificate has these names, and a dial
// function that always connects to it. The server answers with the SNI that it got and
// the host of the request.
func idnSite(t *testing.T, names ...string) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	key := testkit.Key(t, "client.key")
	der := testkit.Mint(t, x509.Certificate{DNSNames: names})
	cert := tls.Certificate{Certificate: [][]byte{testkit.DER(t, der)}, PrivateKey: key}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "SNI %q, Host %q", r.TLS.ServerName, r.Host)
	}))
	s.EnableHTTP2, s.TLS = true, &tls.Config{Certificates: []tls.Certificate{cert}}
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
