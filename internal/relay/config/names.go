package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
)

// Listener is an address that the program listens on, with the relays that share it.
type Listener struct {
	Endpoint
	Key    string // the same for the same listener in another configuration
	Relays []int  // indexes of Config.Relays, in the order of the file
}

// Listeners returns the listeners in the order of the file. Relays share a listener if
// they name the same address, written in the same way. With port 0 the system chooses
// another port for each relay, so such an address is never shared.
func (c *Config) Listeners() (all []Listener) {
	shared := make(map[string]int) // index of all, by address
	for i := range c.Relays {
		r := &c.Relays[i]
		for place, written := range r.Listen {
			e, err := ParseEndpoint(written, DirectTLS)
			if err != nil {
				continue // validate reports it
			}
			n, known := shared[e.Address]
			if known && all[n].Relays[len(all[n].Relays)-1] != i { // CheckAddresses reports a relay that names it twice
				all[n].Relays = append(all[n].Relays, i)
				continue
			}
			key := e.String()
			if strings.HasSuffix(e.Address, ":0") {
				key = fmt.Sprintf("%s of relay %q, %d", key, r.Name, place)
			} else if !known {
				shared[e.Address] = len(all)
			}
			all = append(all, Listener{e, key, []int{i}})
		}
	}
	return all
}

// validateSharing returns the mistakes of relays that share a listener.
func (c *Config) validateSharing() (all []error) {
	for _, l := range c.Listeners() {
		first := &c.Relays[l.Relays[0]]
		byDefault := -1
		for n, i := range l.Relays {
			r := &c.Relays[i]
			add := func(key, format string, args ...any) {
				all = append(all, &relayError{i, r.Name, wrongKey(key, format, args...)})
			}
			if r.DefaultServer && byDefault >= 0 {
				add("default-server", "relay %q is the default of %v already", c.Relays[byDefault].Name, l.Endpoint)
			} else if r.DefaultServer {
				byDefault = i
			}
			if n == 0 {
				continue
			}
			own := r.endpointAt(l.Address)
			switch {
			case own.Security != l.Security:
				add("listen", "%v: relay %q listens on this address with the prefix %s:", own, first.Name, l.Security)
				continue
			case l.Security == Plain:
				add("listen", "%v: relay %q listens on this address too, and without TLS no server name can choose between them", own, first.Name)
				continue
			}
			for _, key := range disagreement(first, r, l.Security) {
				add(key, "differs from that of relay %q, which shares %v: it applies before the client's server name is known", first.Name, l.Endpoint)
			}
		}
		if first.AllowPlaintext && l.Security == StartTLS && byDefault < 0 && (len(l.Relays) > 1 || len(first.ServerNames) > 0) {
			all = append(all, &relayError{l.Relays[0], first.Name, wrongKey("allow-plaintext", "needs a relay with default-server on %v, because a client without TLS has no server name", l.Endpoint)})
		}
	}
	return all
}

// disagreement returns the keys in which two relays that share a listener would have
// to agree, and do not.
func disagreement(a, b *Relay, security Security) (keys []string) {
	for i := range options {
		o := &options[i]
		if o.early != security && o.early != anyTLS || reflect.DeepEqual(o.value(nil, a).Interface(), o.value(nil, b).Interface()) {
			continue
		}
		keys = append(keys, o.key)
		if o.field == "Mode" { // the defaults of others depend on it
			break
		}
	}
	return keys
}

// endpointAt returns the endpoint of r with an address.
func (r *Relay) endpointAt(address string) Endpoint {
	for _, written := range r.Listen {
		if e, err := ParseEndpoint(written, DirectTLS); err == nil && e.Address == address {
			return e
		}
	}
	return Endpoint{}
}

// validateNames checks servernames.
func (r *Relay) validateNames() error {
	if r.ServerNames == nil {
		return nil
	}
	if len(r.ServerNames) == 0 && !r.DefaultServer {
		return wrongKey("servernames", "is empty, so no client can reach the relay; set default-server")
	}
	seen := make(map[string]bool)
	for _, name := range r.ServerNames {
		if err := checkServerName(name); err != nil {
			return wrongKey("servernames", "%q: %w", name, err)
		}
		if key := NameKey(name); seen[key] {
			return wrongKey("servernames", "%q is listed twice", name)
		} else {
			seen[key] = true
		}
	}
	return nil
}

// NameKey returns the form in which server names are compared: in lower case and
// without the dot of the root at the end, as in the DNS.
func NameKey(name string) string {
	return strings.TrimRight(strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}, name), ".")
}

// ValidServerName reports whether clients can ask for a name, or for names that a
// pattern stands for: "www.example.org" or "*.example.org".
func ValidServerName(name string) bool { return checkServerName(name) == nil }

// maxServerName bounds the length of a server name (RFC 1035 section 2.3.4), and
// maxLabel that of one of its labels.
const (
	maxServerName = 253
	maxLabel      = 63
)

func checkServerName(name string) error {
	base, wildcard := strings.CutPrefix(strings.TrimSuffix(name, "."), "*.")
	if _, err := netip.ParseAddr(base); err == nil {
		return errors.New("is an IP address, which clients do not send as a server name; default-server serves them")
	}
	if len(base) > maxServerName {
		return errors.New("is too long for a host name")
	}
	for label := range strings.SplitSeq(base, ".") {
		switch {
		case label == "*" || wildcard && label == "":
			return errors.New("want * only as the first label, before the rest of a name, such as *.example.org")
		case label == "" || len(label) > maxLabel:
			return errors.New("want a host name such as www.example.org")
		}
		for _, c := range label {
			switch {
			case c >= 0x80:
				return errors.New("want the ASCII form of the name, which begins with xn--")
			case c == '*':
				return errors.New("want * only as the first label, before the rest of a name, such as *.example.org")
			case !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_'):
				return errors.New("want a host name such as www.example.org")
			}
		}
	}
	return nil
}
