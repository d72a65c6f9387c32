// Package sessions passes a cache of TLS sessions to a Dialer of package sslnet that
// has none.
package sessions

import (
	"context"

	"github.com/seed-014b8713/sslfilter"
)

// Cache is sslnet.SessionCache.
type Cache interface {
	Get(key string) *sslfilter.Session
	Put(key string, s *sslfilter.Session)
}

type key struct{}

// With returns a context with which a Dialer uses c, unless it has a cache.
func With(ctx context.Context, c Cache) context.Context { return context.WithValue(ctx, key{}, c) }

// From returns the cache that With stored in ctx, or nil.
func From(ctx context.Context) Cache {
	c, _ := ctx.Value(key{}).(Cache)
	return c
}
