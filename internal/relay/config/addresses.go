package config

import (
	"errors"
	"fmt"
	"net"
)

// binding is an address that the program listens on.
type binding struct {
	owner string // for an error: the address as written, and the relay
	addr  *net.TCPAddr
}

// CheckAddresses finds addresses that exclude each other: an address that is used
// twice, and one with the same port as an unspecified address, which covers all
// addresses of the machine (in Go 0.0.0.0, :: and an empty host all do). Names are
// resolved as net.Listen does. Ports of other programs are not checked.
func (c *Config) CheckAddresses() error {
	var all []error
	var taken []binding
	add := func(key, written, address, whose string, wrap func(error) error) {
		addr, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			all = append(all, wrap(wrongKey(key, "%w", err)))
			return
		}
		for _, other := range taken {
			if collide(addr, other.addr) {
				all = append(all, wrap(wrongKey(key, "%s: its port is already used by %s", written, other.owner)))
				return
			}
		}
		taken = append(taken, binding{fmt.Sprintf("%s of %s", written, whose), addr})
	}
	for i := range c.Relays {
		r := &c.Relays[i]
		for _, written := range r.Listen {
			if e, err := ParseEndpoint(written, DirectTLS); err == nil { // validate has reported it
				add("listen", written, e.Address, fmt.Sprintf("relay %q", r.Name), func(err error) error { return &relayError{i, r.Name, err} })
			}
		}
	}
	if c.Counters != "" {
		add("counters", c.Counters, c.Counters, "counters", func(err error) error { return err })
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
