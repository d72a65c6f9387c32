package sslfilter_test

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// requireWorks does a handshake and exchanges data in both directions.
func requireWorks(t testing.TB, client, server *sslfilter.Filter) {
	t.Helper()
	p := testkit.Join(server, client)
	require.NoError(t, p.Handshake())
	require.NoError(t, p.Client.Send([]byte("ping")))
	p.Transfer()
	require.Equal(t, "ping", string(p.Server.Got))
	require.NoError(t, p.Server.Send([]byte("pong")))
	p.Transfer()
	require.Equal(t, "pong", string(p.Client.Got))
}

// nothingLives begins a test that counts C objects.
func nothingLives(t testing.TB) int64 {
	t.Helper()
	require.Zero(t, leaked())
	return 0
}

// Close of a Ctx does not affect its filters.
func TestCtxCloseLeavesFiltersAlone(t *testing.T) {
	before := nothingLives(t)
	server, err := sslfilter.NewCtx(testkit.Server())
	require.NoError(t, err)
	client, err := sslfilter.NewCtx(testkit.Client())
	require.NoError(t, err)
	fresh := func(ctx *sslfilter.Ctx) *sslfilter.Filter {
		f, err := ctx.NewFilter()
		require.NoError(t, err)
		return f
	}
	open := testkit.Join(fresh(server), fresh(client))
	require.NoError(t, open.Handshake())
	begun := testkit.Join(fresh(server), fresh(client))
	require.NoError(t, begun.Client.Handshake())
	idle := testkit.Join(fresh(server), fresh(client))
	ciphers := server.Ciphers()

	for range 2 {
		require.NoError(t, server.Close())
		require.NoError(t, client.Close())
	}
	_, err = server.NewFilter()
	require.ErrorIs(t, err, sslfilter.ErrClosed)
	require.Equal(t, ciphers, server.Ciphers())

	require.NoError(t, open.Client.Send([]byte("goes on")))
	open.Transfer()
	require.Equal(t, "goes on", string(open.Server.Got))
	requireWorks(t, begun.Client.Filter, begun.Server.Filter)
	requireWorks(t, idle.Client.Filter, idle.Server.Filter)

	c, err := open.Client.Clone() // of a filter whose Ctx is closed
	require.NoError(t, err)
	s, err := open.Server.Clone()
	require.NoError(t, err)
	for _, p := range []*testkit.Pair{open, begun, idle} {
		p.Close()
	}
	requireWorks(t, c, s) // the last filters of the contexts
	again, err := s.Clone()
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, s.Close())
	require.NoError(t, again.Close())
	_, err = again.Clone()
	require.ErrorIs(t, err, sslfilter.ErrClosed)
	require.Equal(t, before, sslfilter.LiveHandles(), "the last one frees the SSL_CTX")
}

// New makes a context for one connection, which is freed with it.
func TestCtxOfNew(t *testing.T) {
	before := nothingLives(t)
	server, err := sslfilter.New(testkit.Server())
	require.NoError(t, err)
	require.Equal(t, before+2, sslfilter.LiveHandles(), "an SSL_CTX and an SSL")
	client, err := sslfilter.New(testkit.Client())
	require.NoError(t, err)
	requireWorks(t, client, server)
	clone, err := server.Clone()
	require.NoError(t, err)
	require.NoError(t, server.Close())
	second, err := client.Clone()
	require.NoError(t, err)
	require.NoError(t, client.Close())
	requireWorks(t, second, clone)
	require.NoError(t, second.Close())
	require.NoError(t, clone.Close())
	require.Equal(t, before, sslfilter.LiveHandles())
}

