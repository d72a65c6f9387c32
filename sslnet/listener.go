package sslnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/accept"
	"github.com/seed-014b8713/sslfilter/internal/admission"
)

// Listen listens for TLS connections at addr. It returns a *Listener with default
// settings.
func Listen(network, addr string, ctx *sslfilter.Ctx) (net.Listener, error) {
	if err := serves(ctx); err != nil {
		return nil, err
	}
	below, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	return NewListener(below, ctx), nil
}

// serves returns an error if no handshake of a server can succeed with ctx, because
// it is nil, a client's, zero or closed. Without this check, every handshake would
// fail with no visible reason.
func serves(ctx *sslfilter.Ctx) error {
	switch {
	case ctx == nil:
		return errNoCtx
	case ctx.Client():
		return errNotServer
	}
	f, err := ctx.NewFilter()
	if err != nil {
		return fmt.Errorf("sslnet: Ctx: %w", err)
	}
	return f.Close()
}

// NewListener returns a listener for TLS over the connections that below accepts.
// It is a *Listener with default settings.
func NewListener(below net.Listener, ctx *sslfilter.Ctx) net.Listener {
	return &Listener{Listener: below, Ctx: ctx}
}

// Listener accepts TLS connections and does their handshakes. Unlike the listener
// of crypto/tls, its Accept returns a connection after the handshake is done.
// Therefore a peer that is slow or is not a TLS client neither delays others nor
// reaches the caller, the number of handshakes in progress is bounded in one
// place, and ConnectionState, which net/http examines before it reads, is complete
// from the start. For a handshake in the first Read, use a net.Listener and call
// Server with its connections.
//
// The first Accept starts a goroutine that accepts connections, and each handshake
// runs in a goroutine of its own. Close ends them all. The fields must not be
// changed after the first Accept.
type Listener struct {
	// Listener accepts the underlying connections. It must be set.
	net.Listener
	// Ctx is the context of a server. It must be set, unless Choose is. SetCtx can
	// replace it later.
	Ctx *sslfilter.Ctx
	// Choose chooses the context of each connection by its ClientHello, for example
	// with the Choose method of a NameMap. Ctx and SetCtx are then not used.
	// Default: Ctx serves all connections.
	Choose ChooseFunc
	// HandshakeTimeout bounds each handshake, including the wait for its first
	// byte. Default: DefaultHandshakeTimeout. If it is negative, there is no bound.
	HandshakeTimeout time.Duration
	// MaxHandshakes bounds the number of connections whose handshake is in progress
	// or that are ready for Accept. Further connections wait in the kernel's queue
	// until one of these is finished or dropped. A handshake can be dropped once the
	// Listener has waited for its peer for a second in all. The Listener chooses the
	// oldest such handshake of the address that has the most connections here (an
	// IPv6 /64 counts as one address). Therefore peers that send nothing, or a byte
	// now and then, do not lock out others. A peer that has sent nothing holds a
	// goroutine but no C memory. Default: DefaultMaxHandshakes.
	MaxHandshakes int
	// HandshakeError is called with the error of each handshake that failed and the
	// underlying connection, in the goroutine of that handshake. The Listener closes
	// the connection afterwards. HandshakeError may call Close of the Listener. If
	// the client sent a certificate, err wraps an *sslfilter.Error whose Peer
	// describes it; see the WARNING at sslfilter.Error.
	// Default: nothing is called. Options.ErrorHandler is called for TLS errors in
	// any case.
	HandshakeError func(below net.Conn, err error)
	// Sessions stores the sessions of a Ctx with Options.StatefulSessions. A Listener
	// with Sessions reads the ClientHello first, as with Choose. Default: such
	// sessions are not stored, and never resumed.
	Sessions SessionStore
	// SessionTimeout bounds the time that Sessions may delay a handshake, and the
	// time for storing a session. Default: DefaultSessionTimeout.
	SessionTimeout time.Duration
	// SessionError is called with each error of Sessions, in the goroutine of the
	// handshake. The connection continues, with a full handshake if necessary. It must
	// not call Close, which waits for the handshakes.
	// Default: the error is only counted; see SessionStats.
	SessionError func(below net.Conn, err error)

	once  sync.Once
	start sync.Once
	state *accepting
}

