package sslnet

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/places"
)

// Listen makes a listener of TLS servers at addr. It is a *Listener with its
// defaults.
func Listen(network, addr string, ctx *sslfilter.Ctx) (net.Listener, error) {
	switch {
	case ctx == nil:
		return nil, errNoCtx
	case ctx.Client(): // each handshake would fail, and nobody be told why
		return nil, errNotServer
	}
	below, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	return NewListener(below, ctx), nil
}

// NewListener makes a listener of TLS servers over the connections that below
// accepts. It is a *Listener with its defaults.
func NewListener(below net.Listener, ctx *sslfilter.Ctx) net.Listener {
	return &Listener{Listener: below, Ctx: ctx}
}

// Listener accepts TLS connections. Unlike that of crypto/tls its Accept returns
// a connection when the handshake is done. So a peer that is slow or no TLS
// client holds nobody up and never reaches the caller; the handshakes under way
// are bounded in one place; and ConnectionState is filled from the start, which
// net/http looks at before it reads. Whoever wants the handshake in the first
// Read gives Server the connections of a net.Listener.
//
// The first Accept starts a goroutine that accepts, and each handshake under way
// has one. Close ends them all. The fields may not be changed after the first
// Accept.
type Listener struct {
	// Listener accepts the connections below. It must be set.
	net.Listener
	// Ctx is that of a server. It must be set. SetCtx can replace it later.
	Ctx *sslfilter.Ctx
	// HandshakeTimeout bounds each handshake, from its first byte's wait on.
	// Default: DefaultHandshakeTimeout. Below 0 there is no bound.
	HandshakeTimeout time.Duration
	// MaxHandshakes bounds the handshakes under way at once, connections counted
	// in that wait for Accept. Beyond it connections wait in the system's queue,
	// until a place is left or can be taken from a peer that was waited for, a
	// second in all or longer: of the address that has the most places (an IPv6
	// /64 is one) the oldest. So peers that say nothing, or a byte now and then,
	// do not hold up who comes after them. A peer that has said nothing holds a
	// goroutine and no memory in C. Default: DefaultMaxHandshakes.
	MaxHandshakes int
	// HandshakeError is called for each handshake that failed, in the goroutine of
	// that handshake, with the connection below, which is closed afterwards, and
	// the error. It may call Close of the Listener. Default: nothing is called;
	// Options.ErrorHandler hears of errors of TLS.
	HandshakeError func(below net.Conn, err error)

	once  sync.Once
	start sync.Once
	state *accepting
}

// DefaultMaxHandshakes is how many handshakes of a Listener may be under way at
// once.
const DefaultMaxHandshakes = 1024

// accepting is what the goroutines of a Listener share.
type accepting struct {
	ctx    atomic.Pointer[sslfilter.Ctx]
	ready  chan *Conn
	places *places.Places
	closed chan struct{}
	failed chan struct{} // closed when err is set
	err    error
	wait   sync.WaitGroup

	mu   sync.Mutex
	done bool
	open map[*Conn]struct{} // whose handshake is under way
}

func (l *Listener) init() *accepting {
	l.once.Do(func() {
		n := l.MaxHandshakes
		if n <= 0 {
			n = DefaultMaxHandshakes
		}
		l.state = &accepting{
			ready: make(chan *Conn), places: places.New(n),
			closed: make(chan struct{}), failed: make(chan struct{}),
			open: make(map[*Conn]struct{}),
		}
		l.state.ctx.CompareAndSwap(nil, l.Ctx)
	})
	return l.state
}

// SetCtx replaces Ctx for the connections to come: new certificates, for
// example. It may be called at any time, by any goroutine. Do not Close the old
// one before its handshakes are over; it need not be closed at all.
func (l *Listener) SetCtx(ctx *sslfilter.Ctx) { l.init().ctx.Store(ctx) }

