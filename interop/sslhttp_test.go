package interop_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// site serves h in both protocols and requests client certificates.
func site(t testing.TB, h http.HandlerFunc) (srv *http.Server, url string) {
	t.Helper()
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, sslfilter.Options{
		Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server.key"), CACrt: testkit.PKI("root.crt"), ClientCert: true, ALPN: []string{"h2", "http/1.1"},
	}))
	require.NoError(t, err)
	srv = &http.Server{Handler: h, ErrorLog: log.New(t.Output(), "", 0)}
	ended := make(chan error, 1)
	go func() { ended <- sslhttp.Serve(srv, l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return srv, "https://" + l.Addr().String()
}

// curl runs curl and returns what it prints.
func curl(t testing.TB, args ...string) string {
	t.Helper()
	path := peers.FindCurl(t, args...)
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, append([]string{"--silent", "--no-progress-meter", "--show-error", "--cacert", testkit.PKI("root.crt")}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestCurlHTTP(t *testing.T) {
	_, url := site(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s valid=%t tls=%t\n", r.Proto, sslhttp.FromContext(r.Context()).ClientCertValid(), r.TLS.HandshakeComplete)
	})
	for flag, proto := range map[string]string{"--http1.1": "HTTP/1.1", "--http2": "HTTP/2.0", "--no-alpn": "HTTP/1.1"} {
		for _, tls := range []string{"1.2", "1.3"} {
			out := curl(t, flag, "--tls-max", tls, "--cert", testkit.PKI("client.crt"), "--key", testkit.PKI("client.key"), url, url)
			require.Equal(t, strings.Repeat(proto+" valid=true tls=true\n", 2), out, "%s, %s", flag, tls)
		}
		require.Equal(t, proto+" valid=false tls=true\n", curl(t, flag, url), "%s without a certificate", flag)
	}
	require.Contains(t, curl(t, strings.Replace(url, "https:", "http:", 1)), "HTTP request to an HTTPS server")
}

// curl has 100 streams open on one connection. Shutdown waits until all of them are
// finished.
func TestCurlParallelStreams(t *testing.T) {
	const streams = 100
	var all sync.WaitGroup
	all.Add(streams)
	var conns sync.Map
	var n atomic.Int32
	srv, url := site(t, func(w http.ResponseWriter, r *http.Request) {
		conns.Store(sslhttp.FromContext(r.Context()), true)
		all.Done()
		all.Wait() // no request is answered before all have arrived
		if n.Add(1) == 1 {
			go r.Context().Value(http.ServerContextKey).(*http.Server).Shutdown(context.Background())
		}
		fmt.Fprintln(w, r.Proto)
	})
	out := curl(t, "--http2", "--parallel", "--parallel-max", fmt.Sprint(streams), url+fmt.Sprintf("/[1-%d]", streams))
	require.Equal(t, streams, strings.Count(out, "HTTP/2.0\n"))
	used := 0
	conns.Range(func(any, any) bool { used++; return true })
	require.Equal(t, 1, used)
	require.NoError(t, srv.Shutdown(context.Background()))
}
