package sslnet_test

// The Go code of docs/net.md, and the examples of go doc. Each region between
// "begin" and "end" is repeated word for word in the document.

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
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

// exampleServer echoes over TLS at the address that it returns.
func exampleServer() (addr string, stop func()) {
	l := must(sslnet.Listen("tcp", "127.0.0.1:0", must(sslfilter.NewCtx(testkit.Server()))))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String(), func() { l.Close() }
}

func ExampleNewCipherConn() {
	key := testkit.Bytes(32, 1)
	raw, peer := net.Pipe()
	go func() {
		server := must(sslfilter.NewCipher(sslfilter.CipherOptions{Key: key}))
		line, _ := bufio.NewReader(sslnet.NewCipherConn(peer, server)).ReadString('\n')
		fmt.Print("received: ", line)
		peer.Close()
	}()
	// docs:begin
	cipher, err := sslfilter.NewCipher(sslfilter.CipherOptions{Client: true, Key: key}) // the server has the same key, and Client: false
	if err != nil {
		log.Fatal(err)
	}
	conn := sslnet.NewCipherConn(raw, cipher)
	defer conn.Close()
	fmt.Fprintln(conn, "hello")
	// docs:end
	io.Copy(io.Discard, conn)
	// Output: received: hello
}

func ExampleDial() {
	addr, stop := exampleServer()
	defer stop()
	// docs:begin
	ctx, err := sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: caFile})
	if err != nil {
		log.Fatal(err)
	}
	conn, err := sslnet.Dial("tcp", addr, ctx) // verifies the server, by the name in addr
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, "hello")
	// docs:end
	line, err := bufio.NewReader(conn).ReadString('\n')
	fmt.Printf("%q %v", line, err)
	// Output: "hello\n" <nil>
}

// docs:begin
// greet tells each client the verdict on its certificate.
func greet(listener net.Listener) error {
	for {
		conn, err := listener.Accept() // the handshake is done
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			verdict := conn.(*sslnet.Conn).Peer()
			fmt.Fprintf(conn, "your certificate: %v\n", verdict)
		}()
	}
}

// docs:end

