package sslacme

import (
	"crypto/sha256"
	"crypto/tls"
	"sync"

	"github.com/seed-014b8713/sslfilter"
)

// maxContexts bounds the contexts that Certificates keep. Each takes some 100 KB of C
// memory. A server with more certificates in use at the same time works, but makes
// contexts again and again.
const maxContexts = 256

// contexts keeps a context for each certificate in use. A renewed certificate gets a new
// context. The context of the old one is not used any more, and is the first to be removed when
// there are too many.
type contexts struct {
	mu   sync.Mutex
	kept map[contextKey]*keptContext
	uses uint64 // counts the calls of get
}

type contextKey struct {
	leaf [sha256.Size]byte // the fingerprint of the certificate
	use  int
}

type keptContext struct {
	*sslfilter.Ctx
	last uint64 // when it was used, by the count of uses
}

// get returns the context with this certificate, or else makes it with build. Contexts
// that are removed are not closed, since a handshake may be about to use them. The
// garbage collector frees them.
func (c *contexts) get(cert *tls.Certificate, use int, build func(*tls.Certificate, int) (*sslfilter.Ctx, error)) (*sslfilter.Ctx, error) {
	key := contextKey{sha256.Sum256(cert.Certificate[0]), use}
	if ctx := c.find(key); ctx != nil {
		return ctx, nil
	}
	ctx, err := build(cert, use)
	if err != nil {
		return nil, err
	}
	return c.keep(key, ctx), nil
}

func (c *contexts) find(key contextKey) *sslfilter.Ctx {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uses++
	kept := c.kept[key]
	if kept == nil {
		return nil
	}
	kept.last = c.uses
	return kept.Ctx
}

// keep adds a context. If there is one already, it returns that.
func (c *contexts) keep(key contextKey, ctx *sslfilter.Ctx) *sslfilter.Ctx {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept := c.kept[key]; kept != nil {
		return kept.Ctx
	}
	if c.kept == nil {
		c.kept = make(map[contextKey]*keptContext)
	}
	if len(c.kept) >= maxContexts {
		var oldest contextKey
		last := c.uses + 1
		for key, kept := range c.kept {
			if kept.last < last {
				oldest, last = key, kept.last
			}
		}
		delete(c.kept, oldest)
	}
	c.kept[key] = &keptContext{ctx, c.uses}
	return ctx
}
