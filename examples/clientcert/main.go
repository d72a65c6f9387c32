// Clientcert is the last example of POE::Filter::SSL's man page: an HTTPS server
// that asks for a client certificate, refuses nobody, and shows what it found.
// Without certificate flags it makes certificates to try it with; see -help.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
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
	"github.com/seed-014b8713/sslfilter/internal/testpki"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, listen := parseFlags()
	if err := run(ctx, o, listen); err != nil {
		fmt.Fprintln(os.Stderr, "clientcert:", err)
		os.Exit(1)
	}
}

// parseFlags ends the program with status 2 if the flags are wrong.
func parseFlags() (o sslfilter.Options, listen string) {
	o.ClientCert = true // ask for a certificate; the verdict is asked for afterwards
	fs := flag.NewFlagSet("clientcert", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&listen, "listen", "127.0.0.1:8443", "`address` to listen on; port 0 picks a free one")
	fs.StringVar(&o.Crt, "crt", "", "certificate `file` of the server, PEM as all files")
	fs.StringVar(&o.Key, "key", "", "`file` with the private key of -crt")
	fs.StringVar(&o.Chain, "chain", "", "`file` with the certificate and its intermediates, and the key if there is no -key")
	fs.StringVar(&o.CACrt, "cacrt", "", "`file` with the CAs that client certificates are verified against")
	fs.StringVar(&o.CACRL, "cacrl", "", "`file` with the revocation lists; a list without entries blocks everybody")
	fs.StringVar(&o.Cipher, "cipher", "", "OpenSSL cipher `list`, such as DHE-RSA-AES256-GCM-SHA384:AES256-SHA")
	fs.StringVar(&o.DHCert, "dhcert", "", "`file` with Diffie-Hellman parameters")
	fs.IntVar(&o.CAVerifyDepth, "caverifydepth", 0, "`number` of intermediates that a chain may have (default 5)")
	fs.BoolVar(&o.TLS12, "tls1_2", false, "TLS 1.2 and nothing else")
	fs.BoolVar(&o.NoHonor, "nohonor", false, "let the visitor's order of ciphers decide")
	fs.BoolVar(&o.BlockBadClientCert, "blockbadclientcert", false, "refuse visitors without any certificate")
	fs.Func("ignoreVerifyErrors", "verify error `numbers` that do not count, such as 9,10", func(list string) error {
		for s := range strings.SplitSeq(list, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(s))
			if err != nil {
				return fmt.Errorf("%q is no number", s)
			}
			o.IgnoreVerifyErrors = append(o.IgnoreVerifyErrors, sslfilter.VerifyCode(n))
		}
		return nil
	})
	fs.BoolFunc("debug", "log handshakes and verdicts", func(string) error {
		o.Debug = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		return nil
	})
	err := fs.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(os.Stdout)
		fmt.Println("clientcert is an HTTPS server that shows the client certificate of its visitor.")
		fs.PrintDefaults()
		os.Exit(0)
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("%q is no flag", fs.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "clientcert: %v; -help shows the flags\n", err)
		os.Exit(2)
	}
	return o, listen
}

// run serves until ctx ends.
func run(ctx context.Context, o sslfilter.Options, listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	host, port, _ := net.SplitHostPort(l.Addr().String())
	if net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	url := "https://" + net.JoinHostPort(host, port) + "/"

	dir := ""
	if o.Crt+o.Key+o.Chain+o.CACrt+o.CACRL == "" {
		if dir, err = os.MkdirTemp("", "clientcert-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := throwAway(&o, dir, host); err != nil {
			return err
		}
	}
	tls, err := sslfilter.NewCtx(o)
	if err != nil {
		return err
	}
	defer tls.Close()
	fmt.Println("clientcert listens on", url)
	if dir != "" {
		fmt.Printf("These certificates are gone when it ends:\n  cd '%s'\n", dir)
		for _, who := range []string{"valid", "revoked", "expired", "unknown"} {
			fmt.Printf("  curl --cacert ca.crt --cert client-%s.crt --key client-%[1]s.key %s\n", who, url)
		}
		fmt.Printf("  curl --cacert ca.crt %s\n", url)
	}
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			slog.Error("accept", "error", err)
			time.Sleep(100 * time.Millisecond) // too many open files, perhaps
			continue
		}
		go func() {
			defer conn.Close()
			if err := serve(conn, tls); err != nil {
				slog.Warn("visit", "from", conn.RemoteAddr(), "error", err)
			}
			// Closing with unread input resets the connection, and the answer or the alert is lost.
			if c, ok := conn.(*net.TCPConn); ok && c.CloseWrite() == nil {
				conn.SetDeadline(time.Now().Add(time.Second))
				io.CopyN(io.Discard, conn, 1<<20)
			}
		}()
	}
}