// DefaultMaxHandshakes is the default of Listener.MaxHandshakes.
const DefaultMaxHandshakes = 1024

// accepting is what the goroutines of a Listener share.
type accepting struct {
	ctx    atomic.Pointer[sslfilter.Ctx]
	ready  chan *Conn
	queue  *admission.Queue
	closed chan struct{}
	over   context.Context // ends when closed is closed
	end    context.CancelFunc
	failed chan struct{} // closed when err is set
	err    error
	wait   sync.WaitGroup

	sessions ServerSessions

	mu   sync.Mutex
	done bool
	open map[*Conn]struct{} // connections whose handshake is in progress
}

func (l *Listener) init() *accepting {
	l.once.Do(func() {
		n := l.MaxHandshakes
		if n <= 0 {
			n = DefaultMaxHandshakes
		}
		l.state = &accepting{
			ready: make(chan *Conn), queue: admission.New(n),
			closed: make(chan struct{}), failed: make(chan struct{}),
			open: make(map[*Conn]struct{}),
		}
		l.state.over, l.state.end = context.WithCancel(context.Background())
		l.state.ctx.CompareAndSwap(nil, l.Ctx)
	})
	return l.state
}

// SetCtx replaces Ctx for new connections, for example to change certificates. It
// may be called at any time, from any goroutine. Do not Close the old Ctx before
// its handshakes are finished; it does not need to be closed at all.
func (l *Listener) SetCtx(ctx *sslfilter.Ctx) { l.init().ctx.Store(ctx) }

// Accept returns the next connection whose handshake is done, a *Conn. It retries
// after a temporary error of the underlying listener, such as a lack of file
// descriptors. After any other error of that listener it returns the connections
// that are ready, and then always the error. After Close it returns net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	a := l.init()
	switch {
	case l.Listener == nil:
		return nil, errors.New("sslnet: Listener without an underlying net.Listener")
	case l.Choose == nil && a.ctx.Load() == nil:
		return nil, errNoCtx
	}
	l.start.Do(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.done {
			return
		}
		if l.Choose == nil {
			a.err = serves(a.ctx.Load())
		}
		if a.err != nil {
			close(a.failed)
			return
		}
		s := &a.sessions
		s.Store, s.Timeout, s.Error, s.over = l.Sessions, l.SessionTimeout, l.SessionError, a.over
		a.wait.Add(1)
		go l.run(a)
	})
	select {
	case <-a.closed:
		return nil, l.closedError()
	default:
	}
	select {
	case c := <-a.ready:
		return c, nil
	default:
	}
	select {
	case c := <-a.ready:
		return c, nil
	case <-a.closed:
		return nil, l.closedError()
	case <-a.failed:
		return nil, a.err
	}
}

func (l *Listener) closedError() error {
	e := &net.OpError{Op: "accept", Addr: l.Addr(), Err: net.ErrClosed}
	if e.Addr != nil {
		e.Net = e.Addr.Network()
	}
	return e
}

// Addr returns the address of the underlying listener, or nil if there is none.
func (l *Listener) Addr() net.Addr {
	if l.Listener == nil {
		return nil
	}
	return l.Listener.Addr()
}

// Close closes the underlying listener, ends the handshakes in progress and closes
// the connections that Accept has not returned. It returns after that is done, but
// does not wait for calls of HandshakeError in progress, because HandshakeError
// may call Close. Options.ErrorHandler must not call Close, because it runs in the
// middle of a handshake.
func (l *Listener) Close() error {
	a := l.init()
	a.mu.Lock()
	first := !a.done
	if first {
		a.done = true
		close(a.closed)
		a.end()
		for c := range a.open {
			a.wait.Go(func() { c.conn.Close() }) // may take a while, like Close of a *Conn
		}
	}
	a.mu.Unlock()
	var err error
	if l.Listener != nil {
		err = l.Listener.Close()
	}
	a.wait.Wait()
	return err
}

