package sslredis_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// site is a fleet of three TLS servers whose clients come through haproxy.
type site struct {
	t      *testing.T
	redis  *server
	addr   string // of haproxy
	clocks []*clock
	keeper []*sslredis.Keeper

	stores   []*storing    // with Options.StatefulSessions
	patience time.Duration // of their Listeners
}

// newSite starts the servers. change changes the way to Redis.
func newSite(t *testing.T, change func(*site, *sslredis.ClientOptions), options sslfilter.Options) *site {
	s := &site{t: t, redis: start(t)}
	var backends strings.Builder
	for i := range 3 {
		way := sslredis.ClientOptions{Addrs: []string{s.redis.addr()}}
		if change != nil {
			change(s, &way)
		}
		own := &clock{now: begin.Add(30 * time.Minute)}
		o := sslredis.Options{Client: clientOf(t, way), Secret: secret(t, 1)}
		o.SetClock(own.Now)
		keeper, err := sslredis.NewKeeper(o)
		require.NoError(t, err)
		t.Cleanup(func() { keeper.Close() })
		options.TicketKeys, err = keeper.TicketKeys("site")
		require.NoError(t, err)
		s.clocks, s.keeper = append(s.clocks, own), append(s.keeper, keeper)
		ctx := testkit.Ctx(t, options)
		var addr string
		if options.StatefulSessions {
			addr = s.serveStored(i, ctx, o)
		} else {
			addr = testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
				c := sslnet.Server(conn, ctx)
				defer c.Close()
				fmt.Fprintf(c, "%d", i)
				io.Copy(io.Discard, c)
			})
		}
		fmt.Fprintf(&backends, "\tserver s%d %s\n", i, addr)
	}
	port, file := peers.FreePort(t), file(t, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `defaults
	mode tcp
	timeout connect 30s
	timeout client 30s
	timeout server 30s
frontend f
	bind 127.0.0.1:%s
	default_backend b
backend b
	balance roundrobin
%s`, port, &backends), 0o600))
	peers.StartForeign(t, nil, peers.FindDaemon(t, "haproxy", "haproxy"), "-db", "-f", file).AwaitPort(port)
	s.addr = "127.0.0.1:" + port
	return s
}

// step lets every server ask Redis.
func (s *site) step() {
	var wait sync.WaitGroup
	for _, k := range s.keeper {
		wait.Go(func() { k.Step(s.t.Context()) })
	}
	wait.Wait()
}

// pass lets time pass on all servers.
func (s *site) pass(d time.Duration) {
	for _, c := range s.clocks {
		c.set(c.now.Add(d))
	}
	s.step()
}

// visitor is a client that remembers its session.
type visitor struct {
	t      *testing.T
	addr   string
	config *tls.Config
}

func (s *site) visitor(version uint16, certs ...tls.Certificate) *visitor {
	return &visitor{s.t, s.addr, testkit.GoClient(s.t, func(c *tls.Config) {
		c.MinVersion, c.MaxVersion, c.Certificates, c.ClientSessionCache = version, version, certs, tls.NewLRUClientSessionCache(1)
	})}
}

// visit returns the server, and whether the session was resumed.
func (v *visitor) visit() (node string, resumed bool, err error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: testkit.Patience}, "tcp", v.addr, v.config)
	if err != nil {
		return "", false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	got := make([]byte, 1) // the ticket comes before it
	_, err = io.ReadFull(conn, got)
	return string(got), conn.ConnectionState().DidResume, err
}

// visits lets visitors come twice, and between the visits something happens. It returns
// the part of the second visits that resumed. Each visitor meets two servers.
func (s *site) visits(n int, between func(), visitor func() visiting) float64 {
	s.t.Helper()
	n += 1 - n%3 // so that the second round begins with another server
	var all []*visitorAt
	for range n {
		v := &visitorAt{visiting: visitor()}
		node, resumed, err := v.visit()
		require.NoError(s.t, err)
		require.False(s.t, resumed)
		v.node = node
		all = append(all, v)
	}
	between()
	resumed, other := 0, 0
	for _, v := range all {
		node, again, err := v.visit()
		require.NoError(s.t, err, "a visitor was refused")
		if again {
			resumed++
		}
		if node != v.node {
			other++
		}
	}
	require.Greater(s.t, other, n/3, "the visitors came back to the same servers")
	return float64(resumed) / float64(n)
}

type visitorAt struct {
	visiting
	node string
}

