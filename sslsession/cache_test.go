package sslsession_test

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

var _ sslnet.SessionCache = (*sslsession.Cache)(nil)

// session returns a session of a version.
func session(t testing.TB, v sslfilter.Version) *sslfilter.Session {
	t.Helper()
	p := testkit.Connect(t, testkit.Server(), testkit.Client(testkit.UpTo(v)))
	require.NoError(t, p.Server.Send([]byte("tickets")))
	p.Transfer()
	list := p.Client.Sessions()
	require.NotEmpty(t, list)
	return list[0]
}

// A bound of any size works, even if the bytes for it exceed an int.
func TestCacheOfAnySize(t *testing.T) {
	for n, kept := range map[int]int{math.MaxInt: 1, math.MaxInt / 3: 1, 1 << 30: 1, 1: 1, 0: 0, -1: 0, math.MinInt: 0, math.MinInt / 3: 0} {
		c := sslsession.NewCache(n)
		c.Put("a", session(t, sslfilter.VersionTLS12))
		require.Equal(t, kept, c.Len(), "%d", n)
	}
}

// A session of TLS 1.3 is returned once, the newest first, and at most four are kept. A
// session of TLS 1.2 is returned until it is replaced.
func TestCacheVersions(t *testing.T) {
	c := sslsession.NewCache(100)
	require.Nil(t, c.Get("a"))
	var put []*sslfilter.Session
	for range 5 {
		put = append(put, session(t, sslfilter.VersionTLS13))
		c.Put("a", put[len(put)-1])
	}
	require.Equal(t, 4, c.Len())
	require.Nil(t, c.Get("b"))
	for i := 4; i > 0; i-- {
		require.Same(t, put[i], c.Get("a"))
	}
	require.Nil(t, c.Get("a"))
	require.Zero(t, c.Len())

	older, newer := session(t, sslfilter.VersionTLS12), session(t, sslfilter.VersionTLS12)
	c.Put("a", put[0])
	c.Put("a", older)
	require.Equal(t, 1, c.Len())
	for range 3 {
		require.Same(t, older, c.Get("a"))
	}
	c.Put("a", newer)
	require.Same(t, newer, c.Get("a"))
	require.Equal(t, 1, c.Len())

	c.Put("a", nil)
	c.Put("b", nil)
	require.Nil(t, c.Get("a"))
	require.Zero(t, c.Len())
}

// The cache is bounded by the number of sessions and by their bytes. The sessions of the least
// recently used key are removed first.
func TestCacheBounds(t *testing.T) {
	s := session(t, sslfilter.VersionTLS12)
	c := sslsession.NewCache(3)
	for _, key := range []string{"a", "b", "c"} {
		c.Put(key, s)
	}
	require.NotNil(t, c.Get("a"))
	c.Put("d", s)
	require.Equal(t, 3, c.Len())
	require.Nil(t, c.Get("b"))
	for _, key := range []string{"a", "c", "d"} {
		require.NotNil(t, c.Get(key), key)
	}

	long := testkit.PKIBytes(t, "server.crt")
	for range 8 {
		long = append(long, testkit.PKIBytes(t, "server.crt")...)
	}
	p := testkit.Connect(t, sslfilter.Options{ChainMem: long, Key: testkit.PKI("server.key")}, testkit.Client(testkit.TLS12))
	big := p.Client.Sessions()[0]
	require.Greater(t, big.Size(), 8<<10)
	c = sslsession.NewCache(3)
	for i := range 100 {
		c.Put(fmt.Sprint("big", i), big)
		require.LessOrEqual(t, c.Len()*big.Size(), 3*8<<10)
	}
	require.NotZero(t, c.Len())
	one := sslsession.NewCache(1)
	one.Put("a", big)
	require.Zero(t, one.Len(), "it is larger than the cache")

	for _, n := range []int{0, -1} {
		none := sslsession.NewCache(n)
		none.Put("a", s)
		none.Put("a", new(sslfilter.Session))
		require.Nil(t, none.Get("a"))
	}
}

// A session that is empty, and thus has expired, is not kept.
func TestCacheExpired(t *testing.T) {
	c := sslsession.NewCache(3)
	c.Put("a", new(sslfilter.Session))
	require.Zero(t, c.Len())
	require.Nil(t, c.Get("a"))
}

// Goroutines use a cache at the same time. No session of TLS 1.3 is returned twice.
func TestCacheConcurrent(t *testing.T) {
	const n = 8
	var list []*sslfilter.Session
	for range n {
		list = append(list, session(t, sslfilter.VersionTLS13))
	}
	c := sslsession.NewCache(1000)
	var mu sync.Mutex
	seen := make(map[*sslfilter.Session]int)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for j := range 100 {
				key := fmt.Sprint("key", (i+j)%3)
				if j == 50 {
					c.Put(key, list[i])
				}
				if s := c.Get(key); s != nil {
					mu.Lock()
					seen[s]++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	for _, times := range seen {
		require.Equal(t, 1, times)
	}
	require.Equal(t, n, len(seen)+c.Len())
}

// The memory of a cache of 100,000 sessions, each of another server.
func BenchmarkCacheMemory(b *testing.B) {
	for _, c := range []struct {
		name   string
		client sslfilter.Options
		server sslfilter.Options
	}{
		{"TLS 1.2", testkit.Client(testkit.UpTo(sslfilter.VersionTLS12)), testkit.Server()},
		{"TLS 1.3", testkit.Client(), testkit.Server()},
		{"TLS 1.3, client certificate", testkit.Showing("client.crt", "client.key"), testkit.Requiring(func(o *sslfilter.Options) { o.ResumeClientCert = true })},
	} {
		b.Run(c.name, func(b *testing.B) {
			size := 100_000
			if testing.Short() {
				size = 1000
			}
			p := testkit.Connect(b, c.server, c.client)
			require.NoError(b, p.Server.Send([]byte("tickets")))
			p.Transfer()
			list := p.Client.Sessions()
			require.NotEmpty(b, list)
			der, err := list[0].MarshalBinary()
			require.NoError(b, err)
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				cache := sslsession.NewCache(size)
				for i := range size {
					s := new(sslfilter.Session)
					require.NoError(b, s.UnmarshalBinary(der))
					cache.Put(fmt.Sprintf("%064d", i), s)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				require.Equal(b, size, cache.Len())
				b.ReportMetric(float64(len(der)), "B/session")
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(size), "heap-B/entry")
				runtime.KeepAlive(cache)
			}
		})
	}
}
