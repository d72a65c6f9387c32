package relay

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/servernames"
)

// listener is an open address. It stays open until the program ends.
type listener struct {
	net.Listener
	endpoint config.Endpoint
	key      string // config.Listener.Key
	current  atomic.Pointer[sections]

	// lobby takes the place of the relay of connections whose server name is not
	// known yet, if the name chooses the relay. It has counters only.
	lobby *relay
}

func newListener(l net.Listener, conf config.Listener, sec *sections) *listener {
	own := &listener{Listener: l, endpoint: conf.Endpoint, key: conf.Key, lobby: &relay{count: newListenerCounters()}}
	own.current.Store(sec)
	return own
}

// String returns the address for the log.
func (l *listener) String() string { return string(l.endpoint.Security) + ":" + l.endpoint.Address }

// entrance returns the relay that a connection begins with.
func (l *listener) entrance() *relay {
	if sec := l.current.Load(); sec.names == nil {
		return sec.begin().relay
	}
	return l.lobby
}

// attr is the log attribute that names the listener's relay or, if a server name chooses
// the relay, the listener.
func (l *listener) attr() []any {
	if r := l.entrance(); r != l.lobby {
		return []any{"relay", r.name}
	}
	return []any{"listener", l.String()}
}

// acquire returns a state of the present sections with a reference to it. The state is
// nil if choose returns nil or if the server ends.
func (l *listener) acquire(choose func(*sections) *state, ending *atomic.Bool) (*sections, *state) {
	for {
		sec := l.current.Load()
		st := choose(sec)
		switch {
		case st == nil || st.refs.Acquire():
			return sec, st
		case ending.Load(): // the state has been retired, and no other state follows
			return sec, nil
		}
		// a reload has just replaced the state
	}
}

// sections are the relays that share a listener, by one configuration.
type sections struct {
	all    []*state          // in the order of the configuration
	others *state            // default-server; may be nil
	names  map[string]*state // by config.NameKey; nil if the listener has one relay for all names
}

// newSections makes the sections of a listener. states has the states of all relays.
func newSections(l config.Listener, states []*state) (*sections, error) {
	sec := new(sections)
	for _, i := range l.Relays {
		sec.all = append(sec.all, states[i])
		if states[i].conf.DefaultServer {
			sec.others = states[i]
		}
	}
	first := sec.all[0]
	if l.Security == config.Plain || len(sec.all) == 1 && (first.conf.ServerNames == nil || sec.others != nil) {
		return sec, nil
	}
	sec.names = make(map[string]*state)
	for _, st := range sec.all {
		names := st.names
		if len(names) == 0 && st != sec.others {
			lack := "the certificate has no DNS name"
			if len(st.own) > 1 {
				lack = "there is no DNS name for which all its certificates are valid"
			}
			return nil, fmt.Errorf("relay %q: servernames: is missing, and %s, so no client of %v can reach the relay", st.conf.Name, lack, l.Endpoint)
		}
		for _, name := range names {
			key := config.NameKey(name)
			if other := sec.names[key]; other != nil && other != st {
				return nil, fmt.Errorf("relay %q: servernames: %q belongs to relay %q already, which shares %v", st.conf.Name, name, other.conf.Name, l.Endpoint)
			}
			sec.names[key] = st
		}
	}
	return sec, nil
}

// begin returns the state that applies until the client's server name is known.
func (sec *sections) begin() *state {
	if sec.others != nil {
		return sec.others
	}
	return sec.all[0]
}

// find returns the state for a server name: that of the name itself, that of a
// wildcard in place of its first label, or the default, which may be nil.
func (sec *sections) find(name string) *state {
	if sec.names == nil {
		return sec.begin()
	}
	if st := sec.named(name); st != nil {
		return st
	}
	return sec.others
}

// named is find without the default.
func (sec *sections) named(name string) *state {
	key := config.NameKey(name)
	if st := sec.names[key]; st != nil {
		return st
	}
	if dot := strings.IndexByte(key, '.'); dot > 0 {
		return sec.names["*"+key[dot:]]
	}
	return nil
}

// serverNames returns the names for which the relay serves clients: those of the
// configuration, or else the DNS names for which all its certificates are valid.
func (st *state) serverNames() (names []string) {
	if st.conf.ServerNames != nil {
		return st.conf.ServerNames
	}
	for _, name := range servernames.Common(st.dnsNames()...) {
		if config.ValidServerName(name) {
			names = append(names, name)
		}
	}
	return names
}
