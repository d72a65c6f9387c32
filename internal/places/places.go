// Package places bounds the number of handshakes in progress, so that peers that
// send nothing cannot lock out others.
package places

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Patience is the total time that this end waits for a peer in one handshake before
// the peer's place can be given to another connection. An honest handshake waits
// for one or two answers. Time in which this end works or queues does not count.
const Patience = time.Second

// Places is a limited number of places for handshakes. Its methods may be called
// from any goroutine.
type Places struct {
	max int

	mu      sync.Mutex
	taken   []*Place                 // in order of arrival
	counts  map[netip.Addr]int       // places that each address has
	queues  map[netip.Addr][]*waiter // for each address, in order of arrival; an empty queue is deleted
	arrived uint64                   // number of waiters so far
	timer   *time.Timer              // calls serve again; nil until a waiter needs it
}

// waiter is a call of Take that waits for a place.
type waiter struct {
	place  *Place
	number uint64
	served bool          // guarded by mu of Places: the waiter has its place
	given  chan struct{} // closed after that, and after drop of the place's previous owner
}

// New returns max places.
func New(max int) *Places {
	return &Places{max: max, counts: make(map[netip.Addr]int), queues: make(map[netip.Addr][]*waiter)}
}

// Place is the place of one handshake. Wait and Heard do nothing on a nil Place.
type Place struct {
	places *Places
	addr   netip.Addr
	drop   func()

	// guarded by mu of places
	since   time.Time     // start of the current wait for the peer; zero if there is none
	waited  time.Duration // total of the earlier waits
	kept    bool          // cannot be dropped any more
	dropped bool
}

// Len returns the number of places that are taken.
func (p *Places) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.taken)
}

