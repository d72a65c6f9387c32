package sslhttp_test

// The Go code of docs/net.md, and the examples of go doc. Each region between
// "begin" and "end" is repeated word for word in the document.

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

var (
	caFile   = testkit.PKI("root.crt")
	certFile = testkit.PKI("server.crt")
	keyFile  = testkit.PKI("server.key")
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ExampleServe() {
	addrs := make(chan string, 1)
	// docs:begin
	ctx, err := sslfilter.NewCtx(sslfilter.Options{
		Crt: certFile, Key: keyFile, CACrt: caFile, ClientCert: true,
		ALPN: []string{"h2", "http/1.1"},
	})
	if err != nil {
		log.Fatal(err)
	}
	// docs:end
	// docs:begin
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn := sslhttp.FromContext(r.Context())
			fmt.Fprintf(w, "%s, TLS %t, your certificate: %v\n", r.Proto, r.TLS != nil, conn.Peer())
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	listener, err := sslnet.Listen("tcp", "127.0.0.1:0", ctx)
	if err != nil {
		log.Fatal(err)
	}
	go sslhttp.Serve(server, listener) // instead of server.ServeTLS
	// docs:end
	addrs <- listener.Addr().String()
	defer server.Shutdown(context.Background())
	url := "https://" + <-addrs

	clientCtx, err := sslfilter.NewCtx(sslfilter.Options{
		Client: true, CACrt: caFile, Crt: testkit.PKI("client.crt"), Key: testkit.PKI("client.key"), ALPN: both,
	})
	if err != nil {
		log.Fatal(err)
	}
	fetch := func() (*http.Response, error) {
		// docs:begin
		transport := &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: clientCtx}} // its ALPN: "h2", "http/1.1"
		client := &http.Client{Transport: transport, Timeout: time.Minute}
		resp, err := client.Get(url)
		// docs:end
		defer transport.CloseIdleConnections()
		return resp, err
	}
	resp := must(fetch())
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	fmt.Println(resp.Proto, resp.TLS.NegotiatedProtocol)
	// Output:
	// HTTP/2.0, TLS true, your certificate: valid
	// HTTP/2.0 h2
}

// For HTTP/1.1 alone, net/http and sslnet are sufficient.
func ExampleConnContext() {
	ctx := must(sslfilter.NewCtx(sslfilter.Options{Crt: certFile, Key: keyFile}))
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.TLS.HandshakeComplete, " ", sslhttp.FromContext(r.Context()).Version())
	})
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	// docs:begin
	server := &http.Server{Handler: mux, ConnContext: sslhttp.ConnContext}
	go server.Serve(sslnet.NewListener(listener, ctx))
	// docs:end
	defer server.Close()
	clientCtx := must(sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: caFile}))
	// docs:begin
	transport := &http.Transport{DialTLSContext: (&sslnet.Dialer{Ctx: clientCtx}).DialContext}
	// docs:end
	resp := must((&http.Client{Transport: transport}).Get("https://" + listener.Addr().String()))
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	// Output: HTTP/1.1 true TLSv1.3
}

func ExampleTransport_proxyDialer() {
	clientCtx := must(sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: caFile, ALPN: both}))
	proxyCtx := must(sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: caFile}))
	proxy := &url.URL{Scheme: "https", Host: "127.0.0.1:1"}
	// docs:begin
	transport := &sslhttp.Transport{
		Dialer:      &sslnet.Dialer{Ctx: clientCtx},
		ProxyDialer: &sslnet.Dialer{Ctx: proxyCtx}, // trusts the CA of the proxy
		Base:        &http.Transport{Proxy: http.ProxyURL(proxy)},
	}
	// docs:end
	_, err := (&http.Client{Transport: transport}).Get("https://localhost/")
	fmt.Println(err != nil)
	// Output: true
}

func ExampleListenAndServe() {
	ctx := must(sslfilter.NewCtx(sslfilter.Options{Crt: certFile, Key: keyFile, ALPN: both}))
	server := &http.Server{Addr: "127.0.0.1:0"} // http.DefaultServeMux
	go server.Shutdown(context.Background())    // on a signal, in a program
	fmt.Println(sslhttp.ListenAndServe(server, ctx))
	// Output: http: Server closed
}

func ExampleTransport() {
	ctx := must(sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: caFile, ALPN: both}))
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 10
	client := &http.Client{Transport: &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: ctx}, Base: base}}
	_, err := client.Get("https://127.0.0.1:1/")
	fmt.Println(err != nil)
	// Output: true
}
