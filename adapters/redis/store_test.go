package sslredis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

var id, data = bytes.Repeat([]byte{0xab}, 32), bytes.Repeat([]byte("session "), 150)

func hence(d time.Duration) time.Time { return time.Now().Add(d) }

// A session that one server stores is found by the others, until it expires or is
// deleted. Redis sees neither its id nor its data.
func TestStore(t *testing.T) {
	s := start(t)
	a, b := newStore(t, options(t, s.addr())), newStore(t, options(t, s.addr()))
	ctx := patient(t)
	got, err := b.Load(ctx, id)
	require.NoError(t, err)
	require.Nil(t, got)

	require.NoError(t, a.Store(ctx, id, data, hence(time.Hour)))
	got, err = b.Load(ctx, id)
	require.NoError(t, err)
	require.Equal(t, data, got)
	got, err = b.Scope("other").Load(ctx, id)
	require.NoError(t, err)
	require.Nil(t, got, "another scope finds the session")

	names, err := s.admin().Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Len(t, names, 1)
	require.Regexp(t, `^sslfilter:s:[-\w]{43}$`, names[0])
	value, err := s.admin().Get(ctx, names[0]).Result()
	require.NoError(t, err)
	require.NotContains(t, value, "session")
	require.NotContains(t, value, string(id))
	life, err := s.admin().PTTL(ctx, names[0]).Result()
	require.NoError(t, err)
	require.Greater(t, life, 50*time.Minute)
	require.LessOrEqual(t, life, time.Hour)

	require.NoError(t, b.Delete(ctx, id))
	require.NoError(t, b.Delete(ctx, id))
	got, err = a.Load(ctx, id)
	require.NoError(t, err)
	require.Nil(t, got)
	require.Equal(t, sslredis.StoreStats{Loads: 3, Found: 1, Deletes: 2}, b.Stats())
	require.Equal(t, sslredis.StoreStats{Loads: 1, Stores: 1}, a.Stats())
}

// Data that is too large, and a session that has expired already, are not stored.
func TestStoreBounds(t *testing.T) {
	s := start(t)
	store := newStore(t, options(t, s.addr()))
	ctx := patient(t)
	require.ErrorContains(t, store.Store(ctx, id, make([]byte, sslredis.MaxSession+1), hence(time.Hour)), "at most")
	require.NoError(t, store.Store(ctx, id, data, hence(-time.Hour)))
	require.NoError(t, store.Store(ctx, id, data, time.Time{}))
	require.Zero(t, s.do("DBSIZE"))
	require.NoError(t, store.Store(ctx, id, make([]byte, sslredis.MaxSession), hence(1000*24*time.Hour)))
	got, err := store.Load(ctx, id)
	require.NoError(t, err)
	require.Len(t, got, sslredis.MaxSession)
	life, err := s.admin().PTTL(ctx, secret(t, 1).SessionName("", id)).Result()
	require.NoError(t, err)
	require.LessOrEqual(t, life, 7*24*time.Hour)
}

