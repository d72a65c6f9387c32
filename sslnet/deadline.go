package sslnet

import (
	"errors"
	"net"
	"sync"
	"time"
)

// deadlines has the deadlines that the program has set, and applies them to the
// underlying connection. The two are not always the same: a handshake in a Write
// also reads, but only the write deadline may end it.
type deadlines struct {
	mu          sync.Mutex
	read, write time.Time     // set by the program; zero means no deadline
	limit       time.Time     // of the handshake or of Close; zero means no limit
	by          call          // the call whose deadline applies to both directions, during a handshake
	closed      bool          // deadlines cannot be set any more
	changed     chan struct{} // closed by the next change, if a goroutine waits for one
}

// call is a kind of call. It decides which deadlines apply to a wait or a handshake.
type call uint8

const (
	noCall        call = iota
	readCall           // Read: the read deadline
	writeCall          // Write: the write deadline
	handshakeCall      // HandshakeContext: the earlier one of the two
	closeCall          // Close: its own limit
)

// op returns the operation that a net.OpError of such a call names.
func (by call) op() string {
	switch by {
	case readCall:
		return "read"
	case writeCall:
		return "write"
	case closeCall:
		return "close"
	}
	return "handshake"
}

// SetDeadline sets the read and the write deadline. See SetReadDeadline and
// SetWriteDeadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.limits.set(c.conn, &t, &t) }

// SetReadDeadline sets the time at which Read fails with a timeout, including a
// Read in progress. A zero t means no deadline. After a timeout Read can be called
// again.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.limits.set(c.conn, &t, nil) }

// SetWriteDeadline sets the time at which Write fails with a timeout, including a
// Write in progress. A zero t means no deadline. Unlike with crypto/tls, the
// connection can still be used after a timeout; see Write for the data that was
// not sent.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.limits.set(c.conn, nil, &t) }

// set stores the program's deadlines and applies them. nil leaves a deadline
// unchanged.
func (d *deadlines) set(conn net.Conn, read, write *time.Time) error {
	if conn == nil {
		return errNoConn
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return net.ErrClosed
	}
	if read != nil {
		d.read = *read
	}
	if write != nil {
		d.write = *write
	}
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
	return d.apply(conn, read != nil, write != nil)
}

// apply sets the deadlines of the underlying connection. The caller holds mu.
func (d *deadlines) apply(conn net.Conn, reads, writes bool) error {
	if d.by != noCall {
		return conn.SetDeadline(earlier(d.of(d.by), d.limit))
	}
	if reads && writes && d.read.Equal(d.write) {
		return conn.SetDeadline(earlier(d.read, d.limit))
	}
	if reads {
		if err := conn.SetReadDeadline(earlier(d.read, d.limit)); err != nil {
			return err
		}
	}
	if writes {
		return conn.SetWriteDeadline(earlier(d.write, d.limit))
	}
	return nil
}

// of returns the deadline of a kind of call. The caller holds mu.
func (d *deadlines) of(by call) time.Time {
	switch by {
	case readCall:
		return d.read
	case writeCall:
		return d.write
	case closeCall:
		return d.limit
	}
	return earlier(d.read, d.write)
}

// restrict applies the deadline for calls of the kind by to both directions, or limit
// if that is earlier. It returns an error if the connection does not support deadlines.
func (d *deadlines) restrict(conn net.Conn, by call, limit time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.by == by && d.limit.Equal(limit) {
		return nil
	}
	d.by, d.limit = by, limit
	return d.apply(conn, true, true)
}

// free ends the effect of restrict.
func (d *deadlines) free(conn net.Conn) { d.restrict(conn, noCall, time.Time{}) }

// shorten sets another limit. It returns an error in the same case as restrict.
func (d *deadlines) shorten(conn net.Conn, limit time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.limit = limit
	return d.apply(conn, true, true)
}

// close ends reads now and writes at the given time, and sets the limit of Close.
// The program's deadlines no longer apply to the connection. It returns an error in
// the same case as restrict.
func (d *deadlines) close(conn net.Conn, limit, writes time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed, d.limit = true, limit
	return errors.Join(conn.SetReadDeadline(aLongTimeAgo), conn.SetWriteDeadline(writes))
}

// leave stops setting deadlines, and leaves the program's deadlines as they are.
func (d *deadlines) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

// expired reports whether the deadline for calls of the kind by has passed.
func (d *deadlines) expired(by call) bool {
	d.mu.Lock()
	t := d.of(by)
	d.mu.Unlock()
	return passed(t)
}

// watch returns the deadline for calls of the kind by, and a channel that is closed when
// the program sets another deadline.
func (d *deadlines) watch(by call) (deadline time.Time, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.of(by), d.changed
}

var (
	never        time.Time // no deadline
	aLongTimeAgo = time.Unix(1, 0)
)

func passed(t time.Time) bool { return !t.IsZero() && time.Until(t) <= 0 }

// earlier returns the earlier of two deadlines. A zero time means no deadline.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
