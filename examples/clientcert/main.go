// Clientcert is the last program of POE::Filter::SSL's man page: an HTTPS server
// that asks for a client certificate, accepts every client, and shows the verdict.
// Without certificate flags it makes certificates to try it with; see -help.
package main

import (
	"context"
	"flag"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/keylogfile"
	"github.com/seed-014b8713/sslfilter/internal/testpki"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

func main() {
	o := sslfilter.Options{ClientCert: true} // request a certificate; the page shows the verdict on it
	fs := flag.NewFlagSet("clientcert", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	listen := fs.String("listen", "127.0.0.1:8443", "`address` to listen on; port 0 picks a free one")
	fs.StringVar(&o.Crt, "crt", "", "certificate `file` of the server; all files are PEM")
	fs.StringVar(&o.Key, "key", "", "`file` with the private key of -crt")
	fs.StringVar(&o.Chain, "chain", "", "`file` with the certificate and its intermediates, and the key if there is no -key")
	fs.StringVar(&o.CACrt, "cacrt", "", "`file` with the CAs that client certificates are verified against")
	fs.StringVar(&o.CACRL, "cacrl", "", "`file` with the certificate revocation lists; with an empty list, no certificate is valid")
	fs.StringVar(&o.Cipher, "cipher", "", "OpenSSL cipher `list`, such as DHE-RSA-AES256-GCM-SHA384:AES256-SHA")
	fs.StringVar(&o.DHCert, "dhcert", "", "`file` with Diffie-Hellman parameters")
	fs.IntVar(&o.CAVerifyDepth, "caverifydepth", 0, "`number` of intermediates that a chain may have (default 5)")
	fs.BoolVar(&o.TLS12, "tls1_2", false, "use only TLS 1.2")
	fs.BoolVar(&o.NoHonor, "nohonor", false, "prefer the client's order of ciphers")
	fs.BoolVar(&o.BlockBadClientCert, "blockbadclientcert", false, "reject clients that send no certificate")
	fs.Func("ignoreVerifyErrors", "`numbers` of verify errors to ignore, such as 9,10", func(list string) error {
		for s := range strings.SplitSeq(list, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(s))
			if err != nil {
				return fmt.Errorf("%q is not a number", s)
			}
			o.IgnoreVerifyErrors = append(o.IgnoreVerifyErrors, sslfilter.VerifyCode(n))
		}
		return nil
	})
	keylogfile.Flag(fs, &o.KeyLog)
	debug := fs.Bool("debug", false, "log handshakes and verdicts")
	err := fs.Parse(os.Args[1:])
	switch {
	case err == flag.ErrHelp:
		fs.SetOutput(os.Stdout)
		fmt.Println("clientcert is an HTTPS server that shows the client certificate of its client.")
		fs.PrintDefaults()
		return
	case err == nil && fs.NArg() > 0:
		err = fmt.Errorf("%q is not a flag", fs.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "clientcert: %v; -help shows the flags\n", err)
		os.Exit(2)
	}
	if *debug {
		o.Debug = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "clientcert:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, o sslfilter.Options, listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer l.Close()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	if net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	url, dir := "https://"+net.JoinHostPort(host, port)+"/", ""
	if o.Crt+o.Key+o.Chain+o.CACrt+o.CACRL == "" {
		if dir, err = testpki.WriteTemp(host); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		file := func(name string) string { return filepath.Join(dir, name) }
		o.Crt, o.Key, o.CACrt, o.CACRL = file("server.crt"), file("server.key"), file("ca.crt"), file("ca.crl")
	}
	tls, err := sslfilter.NewCtx(o)
	if err != nil {
		return err
	}
	defer tls.Close()
	fmt.Println("clientcert listens on", url)
	if dir != "" {
		fmt.Printf("The certificates are in this folder until the program ends:\n  cd '%s'\n", dir)
		for _, who := range []string{"valid", "revoked", "expired", "unknown"} {
			fmt.Printf("  curl --cacert ca.crt --cert client-%s.crt --key client-%[1]s.key %s\n", who, url)
		}
		fmt.Printf("  curl --cacert ca.crt %s\n", url)
	}
	server := &http.Server{Handler: http.HandlerFunc(page), MaxHeaderBytes: 64 << 10, ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := sslhttp.Serve(server, sslnet.NewListener(l, tls)); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// page shows the client's certificate. html/template escapes its names.
func page(w http.ResponseWriter, r *http.Request) {
	// docs:begin
	conn := sslhttp.FromContext(r.Context())
	verdict := "none"
	if conn.ClientCertValid() {
		verdict = "valid"
	} else if conn.ClientCertExists() {
		verdict = "invalid"
	}
	w.Header().Set("X-Client-Verdict", verdict) // for programs
	// docs:end
	pageTemplate.Execute(w, map[string]any{"Conn": conn, "Valid": verdict == "valid", "URL": r.RequestURI, "Time": time.Now().Format(time.RFC1123)})
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"hexdump": sslfilter.Hexdump}).Parse(`<!DOCTYPE html><title>Client certificate</title>
{{if .Valid}}Hello <b style="color:green">valid</b> client certificate:{{else}}None or <b style="color:red">invalid</b> client certificate:{{end}}<hr>
{{range .Conn.ClientCertIDs}}{{.Subject}}<br>{{.Issuer}}<br>
SERIAL={{hexdump .Serial}}{{if .Err}}<br>
Error {{printf "%d" .Err}} at depth {{.Depth}}: {{.Err}}{{if .Ignored}} (ignored){{end}}{{end}}
<hr>
{{else}}No client certificate
<hr>
{{end}}{{with .Conn.Peer}}CRL: {{.CRL.Status}}{{with .CRL.Subject}}: {{.}}{{end}}<br>{{end}}
Cipher: {{.Conn.Version}} {{.Conn.Cipher}}<br>
Your URL was: {{.URL}}<br>
{{.Time}}
`))
