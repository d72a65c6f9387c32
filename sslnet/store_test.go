package sslnet_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// badStore changes what a store does.
type badStore struct {
	*sslsession.Store
	load  func(ctx context.Context, id, data []byte) ([]byte, error)
	store func(ctx context.Context) error
}

func (s badStore) Load(ctx context.Context, id []byte) ([]byte, error) {
	data, err := s.Store.Load(ctx, id)
	if s.load != nil {
		return s.load(ctx, id, data)
	}
	return data, err
}

func (s badStore) save(ctx context.Context) error {
	if s.store != nil {
		return s.store(ctx)
	}
	return nil
}

// storeOf makes a badStore an sslnet.SessionStore. badStore itself cannot have a method Store,
// because its embedded field has that name.
type storeOf struct{ badStore }

func (s storeOf) Store(ctx context.Context, id, data []byte, expires time.Time) error {
	if err := s.save(ctx); err != nil {
		return err
	}
	return s.badStore.Store.Store(ctx, id, data, expires)
}

func (s storeOf) Delete(ctx context.Context, id []byte) error {
	return s.badStore.Store.Delete(ctx, id)
}

// A Listener with a store resumes sessions, and a store that fails in any way causes full
// handshakes and no other harm.
func TestSessionStore(t *testing.T) {
	memory := sslsession.NewStore(0)
	good := badStore{Store: memory}
	gone := errors.New("the store is gone")
	stuck := make(chan struct{})
	defer close(stuck)
	for name, c := range map[string]struct {
		store   badStore
		resumes bool
		fails   bool
	}{
		"good":     {store: good, resumes: true},
		"no loads": {store: badStore{Store: memory, load: func(context.Context, []byte, []byte) ([]byte, error) { return nil, gone }}, fails: true},
		"slow": {store: badStore{Store: memory, load: func(ctx context.Context, _, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}, fails: true},
		"stuck": {store: badStore{Store: memory, load: func(context.Context, []byte, []byte) ([]byte, error) {
			<-stuck
			return nil, nil
		}}, fails: true},
		"panics":   {store: badStore{Store: memory, load: func(context.Context, []byte, []byte) ([]byte, error) { panic("no") }}, fails: true},
		"empty":    {store: badStore{Store: memory, load: func(context.Context, []byte, []byte) ([]byte, error) { return nil, nil }}},
		"lying":    {store: badStore{Store: memory, load: func(context.Context, []byte, []byte) ([]byte, error) { return testkit.Bytes(400, 1), nil }}},
		"too long": {store: badStore{Store: memory, load: func(context.Context, []byte, []byte) ([]byte, error) { return make([]byte, 1<<20), nil }}, fails: true},
		"full":     {store: badStore{Store: memory, store: func(context.Context) error { return gone }}, fails: true},
		"read-only, slow": {store: badStore{Store: memory, store: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				keys, err := sslfilter.NewTicketKeys()
				require.NoError(t, err)
				server := testkit.Requiring(func(o *sslfilter.Options) { o.StatefulSessions, o.ResumeClientCert, o.TicketKeys = true, true, keys })
				var mu sync.Mutex
				failures := 0
				l := &sslnet.Listener{Listener: testkit.Listen(t), Ctx: testkit.Ctx(t, server), Sessions: storeOf{c.store}, SessionError: func(below net.Conn, err error) {
					mu.Lock()
					defer mu.Unlock()
					failures++
				}}
				if name == "slow" || name == "stuck" || name == "read-only, slow" {
					l.SessionTimeout = 20 * time.Millisecond
				}
				conns := make(chan *sslnet.Conn, 10)
				go func() {
					for {
						conn, err := l.Accept()
						if err != nil {
							close(conns)
							return
						}
						go io.Copy(conn, conn)
						conns <- conn.(*sslnet.Conn)
					}
				}()
				t.Cleanup(func() { l.Close() })
				d := sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Showing("client.crt", "", testkit.UpTo(highest))), Sessions: sslsession.NewCache(10)}
				visit := func() *sslnet.Conn {
					conn, err := d.Dial("tcp", l.Addr().String())
					require.NoError(t, err)
					t.Cleanup(func() { conn.Close() })
					testkit.Exchange(t, conn, "ping")
					return <-conns
				}
				first := visit()
				require.False(t, first.State().Resumed)
				require.True(t, first.Peer().Valid)
				require.NotEmpty(t, first.SessionIDs())
				if !c.fails {
					testkit.Eventually(t, func() bool { return l.SessionStats().Stored >= int64(len(first.SessionIDs())) }, "sessions are stored")
				}
				second := visit()
				require.Equal(t, c.resumes, second.State().Resumed)
				require.True(t, second.Peer().Valid)
				_, chosen := second.ChosenName()
				require.False(t, chosen)
				if !c.fails {
					require.Zero(t, l.SessionStats().Failed)
				} else {
					testkit.Eventually(t, func() bool {
						mu.Lock()
						defer mu.Unlock()
						return failures > 0 && l.SessionStats().Failed > 0
					}, "the failure is reported")
				}
				if c.resumes {
					require.NotZero(t, l.SessionStats().Found)
					for _, conn := range []*sslnet.Conn{first, second} {
						testkit.Eventually(t, func() bool { return l.SessionStats().Stored > 0 }, "stored")
						for _, id := range conn.SessionIDs() {
							require.NoError(t, l.Sessions.Delete(t.Context(), id))
						}
					}
				}
			})
		})
	}
}

