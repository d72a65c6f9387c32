package live_test

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// returns makes the peer connect twice to our server. between runs after the first
// handshake, before the data.
func (p *peer) returns(t *testing.T, l *sslnet.Listener, c call, between func()) [2]report {
	t.Helper()
	below, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var reports [2]report
	var failed error // of a handshake
	var mu sync.Mutex
	l.Listener, l.HandshakeError = below, func(_ net.Conn, err error) {
		mu.Lock()
		failed = errors.Join(failed, err)
		mu.Unlock()
	}
	c.addr, c.visits, c.send, c.want = below.Addr().String(), len(reports), payload(), payload()
	var served sync.WaitGroup
	served.Go(func() {
		for i := range reports {
			conn, err := l.Accept()
			if err != nil {
				reports[i].err = err
				return
			}
			if i == 0 {
				between()
			}
			reports[i] = talk(conn.(*sslnet.Conn), p, c.send, c.want, true)
			conn.Close()
		}
	})
	result := p.client(t, c)
	l.Close() // no more connections
	served.Wait()
	mu.Lock()
	defer mu.Unlock()
	require.NoError(t, failed, result.text)
	for i, r := range reports {
		require.NoError(t, r.err, "connection %d: %s", i, result.text)
		require.Equal(t, string(c.send), string(r.got))
		require.Equal(t, c.version.String(), r.version)
	}
	require.True(t, result.done, result.text)
	require.False(t, reports[0].state.Resumed)
	require.Equal(t, reports[0].alpn, reports[1].alpn)
	if result.resumed != "" {
		require.Equal(t, yesNo(reports[1].state.Resumed), result.resumed, result.text)
	}
	return reports
}

// The session is in a ticket. Another context with the same keys resumes it.
func itReturnsWithTicket(t *testing.T, p *peer, version sslfilter.Version) string {
	keys, err := sslfilter.NewTicketKeys()
	require.NoError(t, err)
	o := both(func(o *sslfilter.Options) { o.TicketKeys = keys })
	l, next := &sslnet.Listener{Ctx: testkit.Ctx(t, o)}, testkit.Ctx(t, o)
	r := p.returns(t, l, rootCall(version), func() { l.SetCtx(next) })
	require.True(t, r[1].state.Resumed)
	return "yes"
}

func stateful(o *sslfilter.Options) { o.StatefulSessions = true }

// storing returns a listener of our server that has a store, which it uses only with
// StatefulSessions.
func storing(t *testing.T, o sslfilter.Options) *sslnet.Listener {
	return &sslnet.Listener{
		Ctx:            testkit.Ctx(t, o),
		Sessions:       sslsession.NewStore(100),
		SessionTimeout: peers.Patience, // since the machine may be busy
		SessionError:   func(_ net.Conn, err error) { t.Error(err) },
	}
}

// awaitStored waits until the session of a connection is in the store, which happens after
// Accept has returned the connection.
func awaitStored(l *sslnet.Listener) {
	for end := time.Now().Add(peers.Patience); l.Ctx.StoresSessions() && l.SessionStats().Stored == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// The session is in a store, and the ticket is its id.
func itReturnsToStore(t *testing.T, p *peer, version sslfilter.Version) string {
	l := storing(t, both(stateful))
	r := p.returns(t, l, rootCall(version), func() { awaitStored(l) })
	require.True(t, r[1].state.Resumed)
	require.EqualValues(t, 1, l.SessionStats().Found)
	return "yes"
}

// The certificate of the client is verified again when the session is resumed, and the
// verdict is that of the full handshake. If it has been revoked in the meantime, there is another
// full handshake, and the verdict says so.
func itReturnsWithCert(t *testing.T, p *peer, version sslfilter.Version) string {
	id := identities[1]
	list := testkit.TempFile(t, "crl.pem", testkit.CRL(t, 0x7777))
	changes, cell := []testkit.Change{func(o *sslfilter.Options) { o.ClientCert, o.ResumeClientCert, o.CACRL = true, true, list }}, "yes"
	if p.lack("client", byTicket, version) != "" {
		changes, cell = append(changes, stateful), "yes, with a stored session"
	}
	c := rootCall(version).showing(id)
	l := storing(t, both(changes...))
	r := p.returns(t, l, c, func() { awaitStored(l) })
	requireVerdict(t, id, r[0])
	requireVerdict(t, id, r[1])
	require.True(t, r[1].state.Resumed)
	require.Equal(t, r[0].peer, r[1].peer)
	require.Equal(t, r[0].ids, r[1].ids)

	l = storing(t, both(changes...))
	r = p.returns(t, l, c, func() {
		awaitStored(l)
		if err := os.WriteFile(list, testkit.CRL(t, 0x2001), 0o600); err != nil {
			t.Error(err)
		}
	})
	id.listed = true
	requireVerdict(t, id, r[1])
	require.False(t, r[1].state.Resumed)
	return cell
}

// weReturn connects our client twice to the peer's server, with a cache of sessions.
func weReturn(t *testing.T, p *peer, o sslfilter.Options, c call) (outcome, [2]report) {
	t.Helper()
	ours := payload()
	if p.quirks.asked != nil {
		ours = p.quirks.asked(ours)
	}
	c.send, c.want = payload(), ours
	if p.quirks.answers != nil {
		c.send = p.quirks.answers(ours)
	}
	var reports [2]report
	c.visits = len(reports)
	s := p.server(t, c)
	ctx, cache := testkit.Ctx(t, o), sslsession.NewCache(4)
	for i := range reports {
		conn, err := net.DialTimeout("tcp", s.addr, peers.Patience)
		require.NoError(t, err)
		us := sslnet.Client(conn, ctx)
		require.NoError(t, us.SetSessions(cache))
		r := talk(us, p, c.send, ours, false)
		us.Close()
		require.NoError(t, r.err, "connection %d", i)
		require.Equal(t, string(c.send), string(r.got))
		require.Equal(t, c.version.String(), r.version)
		requireEnd(t, p.quirks.serverCuts, r)
		reports[i] = r
	}
	result := s.end()
	require.True(t, result.done, result.text)
	require.False(t, reports[0].state.Resumed)
	require.Equal(t, reports[0].alpn, reports[1].alpn)
	if result.resumed != "" {
		require.Equal(t, yesNo(reports[1].state.Resumed), result.resumed, result.text)
	}
	return result, reports
}

// Our client resumes a session of the peer's server, and verifies its certificate again.
func weComeBack(t *testing.T, p *peer, version sslfilter.Version) string {
	_, r := weReturn(t, p, our(), serverCall(version))
	require.True(t, r[1].state.Resumed)
	require.True(t, r[1].peer.Valid)
	require.Equal(t, r[0].peer, r[1].peer)
	require.Equal(t, "/C=DE/O=Oracle Test/CN=localhost", r[1].peer.Chain[0].Subject)
	return "yes"
}

// The same with a server that requires our certificate.
func weComeBackWithCert(t *testing.T, p *peer, version sslfilter.Version) string {
	c := serverCall(version)
	c.ask = true
	result, r := weReturn(t, p, our(func(o *sslfilter.Options) {
		o.Crt, o.Key = testkit.PKI("client.crt"), testkit.PKI("client.key")
	}), c)
	require.True(t, r[1].state.Resumed)
	require.True(t, r[1].peer.Valid)
	require.Equal(t, r[0].peer, r[1].peer)
	require.Contains(t, result.cert, "client valid")
	return "yes"
}
