package sslredis_test

import (
	"context"
	"io"
	"log"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// docs:begin
// listen returns a listener whose clients can resume their sessions on every server that
// has the same secret, certificate and Redis. Close the Keeper after the last connection.
func listen(ctx context.Context, addr, redisAddr, secretFile string, o sslfilter.Options) (*sslnet.Listener, *sslredis.Keeper, error) {
	client, err := sslredis.NewClient(sslredis.ClientOptions{Addrs: []string{redisAddr}})
	if err != nil {
		return nil, nil, err
	}
	secret, err := sslredis.ReadSecret(secretFile)
	if err != nil {
		return nil, nil, err
	}
	shared := sslredis.Options{Client: client, Secret: secret, OnError: func(err error) { log.Print(err) }}
	keeper, err := sslredis.NewKeeper(shared)
	if err != nil {
		return nil, nil, err
	}
	if o.TicketKeys, err = keeper.TicketKeys("web"); err != nil { // "web" is the same on all servers
		return nil, nil, err
	}
	if err := keeper.Start(ctx); err != nil {
		return nil, nil, err
	}
	serverCtx, err := sslfilter.NewCtx(o)
	if err != nil {
		return nil, nil, err
	}
	below, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	listener := &sslnet.Listener{Listener: below, Ctx: serverCtx}
	if o.StatefulSessions { // the sessions themselves are in Redis too
		store, err := sslredis.NewStore(shared)
		if err != nil {
			return nil, nil, err
		}
		listener.Sessions = store.Scope("web")
	}
	return listener, keeper, nil
}

// docs:end

// echo serves the clients of a listener.
func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}

// visit sends and receives 5 bytes on a new connection, and reports whether it has resumed a
// session.
func visit(t testing.TB, dialer *sslnet.Dialer, addr string) bool {
	t.Helper()
	conn, err := dialer.DialContext(patient(t), "tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "hello")
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 5))
	require.NoError(t, err)
	return conn.(*sslnet.Conn).State().Resumed
}

// The code of the document makes two servers whose clients resume their sessions on both.
func TestExampleOfDocument(t *testing.T) {
	s := start(t)
	secretFile := file(t, "secret")
	require.NoError(t, os.WriteFile(secretFile, []byte("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"), 0o600))
	for _, stateful := range []bool{false, true} {
		var nodes []string
		var stored func() int64
		for range 2 {
			o := testkit.Server()
			o.StatefulSessions = stateful
			l, keeper, err := listen(patient(t), "127.0.0.1:0", s.addr(), secretFile, o)
			require.NoError(t, err)
			t.Cleanup(func() { l.Close(); keeper.Close() })
			go echo(l)
			if nodes = append(nodes, l.Addr().String()); len(nodes) == 1 {
				stored = func() int64 { return l.SessionStats().Stored }
			}
		}
		dialer := &sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client()), Sessions: sslsession.NewCache(8)}
		require.False(t, visit(t, dialer, nodes[0]))
		if stateful {
			testkit.Eventually(t, func() bool { return stored() > 0 }, "no session was stored")
		}
		require.True(t, visit(t, dialer, nodes[1]), "stateful: %v", stateful)
	}
}
