package sslacme

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// The number of contexts is bounded. The least recently used context is
// removed.
func TestContextsAreBounded(t *testing.T) {
	var c contexts
	made := 0
	build := func(*tls.Certificate, int) (*sslfilter.Ctx, error) {
		made++
		return new(sslfilter.Ctx), nil
	}
	get := func(i, use int) *sslfilter.Ctx {
		ctx, err := c.get(&tls.Certificate{Certificate: [][]byte{{byte(i), byte(i >> 8)}}}, use, build)
		require.NoError(t, err)
		return ctx
	}
	first := get(0, serving)
	require.NotSame(t, first, get(0, answering)) // never the options of the other use
	for i := range 3 * maxContexts {
		get(i, serving)
		require.Same(t, first, get(0, serving)) // it is always in use
		require.LessOrEqual(t, len(c.kept), maxContexts)
	}
	require.Len(t, c.kept, maxContexts)
	require.Equal(t, 3*maxContexts+1, made)
	get(3*maxContexts-1, serving)
	require.Equal(t, 3*maxContexts+1, made) // the newest are kept
	get(1, serving)
	require.Equal(t, 3*maxContexts+2, made)
}
