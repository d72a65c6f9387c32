package sslsession

import (
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A Store keeps the sessions that were used last, until they expire.
func TestStore(t *testing.T) {
	now := time.Now()
	s := NewStore(2)
	s.now = func() time.Time { return now }
	load := func(id string) string {
		data, err := s.Load(t.Context(), []byte(id))
		require.NoError(t, err)
		return string(data)
	}
	put := func(id, data string, life time.Duration) {
		require.NoError(t, s.Store(t.Context(), []byte(id), []byte(data), now.Add(life)))
	}
	require.Empty(t, load("a"))
	put("a", "1", time.Hour)
	put("b", "2", time.Minute)
	require.Equal(t, "1", load("a"))
	put("c", "3", time.Hour)
	require.Empty(t, load("b"), "it was not used for the longest time")
	require.Equal(t, "1", load("a"))
	put("a", "4", time.Minute)
	require.Equal(t, "4", load("a"))
	require.Equal(t, 2, s.Len())
	now = now.Add(time.Minute)
	require.Empty(t, load("a"), "it has expired")
	require.Equal(t, "3", load("c"))
	put("d", "5", 0)
	require.Empty(t, load("d"))
	require.NoError(t, s.Delete(t.Context(), []byte("c")))
	require.NoError(t, s.Delete(t.Context(), []byte("c")))
	require.Zero(t, s.Len())
	s = NewStore(0)
	for i := range DefaultStore + 10 {
		require.NoError(t, s.Store(t.Context(), fmt.Appendf(nil, "%d", i), nil, time.Now().Add(time.Hour)))
	}
	require.Equal(t, DefaultStore, s.Len())
}

// The bytes of a Store are bounded, and counted however a session leaves it.
func TestStoreBytes(t *testing.T) {
	const n = 4
	s, now, later := NewStore(n), time.Now(), time.Now().Add(time.Hour)
	s.now = func() time.Time { return now }
	put := func(id string, size int) {
		require.NoError(t, s.Store(t.Context(), []byte(id), make([]byte, size-len(id)), later))
	}
	total := func() (sum int64) {
		for _, e := range s.byID {
			v := e.Value.(*stored)
			sum += int64(len(v.id) + len(v.data))
		}
		require.Equal(t, sum, s.bytes)
		return sum
	}
	put("large", n*averageSize+1)
	require.Zero(t, s.Len(), "it exceeds the bound alone")
	put("large", n*averageSize)
	require.Equal(t, int64(n*averageSize), total())
	put("a", 100)
	require.Equal(t, int64(100), total(), "the large one made room")
	for i := range 20 {
		put(strconv.Itoa(i), 3*averageSize)
		require.LessOrEqual(t, total(), int64(n*averageSize))
	}
	put("19", 200)
	require.Equal(t, int64(200), total(), "it is replaced")
	require.NoError(t, s.Delete(t.Context(), []byte("19")))
	require.Zero(t, total())
	put("b", 300)
	now = later
	data, err := s.Load(t.Context(), []byte("b"))
	require.NoError(t, err)
	require.Nil(t, data)
	require.Zero(t, total())
	require.Positive(t, limit(math.MaxInt))
}

// A call of Store after Delete does not bring the session back, and the memory for this is
// bounded.
func TestStoreAfterDelete(t *testing.T) {
	s, ctx, later := NewStore(10), t.Context(), time.Now().Add(time.Hour)
	id := func(i int) []byte { return []byte(strconv.Itoa(i)) }
	for i := range 3 * maxDeleted {
		require.NoError(t, s.Delete(ctx, id(i)))
		require.NoError(t, s.Delete(ctx, id(i)))
		require.NoError(t, s.Store(ctx, id(i), []byte("x"), later))
		require.NoError(t, s.Store(ctx, id(max(0, i-maxDeleted+1)), []byte("x"), later))
	}
	require.Zero(t, s.Len())
	require.Len(t, s.deleted, maxDeleted)
	require.NoError(t, s.Store(ctx, id(0), []byte("x"), later))
	require.Equal(t, 1, s.Len())
}
