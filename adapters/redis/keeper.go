package sslredis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-014b8713/sslfilter"
)

const (
	// ticketLifetime is the longest time for which OpenSSL accepts a ticket.
	ticketLifetime = 2 * time.Hour
	// ahead is the number of epochs whose keys are in Redis before they begin. A server
	// that loses Redis can read the tickets of the other servers for that many epochs.
	ahead = 3
	// lead is a divisor: the key of an epoch is made at least Epoch/lead before it
	// begins, so that all servers have read it by then.
	lead = 4
	// polls is the number of times that Redis is asked in an epoch.
	polls = 60
	// maxTicketKeys is the number of keys that sslfilter.TicketKeys can have. This is
	// enough for two secrets and the shortest epoch. If there are variants, the oldest keys
	// are left out.
	maxTicketKeys = 16
	// maxVariants bounds the keys of one epoch. An epoch has more than one key only if Redis
	// lost the first one and a server that did not have it was the first to make a new one.
	maxVariants = 3
	// minRetry is the pause after a failure. It doubles until it is the usual pause.
	minRetry = time.Second
	// pollTimeout bounds one poll, with all its requests to Redis.
	pollTimeout = 5 * time.Second
)

// Keeper gives all servers of a fleet the same ticket keys, and replaces them when a new
// epoch begins (Options.Epoch). The key of an epoch is random. The first server that does
// not find it in Redis makes it and puts it there, sealed under the secret of the fleet, up
// to three epochs before it is used. When the tickets of an epoch have expired, Redis and
// the servers forget its key.
//
// If Redis fails, the servers continue with the keys that they have. After that they use
// keys that they derive from the secret and the number of the epoch. All servers always
// accept the tickets of both keys of an epoch. So a server that has no key from Redis can
// encrypt with the derived key, and the other servers can read its tickets.
//
// WARNING: An attacker who obtains the secret can derive these keys for any epoch, and can
// decrypt recorded connections of TLS 1.2 whose tickets were encrypted with them. See
// docs/sessions.md.
//
// A Keeper is safe for concurrent use. Close it after the last connection: without it, the
// ticket keys no longer change.
type Keeper struct {
	Options
	past int64 // number of earlier epochs whose tickets are accepted

	polling sync.Mutex // held by step

	mu     sync.Mutex
	known  []map[int64]*variants            // of each secret, by epoch
	scopes map[string]*sslfilter.TicketKeys // by name
	set    map[string][][ticketKeySize]byte // the last keys of a scope that were set
	stop   context.CancelFunc               // nil before Start
	done   chan struct{}
	closed bool

	count struct{ polls, errors, made, restored, differed, rejected, changes atomic.Int64 }
	fresh atomic.Bool // the present key came from Redis
}

// variants are the keys of one epoch that came from Redis, the present one first.
type variants struct{ list []master }

// KeeperStats has counters of a Keeper.
type KeeperStats struct {
	Polls     int64 // how often Redis was asked
	Errors    int64 // how often that failed
	Made      int64 // keys that this server made
	Restored  int64 // keys that Redis had lost and got from this server
	Differed  int64 // keys in Redis that differ from those that this server had
	Rejected  int64 // values that were not sealed for their name
	Changes   int64 // how often the ticket keys of a scope were set
	FromRedis bool  // the present key came from Redis; otherwise it is derived from the secret
}

// NewKeeper makes a Keeper. It does not connect.
func NewKeeper(o Options) (*Keeper, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	k := &Keeper{
		Options: o, past: int64((ticketLifetime + o.Epoch - 1) / o.Epoch),
		scopes: make(map[string]*sslfilter.TicketKeys), set: make(map[string][][ticketKeySize]byte),
	}
	for range o.Secret.list {
		k.known = append(k.known, make(map[int64]*variants))
	}
	return k, nil
}

