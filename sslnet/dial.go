package sslnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/sessions"
)

// Dial connects to addr, does the handshake and verifies the server. It verifies
// the name in Options.ServerName or Options.SNI, or the host of addr if both are
// empty. The handshake is bounded by DefaultHandshakeTimeout. Use a Dialer to set
// other bounds.
//
// If the host of addr is verified, it must be ASCII: "bücher.example" is an error; use
// its A-label "xn--bcher-kva.example".
//
// In TLS 1.3 the client's handshake is done before the server verifies the
// client's certificate. If the server rejects it, Dial succeeds and the first Read
// returns the error.
func Dial(network, addr string, ctx *sslfilter.Ctx) (*Conn, error) {
	d := Dialer{Ctx: ctx}
	return d.dial(context.Background(), network, addr)
}

// Dialer makes TLS connections, like the Dialer of crypto/tls. Its fields must not
// be changed while it is in use; SetCtx can replace Ctx. Its methods are safe for
// concurrent use.
type Dialer struct {
	// Ctx is the context of a client. It must be set. SetCtx can replace it later.
	Ctx *sslfilter.Ctx
	// NetDialer makes the underlying connections. Default: a zero net.Dialer.
	NetDialer *net.Dialer
	// HandshakeTimeout bounds the handshake. Default: DefaultHandshakeTimeout. If
	// it is negative, only the context and the deadlines bound the handshake.
	HandshakeTimeout time.Duration
	// Sessions keeps the sessions that servers give, so that later connections
	// resume them. Dialers can share one. Default: no session is resumed, except by
	// a sslhttp.Transport, which then has a cache of its own.
	Sessions SessionCache

	replaced atomic.Pointer[sslfilter.Ctx] // set by SetCtx
}

// noCtx stands for a nil argument of SetCtx.
var noCtx = new(sslfilter.Ctx)

// SetCtx replaces Ctx for new connections, for example because the client
// certificate has been renewed. It may be called at any time, from any goroutine.
// Established connections and handshakes in progress continue with the old Ctx, and
// so does a sslhttp.Transport for the requests that it is sending.
//
// The Dialer closes neither Ctx. After SetCtx has returned, the caller may close
// the old one, even while connections are being made: a connection that exists
// keeps what it needs of its Ctx, and the Dialer uses the new one for all others.
// A Ctx that is not closed is freed when it is no longer used. After SetCtx(nil),
// the Dialer makes no connections.
func (d *Dialer) SetCtx(ctx *sslfilter.Ctx) {
	if ctx == nil {
		ctx = noCtx
	}
	d.replaced.Store(ctx)
}

// CurrentCtx returns the Ctx of new connections: the one that SetCtx was last called
// with, or else the field Ctx.
func (d *Dialer) CurrentCtx() *sslfilter.Ctx {
	switch ctx := d.replaced.Load(); ctx {
	case nil:
		return d.Ctx
	case noCtx:
		return nil
	default:
		return ctx
	}
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
	if d.CurrentCtx().ServerName() == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil && strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return nil, fmt.Errorf("sslnet: the host name %q is not ASCII: give its A-label, which begins with xn-- (RFC 5890)", host)
		}
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
	c, err := d.begin(below, addr, protocols)
	if err != nil {
		below.Close()
		return nil, err
	}
	if d.Sessions != nil {
		c.useSessions(d.Sessions)
	} else {
		c.useSessions(sessions.From(ctx))
	}
	if err := c.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, c.located(err)
	}
	return c, nil
}

// begin makes a Conn and its filter. If SetCtx replaces the Ctx and the caller then
// closes the old one before the filter is made, begin uses the new Ctx.
func (d *Dialer) begin(below net.Conn, addr string, protocols []string) (*Conn, error) {
	for {
		ctx := d.CurrentCtx()
		c := Client(below, ctx)
		c.handshake.timeout = handshakeTimeoutOr(d.HandshakeTimeout)
		c.protocols = protocols
		if err := c.check(); err != nil {
			return nil, err
		}
		if ctx.ServerName() == "" {
			if host, _, err := net.SplitHostPort(addr); err == nil {
				c.name = host
			}
		}
		err := c.prepare()
		if err == nil || !errors.Is(err, sslfilter.ErrClosed) || d.CurrentCtx() == ctx {
			return c, err
		}
	}
}

func (d *Dialer) check(ctx context.Context) error {
	if ctx == nil {
		return errNoContext
	}
	return (&Conn{ctx: d.CurrentCtx(), client: true}).check()
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