// Accept returns the next connection whose handshake is done; it is a *Conn. A
// passing failure of the listener below, such as a lack of file descriptors, is
// waited out. Any other error stays, once the connections that are done are
// fetched; after Close it is net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	a := l.init()
	switch {
	case l.Listener == nil:
		return nil, errors.New("sslnet: a Listener without a listener below")
	case a.ctx.Load() == nil:
		return nil, errNoCtx
	}
	l.start.Do(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.done {
			a.wait.Add(1)
			go l.run(a)
		}
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

// Addr is the address of the listener below, or nil if there is no listener.
func (l *Listener) Addr() net.Addr {
	if l.Listener == nil {
		return nil
	}
	return l.Listener.Addr()
}

// Close closes the listener below, ends the handshakes under way and closes the
// connections that nobody has accepted. It returns when that is done, and does
// not wait for calls of HandshakeError under way: HandshakeError may call it.
// Options.ErrorHandler must not, as it is called in the middle of a handshake.
func (l *Listener) Close() error {
	a := l.init()
	a.mu.Lock()
	first := !a.done
	if first {
		a.done = true
		close(a.closed)
		for c := range a.open {
			a.wait.Go(func() { c.conn.Close() }) // it may take its time, as that of a *Conn does
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

// run accepts until the listener ends. It calls nothing that waits for a peer: a
// connection below may read its address from what the peer sends first.
func (l *Listener) run(a *accepting) {
	defer a.wait.Done()
	for {
		below, err := a.accept(l.Listener)
		if err != nil {
			a.err = err
			close(a.failed)
			return
		}
		c := Server(below, a.ctx.Load())
		c.handshake.timeout = handshakeTimeoutOr(l.HandshakeTimeout)
		if !a.add(c) {
			below.Close()
			return
		}
		var addr net.Addr
		tcp, known := below.(*net.TCPConn)
		if known {
			addr = tcp.RemoteAddr()
		}
		place := a.places.Take(a.closed, addr, func() { a.wait.Go(func() { below.Close() }) })
		if place == nil {
			a.remove(c)
			a.wait.Done()
			return
		}
		go l.serve(a, c, place, known)
	}
}

// accept waits passing failures out, as net/http does.
func (a *accepting) accept(below net.Listener) (net.Conn, error) {
	const least, most = 5 * time.Millisecond, time.Second
	for delay := least; ; delay = min(2*delay, most) {
		conn, err := below.Accept()
		if err == nil {
			return conn, nil
		}
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
			return nil, err
		}
		select {
		case <-time.After(delay):
		case <-a.closed:
			return nil, err
		}
	}
}

// add notes a connection for Close, unless that was before.
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

// remove reports whether Close has not been called.
func (a *accepting) remove(c *Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, c)
	return !a.done
}

// again goes on being waited for by Close, unless that was called.
func (a *accepting) again() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.done {
		a.wait.Add(1)
	}
	return !a.done
}

// serve does the handshake and hands the connection over. known says that the
// place has the peer's address.
func (l *Listener) serve(a *accepting, c *Conn, place *places.Place, known bool) {
	defer place.Leave()
	if !known {
		c.identify(place)
	}
	err := c.HandshakeContext(places.With(context.Background(), place))
	if !place.Keep() {
		err = ErrHandshakeDropped
	}
	open := a.remove(c)
	if err == nil {
		defer a.wait.Done()
		select {
		case a.ready <- c:
		case <-a.closed:
			c.Close()
		}
		return
	}
	waited := true
	if open && l.HandshakeError != nil {
		a.wait.Done() // so that it may call Close
		l.HandshakeError(c.conn, err)
		waited = a.again()
	}
	c.Close()
	if waited {
		a.wait.Done()
	}
}

// identify finds out the address that the place counts for. A connection below
// that reads it from a PROXY header waits for that here, and the time counts as
// that of the handshake.
func (c *Conn) identify(place *places.Place) {
	if h := &c.handshake; h.timeout > 0 {
		h.deadline = time.Now().Add(h.timeout)
		defer time.AfterFunc(h.timeout, c.cut).Stop()
	}
	place.Wait()
	addr := c.RemoteAddr()
	place.Heard()
	place.SetAddr(addr)
}
