package sslredis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-014b8713/sslfilter/sslnet"
)

const (
	// MaxSession bounds the data of one session, in bytes. A session has about 220
	// bytes, and those of the client's certificates, which are 1 to 10 KiB.
	MaxSession = 64 << 10
	// maxLifetime bounds the time for which a session is kept.
	maxLifetime = 7 * 24 * time.Hour
	// deletedFor is the time for which Redis remembers that a session was deleted, so that
	// a Store call that arrives later does not bring it back. The library resumes a session for
	// two hours at most.
	deletedFor = 2*time.Hour + 10*time.Minute
	// maxWait bounds a call whose context has no deadline.
	maxWait = time.Second
	// shortWait is the shortest wait whose timeout counts as a failure of Redis. If the
	// context of a call had less time left, the cause was before the call.
	shortWait = 20 * time.Millisecond
	// maxSkew bounds how far the clocks of two servers are apart. A session that expired less
	// than this ago counts as missing, and not as an error.
	maxSkew = 5 * time.Minute
	// expirySize is the size of the expiry, in seconds since 1970, which precedes the data.
	expirySize = 8
)

var _ sslnet.SessionStore = (*Store)(nil)

// Store keeps the sessions of all servers of a fleet in Redis, by their ids. It is safe
// for concurrent use.
//
// An error means that Redis could not be asked or that its answer is useless. The caller
// then makes a full handshake, as for a session that Redis does not have.
type Store struct {
	*storage
	scope string
}

// storage is what the scopes of a store share.
type storage struct {
	Options
	reads, writes breaker // a Redis may be read-only, or full
	count         struct {
		loads, found, stores, deletes, errors, unavailable, rejected atomic.Int64
	}
}

// StoreStats has counters of a Store and of all its scopes.
type StoreStats struct {
	Loads       int64 // sessions that were asked for
	Found       int64 // that Redis had
	Stores      int64 // sessions that were stored
	Deletes     int64 // sessions that were deleted
	Errors      int64 // calls that failed, and rejected values
	Rejected    int64 // values that were not sealed for their name, or had expired for over 5 minutes
	Unavailable int64 // calls that were not made, because Redis did not answer before
	Interrupted int64 // how often Redis was given up for a pause
}

// NewStore makes a Store. It does not connect.
func NewStore(o Options) (*Store, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	s := &Store{storage: &storage{Options: o}}
	s.reads.now, s.writes.now = o.now, o.now
	return s, nil
}

// Scope returns a Store for sessions that no other scope finds. Servers that do not
// serve the same clients in the same way, such as two relays, need different scopes. The
// scopes of a Store share its counters.
func (s *Store) Scope(name string) *Store { return &Store{storage: s.storage, scope: name} }

// Stats returns the counters.
func (s *Store) Stats() StoreStats {
	c := &s.count
	return StoreStats{Loads: c.loads.Load(), Found: c.found.Load(), Stores: c.stores.Load(), Deletes: c.deletes.Load(),
		Errors: c.errors.Load(), Rejected: c.rejected.Load(), Unavailable: c.unavailable.Load(), Interrupted: s.reads.interruptions() + s.writes.interruptions()}
}

// Load returns the data of a session, or nil if Redis does not have it or it was deleted.
func (s *Store) Load(ctx context.Context, id []byte) (data []byte, err error) {
	s.count.loads.Add(1)
	for i := range s.Secret.list {
		own := &s.Secret.list[i]
		name := own.sessionName(s.Prefix, s.scope, id)
		var value []byte
		err = s.call(ctx, &s.reads, func(ctx context.Context) (err error) {
			value, err = s.Client.Get(ctx, name).Bytes()
			return err
		})
		switch {
		case errors.Is(err, redis.Nil):
			continue
		case err != nil:
			return nil, err
		}
		if data, err = s.unpack(own, name, value); err != nil {
			s.count.rejected.Add(1)
			return nil, s.fail(err)
		}
		if len(data) == 0 {
			return nil, nil
		}
		s.count.found.Add(1)
		return data, nil
	}
	return nil, nil
}

var errExpired = errors.New("sslredis: Redis has a session that has expired")