// run accepts connections until the listener fails or is closed. It calls nothing
// that waits for a peer. RemoteAddr can do so: an underlying connection may read
// its address from the first bytes of the peer.
func (l *Listener) run(a *accepting) {
	defer a.wait.Done()
	for {
		below, err := accept.Next(l.Listener, a.closed, temporary)
		if err != nil {
			a.err = err
			close(a.failed)
			return
		}
		c := Server(below, a.ctx.Load())
		c.handshake.timeout = handshakeTimeoutOr(l.HandshakeTimeout)
		if l.Choose != nil {
			c.SetChoose(l.choose)
		}
		if l.Sessions != nil {
			c.SetServerSessions(&a.sessions)
		}
		if !a.add(c) {
			below.Close()
			return
		}
		var addr net.Addr
		tcp, known := below.(*net.TCPConn)
		if known {
			addr = tcp.RemoteAddr()
		}
		slot := a.queue.Acquire(a.closed, addr, func() { a.wait.Go(func() { below.Close() }) })
		if slot == nil {
			a.remove(c)
			a.wait.Done()
			return
		}
		go l.serve(a, c, slot, known)
	}
}

// choose calls Choose with a Context that also ends at Close.
func (l *Listener) choose(ctx context.Context, below net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.state.over, cancel)()
	return l.Choose(ctx, below, hello)
}

// temporary reports whether an error of Accept is temporary, as net/http does.
func temporary(err error, _ time.Duration) bool {
	var e interface{ Temporary() bool }
	return errors.As(err, &e) && e.Temporary()
}

// add registers a connection with Close. It reports false if Close was called.
func (a *accepting) add(c *Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return false
	}
	a.open[c] = struct{}{}
	a.wait.Add(1)
	return true
}

// remove undoes add, and reports whether Close has not been called.
func (a *accepting) remove(c *Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, c)
	return !a.done
}

// again makes Close wait for this goroutine again. It reports false if Close was
// called.
func (a *accepting) again() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.done {
		a.wait.Add(1)
	}
	return !a.done
}

// serve does the handshake and passes the connection to Accept. known says that
// the slot has the peer's address.
func (l *Listener) serve(a *accepting, c *Conn, slot *admission.Slot, known bool) {
	if !known {
		c.identify(slot)
	}
	err := c.HandshakeContext(admission.WithSlot(context.Background(), slot))
	if !slot.Keep() {
		err = ErrHandshakeDropped
	}
	open := a.remove(c)
	if err == nil {
		defer a.wait.Done()
		sessions := c.handshake.take()
		select {
		case a.ready <- c:
			slot.Release() // a slow store keeps no other client waiting
			a.sessions.save(c, sessions)
		case <-a.closed:
			c.Close()
			slot.Release()
		}
		return
	}
	defer slot.Release()
	waited := true
	if open && l.HandshakeError != nil {
		a.wait.Done() // so that HandshakeError may call Close
		l.HandshakeError(c.conn, err)
		waited = a.again()
	}
	c.Close()
	if waited {
		a.wait.Done()
	}
}

// identify gives the slot the peer's address. An underlying connection that reads
// the address from a PROXY header waits for that header here. The time counts as
// part of the handshake.
func (c *Conn) identify(slot *admission.Slot) {
	if h := &c.handshake; h.timeout > 0 {
		h.deadline = time.Now().Add(h.timeout)
		defer time.AfterFunc(h.timeout, c.cut).Stop()
	}
	slot.StartWait()
	addr := c.RemoteAddr()
	slot.EndWait()
	slot.SetAddr(addr)
}
