package refcount_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/refcount"
)

func TestLastUserFrees(t *testing.T) {
	var c refcount.Count
	require.True(t, c.Acquire())
	require.False(t, c.Release())
	require.True(t, c.Acquire())
	require.False(t, c.Release(), "the owner")
	require.True(t, c.Release())
	require.False(t, c.Acquire(), "it is freed")
	require.False(t, c.Acquire())
}

// While the owner releases the object, many goroutines use it. Exactly one of them
// frees it, and none of them uses it afterwards.
func TestConcurrentUsers(t *testing.T) {
	for range 100 {
		var c refcount.Count
		var freed atomic.Int32
		release := func() {
			if c.Release() {
				freed.Add(1)
			}
		}
		var users sync.WaitGroup
		for range 8 {
			users.Go(func() {
				for range 100 {
					if !c.Acquire() {
						return
					}
					if freed.Load() > 0 {
						t.Error("used after it was freed")
					}
					release()
				}
			})
		}
		release()
		users.Wait()
		require.EqualValues(t, 1, freed.Load())
	}
}