// After Delete of all ids of a client it has to make a full handshake. A reload with the same keys
// and store loses nothing.
func TestSessionStoreDelete(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		keys, err := sslfilter.NewTicketKeys()
		require.NoError(t, err)
		stateful := func(o *sslfilter.Options) { o.StatefulSessions, o.TicketKeys, o.NumTickets = true, keys, 1 }
		store := sslsession.NewStore(0)
		l := &sslnet.Listener{Listener: testkit.Listen(t), Ctx: testkit.Ctx(t, testkit.Server(stateful)), Sessions: store}
		t.Cleanup(func() { l.Close() })
		conns := make(chan *sslnet.Conn, 10)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go io.Copy(conn, conn)
				conns <- conn.(*sslnet.Conn)
			}
		}()
		d := sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.UpTo(highest))), Sessions: sslsession.NewCache(10)}
		var ids [][]byte
		visit := func() bool {
			before := l.SessionStats().Stored
			conn, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			testkit.Exchange(t, conn, "ping")
			server := <-conns
			ids = append(ids, server.SessionIDs()...)
			resumed := server.State().Resumed
			if !resumed || highest == sslfilter.VersionTLS13 {
				testkit.Eventually(t, func() bool { return l.SessionStats().Stored > before }, "stored")
			}
			return resumed
		}
		require.False(t, visit())
		require.True(t, visit())
		l.SetCtx(testkit.Ctx(t, testkit.Server(stateful)))
		require.True(t, visit())
		for _, id := range ids {
			require.NoError(t, store.Delete(t.Context(), id))
		}
		require.Zero(t, store.Len())
		require.False(t, visit())
		require.True(t, visit())
	})
}

// A ClientHello of TLS 1.3 can name several sessions. Only the first that the store has is loaded
// and offered.
func TestSessionStoreLoadsOne(t *testing.T) {
	vector := func(n int, parts ...[]byte) []byte {
		b := slices.Concat(parts...)
		return append(binary.BigEndian.AppendUint64(nil, uint64(len(b)))[8-n:], b...)
	}
	ids := [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{3}, 32)}
	var identities, binders [][]byte
	for _, id := range ids {
		identities, binders = append(identities, vector(2, id), make([]byte, 4)), append(binders, vector(1, make([]byte, 32)))
	}
	extensions := vector(2, []byte{0, 43}, vector(2, vector(1, []byte{3, 4})), []byte{0, 41}, vector(2, vector(2, identities...), vector(2, binders...)))
	body := slices.Concat([]byte{3, 3}, make([]byte, 32), []byte{0}, vector(2, []byte{0x13, 2}), []byte{1, 0}, extensions)
	hello := slices.Concat([]byte{22, 3, 1}, vector(2, []byte{1}, vector(3, body)))

	ctx := testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.StatefulSessions = true }))
	for name, c := range map[string]struct {
		data, want [][]byte // what the store has of each id, and the ids that are asked for
		found      int64
	}{
		"both":          {[][]byte{[]byte("a"), []byte("b"), nil}, ids[:1], 1},
		"not the first": {[][]byte{nil, []byte("b"), []byte("c")}, ids[:2], 1},
		"too long":      {[][]byte{make([]byte, 1<<20), nil, []byte("c")}, ids, 2},
		"none":          {make([][]byte, 3), ids, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var asked [][]byte
			store := badStore{Store: sslsession.NewStore(0), load: func(_ context.Context, id, _ []byte) ([]byte, error) {
				asked = append(asked, id)
				return c.data[len(asked)-1], nil
			}}
			sessions := &sslnet.ServerSessions{Store: storeOf{store}}
			below, client := joinPipe(t)
			defer client.Close()
			go func() {
				client.Write(hello)
				io.Copy(io.Discard, client)
			}()
			conn := sslnet.Server(below, ctx)
			defer conn.Close()
			require.NoError(t, conn.SetServerSessions(sessions))
			require.Error(t, conn.Handshake(), "the ClientHello lacks extensions")
			require.Equal(t, c.want, asked)
			require.Equal(t, c.found, sessions.Stats().Found)
			require.Nil(t, conn.SessionIDs())
		})
	}
}

