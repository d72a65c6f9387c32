package sslredis_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// When an epoch begins, the keys change without a request to Redis, so that not all servers
// ask at that moment.
func TestKeeperAsksNothingWhenAnEpochBegins(t *testing.T) {
	s := start(t)
	o := options(t, s.addr())
	shift := time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)) - 300*time.Millisecond
	o.SetClock(func() time.Time { return time.Now().Add(shift) })
	keeper, err := sslredis.NewKeeper(o)
	require.NoError(t, err)
	defer keeper.Close()
	_, err = keeper.TicketKeys("")
	require.NoError(t, err)
	require.NoError(t, keeper.Start(patient(t)))
	before := keeper.Stats().Changes
	testkit.Eventually(t, func() bool { return keeper.Stats().Changes > before }, "the keys do not change")
	require.Equal(t, int64(1), keeper.Stats().Polls)
}

// After Start, a Keeper polls Redis by itself until Close. A Redis that hangs delays
// neither Start nor Close for long.
func TestKeeperStart(t *testing.T) {
	s := start(t)
	o := options(t, s.addr())
	keeper, err := sslredis.NewKeeper(o)
	require.NoError(t, err)
	_, err = keeper.TicketKeys("")
	require.NoError(t, err)
	require.NoError(t, keeper.Start(patient(t)))
	require.Error(t, keeper.Start(patient(t)))
	require.Equal(t, int64(1), keeper.Stats().Polls)
	require.Contains(t, []int64{sslredis.Ahead, sslredis.Ahead - 1}, keeper.Stats().Made) // the next epoch may be near
	require.NoError(t, keeper.Close())
	require.NoError(t, keeper.Close())
	require.Error(t, keeper.Start(patient(t)))
	for _, scope := range []string{"", "another"} {
		_, err = keeper.TicketKeys(scope)
		require.ErrorContains(t, err, "closed")
	}

	told := make(chan error, 100)
	o = options(t, "127.0.0.1:"+silent(t))
	o.OnError = func(err error) { told <- err }
	keeper, err = sslredis.NewKeeper(o)
	require.NoError(t, err)
	_, err = keeper.TicketKeys("")
	require.NoError(t, err)
	require.NotEmpty(t, keeper.Keys(""), "the keys are not usable before Start")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.NoError(t, keeper.Start(ctx))
	require.Error(t, <-told)
	testkit.Within(t, "Close", func() { keeper.Close() })
}

// A failure is followed by another attempt soon, and not only at the next poll.
func TestKeeperTriesAgain(t *testing.T) {
	s := start(t)
	s.kill()
	keeper, err := sslredis.NewKeeper(options(t, s.addr()))
	require.NoError(t, err)
	defer keeper.Close()
	require.NoError(t, keeper.Start(patient(t)))
	require.Zero(t, keeper.Stats().Made)
	s.start()
	testkit.Eventually(t, func() bool { return keeper.Stats().Made > 0 }, "Redis is not asked again")
}

// Many goroutines use one Keeper while it polls, also across a change of epochs, and while
// it is closed.
func TestKeeperConcurrently(t *testing.T) {
	s := start(t)
	o := options(t, s.addr())
	own := &clock{now: begin}
	o.SetClock(own.Now)
	keeper, err := sslredis.NewKeeper(o)
	require.NoError(t, err)
	require.NoError(t, keeper.Start(patient(t)))
	failures := make(chan error, 8)
	for i := range cap(failures) {
		go func() {
			scope := string(rune('a' + i%4))
			for range 20 {
				if _, err := keeper.TicketKeys(scope); err != nil {
					failures <- err
					return
				}
				keeper.Step(t.Context())
				own.set(own.Now().Add(time.Minute))
				keeper.Retain("a", scope)
				keeper.Stats()
			}
			failures <- nil
		}()
	}
	for range cap(failures) {
		require.NoError(t, <-failures)
	}
	before := keeper.Keys("a")
	require.NotEmpty(t, before)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for {
			if _, err := keeper.TicketKeys("b"); err != nil {
				return
			}
			keeper.Step(t.Context())
			keeper.Retain("a")
		}
	}()
	require.NoError(t, keeper.Close())
	<-stop
	for _, key := range before[:cap(before)] {
		require.Zero(t, key, "Close has left a key in memory")
	}
	require.Nil(t, keeper.Keys("a"))
}
