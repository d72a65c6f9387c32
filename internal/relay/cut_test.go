package relay

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// tlsBackend starts a backend with the server's certificate of the test PKI.
func tlsBackend(t *testing.T, serve func(*tls.Conn)) string {
	t.Helper()
	config := testkit.GoServer(t)
	return backend(t, func(conn net.Conn) {
		c := tls.Server(conn, config)
		if c.Handshake() == nil {
			serve(c)
		}
	})
}

// sides runs a test with three kinds of relay: TLS on both sides, or on one of them. The
// connections that serve gets and relayed returns are a *tls.Conn or a *net.TCPConn.
func sides(t *testing.T, run func(t *testing.T, relayed func(serve func(net.Conn), lines ...string) (*fixture, net.Conn))) {
	for _, side := range []struct{ client, backend bool }{{true, true}, {true, false}, {false, true}} {
		name := map[bool]string{true: "TLS", false: "plain"}
		t.Run(name[side.client]+" client, "+name[side.backend]+" backend", func(t *testing.T) {
			run(t, func(serve func(net.Conn), more ...string) (*fixture, net.Conn) {
				address := ""
				if side.backend {
					address = "tls:" + tlsBackend(t, func(c *tls.Conn) { serve(c) })
					more = append(more, trust())
				} else {
					address = backend(t, serve)
				}
				more = append(more, fmt.Sprintf("backend = %q", address))
				if !side.client {
					f := start(t, append(more, `listen = ["plain:127.0.0.1:0"]`)...)
					return f, testkit.Dial(t, f.addr())
				}
				f := start(t, append(more, `listen = ["127.0.0.1:0"]`, crt())...)
				return f, dialTLS(t, f.addr())
			})
		})
	}
}

// tcpOf returns the TCP connection of either kind.
func tcpOf(conn net.Conn) *net.TCPConn {
	if c, ok := conn.(*tls.Conn); ok {
		return c.NetConn().(*net.TCPConn)
	}
	return conn.(*net.TCPConn)
}

// endBadly ends a connection in a way that is not orderly, after the data that was
// sent: TLS without close_notify, and plain TCP with a reset.
func endBadly(conn net.Conn) {
	tcp := tcpOf(conn)
	if _, ok := conn.(*tls.Conn); !ok {
		tcp.SetLinger(0)
	}
	tcp.Close()
}

// received checks the data and the end that the other side got.
func received(t *testing.T, got []byte, err error, want []byte) {
	t.Helper()
	require.Equal(t, len(want), len(got), "%v", err)
	require.True(t, bytes.Equal(want, got))
	require.Error(t, err, "the end looks like an orderly one")
}

// If one side is reset or ends without close_notify, the data that it sent before
// reaches the other side in full, even if the other side reads late. After the data
// the other side gets an end that is not orderly.
func TestWhatCameBeforeAnAbnormalEndIsDelivered(t *testing.T) {
	for _, size := range []int{200_045, 2_000_006} {
		sent, late := testkit.Bytes(size, 1), size < 1<<20 // more does not fit into the sockets' buffers
		t.Run(fmt.Sprint(size, " bytes from the backend"), func(t *testing.T) {
			sides(t, func(t *testing.T, relayed func(func(net.Conn), ...string) (*fixture, net.Conn)) {
				taken, ended := make(chan struct{}), make(chan struct{})
				f, conn := relayed(func(backend net.Conn) {
					backend.Write(sent)
					<-taken // a reset throws away what the relay has not read yet
					endBadly(backend)
					close(ended)
				})
				go func() {
					f.hasTaken(int64(size))
					close(taken)
				}()
				if late {
					<-ended
				}
				got, err := slowly(conn)
				received(t, got, err, sent)
				f.logs("from_client=0 from_backend=" + fmt.Sprint(size))
			})
		})
		t.Run(fmt.Sprint(size, " bytes from the client"), func(t *testing.T) {
			sides(t, func(t *testing.T, relayed func(func(net.Conn), ...string) (*fixture, net.Conn)) {
				var got []byte
				var err error
				read, done := make(chan struct{}), make(chan struct{})
				f, conn := relayed(func(backend net.Conn) {
					defer close(done)
					<-read
					got, err = slowly(backend)
				})
				if !late {
					close(read)
				}
				conn.Write(sent)
				f.hasTaken(int64(size))
				endBadly(conn)
				if late {
					close(read)
				}
				<-done
				received(t, got, err, sent)
				f.logs("from_client=" + fmt.Sprint(size))
			})
		})
	}
}