// TicketKeys returns the keys for the contexts of a scope, for Options.TicketKeys of the
// library. They are usable at once. After Start, the Keeper keeps them up to date. Tickets of
// one scope are not accepted in another scope. Servers that do not serve the same clients in
// the same way, such as two relays, need different scopes. All servers of the fleet need
// the same scopes, but not at the same time.
func (k *Keeper) TicketKeys(scope string) (*sslfilter.TicketKeys, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errors.New("sslredis: the Keeper is closed")
	}
	if keys := k.scopes[scope]; keys != nil {
		return keys, nil
	}
	keys, err := sslfilter.NewTicketKeys()
	if err != nil {
		return nil, err
	}
	k.scopes[scope] = keys
	if err := k.apply(k.epoch(), scope); err != nil {
		delete(k.scopes, scope)
		return nil, err
	}
	return keys, nil
}

// Retain forgets all scopes but these, and clears the Keeper's copies of their keys. Contexts
// that still use keys of a forgotten scope work as before, but their keys no longer change;
// the keys are cleared when these contexts and the TicketKeys have been freed. A later call of
// TicketKeys makes new TicketKeys for the scope. A server calls Retain after a reload that has
// removed scopes.
func (k *Keeper) Retain(scopes ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for scope := range k.scopes {
		if !slices.Contains(scopes, scope) {
			k.forgetScope(scope)
		}
	}
}

// forgetScope forgets a scope. k.mu is held.
func (k *Keeper) forgetScope(scope string) {
	clear(k.set[scope])
	delete(k.set, scope)
	delete(k.scopes, scope)
}

// Start asks Redis once, for at most 5 seconds or until ctx ends, and then keeps the keys up
// to date in a goroutine until Close. If Redis does not answer, Start calls OnError and
// returns nil. The error is not nil if the Keeper has been started or closed before.
func (k *Keeper) Start(ctx context.Context) error {
	k.mu.Lock()
	if k.closed || k.stop != nil {
		k.mu.Unlock()
		return errors.New("sslredis: the Keeper has been started or closed before")
	}
	var life context.Context
	life, k.stop = context.WithCancel(context.Background())
	k.done = make(chan struct{})
	k.mu.Unlock()
	failed := k.step(ctx) != nil
	go k.run(life, failed)
	return nil
}

// Close ends the goroutine of Start and clears the Keeper's copies of the keys. The ticket
// keys of contexts stay as they are and no longer change, so stop the servers that use them
// too.
// The error is always nil.
func (k *Keeper) Close() error {
	k.mu.Lock()
	stop, done := k.stop, k.done
	k.closed = true
	k.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	k.polling.Lock()
	defer k.polling.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, known := range k.known {
		for epoch := range known {
			forget(known, epoch)
		}
	}
	for scope := range k.scopes {
		k.forgetScope(scope)
	}
	return nil
}

// String describes the Keeper without its keys.
func (k *Keeper) String() string { return "ticket keys that change every " + k.Epoch.String() }

// Format prints what String returns, whatever the verb is, so that no verb shows a key.
func (k *Keeper) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// Stats returns the counters.
func (k *Keeper) Stats() KeeperStats {
	c := &k.count
	return KeeperStats{Polls: c.polls.Load(), Errors: c.errors.Load(), Made: c.made.Load(), Restored: c.restored.Load(),
		Differed: c.differed.Load(), Rejected: c.rejected.Load(), Changes: c.changes.Load(), FromRedis: k.fresh.Load()}
}

// pauses are the times between two polls.
type pauses struct {
	most  time.Duration // between polls that succeed
	retry time.Duration // after the next failure
}

// next returns the pause after a poll.
func (p *pauses) next(failed bool) time.Duration {
	pause := p.most
	if failed {
		pause = min(p.retry, pause)
		p.retry = min(2*p.retry, p.most) // without the bound it would overflow in half an hour
	} else {
		p.retry = minRetry
	}
	return pause
}

// run is the goroutine of a Keeper.
func (k *Keeper) run(ctx context.Context, failed bool) {
	defer close(k.done)
	pauses := pauses{most: k.Epoch / polls, retry: minRetry}
	for {
		pause := pauses.next(failed)
		if !k.sleep(ctx, pause/2+mathrand.N(pause)) { // the servers do not ask at the same time
			return
		}
		failed = k.step(ctx) != nil
	}
}

