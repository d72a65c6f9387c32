// Package sslsession keeps TLS sessions of clients and servers in memory. A Cache has
// the sessions of the clients of package sslnet, and a Store has those of its servers
// with StatefulSessions. A connection that continues an earlier session costs less than
// a full handshake.
package sslsession

import (
	"container/list"
	"math"
	"sync"
	"time"

	"github.com/seed-014b8713/sslfilter"
)

const (
	// perKey bounds the sessions of one key: most servers give one or two tickets for
	// each connection.
	perKey = 4
	// averageSize bounds the memory of a Cache and of a Store: they keep at most this
	// number of bytes for each session that they may have. A session has the certificates
	// of the peer, which are 1 to 4 KiB in most cases.
	averageSize = 8 << 10
)

// limit returns the number of bytes for n sessions, even if it does not fit into an int.
func limit(n int) int64 {
	return min(int64(n), math.MaxInt64/averageSize) * averageSize
}

// Cache keeps sessions in memory. It is an sslnet.SessionCache, and safe for
// concurrent use. A session of TLS 1.3 is returned once, since an observer could
// recognize it (RFC 8446 appendix C.4). A session that has expired is not returned.
//
// WARNING: Sessions are secrets. The cache holds a session until other sessions displace
// it, until Get finds that it has expired or, in TLS 1.3, until Get returns it.
type Cache struct {
	most int // sessions

	mu    sync.Mutex
	keys  map[string]*list.Element // of order
	order list.List                // of *entry, the most recently used first
	count int                      // sessions
	bytes int64                    // the sum of their sizes
}

// entry has the sessions of one key, newest last. There is at least one.
type entry struct {
	key      string
	sessions []*sslfilter.Session
}

// NewCache returns a cache for at most n sessions, which have at most n times 8 KiB
// together. When it is full, it drops the sessions of the least recently used key.
// If n is not positive, the cache keeps nothing, so that no session is resumed.
func NewCache(n int) *Cache {
	return &Cache{most: max(0, n), keys: make(map[string]*list.Element)}
}

// Get returns the newest session of key, or nil. A session of TLS 1.3 is removed.
func (c *Cache) Get(key string) *sslfilter.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.keys[key]
	if element == nil {
		return nil
	}
	e := element.Value.(*entry)
	c.expire(e)
	n := len(e.sessions)
	if n == 0 {
		c.remove(element)
		return nil
	}
	c.order.MoveToFront(element)
	s := e.sessions[n-1]
	if s.Version() >= sslfilter.VersionTLS13 {
		c.drop(e, n-1)
		if n == 1 {
			c.remove(element)
		}
	}
	return s
}

// Put adds a session to the sessions of key, of which the cache keeps the last four. A
// session of TLS 1.2 replaces the others, because it can be used again. A session that
// has expired or is too large is ignored. If s is nil, Put removes all sessions of key.
func (c *Cache) Put(key string, s *sslfilter.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.keys[key]
	if s == nil || int64(s.Size()) > limit(c.most) || !time.Now().Before(s.Expires()) {
		if s == nil && element != nil {
			c.remove(element)
		}
		return
	}
	if element == nil {
		element = c.order.PushFront(&entry{key: key})
		c.keys[key] = element
	}
	c.order.MoveToFront(element)
	e := element.Value.(*entry)
	if s.Version() < sslfilter.VersionTLS13 {
		c.clear(e)
	}
	e.sessions = append(e.sessions, s)
	c.count, c.bytes = c.count+1, c.bytes+int64(s.Size())
	if len(e.sessions) > perKey {
		c.drop(e, 0)
	}
	for c.count > c.most || c.bytes > limit(c.most) {
		last := c.order.Back()
		if old := last.Value.(*entry); len(old.sessions) > 1 {
			c.drop(old, 0)
		} else {
			c.remove(last)
		}
	}
}

// Len returns the number of sessions in the cache.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// expire removes the sessions of e that have expired.
func (c *Cache) expire(e *entry) {
	now := time.Now()
	for i := len(e.sessions) - 1; i >= 0; i-- {
		if !now.Before(e.sessions[i].Expires()) {
			c.drop(e, i)
		}
	}
}

// drop removes session i of e.
func (c *Cache) drop(e *entry, i int) {
	c.count, c.bytes = c.count-1, c.bytes-int64(e.sessions[i].Size())
	copy(e.sessions[i:], e.sessions[i+1:])
	e.sessions[len(e.sessions)-1] = nil
	e.sessions = e.sessions[:len(e.sessions)-1]
}

func (c *Cache) clear(e *entry) {
	for len(e.sessions) > 0 {
		c.drop(e, len(e.sessions)-1)
	}
}

// remove removes a key and its sessions.
func (c *Cache) remove(element *list.Element) {
	e := element.Value.(*entry)
	c.clear(e)
	c.order.Remove(element)
	delete(c.keys, e.key)
}
