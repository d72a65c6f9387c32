package sslredis_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

type ticketKey = [80]byte

// node is a server of the fleet with a clock of its own.
type node struct {
	clock  clock
	keeper *sslredis.Keeper
	cut    bool // does not reach Redis
}

// fleet has servers whose time a test sets.
type fleet struct {
	t     *testing.T
	redis *server
	now   time.Time
	nodes []*node
}

// begin is the beginning of an epoch of an hour.
var begin = time.Unix(1_800_000_000, 0).Truncate(time.Hour)

func newFleet(t *testing.T, nodes int) *fleet {
	f := &fleet{t: t, redis: start(t), now: begin}
	for range nodes {
		f.join(1)
	}
	return f
}

// join adds a server with these secrets.
func (f *fleet) join(secrets ...byte) *node {
	f.t.Helper()
	n := new(node)
	n.clock.now = f.now
	o := sslredis.Options{Client: client(f.t, f.redis.addr()), Secret: secret(f.t, secrets...)}
	o.SetClock(n.clock.Now)
	var err error
	n.keeper, err = sslredis.NewKeeper(o)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, n.keeper.Close()) })
	_, err = n.keeper.TicketKeys("")
	require.NoError(f.t, err)
	f.nodes = append(f.nodes, n)
	return n
}

// poll lets each server that reaches Redis ask it, in a random order.
func (f *fleet) poll() {
	f.t.Helper()
	for _, i := range rand.Perm(len(f.nodes)) {
		n := f.nodes[i]
		n.clock.set(f.now)
		ctx := f.t.Context()
		if n.cut {
			canceled, cancel := context.WithCancel(ctx)
			cancel()
			ctx = canceled
		}
		n.keeper.Step(ctx)
	}
}

// cut separates all servers from Redis, or connects them again.
func (f *fleet) cut(cut bool) {
	for _, n := range f.nodes {
		n.cut = cut
	}
}

// pass lets time pass, and the servers ask Redis every five minutes. After each time all
// tickets must be readable everywhere.
func (f *fleet) pass(d time.Duration) {
	f.t.Helper()
	for end := f.now.Add(d); f.now.Before(end); {
		f.now = f.now.Add(5 * time.Minute)
		f.poll()
		f.check()
	}
}

func (n *node) keys() []ticketKey { return n.keeper.Keys("") }

func (n *node) reads(key ticketKey) bool { return slices.Contains(n.keys(), key) }

// check requires that every server reads the tickets that every other one makes.
func (f *fleet) check() {
	f.t.Helper()
	for i, n := range f.nodes {
		require.LessOrEqual(f.t, len(n.keys()), 16)
		for j, other := range f.nodes {
			require.True(f.t, other.reads(n.keys()[0]), "server %d cannot read the tickets of server %d at %v", j, i, f.now.UTC())
		}
	}
}

// converged requires that all servers encrypt with the same key, from Redis or derived.
func (f *fleet) converged(fromRedis bool) {
	f.t.Helper()
	for _, n := range f.nodes {
		require.Equal(f.t, f.nodes[0].keys()[0], n.keys()[0])
		require.Equal(f.t, fromRedis, n.keeper.Stats().FromRedis)
	}
}

func (f *fleet) stats() (sum sslredis.KeeperStats) {
	for _, n := range f.nodes {
		s := n.keeper.Stats()
		sum.Made += s.Made
		sum.Restored += s.Restored
		sum.Differed += s.Differed
		sum.Errors += s.Errors
		sum.Rejected += s.Rejected
	}
	return sum
}

