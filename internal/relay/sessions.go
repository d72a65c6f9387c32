package relay

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log/slog"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Sessions are shared by relays on several machines. adapters/redis/relayredis implements
// them. It is in another module, because its dependencies would otherwise become those of
// every program that uses the library.
type Sessions interface {
	// TicketKeys returns the keys of a relay, which all machines have.
	TicketKeys(relay string) (*sslfilter.TicketKeys, error)
	// Retain forgets the keys of all relays but these. Contexts that have such keys
	// can still use them.
	Retain(relays ...string)
	// Store returns the store of a relay's sessions, which all machines have, or nil if
	// sessions.stateful is not set.
	Store(relay string) sslnet.SessionStore
	// Start gets the keys, until ctx ends at the latest, and from then on keeps them up to
	// date. It succeeds even if the store does not answer.
	Start(ctx context.Context) error
	// Counters returns counters by name.
	Counters() map[string]expvar.Var
	// String names the store in the log and for -check.
	String() string
	// Close ends what Start has begun.
	Close() error
}

// OpenSessions makes Sessions. It does not connect. An error names the key.
type OpenSessions func(c *config.Sessions, log *slog.Logger) (Sessions, error)

// errNoRedis is the error of a program that was built without a Redis client.
var errNoRedis = errors.New("sessions.redis: this program has no Redis client; github.com/seed-014b8713/sslfilter/adapters/redis/cmd/sslrelay is the same relay with one")

// openSessions returns nil without [sessions].
func openSessions(c *config.Sessions, open OpenSessions, log *slog.Logger) (Sessions, error) {
	switch {
	case c.Redis == "":
		return nil, nil
	case open == nil:
		return nil, errNoRedis
	}
	return open(c, log)
}

func (s *Server) openSessions(c *config.Sessions, open OpenSessions) error {
	shared, err := openSessions(c, open, s.log)
	if shared == nil || err != nil {
		return err
	}
	s.keys.shared = shared
	vars := new(expvar.Map)
	for name, v := range shared.Counters() {
		vars.Set(name, v)
	}
	s.process.vars.Set("sessions", vars)
	if err := shared.Start(s.stop); err != nil {
		return err
	}
	s.log.Info("sessions are shared", "through", shared.String())
	return nil
}

func (s *Server) closeSessions() {
	if s.keys.shared == nil {
		return
	}
	if err := s.keys.shared.Close(); err != nil {
		s.log.Warn("sessions", "error", err)
	}
}

// keyring has the ticket keys that relays share.
type keyring struct {
	shared Sessions              // nil without sessions.redis
	file   *sslfilter.TicketKeys // of sessions.ticket-keys; nil without them
}

// stored returns the stored sessions of a relay, or nil if its sessions are in tickets.
func (k *keyring) stored(name string) *sslnet.ServerSessions {
	if k.shared != nil {
		if store := k.shared.Store(name); store != nil {
			return &sslnet.ServerSessions{Store: store}
		}
	}
	return nil
}

// retain forgets the shared keys of relays that are not in a configuration: a reload has
// removed them, or has failed after it got keys for them.
func (k *keyring) retain(c *config.Config) {
	if k.shared == nil {
		return
	}
	var names []string
	for i := range c.Relays {
		names = append(names, c.Relays[i].Name)
	}
	k.shared.Retain(names...)
}

// countStored publishes what was done with stored sessions.
func (c *counters) countStored(s *sslnet.ServerSessions) {
	for name, of := range map[string]func(sslnet.SessionStats) int64{
		"sessions_found":   func(s sslnet.SessionStats) int64 { return s.Found },
		"sessions_missing": func(s sslnet.SessionStats) int64 { return s.Missing },
		"sessions_stored":  func(s sslnet.SessionStats) int64 { return s.Stored },
		"sessions_failed":  func(s sslnet.SessionStats) int64 { return s.Failed },
	} {
		c.vars.Set(name, expvar.Func(func() any { return of(s.Stats()) }))
	}
}

// of returns the keys for a relay: the shared ones or, without [sessions], own.
func (k *keyring) of(c *config.Sessions, name string, own *sslfilter.TicketKeys) (*sslfilter.TicketKeys, error) {
	switch {
	case k.shared != nil:
		keys, err := k.shared.TicketKeys(name)
		if err != nil {
			return nil, fmt.Errorf("sessions: %w", err)
		}
		return keys, nil
	case c.TicketKeys != "":
		if k.file == nil {
			k.file = new(sslfilter.TicketKeys)
		}
		return k.file, nil
	}
	return own, nil
}
