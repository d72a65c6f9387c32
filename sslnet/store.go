package sslnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter"
)

// SessionStore stores the sessions of a server whose Ctx has
// Options.StatefulSessions. Its methods are called at the same time by many
// goroutines, and must not keep the slices that they get. The data are encrypted
// (Options.TicketKeys), so a store does not need to keep them secret.
//
// A store may fail, be slow, forget sessions or return anything. At worst, the
// handshake is a full one, or a deleted session is resumed because the store has
// returned it again.
type SessionStore interface {
	// Load returns the data of the session with this id, or nil if there is none.
	// It delays the handshake, at most until ctx ends.
	Load(ctx context.Context, id []byte) ([]byte, error)
	// Store keeps a session until it expires. It runs after the handshake, and
	// does not delay the connection.
	Store(ctx context.Context, id, data []byte, expires time.Time) error
	// Delete forgets a session. The Listener never calls it: a program calls it
	// with the ids of Conn.SessionIDs, so that a client has to make a full
	// handshake. A later call of Store for the same session must not bring it back:
	// Store runs after the handshake, and may be slow.
	//
	// A handshake that has loaded the session before Delete can still resume it, and
	// gives the client a new session. A program that logs a user out also calls Delete
	// with the ids of connections of this user that resume a session later. The Listener
	// does not call Delete after a fatal alert.
	Delete(ctx context.Context, id []byte) error
}

// DefaultSessionTimeout is the default of Listener.SessionTimeout and of
// ServerSessions.Timeout.
const DefaultSessionTimeout = 250 * time.Millisecond

// SessionStats counts what was done with a SessionStore.
type SessionStats struct {
	Found   int64 // sessions that were loaded
	Missing int64 // sessions that the store does not have
	Stored  int64 // sessions that were stored
	Failed  int64 // calls of the store that failed or took too long
}

// SessionStats returns the counters of Listener.Sessions.
func (l *Listener) SessionStats() SessionStats { return l.init().sessions.Stats() }

// ServerSessions gives a SessionStore to the connections of servers without a
// Listener; see Conn.SetServerSessions. Any number of connections can share it. The
// fields must not be changed after the first handshake.
type ServerSessions struct {
	// Store has the sessions. It must be set.
	Store SessionStore
	// Timeout bounds the time that Store may delay a handshake, and the time for
	// storing a session. Default: DefaultSessionTimeout.
	Timeout time.Duration
	// Error is called with each error of Store, in the goroutine of the handshake or
	// in another one. The connection continues, with a full handshake if necessary.
	// Default: the error is only counted.
	Error func(below net.Conn, err error)

	over                           context.Context // of a Listener, which stores the sessions itself; otherwise nil
	found, missing, stored, failed atomic.Int64
	running                        atomic.Int64
}

// Stats returns the counters.
func (s *ServerSessions) Stats() SessionStats {
	return SessionStats{Found: s.found.Load(), Missing: s.missing.Load(), Stored: s.stored.Load(), Failed: s.failed.Load()}
}

// SetServerSessions makes this server resume the sessions that s.Store has, if its Ctx
// has Options.StatefulSessions, and store new ones after the handshake. It must be called
// on a server, before the handshake or by the ChooseFunc. The server then reads the
// ClientHello first, as with SetChoose. nil turns it off.
func (c *Conn) SetServerSessions(s *ServerSessions) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	const op = "SetServerSessions"
	h := &c.handshake
	switch {
	case c.client:
		return &sslfilter.UsageError{Op: op, Msg: "this is a client"}
	case c.filter != nil && (h.choosing == nil || h.choosing.cancel == nil):
		return &sslfilter.UsageError{Op: op, Msg: "the handshake has begun"}
	case s != nil && s.Store == nil:
		return &sslfilter.UsageError{Op: op, Msg: "Store is nil"}
	}
	h.store = s
	if s != nil && h.choosing == nil {
		h.choosing = new(choosing)
	}
	return nil
}

// maxStoreCalls bounds the calls of a SessionStore that are running, since a store
// may ignore the end of its Context.
const maxStoreCalls = 1024

