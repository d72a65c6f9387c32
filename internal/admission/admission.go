// Package admission limits the number of handshakes in progress, so that peers that
// send nothing cannot lock out others.
package admission

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Patience bounds the total time that this end waits for a peer in one handshake: after
// it, the peer's slot can be given to another connection. An honest handshake waits for
// one or two answers. Time in which this end works or queues does not count.
const Patience = time.Second

// Queue admits a limited number of handshakes at a time and queues the others. Each
// handshake that is admitted occupies a Slot. The methods of a Queue may be called
// from any goroutine.
type Queue struct {
	max int

	mu      sync.Mutex
	taken   []*Slot                  // the occupied slots, in order of arrival
	counts  map[netip.Addr]int       // number of slots that each address occupies
	waiting map[netip.Addr][]*waiter // for each address, in order of arrival; an empty list is deleted
	arrived uint64                   // number of waiters so far
	timer   *time.Timer              // calls serve again; nil until a waiter needs it
}

// waiter is a call of Acquire that waits for a slot.
type waiter struct {
	slot   *Slot
	number uint64
	served bool          // guarded by Queue.mu: the waiter has its slot
	given  chan struct{} // closed after served is set and the drop function of the slot's previous owner has returned
}

// New returns a Queue that admits max handshakes at a time.
func New(max int) *Queue {
	return &Queue{max: max, counts: make(map[netip.Addr]int), waiting: make(map[netip.Addr][]*waiter)}
}

// Slot is the admission of one handshake. StartWait and EndWait do nothing on a nil
// Slot.
type Slot struct {
	queue *Queue
	addr  netip.Addr
	drop  func()

	// guarded by Queue.mu
	since   time.Time     // start of the current wait for the peer; zero if there is none
	waited  time.Duration // total of the earlier waits
	kept    bool          // cannot be dropped any more
	dropped bool
}

// Len returns the number of occupied slots.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.taken)
}

