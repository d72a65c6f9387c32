package sslnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

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

// The sessions of a connection that ends with a fatal alert are not used again. They stay if the
// connection ends in another way.
func TestSessionsAfterAFatalAlert(t *testing.T) {
	junk := append([]byte{23, 3, 3, 0, 64}, testkit.Bytes(64, 1)...)
	for name, c := range map[string]struct {
		end  func(client, server *sslnet.Conn) error
		keep bool
	}{
		"of the client": {func(_, server *sslnet.Conn) error { return write(server.NetConn(), junk) }, false},
		"of the server": {func(client, _ *sslnet.Conn) error { return write(client.NetConn(), junk) }, false},
		"end":           {func(_, server *sslnet.Conn) error { return server.Close() }, true},
		"cut":           {func(_, server *sslnet.Conn) error { return server.NetConn().Close() }, true},
		"cut in a record": {func(_, server *sslnet.Conn) error {
			write(server.NetConn(), junk[:20])
			return server.NetConn().Close()
		}, true},
		"reset": {func(_, server *sslnet.Conn) error {
			server.NetConn().(*net.TCPConn).SetLinger(0)
			return server.NetConn().Close()
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				ctx, servers := testkit.Ctx(t, testkit.Server()), make(chan *sslnet.Conn, 1)
				addr := testkit.Serve(t, testkit.Listen(t), func(below net.Conn) {
					conn := sslnet.Server(below, ctx)
					defer conn.Close()
					servers <- conn
					io.Copy(conn, conn)
				})
				cache := sslsession.NewCache(10)
				d := &sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.UpTo(highest))), Sessions: cache}
				conn, err := d.Dial("tcp", addr)
				require.NoError(t, err)
				defer conn.Close()
				testkit.Exchange(t, conn, "hello")
				before := cache.Len()
				require.NotZero(t, before)
				c.end(conn.(*sslnet.Conn), <-servers)
				_, err = io.Copy(io.Discard, conn)
				require.Equal(t, !c.keep, errors.As(err, new(*sslfilter.Error)), "%v", err)
				want := 0
				if c.keep {
					want = before
				}
				require.Equal(t, want, cache.Len())
			})
		})
	}
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// A cache that panics leaves nothing locked.
func TestSessionsOfAPanickingCache(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		addr := echo(t, testkit.Server()).Addr().String()
		c := sslnet.Client(testkit.Dial(t, addr), testkit.Ctx(t, testkit.Client(testkit.UpTo(highest))))
		require.NoError(t, c.SetSessions(panicking{}))
		require.PanicsWithValue(t, "full", func() {
			testkit.Say(t, c, "hello")
			testkit.Hear(t, c, "hello")
		})
		testkit.Within(t, "State and Close", func() {
			c.State()
			c.Close()
		})
	})
}

// panicking is a cache whose Put panics.
type panicking struct{}

func (panicking) Get(string) *sslfilter.Session  { return nil }
func (panicking) Put(string, *sslfilter.Session) { panic("full") }

// silence accepts connections and says nothing. begun gets a value when a ClientHello arrives.
func silence(t *testing.T) (addr string, begun <-chan bool) {
	arrived := make(chan bool, 10)
	return testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			arrived <- true
			io.Copy(io.Discard, conn)
		}
	}), arrived
}

