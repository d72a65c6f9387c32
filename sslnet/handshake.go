package sslnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/admission"
)

// DefaultHandshakeTimeout bounds the handshake of the connections of a Dialer or
// a Listener whose HandshakeTimeout is 0.
const DefaultHandshakeTimeout = 10 * time.Second

// ErrHandshakeTimeout is the error that a handshake wraps if it took longer than
// the HandshakeTimeout of its Dialer or Listener. It is a net.Error whose Timeout
// method returns true.
var ErrHandshakeTimeout error = handshakeTimeout{}

type handshakeTimeout struct{}

func (handshakeTimeout) Error() string   { return "TLS handshake timeout" }
func (handshakeTimeout) Timeout() bool   { return true }
func (handshakeTimeout) Temporary() bool { return true } // as in os.ErrDeadlineExceeded
func (handshakeTimeout) Unwrap() error   { return os.ErrDeadlineExceeded }

// ErrHandshakeDropped is passed to Listener.HandshakeError if the Listener dropped
// a slow handshake because MaxHandshakes was reached and other connections were
// waiting. See Listener.MaxHandshakes for the handshake that is chosen.
var ErrHandshakeDropped = errors.New("sslnet: handshake dropped: too slow, and other connections were waiting because MaxHandshakes was reached")

// errNothingReceived is the error of a server's handshake if the peer closes the
// connection without sending anything, as port scanners and health checks do.
var errNothingReceived = fmt.Errorf("the peer closed the connection before the handshake: %w", io.ErrUnexpectedEOF)

// The errors of missing or wrong arguments.
var (
	errNoCtx     = errors.New("sslnet: no Ctx")
	errNoContext = errors.New("sslnet: no context.Context")
	errNoConn    = errors.New("sslnet: no underlying connection")
	errNotClient = errors.New("sslnet: a client needs a Ctx with Options.Client set")
	errNotServer = errors.New("sslnet: a server needs a Ctx without Options.Client")
)

// handshake is the state of the handshake. The call that holds the turn uses it.
type handshake struct {
	turn
	timeout  time.Duration // if above 0, bounds the handshake from the first call on
	deadline time.Time     // start of the first call plus timeout
	err      error         // permanent error
	cut      atomic.Bool   // the connection was closed because it does not support deadlines
	first    []byte        // bytes of the peer that were read before the handshake
	choosing *choosing     // set by SetChoose and SetServerSessions

	store   *ServerSessions           // set by SetServerSessions and by a Listener
	offered []byte                    // id of the stored session that was offered to OpenSSL; guarded by Conn.mu
	ids     [][]byte                  // for SessionIDs; guarded by Conn.mu
	given   []sslfilter.StoredSession // new ones that are not stored yet
}

// SetServerName sets the server name that this connection verifies and sends as
// SNI. It must be called on a client, before the handshake.
func (c *Conn) SetServerName(name string) error {
	return c.nameServer("SetServerName", name, false)
}

// SetVerifiedName sets the server name that this connection verifies. The name
// that it sends is still Options.SNI. If Options.SNI is empty, SetVerifiedName does
// the same as SetServerName. It must be called on a client, before the handshake.
func (c *Conn) SetVerifiedName(name string) error {
	return c.nameServer("SetVerifiedName", name, true)
}

func (c *Conn) nameServer(op, name string, verify bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.client:
		return &sslfilter.UsageError{Op: op, Msg: "this is a server"}
	case c.filter != nil:
		return nameFilter(c.filter, name, verify)
	}
	c.name, c.verify = name, verify
	return nil
}

func nameFilter(f *sslfilter.Filter, name string, verify bool) error {
	if verify {
		return f.SetVerifiedName(name)
	}
	return f.SetServerName(name)
}