// throwAway makes certificates in dir and uses them.
func throwAway(o *sslfilter.Options, dir, host string) error {
	pki, err := testpki.New(host)
	if err != nil {
		return err
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	o.Crt, o.Key, o.CACrt, o.CACRL = file("server.crt"), file("server.key"), file("ca.crt"), file("ca.crl")
	return pki.Write(dir)
}

const (
	maxRequest = 64 << 10 // bytes of a request's head; its body is not read
	patience   = 20 * time.Second
)

// serve answers one request on conn.
func serve(conn net.Conn, tls *sslfilter.Ctx) error {
	conn.SetDeadline(time.Now().Add(patience))
	f, err := tls.NewFilter()
	if err != nil {
		return err
	}
	defer f.Close()
	s := &stream{Conn: conn, tls: f, wire: make([]byte, 16<<10)}
	r, err := http.ReadRequest(bufio.NewReader(io.LimitReader(s, maxRequest)))
	switch {
	case err == nil:
		return s.respond(r, http.StatusOK, page(f, r))
	case s.err == io.EOF:
		return nil // the visitor said goodbye
	case s.err != nil:
		return s.err
	}
	return errors.Join(err, s.respond(nil, http.StatusBadRequest, []byte("This is no HTTP request.\n")))
}

// stream joins a connection and its Filter; Read gives plaintext.
type stream struct {
	net.Conn
	tls         *sslfilter.Filter
	wire, plain []byte
	unread      []byte // of plain
	err         error  // the end of the input
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.unread) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		n, err := s.Conn.Read(s.wire)
		if n > 0 {
			s.plain, s.err = s.tls.Receive(s.plain[:0], s.wire[:n])
			s.unread = s.plain
		} else if err == io.EOF {
			s.err = s.tls.ReceiveEOF()
		} else {
			s.err = err
		}
		if err := s.flush(); err != nil && s.err == nil { // handshake messages, or the alert
			s.err = err
		}
	}
	n := copy(p, s.unread)
	s.unread = s.unread[n:]
	return n, nil
}

func (s *stream) flush() error {
	_, err := s.Conn.Write(s.tls.Outgoing(nil))
	return errors.Join(err, s.tls.Err())
}

// respond sends the answer and close_notify.
func (s *stream) respond(r *http.Request, status int, body []byte) error {
	var out bytes.Buffer
	response := http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Request: r, Close: true,
		Header: http.Header{
			"Content-Type":           {"text/html; charset=utf-8"},
			"X-Content-Type-Options": {"nosniff"},
			"X-Client-Verdict":       {verdict(s.tls)},
		},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
	if err := response.Write(&out); err != nil {
		return err
	}
	if err := s.tls.Send(out.Bytes()); err != nil {
		return err
	}
	if err := s.tls.CloseWrite(); err != nil {
		return err
	}
	return s.flush()
}

// verdict is what the original's page tells, for machines.
func verdict(f *sslfilter.Filter) string {
	switch {
	case f.ClientCertValid():
		return "valid"
	case f.ClientCertExists():
		return "invalid"
	}
	return "none"
}

// page is html/template's work, which escapes: the names in a certificate are the visitor's.
func page(f *sslfilter.Filter, r *http.Request) []byte {
	var out bytes.Buffer
	err := pageTemplate.Execute(&out, map[string]any{
		"Valid": f.ClientCertValid(), "IDs": f.ClientCertIDs(), "CRL": f.Peer().CRL,
		"Cipher": f.Cipher(), "Version": f.Version(), "URL": r.RequestURI, "Time": time.Now().Format(time.RFC1123),
	})
	if err != nil {
		slog.Error("page", "error", err)
	}
	return out.Bytes()
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"hexdump": sslfilter.Hexdump}).Parse(`<!DOCTYPE html>
<title>Client certificate</title>
{{if .Valid}}Hello <b style="color:green">valid</b> client certificate:
{{- else}}None or <b style="color:red">invalid</b> client certificate:{{end}}
<hr>
{{range .IDs}}{{.Subject}}<br>
{{.Issuer}}<br>
SERIAL={{hexdump .Serial}}
{{- if .Err}}<br>
Error {{printf "%d" .Err}} at depth {{.Depth}}: {{.Err}}{{if .Ignored}} (ignored){{end}}{{end}}
<hr>
{{else}}No client certificate
<hr>
{{end -}}
CRL: {{.CRL.Status}}{{with .CRL.Subject}}: {{.}}{{end}}<br>
Cipher: {{.Version}} {{.Cipher}}<br>
Your URL was: {{.URL}}<br>
{{.Time}}
`))
