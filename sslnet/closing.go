package sslnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/cut"
)

// ending is the state of the calls that end a connection. The table lists everything
// that ends a connection or one of its directions.
//
//	event                                 Read returns          Write returns  sent to the peer
//	CloseWrite                            data as before        *UsageError    close_notify
//	Close, no Write in progress           net.ErrClosed         the same       close_notify
//	Close, a Write in progress            net.ErrClosed         the same       close_notify if the Write had sent all of its data
//	Close, handshake not done             net.ErrClosed         the same       nothing
//	Detach                                net.ErrClosed         the same       close_notify
//	deadline                              timeout, not final    the same       nothing
//	end of the Context in a handshake     its error, not final  the same       nothing
//	HandshakeTimeout                      ErrHandshakeTimeout   the same       nothing
//	failed handshake                      its error             the same       the alert
//	close_notify of the peer              io.EOF                as before      nothing
//	FIN of the peer without close_notify  *TruncatedError       the same       nothing
//	invalid record                        *sslfilter.Error      the same       the alert
//	alert of the peer                     AlertError            the same       nothing
//	network error                         that error            its own error  nothing
//
// All errors are permanent except those marked "not final". Close always ends the
// underlying connection, too; farewell describes how.
type ending struct {
	writers  atomic.Int32  // calls of Write, CloseWrite and KeyUpdate in progress
	refused  atomic.Bool   // a failure has produced an alert for the peer
	closed   atomic.Bool   // Close or Detach was called
	detached atomic.Bool   // Detach gave the underlying connection to its caller
	said     chan struct{} // closed when Close has sent its close_notify or alert, or Detach is done
}

// closeTimeout bounds the time that Close needs to send pending data and
// close_notify to a peer that does not read, and the time to send an alert in the
// handshake.
const closeTimeout = time.Second

// CloseWrite ends the data that this end sends, with close_notify: the peer's Read
// returns io.EOF after it has read everything. This end can still read.
// CloseWrite does the handshake if it is not done. The underlying connection stays
// open in both directions.
func (c *Conn) CloseWrite() error {
	c.writers.Add(1)
	defer c.writers.Add(-1)
	if err := c.ensure(context.Background(), writeCall); err != nil {
		return err
	}
	if err := c.lockOut(); err != nil {
		return err
	}
	defer c.out.unlock()
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
		return c.closeAgain()
	}
	limit, writing := time.Now().Add(closeTimeout), c.writers.Load() > 0
	writes := limit
	if writing {
		writes = aLongTimeAgo
	}
	c.stopChoosing()
	limited := c.limits.close(c.conn, limit, writes) == nil // false if conn does not support deadlines
	if !limited {
		defer time.AfterFunc(closeTimeout, func() { c.conn.Close() }).Stop()
	}
	c.farewell(limit, writing, limited)
	close(c.said)
	err := c.closeBelow(c.ready.Load() && !writing && !passed(limit))
	c.free()
	return err
}

// closeAgain is a second Close. The first Close itself may have caused the call, so
// the wait for it is bounded.
func (c *Conn) closeAgain() error {
	select {
	case <-c.said:
	case <-time.After(2 * closeTimeout):
	}
	if c.detached.Load() {
		return nil
	}
	return net.ErrClosed
}

// farewell sends the peer what it has to receive before the underlying connection
// is closed:
//
//	handshake   a Write in progress   an alert was sent   farewell
//	not done    no                    no                  nothing
//	not done    no                    yes                 linger, so that the peer receives the alert
//	not done    yes                   -                   nothing, because the Write may not end
//	done        no                    no                  what is pending, and close_notify
//	done        no                    yes                 the same, then linger
//	done        yes, all sent         -                   as without a Write
//	done        yes, cut short        -                   nothing: the peer sees a truncated connection
//	done        yes, no deadlines     -                   nothing, because the Write may not end
//
// Deadlines end a Write in progress, if the underlying connection supports them.
// Nothing takes longer than limit.
func (c *Conn) farewell(limit time.Time, writing, limited bool) {
	ready := c.ready.Load()
	switch {
	case writing && !(ready && limited):
		return
	case !ready:
		if c.refused.Load() {
			c.linger(limit)
		}
		return
	}
	if c.lock(context.Background(), c.out.turn, closeCall) != nil {
		return
	}
	if writing {
		c.conn.SetWriteDeadline(limit)
	}
	if !writing || !c.out.part {
		c.closeNotify()
		c.send() // sends nothing if a record was cut
	}
	c.out.unlock()
	if c.refused.Load() {
		c.linger(limit)
	} else {
		c.discardTickets()
	}
}

