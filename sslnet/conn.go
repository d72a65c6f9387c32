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

// Conn is one end of a TLS connection over a net.Conn, like the Conn of
// crypto/tls. Any number of goroutines may call its methods at the same time,
// including Read and Write. A Conn has no goroutine of its own while there is
// nothing to send.
//
// The handshake runs in the first Read, Write, CloseWrite, KeyUpdate or
// HandshakeContext.
type Conn struct {
	conn   net.Conn
	socket *socket // reads conn if that is a socket, or nil
	ctx    *sslfilter.Ctx
	client bool

	handshake handshake
	ready     atomic.Bool // the handshake is done

	mu     sync.Mutex        // guards filter; never held during socket I/O
	filter *sslfilter.Filter // nil before the handshake begins
	name   string            // set by SetServerName or SetVerifiedName
	verify bool              // SetVerifiedName: name is verified but not sent

	protocols []string // set by SetALPN

	in     readSide
	out    writeSide
	limits deadlines
	said   chan struct{} // closed after Close has sent its close_notify or alert, or Detach is done

	flushing atomic.Bool  // a goroutine is about to send what a Read produced
	writers  atomic.Int32 // calls of Write, CloseWrite and KeyUpdate in progress
	closed   atomic.Bool  // Close or Detach was called
	detached atomic.Bool  // Detach gave conn to its caller
	refused  atomic.Bool  // a failure has produced an alert for the peer
}

// closeTimeout bounds the time that Close needs to send pending data and
// close_notify to a peer that does not read, and the time to send an alert in the
// handshake.
const closeTimeout = time.Second

// maxLinger bounds what Close reads from a peer after an alert was sent to it, in
// bytes.
const maxLinger = 256 << 10

// Client returns the client's end of a TLS connection over conn. ctx must be a
// client's. The handshake fails unless ctx has the name to verify or
// SetServerName sets it.
func Client(conn net.Conn, ctx *sslfilter.Ctx) *Conn { return newConn(conn, ctx, true) }

// Server returns the server's end of a TLS connection over conn.
func Server(conn net.Conn, ctx *sslfilter.Ctx) *Conn { return newConn(conn, ctx, false) }

func newConn(conn net.Conn, ctx *sslfilter.Ctx, client bool) *Conn {
	return &Conn{
		conn: conn, socket: newSocket(conn), ctx: ctx, client: client,
		handshake: handshake{turn: make(chan struct{}, 1)},
		said:      make(chan struct{}),
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

// fill reads from the network once. It decrypts directly to b if the plaintext of
// what was read is certain to fit, and otherwise to c.in. The caller holds the
// lock of c.in.
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
	if !direct || len(plain) > len(b) { // Receive grew dst: the filter already had a part of a record
		c.in.keep(plain)
		return c.in.take(b), c.timeout(netErr)
	}
	return len(plain), c.timeout(netErr)
}

// receive feeds the filter wire and, unless netErr is nil, the end of the
// network. The error is permanent. The caller holds mu.
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

// write does Write after the handshake. The caller holds the lock of c.out.
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

// encrypt appends the records of chunk to c.out.wire, after session tickets that
// have not been sent. The caller holds the lock of c.out.
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

// CloseWrite ends the data that this end sends, with close_notify: the peer's Read
// returns io.EOF after it has read everything. This end can still read.
// CloseWrite does the handshake if it is not done. The underlying connection stays
// open in both directions.
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

// Close sends close_notify and closes the underlying connection. It ends calls of
// Read and Write that are in progress. If the peer does not read, Close waits for
// it for at most a second, and not at all if a Write is in progress. If that Write
// has not sent all of its data, Close sends no close_notify, so that the peer sees
// a truncated connection. If there is input from the peer that was not read,
// Close discards it and waits for the peer to take what was sent, for at most
// another second.
//
// A second Close returns net.ErrClosed after the first has sent close_notify, or
// after at most two seconds, so that a program may exit after it. After Detach,
// Close does nothing and returns nil: the connection belongs to the caller of
// Detach.
func (c *Conn) Close() error {
	if c.conn == nil {
		return errNoConn
	}
	if !c.closed.CompareAndSwap(false, true) {
		select {
		case <-c.said:
		case <-time.After(2 * closeTimeout): // the first Close itself may have caused this call
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
	limited := c.limits.close(c.conn, writes) == nil // false if conn does not support deadlines
	if !limited {
		defer time.AfterFunc(closeTimeout, func() { c.conn.Close() }).Stop()
	}
	switch {
	case writing && !(limited && c.ready.Load()): // the Write may be stuck
	case c.ready.Load():
		if c.out.lockUntil(limit) { // the deadline has ended a Write in progress; a flush ends by limit
			if writing {
				c.conn.SetWriteDeadline(limit)
			}
			if !writing || !c.out.part {
				c.closeNotify()
				c.send() // sends nothing if a record was cut
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

// discardTickets reads what a client has received, up to one buffer. If session
// tickets were left unread, TCP would reset the connection and discard data on its
// way to the server.
func (c *Conn) discardTickets() {
	if !c.client || c.socket == nil {
		return
	}
	c.in.Lock() // the deadline has ended a Read in progress
	defer c.in.Unlock()
	c.conn.SetReadDeadline(never)
	c.socket.discard()
}

// closeBelow closes the underlying connection. If there is unread input, TCP
// resets the connection at a close and discards data on its way to the peer. With
// deliver, closeBelow therefore discards that input first, and gives the peer a
// second to take what was sent.
func (c *Conn) closeBelow(deliver bool) error {
	if !deliver || c.socket == nil || !cut.Unread(c.conn) {
		return c.conn.Close()
	}
	cut.Take(c.conn).Finish(nil, atOnce, nil)
	return nil
}

// atOnce is a closed channel. It tells package cut to end its wait within a second.
var atOnce = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// linger gives the peer time to receive the alert that says why it was rejected.
// If nobody read what the peer is still sending, TCP would reset the connection
// and discard the alert.
func (c *Conn) linger(limit time.Time) {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.in.Lock() // the deadline has ended a Read in progress
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

// free releases the C memory of the connection.
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
