package sslredis_test

import (
	"bufio"
	"crypto/sha256"
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
	addrs  []string // of haproxy, for each of the options
	clocks []*clock
	keeper []*sslredis.Keeper

	stores   []*storing    // with Options.StatefulSessions
	patience time.Duration // of their Listeners
}

// newSite starts the servers, each with all options. change changes the way to Redis.
func newSite(t *testing.T, change func(*site, *sslredis.ClientOptions), options ...sslfilter.Options) *site {
	s := &site{t: t, redis: start(t)}
	backends := make([]strings.Builder, len(options))
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
		s.clocks, s.keeper = append(s.clocks, own), append(s.keeper, keeper)
		for j, options := range options {
			options.TicketKeys, err = keeper.TicketKeys(scope(j))
			require.NoError(t, err)
			ctx := testkit.Ctx(t, options)
			var addr string
			if options.StatefulSessions {
				addr = s.serveStored(i, ctx, o)
			} else {
				addr = testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
					c := sslnet.Server(conn, ctx)
					defer c.Close()
					greet(c, i)
					io.Copy(io.Discard, c)
				})
			}
			fmt.Fprintf(&backends[j], "\tserver s%d %s\n", i, addr)
		}
	}
	config := "defaults\n\tmode tcp\n\ttimeout connect 30s\n\ttimeout client 30s\n\ttimeout server 30s\n"
	var ports []string
	for j := range options {
		port := peers.FreePort(t)
		config += fmt.Sprintf("listen l%d\n\tbind 127.0.0.1:%s\n\tbalance roundrobin\n%s", j, port, &backends[j])
		ports, s.addrs = append(ports, port), append(s.addrs, "127.0.0.1:"+port)
	}
	file := file(t, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	haproxy := peers.StartForeign(t, nil, peers.FindDaemon(t, "haproxy", "haproxy"), "-db", "-f", file)
	for _, port := range ports {
		haproxy.AwaitPort(port)
	}
	return s
}

// scope is that of the options with an index.
func scope(i int) string { return []string{"site", "certificates"}[i] }

// greet tells a client which server it has met, and what the server knows about the
// certificate of the client.
func greet(c *sslnet.Conn, i int) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c, "%d %s\n", i, verdict(c.Peer()))
	return err
}

// nobody is the verdict on a client without a certificate.
const nobody = "none"

// verdict describes a client with its whole chain.
func verdict(p *sslfilter.Peer) string {
	if !p.Exists {
		return nobody
	}
	text := fmt.Sprintf("valid=%t proved=%t", p.Valid, p.KeyProved)
	for _, cert := range p.Chain {
		text += fmt.Sprintf(" %x", sha256.Sum256(cert.DER))
	}
	return fmt.Sprintf("%s %v", text, p.Errors)
}

// hear reads what greet has sent. The verdict must be want.
func hear(r io.Reader, want string) (node string, err error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return "", err
	}
	node, got, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	if got != want {
		return "", fmt.Errorf("the verdict is %q, want %q", got, want)
	}
	return node, nil
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
	addr    string
	config  *tls.Config
	verdict string // that the servers must have in each visit
}

func (s *site) visitor(version uint16) *visitor {
	return &visitor{s.addrs[0], testkit.GoClient(s.t, func(c *tls.Config) {
		c.MinVersion, c.MaxVersion, c.ClientSessionCache = version, version, tls.NewLRUClientSessionCache(1)
	}), nobody}
}

// shows sends a visitor with the certificate of a client, or without one, to an address.
func (v *visitor) shows(addr string, c showing) *visitor {
	v.addr, v.verdict = addr, c.verdict
	if c.cert.Certificate != nil {
		v.config.Certificates = []tls.Certificate{c.cert}
	}
	return v
}

// showing is the certificate of a client, and the verdict on it.
type showing struct {
	cert    tls.Certificate
	verdict string
}

// shown returns a certificate of the test PKI. The verdict is that of OpenSSL in a full
// handshake without any sessions.
func shown(t *testing.T, crt, key string) showing {
	t.Helper()
	cert := testkit.KeyPair(t, crt, key)
	f := testkit.Filter(t, testkit.Asking(func(o *sslfilter.Options) { o.NumTickets = -1 }))
	require.NoError(t, testkit.TalkToGo(t, f, false, testkit.GoClient(t, func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} })).Err)
	return showing{cert, verdict(f.Peer())}
}

