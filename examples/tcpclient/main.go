// Tcpclient is the first program of POE::Filter::SSL's man page: it connects, sends
// a line, and prints the answer of the server until the server ends the connection.
// As in the original, it is a wheel with one filter, and it puts the line before the
// handshake is done. Unlike the original, it rejects a server that cannot prove its
// name.
//
//	tcpclient -connect www.example.org:443
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/keylogfile"
	"github.com/seed-014b8713/sslfilter/wheel"
)

func main() {
	o := sslfilter.Options{Client: true}
	c := client{out: os.Stdout}
	flag.StringVar(&c.addr, "connect", "", "`host:port` of the server")
	flag.StringVar(&c.text, "put", "HEAD / HTTP/1.0\r\n\r\n", "`text` to send (the text in the man page lacks the HTTP version)")
	flag.DurationVar(&c.timeout, "timeout", 30*time.Second, "limit of the whole run")
	flag.StringVar(&o.CACrt, "cacrt", "", "`file` with the CAs that the server is verified against (default: the CAs of the system); all files are PEM")
	flag.StringVar(&o.Crt, "crt", "", "`file` with a client certificate")
	flag.StringVar(&o.Key, "key", "", "`file` with the private key of -crt")
	flag.StringVar(&o.SNI, "sni", "", "server `name` to send and to verify (default: the host of -connect)")
	flag.StringVar(&o.Cipher, "cipher", "", "OpenSSL cipher `list`")
	flag.BoolVar(&o.TLS12, "tls1_2", false, "use only TLS 1.2")
	flag.BoolVar(&o.InsecureSkipVerify, "insecureskipverify", false, "accept any server, as the original does; an attacker can then impersonate it")
	keylogfile.Flag(flag.CommandLine, &o.KeyLog)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "tcpclient:", err)
		os.Exit(1)
	}
}

type client struct {
	addr, text string
	timeout    time.Duration
	out        io.Writer

	ending bool  // nothing more is read
	broken bool  // nothing more is written
	err    error // why, unless the server ended it
}

// run does the whole conversation.
func (c *client) run(ctx context.Context, o sslfilter.Options) error {
	host, _, err := net.SplitHostPort(c.addr)
	if err != nil {
		return fmt.Errorf("-connect: %w", err)
	}
	o.SNI = cmp.Or(o.SNI, host)
	stack, err := tlsStack(o)
	if err != nil {
		return err
	}
	defer stack.Close()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() {
		conn.SetReadDeadline(time.Now())
		conn.SetWriteDeadline(time.Now().Add(time.Second)) // for close_notify
	})()

	// docs:begin
	w, err := wheel.New(conn, stack, wheel.Events{
		Input:   func(_ *wheel.ReadWrite, rec any) { fmt.Fprintf(c.out, "from server: %s\n", rec) },
		Error:   c.ended,
		Flushed: c.flushed,
	})
	if err != nil {
		return err
	}
	w.Put(c.text) // waits for the handshake
	w.Wait()      // until flushed or ended calls Close
	// docs:end
	if c.err != nil && ctx.Err() != nil {
		return fmt.Errorf("%s: %w", c.addr, context.Cause(ctx))
	}
	return c.err
}

// docs:begin
// tlsStack is POE's Filter => ["POE::Filter::SSL", client => 1].
func tlsStack(o sslfilter.Options) (*filter.Stack, error) {
	tls, err := sslfilter.New(o)
	if err != nil {
		return nil, err
	}
	stack := filter.NewStack(filter.Stream{})
	if err := stack.Push(tls); err != nil {
		return nil, errors.Join(err, tls.Close())
	}
	return stack, nil
}

// docs:end

// ended handles the end of reading or writing. io.EOF is the server's close_notify.
// A connection that ends without it was truncated.
func (c *client) ended(w *wheel.ReadWrite, op string, err error) {
	if err != io.EOF && !c.ending {
		c.err = fmt.Errorf("%s: %s: %w", c.addr, op, err)
	}
	var network net.Error
	switch {
	case op == wheel.OpWrite && !c.ending:
		c.broken = true // an alert that arrives may explain it
	case op == wheel.OpWrite || c.broken || errors.As(err, &network):
		w.Close()
	default:
		c.ending = true
		w.ShutdownOutput() // our close_notify, or our alert, leaves first
	}
}

// flushed is called when everything has been written.
func (c *client) flushed(w *wheel.ReadWrite) {
	if c.ending {
		w.Close()
	}
}