// A session is removed if a server that got it does not answer, or if the connection breaks. It
// stays if the program ends the handshake, or if the handshake fails for another reason.
func TestSessionsFailures(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		server := echo(t, testkit.Server())
		mute, begun := silence(t)
		expired := echo(t, testkit.ServerOf("server-expired")).Addr().String()
		d := &sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.UpTo(highest)))}
		for name, c := range map[string]struct {
			fail func(t *testing.T, cache *sslsession.Cache) error
			keep bool
		}{
			"handshake timeout": {func(t *testing.T, cache *sslsession.Cache) error {
				for limit := 10 * time.Millisecond; ; limit *= 2 { // a slow machine needs longer
					_, err := (&sslnet.Dialer{Ctx: d.Ctx, Sessions: cache, HandshakeTimeout: limit}).Dial("tcp", mute)
					if len(begun) > 0 {
						return err
					}
					require.Less(t, limit, testkit.Patience)
				}
			}, false},
			"deadline of the context": {func(t *testing.T, cache *sslsession.Cache) error {
				ctx := expiring{t.Context(), make(chan struct{})}
				go func() { <-begun; close(ctx.over) }()
				conn := sslnet.Client(testkit.Dial(t, mute), d.Ctx)
				defer conn.Close()
				require.NoError(t, conn.SetSessions(cache))
				return conn.HandshakeContext(ctx)
			}, false},
			"deadline of the connection": {func(t *testing.T, cache *sslsession.Cache) error {
				conn := sslnet.Client(testkit.Dial(t, mute), d.Ctx)
				defer conn.Close()
				require.NoError(t, conn.SetSessions(cache))
				go func() { <-begun; conn.SetReadDeadline(time.Now()) }()
				_, err := conn.Read(make([]byte, 1))
				return err
			}, false},
			"write error": {func(t *testing.T, cache *sslsession.Cache) error {
				conn := sslnet.Client(unwritable{testkit.Dial(t, mute)}, d.Ctx)
				defer conn.Close()
				require.NoError(t, conn.SetSessions(cache))
				return conn.Handshake()
			}, false},
			"canceled": {func(t *testing.T, cache *sslsession.Cache) error {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				conn := sslnet.Client(testkit.Dial(t, mute), d.Ctx)
				defer conn.Close()
				require.NoError(t, conn.SetSessions(cache))
				go func() { <-begun; cancel() }()
				return conn.HandshakeContext(ctx)
			}, true},
			"closed": {func(t *testing.T, cache *sslsession.Cache) error {
				conn := sslnet.Client(testkit.Dial(t, mute), d.Ctx)
				require.NoError(t, conn.SetSessions(cache))
				go func() { <-begun; conn.Close() }()
				return conn.Handshake()
			}, true},
			"another certificate": {func(t *testing.T, cache *sslsession.Cache) error {
				_, err := (&sslnet.Dialer{Ctx: d.Ctx, Sessions: cache}).Dial("tcp", expired)
				testkit.As[*sslfilter.VerifyError](t, err)
				return err
			}, true},
		} {
			t.Run(name, func(t *testing.T) {
				cache := sslsession.NewCache(10)
				d := &sslnet.Dialer{Ctx: d.Ctx, Sessions: cache}
				require.False(t, dialed(t, d, server.Addr().String()))
				before := cache.Len()
				require.NotZero(t, before)
				require.Error(t, c.fail(t, cache))
				for len(begun) > 0 {
					<-begun
				}
				want := 0
				if c.keep && highest == sslfilter.VersionTLS13 {
					want = before - 1 // the session that was offered
				} else if c.keep {
					want = before
				}
				require.Equal(t, want, cache.Len())
			})
		}
	})
}

// unwritable is a connection that fails when it is written to.
type unwritable struct{ net.Conn }

func (unwritable) Read([]byte) (int, error)  { return 0, io.EOF }
func (unwritable) Write([]byte) (int, error) { return 0, errors.New("the connection broke") }

// expiring is a context whose deadline passes when over is closed.
type expiring struct {
	context.Context
	over chan struct{}
}

func (c expiring) Done() <-chan struct{} { return c.over }

func (c expiring) Err() error {
	select {
	case <-c.over:
		return context.DeadlineExceeded
	default:
		return nil
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
	other := anyKey{sslsession.NewCache(10)}
	d := &sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.ServerName("server.test"))), Sessions: other}
	require.False(t, dialed(t, d, addr))
	c := sslnet.Client(testkit.Dial(t, addr), testkit.Ctx(t, testkit.Client()))
	require.NoError(t, c.SetSessions(other))
	require.NoError(t, c.SessionError())
	testkit.Exchange(t, c, "hello")
	require.False(t, c.State().Resumed)
	require.ErrorContains(t, c.SessionError(), "another server name")
	require.NoError(t, c.Close())
	require.ErrorIs(t, c.SessionError(), sslfilter.ErrClosed)
	a, b := joinPipe(t)
	defer a.Close()
	defer b.Close()
	testkit.As[*sslfilter.UsageError](t, sslnet.Server(a, testkit.Ctx(t, testkit.Server())).SetSessions(cache))
}

// anyKey is a cache that has one key.
type anyKey struct{ *sslsession.Cache }

func (c anyKey) Get(string) *sslfilter.Session      { return c.Cache.Get("") }
func (c anyKey) Put(_ string, s *sslfilter.Session) { c.Cache.Put("", s) }