func ExampleListen() {
	// docs:begin
	ctx, err := sslfilter.NewCtx(sslfilter.Options{Crt: certFile, Key: keyFile, CACrt: caFile, ClientCert: true})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := sslnet.Listen("tcp", "127.0.0.1:0", ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go greet(listener)
	// docs:end
	clientCtx := must(sslfilter.NewCtx(sslfilter.Options{
		Client: true, CACrt: caFile, Crt: testkit.PKI("client-expired.crt"), Key: testkit.PKI("client-expired.key"),
	}))
	conn := must(sslnet.Dial("tcp", listener.Addr().String(), clientCtx))
	defer conn.Close()
	io.Copy(os.Stdout, conn)
	// Output: your certificate: invalid: certificate has expired (10) at depth 0: it was valid until 2021-01-01 00:00:00 UTC
}

// docs:begin
// admits reports whether the client may use the service.
func admits(client *sslfilter.Peer) bool {
	if client == nil || !client.Valid {
		return false // its names say nothing
	}
	names, err := client.Chain[0].Names()
	return err == nil && slices.Contains(names.URIs, "spiffe://example.org/web")
}

// docs:end

func ExampleConn_Peer() {
	listener := must(sslnet.Listen("tcp", "127.0.0.1:0", must(sslfilter.NewCtx(testkit.Asking()))))
	defer listener.Close()
	go func() {
		conn := must(sslnet.Dial("tcp", listener.Addr().String(), must(sslfilter.NewCtx(testkit.Showing("client.crt", "")))))
		defer conn.Close()
		io.Copy(io.Discard, conn)
	}()
	accepted := must(listener.Accept()).(*sslnet.Conn)
	defer accepted.Close()
	fmt.Println(accepted.Peer(), admits(accepted.Peer()), admits(nil))
	// Output: valid false false
}

func ExampleListener() {
	below := must(net.Listen("tcp", "127.0.0.1:0"))
	ctx := must(sslfilter.NewCtx(testkit.Server()))
	// docs:begin
	listener := &sslnet.Listener{
		Listener:         below, // any net.Listener
		Ctx:              ctx,
		HandshakeTimeout: 5 * time.Second,
		MaxHandshakes:    200,
		HandshakeError: func(below net.Conn, err error) {
			log.Printf("%v: %v", below.RemoteAddr(), err)
			var refused *sslfilter.Error
			if errors.As(err, &refused) && refused.Peer != nil { // the client sent a certificate, and has not proved that it has the key
				for _, id := range refused.Peer.IDs {
					log.Printf("%v sent %s, serial %s: %v", below.RemoteAddr(), id.Subject, sslfilter.Hexdump(id.Serial), id.Err)
				}
			}
		},
	}
	reload := func(o sslfilter.Options) error {
		ctx, err := sslfilter.NewCtx(o)
		if err == nil {
			listener.SetCtx(ctx) // for new connections
		}
		return err
	}
	// docs:end
	fmt.Println(reload(testkit.Server()), listener.Close())
	// Output: <nil> <nil>
}

func ExampleDialer() {
	addr, stop := exampleServer()
	defer stop()
	clientCtx := must(sslfilter.NewCtx(nameless()))
	// docs:begin
	dialer := &sslnet.Dialer{
		Ctx:              clientCtx,
		NetDialer:        &net.Dialer{Timeout: 10 * time.Second},
		HandshakeTimeout: 5 * time.Second,
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	// docs:end
	fmt.Println(err)
	conn.Close()
	o := sslfilter.Options{Client: true, CACrt: caFile}
	renew := func() error {
		// docs:begin
		ctx, err := sslfilter.NewCtx(o) // reads the files again
		if err != nil {
			return err
		}
		old := dialer.CurrentCtx()
		dialer.SetCtx(ctx)
		return old.Close()
		// docs:end
	}
	fmt.Println(renew())
	// Output:
	// <nil>
	// <nil>
}

func ExampleNewListener() {
	ctx := must(sslfilter.NewCtx(testkit.Server()))
	// below can be a socket that systemd or another program has opened, or a
	// listener for connections of another kind. TLS runs over what it accepts.
	below := must(net.Listen("tcp", "127.0.0.1:0"))
	listener := sslnet.NewListener(below, ctx)
	fmt.Println(listener.Addr() == below.Addr())
	listener.Close()
	// Output: true
}

// The program does the handshake itself, as with crypto/tls.
func ExampleServer() {
	serverCtx, clientCtx := must(sslfilter.NewCtx(testkit.Server())), must(sslfilter.NewCtx(nameless()))
	a, b := net.Pipe()
	go func() {
		conn := sslnet.Client(a, clientCtx)
		conn.SetServerName("localhost")
		defer conn.Close()
		io.WriteString(conn, "hello\n")
	}()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	conn := sslnet.Server(b, serverCtx)
	defer conn.Close()
	err := conn.HandshakeContext(ctx)
	fmt.Println(err, conn.ServerName())
	io.Copy(os.Stdout, conn)
	// Output:
	// <nil> localhost
	// hello
}

// docs:begin
// serveMail serves clients that begin in plain text and may start TLS.
func serveMail(conn net.Conn, ctx *sslfilter.Ctx) error {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) != "STARTTLS" {
			fmt.Fprint(conn, "502 only STARTTLS here\r\n")
			continue
		}
		// Check for injected bytes after the command before sending the answer.
		secured, err := sslnet.ServerBuffered(conn, r, ctx, sslnet.RefuseLeftover)
		if err != nil {
			return err // *sslnet.LeftoverError
		}
		fmt.Fprint(conn, "220 go ahead\r\n")
		defer secured.Close()
		return serveOverTLS(bufio.NewReader(secured), secured) // forgets everything received in plain text
	}
}

// docs:end

