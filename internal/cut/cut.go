// Package cut ends a connection abnormally, but without losing data. Everything
// that was written to the connection is delivered first. Then it ends in a way
// that the peer cannot mistake for an orderly end.
//
// A close with SO_LINGER set to zero does only the second part: the kernel resets
// the connection and discards what it has not sent. An ordinary close while input
// is unread does the same (RFC 1122 section 4.2.2.13).
package cut

import "time"

const (
	// Stall bounds the time for which a peer takes no data before Reset and Finish
	// give up. Data that the peer has not taken by then is lost.
	Stall = 30 * time.Second
	// afterStop bounds the wait once the caller's stop channel is closed.
	afterStop = time.Second
	// afterLast bounds the time for which Finish waits for the peer's FIN after the
	// peer's system has acknowledged everything.
	afterLast = time.Second
	// unknown bounds the wait of Reset on systems that do not report how much
	// written data the peer's system has not acknowledged.
	unknown = time.Second

	shortPause, longPause = time.Millisecond, 50 * time.Millisecond
	// discardSize is the size of the buffer for discarded input, in bytes.
	discardSize = 16 << 10
)
