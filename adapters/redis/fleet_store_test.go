package sslredis_test

import (
	"cmp"
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// storing is one server of a site whose sessions are in Redis. It is the SessionStore of
// its Listener, and notes which calls have ended.
type storing struct {
	*sslredis.Store
	listener *sslnet.Listener
	skipped  atomic.Int64 // how far the clock of the store is ahead, which ends pauses
	told     atomic.Int64 // calls of the hook
	last     atomic.Pointer[sslnet.Conn]

	mu   sync.Mutex
	more sync.Cond
	over map[string]bool // the ids whose calls have ended
}

// sessionStore is the sslnet.SessionStore of a server. storing itself cannot have a method
// Store, because its embedded field has that name.
type sessionStore struct{ *storing }

func (s sessionStore) Load(ctx context.Context, id []byte) ([]byte, error) {
	defer s.end(id)
	return s.storing.Store.Load(ctx, id)
}

func (s sessionStore) Store(ctx context.Context, id, data []byte, expires time.Time) error {
	defer s.end(id)
	return s.storing.Store.Store(ctx, id, data, expires)
}

func (s sessionStore) Delete(ctx context.Context, id []byte) error {
	return s.storing.Store.Delete(ctx, id)
}

func (n *storing) end(id []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over[string(id)] = true
	n.more.Broadcast()
}

// await waits until the sessions of a connection have been stored, or could not be.
func (n *storing) await(ids [][]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range ids {
		for !n.over[string(id)] {
			n.more.Wait()
		}
	}
}

// serveStored starts server i of the site, whose Listener keeps its sessions in Redis.
func (s *site) serveStored(i int, ctx *sslfilter.Ctx, o sslredis.Options) (addr string) {
	n := &storing{over: make(map[string]bool)}
	n.more.L = &n.mu
	o.SetClock(func() time.Time { return time.Now().Add(time.Duration(n.skipped.Load())) })
	n.Store = newStore(s.t, o).Scope("site")
	n.listener = &sslnet.Listener{
		Listener: testkit.Listen(s.t), Ctx: ctx, Sessions: sessionStore{n}, SessionTimeout: s.patience,
		SessionError: func(net.Conn, error) { n.told.Add(1) },
	}
	s.stores = append(s.stores, n)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := n.listener.Accept()
			if err != nil {
				return
			}
			c := conn.(*sslnet.Conn)
			wait.Go(func() {
				defer c.Close()
				n.await(c.SessionIDs())
				n.last.Store(c)
				greet(c, i)
				io.Copy(io.Discard, c)
			})
		}
	})
	s.t.Cleanup(func() {
		n.listener.Close()
		wait.Wait()
	})
	return n.listener.Addr().String()
}

// failures returns what the Listeners have counted, and what their hooks were told.
func (s *site) failures() (counted, told int64) {
	for _, n := range s.stores {
		counted += n.listener.SessionStats().Failed
		told += n.told.Load()
	}
	return counted, told
}

// again ends the pauses of the stores and waits until all of them use Redis.
func (s *site) again() {
	s.t.Helper()
	for _, n := range s.stores {
		testkit.Eventually(s.t, func() bool { // go-redis looks once a second whether it can connect again
			n.skipped.Add(int64(sslredis.MaxPause))
			_, err := n.Load(patient(s.t), id)
			return err == nil && n.Delete(patient(s.t), id) == nil
		}, "Redis is not used again")
	}
}

// returning is a client of this library that remembers its session. It also resumes
// stored sessions of TLS 1.2, which crypto/tls does not.
type returning struct {
	addr    string
	dialer  sslnet.Dialer
	verdict string // that the servers must have in each visit
}

func (s *site) returning(ctx *sslfilter.Ctx, verdict string) *returning {
	return &returning{s.addrs[0], sslnet.Dialer{Ctx: ctx, HandshakeTimeout: testkit.Patience, Sessions: sslsession.NewCache(1)}, verdict}
}

func (v *returning) visit() (node string, resumed bool, err error) {
	conn, err := v.dialer.Dial("tcp", v.addr)
	if err != nil {
		return "", false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	node, err = hear(conn, v.verdict) // the ticket comes before it
	return node, conn.(*sslnet.Conn).State().Resumed, err
}

// eachStored runs a test for both versions, without and with client certificates. options
// are those of a server, and visitor makes a client.
func eachStored(t *testing.T, run func(t *testing.T, options sslfilter.Options, visitor func(*site) func() visiting)) {
	stateful := func(o *sslfilter.Options) { o.StatefulSessions = true }
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for name, c := range map[string]struct {
			server, client sslfilter.Options
			verdict        string
		}{
			"no certificate": {testkit.Server(stateful), testkit.Client(testkit.UpTo(highest)), nobody},
			"certificate": {
				testkit.Requiring(stateful, func(o *sslfilter.Options) { o.ResumeClientCert = true }),
				testkit.Showing("client.crt", "", testkit.UpTo(highest)), shown(t, "client.crt", "client.key").verdict,
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				client := testkit.Ctx(t, c.client)
				run(t, c.server, func(s *site) func() visiting { return func() visiting { return s.returning(client, c.verdict) } })
			})
		}
	})
}