// sleep waits for a pause, and reports whether it is over before ctx ends. If an epoch
// begins in the meantime, it changes the ticket keys, which have been known for some time: if all
// servers asked Redis at that moment, they would all ask at once.
func (k *Keeper) sleep(ctx context.Context, pause time.Duration) bool {
	poll := time.NewTimer(pause)
	defer poll.Stop()
	for {
		epoch := time.NewTimer(k.Epoch - time.Duration(k.now().UnixNano())%k.Epoch)
		select {
		case <-ctx.Done():
			epoch.Stop()
			return false
		case <-poll.C:
			epoch.Stop()
			return true
		case <-epoch.C:
			if err := k.applyAll(k.epoch()); err != nil {
				k.count.errors.Add(1)
				k.OnError(err)
			}
		}
	}
}

// epoch returns the number of the present epoch.
func (k *Keeper) epoch() int64 { return k.now().Unix() / int64(k.Epoch/time.Second) }

func (k *Keeper) begin(epoch int64) time.Time {
	return time.Unix(epoch*int64(k.Epoch/time.Second), 0)
}

// label names an epoch. Fleets with epochs of another length have other keys.
func (k *Keeper) label(epoch int64) string { return fmt.Sprintf("%d/%d", epoch, k.Epoch/time.Second) }

// step brings the keys up to date: first with the keys that are known, and then with Redis.
func (k *Keeper) step(ctx context.Context) error {
	k.polling.Lock()
	defer k.polling.Unlock()
	now := k.epoch()
	k.count.polls.Add(1)
	err := k.applyAll(now) // Redis may keep us waiting
	limited, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	err = errors.Join(err, k.exchange(limited, now))
	err = errors.Join(err, k.applyAll(now))
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		k.count.errors.Add(1)
		k.OnError(err)
	}
	return err
}

// slot is a key in Redis.
type slot struct {
	secret int
	epoch  int64
	name   string
}

// exchange reads the keys of the past, present and next epochs from Redis, and makes or
// restores the keys that Redis does not have. Something else under the name of one key, or a
// node of a Cluster that does not answer, concerns no other key.
func (k *Keeper) exchange(ctx context.Context, now int64) error {
	var slots []slot
	for i := range k.Secret.list {
		for epoch := now - k.past; epoch <= now+ahead; epoch++ {
			slots = append(slots, slot{i, epoch, k.Secret.list[i].epochName(k.Prefix, k.label(epoch))})
		}
	}
	missing, err := k.read(ctx, slots)
	written, failed := k.write(ctx, missing) // also if another key could not be read
	err = errors.Join(err, failed)
	if len(written) > 0 { // another server may have been faster
		lost, again := k.read(ctx, written)
		if again == nil && len(lost) > 0 {
			again = errLost
		}
		err = errors.Join(err, again)
	}
	return err
}

// errLost is the error if Redis keeps nothing. Derived keys are then in use.
var errLost = errors.New("sslredis: ticket keys: Redis does not have the keys that it has just accepted")

// read reads keys, and returns those that Redis does not have.
func (k *Keeper) read(ctx context.Context, slots []slot) (missing []slot, err error) {
	replies := make([]*redis.StringCmd, len(slots))
	k.Client.Pipelined(ctx, func(p redis.Pipeliner) error { // each reply has its own error
		for i, s := range slots {
			replies[i] = p.Get(ctx, s.name)
		}
		return nil
	})
	var all []error
	for i, s := range slots {
		value, err := replies[i].Bytes()
		switch {
		case errors.Is(err, redis.Nil):
			missing = append(missing, s)
		case err != nil:
			all = append(all, err)
		default:
			if err := k.learn(s, value); err != nil {
				k.count.rejected.Add(1)
				all = append(all, err)
			}
		}
	}
	if len(all) > 0 {
		return missing, fmt.Errorf("sslredis: ticket keys: %w", all[0]) // the others rarely differ
	}
	return missing, nil
}

// learn makes a key from Redis the first key of its epoch.
func (k *Keeper) learn(s slot, value []byte) error {
	plain, err := k.Secret.list[s.secret].open(s.name, value)
	if err != nil || len(plain) != masterSize {
		return errSealed
	}
	defer clear(plain)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	known := k.known[s.secret][s.epoch]
	if known == nil {
		known = new(variants)
		k.known[s.secret][s.epoch] = known
	}
	own := master(plain)
	switch place := slices.Index(known.list, own); {
	case place == 0:
	case place > 0:
		known.list[0], known.list[place] = known.list[place], known.list[0]
		k.count.differed.Add(1)
	default:
		if len(known.list) > 0 {
			k.count.differed.Add(1)
		}
		known.list = slices.Insert(slices.Grow(known.list, maxVariants+1), 0, own) // never moved: a copy would stay
		if len(known.list) > maxVariants {
			clear(known.list[maxVariants][:])
			known.list = known.list[:maxVariants]
		}
	}
	return nil
}

