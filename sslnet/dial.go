package sslnet

import (
	"context"
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
	dialer := d.NetDialer
	if dialer == nil {
		dialer = new(net.Dialer)
	}
	below, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := Client(below, d.Ctx)
	c.handshake.timeout = handshakeTimeoutOr(d.HandshakeTimeout)
	if d.Ctx != nil && d.Ctx.Client() && d.Ctx.ServerName() == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			c.name = host
		}
	}
	if err := c.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// handshakeTimeoutOr is d or its default.
func handshakeTimeoutOr(d time.Duration) time.Duration {
	if d == 0 {
		return DefaultHandshakeTimeout
	}
	return d
}