// docs:begin
// secure asks a server for TLS and starts it.
func secure(conn net.Conn, name string, ctx *sslfilter.Ctx) (*sslnet.Conn, error) {
	fmt.Fprint(conn, "STARTTLS\r\n")
	r := bufio.NewReader(conn)
	answer, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(answer, "220 ") {
		return nil, fmt.Errorf("STARTTLS rejected: %q", answer)
	}
	secured, err := sslnet.ClientBuffered(conn, r, ctx, sslnet.RefuseLeftover)
	if err != nil {
		return nil, err
	}
	return secured, secured.SetServerName(name)
}

// docs:end

func serveOverTLS(r *bufio.Reader, w io.Writer) error {
	line, err := r.ReadString('\n')
	fmt.Fprintf(w, "250 %s", line)
	return err
}

func ExampleServerBuffered() {
	a, b := net.Pipe()
	go serveMail(b, must(sslfilter.NewCtx(testkit.Server())))
	conn, err := secure(a, "localhost", must(sslfilter.NewCtx(nameless())))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "NOOP\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	fmt.Printf("%q %v", line, err)
	// Output: "250 NOOP\r\n" <nil>
}

func ExampleClientBuffered() {
	a, b := net.Pipe()
	go func() {
		io.WriteString(b, "220 go ahead\r\n250 forged by somebody in between\r\n")
	}()
	go io.Copy(io.Discard, b)
	_, err := secure(a, "localhost", must(sslfilter.NewCtx(nameless())))
	fmt.Println(err)
	// Output: sslnet: 35 bytes of plaintext arrived before TLS began, as in a command injection (CVE-2011-0411)
}

func ExampleConn_Detach() {
	a, b := net.Pipe()
	conn := sslnet.Client(a, must(sslfilter.NewCtx(nameless())))
	conn.SetServerName("localhost")
	go func() {
		server := sslnet.Server(b, must(sslfilter.NewCtx(testkit.Server())))
		io.Copy(io.Discard, server) // until the client ends TLS
		plain := must(server.Detach())
		fmt.Fprintln(plain, "in plain text again")
		plain.Close()
	}()
	// docs:begin
	fmt.Fprintln(conn, "the last line over TLS")
	plain, err := conn.Detach() // sends close_notify and waits for the peer's
	if err != nil {
		log.Fatal(err)
	}
	defer plain.Close() // conn can no longer be used
	line, err := bufio.NewReader(plain).ReadString('\n')
	// docs:end
	fmt.Printf("%q %v", line, err)
	// Output: "in plain text again\n" <nil>
}

func ExampleListener_choose() {
	options := func(name string) sslfilter.Options {
		crt := testkit.Mint(new(testing.T), x509.Certificate{DNSNames: []string{name}})
		return sslfilter.Options{CrtMem: crt, Key: testkit.PKI("client.key")}
	}
	below := must(net.Listen("tcp", "127.0.0.1:0"))
	wwwOptions, mailOptions := options("www.example.org"), options("*.mail.example.org")
	// docs:begin
	www, err := sslfilter.NewCtx(wwwOptions) // its certificate is for www.example.org
	if err != nil {
		log.Fatal(err)
	}
	mail, err := sslfilter.NewCtx(mailOptions) // for *.mail.example.org
	if err != nil {
		log.Fatal(err)
	}
	names, err := sslfilter.NewNameMap(www, mail) // www also serves unknown names, and clients that send none
	if err != nil {
		log.Fatal(err)
	}
	listener := &sslnet.Listener{
		Listener: below,
		Choose: func(_ context.Context, _ net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
			return names.Choose(hello)
		},
	}
	// docs:end
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			name, _ := conn.(*sslnet.Conn).ChosenName()
			fmt.Fprintln(conn, "this is", name)
			conn.Close()
		}
	}()
	d := sslnet.Dialer{Ctx: must(sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: caFile, ServerName: "imap.mail.example.org"}))}
	conn := must(d.Dial("tcp", below.Addr().String()))
	defer conn.Close()
	io.Copy(os.Stdout, conn)
	// Output: this is imap.mail.example.org
}
