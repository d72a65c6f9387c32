package sslhttp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Request.TLS and the verdict on the certificate are set for every client and
// protocol.
func TestServe(t *testing.T) {
	for _, highest := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		t.Run(highest.String(), func(t *testing.T) {
			o := serverOptions()
			o.MaxVersion = highest
			s := serve(t, o, http.HandlerFunc(whoami))
			for name, c := range map[string]struct {
				rt    http.RoundTripper
				proto string
				alpn  string
			}{
				"sslhttp, h2":        {transport(t, both...), "HTTP/2.0", "h2"},
				"sslhttp, http/1.1":  {transport(t, "http/1.1"), "HTTP/1.1", "http/1.1"},
				"sslhttp, no ALPN":   {transport(t), "HTTP/1.1", ""},
				"net/http, h2":       {goTransport(t, true), "HTTP/2.0", "h2"},
				"net/http, http/1.1": {goTransport(t, false), "HTTP/1.1", ""},
				"Dialer, http/1.1": {&http.Transport{
					DialTLSContext: (&sslnet.Dialer{Ctx: testkit.Ctx(t, clientOptions("http/1.1"))}).DialContext, DisableKeepAlives: true,
				}, "HTTP/1.1", "http/1.1"},
			} {
				for range 2 {
					text, resp := get(t, c.rt, s.url)
					if name == "net/http, http/1.1" && strings.Contains(text, `alpn="http/1.1"`) {
						c.alpn = "http/1.1" // what it offers depends on the version of Go
					}
					require.Equal(t, fmt.Sprintf("%s tls=true cert=true alpn=%q valid=true", c.proto, c.alpn), text, name)
					if _, ours := c.rt.(*sslhttp.Transport); ours {
						require.Equal(t, c.alpn, resp.TLS.NegotiatedProtocol, name)
						require.Len(t, resp.TLS.VerifiedChains, 1, name)
					}
				}
			}
		})
	}
}

// Transport works with a server of crypto/tls.
func TestTransportToNetHTTP(t *testing.T) {
	for _, h2 := range []bool{true, false} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprint(w, string(body), r.Proto)
		}))
		s.EnableHTTP2 = h2
		s.StartTLS()
		defer s.Close()
		want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[h2]
		ctx := testkit.Ctx(t, sslfilter.Options{Client: true, CACrtMem: [][]byte{testkit.PEM("CERTIFICATE", s.Certificate().Raw)}, ALPN: both})
		tr := &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: ctx}}
		defer tr.CloseIdleConnections()
		client := &http.Client{Transport: tr}
		for _, body := range []string{"", "text and ", strings.Repeat("long ", 100000)} {
			resp, err := client.Post(s.URL, "text/plain", io.NopCloser(strings.NewReader(body)))
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			require.True(t, body+want == string(text), "%d bytes", len(text))
			require.NotNil(t, resp.TLS)
		}
	}
}

// All streams of one HTTP/2 connection are served at the same time, and the
// first requests to a server share one connection.
func TestParallelStreams(t *testing.T) {
	const streams = 100
	var all sync.WaitGroup
	all.Add(streams)
	below, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &counting{Listener: below}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all.Done()
		all.Wait() // no request is answered before all have arrived
		io.Copy(w, strings.NewReader(strings.Repeat(r.URL.Path, 10000)))
	})}
	go sslhttp.Serve(srv, sslnet.NewListener(l, testkit.Ctx(t, serverOptions())))
	defer srv.Close()
	tr := transport(t, both...)
	errs := make(chan error)
	for i := range streams {
		go func() {
			path := fmt.Sprintf("/%d", i)
			text, _, err := tryGet(tr, "https://"+below.Addr().String()+path)
			if err == nil && text != strings.Repeat(path, 10000) {
				err = fmt.Errorf("%s: wrong text of %d bytes", path, len(text))
			}
			errs <- err
		}()
	}
	for range streams {
		require.NoError(t, <-errs)
	}
	require.Equal(t, 1, l.count())
}