// Redis may have anything under the name of a session: only the session itself is loaded.
func TestStoreLies(t *testing.T) {
	s := start(t)
	now := &clock{now: time.Now()}
	o := options(t, s.addr())
	o.SetClock(now.Now)
	var told atomic.Int64
	o.OnError = func(error) { told.Add(1) }
	store := newStore(t, o)
	ctx, admin := patient(t), s.admin()
	other := bytes.Repeat([]byte{1}, 32)
	require.NoError(t, store.Store(ctx, id, data, hence(time.Hour)))
	require.NoError(t, store.Store(ctx, other, []byte("another session"), hence(time.Hour)))
	name, otherName := secret(t, 1).SessionName("", id), secret(t, 1).SessionName("", other)
	value, err := admin.Get(ctx, name).Result()
	require.NoError(t, err)
	otherValue, err := admin.Get(ctx, otherName).Result()
	require.NoError(t, err)

	for what, lie := range map[string]string{
		"the value of another session": otherValue,
		"nothing":                      "",
		"junk":                         "junk",
		"much junk":                    strings.Repeat("j", 60<<10),
		"another version":              "\x02" + value[1:],
		"too large":                    value + strings.Repeat("x", 70<<10),
		"huge":                         strings.Repeat("x", 2<<20),
		"an altered byte":              value[:40] + string(value[40]^1) + value[41:],
	} {
		t.Run(what, func(t *testing.T) {
			before := told.Load()
			require.NoError(t, admin.Set(ctx, name, lie, 0).Err())
			got, err := store.Load(ctx, id)
			require.Error(t, err)
			require.Nil(t, got)
			require.Equal(t, before+1, told.Load(), "the error is not told")
		})
	}
	t.Run("a list", func(t *testing.T) {
		require.NoError(t, admin.Del(ctx, name).Err())
		require.NoError(t, admin.RPush(ctx, name, "x").Err())
		_, err := store.Load(ctx, id)
		require.ErrorContains(t, err, "WRONGTYPE")
		require.NoError(t, admin.Del(ctx, name).Err())
	})
	t.Run("a value that has expired", func(t *testing.T) {
		require.NoError(t, admin.Set(ctx, name, value, 0).Err())
		got, err := store.Load(ctx, id)
		require.NoError(t, err)
		require.Equal(t, data, got)
		rejected := store.Stats().Rejected
		now.set(hence(time.Hour + time.Minute)) // a clock may be ahead
		got, err = store.Load(ctx, id)
		require.NoError(t, err)
		require.Nil(t, got)
		require.Equal(t, rejected, store.Stats().Rejected)
		now.set(hence(2 * time.Hour))
		_, err = store.Load(ctx, id)
		require.ErrorContains(t, err, "expired")
	})
}

// A new secret replaces an old one without losing sessions: at first all servers know the
// new one, and then they seal with it.
func TestStoreSecretRotation(t *testing.T) {
	s := start(t)
	with := func(bs ...byte) *sslredis.Store {
		o := options(t, s.addr())
		o.Secret = secret(t, bs...)
		return newStore(t, o)
	}
	ctx := patient(t)
	first, known, sealing, last := with(1), with(1, 2), with(2, 1), with(2)
	require.NoError(t, first.Store(ctx, id, data, hence(time.Hour)))
	for _, store := range []*sslredis.Store{known, sealing} {
		got, err := store.Load(ctx, id)
		require.NoError(t, err)
		require.Equal(t, data, got)
	}
	require.NoError(t, sealing.Store(ctx, id[1:], data, hence(time.Hour)))
	for _, store := range []*sslredis.Store{known, last} {
		got, err := store.Load(ctx, id[1:])
		require.NoError(t, err)
		require.Equal(t, data, got)
	}
	got, err := last.Load(ctx, id)
	require.NoError(t, err)
	require.Nil(t, got)
	require.NoError(t, known.Delete(ctx, id[1:]))
	got, err = last.Load(ctx, id[1:])
	require.NoError(t, err)
	require.Nil(t, got, "a session under the other secret was not deleted")
}

