package relay

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/admission"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// gate limits the number of connections, in total and for each client.
type gate struct {
	max, maxPerClient int

	mu      sync.Mutex
	total   int
	clients map[netip.Addr]int
}

// The limits of a gate, with the names of their keys.
const (
	limitAll       = "max-connections"
	limitPerClient = "max-connections-per-client"
)

// enter counts a connection of addr. If there are too many connections, it does not
// count the connection and returns the key of the limit. With force, the total may
// exceed its limit by one, because another connection is about to leave.
func (g *gate) enter(addr net.Addr, force bool) (why string) {
	client := admission.ClientAddr(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.clients[client] >= g.maxPerClient:
		return limitPerClient
	case g.total >= g.max && !force:
		return limitAll
	}
	g.total++
	if g.clients == nil {
		g.clients = make(map[netip.Addr]int)
	}
	g.clients[client]++
	return ""
}

// leave undoes enter.
func (g *gate) leave(addr net.Addr) {
	client := admission.ClientAddr(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.clients[client]--; g.clients[client] == 0 {
		delete(g.clients, client)
	}
}

// quiet is how long no data must have been transferred before makeRoom considers a
// connection idle. A connection of mode http is idle between two requests.
const quiet = time.Minute

// makeRoom ends an idle connection, so that a new connection of addr can be accepted.
// Among the addresses that have an idle connection and more connections than addr,
// it picks the address with the most connections, and ends the one that has been
// idle longest. It reports whether there was such a connection.
func (s *Server) makeRoom(addr net.Addr) bool {
	client := admission.ClientAddr(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	var victim *session
	var most int
	var longest time.Duration
	for ses := range s.sessions {
		n := s.gate.clients[admission.ClientAddr(ses.raw.RemoteAddr())]
		if n <= s.gate.clients[client] || n < most {
			continue
		}
		if idle := ses.idleFor(); idle > 0 && (n > most || idle > longest) {
			victim, most, longest = ses, n, idle
		}
	}
	if victim == nil {
		return false
	}
	victim.evicted.Store(true)
	victim.kill()
	return true
}

// idleFor returns how long the session has been idle, or 0 if it is not idle.
func (s *session) idleFor() time.Duration {
	silent := time.Since(s.opened) - time.Duration(s.moved.Load())
	s.mu.Lock()
	http := s.state.conf.Mode == config.ModeHTTP
	s.mu.Unlock()
	switch {
	case s.evicted.Load():
		return 0
	case s.betweenRequests.Load(), !http && silent >= quiet:
		return silent
	}
	return 0
}