// Take waits for a place for a connection from addr. It returns nil if over is
// closed first. If addr is not known yet, pass nil and call SetAddr later.
//
// Among the waiting connections, the address that has the fewest places is served
// first. Between equal addresses, the connection that arrived first is served
// first. If all places are taken, a place whose peer has used up Patience is given
// away: the oldest such place of the address that has the most places. Its drop
// function is called, from any goroutine, and must not block. An address never
// gets a place this way from another address that has fewer places.
func (p *Places) Take(over <-chan struct{}, addr net.Addr, drop func()) *Place {
	w := &waiter{place: &Place{places: p, addr: Client(addr), drop: drop}, given: make(chan struct{})}
	p.mu.Lock()
	w.number = p.arrived
	p.arrived++
	p.queues[w.place.addr] = append(p.queues[w.place.addr], w)
	p.serve()
	select {
	case <-w.given:
		return w.place
	case <-over:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.served { // in the meantime
		return w.place
	}
	p.unqueue(w)
	return nil
}

// unqueue removes w from its queue. The caller holds mu.
func (p *Places) unqueue(w *waiter) {
	addr := w.place.addr
	p.queues[addr] = slices.DeleteFunc(p.queues[addr], func(other *waiter) bool { return other == w })
	if len(p.queues[addr]) == 0 {
		delete(p.queues, addr)
	}
}

// serve gives places to the waiters, as long as there are places to give. The
// caller holds mu, and serve unlocks it.
func (p *Places) serve() {
	var victims []*Place
	var served []*waiter
	for len(p.queues) > 0 {
		w, victim, wait := p.next()
		if w == nil {
			p.lookAgain(wait)
			break
		}
		if victim != nil {
			victim.dropped = true
			p.remove(victim)
			victims = append(victims, victim)
		}
		p.unqueue(w)
		p.taken = append(p.taken, w.place)
		p.counts[w.place.addr]++
		w.served = true
		served = append(served, w)
	}
	p.mu.Unlock()
	for _, victim := range victims {
		victim.drop()
	}
	for _, w := range served {
		close(w.given)
	}
}

// lookAgain calls serve after wait. The caller holds mu.
func (p *Places) lookAgain(wait time.Duration) {
	if p.timer != nil {
		p.timer.Reset(wait)
		return
	}
	p.timer = time.AfterFunc(wait, func() {
		p.mu.Lock()
		p.serve()
	})
}

// next chooses the waiter that gets a place, and the place that is dropped for it
// if no place is free. If best is nil, no waiter gets a place now, and wait is the
// time after which to try again. The caller holds mu.
func (p *Places) next() (best *waiter, victim *Place, wait time.Duration) {
	free := len(p.taken) < p.max
	var most *Place               // the place to drop for another address
	var own map[netip.Addr]*Place // the place of each address to drop for the same address
	if !free {
		if most, own, wait = p.droppable(); most == nil {
			return nil, nil, wait
		}
	}
	for addr, queue := range p.queues {
		w := queue[0]
		switch {
		case !free && p.counts[most.addr] < p.counts[addr] && own[addr] == nil:
		case best == nil, p.counts[addr] < p.counts[best.place.addr],
			p.counts[addr] == p.counts[best.place.addr] && w.number < best.number:
			best = w
		}
	}
	if best == nil || free {
		return best, nil, wait
	}
	if mine := own[best.place.addr]; mine != nil && p.counts[most.addr] <= p.counts[best.place.addr] {
		return best, mine, 0
	}
	return best, most, 0
}

// droppable finds the places whose peers have used up Patience. most is the one to
// drop for another address, own has the oldest one of each address, and wait is
// the time until there may be a further one. The caller holds mu.
func (p *Places) droppable() (most *Place, own map[netip.Addr]*Place, wait time.Duration) {
	now := time.Now()
	wait = Patience
	own = make(map[netip.Addr]*Place)
	for _, t := range p.taken {
		if t.kept {
			continue
		}
		if left := Patience - t.waitedBy(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		if own[t.addr] == nil {
			own[t.addr] = t
		}
		if most == nil || p.counts[t.addr] > p.counts[most.addr] {
			most = t
		}
	}
	return most, own, wait
}

// waitedBy returns the total time that the handshake has waited for the peer. The
// caller holds mu.
func (t *Place) waitedBy(now time.Time) time.Duration {
	if t.since.IsZero() {
		return t.waited
	}
	return t.waited + now.Sub(t.since)
}

// remove removes a place from those that are taken. The caller holds mu.
func (p *Places) remove(place *Place) {
	p.taken = slices.DeleteFunc(p.taken, func(t *Place) bool { return t == place })
	p.uncount(place)
}

// uncount subtracts a place from the count of its address. The caller holds mu.
func (p *Places) uncount(place *Place) {
	if p.counts[place.addr]--; p.counts[place.addr] == 0 {
		delete(p.counts, place.addr)
	}
}

// Wait records that a wait for the peer begins. Heard ends it.
func (t *Place) Wait() { t.set(time.Now()) }

// Heard records that a wait for the peer has ended.
func (t *Place) Heard() { t.set(time.Time{}) }

func (t *Place) set(since time.Time) {
	if t == nil {
		return
	}
	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	t.waited, t.since = t.waitedBy(time.Now()), since
}

// SetAddr sets the address of a connection for which Take got none. Until then, all
// such connections count as those of one address.
func (t *Place) SetAddr(addr net.Addr) {
	p := t.places
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.dropped {
		return
	}
	p.uncount(t)
	t.addr = Client(addr)
	p.counts[t.addr]++
}

// Keep records that the handshake is done, so that the place cannot be dropped
// before Leave. It returns false if the place was already dropped.
func (t *Place) Keep() bool {
	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	t.kept = !t.dropped
	return t.kept
}

// Dropped reports whether the place was given to another connection.
func (t *Place) Dropped() bool {
	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	return t.dropped
}

// Leave gives the place back. It must be called once.
func (t *Place) Leave() {
	p := t.places
	p.mu.Lock()
	if !t.dropped {
		p.remove(t)
	}
	p.serve()
}

// Client returns the address under which connections are counted: the client's IPv4
// address, or the /64 from which the client can choose its IPv6 addresses. It
// returns the same zero address for everything that is not a TCP address.
func Client(addr net.Addr) netip.Addr {
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

// With returns a context that passes t to a handshake. The handshake calls Wait and
// Heard of t.
func With(ctx context.Context, t *Place) context.Context { return context.WithValue(ctx, key{}, t) }

// From returns the place that With stored in ctx, or nil.
func From(ctx context.Context) *Place {
	t, _ := ctx.Value(key{}).(*Place)
	return t
}
