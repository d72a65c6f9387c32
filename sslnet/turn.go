package sslnet

import (
	"context"
	"os"
	"time"
)

// turn is a lock that is held during socket I/O. A Conn has three: for the
// handshake, for the calls that read and for the calls that send. Goroutines get a
// turn in the order in which they asked for it. Because the wait can be as long as
// the peer takes, most callers use Conn.lock, which gives up at a deadline.
type turn chan struct{} // holds one token while the turn is taken

func newTurn() turn { return make(turn, 1) }

// lock takes the turn, without a deadline.
func (t turn) lock() { t <- struct{}{} }

// unlock ends what lock or Conn.lock began.
func (t turn) unlock() { <-t }

// lock takes a turn. It returns an error if ctx ends first or the deadline of the
// call by passes first. If the turn is free, lock takes it in any case.
func (c *Conn) lock(ctx context.Context, t turn, by call) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	for {
		deadline, changed := c.limits.watch(by)
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
			return c.opError(by.op(), os.ErrDeadlineExceeded)
		}
	}
}

// lockIn takes the turn to read, until the read deadline.
func (c *Conn) lockIn() error { return c.lock(context.Background(), c.in.turn, readCall) }

// lockOut takes the turn to send, until the write deadline.
func (c *Conn) lockOut() error { return c.lock(context.Background(), c.out.turn, writeCall) }