// visit returns the server, and whether the session was resumed.
func (v *visitor) visit() (node string, resumed bool, err error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: testkit.Patience}, "tcp", v.addr, v.config)
	if err != nil {
		return "", false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	node, err = hear(conn, v.verdict) // the ticket comes before it
	return node, conn.ConnectionState().DidResume, err
}

// visits lets visitors come twice, and between the visits something happens. It returns
// the part of the second visits that resumed. Each visitor meets two servers.
func (s *site) visits(n int, between func(), visitor func() visiting) float64 {
	s.t.Helper()
	return s.visitsOf(between, group{n: n, visitor: visitor})[0]
}

// group has n visitors of one kind.
type group struct {
	name    string
	n       int
	visitor func() visiting
}

// visitsOf is visits for several groups, whose visitors all come before something happens
// and again after it.
func (s *site) visitsOf(between func(), groups ...group) (parts []float64) {
	s.t.Helper()
	var all [][]*visitorAt
	for _, g := range groups {
		var own []*visitorAt
		for range g.n + 1 - g.n%3 { // so that the second round begins with another server
			v := &visitorAt{visiting: g.visitor()}
			node, resumed, err := v.visit()
			require.NoError(s.t, err, g.name)
			require.False(s.t, resumed, g.name)
			v.node = node
			own = append(own, v)
		}
		all = append(all, own)
	}
	between()
	for i, own := range all {
		resumed, other := 0, 0
		for _, v := range own {
			node, again, err := v.visit()
			require.NoError(s.t, err, "%s: a visitor was refused, or the verdict is another one", groups[i].name)
			if again {
				resumed++
			}
			if node != v.node {
				other++
			}
		}
		require.Greater(s.t, other, len(own)/3, "%s: the visitors came back to the same servers", groups[i].name)
		parts = append(parts, float64(resumed)/float64(len(own)))
	}
	return parts
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
// server, and new visitors are served and can come back. A server that asks for certificates
// has the same verdict in both visits, and never resumes a session whose client is not valid.
func TestFleetTickets(t *testing.T) {
	const n, withCert, notResumed = 100, 24, ", no valid certificate"
	valid := []showing{shown(t, "client.crt", "client.key"), shown(t, "client-inter-chain.pem", "client-inter.key"), shown(t, "client-ec.crt", "client-ec.key")}
	notValid := []showing{shown(t, "client-expired.crt", "client-expired.key"), {verdict: nobody}}
	for _, c := range valid {
		require.Contains(t, c.verdict, "valid=true proved=true")
	}
	require.Contains(t, notValid[0].verdict, "valid=false proved=true")
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
			s := newSite(t, c.way, testkit.Server(), testkit.Asking(func(o *sslfilter.Options) { o.ResumeClientCert = true }))
			s.step()
			for i, event := range c.events {
				var groups []group
				for name, version := range versions {
					// with returns visitors with these certificates, one after the other.
					with := func(next int, clients []showing) func() visiting {
						return func() visiting {
							next++
							return s.visitor(version).shows(s.addrs[1], clients[next%len(clients)])
						}
					}
					groups = append(groups,
						group{name, n / len(c.events), func() visiting { return s.visitor(version) }},
						group{name + ", certificate", withCert / len(c.events), with(i, valid)},
						group{name + notResumed, 1, with(i, notValid)})
				}
				for j, part := range s.visitsOf(func() { event(s) }, groups...) {
					if name := groups[j].name; strings.HasSuffix(name, notResumed) {
						require.Zero(t, part, "%s, event %d", name, i)
					} else {
						require.GreaterOrEqual(t, part, 0.99, "%s, event %d", name, i)
					}
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

// A server that requires a certificate resumes the sessions of another one, and refuses a
// client without a certificate.
func TestFleetClientCertificates(t *testing.T) {
	s := newSite(t, nil, testkit.Requiring(func(o *sslfilter.Options) { o.ResumeClientCert = true }))
	s.step()
	own := shown(t, "client.crt", "client.key")
	for name, version := range versions {
		require.GreaterOrEqual(t, s.visits(4, func() { s.pass(time.Hour) }, func() visiting { return s.visitor(version).shows(s.addrs[0], own) }), 0.99, name)
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
		greet(c, 3)
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
