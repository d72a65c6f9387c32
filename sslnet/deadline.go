package sslnet

import (
	"errors"
	"net"
	"sync"
	"time"
)

// deadlines has the deadlines that the caller has set, and applies them to the
// underlying connection. The two are not always the same: a handshake in a Write
// also reads, but only the write deadline may end it.
type deadlines struct {
	mu          sync.Mutex
	read, write time.Time     // set by the caller; zero means no deadline
	limit       time.Time     // of the handshake or of Close; zero means no limit
	governs     governs       // which of the caller's deadlines apply
	closed      bool          // deadlines cannot be set any more
	changed     chan struct{} // closed by the next change, if a goroutine waits for one
}

// governs says which of the caller's deadlines apply to both directions.
type governs uint8

const (
	eachItsOwn   governs = iota // each to its own direction: no handshake is in progress
	readGoverns                 // the read deadline: a handshake in a Read
	writeGoverns                // the write deadline: a handshake in a Write
	bothGovern                  // the earlier one: a handshake in HandshakeContext
	closeGoverns                // neither, but the limit of Close
)

// op returns the operation that an error of such a call names, as in net.OpError.
func (g governs) op() string {
	switch g {
	case readGoverns:
		return "read"
	case writeGoverns:
		return "write"
	case closeGoverns:
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

// set stores the caller's deadlines and applies them. nil leaves a deadline
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
	if d.governs != eachItsOwn {
		return conn.SetDeadline(earlier(d.of(d.governs), d.limit))
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

// of returns the deadline that the caller has set for a kind of call. The caller
// of this method holds mu.
func (d *deadlines) of(who governs) time.Time {
	switch who {
	case readGoverns:
		return d.read
	case writeGoverns:
		return d.write
	case closeGoverns:
		return d.limit
	}
	return earlier(d.read, d.write)
}

// restrict applies the deadline that who names to both directions, or limit if
// that is earlier. It returns an error if the connection does not support
// deadlines.
func (d *deadlines) restrict(conn net.Conn, who governs, limit time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.governs == who && d.limit.Equal(limit) {
		return nil
	}
	d.governs, d.limit = who, limit
	return d.apply(conn, true, true)
}

// free ends the effect of restrict.
func (d *deadlines) free(conn net.Conn) { d.restrict(conn, eachItsOwn, time.Time{}) }

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
// The caller's deadlines no longer apply to the connection. It returns an error in
// the same case as restrict.
func (d *deadlines) close(conn net.Conn, limit, writes time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed, d.limit = true, limit
	return errors.Join(conn.SetReadDeadline(aLongTimeAgo), conn.SetWriteDeadline(writes))
}

// leave stops setting deadlines, and leaves the caller's deadlines as they are.
func (d *deadlines) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

// expired reports whether the deadline that who names has passed.
func (d *deadlines) expired(who governs) bool {
	d.mu.Lock()
	t := d.of(who)
	d.mu.Unlock()
	return passed(t)
}

// watch returns the deadline that who names, and a channel that is closed when the
// caller sets another one.
func (d *deadlines) watch(who governs) (deadline time.Time, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.of(who), d.changed
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
