package sslnet_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// withName returns the context of a server whose certificate has this DNS name.
func withName(t testing.TB, name string, changes ...testkit.Change) *sslfilter.Ctx {
	o := sslfilter.Options{CrtMem: testkit.Mint(t, x509.Certificate{DNSNames: []string{name}}), Key: testkit.PKI("client.key")}
	return testkit.Ctx(t, testkit.With(o, changes...))
}

// chooser makes a Listener over TCP without a Ctx.
func chooser(t testing.TB, choose sslnet.ChooseFunc, change func(*sslnet.Listener)) *sslnet.Listener {
	return listener(t, func(l *sslnet.Listener) {
		l.Ctx, l.Choose = nil, choose
		if change != nil {
			change(l)
		}
	})
}

// named dials l and verifies the name.
func named(t testing.TB, l net.Listener, name string) (*sslnet.Conn, error) {
	d := sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(testkit.ServerName(name)))}
	conn, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*sslnet.Conn), nil
}

// Each name gets its own certificate and its own policy. The function gets the underlying
// connection. A client without a context gets an alert.
func TestChooseByName(t *testing.T) {
	names, err := sslfilter.NewNameMap(nil, withName(t, "a.example", testkit.TLS12), withName(t, "*.b.example", testkit.TLS13))
	require.NoError(t, err)
	peers, failed := make(chan string, 10), make(chan error, 10)
	l := chooser(t, func(_ context.Context, conn net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		peers <- conn.RemoteAddr().String()
		return names.Choose(hello)
	}, func(l *sslnet.Listener) { l.HandshakeError = func(_ net.Conn, err error) { failed <- err } })
	testkit.Serve(t, l, testkit.Echo)
	for name, version := range map[string]sslfilter.Version{"a.example": sslfilter.VersionTLS12, "x.b.example": sslfilter.VersionTLS13} {
		c, err := named(t, l, name)
		require.NoError(t, err)
		testkit.Exchange(t, c, "hello")
		require.Equal(t, version, c.State().Version)
		require.Equal(t, c.LocalAddr().String(), <-peers)
	}
	_, err = named(t, l, "c.example")
	require.Equal(t, sslfilter.AlertError(112), testkit.As[sslfilter.AlertError](t, err))
	require.Equal(t, "c.example", testkit.As[*sslfilter.ServerNameError](t, <-failed).ServerName)
}

// A function that takes its time delays only its own connection.
func TestChooseDelaysOnlyItsConnection(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Server())
	waits, goOn := make(chan bool), make(chan bool)
	l := chooser(t, func(_ context.Context, _ net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		if hello.ServerName == "server.test" {
			waits <- true
			<-goOn
		}
		return ctx, nil
	}, nil)
	testkit.Serve(t, l, testkit.Echo)
	slow := make(chan error)
	go func() {
		_, err := named(t, l, "server.test")
		slow <- err
	}()
	<-waits
	c, err := named(t, l, "localhost")
	require.NoError(t, err)
	testkit.Exchange(t, c, "hello")
	close(goOn)
	require.NoError(t, <-slow)
}