// The key of an epoch is made once, is known to all servers before they encrypt with it,
// reads tickets for as long as they are valid, and is forgotten.
func TestKeeper(t *testing.T) {
	f := newFleet(t, 3)
	f.poll()
	f.check()
	f.converged(false) // a key that has just been made is not used before all know it
	f.pass(65 * time.Minute)
	f.converged(true)
	require.Equal(t, sslredis.KeeperStats{Made: sslredis.Ahead + 1}, f.stats())

	first := f.nodes[0].keys()[0]
	f.now = begin.Add(2*time.Hour + time.Second) // the next epoch has begun, without a poll before
	f.poll()
	f.check()
	f.converged(true)
	require.NotEqual(t, first, f.nodes[0].keys()[0])
	for range 2 {
		for _, n := range f.nodes {
			require.True(t, n.reads(first), "a ticket that is still valid is not accepted")
		}
		f.pass(time.Hour)
	}
	f.pass(10 * time.Minute)
	for _, n := range f.nodes {
		require.False(t, n.reads(first), "the key is not forgotten")
	}
	f.pass(12 * time.Hour)
	f.converged(true)
	require.Equal(t, sslredis.KeeperStats{Made: int64(f.now.Sub(begin)/time.Hour) + sslredis.Ahead}, f.stats())
	changes := f.nodes[0].keeper.Stats().Changes
	f.pass(30 * time.Minute)
	require.Equal(t, changes, f.nodes[0].keeper.Stats().Changes, "the same keys are set again")
}

// Redis keeps a key for the time in which it is used, sealed, and under a name that
// reveals nothing.
func TestKeeperInRedis(t *testing.T) {
	f := newFleet(t, 1)
	f.poll()
	ctx, admin := patient(t), f.redis.admin()
	names, err := admin.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Len(t, names, sslredis.Ahead)
	for _, name := range names {
		require.Regexp(t, `^sslfilter:k:[-\w]{43}$`, name)
		value, err := admin.Get(ctx, name).Bytes()
		require.NoError(t, err)
		require.Len(t, value, 32+sslredis.SealOverhead)
	}
	epoch := begin.Unix() / 3600
	for i := range int64(sslredis.Ahead) {
		life, err := admin.PTTL(ctx, f.nodes[0].keeper.EpochName(epoch+1+i)).Result()
		require.NoError(t, err)
		require.InDelta(t, (time.Duration(i)+1+1+2)*time.Hour, life, float64(time.Minute))
	}
}

// Each scope has keys of its own, which all servers have.
func TestKeeperScopes(t *testing.T) {
	f := newFleet(t, 2)
	f.pass(time.Hour)
	var all [][]ticketKey
	for _, n := range f.nodes {
		for _, scope := range []string{"a", "b"} {
			keys, err := n.keeper.TicketKeys(scope)
			require.NoError(t, err)
			again, err := n.keeper.TicketKeys(scope)
			require.NoError(t, err)
			require.Same(t, keys, again)
			all = append(all, n.keeper.Keys(scope))
		}
	}
	require.Equal(t, all[0], all[2])
	require.Equal(t, all[1], all[3])
	for _, key := range append(slices.Clone(f.nodes[0].keys()), all[1]...) {
		require.NotContains(t, all[0], key)
	}
	f.pass(time.Hour)
	require.NotEqual(t, all[0][0], f.nodes[0].keeper.Keys("a")[0], "the scope does not follow the clock")
}

