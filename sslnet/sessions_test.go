package sslnet_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// dialed makes a connection, exchanges data and closes it. It reports whether the session
// was resumed.
func dialed(t testing.TB, d *sslnet.Dialer, addr string) bool {
	t.Helper()
	conn, err := d.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	testkit.Exchange(t, conn, "hello")
	c := conn.(*sslnet.Conn)
	require.True(t, c.ClientCertValid())
	require.NotEmpty(t, c.ConnectionState().VerifiedChains)
	require.Equal(t, c.State().Resumed, c.ConnectionState().DidResume)
	return c.State().Resumed
}

// A Dialer with a cache resumes sessions. Dialers share a cache, but no sessions if their
// contexts differ. A Dialer without a cache does full handshakes.
func TestSessionsOfADialer(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		addr := echo(t, testkit.Server()).Addr().String()
		cache := sslsession.NewCache(10)
		d := &sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.UpTo(highest))), Sessions: cache}
		require.False(t, dialed(t, d, addr))
		for range 3 {
			require.True(t, dialed(t, d, addr))
		}
		same := &sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.UpTo(highest))), Sessions: cache}
		require.True(t, dialed(t, same, addr))
		for name, o := range map[string]sslfilter.Options{
			"another name":         testkit.Client(testkit.UpTo(highest), testkit.ServerName("server.test")),
			"a client certificate": testkit.Showing("client.crt", "", testkit.UpTo(highest)),
			"other protocols":      testkit.Client(testkit.UpTo(highest), func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }),
		} {
			require.False(t, dialed(t, &sslnet.Dialer{Ctx: testkit.Ctx(t, o), Sessions: cache}, addr), name)
		}
		none := &sslnet.Dialer{Ctx: d.Ctx}
		require.False(t, dialed(t, none, addr))
		require.False(t, dialed(t, none, addr))
	})
}

// A handshake that fails removes the sessions of its key, since one of them may be the
// reason.
func TestSessionsAfterAFailure(t *testing.T) {
	addr := echo(t, testkit.Server()).Addr().String()
	for name, last := range map[string][]byte{"alert": {21, 3, 3, 0, 2, 2, 40} /* handshake_failure */, "end of the network": nil} {
		t.Run(name, func(t *testing.T) {
			cache := sslsession.NewCache(10)
			d := &sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.TLS12)), Sessions: cache}
			require.False(t, dialed(t, d, addr))
			require.Equal(t, 1, cache.Len())

			refusing := testkit.Listen(t)
			go func() {
				conn, err := refusing.Accept()
				if err == nil {
					io.ReadFull(conn, make([]byte, 100))
					conn.Write(last)
					conn.Close()
				}
			}()
			_, err := d.Dial("tcp", refusing.Addr().String())
			require.Error(t, err)
			require.Zero(t, cache.Len())
			require.False(t, dialed(t, d, addr))
			require.True(t, dialed(t, d, addr))
		})
	}
}

// SetSessions is for a client whose handshake has not begun.
func TestSessionsOfAConn(t *testing.T) {
	cache := sslsession.NewCache(10)
	addr := echo(t, testkit.Server()).Addr().String()
	for _, resumed := range []bool{false, true} {
		c := sslnet.Client(testkit.Dial(t, addr), testkit.Ctx(t, testkit.Client()))
		require.NoError(t, c.SetSessions(cache))
		testkit.Exchange(t, c, "hello")
		require.Equal(t, resumed, c.State().Resumed)
		testkit.As[*sslfilter.UsageError](t, c.SetSessions(cache))
		require.NoError(t, c.Close())
	}
	a, b := joinPipe(t)
	defer a.Close()
	defer b.Close()
	testkit.As[*sslfilter.UsageError](t, sslnet.Server(a, testkit.Ctx(t, testkit.Server())).SetSessions(cache))
}
