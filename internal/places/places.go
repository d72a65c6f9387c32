// Package places bounds the handshakes that are under way at a time, in a way
// that peers who say nothing cannot hold up those who do.
package places

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Patience is how long a peer may be waited for in all, in one handshake, before
// it can lose its place to somebody who waits for one. An honest handshake waits
// for one or two answers; time that this side works or queues does not count.
const Patience = time.Second

// Places is a number of places. Its methods may be called by any goroutine.
type Places struct {
	max int

	mu      sync.Mutex
	taken   []*Place // in order of arrival
	counts  map[netip.Addr]int
	queues  map[netip.Addr][]*waiter // of each address in order of arrival; an empty one is deleted
	arrived uint64                   // waiters so far
	timer   *time.Timer              // looks again; nil before somebody waits
}

// waiter is a call of Take that waits.
type waiter struct {
	place  *Place
	number uint64
	given  chan struct{} // closed when it has the place
}

// New makes max places.
func New(max int) *Places {
	return &Places{max: max, counts: make(map[netip.Addr]int), queues: make(map[netip.Addr][]*waiter)}
}

// Place is that of one handshake. A nil Place is none, and its methods do
// nothing.
type Place struct {
	places *Places
	addr   netip.Addr
	drop   func()

	// under mu of places
	since   time.Time     // when the wait for the peer began; zero is none
	waited  time.Duration // in all, before
	kept    bool          // cannot be dropped any more
	dropped bool
}

// Len counts the places that are taken.
func (p *Places) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.taken)
}

// Take waits for a place for a connection from addr, until over is closed; then
// the answer is nil. If addr is not known yet it is nil, and SetAddr tells it
// later.
//
// Among those who wait, the address that has the fewest places is served first,
// and of equal ones the connection that came first. If all places are taken, one
// whose peer has exhausted our Patience is given away and its drop is called,
// which must not block: the oldest of the address that has the most places. An
// address does not get a place this way from another one that has fewer.
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
	select {
	case <-w.given: // meanwhile
		return w.place
	default:
	}
	p.unqueue(w)
	return nil
}

// unqueue takes w out of its queue. The caller holds mu.
func (p *Places) unqueue(w *waiter) {
	addr := w.place.addr
	p.queues[addr] = slices.DeleteFunc(p.queues[addr], func(other *waiter) bool { return other == w })
	if len(p.queues[addr]) == 0 {
		delete(p.queues, addr)
	}
}

// serve gives places to those who wait, as long as there are any to give. The
// caller holds mu; serve gives it back.
func (p *Places) serve() {
	var victims []*Place
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
		close(w.given)
	}
	p.mu.Unlock()
	for _, victim := range victims {
		victim.drop()
	}
}

// lookAgain calls serve after some time. The caller holds mu.
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

// next chooses who gets a place, and who loses one for that unless one is free.
// If nobody gets one, wait is when to look again, unless one is left before. The
// caller holds mu.
func (p *Places) next() (best *waiter, victim *Place, wait time.Duration) {
	free := len(p.taken) < p.max
	var most *Place // the one to drop for others
	var own map[netip.Addr]*Place
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

// droppable finds the places whose peers have exhausted our Patience: the one
// that is dropped for others, the oldest of each address, and how long until
// there may be another. The caller holds mu.
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

// waitedBy is how long the peer has been waited for. The caller holds mu.
func (t *Place) waitedBy(now time.Time) time.Duration {
	if t.since.IsZero() {
		return t.waited
	}
	return t.waited + now.Sub(t.since)
}

// remove takes a place out. The caller holds mu.
func (p *Places) remove(place *Place) {
	p.taken = slices.DeleteFunc(p.taken, func(t *Place) bool { return t == place })
	p.uncount(place)
}

// uncount takes a place out of the count of its address. The caller holds mu.
func (p *Places) uncount(place *Place) {
	if p.counts[place.addr]--; p.counts[place.addr] == 0 {
		delete(p.counts, place.addr)
	}
}

// Wait says that the peer is waited for from now on, and Heard that it was heard.
func (t *Place) Wait() { t.set(time.Now()) }

// Heard ends Wait.
func (t *Place) Heard() { t.set(time.Time{}) }

func (t *Place) set(since time.Time) {
	if t == nil {
		return
	}
	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	t.waited, t.since = t.waitedBy(time.Now()), since
}

// SetAddr tells the address of a connection for which Take did not have it. Until
// then all such connections count as those of one address.
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

// Keep says that the handshake is done: who has the place keeps it until Leave.
// It is false if it was dropped before.
func (t *Place) Keep() bool {
	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	t.kept = !t.dropped
	return t.kept
}

// Dropped reports whether the place was given to somebody else.
func (t *Place) Dropped() bool {
	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	return t.dropped
}

// Leave gives the place back, once.
func (t *Place) Leave() {
	p := t.places
	p.mu.Lock()
	if !t.dropped {
		p.remove(t)
	}
	p.serve()
}

// Client is the address that connections are counted under: that of the client,
// or the /64 that it can choose its IPv6 addresses from. Other networks than
// those of IP have one for all.
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

// With gives the place to a handshake under ctx, which tells it when it waits.
func With(ctx context.Context, t *Place) context.Context { return context.WithValue(ctx, key{}, t) }

// From is the place that With gave, or nil.
func From(ctx context.Context) *Place {
	t, _ := ctx.Value(key{}).(*Place)
	return t
}