// unpack opens a value. It returns no data for a session that was deleted or has just expired.
func (s *Store) unpack(own *secret, name string, value []byte) ([]byte, error) {
	if len(value) > MaxSession+expirySize+sealOverhead {
		return nil, fmt.Errorf("sslredis: Redis has a value of %d bytes in place of a session", len(value))
	}
	plain, err := own.open(name, value)
	if err != nil {
		return nil, err
	}
	if len(plain) < expirySize {
		return nil, errSealed
	}
	if late := s.now().Sub(time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)); late >= maxSkew {
		return nil, errExpired
	} else if late >= 0 {
		return nil, nil
	}
	return plain[expirySize:], nil
}

// Store keeps the data of a session until it expires. If Redis has the session already, or
// it was deleted, nothing changes.
func (s *Store) Store(ctx context.Context, id, data []byte, expires time.Time) error {
	life := expires.Sub(s.now())
	switch {
	case len(data) > MaxSession:
		return s.fail(fmt.Errorf("sslredis: a session of %d bytes is not stored; at most %d are", len(data), MaxSession))
	case life < time.Second:
		return nil // Redis would refuse it, or forget it at once
	case life > maxLifetime:
		expires, life = s.now().Add(maxLifetime), maxLifetime
	}
	own := &s.Secret.list[0]
	name := own.sessionName(s.Prefix, s.scope, id)
	value, err := pack(own, name, data, expires)
	if err != nil {
		return s.fail(err)
	}
	if err := s.call(ctx, &s.writes, func(ctx context.Context) error {
		return s.Client.SetArgs(ctx, name, value, redis.SetArgs{Mode: "NX", TTL: life}).Err()
	}); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	s.count.stores.Add(1)
	return nil
}

// pack makes the value for the data of a session. A session without data is one that was
// deleted.
func pack(own *secret, name string, data []byte, expires time.Time) ([]byte, error) {
	plain := binary.BigEndian.AppendUint64(make([]byte, 0, expirySize+len(data)), uint64(expires.Unix()))
	return own.seal(name, append(plain, data...))
}

var errNoAnswer = errors.New("no answer from Redis whether the session is deleted")

// Delete removes a session. If Redis does not have it, Delete returns nil. For two hours, a
// call of Store for the same session then has no effect: such a call may be in progress when a
// client is logged out. If Redis has no memory to remember this, the session is only removed.
func (s *Store) Delete(ctx context.Context, id []byte) error {
	var all error
	for i := range s.Secret.list {
		own := &s.Secret.list[i]
		name := own.sessionName(s.Prefix, s.scope, id)
		mark, err := pack(own, name, nil, s.now().Add(deletedFor))
		if err != nil {
			all = errors.Join(all, s.fail(err))
			continue
		}
		all = errors.Join(all, s.call(ctx, &s.writes, func(ctx context.Context) error {
			var del *redis.IntCmd
			var set *redis.StatusCmd
			_, err := s.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
				del = p.Del(ctx, name) // even a Redis that is out of memory does this
				set = p.Set(ctx, name, mark, deletedFor)
				return nil
			})
			switch {
			case del.Err() == nil && redis.IsOOMError(set.Err()):
				return nil
			case errors.Is(err, redis.Nil):
				return errNoAnswer // Redis may still have the session
			}
			return err
		}))
	}
	if all == nil {
		s.count.deletes.Add(1)
	}
	return all
}

// call makes a call of Redis, unless it did not answer before.
func (s *Store) call(ctx context.Context, b *breaker, call func(context.Context) error) error {
	round, ok := b.allow()
	if !ok {
		s.count.unavailable.Add(1)
		return ErrUnavailable // the failures before it have been reported
	}
	limit, limited := ctx.Deadline()
	short := limited && time.Until(limit) < shortWait
	if !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, maxWait)
		defer cancel()
	}
	err := call(ctx)
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		b.done(round, false)
		return err
	case errors.Is(err, context.Canceled), short && errors.Is(err, context.DeadlineExceeded):
		return err // the client has gone, or came late, and nothing is known about Redis
	}
	b.done(round, true)
	return s.fail(fmt.Errorf("sslredis: %w", err))
}

// fail counts and reports an error.
func (s *Store) fail(err error) error {
	s.count.errors.Add(1)
	s.OnError(err)
	return err
}
