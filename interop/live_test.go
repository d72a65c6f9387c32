package interop_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/child"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// program is a program of another project, with its standard streams.
type program struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser

	mu    sync.Mutex
	out   strings.Builder
	news  chan struct{}
	ended chan struct{} // closed when it has closed its output
}

// start runs a program in a session of its own and kills it with the test.
func start(t testing.TB, debianPackage, name string, args ...string) *program {
	t.Helper()
	path := peers.Find(t, debianPackage, name)
	p := &program{t: t, cmd: exec.Command(path, args...), news: make(chan struct{}, 1), ended: make(chan struct{})}
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.cmd.Stderr = p.cmd.Stdout
	require.NoError(t, child.Start(p.cmd))
	go p.collect(out)
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

func (p *program) collect(out io.Reader) {
	defer close(p.ended)
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		p.mu.Lock()
		p.out.WriteString(line)
		p.mu.Unlock()
		select {
		case p.news <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// await waits until the program has printed text n times, and returns the rest of the
// line after the last one.
func (p *program) await(text string, n int) string {
	p.t.Helper()
	timeout := time.After(testkit.Patience)
	for {
		out := p.output()
		if parts := strings.SplitN(out, text, n+1); len(parts) > n {
			if line, _, ended := strings.Cut(parts[n], "\n"); ended {
				return line
			}
		}
		select {
		case <-p.news:
		case <-timeout:
			require.FailNow(p.t, "not printed: "+text, out)
		}
	}
}

func (p *program) say(s string) {
	p.t.Helper()
	_, err := io.WriteString(p.stdin, s)
	require.NoError(p.t, err)
}

// wire drives a Filter over a TCP connection. One goroutine reads the network,
// and the test's own does everything else.
type wire struct {
	*sslfilter.Filter
	t     testing.TB
	conn  net.Conn
	chunk int // size of a delivery to the Filter; 0 means as the network delivers it
	in    chan []byte
	end   error // of the network, valid once in is closed
	got   []byte
	err   error // of the last Receive
}

func newWire(t testing.TB, conn net.Conn, o sslfilter.Options) *wire {
	t.Helper()
	f, err := sslfilter.New(o)
	require.NoError(t, err)
	w := &wire{Filter: f, t: t, conn: conn, in: make(chan []byte)}
	done := make(chan struct{})
	go func() {
		defer close(w.in)
		for {
			buf := make([]byte, 4096)
			n, err := conn.Read(buf)
			if n > 0 {
				select {
				case w.in <- buf[:n]:
				case <-done:
					return
				}
			}
			if err != nil {
				w.end = err
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		conn.Close()
		f.Close()
	})
	if o.Client {
		require.NoError(t, w.Handshake())
		w.flush()
	}
	return w
}

func (w *wire) flush() {
	w.t.Helper()
	w.conn.SetWriteDeadline(time.Now().Add(testkit.Patience))
	_, err := w.conn.Write(w.Outgoing(nil))
	require.NoError(w.t, err)
}

// pumpUntil moves bytes until ok holds.
func (w *wire) pumpUntil(what string, ok func() bool) {
	w.t.Helper()
	if ok() {
		return
	}
	w.pumpUntilFed(what, func(b []byte) bool {
		w.deliver(b, what)
		return ok()
	})
}

// pumpUntilFed gives feed what comes from the network until it has had enough.
func (w *wire) pumpUntilFed(what string, feed func([]byte) bool) {
	w.t.Helper()
	timeout := time.After(testkit.Patience)
	for {
		select {
		case b, open := <-w.in:
			if !open {
				require.FailNow(w.t, "the connection ended while waiting for "+what, "%v, received %q", w.end, w.got)
			}
			if feed(b) {
				return
			}
		case <-timeout:
			require.FailNow(w.t, "timeout while waiting for "+what, "received %q", w.got)
		}
	}
}

// deliver gives b to the Filter in pieces of chunk bytes, and sends the answers after
// each.
func (w *wire) deliver(b []byte, what string) {
	w.t.Helper()
	size := w.chunk
	if size == 0 {
		size = len(b)
	}
	for piece := range slices.Chunk(b, size) {
		w.got, w.err = w.Receive(w.got, piece)
		if w.err != nil && !errors.Is(w.err, io.EOF) {
			w.conn.Write(w.Outgoing(nil)) // the alert
			require.NoError(w.t, w.err, "while waiting for %s", what)
		}
		w.flush()
	}
}

// drain delivers input until the network ends, and returns the error of the end.
func (w *wire) drain() error {
	w.t.Helper()
	timeout := time.After(testkit.Patience)
	for {
		select {
		case b, open := <-w.in:
			if !open {
				return w.end
			}
			w.deliver(b, "the end")
		case <-timeout:
			require.FailNow(w.t, "timeout while waiting for the end of the connection")
		}
	}
}

func (w *wire) pumpUntilGot(text string) {
	w.t.Helper()
	w.pumpUntil(text, func() bool { return strings.Contains(string(w.got), text) })
}

func (w *wire) say(s string) {
	w.t.Helper()
	require.NoError(w.t, w.Send([]byte(s)))
	w.flush()
}

func accept(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(testkit.Patience))
	conn, err := l.Accept()
	require.NoError(t, err)
	return conn
}

// wait waits for the end of the program.
func (p *program) wait() error {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.Wait()
	case <-time.After(testkit.Patience):
		require.FailNow(p.t, "the program does not end", p.output())
		return nil
	}
}

// freePort returns a port that is not in use now, for programs that cannot choose one.
func freePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(testkit.ClosedPort(t))
	require.NoError(t, err)
	return port
}