// Retain forgets the other scopes and clears their keys. Contexts that still have keys of
// such a scope work as before, and the keys of the scopes that stay do not change.
func TestKeeperRetain(t *testing.T) {
	f := newFleet(t, 2)
	f.pass(time.Hour)
	k := f.nodes[0].keeper
	server := func(k *sslredis.Keeper, scope string) (*sslfilter.Ctx, weak.Pointer[sslfilter.TicketKeys]) {
		keys, err := k.TicketKeys(scope)
		require.NoError(t, err)
		ctx, err := sslfilter.NewCtx(testkit.Server(func(o *sslfilter.Options) { o.TicketKeys = keys }))
		require.NoError(t, err)
		t.Cleanup(func() { ctx.Close() })
		return ctx, weak.Make(keys)
	}
	visitor := func() func(*sslfilter.Ctx) bool {
		config := testkit.GoClient(t, func(c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(1) })
		return func(ctx *sslfilter.Ctx) bool {
			f := testkit.FilterOf(t, ctx)
			require.NoError(t, testkit.TalkToGo(t, f, false, config).Err)
			return f.Resumed()
		}
	}
	old, forgotten := server(k, "a")
	stays, kept := server(k, "b")
	far, _ := server(f.nodes[1].keeper, "a")
	visitA, visitB := visitor(), visitor()
	require.False(t, visitA(old))
	require.False(t, visitB(stays))
	keysA, keysB := k.Keys("a"), slices.Clone(k.Keys("b"))
	require.NotEmpty(t, keysA)

	k.Retain("", "b", "unknown")
	for _, key := range keysA[:cap(keysA)] {
		require.Zero(t, key, "a key of the scope is still in memory")
	}
	require.Nil(t, k.Keys("a"))
	require.Equal(t, keysB, k.Keys("b"))
	again, err := k.TicketKeys("b")
	require.NoError(t, err)
	require.Same(t, kept.Value(), again)
	before := k.Stats()
	f.poll()
	require.Equal(t, before.Changes, k.Stats().Changes)
	require.Nil(t, k.Keys("a"), "the scope is back")
	f.pass(time.Hour)
	require.NotEqual(t, keysB, k.Keys("b"), "the scope that stays does not follow the clock")
	require.True(t, visitB(stays))
	for range 2 { // also with the ticket that it has just got
		require.True(t, visitA(old), "a context that is still in use lost its keys")
	}
	require.True(t, visitA(far))

	// A reload brings the relay back while connections still have the old context.
	fresh, present := server(k, "a")
	require.NotSame(t, forgotten.Value(), present.Value())
	require.True(t, visitA(fresh))
	require.True(t, visitA(far))
	require.Equal(t, f.nodes[1].keeper.Keys("a"), k.Keys("a"))
	require.True(t, visitA(old))

	require.NoError(t, old.Close())
	testkit.Eventually(t, func() bool {
		runtime.GC()
		return forgotten.Value() == nil
	}, "the Keeper still has the keys of a scope that it has forgotten")
	require.NotNil(t, present.Value())
	k.Retain()
	require.Nil(t, k.Keys("b"))
	f.poll()
	require.NoError(t, k.Close())
	k.Retain("b")
}

// Without Redis the servers use the keys that they have, and then derived ones. When
// Redis is back they agree again, and no ticket is lost at any time.
func TestKeeperWithoutRedis(t *testing.T) {
	f := newFleet(t, 3)
	f.pass(2 * time.Hour)
	f.redis.kill()
	f.pass(10 * time.Minute)
	require.NotZero(t, f.stats().Errors)
	f.cut(true) // for the servers this is the same, but the test is faster
	f.pass((sslredis.Ahead - 1) * time.Hour)
	f.converged(true) // Redis already had the keys of these epochs
	f.pass(2 * time.Hour)
	f.converged(false)
	f.pass(24 * time.Hour)
	f.converged(false)
	f.join(1) // a server that is started in the meantime
	f.cut(false)
	f.pass(5 * time.Minute)
	f.converged(false)
	f.redis.start()
	testkit.Eventually(t, func() bool { // go-redis looks once a second whether it can connect
		f.poll()
		f.check()
		return f.nodes[0].keeper.Stats().Made+f.stats().Made > 0 && len(f.redis.do("KEYS", "*").([]any)) >= sslredis.Ahead
	}, "Redis is not used again")
	f.pass(2 * time.Hour)
	f.converged(true)
}