// A server without a Listener resumes stored sessions too, even if its ChooseFunc chooses
// the store together with the context.
func TestServerSessions(t *testing.T) {
	for name, chooses := range map[string]bool{"before the handshake": false, "by the ChooseFunc": true} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				ctx := testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.StatefulSessions = true }))
				failing := badStore{Store: sslsession.NewStore(0)}
				failing.load = func(ctx context.Context, id, data []byte) ([]byte, error) {
					if data == nil {
						return nil, errors.New("not there")
					}
					return data, nil
				}
				told, given := make(chan error, 10), make(chan [][]byte, 10)
				sessions := &sslnet.ServerSessions{Store: storeOf{failing}, Error: func(_ net.Conn, err error) { told <- err }}
				addr := testkit.Serve(t, testkit.Listen(t), func(below net.Conn) {
					conn := sslnet.Server(below, ctx)
					defer conn.Close()
					if chooses {
						conn.SetChoose(func(context.Context, net.Conn, *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
							return ctx, conn.SetServerSessions(sessions)
						})
					} else {
						conn.SetServerSessions(sessions)
					}
					if conn.Handshake() == nil {
						given <- conn.SessionIDs()
					}
					io.Copy(conn, conn)
				})
				d := sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.UpTo(highest))), Sessions: sslsession.NewCache(10)}
				var ids [][]byte
				visit := func() bool {
					conn, err := d.Dial("tcp", addr)
					require.NoError(t, err)
					defer conn.Close()
					testkit.Exchange(t, conn, "ping")
					ids = append(ids, <-given...)
					return conn.(*sslnet.Conn).State().Resumed
				}
				require.False(t, visit())
				testkit.Eventually(t, func() bool { return sessions.Stats().Stored == int64(len(ids)) }, "stored")
				require.True(t, visit())
				require.NotZero(t, sessions.Stats().Found)
				require.Zero(t, sessions.Stats().Failed)
				for _, id := range ids {
					require.NoError(t, sessions.Store.Delete(t.Context(), id))
				}
				require.False(t, visit())
				require.ErrorContains(t, <-told, "not there")
			})
		})
	}
	client := sslnet.Client(nil, nil)
	require.ErrorAs(t, client.SetServerSessions(&sslnet.ServerSessions{}), new(*sslfilter.UsageError))
	require.ErrorContains(t, sslnet.Server(nil, nil).SetServerSessions(&sslnet.ServerSessions{}), "Store is nil")
	below, other := net.Pipe()
	defer other.Close()
	begun := sslnet.Server(below, testkit.Ctx(t, testkit.Server()))
	go other.Write([]byte{22, 3, 1})
	require.Error(t, func() error { begun.SetDeadline(soon()); return begun.Handshake() }())
	require.ErrorContains(t, begun.SetServerSessions(nil), "has begun")
	require.NoError(t, begun.Close())
}

// A store that takes long to store a session does not keep other clients waiting for a handshake.
func TestSessionStoreHoldsNoSlot(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(release) }) }
	defer free()
	store := badStore{Store: sslsession.NewStore(0), store: func(ctx context.Context) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}}
	l := &sslnet.Listener{
		Listener: testkit.Listen(t), Ctx: testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.StatefulSessions = true })),
		Sessions: storeOf{store}, SessionTimeout: 4 * testkit.Patience, MaxHandshakes: 1,
	}
	testkit.Serve(t, l, testkit.Echo)
	for range 3 {
		conn, err := (&sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client())}).Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testkit.Patience))
		testkit.Exchange(t, conn, "ping")
	}
	require.Zero(t, l.SessionStats().Stored)
	free()
	testkit.Eventually(t, func() bool { return l.SessionStats().Stored >= 3 }, "stored")
}

// deadlined is a connection that calls a function when a deadline is set.
type deadlined struct {
	net.Conn
	deadline func()
}

func (w *deadlined) SetDeadline(t time.Time) error {
	w.deadline()
	return w.Conn.SetDeadline(t)
}

func (w *deadlined) SetReadDeadline(t time.Time) error {
	w.deadline()
	return w.Conn.SetReadDeadline(t)
}

// A goroutine that finds the handshake done also finds the ids of the sessions, even if the
// goroutine that does the handshake has not returned from it.
func TestServerSessionsAtOnce(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		store := sslsession.NewStore(0)
		ctx := testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.StatefulSessions = true }))
		found := make(chan [][]byte, 1)
		addr := testkit.Serve(t, testkit.Listen(t), func(below net.Conn) {
			w := &deadlined{Conn: below}
			conn := sslnet.Server(w, ctx)
			defer conn.Close()
			w.deadline = func() { // also called at the end of HandshakeContext
				if len(found) == 0 && conn.ConnectionState().HandshakeComplete {
					found <- conn.SessionIDs()
				}
			}
			conn.SetServerSessions(&sslnet.ServerSessions{Store: store})
			conn.SetDeadline(time.Now().Add(testkit.Patience))
			if conn.Handshake() == nil {
				io.Copy(conn, conn)
			}
		})
		conn, err := (&sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.UpTo(highest)))}).Dial("tcp", addr)
		require.NoError(t, err)
		defer conn.Close()
		testkit.Exchange(t, conn, "ping")
		ids := <-found
		require.NotEmpty(t, ids)
		testkit.Eventually(t, func() bool { return store.Len() == len(ids) }, "the sessions are stored")
	})
}
