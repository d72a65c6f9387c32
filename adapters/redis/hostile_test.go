package sslredis_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A Cluster whose nodes send the client to each other without end costs some requests and an
// error, and so does one that names nodes that do not exist.
func TestClusterLies(t *testing.T) {
	for name, answer := range map[string]func(own string) string{
		"moved to itself":       func(own string) string { return "-MOVED 1 " + own + "\r\n" },
		"asked itself":          func(own string) string { return "-ASK 1 " + own + "\r\n" },
		"moved to nobody":       func(string) string { return "-MOVED 1 127.0.0.1:1\r\n" },
		"moved without address": func(string) string { return "-MOVED 1 \r\n" },
		"moved without slot":    func(string) string { return "-MOVED\r\n" },
		"moved to a port":       func(string) string { return "-MOVED x :\r\n" },
		"moved to a bracket":    func(string) string { return "-MOVED 99999999999999999999 [:\r\n" },
		"try again":             func(string) string { return "-TRYAGAIN later\r\n" },
		"down":                  func(string) string { return "-CLUSTERDOWN down\r\n" },
		"drops":                 func(string) string { return cut },
	} {
		for kind, slots := range map[string]func(own string) string{
			"itself": func(own string) string {
				host, port, _ := net.SplitHostPort(own)
				return list(list(":0\r\n", ":16383\r\n", list(bulk(host), ":"+port+"\r\n", bulk("id"))))
			},
			"nobody": func(string) string { return list(list(":0\r\n", ":16383\r\n")) },
			"nonsense": func(string) string {
				return list(list(":9223372036854775807\r\n", ":-5\r\n", list(bulk(""), ":0\r\n")))
			},
			"too many nodes": func(string) string {
				var nodes []string
				for i := range 30_000 {
					nodes = append(nodes, list(bulk(fmt.Sprintf("127.1.%d.%d", i>>8, i&255)), ":1\r\n"))
				}
				return list(list(append([]string{":0\r\n", ":16383\r\n"}, nodes...)...))
			},
			"no list": func(string) string { return "+OK\r\n" },
			"none":    func(string) string { return list() },
		} {
			t.Run(name+", slots of "+kind, func(t *testing.T) {
				t.Parallel()
				var own string
				var requests atomic.Int64
				ready := make(chan struct{})
				own = pretend(t, func(args []string) string {
					<-ready
					switch strings.ToUpper(args[0]) {
					case "CLUSTER":
						return slots(own)
					case "GET", "ASKING":
						requests.Add(1)
						return answer(own)
					}
					return "-ERR unknown command\r\n"
				})
				close(ready)
				store := newStore(t, sslredis.Options{Client: clientOf(t, sslredis.ClientOptions{Addrs: []string{own}, Cluster: true}), Secret: secret(t, 1)})
				testkit.Within(t, "Load", func() {
					got, err := store.Load(t.Context(), id)
					require.Error(t, err)
					require.Nil(t, got)
					if kind == "too many nodes" {
						require.ErrorContains(t, err, "too many lists")
					}
				})
				require.LessOrEqual(t, requests.Load(), int64(20))
			})
		}
	}
	t.Run("one Redis", func(t *testing.T) { // which has no slots
		_, err := lying(t, "-MOVED 1 127.0.0.1:1\r\n").Load(patient(t), id)
		require.ErrorContains(t, err, "MOVED")
	})
}

// sealed returns the answer with the value that a Redis has for a session.
func sealed(t testing.TB, data string) string {
	t.Helper()
	s := secret(t, 1)
	name := s.SessionName("", id)
	expires := time.Now().Add(time.Hour).Unix()
	plain := []byte{byte(expires >> 56), byte(expires >> 48), byte(expires >> 40), byte(expires >> 32), byte(expires >> 24), byte(expires >> 16), byte(expires >> 8), byte(expires)}
	value, err := s.Seal(name, append(plain, data...))
	require.NoError(t, err)
	return bulk(string(value))
}