// A server that is started while Redis is gone can decrypt with the derived keys, and all
// others can decrypt its tickets. Later it gets the keys of the others from Redis, although
// Redis had lost them: the others put them back.
func TestKeeperStartsWithoutRedis(t *testing.T) {
	f := newFleet(t, 2)
	f.pass(2 * time.Hour)
	f.redis.do("FLUSHALL")
	late := f.join(1)
	late.cut = true
	f.poll()
	for _, n := range f.nodes {
		require.True(t, n.reads(late.keys()[0]))
	}
	require.False(t, late.reads(f.nodes[0].keys()[0]), "the test proves nothing")
	late.cut = false
	f.poll() // the others have put their keys back already, or do it now
	f.poll()
	f.check()
	f.converged(true)
	f.pass(6 * time.Hour)
	f.converged(true)
}

// Redis loses everything at any moment, and often.
func TestKeeperFlushed(t *testing.T) {
	f := newFleet(t, 3)
	for range 60 {
		f.pass(time.Duration(rand.IntN(13)) * 5 * time.Minute)
		f.redis.do("FLUSHALL")
	}
	f.pass(2 * time.Hour)
	f.converged(true)
	require.NotZero(t, f.stats().Restored)
}

// Redis has lost the keys, and a server that does not know them makes new ones before
// the others put theirs back. All servers change to the new keys before they are used, and
// still read the old ones.
func TestKeeperTwoKeysOfAnEpoch(t *testing.T) {
	f := newFleet(t, 2)
	f.pass(30 * time.Minute)
	f.redis.do("FLUSHALL")
	stranger := f.join(1)
	require.NoError(t, stranger.keeper.Step(patient(t)))
	require.NotZero(t, stranger.keeper.Stats().Made)
	require.NotEmpty(t, f.nodes[1].keys())
	f.pass(5 * time.Minute)
	require.NotZero(t, f.nodes[0].keeper.Stats().Differed)
	f.pass(2 * time.Hour)
	f.converged(true)

	f.redis.do("FLUSHALL")
	require.NoError(t, f.join(1).keeper.Step(patient(t)))
	f.nodes[1].cut = true // and does not learn the new keys
	for range 5 {
		f.now = f.now.Add(time.Hour)
		f.poll()
		for _, n := range f.nodes {
			if n != f.nodes[3] { // this server has never seen the old keys
				require.True(t, n.reads(f.nodes[1].keys()[0]), "an old key is not accepted any more")
			}
			require.True(t, f.nodes[0].reads(n.keys()[0]))
		}
	}
	f.nodes[1].cut = false
	f.pass(time.Hour)
	f.converged(true)
}

// A server that can no longer reach Redis decrypts the tickets of the others in the epochs
// whose keys it already has, and they can always decrypt its own.
func TestKeeperCutOff(t *testing.T) {
	f := newFleet(t, 3)
	f.pass(2 * time.Hour)
	alone := f.nodes[2]
	alone.cut = true
	f.pass(sslredis.Ahead * time.Hour)
	for range 12 {
		f.now = f.now.Add(time.Hour)
		f.poll()
		for _, n := range f.nodes {
			require.True(t, n.reads(alone.keys()[0]))
			require.True(t, f.nodes[0].reads(n.keys()[0]))
		}
	}
	require.False(t, alone.reads(f.nodes[0].keys()[0]), "docs/sessions.md says that such a server loses sessions after three epochs")
	alone.cut = false
	f.poll()
	f.check()
	f.converged(true)
}

// The clocks of the servers differ by up to two minutes, in both directions and at each
// minute around the change of an epoch.
func TestKeeperClocks(t *testing.T) {
	for _, fromRedis := range []bool{true, false} {
		f := newFleet(t, 3)
		f.nodes[0].clock.off, f.nodes[1].clock.off = time.Minute, -time.Minute
		f.cut(!fromRedis)
		f.pass(3 * time.Hour)
		differed := false
		for range 100 {
			f.now = f.now.Add(7 * time.Second)
			if f.now.Minute() > 3 {
				f.now = f.now.Truncate(time.Hour).Add(57*time.Minute + time.Second)
			}
			f.poll()
			f.check()
			differed = differed || f.nodes[0].keys()[0] != f.nodes[1].keys()[0]
		}
		require.True(t, differed, "the test does not reach the change of an epoch")
	}
}

