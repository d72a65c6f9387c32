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
	max  int
	turn chan struct{} // of who waits for a place; the others queue behind it
	left chan struct{} // holds a token when a place was left

	mu     sync.Mutex
	taken  []*Place // in order of arrival
	counts map[netip.Addr]int
}

// New makes max places.
func New(max int) *Places {
	return &Places{max: max, turn: make(chan struct{}, 1), left: make(chan struct{}, 1), counts: make(map[netip.Addr]int)}
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
// the answer is nil. An addr that is not known yet is nil, and SetAddr
// tells it later. If all are taken, one that has tried our Patience is given:
// of the address that has the most of them the oldest, whose drop is called. drop
// must not block.
func (p *Places) Take(over <-chan struct{}, addr net.Addr, drop func()) *Place {
	select {
	case p.turn <- struct{}{}:
	case <-over:
		return nil
	}
	defer func() { <-p.turn }()
	place := &Place{places: p, addr: Client(addr), drop: drop}
	for {
		victim, wait, ok := p.try(place)
		if ok {
			if victim != nil {
				victim.drop()
			}
			return place
		}
		timer := time.NewTimer(wait)
		select {
		case <-p.left:
		case <-timer.C:
		case <-over:
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// try takes a place if one is free, or if one can be dropped; wait is when to
// look again, unless one is left before.
func (p *Places) try(place *Place) (victim *Place, wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) >= p.max {
		now := time.Now()
		wait = Patience
		for _, t := range p.taken {
			if t.kept {
				continue
			}
			if left := Patience - t.waitedBy(now); left > 0 {
				wait = min(wait, left)
				continue
			}
			if victim == nil || p.counts[t.addr] > p.counts[victim.addr] {
				victim = t
			}
		}
		if victim == nil {
			return nil, wait, false
		}
		victim.dropped = true
		p.remove(victim)
	}
	p.taken = append(p.taken, place)
	p.counts[place.addr]++
	return victim, 0, true
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
	p.mu.Unlock()
	select {
	case p.left <- struct{}{}:
	default:
	}
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
