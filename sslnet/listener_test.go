package sslnet_test

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// listener makes a Listener over TCP, with certificates of the test PKI.
func listener(t testing.TB, change func(*sslnet.Listener)) *sslnet.Listener {
	t.Helper()
	l := &sslnet.Listener{Listener: testkit.Listen(t), Ctx: testkit.Ctx(t, testkit.Server())}
	if change != nil {
		change(l)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// visit dials and sends text.
func visit(t testing.TB, l net.Listener, text string) {
	t.Helper()
	c, err := sslnet.Dial("tcp", l.Addr().String(), testkit.Ctx(t, nameless()))
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	testkit.Say(t, c, text)
}

// silent connects and sends nothing.
func silent(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// Peers that send nothing, a part of a ClientHello or another protocol do not delay
// the peers that come after them.
func TestAcceptIsNotHeldUp(t *testing.T) {
	failed := make(chan error, 10)
	l := listener(t, func(l *sslnet.Listener) {
		l.HandshakeError = func(below net.Conn, err error) { failed <- err }
	})
	silent(t, l)
	_, err := silent(t, l).Write([]byte{22, 3, 1, 2, 0, 1})
	require.NoError(t, err)
	_, err = io.WriteString(silent(t, l), "SSH-2.0-OpenSSH\r\n")
	require.NoError(t, err)
	go visit(t, l, "hello")
	testkit.Within(t, "Accept", func() {
		c, err := l.Accept()
		require.NoError(t, err)
		require.True(t, c.(*sslnet.Conn).ConnectionState().HandshakeComplete)
		testkit.Hear(t, c, "hello")
	})
	require.ErrorAs(t, <-failed, new(*sslfilter.Error))
}

// Handshakes above the bound wait until another one ends, at the latest by its
// timeout.
func TestMaxHandshakes(t *testing.T) {
	failed := make(chan error, 10)
	l := listener(t, func(l *sslnet.Listener) {
		l.MaxHandshakes, l.HandshakeTimeout = 2, 200*time.Millisecond
		l.HandshakeError = func(below net.Conn, err error) { failed <- err }
	})
	for range 4 {
		silent(t, l)
	}
	go visit(t, l, "hello")
	testkit.Within(t, "Accept", func() {
		c, err := l.Accept()
		require.NoError(t, err)
		testkit.Hear(t, c, "hello")
	})
	for range 4 {
		require.ErrorIs(t, <-failed, sslnet.ErrHandshakeTimeout)
	}
}

// If silent peers have all slots, one of them loses its slot to a new peer, long
// before its handshake times out.
func TestSilentPeersLoseTheirSlots(t *testing.T) {
	failed := make(chan error, 10)
	l := listener(t, func(l *sslnet.Listener) {
		l.MaxHandshakes, l.HandshakeTimeout = 2, time.Hour
		l.HandshakeError = func(below net.Conn, err error) { failed <- err }
	})
	for range 3 {
		silent(t, l)
	}
	go visit(t, l, "hello")
	testkit.Within(t, "Accept", func() {
		c, err := l.Accept()
		require.NoError(t, err)
		testkit.Hear(t, c, "hello")
	})
	for range 2 { // the third has the slot of the first, and the visitor that of the second
		require.ErrorIs(t, <-failed, sslnet.ErrHandshakeDropped)
	}
}

// HandshakeError gets the certificate of a refused client, even after the connection is
// closed, and a client gets that of a refused server.
func TestRefusedClientsAreDescribed(t *testing.T) {
	failed := make(chan error, 10)
	l := listener(t, func(l *sslnet.Listener) {
		l.Ctx = testkit.Ctx(t, testkit.Requiring())
		l.HandshakeError = func(below net.Conn, err error) { failed <- err }
	})
	go l.Accept()
	for _, crt := range []string{"client-expired.crt", "client-unknown.crt", ""} {
		o := testkit.Showing(crt, "")
		c, err := sslnet.Dial("tcp", l.Addr().String(), testkit.Ctx(t, o))
		if err == nil { // over TLS 1.3, the alert comes later
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		require.ErrorAs(t, err, new(sslfilter.AlertError))
		peer := testkit.As[*sslfilter.Error](t, <-failed).Peer
		if crt == "" {
			require.Nil(t, peer)
			continue
		}
		require.Equal(t, [][]byte{testkit.Cert(t, crt).Raw}, peer.Sent)
		require.False(t, peer.KeyProved)
		require.False(t, peer.Valid)
		require.NotEmpty(t, peer.Errors)
	}
	_, err := sslnet.Dial("tcp", l.Addr().String(), testkit.Ctx(t, testkit.Client(func(o *sslfilter.Options) { o.CACrt = testkit.PKI("other.crt") })))
	require.Equal(t, testkit.Cert(t, "server.crt").Raw, testkit.As[*sslfilter.Error](t, err).Peer.Sent[0])
}

// shaky is a listener that sometimes fails, as if there were no file descriptors
// left.
type shaky struct {
	net.Listener
	failures atomic.Int32
	err      error
}

func (l *shaky) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: l.err}
	}
	return l.Listener.Accept()
}

func TestTemporaryAcceptErrors(t *testing.T) {
	below := &shaky{Listener: testkit.Listen(t), err: syscall.EMFILE}
	below.failures.Store(3)
	l := listener(t, func(l *sslnet.Listener) { l.Listener = below })
	go visit(t, l, "hello")
	c, err := l.Accept()
	require.NoError(t, err)
	testkit.Hear(t, c, "hello")
}

func TestPermanentAcceptErrors(t *testing.T) {
	broken := errors.New("broken")
	below := &shaky{Listener: testkit.Listen(t), err: broken}
	below.failures.Store(1)
	l := listener(t, func(l *sslnet.Listener) { l.Listener = below })
	for range 2 {
		_, err := l.Accept()
		require.ErrorIs(t, err, broken)
	}
}

// Close ends Accept, the handshakes in progress and connections that Accept has not
// returned, and waits for its goroutines.
func TestListenerClose(t *testing.T) {
	l := listener(t, nil)
	accepted := make(chan error)
	go func() {
		c, err := l.Accept()
		if err == nil {
			testkit.Hear(t, c, "first")
		}
		accepted <- err
	}()
	visit(t, l, "first")
	require.NoError(t, <-accepted)
	waiting := silent(t, l)
	ready, err := sslnet.Dial("tcp", l.Addr().String(), testkit.Ctx(t, nameless()))
	require.NoError(t, err)
	defer ready.Close()
	testkit.Within(t, "Close", func() { require.NoError(t, l.Close()) })
	_, err = waiting.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = ready.Read(make([]byte, 1))
	require.Error(t, err)
	for range 2 {
		_, err = l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
	}
	testkit.Within(t, "a second Close", func() { l.Close() })

	l = listener(t, nil)
	go func() { accepted <- l.Close() }()
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, <-accepted)
}

// After SetCtx, new connections have the new certificate and old ones continue.
func TestSetCtx(t *testing.T) {
	l := listener(t, nil)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	client := testkit.Ctx(t, nameless())
	before, err := sslnet.Dial("tcp", l.Addr().String(), client)
	require.NoError(t, err)
	defer before.Close()
	l.SetCtx(testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) {
		o.Crt, o.Key = testkit.PKI("server-ec.crt"), testkit.PKI("server-ec.key")
	})))
	after, err := sslnet.Dial("tcp", l.Addr().String(), client)
	require.NoError(t, err)
	defer after.Close()
	require.NotEqual(t, before.Peer().Sent[0], after.Peer().Sent[0])
	for _, c := range []*sslnet.Conn{before, after} {
		testkit.Say(t, c, "hello")
		testkit.Hear(t, c, "hello")
	}
}