// Each fault of Redis is an error within the deadline, and is reported.
func TestStoreFaults(t *testing.T) {
	const deadline = 50 * time.Millisecond
	for _, c := range []struct {
		name  string
		fault func(*testing.T) string // returns the address
		want  string
	}{
		{"killed", func(t *testing.T) string { s := start(t); s.kill(); return s.addr() }, "refused"},
		{"silent", func(t *testing.T) string { return "127.0.0.1:" + silent(t) }, ""},
		{"paused", func(t *testing.T) string { s := start(t); s.do("CLIENT", "PAUSE", "60000", "ALL"); return s.addr() }, ""},
		{"slow", func(t *testing.T) string { s := start(t); return delay(t, s.addr(), 200*time.Millisecond) }, ""},
		{"password", func(t *testing.T) string { return start(t, "--requirepass", "x").addr() }, "NOAUTH"},
		{"replica of nobody", func(t *testing.T) string { return start(t, "--replicaof", "127.0.0.1 1").addr() }, "MASTERDOWN|READONLY"},
		{"without replicas", func(t *testing.T) string { return start(t, "--min-replicas-to-write", "1").addr() }, "NOREPLICAS"},
		{"full", func(t *testing.T) string { return start(t, "--maxmemory", "1").addr() }, "OOM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var told atomic.Int64
			o := options(t, c.fault(t))
			o.OnError = func(error) { told.Add(1) }
			store := newStore(t, o)
			for i := range sslredis.BreakAfter + 3 {
				limit := testkit.Patience // Redis answers
				if c.want == "" {
					limit = deadline
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				err := store.Store(ctx, id, data, hence(time.Hour))
				cancel()
				require.Error(t, err)
				if i >= sslredis.BreakAfter {
					require.ErrorIs(t, err, sslredis.ErrUnavailable)
					continue
				}
				require.NotErrorIs(t, err, sslredis.ErrUnavailable)
				if c.want != "" {
					require.Regexp(t, c.want, err.Error())
				}
			}
			require.EqualValues(t, sslredis.BreakAfter, told.Load())
			require.Equal(t, sslredis.StoreStats{Errors: sslredis.BreakAfter, Unavailable: 3, Interrupted: 1}, store.Stats())
		})
	}
}

// A Redis that takes no writes is still read.
func TestStoreReadsWhatIsReadOnly(t *testing.T) {
	s := start(t)
	store := newStore(t, options(t, s.addr()))
	ctx := patient(t)
	require.NoError(t, store.Store(ctx, id, data, hence(time.Hour)))
	s.do("CONFIG", "SET", "min-replicas-to-write", "1")
	for range 2 * sslredis.BreakAfter {
		require.Error(t, store.Store(ctx, id, data, hence(time.Hour)))
		got, err := store.Load(ctx, id)
		require.NoError(t, err)
		require.Equal(t, data, got)
	}
}

// After a pause one call tries Redis again, and its success ends the pause.
func TestStoreTriesAgain(t *testing.T) {
	s := start(t)
	now := &clock{now: time.Now()}
	o := options(t, s.addr())
	o.SetClock(now.Now)
	store := newStore(t, o)
	s.kill()
	load := func() error {
		_, err := store.Load(patient(t), id)
		return err
	}
	for range sslredis.BreakAfter {
		require.NotErrorIs(t, load(), sslredis.ErrUnavailable)
	}
	for range 10 { // the pauses become longer, up to a bound
		require.ErrorIs(t, load(), sslredis.ErrUnavailable)
		now.set(now.Now().Add(sslredis.MaxPause))
		require.NotErrorIs(t, load(), sslredis.ErrUnavailable)
		require.ErrorIs(t, load(), sslredis.ErrUnavailable)
	}
	s.start()
	require.ErrorIs(t, load(), sslredis.ErrUnavailable)
	// go-redis itself looks once a second whether it can connect again.
	testkit.Eventually(t, func() bool {
		now.set(now.Now().Add(sslredis.MaxPause))
		return load() == nil
	}, "Redis is not used again")
	require.NoError(t, load())

	t.Run("clock set back", func(t *testing.T) {
		s.kill()
		for range sslredis.BreakAfter {
			require.Error(t, load())
		}
		require.ErrorIs(t, load(), sslredis.ErrUnavailable)
		s.start()
		testkit.Eventually(t, func() bool {
			now.set(now.Now().Add(-24 * time.Hour))
			return load() == nil
		}, "Redis is not used again")
	})
}

