package sslredis_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
)

// If Redis is gone, a Keeper keeps asking and never gives up. The pauses become longer,
// up to a bound.
func TestKeeperPauses(t *testing.T) {
	const s = time.Second
	list := sslredis.Pauses(time.Hour, slices.Repeat([]bool{true}, 1000)...)
	require.Equal(t, []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s}, list[:6])
	for i, pause := range list[6:] {
		require.Equal(t, 60*s, pause, "failure %d", i+7)
	}
	require.Equal(t, []time.Duration{24 * 60 * s, s, 2 * s, 24 * 60 * s, s}, sslredis.Pauses(24*time.Hour, false, true, true, false, true))
}

// Calls that were made together and fail together lengthen the pause once.
func TestBreakerCountsABurstOnce(t *testing.T) {
	const first = 500 * time.Millisecond
	now := &clock{now: time.Unix(1_800_000_000, 0)}
	begin, pause := sslredis.Breaker(now.Now)
	var burst []func(bool)
	for range 100 {
		burst = append(burst, begin())
	}
	for i, done := range burst[1:] {
		done(true)
		want := first
		if i+1 < sslredis.BreakAfter {
			want = 0
		}
		require.Equal(t, want, pause(), "failure %d", i+1)
	}
	require.Nil(t, begin())

	now.set(now.Now().Add(first))
	trial := begin()
	require.NotNil(t, trial)
	require.Nil(t, begin(), "a second trial within the pause")
	now.set(now.Now().Add(first))
	again := begin()
	require.NotNil(t, again, "the first trial takes longer than the pause")
	burst[0](true)
	require.Equal(t, first, pause(), "a call from before the pause is not a trial")
	trial(true)
	require.Equal(t, 2*first, pause())
	again(true)
	require.Equal(t, 2*first, pause())
	require.Nil(t, begin())

	for range 100 {
		now.set(now.Now().Add(pause()))
		begin()(true)
		require.LessOrEqual(t, pause(), sslredis.MaxPause)
	}
	require.Equal(t, sslredis.MaxPause, pause())
	now.set(now.Now().Add(pause()))
	begin()(false)
	require.Zero(t, pause())
	require.NotNil(t, begin())
}