// linger gives the peer time to receive the alert that says why it was rejected.
func (c *Conn) linger(limit time.Time) {
	if !cut.HalfClose(c.conn) {
		return
	}
	if c.lock(context.Background(), c.in.turn, closeCall) != nil { // the deadline has ended a Read in progress
		return
	}
	defer c.in.unlock()
	cut.Discard(c.conn, limit, 0, cut.LingerBytes)
}

// discardTickets reads what a client has received, up to one buffer. If session
// tickets were left unread, TCP would reset the connection and discard data on its
// way to the server.
func (c *Conn) discardTickets() {
	if !c.client || c.socket == nil {
		return
	}
	if c.lock(context.Background(), c.in.turn, closeCall) != nil { // the deadline has ended a Read in progress
		return
	}
	defer c.in.unlock()
	c.conn.SetReadDeadline(never)
	c.socket.Discard()
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

// free releases the C memory of the connection.
func (c *Conn) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter != nil {
		c.filter.Close()
	}
}

// cut closes an underlying connection that does not support deadlines, to end a
// handshake.
func (c *Conn) cut() {
	c.handshake.cut.Store(true)
	c.conn.Close()
}

// Detach ends TLS and returns the underlying connection for plain text in both
// directions, the reverse of STARTTLS. It sends pending data and close_notify,
// and waits for the peer's close_notify. Bytes that arrived after the peer's
// close_notify are the first that the returned connection reads. The caller owns
// that connection, which keeps the deadlines that were set on the Conn. The Conn
// is closed.
//
// If there is plaintext from TLS that was not read, Detach returns an error with
// its length. Read until io.EOF and call Detach again. Detach can also be called
// again after a timeout.
func (c *Conn) Detach() (net.Conn, error) {
	if err := c.CloseWrite(); err != nil {
		return nil, err
	}
	if err := c.lockIn(); err != nil {
		return nil, err
	}
	defer c.in.unlock()
	for c.in.err != io.EOF || len(c.in.plain) > 0 {
		if n := len(c.in.plain); n > 0 {
			return nil, fmt.Errorf("sslnet: Detach: %d bytes of plaintext have not been read", n)
		}
		if c.in.err != nil {
			return nil, c.in.err
		}
		if _, err := c.fill(nil); err != nil {
			return nil, err
		}
	}
	if err := c.lockOut(); err != nil { // waits for a flush in progress
		return nil, err
	}
	defer c.out.unlock()
	if err := c.send(); err != nil {
		return nil, err
	}
	if !c.closed.CompareAndSwap(false, true) {
		return nil, net.ErrClosed
	}
	defer close(c.said)
	first, err := c.detachFilter()
	if err != nil { // Close of the Conn would not close it
		c.conn.Close()
		return nil, err
	}
	c.detached.Store(true)
	c.limits.leave()
	if len(first) == 0 {
		return c.conn, nil
	}
	return &resumed{Conn: c.conn, first: first}, nil
}

// detachFilter returns what arrived after the peer's close_notify and frees the
// filter.
func (c *Conn) detachFilter() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.filter.Close()
	return c.filter.Detach()
}

// resumed is a connection whose first bytes were already read from the network.
type resumed struct {
	net.Conn
	mu    sync.Mutex // guards first; not held during socket I/O
	first []byte
}

// Read returns the bytes in first, and then reads from the connection.
func (r *resumed) Read(b []byte) (int, error) {
	r.mu.Lock()
	n := copy(b, r.first)
	r.first = r.first[n:]
	r.mu.Unlock()
	if n > 0 || len(b) == 0 {
		return n, nil
	}
	return r.Conn.Read(b)
}

