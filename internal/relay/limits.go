package relay

import (
	"net"
	"net/netip"
	"sync"

	"github.com/seed-014b8713/sslfilter/internal/places"
)

// gate bounds the connections at a time, all in all and for each client.
type gate struct {
	max, maxPerClient int

	mu      sync.Mutex
	total   int
	clients map[netip.Addr]int // kept only with maxPerClient
}

// enter counts a connection of addr, unless there are too many; why tells then
// what was exceeded.
func (g *gate) enter(addr net.Addr) (why string) {
	client := places.Client(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.total >= g.max:
		return "max-connections"
	case g.maxPerClient > 0 && g.clients[client] >= g.maxPerClient:
		return "max-connections-per-client"
	}
	g.total++
	if g.maxPerClient > 0 {
		if g.clients == nil {
			g.clients = make(map[netip.Addr]int)
		}
		g.clients[client]++
	}
	return ""
}

// leave takes back what enter counted.
func (g *gate) leave(addr net.Addr) {
	client := places.Client(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.maxPerClient > 0 {
		if g.clients[client]--; g.clients[client] == 0 {
			delete(g.clients, client)
		}
	}
}