// Shutdown waits for the requests in progress, in both protocols, and Serve
// returns.
func TestShutdown(t *testing.T) {
	for _, protocols := range [][]string{both, {"http/1.1"}} {
		t.Run(protocols[0], func(t *testing.T) {
			begun, finish := make(chan struct{}), make(chan struct{})
			s := serve(t, serverOptions(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					close(begun)
					<-finish
				}
				whoami(w, r)
			}))
			tr := transport(t, protocols...)
			get(t, tr, s.url) // leaves an idle connection
			type result struct {
				text string
				err  error
			}
			slow := make(chan result)
			go func() {
				text, _, err := tryGet(tr, s.url+"/slow")
				slow <- result{text, err}
			}()
			<-begun
			ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
			defer cancel()
			stopping := make(chan struct{})
			s.RegisterOnShutdown(func() { close(stopping) })
			down := make(chan error)
			go func() { down <- s.Shutdown(ctx) }()
			<-stopping
			close(finish)
			r := <-slow
			require.NoError(t, r.err)
			require.Contains(t, r.text, "valid=true")
			require.NoError(t, <-down)
			_, err := net.Dial("tcp", s.addr)
			require.Error(t, err)
		})
	}
}

// A client that speaks plain HTTP to the TLS port gets an answer in plain HTTP, and
// the error is logged.
func TestPlainHTTP(t *testing.T) {
	s := serve(t, serverOptions(), http.HandlerFunc(whoami))
	resp, err := http.Get("http://" + s.addr)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 400, resp.StatusCode)
	require.Contains(t, string(text), "HTTP request to an HTTPS server")
	require.Contains(t, s.log.String(), "TLS handshake error from 127.0.0.1:")
	require.Contains(t, s.log.String(), "plain HTTP")
}

// A client cannot use HTTP/2 after it negotiated HTTP/1.1, or if HTTP/2 is disabled
// in the server.
func TestProtocolsHold(t *testing.T) {
	t.Run("preface after http/1.1", func(t *testing.T) {
		s := serve(t, serverOptions(), http.HandlerFunc(whoami))
		c, err := sslnet.Dial("tcp", s.addr, testkit.Ctx(t, clientOptions("http/1.1")))
		require.NoError(t, err)
		defer c.Close()
		fmt.Fprint(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		require.Equal(t, 1, resp.ProtoMajor)
	})
	for name, off := range map[string]func(*http.Server){
		"HTTP/2 off in Protocols": func(s *http.Server) {
			s.Protocols = new(http.Protocols)
			s.Protocols.SetHTTP1(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, serverOptions(), http.HandlerFunc(whoami), off)
			_, _, err := tryGet(transport(t, both...), s.url)
			require.Error(t, err)
			text, _ := get(t, transport(t, "http/1.1"), s.url)
			require.Contains(t, text, "HTTP/1.1 tls=true")
			require.Contains(t, s.log.String(), "Protocols have no HTTP/2")
		})
	}
	t.Run("weak cipher suite", func(t *testing.T) {
		o := serverOptions()
		o.MaxVersion, o.Cipher = sslfilter.VersionTLS12, "AES128-SHA256"
		s := serve(t, o, http.HandlerFunc(whoami))
		_, _, err := tryGet(transport(t, both...), s.url)
		require.Error(t, err)
		text, _ := get(t, transport(t, "http/1.1"), s.url)
		require.Contains(t, text, "HTTP/1.1 tls=true")
		require.Contains(t, s.log.String(), "RFC 9113")
	})
}

