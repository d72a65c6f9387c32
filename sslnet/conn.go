package sslnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/socket"
)

// Conn is one end of a TLS connection over a net.Conn, like the Conn of
// crypto/tls. Any number of goroutines may call its methods at the same time,
// including Read and Write. A Conn has no goroutine of its own while there is
// nothing to send.
//
// The handshake runs in the first Read, Write, CloseWrite, KeyUpdate or
// HandshakeContext.
type Conn struct {
	conn   net.Conn
	socket *socket.Reader // reads conn if that is a socket, or nil
	ctx    *sslfilter.Ctx
	client bool

	handshake handshake
	ready     atomic.Bool // the handshake is done

	mu     sync.Mutex        // guards filter; never held during socket I/O
	filter *sslfilter.Filter // nil before the handshake begins
	name   string            // set by SetServerName or SetVerifiedName
	verify bool              // SetVerifiedName: name is verified but not sent

	protocols []string // set by SetALPN
	caching   *caching // set by SetSessions and by a Dialer
	begun     bool     // a client's handshake has begun

	in       readSide
	out      writeSide
	flushing atomic.Bool // a goroutine is about to send what a Read produced
	limits   deadlines
	ending
}

// Client returns the client's end of a TLS connection over conn. ctx must be a
// client's. The handshake fails unless ctx has the name to verify or
// SetServerName sets it.
func Client(conn net.Conn, ctx *sslfilter.Ctx) *Conn { return newConn(conn, ctx, true) }

// Server returns the server's end of a TLS connection over conn.
func Server(conn net.Conn, ctx *sslfilter.Ctx) *Conn { return newConn(conn, ctx, false) }

func newConn(conn net.Conn, ctx *sslfilter.Ctx, client bool) *Conn {
	return &Conn{
		conn: conn, socket: socket.New(conn, wirePool{}), ctx: ctx, client: client,
		handshake: handshake{turn: newTurn()}, in: readSide{turn: newTurn()}, out: writeSide{turn: newTurn()},
		ending: ending{said: make(chan struct{})},
	}
}

// NetConn returns the underlying connection, as in crypto/tls. Writing to it or
// reading from it corrupts the TLS connection; see Detach.
func (c *Conn) NetConn() net.Conn { return c.conn }

// LocalAddr returns the local address of the underlying connection, or nil if
// there is none.
func (c *Conn) LocalAddr() net.Addr {
	if c.conn == nil {
		return nil
	}
	return c.conn.LocalAddr()
}

// RemoteAddr returns the remote address of the underlying connection, or nil if
// there is none.
func (c *Conn) RemoteAddr() net.Addr {
	if c.conn == nil {
		return nil
	}
	return c.conn.RemoteAddr()
}

// Read reads plaintext, and first does the handshake if it is not done. It
// returns io.EOF only after the peer's close_notify. If the connection ends
// without one, it returns io.ErrUnexpectedEOF. After a timeout Read can be called
// again.
//
// If TLS itself has to answer the peer (a key update, an alert), the answer is
// sent even if nobody calls Write. Read does not wait for it.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.ensure(context.Background(), readCall); err != nil {
		return 0, err
	}
	if err := c.lockIn(); err != nil {
		return 0, err
	}
	defer c.in.unlock()
	if len(b) == 0 {
		return 0, nil
	}
	for {
		if n := c.in.take(b); n > 0 {
			return n, nil
		}
		if c.in.err != nil {
			return 0, c.in.err
		}
		if n, err := c.fill(b); n > 0 || err != nil {
			return n, err
		}
	}
}

