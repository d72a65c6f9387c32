package sslnet_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// proxyListener accepts connections that begin with a header of the PROXY
// protocol, version 1. Like those of github.com/pires/go-proxyproto, they read the
// header at the first call of a method that depends on it.
type proxyListener struct{ net.Listener }

func (l proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &proxyConn{Conn: c, r: bufio.NewReader(c)}, nil
}

type proxyConn struct {
	net.Conn
	r    *bufio.Reader
	once sync.Once
	from net.Addr
	err  error
}

func (c *proxyConn) header() {
	line, err := c.r.ReadString('\n')
	var from, to string
	var fromPort, toPort int
	if err == nil {
		_, err = fmt.Sscanf(strings.TrimSpace(line), "PROXY TCP4 %s %s %d %d", &from, &to, &fromPort, &toPort)
	}
	if c.err = err; err == nil {
		c.from = &net.TCPAddr{IP: net.ParseIP(from), Port: fromPort}
	} else {
		c.from = c.Conn.RemoteAddr()
	}
}

func (c *proxyConn) RemoteAddr() net.Addr {
	c.once.Do(c.header)
	return c.from
}

func (c *proxyConn) LocalAddr() net.Addr {
	c.once.Do(c.header)
	return c.Conn.LocalAddr()
}

func (c *proxyConn) Read(b []byte) (int, error) {
	if c.once.Do(c.header); c.err != nil {
		return 0, c.err
	}
	return c.r.Read(b)
}

// visitWithHeader is visit with a header of the PROXY protocol before the handshake.
func visitWithHeader(t testing.TB, l net.Listener, from, text string) {
	c := silent(t, l)
	_, err := fmt.Fprintf(c, "PROXY TCP4 %s 127.0.0.1 4711 443\r\n", from)
	require.NoError(t, err)
	conn := sslnet.Client(c, testkit.Ctx(t, nameless()))
	require.NoError(t, conn.SetServerName("localhost"))
	t.Cleanup(func() { conn.Close() })
	testkit.Say(t, conn, text)
}

// An underlying connection whose address depends on what its peer sends delays no
// other connection, and the time it takes counts as part of the handshake.
func TestAddressThatWaitsForThePeer(t *testing.T) {
	failed := make(chan error, 10)
	l := listener(t, func(l *sslnet.Listener) {
		l.Listener = proxyListener{l.Listener}
		l.HandshakeTimeout = time.Hour
		l.HandshakeError = func(below net.Conn, err error) { failed <- err }
	})
	for range 3 {
		silent(t, l)
	}
	go visitWithHeader(t, l, "192.0.2.7", "hello")
	testkit.Within(t, "Accept", func() {
		c, err := l.Accept()
		require.NoError(t, err)
		require.Equal(t, "192.0.2.7:4711", c.RemoteAddr().String())
		testkit.Hear(t, c, "hello")
	})
	require.Empty(t, failed)
	testkit.Within(t, "Close", func() { require.NoError(t, l.Close()) })
}

func TestTimeOfAnAddressThatWaits(t *testing.T) {
	failed := make(chan error, 10)
	l := listener(t, func(l *sslnet.Listener) {
		l.Listener = proxyListener{l.Listener}
		l.HandshakeTimeout = 50 * time.Millisecond
		l.HandshakeError = func(below net.Conn, err error) { failed <- err }
	})
	silent(t, l)
	go l.Accept()
	testkit.Within(t, "the handshake's time", func() { require.ErrorIs(t, <-failed, sslnet.ErrHandshakeTimeout) })
}

// Connections that wait in RemoteAddr lose their slots to others, like those that
// wait in Read.
func TestAddressesThatWaitLoseTheirSlots(t *testing.T) {
	failed := make(chan error, 10)
	l := listener(t, func(l *sslnet.Listener) {
		l.Listener = proxyListener{l.Listener}
		l.MaxHandshakes, l.HandshakeTimeout = 2, time.Hour
		l.HandshakeError = func(below net.Conn, err error) { failed <- err }
	})
	for range 2 {
		silent(t, l)
	}
	go visitWithHeader(t, l, "192.0.2.7", "hello")
	testkit.Within(t, "Accept", func() {
		c, err := l.Accept()
		require.NoError(t, err)
		testkit.Hear(t, c, "hello")
	})
	require.ErrorIs(t, <-failed, sslnet.ErrHandshakeDropped)
}

// stuck is a connection whose Close waits.
type stuck struct {
	net.Conn
	goOn chan struct{}
}

func (c stuck) Close() error {
	<-c.goOn
	return c.Conn.Close()
}

type stuckListener struct {
	net.Listener
	first sync.Once
	goOn  chan struct{}
}

func (l *stuckListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.first.Do(func() { c = stuck{c, l.goOn} })
	return c, nil
}

// The Listener does not wait for Close of an underlying connection that lost its
// slot.
func TestCloseOfADroppedConnection(t *testing.T) {
	goOn := make(chan struct{})
	l := listener(t, func(l *sslnet.Listener) {
		l.Listener = &stuckListener{Listener: l.Listener, goOn: goOn}
		l.MaxHandshakes, l.HandshakeTimeout = 1, time.Hour
	})
	silent(t, l)
	go visit(t, l, "hello")
	testkit.Within(t, "Accept", func() {
		c, err := l.Accept()
		require.NoError(t, err)
		testkit.Hear(t, c, "hello")
	})
	close(goOn)
}

// HandshakeError may close the listener, and a Close from another goroutine still
// waits for everything else.
func TestListenerCloseInHandshakeError(t *testing.T) {
	var l *sslnet.Listener
	told, closed := make(chan error, 1), make(chan error, 1)
	l = listener(t, func(l *sslnet.Listener) {
		l.HandshakeError = func(below net.Conn, err error) {
			told <- err
			closed <- l.Close()
		}
	})
	_, err := io.WriteString(silent(t, l), "SSH-2.0-OpenSSH\r\n")
	require.NoError(t, err)
	waiting := silent(t, l)
	testkit.Within(t, "Close in HandshakeError", func() {
		_, err := l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		require.Error(t, <-told)
		require.NoError(t, <-closed)
	})
	_, err = waiting.Read(make([]byte, 1))
	require.True(t, err == io.EOF || errors.As(err, new(*net.OpError)))
}
