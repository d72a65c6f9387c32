package sslnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// timeless is a connection that does not support deadlines, like an SSH channel.
type timeless struct{ net.Conn }

func (timeless) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (timeless) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (timeless) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

func TestWithoutDeadlines(t *testing.T) {
	t.Run("the context ends a handshake", func(t *testing.T) {
		a, b := net.Pipe()
		c := sslnet.Client(timeless{a}, testkit.Ctx(t, nameless()))
		require.NoError(t, c.SetServerName("localhost"))
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			io.CopyN(io.Discard, b, 1) // the handshake has begun
			cancel()
		}()
		testkit.Within(t, "the handshake", func() { require.ErrorIs(t, c.HandshakeContext(ctx), context.Canceled) })
		c.Close()
	})
	t.Run("HandshakeTimeout", func(t *testing.T) {
		a, _ := net.Pipe()
		failed := make(chan error, 1)
		l := &sslnet.Listener{
			Listener: &oneConn{Listener: testkit.Listen(t), conn: timeless{a}}, Ctx: testkit.Ctx(t, testkit.Server()), HandshakeTimeout: time.Millisecond,
			HandshakeError: func(_ net.Conn, err error) { failed <- err },
		}
		go l.Accept()
		testkit.Within(t, "the handshake", func() { require.ErrorIs(t, <-failed, sslnet.ErrHandshakeTimeout) })
		testkit.Within(t, "Close", func() { l.Close() })
	})
	t.Run("Close of a peer that takes nothing", func(t *testing.T) {
		timelessly := func(t testing.TB) (net.Conn, net.Conn) {
			a, b := net.Pipe()
			return timeless{a}, b
		}
		c, _ := connect(t, timelessly, testkit.Server(), nameless())
		testkit.Within(t, "Close", func() { c.Close() })
	})
}

// oneConn accepts one given connection, and then those of Listener.
type oneConn struct {
	net.Listener
	conn net.Conn
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	return l.Listener.Accept()
}
