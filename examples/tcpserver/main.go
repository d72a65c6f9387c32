// Tcpserver is the second program of POE::Filter::SSL's man page: it greets each
// client, returns the first bytes that the client sends, and closes the connection.
// It gets its connections from an sslnet.Listener, as a program with crypto/tls gets
// them from tls.Listen.
// Without -crt and -key it makes certificates to try it with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/keylogfile"
	"github.com/seed-014b8713/sslfilter/internal/testpki"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

func main() {
	var o sslfilter.Options
	listen := flag.String("listen", "127.0.0.1:8443", "`address` to listen on; port 0 picks a free one")
	timeout := flag.Duration("timeout", 20*time.Second, "limit of the handshake of a client, and of the rest of its connection")
	flag.StringVar(&o.Crt, "crt", "", "certificate `file` of the server, PEM")
	flag.StringVar(&o.Key, "key", "", "`file` with the private key of -crt, PEM")
	flag.StringVar(&o.Cipher, "cipher", "", "OpenSSL cipher `list`")
	flag.BoolVar(&o.TLS12, "tls1_2", false, "use only TLS 1.2")
	keylogfile.Flag(flag.CommandLine, &o.KeyLog)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, *listen, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "tcpserver:", err)
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
	// docs:begin
	tls, err := sslfilter.NewCtx(o) // once, for all connections
	if err != nil {
		return err
	}
	defer tls.Close()
	below, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	l := &sslnet.Listener{Listener: below, Ctx: tls, HandshakeTimeout: timeout, HandshakeError: handshakeError}
	// docs:end
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	fmt.Println("tcpserver listens on", l.Addr())

	var visits sync.WaitGroup
	defer visits.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		visits.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			conn.SetDeadline(time.Now().Add(timeout))
			if err := serve(conn); err != nil {
				log.Printf("%v: %v", conn.RemoteAddr(), err)
			}
		})
	}
}

// handshakeError logs clients that never reach Accept.
func handshakeError(below net.Conn, err error) {
	log.Printf("%v: %v", below.RemoteAddr(), err)
}

// docs:begin
// serve handles one connection, which can be any net.Conn.
func serve(conn net.Conn) error {
	fmt.Println("got a connection from", conn.RemoteAddr())
	if _, err := io.WriteString(conn, "Smile from the server!\r\n"); err != nil {
		return err
	}
	input := make([]byte, 16<<10)
	n, err := conn.Read(input)
	if err != nil {
		return err // io.EOF: the client sent close_notify; io.ErrUnexpectedEOF: the connection was cut
	}
	_, err = fmt.Fprintf(conn, "You sent:\r\n%s", input[:n])
	return errors.Join(err, hangUp(conn))
}

// docs:end

// hangUp sends close_notify and waits a moment for the client to end the connection.
// Closing it with unread input would reset it, and the last data could be lost.
func hangUp(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(time.Second))
	if err := conn.(*sslnet.Conn).CloseWrite(); err != nil {
		return err
	}
	io.CopyN(io.Discard, conn, 1<<20) // the client may end it in any way
	return nil
}
