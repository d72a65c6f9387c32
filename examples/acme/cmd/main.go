// Command cmd is an HTTPS server whose certificates come from an ACME CA, by default
// Let's Encrypt. The CA connects to port 443 of each name, so -listen must be that port,
// or a port to which it is forwarded.
//
//	cmd -names www.example.org,example.org -cache /var/lib/acme -accept-tos
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/seed-014b8713/sslfilter"
	sslacme "github.com/seed-014b8713/sslfilter/examples/acme"
	"github.com/seed-014b8713/sslfilter/internal/keylogfile"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

type config struct {
	listen, names, cache, email, directory, caCrt string
	acceptTOS                                     bool
	keyLog                                        io.Writer
}

func main() {
	log.SetFlags(0)
	var c config
	flag.StringVar(&c.listen, "listen", ":443", "`address` to listen on")
	flag.StringVar(&c.names, "names", "", "the `names` of this server, separated by commas")
	flag.StringVar(&c.cache, "cache", "", "`folder` that keeps the account and the certificates")
	flag.StringVar(&c.email, "email", "", "contact `address` for the CA")
	flag.StringVar(&c.directory, "directory", autocert.DefaultACMEDirectory, "`URL` of the CA's directory")
	flag.StringVar(&c.caCrt, "cacrt", "", "PEM `file` with the CA of that URL; default: those of the system")
	flag.BoolVar(&c.acceptTOS, "accept-tos", false, "accept the CA's terms of service")
	keylogfile.Flag(flag.CommandLine, &c.keyLog)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &c); err != nil {
		log.Fatal("acme: ", err)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, c *config) error {
	if c.names == "" || c.cache == "" {
		return errors.New("-names and -cache are required")
	}
	toCA, err := sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: c.caCrt, ALPN: []string{"h2", "http/1.1"}})
	if err != nil {
		return err
	}
	manager := &autocert.Manager{
		Prompt:     func(string) bool { return c.acceptTOS },
		Cache:      autocert.DirCache(c.cache),
		HostPolicy: autocert.HostWhitelist(strings.Split(c.names, ",")...),
		Email:      c.email,
		Client: &acme.Client{
			DirectoryURL: c.directory,
			HTTPClient:   &http.Client{Transport: &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: toCA}}, Timeout: time.Minute},
		},
	}
	// docs:begin
	certificates, err := sslacme.New(manager, sslfilter.Options{ALPN: []string{"h2", "http/1.1"}, KeyLog: c.keyLog})
	if err != nil {
		return err
	}
	below, err := net.Listen("tcp", c.listen)
	if err != nil {
		return err
	}
	listener := certificates.Listen(below)
	// docs:end
	listener.HandshakeError = func(below net.Conn, err error) { log.Printf("%v: %v", below.RemoteAddr(), err) }
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "this is %s\n", r.Host)
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- sslhttp.Serve(server, listener) }()
	log.Printf("acme listens on %v", below.Addr())
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
