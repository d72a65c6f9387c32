package config

import (
	"errors"
	"fmt"
	"net"
)

// binding is an address that the program listens on.
type binding struct {
	owner string // for an error: the address, and the relay
	relay int    // index of the relay, or -1
	tls   bool
	addr  *net.TCPAddr
}

// CheckAddresses finds addresses that exclude each other: an address that is used
// twice, and one with the same port as an unspecified address, which covers all
// addresses of the machine (in Go 0.0.0.0, :: and an empty host all do). Names are
// resolved as net.Listen does. Ports of other programs are not checked.
func (c *Config) CheckAddresses() error {
	var all []error
	var taken []binding
	add := func(key, address, written string, own binding, wrap func(error) error) {
		var err error
		if own.addr, err = net.ResolveTCPAddr("tcp", address); err != nil {
			all = append(all, wrap(wrongKey(key, "%w", err)))
			return
		}
		for _, other := range taken {
			if !collide(own.addr, other.addr) {
				continue
			}
			hint := ""
			if own.tls && other.tls && own.relay != other.relay && own.addr.IP.Equal(other.addr.IP) {
				hint = "; two relays share an address if both write it in the same way"
			}
			all = append(all, wrap(wrongKey(key, "%s: its port is already used by %s%s", written, other.owner, hint)))
			return
		}
		taken = append(taken, own)
	}
	for _, l := range c.Listeners() {
		i, r := l.Relays[0], &c.Relays[l.Relays[0]]
		own := binding{owner: fmt.Sprintf("%v of relay %q", l.Endpoint, r.Name), relay: i, tls: l.Security != Plain}
		add("listen", l.Address, l.Endpoint.String(), own, func(err error) error { return &relayError{i, r.Name, err} })
	}
	if c.Counters != "" {
		own := binding{owner: c.Counters + " of counters", relay: -1}
		add("counters", c.Counters, c.Counters, own, func(err error) error { return err })
	}
	return errors.Join(all...)
}

func collide(a, b *net.TCPAddr) bool {
	if a.Port == 0 || a.Port != b.Port { // the system chooses a port
		return false
	}
	everything := func(a *net.TCPAddr) bool { return len(a.IP) == 0 || a.IP.IsUnspecified() }
	return everything(a) || everything(b) || a.IP.Equal(b.IP) && a.Zone == b.Zone
}
