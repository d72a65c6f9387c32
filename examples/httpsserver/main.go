// Httpsserver is the third program of POE::Filter::SSL's man page, the one with
// the PreFilter: it adds TLS to an existing web server that does not support TLS.
// Without -crt and -key it makes certificates to try it with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/keylogfile"
	"github.com/seed-014b8713/sslfilter/internal/testpki"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// site is the existing server.
func site(timeout time.Duration) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "Hi, you fetched", r.URL)
	})
	mux.HandleFunc("/dir/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/file", func(http.ResponseWriter, *http.Request) {})
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", "My Server")
			mux.ServeHTTP(w, r)
		}),
		ReadTimeout: timeout, WriteTimeout: timeout, // of a request, and until the next one
	}
}

func main() {
	o := sslfilter.Options{ALPN: []string{"h2", "http/1.1"}} // without: HTTP/1.1
	listen := flag.String("listen", "127.0.0.1:8443", "`address` to listen on; port 0 picks a free one")
	timeout := flag.Duration("timeout", 20*time.Second, "limit of a handshake, of a request and its answer, and of the pause before the next request")
	flag.StringVar(&o.Crt, "crt", "", "certificate `file` of the server; all files are PEM")
	flag.StringVar(&o.Key, "key", "", "`file` with the private key of -crt")
	flag.StringVar(&o.CACrt, "cacrt", "", "`file` with the CAs that issued -crt; their intermediates are sent along")
	flag.StringVar(&o.Cipher, "cipher", "", "OpenSSL cipher `list`")
	flag.BoolVar(&o.TLS12, "tls1_2", false, "use only TLS 1.2")
	keylogfile.Flag(flag.CommandLine, &o.KeyLog)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, *listen, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "httpsserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, o sslfilter.Options, listen string, timeout time.Duration) error {
	remove, err := testpki.ThrowAway(&o.Crt, &o.Key)
	if err != nil {
		return err
	}
	defer remove()
	tls, err := sslfilter.NewCtx(o)
	if err != nil {
		return err
	}
	defer tls.Close()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := site(timeout)
	served := make(chan error, 1)
	// docs:begin
	front := &sslnet.Listener{Listener: l, Ctx: tls, HandshakeTimeout: timeout} // the PreFilter
	go func() { served <- sslhttp.Serve(server, front) }()                      // was: server.Serve(l)
	// docs:end
	fmt.Printf("httpsserver listens on https://%s/\n", l.Addr())

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if server.Shutdown(end) != nil { // a request is still in progress
		server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