// Acquire waits for a slot for a connection from addr. It returns nil if done is
// closed first. If addr is not known yet, pass nil and call SetAddr later.
//
// Among the waiting connections, the address that occupies the fewest slots is
// served first. Between equal addresses, the connection that arrived first is served
// first. If all slots are occupied, a slot whose peer has used up Patience is given
// away: the oldest such slot of the address that occupies the most. Its drop
// function is called, from any goroutine, and must not block. An address never gets
// a slot this way from another address that occupies fewer.
func (q *Queue) Acquire(done <-chan struct{}, addr net.Addr, drop func()) *Slot {
	w := &waiter{slot: &Slot{queue: q, addr: ClientAddr(addr), drop: drop}, given: make(chan struct{})}
	q.mu.Lock()
	w.number = q.arrived
	q.arrived++
	q.waiting[w.slot.addr] = append(q.waiting[w.slot.addr], w)
	q.serve()
	select {
	case <-w.given:
		return w.slot
	case <-done:
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.served { // in the meantime
		return w.slot
	}
	q.dequeue(w)
	return nil
}

// dequeue removes w from the waiters of its address. The caller holds mu.
func (q *Queue) dequeue(w *waiter) {
	addr := w.slot.addr
	q.waiting[addr] = slices.DeleteFunc(q.waiting[addr], func(other *waiter) bool { return other == w })
	if len(q.waiting[addr]) == 0 {
		delete(q.waiting, addr)
	}
}

// serve gives slots to the waiters, as long as there are slots to give. The caller
// holds mu, and serve unlocks it.
func (q *Queue) serve() {
	var victims []*Slot
	var served []*waiter
	for len(q.waiting) > 0 {
		w, victim, wait := q.next()
		if w == nil {
			q.lookAgain(wait)
			break
		}
		if victim != nil {
			victim.dropped = true
			q.remove(victim)
			victims = append(victims, victim)
		}
		q.dequeue(w)
		q.taken = append(q.taken, w.slot)
		q.counts[w.slot.addr]++
		w.served = true
		served = append(served, w)
	}
	q.mu.Unlock()
	for _, victim := range victims {
		victim.drop()
	}
	for _, w := range served {
		close(w.given)
	}
}

// lookAgain calls serve after wait. The caller holds mu.
func (q *Queue) lookAgain(wait time.Duration) {
	if q.timer != nil {
		q.timer.Reset(wait)
		return
	}
	q.timer = time.AfterFunc(wait, func() {
		q.mu.Lock()
		q.serve()
	})
}

// next chooses the waiter that gets a slot, and the slot that is dropped for it if
// no slot is free. If best is nil, no waiter gets a slot now, and wait is the time
// after which to try again. The caller holds mu.
func (q *Queue) next() (best *waiter, victim *Slot, wait time.Duration) {
	free := len(q.taken) < q.max
	var most *Slot               // the slot to drop for another address
	var own map[netip.Addr]*Slot // the slot of each address to drop for the same address
	if !free {
		if most, own, wait = q.droppable(); most == nil {
			return nil, nil, wait
		}
	}
	for addr, list := range q.waiting {
		w := list[0]
		switch {
		case !free && q.counts[most.addr] < q.counts[addr] && own[addr] == nil:
		case best == nil, q.counts[addr] < q.counts[best.slot.addr],
			q.counts[addr] == q.counts[best.slot.addr] && w.number < best.number:
			best = w
		}
	}
	if best == nil || free {
		return best, nil, wait
	}
	if mine := own[best.slot.addr]; mine != nil && q.counts[most.addr] <= q.counts[best.slot.addr] {
		return best, mine, 0
	}
	return best, most, 0
}

// droppable finds the slots whose peers have used up Patience. most is the one to
// drop for another address, own has the oldest one of each address, and wait is the
// time until there may be a further one. The caller holds mu.
func (q *Queue) droppable() (most *Slot, own map[netip.Addr]*Slot, wait time.Duration) {
	now := time.Now()
	wait = Patience
	own = make(map[netip.Addr]*Slot)
	for _, s := range q.taken {
		if s.kept {
			continue
		}
		if left := Patience - s.waitedBy(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		if own[s.addr] == nil {
			own[s.addr] = s
		}
		if most == nil || q.counts[s.addr] > q.counts[most.addr] {
			most = s
		}
	}
	return most, own, wait
}

// waitedBy returns the total time that the handshake has waited for the peer. The
// caller holds mu.
func (s *Slot) waitedBy(now time.Time) time.Duration {
	if s.since.IsZero() {
		return s.waited
	}
	return s.waited + now.Sub(s.since)
}

// remove makes the slot free. The caller holds mu.
func (q *Queue) remove(slot *Slot) {
	q.taken = slices.DeleteFunc(q.taken, func(s *Slot) bool { return s == slot })
	q.uncount(slot)
}

// uncount subtracts a slot from the count of its address. The caller holds mu.
func (q *Queue) uncount(slot *Slot) {
	if q.counts[slot.addr]--; q.counts[slot.addr] == 0 {
		delete(q.counts, slot.addr)
	}
}

// StartWait records that the handshake begins to wait for the peer.
func (s *Slot) StartWait() { s.setSince(time.Now()) }

// EndWait records that the handshake has stopped waiting for the peer.
func (s *Slot) EndWait() { s.setSince(time.Time{}) }

func (s *Slot) setSince(since time.Time) {
	if s == nil {
		return
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.waited, s.since = s.waitedBy(time.Now()), since
}

// SetAddr sets the address of a connection that was not known to Acquire. Until
// then, all such connections count as those of one address.
func (s *Slot) SetAddr(addr net.Addr) {
	q := s.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.dropped {
		return
	}
	q.uncount(s)
	s.addr = ClientAddr(addr)
	q.counts[s.addr]++
}

// Keep records that the handshake is done, so that the slot cannot be dropped before
// Release. It returns false if the slot was already dropped.
func (s *Slot) Keep() bool {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.kept = !s.dropped
	return s.kept
}

// Dropped reports whether the slot was given to another connection.
func (s *Slot) Dropped() bool {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.dropped
}

// Release gives the slot back. It must be called once.
func (s *Slot) Release() {
	q := s.queue
	q.mu.Lock()
	if !s.dropped {
		q.remove(s)
	}
	q.serve()
}

// ClientAddr returns the address under which connections are counted: the client's
// IPv4 address, or the /64 network from which the client can choose its IPv6
// addresses. It returns the same zero address for everything that is not a TCP
// address.
func ClientAddr(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		if prefix, err := ip.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return ip
}

type key struct{}

// WithSlot returns a context that passes s to a handshake. The handshake calls
// StartWait and EndWait of s.
func WithSlot(ctx context.Context, s *Slot) context.Context {
	return context.WithValue(ctx, key{}, s)
}

// SlotFrom returns the slot that WithSlot stored in ctx, or nil.
func SlotFrom(ctx context.Context) *Slot {
	s, _ := ctx.Value(key{}).(*Slot)
	return s
}
