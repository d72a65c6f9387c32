package sslnet

import (
	"context"
	"os"
	"time"
)

// turn is a lock that is held during socket I/O. A Conn has three: for the
// handshake, for the calls that read and for the calls that send. A CipherConn has the
// last two. Goroutines get a turn in the order in which they asked for it. Because the
// wait can be as long as the peer takes, most callers use wait, which gives up at a
// deadline.
type turn chan struct{} // holds one token while the turn is taken

func newTurn() turn { return make(turn, 1) }

// lock takes the turn, without a deadline.
func (t turn) lock() { t <- struct{}{} }

// unlock ends what lock, try or wait began.
func (t turn) unlock() { <-t }

// try takes the turn if it is free.
func (t turn) try() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait takes the turn. It returns an error if ctx ends first or the deadline of the call
// by passes first. If the turn is free, wait takes it in any case.
func (t turn) wait(ctx context.Context, limits *deadlines, by call) error {
	if t.try() {
		return nil
	}
	for {
		deadline, changed := limits.watch(by)
		var late <-chan time.Time
		if !deadline.IsZero() {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			late = timer.C
		}
		select {
		case t <- struct{}{}:
			return nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return os.ErrDeadlineExceeded
		}
	}
}

// lock takes a turn of c as wait does.
func (c *Conn) lock(ctx context.Context, t turn, by call) error {
	err := t.wait(ctx, &c.limits, by)
	if err == os.ErrDeadlineExceeded {
		return c.opError(by.op(), err)
	}
	return err
}

// lockIn takes the turn to read, until the read deadline.
func (c *Conn) lockIn() error { return c.lock(context.Background(), c.in.turn, readCall) }

// lockOut takes the turn to send, until the write deadline.
func (c *Conn) lockOut() error { return c.lock(context.Background(), c.out.turn, writeCall) }