// The hooks of the server get the *sslnet.Conn, and keep their effect.
func TestHooks(t *testing.T) {
	type key struct{}
	var mu sync.Mutex
	seen := map[http.ConnState]bool{}
	s := serve(t, serverOptions(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, r.Context().Value(key{}))
	}), func(s *http.Server) {
		s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, key{}, c.(*sslnet.Conn).ALPN())
		}
		s.ConnState = func(c net.Conn, state http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			seen[state] = c.(*sslnet.Conn).ConnectionState().HandshakeComplete || state == http.StateClosed
		}
	})
	text, _ := get(t, transport(t, both...), s.url)
	require.Equal(t, "HTTP/2.0h2", text)
	text, _ = get(t, transport(t, "http/1.1"), s.url)
	require.Equal(t, "HTTP/1.1http/1.1", text)
	mu.Lock()
	defer mu.Unlock()
	require.True(t, seen[http.StateNew])
	require.True(t, seen[http.StateActive])
}

// Transport adapts to a server that changes its protocols, and no request is lost.
func TestTransportFollowsTheServer(t *testing.T) {
	ctx := func(protocols ...string) *sslfilter.Ctx {
		o := serverOptions()
		o.ALPN = protocols
		return testkit.Ctx(t, o)
	}
	below, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &sslnet.Listener{Listener: below, Ctx: ctx(both...)}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, string(body), r.Proto)
	})}
	go sslhttp.Serve(srv, l)
	defer srv.Close()
	tr := transport(t, both...)
	client := &http.Client{Transport: tr}
	for range 2 {
		for proto, alpn := range map[string][]string{"HTTP/2.0": both, "HTTP/1.1": {"http/1.1"}} {
			l.SetCtx(ctx(alpn...))
			tr.CloseIdleConnections()
			resp, err := client.Post("https://"+below.Addr().String(), "text/plain", strings.NewReader("body "))
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, "body "+proto, string(text))
		}
	}
}

// If a request cannot be sent, RoundTrip returns an error and closes its body.
func TestTransportErrors(t *testing.T) {
	good := &sslnet.Dialer{Ctx: testkit.Ctx(t, clientOptions(both...))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	nobody := "https://" + l.Addr().String()
	for name, c := range map[string]struct {
		tr  *sslhttp.Transport
		url string
	}{
		"no Dialer":      {&sslhttp.Transport{}, nobody},
		"no Ctx":         {&sslhttp.Transport{Dialer: new(sslnet.Dialer)}, nobody},
		"DialTLSContext": {&sslhttp.Transport{Dialer: good, Base: &http.Transport{DialTLSContext: good.DialContext}}, nobody},
		"no host":        {&sslhttp.Transport{Dialer: good}, "https:///path"},
		"nobody listens": {&sslhttp.Transport{Dialer: good}, nobody},
	} {
		body := &closing{Reader: strings.NewReader("body")}
		req, err := http.NewRequest("POST", c.url, body)
		require.NoError(t, err, name)
		_, err = c.tr.RoundTrip(req)
		require.Error(t, err, name)
		require.True(t, body.closed, name)
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

// A request stops waiting for another request's connection when its context ends.
// If the request that makes the connection is canceled, the next one makes it.
func TestTransportWaiting(t *testing.T) {
	l := testkit.Listen(t) // a handshake waits until a server accepts the connection
	tr := transport(t, both...)
	url := "https://" + l.Addr().String()
	try := func(ctx context.Context) <-chan error {
		done := make(chan error, 1)
		go func() {
			req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
			if err == nil {
				var resp *http.Response
				if resp, err = tr.RoundTrip(req); err == nil {
					resp.Body.Close()
				}
			}
			done <- err
		}()
		return done
	}
	firstCtx, giveUp := context.WithCancel(context.Background())
	first := try(firstCtx)
	silent, err := l.Accept() // the first one is in its handshake
	require.NoError(t, err)
	defer silent.Close()
	secondCtx, giveUpSecond := context.WithCancel(context.Background())
	second := try(secondCtx)
	giveUpSecond()
	require.ErrorIs(t, <-second, context.Canceled)
	third := try(context.Background())
	srv := &http.Server{Handler: http.HandlerFunc(whoami)}
	go sslhttp.Serve(srv, sslnet.NewListener(l, testkit.Ctx(t, serverOptions())))
	defer srv.Close()
	giveUp()
	require.ErrorIs(t, <-first, context.Canceled)
	require.NoError(t, <-third)
}
