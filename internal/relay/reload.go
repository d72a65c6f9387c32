package relay

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// plan has what a configuration needs, loaded from its files and not yet in use.
type plan struct {
	conf     *config.Config
	keys     [][sslfilter.TicketKeySize]byte // of sessions.ticket-keys
	relays   []*relay                        // as in conf
	states   []*state                        // of relays
	sections []*sections                     // by listener, as in conf.Listeners
}

// plan loads everything that a configuration needs. A relay that is running already
// gets a new state only.
func (s *Server) plan(c *config.Config) (*plan, error) {
	p := &plan{conf: c}
	var err error
	if p.keys, err = c.Sessions.ReadTicketKeys(); err != nil {
		return nil, err
	}
	for i := range c.Relays {
		conf := &c.Relays[i]
		r := s.running(conf.Name)
		if r == nil {
			r = &relay{name: conf.Name, count: newCounters(), handoff: newHandoff(), tls: sslsession.NewCache(maxSessions), stored: s.keys.stored(conf.Name)}
			if r.stored != nil {
				r.count.countStored(r.stored)
			}
		}
		keys, err := s.keys.of(&c.Sessions, conf.Name, &r.keys)
		conf.Server.SharedStore = r.stored != nil
		var st *state
		if err == nil {
			st, err = newState(conf, s.relayLog(conf.Name), keys)
		}
		if err != nil {
			p.discard()
			return nil, fmt.Errorf("relay %q: %w", conf.Name, err)
		}
		p.relays, p.states = append(p.relays, r), append(p.states, st)
	}
	for _, l := range c.Listeners() {
		sec, err := newSections(l, p.states)
		if err != nil {
			p.discard()
			return nil, err
		}
		p.sections = append(p.sections, sec)
	}
	return p, nil
}

// running returns the relay with a name, or nil.
func (s *Server) running(name string) *relay {
	for _, r := range s.all() {
		if r.name == name && !r.removed {
			return r
		}
	}
	return nil
}

// discard frees the states of a plan that is not applied.
func (p *plan) discard() {
	clear(p.keys)
	for _, st := range p.states {
		st.retire()
	}
}

// apply makes p the configuration of new connections.
func (s *Server) apply(p *plan) {
	if p.keys != nil {
		if err := s.keys.file.Set(p.keys...); err != nil { // ReadTicketKeys has accepted the keys, so memory is short
			s.log.Error("sessions.ticket-keys: the keys stay as they are", "error", err)
		}
		clear(p.keys)
	} else {
		s.keys.file = nil // the keys are wiped when the last context that has them is freed
	}
	for i, r := range p.relays {
		st := p.states[i]
		s.adopt(r, st)
		st.startStapling(s.relayLog(r.name), r.current.Load(), r.count)
		r.count.notAfter.Set(st.notAfter())
		if s.running(r.name) == nil {
			s.addRelay(r, st)
		}
	}
	for i, conf := range p.conf.Listeners() {
		for _, l := range s.listeners {
			if l.key == conf.Key {
				if p.sections[i].names != nil {
					s.process.listeners.Set(l.String(), &l.lobby.count.vars)
				}
				l.current.Store(p.sections[i])
			}
		}
	}
	// From here on, a connection that finds its old state retired uses the new one.
	for i, r := range p.relays {
		if old := r.current.Swap(p.states[i]); old != nil {
			old.retire()
		}
		if s.ending.Load() { // Close may have retired the old state and missed this one
			p.states[i].retire()
			r.closeHTTP()
		}
	}
	for _, r := range s.all() {
		if !r.removed && !slices.Contains(p.relays, r) {
			s.removeRelay(r)
		}
	}
	s.conf = *p.conf
}

// adopt makes st a state of r.
func (s *Server) adopt(r *relay, st *state) {
	r.users.Acquire()
	st.relay, st.left = r, func() { s.leave(r) }
}

// addRelay adds a relay that a configuration has for the first time.
func (s *Server) addRelay(r *relay, st *state) {
	if st.conf.Mode == config.ModeHTTP {
		r.http = s.newHTTPServer(r, st.conf)
		go r.http.Serve(r.handoff)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relays = append(s.relays, r)
	s.process.relays.Set(r.name, &r.count.vars)
}

// removeRelay removes a relay that the configuration does not have any more. Its
// connections stay.
func (s *Server) removeRelay(r *relay) {
	s.mu.Lock()
	r.removed = true
	s.process.relays.Delete(r.name)
	s.mu.Unlock()
	r.current.Load().retire()
	s.leave(r)
}

// leave is called when a state of r is freed, and when r is removed. The last call
// ends the relay.
func (s *Server) leave(r *relay) {
	if !r.users.Release() {
		return
	}
	s.mu.Lock()
	s.relays = slices.DeleteFunc(s.relays, func(other *relay) bool { return other == r })
	s.mu.Unlock()
	r.closeHTTP()
}

func (r *relay) closeHTTP() {
	if r.http != nil {
		r.http.Close()
	}
	r.handoff.Close()
}

// Reload applies a new configuration to new connections: certificates, CAs, CRLs,
// backends, users and timeouts, and relays that share listeners with others. If it
// contains an error or a change that needs a restart, Reload changes nothing and
// returns an error.
func (s *Server) Reload(c *config.Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if err := s.reload(c); err != nil {
		s.process.reloadsFailed.Add(1)
		return fmt.Errorf("sslrelay: reload: %w", err)
	}
	s.process.reloads.Add(1)
	s.process.reloaded.Set(time.Now().Unix())
	return nil
}

func (s *Server) reload(c *config.Config) error {
	if s.ending.Load() {
		return errors.New("the relay is shutting down")
	}
	if what := config.NeedsRestart(&s.conf, c); what != "" {
		return fmt.Errorf("a change of %s needs a restart", what)
	}
	defer func() { s.keys.retain(&s.conf) }()
	p, err := s.plan(c)
	if err != nil {
		return err
	}
	s.apply(p)
	return nil
}

// ReloadFailed counts a reload whose configuration could not be read.
func (s *Server) ReloadFailed() { s.process.reloadsFailed.Add(1) }
