package sslnet

import (
	"context"
	"errors"

	"github.com/seed-014b8713/sslfilter"
)

// SessionCache keeps the sessions of clients, which later connections continue. Its
// methods are called by several goroutines at the same time. They must return at once,
// and must not use the connection. See sslsession.NewCache.
//
// The key is that of [sslfilter.Filter.SessionKey]: it is the same only for connections
// with the same server name, protocols, client certificates, CAs, CRLs and other options
// of the verification and of the handshake.
type SessionCache interface {
	// Get returns a session of key, or nil. A session of TLS 1.3 should be returned
	// only once.
	Get(key string) *sslfilter.Session
	// Put adds a session to those of key. If s is nil, a handshake that offered a
	// session has failed, or a connection of key has ended with a fatal alert, and Put
	// removes all sessions of key.
	Put(key string, s *sslfilter.Session)
}

// caching is the state of a client that uses a cache.
type caching struct {
	cache SessionCache
	key   string // "" until the handshake begins, and if there is no server name

	offered bool // a session was passed to the filter, and the handshake has not failed
}

// SetSessions makes this connection offer a session of cache to the server, and keep
// the sessions that the server gives in it. It must be called on a client, before the
// handshake. A nil cache turns it off.
func (c *Conn) SetSessions(cache SessionCache) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.client:
		return &sslfilter.UsageError{Op: "SetSessions", Msg: "this is a server"}
	case c.begun:
		return &sslfilter.UsageError{Op: "SetSessions", Msg: "the handshake has begun"}
	}
	c.useSessions(cache)
	return nil
}

func (c *Conn) useSessions(cache SessionCache) {
	c.caching = nil
	if cache != nil {
		c.caching = &caching{cache: cache}
	}
}

// offerSession offers a session of the cache when the handshake begins. The caller
// holds mu.
func (c *Conn) offerSession() {
	if c.begun {
		return
	}
	c.begun = true
	if c.caching == nil {
		return
	}
	c.caching.key = c.filter.SessionKey()
	if c.caching.key != "" {
		if s := c.caching.cache.Get(c.caching.key); s != nil {
			c.filter.SetSession(s) // if it is not acceptable, the handshake is a full one
			c.caching.offered = true
		}
	}
}

// handshakeFailed removes the sessions of the key if a handshake that has offered one ends with
// err, because the session may be the reason: a server can answer a session that it does not
// understand with an alert, with the end of the connection, or not at all. Without this, a
// session of TLS 1.2 would be offered to such a server until it expires. The session is not the
// reason if this side ends the handshake before a deadline, or if it refuses the certificate of
// the server, which sends one only if it does not resume.
func (c *Conn) handshakeFailed(ctx context.Context, err error) {
	if c.closed.Load() || errors.Is(ctx.Err(), context.Canceled) ||
		errors.As(err, new(*sslfilter.VerifyError)) || errors.As(err, new(*sslfilter.UsageError)) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.caching; k != nil && k.offered && c.filter != nil && !c.filter.HandshakeDone() && c.filter.SessionError() == nil {
		k.offered = false
		k.cache.Put(k.key, nil)
	}
}

// keep puts the sessions that the server has given into the cache. After a fatal alert of
// either side it removes those of the key, since the sessions of such a connection must not
// be used again (RFC 5246 section 7.2.2, RFC 8446 section 6.2). The caller holds the mu of
// the connection.
func (k *caching) keep(f *sslfilter.Filter) {
	err := f.Err()
	switch {
	case k.key == "" || err != nil && !f.HandshakeDone():
	case errors.As(err, new(*sslfilter.Error)):
		k.cache.Put(k.key, nil)
		k.key = "" // so that nothing is put into the cache any more
	default:
		for _, s := range f.Sessions() {
			k.cache.Put(k.key, s)
		}
	}
}
