package sslnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cut"
)

// Conn is one end of a TLS connection over a net.Conn, as crypto/tls's Conn is.
// All methods may be called at the same time from any number of goroutines,
// Read and Write too. No goroutine belongs to it while nothing is to be sent.
//
// The handshake runs in the first Read, Write, CloseWrite or HandshakeContext.
type Conn struct {
	conn   net.Conn
	socket *socket // reads conn, if it is one
	ctx    *sslfilter.Ctx
	client bool

	handshake handshake
	ready     atomic.Bool // the handshake is done

	mu     sync.Mutex        // of filter; never held during socket I/O
	filter *sslfilter.Filter // nil before the handshake begins
	name   string            // of SetServerName or SetVerifiedName
	verify bool              // name is only verified, not sent: SetVerifiedName

	protocols []string // of SetALPN

	in     readSide
	out    writeSide
	limits deadlines
	said   chan struct{} // closed when Close has sent what it had to say, or Detach is done

	flushing atomic.Bool  // a goroutine is about to send what a Read made
	writers  atomic.Int32 // calls of Write under way
	closed   atomic.Bool  // Close or Detach was called
	detached atomic.Bool  // by Detach: conn is not ours any more
	refused  atomic.Bool  // the alert of a failure has been made
}

// closeTimeout is how long Close waits for a peer that takes nothing, to send
// what waits and close_notify, and how long an alert in the handshake may take.
const closeTimeout = time.Second

// maxLinger bounds what Close reads of a peer that was refused, in bytes.
const maxLinger = 256 << 10

// Client makes the client's end of a TLS connection over conn. ctx must be of a
// client and know the name to verify, or SetServerName must be called, or else
// the handshake fails.
func Client(conn net.Conn, ctx *sslfilter.Ctx) *Conn { return newConn(conn, ctx, true) }

// Server makes the server's end of a TLS connection over conn.
func Server(conn net.Conn, ctx *sslfilter.Ctx) *Conn { return newConn(conn, ctx, false) }

func newConn(conn net.Conn, ctx *sslfilter.Ctx, client bool) *Conn {
	return &Conn{
		conn: conn, socket: newSocket(conn), ctx: ctx, client: client,
		handshake: handshake{turn: make(chan struct{}, 1)},
		said:      make(chan struct{}),
	}
}

// NetConn is the connection below, as crypto/tls has it. Writing to it or reading
// from it corrupts the TLS connection; see Detach.
func (c *Conn) NetConn() net.Conn { return c.conn }

// LocalAddr is that of the connection below, or nil if there is no connection.
func (c *Conn) LocalAddr() net.Addr {
	if c.conn == nil {
		return nil
	}
	return c.conn.LocalAddr()
}

// RemoteAddr is that of the connection below, or nil if there is no connection.
func (c *Conn) RemoteAddr() net.Addr {
	if c.conn == nil {
		return nil
	}
	return c.conn.RemoteAddr()
}

// Read reads plaintext, after the handshake. It returns io.EOF only after the
// peer's close_notify; a connection that ends without one is
// io.ErrUnexpectedEOF. After a timeout it can be called again.
//
// What TLS itself has to answer meanwhile (a key update, an alert) is sent also
// if nobody writes, and Read does not wait for it.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.ensure(context.Background(), readGoverns, "read"); err != nil {
		return 0, err
	}
	c.in.Lock()
	defer c.in.Unlock()
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

// fill reads the network once. Plaintext goes to b, as far as it fits and is
// not more than what came, and else to c.in. The caller has c.in's turn.
func (c *Conn) fill(b []byte) (int, error) {
	if c.out.waits.Load() {
		c.flushLater()
	}
	wire, n, netErr := c.readWire()
	defer putWire(wire)
	dst, direct := b[:0:len(b)], len(b)+leastOverhead >= n
	if !direct {
		dst = c.in.room()
	}
	c.mu.Lock()
	plain, err := c.receive(dst, wire[:n], netErr)
	answer := !c.filter.Flushed()
	c.mu.Unlock()
	if answer {
		c.refused.Store(err != nil && err != io.EOF)
		c.flushLater()
	}
	c.in.err = err
	if !direct {
		c.in.grown(plain)
	}
	if !direct || len(plain) > len(b) { // Receive grew dst: a part of a record had come before
		c.in.keep(plain)
		return c.in.take(b), c.timeout(netErr)
	}
	return len(plain), c.timeout(netErr)
}