// A connection that ends anywhere within a reply gives no session, and the next call uses
// another connection. A reply of another type is not a session.
func TestStoreCutReplies(t *testing.T) {
	whole := sealed(t, "the session")
	var present atomic.Pointer[string]
	store := newStore(t, options(t, pretend(t, func(args []string) string { return *present.Load() })))
	load := func(reply string) ([]byte, error) {
		present.Store(&reply)
		return store.Load(patient(t), id)
	}
	for end := range len(whole) {
		got, err := load(whole[:end] + cut)
		require.Error(t, err, "%d", end)
		require.Nil(t, got, "%d", end)
		if end%10 == 0 {
			got, err = load(whole)
			require.NoError(t, err, "%d", end)
			require.Equal(t, "the session", string(got))
		}
		store = newStore(t, sslredis.Options{Client: store.Client, Secret: store.Secret}) // without a pause
	}
	for _, reply := range []string{":1\r\n", "+OK\r\n", "#t\r\n", ",1.5\r\n", "(99999999999999999999\r\n", "_\r\n", "%1\r\n" + bulk("a") + whole, list(whole), list(), ">2\r\n" + bulk("a") + whole, "~1\r\n" + whole, "=15\r\ntxt:Some string\r\n", "!5\r\nERROR\r\n", whole[:1] + "0" + whole[1:], "@\r\n", "\r\n"} {
		got, err := load(reply)
		if err == nil && got != nil {
			require.Equal(t, "the session", string(got), "%q", reply) // it was sealed for this name
		}
		store = newStore(t, sslredis.Options{Client: store.Client, Secret: store.Secret})
	}
	got, err := load(whole + whole) // the second reply is not that of the next request
	require.NoError(t, err)
	require.Equal(t, "the session", string(got))
	got, err = load("$-1\r\n")
	require.NoError(t, err)
	if got != nil {
		require.Equal(t, "the session", string(got))
	}
}

// Values of another scope, prefix or kind are not taken for this one, although they were
// sealed with the same secret.
func TestSwappedValues(t *testing.T) {
	s := start(t)
	ctx, admin := patient(t), s.admin()
	o := options(t, s.addr())
	store := newStore(t, o)
	prefixed := o
	prefixed.Prefix = "sslfilter:s:"
	atBegin := o
	atBegin.SetClock(atEpochBegin)
	keeper, err := sslredis.NewKeeper(atBegin)
	require.NoError(t, err)
	require.NoError(t, keeper.Step(ctx))
	epoch := begin.Unix()/3600 + 2
	require.NoError(t, store.Scope("other").Store(ctx, id, data, hence(time.Hour)))
	other, err := admin.Get(ctx, o.Secret.SessionName("other", id)).Result()
	require.NoError(t, err)
	key, err := admin.Get(ctx, keeper.EpochName(epoch)).Result()
	require.NoError(t, err)
	require.NoError(t, newStore(t, prefixed).Store(ctx, id, data, hence(time.Hour)))
	names, err := admin.Keys(ctx, "sslfilter:s:s:*").Result()
	require.NoError(t, err)
	require.Len(t, names, 1)
	foreign, err := admin.Get(ctx, names[0]).Result()
	require.NoError(t, err)

	for what, value := range map[string]string{"another scope": other, "a ticket key": key, "another prefix": foreign} {
		require.NoError(t, admin.Set(ctx, o.Secret.SessionName("", id), value, 0).Err())
		got, err := store.Load(ctx, id)
		require.Error(t, err, what)
		require.Nil(t, got, what)
	}
	before := keeper.Stats().Rejected
	require.NoError(t, admin.Set(ctx, keeper.EpochName(epoch), other, 0).Err())
	require.Error(t, keeper.Step(ctx))
	require.Equal(t, before+1, keeper.Stats().Rejected)
}