// The Context ends with the handshake: at its timeout, at a deadline, at the end of the
// caller's Context, and at Close.
func TestChooseContextEnds(t *testing.T) {
	waiting := make(chan bool, 1)
	wait := func(ctx context.Context, _ net.Conn, _ *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		waiting <- true
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(testkit.Patience):
			return nil, errors.New("the Context has not ended")
		}
	}
	t.Run("timeout of a Listener", func(t *testing.T) {
		failed := make(chan error, 1)
		l := chooser(t, wait, func(l *sslnet.Listener) {
			l.HandshakeTimeout = 50 * time.Millisecond
			l.HandshakeError = func(_ net.Conn, err error) { failed <- err }
		})
		testkit.Serve(t, l, testkit.Echo)
		_, err := named(t, l, "localhost")
		require.Error(t, err)
		require.ErrorIs(t, <-failed, sslnet.ErrHandshakeTimeout)
		<-waiting
	})
	t.Run("Close of a Listener", func(t *testing.T) {
		l := chooser(t, wait, nil)
		testkit.Serve(t, l, testkit.Echo)
		refused := make(chan error)
		go func() {
			_, err := named(t, l, "localhost")
			refused <- err
		}()
		<-waiting
		testkit.Within(t, "Close", func() { l.Close() })
		require.Error(t, <-refused)
	})
	single := func(t *testing.T, end func(s *sslnet.Conn, cancel context.CancelFunc)) error {
		a, b := joinTCP(t)
		t.Cleanup(func() { a.Close(); b.Close() })
		c, s := sslnet.Client(a, testkit.Ctx(t, testkit.Client())), sslnet.Server(b, nil)
		require.NoError(t, s.SetChoose(wait))
		go c.Handshake()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		failed := make(chan error)
		go func() { failed <- s.HandshakeContext(ctx) }()
		<-waiting
		end(s, cancel)
		err := <-failed
		require.Error(t, s.HandshakeContext(context.Background()), "it is permanent")
		return err
	}
	t.Run("Close", func(t *testing.T) {
		require.ErrorIs(t, single(t, func(s *sslnet.Conn, _ context.CancelFunc) {
			testkit.Within(t, "Close", func() { s.Close() })
		}), net.ErrClosed)
	})
	t.Run("Context", func(t *testing.T) {
		require.ErrorIs(t, single(t, func(_ *sslnet.Conn, cancel context.CancelFunc) { cancel() }), context.Canceled)
	})
	t.Run("deadline", func(t *testing.T) {
		a, b := joinTCP(t)
		defer a.Close()
		s := sslnet.Server(b, nil)
		defer s.Close()
		require.NoError(t, s.SetChoose(wait))
		go sslnet.Client(a, testkit.Ctx(t, testkit.Client())).Handshake()
		require.NoError(t, s.SetDeadline(soon()))
		require.ErrorIs(t, s.Handshake(), context.DeadlineExceeded)
		<-waiting
	})
}

// A function that panics leaves a connection that can be closed.
func TestChoosePanics(t *testing.T) {
	a, b := joinTCP(t)
	defer a.Close()
	s := sslnet.Server(b, nil)
	require.NoError(t, s.SetChoose(func(context.Context, net.Conn, *sslfilter.ClientHello) (*sslfilter.Ctx, error) { panic("lost") }))
	go sslnet.Client(a, testkit.Ctx(t, testkit.Client())).Handshake()
	require.PanicsWithValue(t, "lost", func() { s.Handshake() })
	testkit.Within(t, "Close", func() { require.NoError(t, s.Close()) })
}

// SetChoose also serves a connection that began in plain text, and reports mistakes.
func TestSetChoose(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Server())
	choose := func(context.Context, net.Conn, *sslfilter.ClientHello) (*sslfilter.Ctx, error) { return ctx, nil }
	a, b := joinTCP(t)
	defer a.Close()
	go func() {
		io.WriteString(a, "STARTTLS\r\n")
		c := sslnet.Client(a, testkit.Ctx(t, testkit.Client()))
		c.Write([]byte("hello"))
	}()
	r := bufio.NewReader(b)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "STARTTLS", strings.TrimSpace(line))
	s, err := sslnet.ServerBuffered(b, r, nil, sslnet.KeepLeftover)
	require.NoError(t, err)
	defer s.Close()
	testkit.As[*sslfilter.UsageError](t, s.SetChoose(nil))
	require.NoError(t, s.SetChoose(choose))
	_, chosen := s.ChosenName()
	require.False(t, chosen)
	testkit.Hear(t, s, "hello")
	name, chosen := s.ChosenName()
	require.True(t, chosen)
	require.Equal(t, "localhost", name)
	testkit.As[*sslfilter.UsageError](t, s.SetChoose(choose))
	testkit.As[*sslfilter.UsageError](t, sslnet.Client(a, testkit.Ctx(t, testkit.Client())).SetChoose(choose))
	require.ErrorContains(t, sslnet.Server(b, nil).Handshake(), "no Ctx")
}
