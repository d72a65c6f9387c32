package sslfilter_test

// The Go code of README.md and docs/*.md. Each region between docs:begin and
// docs:end stands there word for word; TestDocsSnippets compares.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	"github.com/seed-014b8713/sslfilter"
)

// docs:begin
// answer is one connection: f is our end of it, and conn the network.
func answer(conn net.Conn, f *sslfilter.Filter) error {
	for in := make([]byte, 16384); ; {
		n, err := conn.Read(in) // bytes from the network
		if err == io.EOF {
			err = f.ReceiveEOF() // io.EOF: a clean end; io.ErrUnexpectedEOF: truncated
		}
		if err != nil {
			return err
		}
		plain, err := f.Receive(nil, in[:n]) // the plaintext in them
		if len(plain) > 0 {
			err = errors.Join(err, f.Send(fmt.Appendf(nil, "your certificate: %v\n", f.Peer())))
		}
		if errors.Is(err, io.EOF) { // the peer's close_notify: answer with ours
			f.CloseWrite()
		}
		if out := f.Outgoing(nil); len(out) > 0 { // bytes for the network, also an alert
			_, writeErr := conn.Write(out)
			err = errors.Join(err, writeErr)
		}
		if err != nil {
			return err // io.EOF if the peer has closed
		}
	}
}

// docs:end

func Example_readme() {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	defer listener.Close()
	// docs:begin
	ctx, err := sslfilter.NewCtx(sslfilter.Options{ // once, for all connections
		Crt: "testdata/pki/server.crt", Key: "testdata/pki/server.key",
		CACrt: "testdata/pki/root.crt", ClientCert: true,
	})
	// docs:end
	if err != nil {
		log.Fatal(err)
	}
	defer ctx.Close()
	done := make(chan error)
	go func() {
		conn := must(listener.Accept())
		defer conn.Close()
		f := must(ctx.NewFilter())
		defer f.Close()
		done <- answer(conn, f)
	}()
	client := must(tls.Dial("tcp", listener.Addr().String(), &tls.Config{
		InsecureSkipVerify: true,
		Certificates:       []tls.Certificate{must(tls.LoadX509KeyPair("testdata/pki/client.crt", "testdata/pki/client.key"))},
	}))
	fmt.Fprintln(client, "hello")
	text := make([]byte, 100)
	n := must(client.Read(text))
	fmt.Print(string(text[:n]))
	client.Close()
	fmt.Println(<-done)
	// Output:
	// your certificate: valid
	// EOF
}

// The original's client: no verification.
func Example_migrateUnverifiedClient() {
	// docs:begin
	old := sslfilter.Options{Client: true, SNI: "mail.example", InsecureSkipVerify: true}
	// docs:end
	fmt.Println(must(sslfilter.New(old)).Close())
	// Output: <nil>
}

// Program 4: STARTTLS in the IMAP relay.
func Example_migrateSTARTTLS() {
	ctx := must(sslfilter.NewCtx(sslfilter.Options{Crt: "testdata/pki/server.crt", Key: "testdata/pki/server.key"}))
	defer ctx.Close()
	var wrote []string
	write := func(b []byte) { wrote = append(wrote, string(b)) }
	buffer := "7 STARTTLS\r\n"
	// docs:begin
	tag, rest, found := strings.Cut(buffer, " STARTTLS\r\n")
	if found {
		write([]byte(tag + " OK Begin SSL/TLS negotiation now.\r\n")) // still in the clear
		f, err := ctx.NewFilter()
		if err != nil {
			log.Fatal(err)
		}
		defer f.Close()
		_, err = f.Receive(nil, []byte(rest)) // everything after the command belongs to TLS
		write(f.Outgoing(nil))
		if err != nil {
			return // not TLS: an injected command, for example
		}
	}
	// docs:end
	fmt.Printf("%q\n", wrote)
	// Output: ["7 OK Begin SSL/TLS negotiation now.\r\n" ""]
}

// Program 5: HTTPS with a client certificate.
func Example_migrateClientCert() {
	ctx := must(sslfilter.NewCtx(sslfilter.Options{
		Crt: "testdata/pki/server.crt", Key: "testdata/pki/server.key", CACrt: "testdata/pki/root.crt", ClientCert: true,
	}))
	defer ctx.Close()
	f := must(ctx.NewFilter())
	defer f.Close()
	client := must(sslfilter.New(sslfilter.Options{
		Client: true, InsecureSkipVerify: true, Crt: "testdata/pki/client.crt", Key: "testdata/pki/client.key",
	}))
	defer client.Close()
	client.Handshake()
	carry(client, f)
	// docs:begin
	var content strings.Builder
	if f.ClientCertValid() {
		content.WriteString("Hello valid client certificate:\n")
	} else {
		content.WriteString("None or invalid client certificate:\n")
	}
	for _, id := range f.ClientCertIDs() { // the root first, as in the original
		fmt.Fprintf(&content, "%s\n%s\nSERIAL=%s\n", id.Subject, id.Issuer, sslfilter.Hexdump(id.Serial))
	}
	// docs:end
	fmt.Print(content.String())
	// Output:
	// Hello valid client certificate:
	// /C=DE/O=Oracle Test/CN=Oracle Root CA
	// /C=DE/O=Oracle Test/CN=Oracle Root CA
	// SERIAL=0A
	// /C=DE/O=Oracle Test/CN=client valid
	// /C=DE/O=Oracle Test/CN=Oracle Root CA
	// SERIAL=20:01
}

// docs:begin
// perlMessage writes an error as the original's carp does. role is "accept" on
// a server and "connect" on a client.
func perlMessage(role string, err error) string {
	var e *sslfilter.Error
	switch {
	case !errors.As(err, &e):
		return "POE::Filter::SSL: " + role + ": " + err.Error()
	case len(e.Records) == 0:
		return fmt.Sprintf("POE::Filter::SSL: %s: No error (return=%d)", role, e.Code)
	}
	oldest := e.Records[0]
	return fmt.Sprintf("POE::Filter::SSL: %s: %v(%d, %d)", role, oldest, oldest.Code, e.Code)
}

// docs:end

func Example_migrateErrorHandler() {
	f := must(sslfilter.New(sslfilter.Options{
		Crt: "testdata/pki/server.crt", Key: "testdata/pki/server.key",
		ErrorHandler: func(_ *sslfilter.Filter, err error) {
			message := perlMessage("accept", err)
			fmt.Println(message[:25], strings.Contains(message, "http request("))
		},
	}))
	defer f.Close()
	f.Receive(nil, []byte("GET / HTTP/1.0\r\n\r\n"))
	// Output: POE::Filter::SSL: accept: true
}