// CloseWrite calls CloseWrite of the underlying connection, if it has that method.
func (r *resumed) CloseWrite() error {
	if c, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return fmt.Errorf("sslnet: CloseWrite of a %T: %w", r.Conn, errors.ErrUnsupported)
}

// NetConn returns the underlying connection, which does not return the bytes in
// first.
func (r *resumed) NetConn() net.Conn { return r.Conn }

// The table lists everything that ends a CipherConn or one of its directions.
//
//	event                              Read returns          Write returns  sent to the peer
//	CloseWrite                         data as before        *UsageError    the end of the stream
//	Close, no Write in progress        net.ErrClosed         the same       the end of the stream
//	Close, a Write in progress         net.ErrClosed         the same       nothing
//	Close of a server before a record  net.ErrClosed         the same       nothing
//	deadline                           timeout, not final    the same       nothing
//	end of the peer's stream           io.EOF                as before      nothing
//	FIN of the peer without it         *TruncatedError       as before      nothing
//	invalid record                     *sslfilter.Error      the same       nothing
//	network error                      that error            its own error  nothing
//
// All errors are permanent except those marked "not final". Close always closes the
// underlying connection, too.

// CloseWrite sends the end of this side's stream, and ends the outgoing direction
// of the underlying connection if that is possible. Read can still be called. On a
// server, CloseWrite waits for the client's first record, as Write does.
func (c *CipherConn) CloseWrite() error {
	if err := c.lock(c.writing, writeCall); err != nil {
		return err
	}
	defer c.release()
	var waits bool
	err := c.own(func() (err error) {
		waits, err = c.end()
		return err
	})
	if err != nil {
		return err
	}
	if err := c.drain(); err != nil {
		return err
	}
	if waits {
		if err := c.settle(); err != nil {
			return err
		}
		if err := c.drain(); err != nil {
			return err
		}
	}
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		// If the connection has already ended, and too early, Read reports that.
		if err := half.CloseWrite(); !errors.Is(err, syscall.ENOTCONN) {
			return err
		}
	}
	return nil
}

// end ends this side's stream, moves the output that is ready to wire, and reports whether
// more output waits for the peer. The caller holds mu and c.writing, and the cipher does not
// belong to receiveLate.
func (c *CipherConn) end() (waits bool, err error) {
	if err := c.cipher.CloseWrite(); err != nil {
		return false, err
	}
	return c.collect()
}

// Close sends the end of the stream, unless a Write is in progress, and closes the
// underlying connection. If the peer does not read, Close stops sending after 5 seconds.
func (c *CipherConn) Close() error {
	c.conn.SetWriteDeadline(time.Now().Add(cipherFarewell))
	c.close()
	c.cipher.Cancel()
	c.awaitFlush()
	if c.writing.try() {
		c.farewell()
		c.writing.unlock()
	}
	var err error
	if cut.Unread(c.conn) { // TCP would reset the connection, and discard what was sent
		cut.Take(c.conn).Finish(nil, atOnce, nil)
	} else {
		err = c.conn.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	if !c.deriving {
		c.cipher.Close()
	}
	return err
}

// farewell sends the end of this side's stream. It does not wait for the peer. If a key is
// still being derived and this side has sent nothing, no end has to be sent. If it has
// sent something, a Read is done with the cipher soon. The caller holds c.writing.
func (c *CipherConn) farewell() {
	limit := time.After(cipherFarewell)
	c.mu.Lock()
	for c.deriving {
		moved, spoke := c.moved, c.spoke
		c.mu.Unlock()
		if !spoke {
			return
		}
		select {
		case <-moved:
		case <-limit:
			return
		}
		c.mu.Lock()
	}
	_, err := c.end()
	c.mu.Unlock()
	if err == nil {
		c.drain()
	}
}

// awaitFlush waits for the flush in progress, and for those that follow it.
func (c *CipherConn) awaitFlush() {
	for last := (chan struct{})(nil); ; {
		c.mu.Lock()
		flushed := c.flushed
		c.mu.Unlock()
		if flushed == last {
			return
		}
		<-flushed
		last = flushed
	}
}
