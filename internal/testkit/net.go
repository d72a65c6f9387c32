package testkit

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// Patience is how long a test waits for something that must happen. A test that
// waits longer has found something that hangs.
const Patience = peers.Patience

// Listen returns a TCP listener on a free port of 127.0.0.1.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// Serve runs handle in a goroutine for each connection of l, and closes the
// connection after it. At the end of the test it closes l and all connections,
// and waits for the goroutines. It returns the address of l.
func Serve(t testing.TB, l net.Listener, handle func(net.Conn)) (addr string) {
	var running sync.WaitGroup
	var open sync.Map // of net.Conn
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				open.Store(conn, nil)
				defer open.Delete(conn)
				conn.SetDeadline(time.Now().Add(Patience))
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		open.Range(func(conn, _ any) bool {
			conn.(net.Conn).Close()
			return true
		})
		running.Wait()
	})
	return l.Addr().String()
}

// Echo sends back what it receives. It is a handler for Serve.
func Echo(conn net.Conn) { io.Copy(conn, conn) }

// ClosedPort returns an address at which nothing listens.
func ClosedPort(t testing.TB) string {
	t.Helper()
	l := Listen(t)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// Dial connects to addr. The connection has a deadline, and is closed at the end
// of the test.
func Dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, Patience)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(Patience)))
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// SocketPair returns the two ends of a TCP connection. They have no deadlines, and
// are closed at the end of the test.
func SocketPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	l := Listen(t)
	client = Dial(t, l.Addr().String())
	require.NoError(t, client.SetDeadline(time.Time{}))
	conn, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return client, conn.(*net.TCPConn)
}

// Say writes text.
func Say(t testing.TB, w io.Writer, text string) {
	t.Helper()
	n, err := io.WriteString(w, text)
	require.NoError(t, err)
	require.Equal(t, len(text), n)
}

// Hear reads exactly as many bytes as text has, and compares.
func Hear(t testing.TB, r io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	_, err := io.ReadFull(r, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

// Exchange sends text to an echo server, and reads it back.
func Exchange(t testing.TB, conn io.ReadWriter, text string) {
	t.Helper()
	Say(t, conn, text)
	Hear(t, conn, text)
}

// Eventually waits until ok returns true. The format describes what did not
// happen in time.
func Eventually(t testing.TB, ok func() bool, format string, args ...any) {
	t.Helper()
	for end := time.Now().Add(Patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			require.FailNow(t, fmt.Sprintf(format, args...))
		}
	}
}

// Within runs f in a goroutine and waits for its end.
func Within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(Patience):
		require.FailNow(t, "takes too long: "+what)
	}
}

// pipeBuffer is one direction of a Pipe.
type pipeBuffer struct {
	mu     sync.Mutex
	more   *sync.Cond
	data   []byte
	closed bool
}

func newPipeBuffer() *pipeBuffer {
	b := new(pipeBuffer)
	b.more = sync.NewCond(&b.mu)
	return b
}

func (b *pipeBuffer) read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.data) == 0 && !b.closed {
		b.more.Wait()
	}
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

func (b *pipeBuffer) write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, io.ErrClosedPipe
	}
	b.data = append(b.data, p...)
	b.more.Broadcast()
	return len(p), nil
}

func (b *pipeBuffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.more.Broadcast()
}

// Pipe returns the two ends of a connection in memory. Unlike net.Pipe it has
// buffers without a bound, so that both sides can write at the same time. It has
// no deadlines.
func Pipe() (a, b *PipeConn) {
	x, y := newPipeBuffer(), newPipeBuffer()
	return &PipeConn{x, y}, &PipeConn{y, x}
}

// PipeConn is one end of a Pipe.
type PipeConn struct{ in, out *pipeBuffer }

func (c *PipeConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *PipeConn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close ends the direction in which c writes.
func (c *PipeConn) Close() error {
	c.out.close()
	return nil
}

// Cut ends both directions.
func (c *PipeConn) Cut() {
	c.out.close()
	c.in.close()
}

func (*PipeConn) LocalAddr() net.Addr              { return nil }
func (*PipeConn) RemoteAddr() net.Addr             { return nil }
func (*PipeConn) SetDeadline(time.Time) error      { return nil }
func (*PipeConn) SetReadDeadline(time.Time) error  { return nil }
func (*PipeConn) SetWriteDeadline(time.Time) error { return nil }