// receive gives the filter what came from the network and how that ended.
// The error is one that stays. The caller holds mu.
func (c *Conn) receive(dst, wire []byte, netErr error) (plain []byte, err error) {
	plain = dst
	if len(wire) > 0 {
		plain, err = c.filter.Receive(dst, wire)
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

// timeout is err if it is one of a deadline, which does not stay.
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

// Write sends b, after the handshake. It returns how much of b was accepted:
// that is encrypted, in order, and will be sent. If a deadline ends the call,
// what the network did not take yet waits for the next call of Write, also of
// an empty b; nothing is lost and nothing is sent twice if the caller goes on
// with b[n:]. At most maxChunk bytes of plaintext wait so.
func (c *Conn) Write(b []byte) (int, error) {
	c.writers.Add(1)
	defer c.writers.Add(-1)
	if err := c.ensure(context.Background(), writeGoverns, "write"); err != nil {
		return 0, err
	}
	c.out.Lock()
	defer c.out.Unlock()
	if len(b) == 0 {
		return 0, c.send()
	}
	n, err := c.write(b)
	c.out.part = n > 0 && n < len(b)
	return n, err
}

// write is Write of something, for who has c.out's turn.
func (c *Conn) write(b []byte) (n int, err error) {
	for n < len(b) {
		if c.out.waits.Load() {
			if err := c.drain(); err != nil {
				return n, err
			}
		}
		if c.limits.expired(writeGoverns) {
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

// encrypt makes the records of chunk, behind tickets that have not been sent. The
// caller has c.out's turn.
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

// CloseWrite ends our direction: the peer's Read gives io.EOF once it has read
// everything. Reading goes on. It runs the handshake if need be. The connection
// below stays open in both directions.
func (c *Conn) CloseWrite() error {
	c.writers.Add(1)
	defer c.writers.Add(-1)
	if err := c.ensure(context.Background(), writeGoverns, "write"); err != nil {
		return err
	}
	c.out.Lock()
	defer c.out.Unlock()
	if err := c.closeNotify(); err != nil {
		return err
	}
	return c.send()
}

func (c *Conn) closeNotify() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.filter.CloseWrite()
}

// Close sends close_notify and closes the connection below. Calls of Read and
// Write that are under way end. A peer that takes nothing holds it up for at
// most a second, and not at all if a Write is under way: that is not waited for,
// and where it has not sent all of its data, the peer is to see a connection
// that was cut. If the peer has sent something that was not read, Close discards
// it and waits for the peer to take what was sent, for another second at most.
//
// A second Close waits until the first has said that, two seconds at most, and
// gives net.ErrClosed: so a program may end behind it. After a Detach it does
// nothing: the connection below is not ours then.
func (c *Conn) Close() error {
	if c.conn == nil {
		return errNoConn
	}
	if !c.closed.CompareAndSwap(false, true) {
		select {
		case <-c.said:
		case <-time.After(2 * closeTimeout): // of who closes it from inside of the first
		}
		if c.detached.Load() {
			return nil
		}
		return net.ErrClosed
	}
	limit, writing := time.Now().Add(closeTimeout), c.writers.Load() > 0
	writes := limit
	if writing {
		writes = aLongTimeAgo
	}
	limited := c.limits.close(c.conn, writes) == nil // not if it has no deadlines
	if !limited {
		defer time.AfterFunc(closeTimeout, func() { c.conn.Close() }).Stop()
	}
	switch {
	case writing && !(limited && c.ready.Load()): // it may be stuck
	case c.ready.Load():
		if c.out.lockUntil(limit) { // a Write under way has ended, a flush does with the limit
			if writing {
				c.conn.SetWriteDeadline(limit)
			}
			if !writing || !c.out.part {
				c.closeNotify()
				c.send() // nothing, where a record was cut
			}
			c.out.Unlock()
			if c.refused.Load() {
				c.linger(limit)
			} else {
				c.discardTickets()
			}
		}
	case c.refused.Load():
		c.linger(limit)
	}
	close(c.said)
	err := c.closeBelow(c.ready.Load() && !writing && !passed(limit))
	c.free()
	return err
}

// discardTickets reads what has come to a client, up to one buffer: session
// tickets that nobody has read would make TCP throw away what is on its way to
// the server.
func (c *Conn) discardTickets() {
	if !c.client || c.socket == nil {
		return
	}
	c.in.Lock() // the deadline has ended a Read under way
	defer c.in.Unlock()
	c.conn.SetReadDeadline(never)
	c.socket.discard()
}

// closeBelow closes the connection below. If input is unread, a close makes TCP
// reset the connection and throw away what is on its way to the peer. With
// deliver, that input is discarded first, and the peer gets a second to take what
// was sent.
func (c *Conn) closeBelow(deliver bool) error {
	if !deliver || c.socket == nil || !cut.Unread(c.conn) {
		return c.conn.Close()
	}
	cut.Take(c.conn).Finish(nil, atOnce, nil)
	return nil
}

// atOnce stops a wait of package cut, which then ends within a second.
var atOnce = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// linger lets the peer have the alert that says why it was refused: if what the
// peer is still sending is never read, TCP resets the connection and throws the
// alert away.
func (c *Conn) linger(limit time.Time) {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.in.Lock() // the deadline has ended a Read under way
	defer c.in.Unlock()
	c.conn.SetReadDeadline(limit)
	wire := getWire()
	defer putWire(wire)
	for left := maxLinger; left > 0; {
		n, err := c.conn.Read(wire[:])
		if err != nil {
			return
		}
		left -= n
	}
}

// free gives the memory in C back.
func (c *Conn) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter != nil {
		c.filter.Close()
	}
}

func (c *Conn) opError(op string, err error) error {
	e := &net.OpError{Op: op, Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	if e.Source != nil {
		e.Net = e.Source.Network()
	}
	return e
}
