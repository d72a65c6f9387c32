package relay

import (
	"context"
	"net"
	"net/netip"
	"sync"
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
	client := clientOf(addr)
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
	client := clientOf(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.maxPerClient > 0 {
		if g.clients[client]--; g.clients[client] == 0 {
			delete(g.clients, client)
		}
	}
}

// clientOf is the address that connections are counted under: that of the
// client, or the /64 that it can choose its IPv6 addresses from.
func clientOf(addr net.Addr) netip.Addr {
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

// slots bounds what is under way at a time.
type slots chan struct{}

// take waits for a slot until ctx ends.
func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slots) give() { <-s }