var errStoreBusy = errors.New("sslnet: too many calls of the SessionStore are running")

// call makes one call of the store. When ctx ends, it returns the error of ctx, and
// the call may go on in its goroutine.
func (s *ServerSessions) call(ctx context.Context, f func(context.Context) ([]byte, error)) ([]byte, error) {
	if s.running.Add(1) > maxStoreCalls {
		s.running.Add(-1)
		return nil, errStoreBusy
	}
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("sslnet: the SessionStore has panicked")}
		defer func() {
			if cause := recover(); cause != nil {
				r.err = fmt.Errorf("%w: %v", r.err, cause)
			}
			s.running.Add(-1)
			done <- r
		}()
		r.data, r.err = f(ctx)
	}()
	select {
	case r := <-done:
		return r.data, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// load offers the first session of those that the client asks for that the store has. It
// does not load the others: a client that can resume one needs no other, and the peer has
// proved nothing yet.
func (s *ServerSessions) load(ctx context.Context, c *Conn, chosen *sslfilter.Ctx, hello *sslfilter.ClientHello) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	if s.over != nil {
		defer context.AfterFunc(s.over, cancel)()
	}
	for _, id := range chosen.StoredIDs(hello) {
		data, err := s.call(ctx, func(ctx context.Context) ([]byte, error) { return s.Store.Load(ctx, slices.Clone(id)) })
		switch {
		case err != nil && s.over != nil && s.over.Err() != nil: // Close of the Listener is not a failure of the store
			return
		case err != nil:
			s.fail(c, fmt.Errorf("sslnet: SessionStore.Load: %w", err))
		case data == nil:
			s.missing.Add(1)
		default:
			s.found.Add(1)
			if err = c.offer(id, data); err == nil {
				return
			}
			s.fail(c, fmt.Errorf("sslnet: SessionStore.Load: %w", err))
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// offer gives a session to the filter, which may be closed in the meantime.
func (c *Conn) offer(id, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter == nil || c.closed.Load() {
		return nil
	}
	err := c.filter.OfferSession(id, data)
	if err == nil {
		c.handshake.offered = id
	}
	return err
}

// collect takes the sessions that the client was given, and their ids, when the handshake is
// done. The caller holds mu.
func (c *Conn) collect() {
	h := &c.handshake
	if h.store == nil || h.ids != nil {
		return
	}
	h.given = c.filter.NewSessions()
	if c.filter.Resumed() && h.offered != nil {
		h.ids = [][]byte{h.offered}
	}
	for _, s := range h.given {
		h.ids = append(h.ids, s.ID)
	}
}

// take returns the new sessions once, so that the connection does not keep their data.
func (h *handshake) take() []sslfilter.StoredSession {
	given := h.given
	h.given = nil
	return given
}

// SessionIDs returns the ids of the sessions in the SessionStore that this client can
// resume, as far as this connection knows them: the one that it has resumed, and those
// that it was given. Before the end of the handshake, the result is nil.
// SessionStore.Delete with all ids of a user's connections makes these clients do a full
// handshake the next time. The caller must not change the bytes of the ids.
func (c *Conn) SessionIDs() [][]byte {
	if !c.ready.Load() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.handshake.ids)
}

// save stores the sessions that a client was given.
func (s *ServerSessions) save(c *Conn, list []sslfilter.StoredSession) {
	if len(list) == 0 {
		return
	}
	ctx := s.over
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	for _, v := range list {
		_, err := s.call(ctx, func(ctx context.Context) ([]byte, error) {
			return nil, s.Store.Store(ctx, slices.Clone(v.ID), v.Data, v.Expires)
		})
		switch {
		case err != nil && s.over != nil && s.over.Err() != nil: // Close of the Listener is not a failure of the store
			return
		case err != nil:
			s.fail(c, fmt.Errorf("sslnet: SessionStore.Store: %w", err))
			continue
		}
		s.stored.Add(1)
	}
}

func (s *ServerSessions) fail(c *Conn, err error) {
	s.failed.Add(1)
	if s.Error != nil {
		s.Error(c.conn, err)
	}
}

func (s *ServerSessions) timeout() time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	return DefaultSessionTimeout
}