// SetALPN sets the protocols that this connection offers, in place of
// Options.ALPN. There must be at least one. SetALPN must be called on a client,
// before the handshake.
func (c *Conn) SetALPN(protocols ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.client:
		return &sslfilter.UsageError{Op: "SetALPN", Msg: "this is a server"}
	case c.filter != nil:
		return c.filter.SetALPN(protocols...)
	case len(protocols) == 0:
		return &sslfilter.UsageError{Op: "SetALPN", Msg: "no protocol is given"}
	}
	c.protocols = protocols
	return nil
}

// Handshake does the handshake if it is not done. Read and Write do so too.
func (c *Conn) Handshake() error { return c.HandshakeContext(context.Background()) }

// HandshakeContext does the handshake if it is not done. If ctx ends first,
// HandshakeContext returns the error of ctx. After that, or after a timeout of a
// deadline, the next call continues the handshake. Any other error is permanent.
//
// Both the read and the write deadline end HandshakeContext. A handshake in a Read
// is ended by the read deadline only, and one in a Write by the write deadline.
func (c *Conn) HandshakeContext(ctx context.Context) error {
	return c.ensure(ctx, handshakeCall)
}

// ensure does the handshake if it is not done.
func (c *Conn) ensure(ctx context.Context, by call) error {
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case c.ready.Load():
		return nil
	case c.conn == nil:
		return errNoConn
	case ctx == nil:
		return errNoContext
	}
	h := &c.handshake
	if err := c.lock(ctx, h.turn, by); err != nil {
		return err
	}
	defer h.unlock()
	switch {
	case c.ready.Load():
		return nil
	case h.err != nil:
		return h.err
	}
	if h.timeout > 0 && h.deadline.IsZero() {
		h.deadline = time.Now().Add(h.timeout)
	}
	err := c.interruptible(ctx, by, h.deadline)
	late := isTimeout(err) || h.cut.Load()
	if err != nil {
		c.handshakeFailed(ctx, err)
	}
	if errors.As(err, new(*sslfilter.ServerNameError)) {
		h.err = err // even if it is a timeout of the function that chooses
	}
	switch {
	case err == nil:
		if len(h.given) > 0 && h.store.over == nil {
			go h.store.save(c, h.take())
		}
		return nil
	case c.closed.Load():
		return net.ErrClosed
	case late && ctx.Err() != nil:
		return ctx.Err()
	case late && passed(h.deadline):
		h.err = c.opError("handshake", ErrHandshakeTimeout)
		return h.err
	case isTimeout(err), errors.As(err, new(*sslfilter.UsageError)):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = c.opError("handshake", err)
	}
	h.err = err
	return err
}

// interruptible does the handshake. It stops at limit, at the deadline for calls of the
// kind by, and when ctx ends. A connection that does not support deadlines, such as an
// SSH channel, is closed at limit or at the end of ctx.
func (c *Conn) interruptible(ctx context.Context, by call, limit time.Time) error {
	err := c.limits.restrict(c.conn, by, limit)
	defer c.limits.free(c.conn)
	if err != nil && !limit.IsZero() {
		defer time.AfterFunc(time.Until(limit), c.cut).Stop()
	}
	if ctx.Done() != nil {
		over := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(over)
			if c.limits.shorten(c.conn, aLongTimeAgo) != nil {
				c.cut()
			}
		})
		defer func() {
			if !stop() {
				<-over
			}
		}()
	}
	if c.handshake.choosing != nil {
		c.handshake.choosing.parent = ctx
	}
	return c.exchange(admission.SlotFrom(ctx))
}

// exchange sends and receives messages until the handshake is done. slot may be
// nil.
func (c *Conn) exchange(slot *admission.Slot) error {
	c.in.lock()
	defer c.in.unlock()
	if err := c.check(); err != nil {
		return err
	}
	if c.client {
		if err := c.begin(); err != nil {
			return err
		}
	}
	for {
		if done, err := c.advance(); done || err != nil {
			return err
		}
		var err error
		if first := c.handshake.first; len(first) > 0 {
			c.handshake.first = nil
			err = c.digest(first, nil)
		} else {
			slot.StartWait()
			wire, netErr := c.readWire()
			slot.EndWait()
			err = c.digest(wire, netErr)
			putWire(wire)
		}
		if err != nil {
			return err
		}
	}
}

