// Package cut ends a connection that did not end in order. Everything that was
// written to it is delivered first, and then the peer can tell the end from an
// orderly one.
//
// Closing a socket with SO_LINGER set to zero does only the second half: the
// kernel resets the connection and throws away what it has not sent. An ordinary
// close while input is unread does the same (RFC 1122 section 4.2.2.13).
package cut

import "time"

const (
	// Stall is how long a peer may take nothing before it is given up. What it
	// has not taken by then is lost.
	Stall = 30 * time.Second
	// afterStop bounds the wait once the caller's stop channel is closed.
	afterStop = time.Second
	// afterLast is how long Finish waits for the peer's end after the peer's
	// system has everything.
	afterLast = time.Second
	// unknown is how long Reset waits on systems that cannot tell how much of
	// what was written is still on its way.
	unknown = time.Second

	shortPause, longPause = time.Millisecond, 50 * time.Millisecond
	// discardSize is the buffer for input that nobody reads, in bytes.
	discardSize = 16 << 10
)
