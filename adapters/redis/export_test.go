package sslredis

import (
	"context"
	"net"
	"time"
)

// SetClock replaces the clock of a Keeper and of a Store.
func (o *Options) SetClock(now func() time.Time) { o.now = now }

// Step asks Redis once, as the goroutine of a Keeper does.
func (k *Keeper) Step(ctx context.Context) error { return k.step(ctx) }

// Keys returns what the ticket keys of a scope were set to.
func (k *Keeper) Keys(scope string) [][ticketKeySize]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.set[scope]
}

// Pauses returns the pauses of a Keeper after polls that failed or not.
func Pauses(epoch time.Duration, failed ...bool) (list []time.Duration) {
	p := pauses{most: epoch / polls, retry: minRetry}
	for _, f := range failed {
		list = append(list, p.next(f))
	}
	return list
}

// Breaker counts failures as a Store does. Each call of the function begins a call of Redis,
// and returns nil if it is not allowed, and otherwise the function that ends it.
func Breaker(now func() time.Time) (begin func() func(failed bool), pause func() time.Duration) {
	b := &breaker{now: now}
	return func() func(bool) {
		round, ok := b.allow()
		if !ok {
			return nil
		}
		return func(failed bool) { b.done(round, failed) }
	}, func() time.Duration { return b.pause }
}

// Guarded returns a connection with bounded replies.
func Guarded(conn net.Conn) net.Conn { return &guard{Conn: conn} }

// CheckReplies follows replies that arrive in pieces.
func CheckReplies(pieces ...[]byte) error {
	g := new(guard)
	for _, piece := range pieces {
		if err := g.check(piece); err != nil {
			return err
		}
	}
	return nil
}

// SessionName and EpochName return names in Redis.
func (s *Secret) SessionName(scope string, id []byte) string {
	return s.list[0].sessionName(defaultPrefix, scope, id)
}

func (k *Keeper) EpochName(epoch int64) string {
	return k.Secret.list[0].epochName(k.Prefix, k.label(epoch))
}

// Derived returns the keys that are derived from the first secret.
func (s *Secret) Derived() [][]byte {
	own := s.list[0]
	return [][]byte{own.names, own.values, own.epochs, own.derived}
}

// Seal and Open use the first secret.
func (s *Secret) Seal(name string, plain []byte) ([]byte, error) { return s.list[0].seal(name, plain) }
func (s *Secret) Open(name string, value []byte) ([]byte, error) { return s.list[0].open(name, value) }

const (
	BreakAfter   = breakAfter
	MaxPause     = maxPause
	SealOverhead = sealOverhead
	MaxBulk      = maxBulk
	MaxDepth     = maxDepth
	MaxLists     = maxLists
	Lead         = lead
	Ahead        = ahead
)