// Data that was on its way to the side with the abnormal end is delivered too.
func TestTheOtherDirectionOfAnAbnormalEndIsDelivered(t *testing.T) {
	sent := testkit.Bytes(200_045, 1)
	sides(t, func(t *testing.T, relayed func(func(net.Conn), ...string) (*fixture, net.Conn)) {
		var got []byte
		var err error
		cut, done := make(chan struct{}), make(chan struct{})
		f, conn := relayed(func(backend net.Conn) {
			defer close(done)
			<-cut
			got, err = slowly(backend)
		})
		if _, ok := conn.(*tls.Conn); !ok {
			close(cut)
			return // a reset of a plain connection ends both directions
		}
		conn.Write(sent)
		f.hasTaken(int64(len(sent)))
		require.NoError(t, tcpOf(conn).CloseWrite())
		close(cut)
		<-done
		received(t, got, err, sent)
		f.logs("the client closed the connection without close_notify")
	})
	t.Run("TLS backend that ends first", func(t *testing.T) {
		var got []byte
		var err error
		taken, done := make(chan struct{}), make(chan struct{})
		address := tlsBackend(t, func(backend *tls.Conn) {
			defer close(done)
			<-taken
			tcpOf(backend).CloseWrite()
			got, err = slowly(backend)
		})
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), trust(), fmt.Sprintf("backend = \"tls:%s\"", address))
		conn := dialTLS(t, f.addr())
		conn.Write(sent)
		f.hasTaken(int64(len(sent)))
		close(taken)
		<-done
		received(t, got, err, sent)
		f.logs("the backend closed the connection without close_notify")
	})
}

// When the relay stops, it does not discard data that a client can still read.
func TestWhatCameBeforeTheRelayEndsIsDelivered(t *testing.T) {
	sent := testkit.Bytes(200_045, 1)
	sides(t, func(t *testing.T, relayed func(func(net.Conn), ...string) (*fixture, net.Conn)) {
		f, conn := relayed(func(backend net.Conn) {
			backend.Write(sent)
			io.Copy(io.Discard, backend)
		})
		f.hasTaken(int64(len(sent)))
		go f.Close()
		<-f.stop.Done()
		got, err := slowly(conn)
		received(t, got, err, sent)
	})
}

// A peer that does not read does not keep the relay from stopping.
func TestACutConnectionDoesNotHoldUpTheEnd(t *testing.T) {
	sides(t, func(t *testing.T, relayed func(func(net.Conn), ...string) (*fixture, net.Conn)) {
		f, _ := relayed(func(backend net.Conn) {
			flood(backend, 64<<20)
			endBadly(backend)
		})
		stalled(t, f.moved)
		f.Close()
	})
}

// slowly reads everything in small pieces.
func slowly(conn net.Conn) ([]byte, error) {
	var all []byte
	buf := make([]byte, 1000)
	for {
		n, err := conn.Read(buf)
		all = append(all, buf[:n]...)
		switch {
		case err == io.EOF:
			return all, nil
		case err != nil:
			return all, err
		}
	}
}

// moved returns the number of bytes that the only session has read.
func (f *fixture) moved() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.sessions {
		return s.fromClient.Load() + s.fromBackend.Load()
	}
	return 0
}

// hasTaken waits until the only session has read n bytes.
func (f *fixture) hasTaken(n int64) {
	testkit.Eventually(f.t, func() bool { return f.moved() >= n }, "the relay did not take %d bytes", n)
}
