package sslnet_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// patience bounds the time that a test waits for something that must happen.
const patience = 30 * time.Second

const pki = "../testdata/pki/"

// TestMain also fails if a goroutine of the package outlives all tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(); left != "" && code == 0 {
		fmt.Println("FAIL: goroutines are left:\n" + left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks of goroutines that are still in the package after all
// others had time to end.
func leaked() string {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var left []string
		buf := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "sslfilter/sslnet.") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return strings.Join(left, "\n\n")
		}
	}
}

// serverOptions returns options of a server with the RSA certificate for localhost,
// server.test and 127.0.0.1.
func serverOptions(change ...func(*sslfilter.Options)) sslfilter.Options {
	return with(sslfilter.Options{Crt: pki + "server.crt", Key: pki + "server.key"}, change)
}

// clientOptions returns options of a client that trusts the test PKI, without a
// name to verify.
func clientOptions(change ...func(*sslfilter.Options)) sslfilter.Options {
	return with(sslfilter.Options{Client: true, CACrt: pki + "root.crt"}, change)
}

func with(o sslfilter.Options, changes []func(*sslfilter.Options)) sslfilter.Options {
	for _, change := range changes {
		change(&o)
	}
	return o
}

func upTo(v sslfilter.Version) func(*sslfilter.Options) {
	return func(o *sslfilter.Options) { o.MaxVersion = v }
}

func mustCtx(t testing.TB, o sslfilter.Options) *sslfilter.Ctx {
	t.Helper()
	ctx, err := sslfilter.NewCtx(o)
	require.NoError(t, err)
	t.Cleanup(func() { ctx.Close() })
	return ctx
}

// protocols runs f once for TLS 1.2 and once for TLS 1.3, as the highest version.
func protocols(t *testing.T, f func(t *testing.T, highest sslfilter.Version)) {
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		t.Run(v.String(), func(t *testing.T) { f(t, v) })
	}
}

// networks runs f over each kind of connection.
func networks(t *testing.T, f func(t *testing.T, join joiner)) {
	for name, join := range map[string]joiner{"tcp": joinTCP, "pipe": joinPipe} {
		t.Run(name, func(t *testing.T) { f(t, join) })
	}
}

// joiner makes a plain connection and returns its two ends.
type joiner func(t testing.TB) (a, b net.Conn)

func joinPipe(testing.TB) (a, b net.Conn) { return net.Pipe() }

func joinTCP(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l := listenTCP(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	a, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	return a, <-accepted
}

func listenTCP(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// pair returns a client and a server that have not done the handshake. Both
// underlying connections are closed at the end of the test.
func pair(t testing.TB, join joiner, server, client sslfilter.Options) (c, s *sslnet.Conn) {
	t.Helper()
	a, b := join(t)
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	c, s = sslnet.Client(a, mustCtx(t, client)), sslnet.Server(b, mustCtx(t, server))
	require.NoError(t, c.SetServerName("localhost"))
	return c, s
}

// connect returns a pair after the handshake, which must succeed.
func connect(t testing.TB, join joiner, server, client sslfilter.Options) (c, s *sslnet.Conn) {
	t.Helper()
	c, s = pair(t, join, server, client)
	shake(t, c, s)
	return c, s
}

// shake does the handshake of two ends.
func shake(t testing.TB, conns ...*sslnet.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	errs := make(chan error)
	for _, c := range conns {
		go func() { errs <- c.HandshakeContext(ctx) }()
	}
	for range conns {
		require.NoError(t, <-errs)
	}
}

// within runs f and fails if it takes too long.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(t, "takes too long: "+what)
	}
}

// say writes text.
func say(t testing.TB, w io.Writer, text string) {
	t.Helper()
	n, err := io.WriteString(w, text)
	require.NoError(t, err)
	require.Equal(t, len(text), n)
}

// hear reads text, no more and no less.
func hear(t testing.TB, r io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	_, err := io.ReadFull(r, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

var never time.Time

// soon returns a deadline that leaves a moment for something to happen first.
func soon() time.Time { return time.Now().Add(50 * time.Millisecond) }

// random returns n random bytes.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// echo starts a listener whose connections get back what they send.
func echo(t testing.TB, o sslfilter.Options) net.Listener {
	t.Helper()
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", mustCtx(t, o))
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	return l
}

// waitReadable waits until there is something to read, without reading it.
func waitReadable(t testing.TB, conn net.Conn) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return err == nil && n > 0
	}))
}
