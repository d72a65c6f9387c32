package sslsession

import (
	"bytes"
	"container/list"
	"context"
	"sync"
	"time"
)

// Store keeps the sessions of servers in memory, for sslnet.Listener.Sessions. It
// is safe for concurrent use, and several Listeners can share one. It forgets the
// sessions that have expired and, when it is full, the least recently used ones.
type Store struct {
	max int // sessions

	mu    sync.Mutex
	bytes int64 // the sum of the lengths of ids and data
	byID  map[string]*list.Element
	order *list.List // of *stored, the most recently used first
	now   func() time.Time

	deleted map[string]bool // the ids in recent
	recent  []string        // the last ids that were deleted, a ring of maxDeleted
	oldest  int             // in recent, when it is full
}

type stored struct {
	id      string
	data    []byte
	expires time.Time
}

func (v *stored) size() int64 { return int64(len(v.id) + len(v.data)) }

// DefaultStore bounds the number of sessions in a Store of NewStore(0). A session has
// about 220 bytes, and with a client certificate 1 to 10 KiB.
const DefaultStore = 10_000

// maxDeleted bounds the ids that a Store remembers as deleted.
const maxDeleted = 1024

// NewStore returns a Store for at most n sessions, or DefaultStore if n is 0 or
// negative. Together they have at most n times 8 KiB, which are 80 MB by default, so that
// clients with large certificates cannot fill the memory. A session larger than this total
// is not kept.
func NewStore(n int) *Store {
	if n <= 0 {
		n = DefaultStore
	}
	return &Store{max: n, byID: make(map[string]*list.Element), order: list.New(), now: time.Now, deleted: make(map[string]bool)}
}

// Load returns a copy of the session with this id, or nil if the Store does not have
// it or it has expired. The error is always nil.
func (s *Store) Load(_ context.Context, id []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byID[string(id)]
	if e == nil {
		return nil, nil
	}
	v := e.Value.(*stored)
	if !s.now().Before(v.expires) {
		s.remove(e)
		return nil, nil
	}
	s.order.MoveToFront(e)
	return bytes.Clone(v.data), nil
}

// Store keeps a copy of a session until it expires, unless its id is one of the last
// 1,024 that were deleted. The error is always nil.
func (s *Store) Store(_ context.Context, id, data []byte, expires time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[string(id)]; e != nil {
		s.remove(e)
	}
	if s.deleted[string(id)] || !s.now().Before(expires) {
		return nil
	}
	v := &stored{string(id), bytes.Clone(data), expires}
	if v.size() > limit(s.max) {
		return nil
	}
	for len(s.byID) >= s.max || s.bytes+v.size() > limit(s.max) {
		s.remove(s.order.Back())
	}
	s.byID[v.id] = s.order.PushFront(v)
	s.bytes += v.size()
	return nil
}

// Delete forgets a session. A Listener stores a session after the handshake, so it may
// call Store after a program has called Delete to log the client out. Such a call of
// Store has no effect: the last 1,024 deleted ids are remembered for this. The error is
// always nil.
func (s *Store) Delete(_ context.Context, id []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[string(id)]; e != nil {
		s.remove(e)
	}
	switch {
	case s.deleted[string(id)]:
		return nil
	case len(s.recent) < maxDeleted:
		s.recent = append(s.recent, string(id))
	default:
		delete(s.deleted, s.recent[s.oldest])
		s.recent[s.oldest] = string(id)
		s.oldest = (s.oldest + 1) % maxDeleted
	}
	s.deleted[string(id)] = true
	return nil
}

// Len returns the number of sessions, including those that have expired and were
// not asked for since.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}

// remove forgets an entry. The caller holds mu.
func (s *Store) remove(e *list.Element) {
	v := e.Value.(*stored)
	delete(s.byID, v.id)
	s.bytes -= v.size()
	s.order.Remove(e)
}