// A clone is a new connection. It has the options of the first one, and nothing else.
func TestCtxCloneIsANewConnection(t *testing.T) {
	client := testkit.Filter(t, testkit.Client(testkit.ServerName("example.org")))
	require.NoError(t, client.SetServerName("localhost"))
	p := testkit.Join(testkit.Filter(t, testkit.Server()), client)
	require.NoError(t, p.Handshake())
	require.NoError(t, p.Client.Send([]byte("not the clone's")))

	clone, err := client.Clone()
	require.NoError(t, err)
	defer clone.Close()
	require.False(t, clone.HandshakeDone())
	require.False(t, clone.ClientCertExists())
	require.Empty(t, clone.Outgoing(nil))
	require.NoError(t, clone.Err())
	refused := testkit.Join(testkit.Filter(t, testkit.Server()), clone)
	require.Error(t, refused.Handshake(), "the clone has the name of the options, not that of SetServerName")

	failed, err := clone.Clone() // of a filter that failed
	require.NoError(t, err)
	defer failed.Close()
	require.NoError(t, failed.Err())
	require.NoError(t, failed.SetServerName("localhost"))
	requireWorks(t, failed, testkit.Filter(t, testkit.Server()))
}

// While a Ctx is closed, NewFilter in other goroutines succeeds or returns ErrClosed.
func TestCtxConcurrentNewFilterAndClose(t *testing.T) {
	const goroutines, rounds = 8, 20
	nothingLives(t)
	client := testkit.Ctx(t, testkit.Client())
	before := sslfilter.LiveHandles()
	for range rounds {
		server, err := sslfilter.NewCtx(testkit.ServerOf("server-ec"))
		require.NoError(t, err)
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range goroutines {
			all.Go(func() {
				<-begin
				if i%4 == 3 {
					server.Close()
					return
				}
				s, err := server.NewFilter()
				if errors.Is(err, sslfilter.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				c, err := client.NewFilter()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if err := testkit.Join(s, c).Handshake(); err != nil {
					t.Error(err)
				}
				if clone, err := s.Clone(); err != nil {
					t.Error("Clone of a living filter: ", err)
				} else {
					clone.Close()
				}
			})
		}
		close(begin)
		all.Wait()
	}
	require.Equal(t, before, sslfilter.LiveHandles())
}

// Without Close, the garbage collector frees filters in every state, and their context.
func TestCtxGarbageIsFreed(t *testing.T) {
	before := nothingLives(t)
	forgotten := forget(t)
	require.GreaterOrEqual(t, sslfilter.LiveHandles(), before+42)
	runtime.KeepAlive(forgotten)
	require.Zero(t, leaked())
}

// forget makes filters in several states, and does not close them.
func forget(t testing.TB) (list []*testkit.Pair) {
	server, err := sslfilter.NewCtx(testkit.Asking(crl(testkit.PKI("crl.pem"))))
	require.NoError(t, err)
	client, err := sslfilter.NewCtx(testkit.Showing("client.crt", ""))
	require.NoError(t, err)
	for i := range 20 {
		s, err := server.NewFilter()
		require.NoError(t, err)
		c, err := client.NewFilter()
		require.NoError(t, err)
		p := testkit.Join(s, c)
		list = append(list, p)
		switch i % 4 {
		case 0: // idle
		case 1:
			require.NoError(t, c.Handshake())
		case 2:
			require.NoError(t, p.Handshake())
			require.True(t, s.ClientCertValid())
			require.NoError(t, s.Send(make([]byte, 100000))) // never fetched
		case 3:
			s.Receive(nil, []byte("GET / HTTP/1.0\r\n\r\n"))
		}
	}
	return list
}

// A Filter keeps its context alive, even if nothing else refers to it.
func TestCtxLivesWithItsFilters(t *testing.T) {
	fresh := func(o sslfilter.Options) *sslfilter.Filter {
		ctx, err := sslfilter.NewCtx(o)
		require.NoError(t, err)
		f, err := ctx.NewFilter()
		require.NoError(t, err)
		return f
	}
	client, server := fresh(testkit.Client()), fresh(testkit.Server())
	for range 5 {
		runtime.GC()
	}
	requireWorks(t, client, server)
	clone, err := server.Clone()
	require.NoError(t, err)
	defer clone.Close()
	require.NoError(t, client.Close())
	require.NoError(t, server.Close())
	runtime.GC()
	requireWorks(t, testkit.Filter(t, testkit.Client()), clone)
}

// Changes to the slices in Options after NewCtx have no effect.
func TestCtxIsImmutable(t *testing.T) {
	ignore := []sslfilter.VerifyCode{10}
	key, root := testkit.PKIBytes(t, "server.key"), testkit.PKIBytes(t, "root.crt")
	protos := []string{"h2"}
	ctx := testkit.Ctx(t, testkit.Asking(func(o *sslfilter.Options) {
		o.IgnoreVerifyErrors, o.KeyMem, o.CACrtMem, o.ALPN = ignore, key, [][]byte{root}, protos
	}))

	ignore[0], protos[0] = 20, "imap"
	require.Equal(t, []string{"h2"}, ctx.ALPN())
	clear(key)
	clear(root)
	p := testkit.Join(testkit.FilterOf(t, ctx), testkit.Filter(t, testkit.Showing("client-expired.crt", "", func(o *sslfilter.Options) { o.ALPN = []string{"h2"} })))
	require.NoError(t, p.Handshake())
	require.True(t, p.Server.ClientCertValid())
	require.Equal(t, "h2", p.Server.ALPN())
}

func TestCtxClientAndServerName(t *testing.T) {
	for name, c := range map[string]struct {
		options sslfilter.Options
		client  bool
		name    string
	}{
		"server":         {testkit.Server(), false, ""},
		"server, SNI":    {testkit.Server(func(o *sslfilter.Options) { o.SNI = "a.test" }), false, ""},
		"client":         {sslfilter.Options{Client: true, InsecureSkipVerify: true}, true, ""},
		"client, SNI":    {sslfilter.Options{Client: true, CACrt: testkit.PKI("root.crt"), SNI: "a.test"}, true, "a.test"},
		"client, both":   {sslfilter.Options{Client: true, CACrt: testkit.PKI("root.crt"), SNI: "a.test", ServerName: "b.test"}, true, "b.test"},
		"client, verify": {testkit.Client(), true, "localhost"},
	} {
		ctx := testkit.Ctx(t, c.options)
		require.Equal(t, c.client, ctx.Client(), name)
		require.Equal(t, c.name, ctx.ServerName(), name)
	}
}

func TestCtxServesManyConnections(t *testing.T) {
	server, client := testkit.Ctx(t, testkit.ServerOf("server-ec")), testkit.Ctx(t, testkit.Client())
	failures := make(chan error, 8)
	for range cap(failures) {
		go func() { failures <- talk(client, server) }()
	}
	for range cap(failures) {
		require.NoError(t, <-failures)
	}

	living, err := server.NewFilter()
	require.NoError(t, err)
	defer living.Close()
	require.NoError(t, server.Close())
	require.NoError(t, server.Close())
	_, err = server.NewFilter()
	require.ErrorIs(t, err, sslfilter.ErrClosed)

	cloned, err := living.Clone() // shares the SSL_CTX of the closed Ctx
	require.NoError(t, err)
	for _, s := range []*sslfilter.Filter{living, cloned} {
		c, err := client.NewFilter()
		require.NoError(t, err)
		p := testkit.Join(s, c)
		require.NoError(t, p.Handshake())
		p.Close()
	}
	require.NoError(t, client.Close())
	_, err = living.Clone()
	require.ErrorIs(t, err, sslfilter.ErrClosed)
}

// talk makes 20 connections, one after another.
func talk(client, server *sslfilter.Ctx) error {
	for range 20 {
		c, err := client.NewFilter()
		if err != nil {
			return err
		}
		s, err := server.NewFilter()
		if err != nil {
			return err
		}
		p := testkit.Join(s, c)
		if err := p.Handshake(); err != nil {
			return err
		}
		p.Client.Send([]byte("ping"))
		p.Transfer()
		if !bytes.Equal(p.Server.Got, []byte("ping")) {
			return p.Server.Err
		}
		p.Close()
	}
	return nil
}
