package sslnet

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// deadlines are what the caller asked for, and how they hold for the connection
// below: a handshake in a Write reads too, and only the deadline for writes may
// end it.
type deadlines struct {
	mu          sync.Mutex
	read, write time.Time     // of the caller; zero is none
	limit       time.Time     // of our own: of the handshake or of Close; zero is none
	governs     governs       // which of the caller's count
	closed      bool          // none is set any more
	changed     chan struct{} // closed by the next change, if anybody waits for one
}

// governs says which of the caller's deadlines count for both directions.
type governs uint8

const (
	eachItsOwn   governs = iota // data flow
	readGoverns                 // a handshake in a Read
	writeGoverns                // a handshake in a Write
	bothGovern                  // a handshake for its own sake
)

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.limits.set(c.conn, &t, &t) }

// SetReadDeadline ends Read, also one under way, at t. A zero t is no deadline.
// A Read that it ended can be called again.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.limits.set(c.conn, &t, nil) }

// SetWriteDeadline ends Write, also one under way, at t. A zero t is no
// deadline. See Write for what becomes of data that it did not send: unlike
// with crypto/tls, the connection stays whole.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.limits.set(c.conn, nil, &t) }

// set notes the caller's deadlines; nil leaves one as it is.
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

// apply sets what holds now on the connection below. The caller holds mu.
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

// of is the caller's deadline for a call. The caller holds mu.
func (d *deadlines) of(who governs) time.Time {
	switch who {
	case readGoverns:
		return d.read
	case writeGoverns:
		return d.write
	}
	return earlier(d.read, d.write)
}

// restrict lets who's deadline hold for both directions, and limit beside it. An
// error is a connection that has no deadlines.
func (d *deadlines) restrict(conn net.Conn, who governs, limit time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.governs == who && d.limit.Equal(limit) {
		return nil
	}
	d.governs, d.limit = who, limit
	return d.apply(conn, true, true)
}

// free ends restrict.
func (d *deadlines) free(conn net.Conn) { d.restrict(conn, eachItsOwn, time.Time{}) }

// shorten sets another limit. An error is as in restrict.
func (d *deadlines) shorten(conn net.Conn, limit time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.limit = limit
	return d.apply(conn, true, true)
}

// close ends reads now and writes at the given time; the caller's deadlines count
// no more. An error is as in restrict.
func (d *deadlines) close(conn net.Conn, writes time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return errors.Join(conn.SetReadDeadline(aLongTimeAgo), conn.SetWriteDeadline(writes))
}

// leave gives the connection up with the caller's deadlines as they are.
func (d *deadlines) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

// expired reports whether who's deadline has passed.
func (d *deadlines) expired(who governs) bool {
	d.mu.Lock()
	t := d.of(who)
	d.mu.Unlock()
	return passed(t)
}

// wait waits for a token in turn, as long as ctx and who's deadline allow.
func (d *deadlines) wait(ctx context.Context, turn chan<- struct{}, who governs) error {
	select {
	case turn <- struct{}{}:
		return nil
	default:
	}
	for {
		d.mu.Lock()
		t := d.of(who)
		if d.changed == nil {
			d.changed = make(chan struct{})
		}
		changed := d.changed
		d.mu.Unlock()
		var late <-chan time.Time
		if !t.IsZero() {
			timer := time.NewTimer(time.Until(t))
			defer timer.Stop()
			late = timer.C
		}
		select {
		case turn <- struct{}{}:
			return nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return os.ErrDeadlineExceeded
		}
	}
}

var (
	never        time.Time // no deadline
	aLongTimeAgo = time.Unix(1, 0)
)

func passed(t time.Time) bool { return !t.IsZero() && time.Until(t) <= 0 }

// earlier is the earlier of two deadlines, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