// write puts keys into Redis that it does not have, and returns them. If several servers
// do this at the same time, Redis keeps the first key.
func (k *Keeper) write(ctx context.Context, missing []slot) (written []slot, err error) {
	var all []error
	for _, s := range missing {
		var own master
		k.mu.Lock()
		known := k.known[s.secret][s.epoch]
		if known != nil {
			own = known.list[0]
		}
		k.mu.Unlock()
		if known == nil {
			if k.begin(s.epoch).Sub(k.now()) < k.Epoch/lead {
				continue // a server that has read the keys before would not know it in time
			}
			rand.Read(own[:])
		}
		made, err := k.put(ctx, s, own)
		clear(own[:])
		switch {
		case err != nil:
			all = append(all, fmt.Errorf("sslredis: ticket keys: %w", err))
			continue
		case made && known == nil:
			k.count.made.Add(1)
		case made:
			k.count.restored.Add(1)
		}
		written = append(written, s)
	}
	if len(all) > 0 {
		return written, all[0]
	}
	return written, nil
}

// put puts a key into Redis if Redis does not have a key for the epoch.
func (k *Keeper) put(ctx context.Context, s slot, own master) (made bool, err error) {
	value, err := k.Secret.list[s.secret].seal(s.name, own[:])
	if err != nil {
		return false, err
	}
	life := k.begin(s.epoch + 1 + k.past).Sub(k.now())
	return k.Client.SetNX(ctx, s.name, value, max(life, time.Second)).Result()
}

// applyAll forgets the keys of old epochs and sets the ticket keys of all scopes.
func (k *Keeper) applyAll(now int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	for _, known := range k.known {
		for epoch := range known {
			if epoch < now-k.past || epoch > now+ahead { // the clock may have been set back
				forget(known, epoch)
			}
		}
	}
	var all []error
	for scope := range k.scopes {
		all = append(all, k.apply(now, scope))
	}
	return errors.Join(all...)
}

func forget(known map[int64]*variants, epoch int64) {
	clear(known[epoch].list)
	delete(known, epoch)
}

// apply sets the ticket keys of a scope. k.mu is held.
func (k *Keeper) apply(now int64, scope string) error {
	list := make([][ticketKeySize]byte, 0, (k.past+2)*int64(len(k.Secret.list))*(maxVariants+1)) // never moved: a copy would stay
	add := func(m *master) error {
		key, err := m.ticketKey(scope)
		list = append(list, key)
		return err
	}
	var err error
	for _, epoch := range k.accepted(now) {
		for i := range k.Secret.list {
			if known := k.known[i][epoch]; known != nil {
				for j := range known.list {
					err = errors.Join(err, add(&known.list[j]))
				}
			}
			derived := k.Secret.list[i].derive(k.label(epoch))
			err = errors.Join(err, add(&derived))
			clear(derived[:])
		}
	}
	if err != nil {
		clear(list)
		return err
	}
	if len(list) > maxTicketKeys {
		clear(list[maxTicketKeys:])
		list = list[:maxTicketKeys]
	}
	k.fresh.Store(k.known[0][now] != nil)
	if old := k.set[scope]; slices.Equal(old, list) {
		clear(list)
		return nil
	} else if err := k.scopes[scope].Set(list...); err != nil {
		clear(list)
		return fmt.Errorf("sslredis: %w", err)
	} else {
		clear(old)
	}
	k.set[scope] = list
	k.count.changes.Add(1)
	return nil
}

// accepted returns the epochs whose tickets are accepted. The present epoch is the first,
// because the first key of the list encrypts. The next epoch is included, because the
// clocks of other servers may be ahead.
func (k *Keeper) accepted(now int64) []int64 {
	list := []int64{now, now + 1}
	for epoch := now - 1; epoch >= now-k.past; epoch-- {
		list = append(list, epoch)
	}
	return list
}
