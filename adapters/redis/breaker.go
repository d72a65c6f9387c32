package sslredis

import (
	"errors"
	"sync"
	"time"
)

// ErrUnavailable is the error of a call that was not made, because the calls before it
// have failed. Redis is tried again after a pause.
var ErrUnavailable = errors.New("sslredis: Redis is not asked, because it has not answered before")

const (
	// breakAfter is the number of failures in a row after which Redis is not asked.
	breakAfter = 5
	// minPause is the first pause. Each failed trial after it doubles the pause.
	minPause = 500 * time.Millisecond
	// maxPause bounds a pause.
	maxPause = 15 * time.Second
)

// breaker keeps a Redis that does not answer from costing each handshake its deadline.
// After breakAfter failures in a row, calls fail at once, except one after each pause.
type breaker struct {
	now func() time.Time

	mu       sync.Mutex
	failures int
	round    int           // how often the pause has changed
	pause    time.Duration // 0: calls are allowed
	retry    time.Time     // when the next trial is allowed
	opened   int64         // how often calls were stopped
}

// allow reports whether a call may be made. done must be called after it, with the round.
func (b *breaker) allow() (round int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return b.round, true
	}
	now := b.now()
	if now.Before(b.retry) && b.retry.Sub(now) <= maxPause { // otherwise the clock was set back
		return b.round, false
	}
	b.retry = now.Add(b.pause) // this call is the trial, and no other follows within the pause
	return b.round, true
}

// done notes the result of a call that began in a round. Of calls that were made at the same
// time and fail together, one changes the pause: the others began in an earlier round.
func (b *breaker) done(round int, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !failed {
		if b.pause > 0 {
			b.round++
		}
		b.failures, b.pause = 0, 0
		return
	}
	if round != b.round {
		return
	}
	if b.failures++; b.failures < breakAfter {
		return
	}
	b.round++
	if b.pause == 0 {
		b.opened++
		b.pause = minPause
	} else {
		b.pause = min(2*b.pause, maxPause)
	}
	b.retry = b.now().Add(b.pause)
}

// interruptions returns how often calls were stopped.
func (b *breaker) interruptions() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened
}