// A call whose context is canceled is not counted as a failure of Redis.
func TestStoreCanceled(t *testing.T) {
	s := start(t)
	store := newStore(t, options(t, s.addr()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 * sslredis.BreakAfter {
		_, err := store.Load(ctx, id)
		require.ErrorIs(t, err, context.Canceled)
	}
	_, err := store.Load(patient(t), id)
	require.NoError(t, err)
	require.Zero(t, store.Stats().Errors)
}

// After a restart Redis is used again, without errors from stale connections.
func TestStoreRestart(t *testing.T) {
	s := start(t)
	store := newStore(t, options(t, s.addr()))
	require.NoError(t, store.Store(patient(t), id, data, hence(time.Hour)))
	s.kill()
	s.start()
	got, err := store.Load(patient(t), id)
	require.NoError(t, err)
	require.Nil(t, got, "this Redis does not keep anything")
	require.Zero(t, store.Stats().Errors)
}

func TestOptions(t *testing.T) {
	c := client(t, "127.0.0.1:1")
	for name, o := range map[string]sslredis.Options{
		"Client is missing":     {Secret: secret(t, 1)},
		"Secret is missing":     {Client: c},
		"ContextTimeoutEnabled": {Client: redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}), Secret: secret(t, 1)},
		"Epoch":                 {Client: c, Secret: secret(t, 1), Epoch: time.Minute},
		"whole seconds":         {Client: c, Secret: secret(t, 1), Epoch: time.Hour + 1},
	} {
		_, err := sslredis.NewStore(o)
		require.ErrorContains(t, err, name)
		_, err = sslredis.NewKeeper(o)
		require.ErrorContains(t, err, name)
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	defer cluster.Close()
	_, err := sslredis.NewStore(sslredis.Options{Client: cluster, Secret: secret(t, 1)})
	require.ErrorContains(t, err, "ContextTimeoutEnabled")
}

// A Store that arrives after Delete does not bring the session back. A Redis that
// is out of memory still deletes.
func TestStoreDeleted(t *testing.T) {
	s := start(t)
	with := func(bs ...byte) *sslredis.Store {
		o := options(t, s.addr())
		o.Secret = secret(t, bs...)
		return newStore(t, o)
	}
	one, other, both := with(1), with(2), with(1, 2)
	ctx := patient(t)
	gone := func() {
		t.Helper()
		for _, store := range []*sslredis.Store{one, other, both} {
			got, err := store.Load(ctx, id)
			require.NoError(t, err)
			require.Nil(t, got)
		}
	}
	require.NoError(t, both.Delete(ctx, id))
	for _, store := range []*sslredis.Store{one, other, both} {
		require.NoError(t, store.Store(ctx, id, data, hence(time.Hour)))
		gone()
	}
	require.NoError(t, one.Scope("other").Store(ctx, id, data, hence(time.Hour)))
	got, err := one.Scope("other").Load(ctx, id)
	require.NoError(t, err)
	require.Equal(t, data, got)
	life, err := s.admin().PTTL(ctx, secret(t, 1).SessionName("", id)).Result()
	require.NoError(t, err)
	require.Greater(t, life, 2*time.Hour)
	require.Equal(t, sslredis.StoreStats{Loads: 3, Stores: 1, Deletes: 1}, both.Stats())

	require.NoError(t, one.Store(ctx, id[1:], data, hence(time.Hour)))
	s.do("CONFIG", "SET", "maxmemory", "1")
	require.ErrorContains(t, one.Store(ctx, id[2:], data, hence(time.Hour)), "OOM")
	require.NoError(t, one.Delete(ctx, id[1:]))
	got, err = one.Load(ctx, id[1:])
	require.NoError(t, err)
	require.Nil(t, got)
}

// Many goroutines use one store.
func TestStoreConcurrently(t *testing.T) {
	s := start(t)
	store := newStore(t, options(t, s.addr()))
	ctx := patient(t)
	failures := make(chan error, 20)
	for i := range cap(failures) {
		go func() {
			own := fmt.Appendf(nil, "session %d", i)
			err := store.Store(ctx, own, own, hence(time.Hour))
			if err == nil {
				var got []byte
				if got, err = store.Load(ctx, own); err == nil && !bytes.Equal(got, own) {
					err = errors.New("another session")
				}
			}
			failures <- errors.Join(err, store.Delete(ctx, own))
		}()
	}
	for range cap(failures) {
		require.NoError(t, <-failures)
	}
	for i := range cap(failures) {
		got, err := store.Load(ctx, fmt.Appendf(nil, "session %d", i))
		require.NoError(t, err)
		require.Nil(t, got)
	}
}