// Servers that keep their sessions in Redis resume each other's sessions. If Redis does not
// work, clients are served with full handshakes, and the failures are reported and counted.
func TestFleetStore(t *testing.T) {
	const n = 6
	type outcome int
	const (
		all  outcome = iota // at least 99 % of the second visits resume
		none                // no second visit resumes
	)
	nothing := func(*site) {}
	type failures int
	const (
		no    failures = iota
		yes            // and they are reported
		maybe          // depends on the version, or on the connections that go-redis has open
	)
	type step struct {
		event func(*site) // between the visits
		want  outcome
		fails failures
	}
	healthy, recovered := step{nothing, all, no}, step{nothing, all, no}
	for _, c := range []struct {
		name     string
		patience time.Duration // 0: no call of the store takes too long
		way      func(*site, *sslredis.ClientOptions)
		steps    []step
	}{
		{name: "healthy", steps: []step{healthy, {func(s *site) { s.pass(time.Hour) }, all, no}}},
		{name: "killed and restarted", steps: []step{healthy, {func(s *site) { s.redis.kill() }, none, yes}, {nothing, none, yes}, {
			func(s *site) { s.redis.start(); s.again() }, none, yes,
		}, recovered}},
		{name: "restarted between visits", steps: []step{healthy, {func(s *site) { s.redis.kill(); s.redis.start() }, none, maybe}, {func(s *site) { s.again() }, all, maybe}, recovered}},
		{name: "emptied", steps: []step{healthy, {func(s *site) { s.redis.do("FLUSHALL") }, none, no}, recovered}},
		{name: "slow", way: slow, steps: []step{healthy}},
		{name: "too slow", patience: 20 * time.Millisecond, way: slow, steps: []step{{nothing, none, yes}}},
		{name: "read-only", steps: []step{
			healthy, {func(s *site) { s.redis.do("REPLICAOF", "127.0.0.1", "1") }, all, maybe}, {nothing, none, yes},
			{func(s *site) { s.redis.do("REPLICAOF", "NO", "ONE"); s.again() }, none, yes}, recovered,
		}},
		{name: "wrong password", way: wrongPassword, steps: []step{{nothing, none, yes}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachStored(t, func(t *testing.T, options sslfilter.Options, visitor func(*site) func() visiting) {
				s := newSite(t, func(s *site, o *sslredis.ClientOptions) {
					s.patience = cmp.Or(c.patience, testkit.Patience)
					if c.way != nil {
						c.way(s, o)
					}
				}, options)
				s.step()
				for i, step := range c.steps {
					counted, told := s.failures()
					require.Equal(t, counted, told)
					part := s.visits(n, func() { step.event(s) }, visitor(s))
					if step.want == all {
						require.GreaterOrEqual(t, part, 0.99, "step %d", i)
					} else {
						require.Zero(t, part, "step %d", i)
					}
					after, told := s.failures()
					require.Equal(t, after, told)
					switch step.fails {
					case yes:
						require.Greater(t, after, counted, "step %d: no failure was told", i)
					case no:
						require.Equal(t, counted, after, "step %d: a failure was told", i)
					}
				}
			})
		})
	}
}

// slow makes each request to Redis take 200 ms.
func slow(s *site, o *sslredis.ClientOptions) {
	o.Addrs = []string{delay(s.t, s.redis.addr(), 200*time.Millisecond)}
}

// Delete on one server ends the sessions of a client on all of them.
func TestFleetStoreDelete(t *testing.T) {
	eachStored(t, func(t *testing.T, options sslfilter.Options, visitor func(*site) func() visiting) {
		s := newSite(t, func(s *site, _ *sslredis.ClientOptions) { s.patience = testkit.Patience }, options)
		s.step()
		v, other := visitor(s)(), visitor(s)()
		var ids [][]byte
		visit := func(v visiting) bool {
			node, resumed, err := v.visit()
			require.NoError(t, err)
			i, err := strconv.Atoi(node)
			require.NoError(t, err)
			ids = append(ids, s.stores[i].last.Load().SessionIDs()...)
			return resumed
		}
		require.False(t, visit(other))
		ids = nil
		require.False(t, visit(v))
		require.True(t, visit(v))
		require.True(t, visit(v))
		for _, id := range ids {
			require.NoError(t, s.stores[1].Delete(patient(t), id))
		}
		for i := range s.stores {
			_, resumed, err := v.visit()
			require.NoError(t, err)
			require.Equal(t, i > 0, resumed)
		}
		require.True(t, visit(other), "the session of another client has ended too")
	})
}