// fill reads from the network once. It decrypts directly to b if the plaintext of
// what was read is certain to fit, and otherwise to c.in. The caller holds the
// turn to read.
func (c *Conn) fill(b []byte) (int, error) {
	if c.out.waits.Load() {
		c.flushLater()
	}
	wire, netErr := c.readWire()
	defer putWire(wire)
	dst, direct := b[:0:len(b)], len(b)+leastOverhead >= len(wire)
	if !direct {
		dst = c.in.room()
	}
	plain, answer, err := c.decrypt(dst, wire, netErr)
	if answer {
		c.refused.Store(err != nil && err != io.EOF)
		c.flushLater()
	}
	c.in.err = err
	if !direct {
		c.in.grown(plain)
	}
	if !direct || len(plain) > len(b) { // Receive grew dst: the filter already had a part of a record
		c.in.keep(plain)
		return c.in.take(b), c.timeout(netErr)
	}
	return len(plain), c.timeout(netErr)
}

// decrypt passes input to the filter, and reports whether the filter has to answer the
// peer. It also unlocks mu if a SessionCache panics.
func (c *Conn) decrypt(dst, wire []byte, netErr error) (plain []byte, answer bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	plain, err = c.receive(dst, wire, netErr)
	return plain, !c.filter.Flushed(), err
}

// receive feeds the filter wire and, unless netErr is nil, the end of the
// network. The error is permanent. The caller holds mu.
func (c *Conn) receive(dst, wire []byte, netErr error) (plain []byte, err error) {
	plain = dst
	if len(wire) > 0 {
		plain, err = c.filter.Receive(dst, wire)
		if c.caching != nil {
			c.caching.keep(c.filter)
		}
	}
	switch {
	case c.closed.Load():
		err = net.ErrClosed
	case err != nil || netErr == nil || isTimeout(netErr):
	case netErr == io.EOF:
		err = c.filter.ReceiveEOF()
	default:
		err = netErr
	}
	return plain, err
}

// timeout returns err if a deadline caused it, and otherwise nil. Such an error is
// not permanent.
func (c *Conn) timeout(err error) error {
	if err == nil || !isTimeout(err) || c.closed.Load() {
		return nil
	}
	return err
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// Write sends b, and first does the handshake if it is not done. It returns the
// number of bytes of b that were accepted: these are encrypted, in order, and
// will be sent. If a deadline ends the call, the next call of Write sends what the
// network has not taken yet, even if its b is empty. If the caller continues with
// b[n:], no data is lost and none is sent twice. The data that waits for the next
// call is at most 64 KiB of plaintext.
func (c *Conn) Write(b []byte) (int, error) {
	c.writers.Add(1)
	defer c.writers.Add(-1)
	if err := c.ensure(context.Background(), writeCall); err != nil {
		return 0, err
	}
	if err := c.lockOut(); err != nil {
		return 0, err
	}
	defer c.out.unlock()
	if len(b) == 0 {
		return 0, c.send()
	}
	n, err := c.write(b)
	c.out.part = n < len(b) && (n > 0 || c.out.part)
	return n, err
}

// write does Write after the handshake. The caller holds the turn to send.
func (c *Conn) write(b []byte) (n int, err error) {
	for n < len(b) {
		if c.out.waits.Load() {
			if err := c.drain(); err != nil {
				return n, err
			}
		}
		if c.limits.expired(writeCall) {
			return n, c.opError("write", os.ErrDeadlineExceeded)
		}
		chunk := b[n:min(n+maxChunk, len(b))]
		if err := c.encrypt(chunk); err != nil {
			return n, err
		}
		n += len(chunk)
		if err := c.drain(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// encrypt appends the records of chunk to c.out.wire, after session tickets that
// have not been sent. The caller holds the turn to send.
func (c *Conn) encrypt(chunk []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	if c.out.err != nil {
		return c.out.err
	}
	if err := c.filter.Send(chunk); err != nil {
		return err
	}
	c.out.wire = c.filter.Outgoing(append(c.out.room(), c.out.wire...))
	c.out.grown(c.out.wire)
	return nil
}

func (c *Conn) opError(op string, err error) error {
	e := &net.OpError{Op: op, Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	if e.Source != nil {
		e.Net = e.Source.Network()
	}
	return e
}
