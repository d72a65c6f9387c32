package sslhttp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// A connection whose context was chosen for one name serves no other host: with a name that
// asks for no certificate, a client cannot reach a name that requires one. The handler does
// not see such a request.
func TestMisdirectedRequests(t *testing.T) {
	alpn := func(o *sslfilter.Options) { o.ALPN = both }
	open, strict := testkit.Ctx(t, testkit.ServerOf("server-ec", alpn)), testkit.Ctx(t, testkit.Requiring(alpn))
	l := &sslnet.Listener{Listener: testkit.Listen(t), Choose: func(_ context.Context, _ net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		if hello.ServerName == "server.test" {
			return strict, nil
		}
		return open, nil
	}}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" "+r.Host)
	})}
	served := make(chan error)
	go func() { served <- sslhttp.Serve(srv, l) }()
	defer func() {
		srv.Close()
		require.True(t, errors.Is(<-served, http.ErrServerClosed))
	}()
	addr := l.Addr().String()
	for _, h2 := range []bool{false, true} {
		for _, c := range []struct {
			sni, host string // an empty sni is not sent
			status    int
		}{
			{"localhost", "localhost", 200}, {"localhost", "LOCALHOST:443", 200}, {"localhost", "localhost.", 200},
			{"localhost", "server.test", 421}, {"localhost", "server.test:443", 421}, {"localhost", "127.0.0.1", 421},
			{"server.test", "server.test", 200}, {"server.test", "localhost", 421},
			{"", "127.0.0.1", 200}, {"", "127.0.0.1:443", 200}, {"", "[::1]:443", 200}, {"", "[::1]", 200}, {"", "server.test", 421}, {"", "localhost", 421},
		} {
			tr := goTransport(t, h2)
			tr.TLSClientConfig.ServerName = c.sni
			if c.sni == "" {
				tr.TLSClientConfig.ServerName = "127.0.0.1" // an address is not sent
			}
			req, err := http.NewRequest("GET", "https://"+addr, nil)
			require.NoError(t, err)
			req.Host = c.host
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, c.status, resp.StatusCode, "%+v: %s", c, text)
			require.Equal(t, h2, resp.ProtoMajor == 2)
			if c.status == 200 {
				require.Equal(t, resp.Proto+" "+c.host, string(text))
			}
			tr.CloseIdleConnections()
		}
	}
}

// Without a ChooseFunc every host is served, as by net/http.
func TestHostsWithoutChoice(t *testing.T) {
	s := serve(t, serverOptions(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	req, err := http.NewRequest("GET", s.url, nil)
	require.NoError(t, err)
	req.Host = "other.example"
	resp, err := goTransport(t, true).RoundTrip(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
}
