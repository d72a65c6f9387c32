package sslhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

var both = []string{"h2", "http/1.1"}

// serverOptions asks for a client certificate and speaks both protocols.
func serverOptions() sslfilter.Options {
	return testkit.Asking(func(o *sslfilter.Options) { o.ALPN = both })
}

// clientOptions shows a certificate and offers protocols. The Dialer sets the name.
func clientOptions(protocols ...string) sslfilter.Options {
	return testkit.Showing("client.crt", "", testkit.ServerName(""), func(o *sslfilter.Options) { o.ALPN = protocols })
}

// site is a server under test.
type site struct {
	*http.Server
	addr, url string
	log       testkit.Log
	served    chan error // the result of Serve
}

// serve starts a site and ends it with the test.
func serve(t testing.TB, o sslfilter.Options, h http.Handler, changes ...func(*http.Server)) *site {
	t.Helper()
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, o))
	require.NoError(t, err)
	s := &site{addr: l.Addr().String(), served: make(chan error, 1)}
	s.url = "https://" + s.addr
	s.Server = &http.Server{Handler: h, ErrorLog: log.New(&s.log, "", 0)}
	for _, change := range changes {
		change(s.Server)
	}
	go func() { s.served <- sslhttp.Serve(s.Server, l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// whoami answers with what a handler sees of the connection.
func whoami(w http.ResponseWriter, r *http.Request) {
	c := sslhttp.FromContext(r.Context())
	fmt.Fprintf(w, "%s tls=%t cert=%t alpn=%q valid=%t", r.Proto, r.TLS != nil && r.TLS.HandshakeComplete,
		r.TLS != nil && len(r.TLS.PeerCertificates) > 0, c.ALPN(), c.ClientCertValid())
}

// transport makes a Transport that offers protocols.
func transport(t testing.TB, protocols ...string) *sslhttp.Transport {
	t.Helper()
	tr := &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: testkit.Ctx(t, clientOptions(protocols...))}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// goTransport makes net/http's client over crypto/tls.
func goTransport(t testing.TB, h2 bool) *http.Transport {
	t.Helper()
	cert := testkit.KeyPair(t, "client.crt", "client.key")
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: testkit.Roots(t), Certificates: []tls.Certificate{cert}}, Protocols: new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(true)
	tr.Protocols.SetHTTP2(h2)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// get fetches url and returns the text and the response.
func get(t testing.TB, rt http.RoundTripper, url string) (string, *http.Response) {
	t.Helper()
	text, resp, err := tryGet(rt, url)
	require.NoError(t, err)
	return text, resp
}

func tryGet(rt http.RoundTripper, url string) (string, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return "", nil, err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), resp, err
}

// counting counts the connections of a listener.
type counting struct {
	net.Listener
	mu sync.Mutex
	n  int
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.n++
		l.mu.Unlock()
	}
	return c, err
}

func (l *counting) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}