// check returns an error if there is no Ctx or it is for the other role.
func (c *Conn) check() error {
	switch {
	case c.handshake.choosing != nil && c.handshake.choosing.choose != nil:
		return nil
	case c.ctx == nil:
		return errNoCtx
	case c.client && !c.ctx.Client():
		return errNotClient
	case !c.client && c.ctx.Client():
		return errNotServer
	}
	return nil
}

// begin makes the filter, and starts the handshake of a client. A server calls it
// after the first bytes have arrived, so that a peer that sends nothing needs no C
// memory.
func (c *Conn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	if err := c.prepare(); err != nil {
		return err
	}
	if c.client {
		c.offerSession()
	}
	return c.filter.Handshake()
}

// prepare makes the filter if there is none. The caller holds mu, unless nobody else
// has c yet.
func (c *Conn) prepare() error {
	if c.filter != nil {
		return nil
	}
	if c.handshake.choosing != nil {
		c.filter = sslfilter.NewServerFilter(c.choose)
		return c.filter.Err()
	}
	f, err := c.ctx.NewFilter()
	if err == nil && c.name != "" {
		err = nameFilter(f, c.name, c.verify)
	}
	if err == nil && len(c.protocols) > 0 {
		err = f.SetALPN(c.protocols...)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return err
	}
	c.filter = f
	return nil
}

// advance sends what is ready for the network, and reports whether the handshake
// is done.
func (c *Conn) advance() (done bool, err error) {
	c.mu.Lock()
	begun := c.filter != nil
	done = begun && c.filter.HandshakeDone()
	if done {
		c.collect() // before ready is set
	}
	if done && !c.client && c.filter.State().Version == sslfilter.VersionTLS13 {
		// Only session tickets are left to send. They go out together with the
		// next data. If they were sent now, a client that only writes would not
		// read them before it closes, and TCP would then discard what it wrote.
		// Over net.Pipe, it could not write before it has read them.
		c.out.wire = c.filter.Outgoing(nil)
		c.mu.Unlock()
		c.ready.Store(true)
		if c.in.err != nil { // an alert may have to be sent
			c.flushLater()
		}
		return true, nil
	}
	c.mu.Unlock()
	if !begun {
		return false, nil
	}
	if err := c.flush(); err != nil {
		return false, c.explain(err)
	}
	if done {
		c.ready.Store(true)
	}
	return done, nil
}

// digest passes input from the network to the filter. If the handshake fails, it
// sends the alert.
func (c *Conn) digest(wire []byte, netErr error) error {
	if !c.client && len(wire) > 0 {
		if err := c.begin(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	begun := c.filter != nil
	c.mu.Unlock()
	if !begun { // the network ended before the first byte
		if netErr == io.EOF {
			return errNothingReceived
		}
		return netErr
	}
	plain, done, err := c.take(wire, netErr)
	switch {
	case done: // data and errors after the handshake are for Read
		c.in.keep(plain)
		c.in.err = err
		return nil
	case err != nil:
		c.limits.shorten(c.conn, time.Now().Add(closeTimeout))
		c.refused.Store(c.flush() == nil)
		return err
	}
	return c.timeout(netErr)
}

// take passes input to the filter, and reports whether the handshake is done. It
// also unlocks mu if a ChooseFunc panics.
func (c *Conn) take(wire []byte, netErr error) (plain []byte, done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	plain, err = c.receive(nil, wire, netErr)
	return plain, c.filter.HandshakeDone(), err
}

// explain replaces the error of a failed write by the peer's alert, if one arrived
// before the connection broke.
func (c *Conn) explain(err error) error {
	if isTimeout(err) {
		return err
	}
	c.limits.shorten(c.conn, time.Now().Add(closeTimeout))
	wire, _ := c.readWire()
	defer putWire(wire)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, why := c.filter.Receive(nil, wire); why != nil && why != io.EOF {
		return why
	}
	return err
}