// A Redis that accepts everything and keeps nothing makes the servers use derived keys, on
// which they agree.
func TestKeeperForgetfulRedis(t *testing.T) {
	addr := pretend(t, func(args []string) string {
		switch strings.ToUpper(args[0]) {
		case "GET":
			return "$-1\r\n"
		case "SET":
			return "+OK\r\n"
		}
		return ":1\r\n"
	})
	first, second := newKeeper(t, addr), newKeeper(t, addr)
	for range 3 {
		for _, k := range []*sslredis.Keeper{first, second} {
			require.ErrorContains(t, k.Step(patient(t)), "does not have the keys")
			require.False(t, k.Stats().FromRedis)
		}
		require.Equal(t, first.Keys(""), second.Keys(""))
	}
}

// atEpochBegin is a clock that stands still, since the keys that a Keeper makes depend on the
// part of the epoch that is over.
func atEpochBegin() time.Time { return begin }

func newKeeper(t *testing.T, addr string) *sslredis.Keeper {
	t.Helper()
	o := options(t, addr)
	o.SetClock(atEpochBegin)
	k, err := sslredis.NewKeeper(o)
	require.NoError(t, err)
	t.Cleanup(func() { k.Close() })
	_, err = k.TicketKeys("")
	require.NoError(t, err)
	return k
}

// A Redis that shows each server another key for the same epoch, both of them real, and
// changes its mind, costs full handshakes at most: each server accepts the keys that it has
// seen, and always the derived ones.
func TestKeeperReplays(t *testing.T) {
	s, other := start(t), start(t)
	first, second := newKeeper(t, s.addr()), newKeeper(t, other.addr())
	require.NoError(t, first.Step(patient(t)))
	require.NoError(t, second.Step(patient(t)))
	epoch := begin.Unix()/3600 + 1
	value := func(s *server) string { return s.do("GET", first.EpochName(epoch)).(string) }
	values := []string{value(s), value(other)}
	require.NotEqual(t, values[0], values[1])
	derived := second.Keys("")
	for i := range 6 {
		s.do("SET", first.EpochName(epoch), values[i%2])
		require.NoError(t, first.Step(patient(t)))
	}
	require.GreaterOrEqual(t, first.Stats().Differed, int64(5))
	require.LessOrEqual(t, len(first.Keys("")), 16)
	for _, key := range derived {
		require.True(t, slices.Contains(first.Keys(""), key), "a key that the servers had in common is not accepted")
	}
}

// The replies to a poll end anywhere: the Keeper makes no keys in place of those that it has
// not read, and the next poll finds them.
func TestKeeperCutReplies(t *testing.T) {
	s := start(t)
	reference := newKeeper(t, s.addr())
	require.NoError(t, reference.Step(patient(t)))
	require.NoError(t, reference.Step(patient(t)))
	redis := s.admin()
	for _, limit := range []int{0, 1, 4, 5, 20, 60, 66, 67, 130, 150, 200, 1 << 20} {
		left := limit
		var mu sync.Mutex
		k := newKeeper(t, pretend(t, func(args []string) string {
			mu.Lock()
			defer mu.Unlock()
			reply := "$-1\r\n"
			if value, err := redis.Get(t.Context(), args[1]).Result(); err == nil {
				reply = bulk(value)
			}
			if left -= len(reply); left < 0 {
				return reply[:max(0, len(reply)+left)] + cut
			}
			return reply
		}))
		if limit < 1<<20 {
			require.Error(t, k.Step(patient(t)), limit)
			require.Zero(t, k.Stats().Made, limit)
			left = 1 << 20
		}
		testkit.Eventually(t, func() bool { return k.Step(patient(t)) == nil }, "Redis is not used again")
		require.Equal(t, reference.Keys(""), k.Keys(""), limit)
		require.Zero(t, k.Stats().Made+k.Stats().Rejected, limit)
	}
}
