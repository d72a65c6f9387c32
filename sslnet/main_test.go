package sslnet_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

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
	for end := time.Now().Add(testkit.Patience); ; time.Sleep(10 * time.Millisecond) {
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

// nameless returns options of a client that trusts the test PKI. The name to
// verify comes from a Dialer or from SetServerName.
func nameless(changes ...testkit.Change) sslfilter.Options {
	return testkit.With(testkit.Client(testkit.ServerName("")), changes...)
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

func joinTCP(t testing.TB) (a, b net.Conn) { return testkit.SocketPair(t) }

// pair returns a client and a server that have not done the handshake. Both
// underlying connections are closed at the end of the test.
func pair(t testing.TB, join joiner, server, client sslfilter.Options) (c, s *sslnet.Conn) {
	t.Helper()
	a, b := join(t)
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	c, s = sslnet.Client(a, testkit.Ctx(t, client)), sslnet.Server(b, testkit.Ctx(t, server))
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
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	errs := make(chan error)
	for _, c := range conns {
		go func() { errs <- c.HandshakeContext(ctx) }()
	}
	for range conns {
		require.NoError(t, <-errs)
	}
}

var never time.Time

// soon returns a deadline that leaves a moment for something to happen first.
func soon() time.Time { return time.Now().Add(50 * time.Millisecond) }

// echo starts a listener whose connections get back what they send.
func echo(t testing.TB, o sslfilter.Options) net.Listener {
	t.Helper()
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, o))
	require.NoError(t, err)
	testkit.Serve(t, l, testkit.Echo)
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
