package sslnet

import (
	"context"
	"net"
	"time"

	"github.com/seed-014b8713/sslfilter"
)

// ChooseFunc chooses the context of a server's connection by the ClientHello. It is
// called once in each handshake, when the ClientHello has arrived. conn is the
// underlying connection, for its addresses: ChooseFunc must not read, write or close
// it.
//
// ChooseFunc may do I/O, for example to load a certificate. It delays only its own
// connection. Close of the Listener waits until all ChooseFuncs have returned, so a
// slow one must return when ctx ends. ctx ends with the handshake: at its deadline, at
// the end of the Context of HandshakeContext, and at Close of the Conn or the Listener.
// If the result is an error or a nil Ctx, the client gets the alert unrecognized_name.
type ChooseFunc = func(ctx context.Context, conn net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error)

// SetChoose makes this server choose its context by the ClientHello. The context
// that Server or ServerBuffered got is then not used and may be nil. SetChoose must
// be called on a server before the handshake.
func (c *Conn) SetChoose(choose ChooseFunc) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	const op = "SetChoose"
	switch {
	case c.client:
		return &sslfilter.UsageError{Op: op, Msg: "this is a client"}
	case c.filter != nil:
		return &sslfilter.UsageError{Op: op, Msg: "the handshake has begun"}
	case choose == nil:
		return &sslfilter.UsageError{Op: op, Msg: "choose is nil"}
	}
	c.handshake.choosing = &choosing{choose: choose}
	return nil
}

// choosing is the state of a connection with a ChooseFunc.
type choosing struct {
	choose ChooseFunc         // nil: the Ctx does not depend on the ClientHello
	parent context.Context    // of the call that does the handshake
	cancel context.CancelFunc // ends the Context of choose while that is running; guarded by Conn.mu
	name   string             // the server name that choose got
}

// ChosenName returns the server name by which a ChooseFunc has chosen the context of
// this connection; it is empty if the client sent none. chosen is false without a
// ChooseFunc, and until the handshake is done. It is the name in the ClientHello of
// this connection, even if a session is resumed.
func (c *Conn) ChosenName() (name string, chosen bool) {
	if h := c.handshake.choosing; h != nil && h.choose != nil && c.ready.Load() {
		return h.name, true
	}
	return "", false
}

// choose is called by the filter. Its caller holds mu, which must be free while the
// program chooses: Close needs it.
func (c *Conn) choose(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
	h := c.handshake.choosing
	ctx, cancel := context.WithCancel(h.parent)
	defer cancel()
	if limit := c.limits.current(); !limit.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, limit)
		defer stop()
	}
	h.cancel, h.name = cancel, hello.ServerName
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		h.cancel = nil
	}()
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	chosen := c.ctx
	if h.choose != nil {
		var err error
		if chosen, err = h.choose(ctx, c.conn, hello); err != nil || chosen == nil {
			return nil, err
		}
	}
	if store := c.handshake.store; store != nil && chosen.StoresSessions() {
		store.load(ctx, c, chosen, hello)
	}
	return chosen, nil
}

// stopChoosing ends the Context of a ChooseFunc that is running.
func (c *Conn) stopChoosing() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.handshake.choosing; h != nil && h.cancel != nil {
		h.cancel()
	}
}

// current returns the deadline that applies to the underlying connection during a
// handshake.
func (d *deadlines) current() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return earlier(d.of(d.by), d.limit)
}