// After a wrong clock was set back, the servers agree on the current keys.
func TestKeeperClockSetBack(t *testing.T) {
	f := newFleet(t, 2)
	f.pass(2 * time.Hour)
	f.nodes[1].clock.off = 48 * time.Hour
	f.poll()
	f.nodes[1].clock.off = 0
	f.poll()
	f.check()
	f.pass(3 * time.Hour)
	f.converged(true)
}

// A secret is replaced on one server after the other, while no ticket is lost.
func TestKeeperSecretRotation(t *testing.T) {
	f := newFleet(t, 0)
	replace := func(n int, secrets ...byte) {
		f.t.Helper()
		f.nodes = slices.Delete(f.nodes, n, n+1)
		f.join(secrets...)
		f.poll()
		f.check()
	}
	for range 3 {
		f.join(1)
	}
	f.pass(2 * time.Hour)
	for range 3 {
		replace(0, 1, 2)
	}
	f.pass(2 * time.Hour)
	f.converged(true)
	for range 3 {
		replace(0, 2, 1)
		f.pass(5 * time.Minute)
	}
	f.converged(true)
	f.pass(2 * time.Hour)
	for range 3 {
		replace(0, 2)
	}
	f.pass(time.Hour)
	f.converged(true)
}

// A key from Redis is used only if it was sealed for this epoch under this secret. A fleet
// with another secret does not interfere.
func TestKeeperLies(t *testing.T) {
	f := newFleet(t, 2)
	f.poll()
	ctx, admin := patient(t), f.redis.admin()
	k := f.nodes[0].keeper
	epoch := begin.Unix() / 3600
	other, err := admin.Get(ctx, k.EpochName(epoch+2)).Result()
	require.NoError(t, err)
	for _, lie := range []string{other, "", "junk", string(bytes.Repeat([]byte{1}, 32+sslredis.SealOverhead))} {
		require.NoError(t, admin.Set(ctx, k.EpochName(epoch), lie, 0).Err())
		require.NoError(t, admin.Set(ctx, k.EpochName(epoch+1), lie, 0).Err())
		before := f.stats()
		f.poll()
		f.check()
		f.converged(false)
		require.Equal(t, before.Errors+2, f.stats().Errors)
		require.Equal(t, before.Rejected+4, f.stats().Rejected)
	}
	f.pass(12 * time.Hour)
	f.converged(true)

	stranger := f.join(9)
	f.nodes = f.nodes[:2]
	f.pass(time.Hour)
	f.converged(true)
	require.NoError(t, stranger.keeper.Step(ctx))
	require.False(t, f.nodes[0].reads(stranger.keys()[0]))
}

// A name that has something else than a key in Redis does not keep the servers from
// making and restoring the keys of other epochs.
func TestKeeperOneNameIsTaken(t *testing.T) {
	for _, lie := range []string{"a list", "junk"} {
		t.Run(lie, func(t *testing.T) {
			f := newFleet(t, 2)
			epoch := begin.Unix() / 3600
			name := f.nodes[0].keeper.EpochName(epoch + 2)
			if lie == "a list" {
				f.redis.do("RPUSH", name, "x")
			} else {
				f.redis.do("SET", name, lie)
			}
			f.poll()
			f.check()
			require.NotZero(t, f.stats().Errors)
			require.EqualValues(t, sslredis.Ahead-1, f.stats().Made)
			f.pass(time.Hour)
			f.converged(true)
			f.redis.do("DEL", f.nodes[0].keeper.EpochName(epoch+1))
			f.poll()
			require.NotZero(t, f.stats().Restored)
			f.pass(time.Hour) // the epoch whose name is taken
			f.converged(false)
			f.pass(time.Hour)
			f.converged(true)
		})
	}
}
