package sslnet

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/seed-014b8713/sslfilter"
)

// Dial connects to addr, does the handshake and verifies the server. The name
// that is verified is that of Options.ServerName or Options.SNI, and else the
// host of addr. The handshake is bounded by DefaultHandshakeTimeout; a Dialer
// has more to set.
func Dial(network, addr string, ctx *sslfilter.Ctx) (*Conn, error) {
	d := Dialer{Ctx: ctx}
	return d.dial(context.Background(), network, addr)
}

// Dialer makes connections, as crypto/tls's Dialer does. Its fields may not be
// changed while it is in use; its methods are safe for concurrent use.
type Dialer struct {
	// Ctx is that of a client. It must be set.
	Ctx *sslfilter.Ctx
	// NetDialer makes the connections below. Default: a zero net.Dialer.
	NetDialer *net.Dialer
	// HandshakeTimeout bounds the handshake. Default: DefaultHandshakeTimeout.
	// Below 0 there is no bound of its own.
	HandshakeTimeout time.Duration
}

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialContext connects to addr, does the handshake and verifies the server, as
// the function Dial does. The net.Conn is a *Conn. Once the connection is made,
// the end of ctx does not concern it.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err // no nil *Conn in the interface
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

// Client makes a TLS connection over below, which leads to addr: through a proxy,
// for example. It does the handshake and verifies the server as DialContext
// does; NetDialer does not count. If protocols are given, they are offered in
// place of Options.ALPN. After an error below is closed.
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

// located adds the addresses to an error of the handshake that has none.
func (c *Conn) located(err error) error {
	var op *net.OpError
	switch {
	case errors.As(err, &op):
		if err != op || op.Op == "handshake" {
			return err
		}
		located := *op // of a Read or Write
		located.Op = "handshake"
		return &located
	case errors.As(err, new(*sslfilter.UsageError)),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return c.opError("handshake", err)
}

// handshakeTimeoutOr is d or its default.
func handshakeTimeoutOr(d time.Duration) time.Duration {
	if d == 0 {
		return DefaultHandshakeTimeout
	}
	return d
}
