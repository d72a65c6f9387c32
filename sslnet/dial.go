package sslnet

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/seed-014b8713/sslfilter"
)

// Dial connects to addr, does the handshake and verifies the server. It verifies
// the name in Options.ServerName or Options.SNI, or the host of addr if both are
// empty. The handshake is bounded by DefaultHandshakeTimeout. Use a Dialer to set
// other bounds.
//
// In TLS 1.3 the client's handshake is done before the server verifies the
// client's certificate. If the server rejects it, Dial succeeds and the first Read
// returns the error.
func Dial(network, addr string, ctx *sslfilter.Ctx) (*Conn, error) {
	d := Dialer{Ctx: ctx}
	return d.dial(context.Background(), network, addr)
}

// Dialer makes TLS connections, like the Dialer of crypto/tls. Its fields must not
// be changed while it is in use. Its methods are safe for concurrent use.
type Dialer struct {
	// Ctx is the context of a client. It must be set.
	Ctx *sslfilter.Ctx
	// NetDialer makes the underlying connections. Default: a zero net.Dialer.
	NetDialer *net.Dialer
	// HandshakeTimeout bounds the handshake. Default: DefaultHandshakeTimeout. If
	// it is negative, only the context and the deadlines bound the handshake.
	HandshakeTimeout time.Duration
}

// Dial is DialContext with the background context.
func (d *Dialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialContext connects to addr, does the handshake and verifies the server, like
// the function Dial. The net.Conn is a *Conn. After DialContext has returned, the
// end of ctx does not affect the connection.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err // not a nil *Conn in a net.Conn that is not nil
	}
	return conn, nil
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (*Conn, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	dialer := d.NetDialer
	if dialer == nil {
		dialer = new(net.Dialer)
	}
	below, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return d.Client(ctx, below, addr)
}

// Client makes a TLS connection over below, an existing connection to addr, for
// example through a proxy. It does the handshake and verifies the server as
// DialContext does. It does not use NetDialer. If there are protocols, they are
// offered in place of Options.ALPN. Client closes below if it fails.
func (d *Dialer) Client(ctx context.Context, below net.Conn, addr string, protocols ...string) (*Conn, error) {
	if below == nil {
		return nil, errNoConn
	}
	if err := d.check(ctx); err != nil {
		below.Close()
		return nil, err
	}
	c := Client(below, d.Ctx)
	c.handshake.timeout = handshakeTimeoutOr(d.HandshakeTimeout)
	c.protocols = protocols
	if d.Ctx.ServerName() == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			c.name = host
		}
	}
	if err := c.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, c.located(err)
	}
	return c, nil
}

func (d *Dialer) check(ctx context.Context) error {
	switch {
	case ctx == nil:
		return errNoContext
	case d.Ctx == nil:
		return errNoCtx
	case !d.Ctx.Client():
		return errNotClient
	}
	return nil
}

// located adds the addresses to an error of the handshake that does not have them.
func (c *Conn) located(err error) error {
	var op *net.OpError
	switch {
	case errors.As(err, &op):
		if err != op || op.Op == "handshake" {
			return err
		}
		located := *op // an error of Read or Write
		located.Op = "handshake"
		return &located
	case errors.As(err, new(*sslfilter.UsageError)),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return c.opError("handshake", err)
}

// handshakeTimeoutOr returns d, or DefaultHandshakeTimeout if d is 0.
func handshakeTimeoutOr(d time.Duration) time.Duration {
	if d == 0 {
		return DefaultHandshakeTimeout
	}
	return d
}