// visiting is a client of any kind.
type visiting interface {
	visit() (node string, resumed bool, err error)
}

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// After each fault of Redis, visitors resume the sessions that they have from another
// server, and new visitors are served and can come back.
func TestFleetTickets(t *testing.T) {
	const n = 100
	pass := func(d time.Duration) func(*site) { return func(s *site) { s.pass(d) } }
	for _, c := range []struct {
		name   string
		way    func(*site, *sslredis.ClientOptions)
		events []func(*site)
	}{
		{name: "healthy", events: []func(*site){pass(0), pass(time.Hour), pass(time.Hour)}},
		{name: "killed and restarted", events: []func(*site){
			func(s *site) { s.redis.kill(); s.step() }, pass(2 * time.Hour), pass(2 * time.Hour), pass(2 * time.Hour),
			func(s *site) { s.redis.start(); s.step() }, pass(time.Hour), pass(time.Hour),
		}},
		{name: "emptied", events: []func(*site){pass(time.Hour), func(s *site) { s.redis.do("FLUSHALL"); s.step() }, pass(time.Hour)}},
		{name: "slow", way: func(s *site, o *sslredis.ClientOptions) {
			o.Addrs = []string{delay(s.t, s.redis.addr(), 200*time.Millisecond)}
		}, events: []func(*site){pass(0), pass(time.Hour)}},
		{name: "read-only", events: []func(*site){
			pass(time.Hour), func(s *site) { s.redis.do("REPLICAOF", "127.0.0.1", "1"); s.step() }, pass(2 * time.Hour), pass(2 * time.Hour), pass(2 * time.Hour),
		}},
		{name: "wrong password", way: wrongPassword, events: []func(*site){pass(0), pass(time.Hour)}},
		{name: "clocks off by a minute", events: []func(*site){
			func(s *site) { s.clocks[0].off, s.clocks[1].off = time.Minute, -time.Minute; s.step() },
			pass(29*time.Minute + 30*time.Second), pass(time.Minute), pass(59 * time.Minute), pass(time.Minute),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, c.way, testkit.Server())
			s.step()
			for i, event := range c.events {
				first := true
				for name, version := range versions {
					between := func() {
						if first {
							event(s)
						}
						first = false
					}
					part := s.visits(n/len(c.events), between, func() visiting { return s.visitor(version) })
					require.GreaterOrEqual(t, part, 0.99, "%s, event %d", name, i)
				}
			}
		})
	}
}

// wrongPassword makes Redis want a password that the servers do not have. A Redis without
// one would accept any.
func wrongPassword(s *site, o *sslredis.ClientOptions) {
	if len(s.keeper) == 0 {
		s.redis.do("CONFIG", "SET", "requirepass", "right")
	}
	o.Password = "wrong"
}

// Clients with a certificate resume their sessions on another server, which verifies the
// certificate again. A client without one is refused there too.
func TestFleetClientCertificates(t *testing.T) {
	s := newSite(t, nil, testkit.Requiring(func(o *sslfilter.Options) { o.ResumeClientCert = true }))
	s.step()
	own := testkit.KeyPair(t, "client.crt", "client.key")
	for name, version := range versions {
		for _, event := range []func(){func() {}, func() { s.pass(time.Hour) }, func() { s.redis.do("FLUSHALL"); s.pass(time.Hour) }} {
			require.GreaterOrEqual(t, s.visits(20, event, func() visiting { return s.visitor(version, own) }), 0.99, name)
		}
		_, _, err := s.visitor(version).visit()
		require.Error(t, err)
	}
}

// Keys change while clients visit all the time.
func TestFleetRotationUnderLoad(t *testing.T) {
	s := newSite(t, nil, testkit.Server())
	s.step()
	var visits, resumed [4]int
	stop := make(chan struct{})
	failed := make(chan error, len(visits))
	for i := range visits {
		v := s.visitor(versions[[]string{"TLS 1.2", "TLS 1.3"}[i%2]])
		go func() {
			var err error
			for first := true; err == nil; first = false {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				var again bool
				if _, again, err = v.visit(); !first && err == nil {
					visits[i]++
					if again {
						resumed[i]++
					}
				}
			}
			failed <- err
		}()
	}
	for range 30 { // each server has its own moment
		for _, i := range []int{0, 1, 2} {
			s.clocks[i].set(s.clocks[i].now.Add(20 * time.Minute))
			s.keeper[i].Step(t.Context())
			time.Sleep(5 * time.Millisecond) // some visits in between
		}
	}
	close(stop)
	for range visits {
		require.NoError(t, <-failed)
	}
	for i := range visits {
		require.Greater(t, visits[i], 10)
		require.GreaterOrEqual(t, float64(resumed[i]), 0.99*float64(visits[i]), "%d of %d visits", resumed[i], visits[i])
	}
	require.Greater(t, s.keeper[0].Stats().Changes, int64(9))
	require.True(t, s.keeper[0].Stats().FromRedis)
}

// Without a common secret the servers do not resume each other's sessions: the tests
// above would notice it.
func TestFleetOfStrangers(t *testing.T) {
	s := newSite(t, nil, testkit.Server())
	for i, k := range s.keeper {
		keys := k.Keys("site")
		for j, other := range s.keeper {
			require.Equal(t, keys, other.Keys("site"), "%d %d", i, j)
		}
	}
	o := sslredis.Options{Client: client(t, s.redis.addr()), Secret: secret(t, 2)}
	k, err := sslredis.NewKeeper(o)
	require.NoError(t, err)
	keys, err := k.TicketKeys("site")
	require.NoError(t, err)
	ctx := testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.TicketKeys = keys }))
	stranger := testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
		c := sslnet.Server(conn, ctx)
		defer c.Close()
		fmt.Fprint(c, "x")
		io.Copy(io.Discard, c)
	})
	for _, version := range versions {
		v := s.visitor(version)
		_, _, err := v.visit()
		require.NoError(t, err)
		v.addr = stranger
		_, resumed, err := v.visit()
		require.NoError(t, err)
		require.False(t, resumed)
	}
}
