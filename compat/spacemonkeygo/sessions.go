//go:build cgo

package openssl

import (
	"errors"
	"sync"

	"github.com/seed-014b8713/sslfilter"
)

// session is the cache of one client connection: it offers the session of DialSession,
// and keeps the last one that the server gives.
type session struct {
	mu           sync.Mutex
	offered, got *sslfilter.Session
}

// Get returns the session to offer.
func (s *session) Get(string) *sslfilter.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offered
}

// Put keeps a session of the server.
func (s *session) Put(_ string, got *sslfilter.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = got
}

// last returns the last session of the server. A server of TLS 1.2 gives no new one if
// it resumes the one that was offered.
func (s *session) last(reused bool) *sslfilter.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got == nil && reused {
		return s.offered
	}
	return s.got
}

// setSession makes a client offer a session of GetSession.
func (c *Conn) setSession(data []byte) error {
	offered := new(sslfilter.Session)
	if err := offered.UnmarshalBinary(data); err != nil {
		return err
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.session.offered = offered
	return nil
}

// GetSession returns the last session that the server has given to this client, for
// DialSession. In TLS 1.3 a server gives it after the handshake: call GetSession after
// a Read. A session that is resumed is verified again, and it is not resumed if the
// other connection has another server name, or a context with other settings of the
// handshake.
//
// WARNING: A session holds secrets. Treat it as a private key.
func (c *Conn) GetSession() ([]byte, error) {
	if !c.client {
		return nil, errors.New("openssl: GetSession: this is a server")
	}
	s := c.session.last(c.SessionReused())
	if s == nil {
		return nil, errors.New("openssl: the server has given no session until now")
	}
	return s.MarshalBinary()
}
