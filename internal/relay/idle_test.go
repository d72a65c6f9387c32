package relay

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// dialFrom is like dialTLS, but connects from ip, another loopback address.
func dialFrom(t *testing.T, ip, addr string) *tls.Conn {
	t.Helper()
	from := net.Dialer{Timeout: testkit.Patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	raw, err := from.Dial("tcp", addr)
	if err != nil {
		peers.SkipUnless(t, "loopback-net", fmt.Sprintf("the address %s (%v)", ip, err), "this needs the whole network 127.0.0.0/8")
	}
	t.Cleanup(func() { raw.Close() })
	require.NoError(t, raw.SetDeadline(time.Now().Add(testkit.Patience)))
	conn := tls.Client(raw, clientConfig(t))
	require.NoError(t, conn.Handshake())
	return conn
}

// hello serves a backend that answers each request.
func hello(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	}
}

// get makes one request and keeps the connection.
func get(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, tryGet(conn))
}

func tryGet(conn net.Conn) error {
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err == nil && string(body) != "hello" {
		err = fmt.Errorf("the answer is %q", body)
	}
	return err
}

// Kept connections of one address do not lock all other clients out.
func TestAnIdleConnectionMakesRoom(t *testing.T) {
	f := startAll(t, "max-connections = 4\n"+relayTable(`mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(),
		fmt.Sprintf("backend = %q", backend(t, hello))))
	var kept []*tls.Conn
	for range 4 {
		conn := dialTLS(t, f.addr())
		get(t, conn)
		kept = append(kept, conn)
	}
	testkit.Eventually(t, func() bool { return f.between() == 4 }, "the connections are not idle")
	other := dialFrom(t, "127.0.0.2", f.addr())
	get(t, other)
	f.logs("closed to make room for another client")
	get(t, other)
	ended := 0
	for _, conn := range kept {
		if tryGet(conn) != nil {
			ended++
		}
	}
	require.Equal(t, 1, ended)
	require.Zero(t, f.count(func(c *counters) value64 { return &c.refused }))
}

// between counts the sessions that are between two requests.
func (f *fixture) between() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.sessions {
		if s.betweenRequests.Load() {
			n++
		}
	}
	return n
}

// A new connection does not replace an idle one of its own address, or a connection
// that is in use.
func TestNoRoomForAnAddressWithAsManyConnections(t *testing.T) {
	f := startAll(t, "max-connections = 2\n"+relayTable(`mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(),
		fmt.Sprintf("backend = %q", backend(t, hello))))
	one, two := dialTLS(t, f.addr()), dialTLS(t, f.addr())
	get(t, one)
	get(t, two)
	testkit.Eventually(t, func() bool { return f.between() == 2 }, "the connections are not idle")
	third := testkit.Dial(t, f.addr())
	_, err := third.Read(make([]byte, 1))
	require.Error(t, err)
	f.logs("limit=max-connections")
	get(t, one)
	get(t, two)
}

func TestKeepaliveTimeout(t *testing.T) {
	f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), `keepalive-timeout = "50ms"`,
		fmt.Sprintf("backend = %q", backend(t, hello)))
	conn := dialTLS(t, f.addr())
	get(t, conn)
	rest, err := io.ReadAll(conn) // until the relay closes it, long before idle-timeout
	require.NoError(t, err)
	require.Empty(t, rest)
}

func TestOneAddressCannotHaveAllByDefault(t *testing.T) {
	for lines, want := range map[string]int{"": 2500, "max-connections = 200\n": 50, "max-connections = 10\n": 16, "max-connections-per-client = 7\n": 7} {
		c, err := config.Parse([]byte(lines + relayTable(`listen = ["127.0.0.1:0"]`, crt(), `backend = "127.0.0.1:1"`)))
		require.NoError(t, err)
		require.Equal(t, want, c.MaxConnsPerClient, lines)
	}
}

// Faults of clients are not logged as warnings, and a port check is logged at level
// debug only.
func TestLogLevels(t *testing.T) {
	where := fmt.Sprintf("backend = %q", backend(t, testkit.Echo))
	line := func(f *fixture, text string) string {
		f.t.Helper()
		f.logs(text)
		for l := range strings.Lines(f.log.String()) {
			if strings.Contains(l, text) {
				return l
			}
		}
		return ""
	}
	for name, mode := range map[string]string{"TLS": `listen = ["127.0.0.1:0"]`, "plain": `listen = ["plain:127.0.0.1:0"]`} {
		t.Run("port check, "+name, func(t *testing.T) {
			lines := []string{mode, where}
			if name == "TLS" {
				lines = append(lines, crt())
			} else {
				lines = []string{mode, trust(), fmt.Sprintf("backend = \"tls:%s\"", tlsBackend(t, func(c *tls.Conn) { testkit.Echo(c) }))}
			}
			f := start(t, lines...)
			testkit.Dial(t, f.addr()).Close()
			require.Contains(t, line(f, "the client sent nothing"), "level=DEBUG")
			require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.empty }))
			require.Zero(t, f.count(func(c *counters) value64 { return &c.handshakesFailed }))
		})
	}
	t.Run("failed handshake", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), where)
		conn := testkit.Dial(t, f.addr())
		io.WriteString(conn, "this is not TLS at all")
		io.ReadAll(conn)
		require.Contains(t, line(f, "handshake: "), "level=INFO")
		require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.handshakesFailed }))
		require.Zero(t, f.count(func(c *counters) value64 { return &c.empty }))
	})
	t.Run("the client ended first", func(t *testing.T) {
		address := tlsBackend(t, func(conn *tls.Conn) {
			io.ReadAll(conn)
			tcpOf(conn).Close() // without close_notify, as many programs do
		})
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), trust(), fmt.Sprintf("backend = \"tls:%s\"", address))
		conn := dialTLS(t, f.addr())
		io.WriteString(conn, "x")
		require.NoError(t, conn.CloseWrite())
		io.ReadAll(conn)
		require.Contains(t, line(f, "the backend closed the connection without close_notify"), "level=INFO")
	})
	t.Run("the backend ended first", func(t *testing.T) {
		address := tlsBackend(t, func(conn *tls.Conn) { tcpOf(conn).Close() })
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), trust(), fmt.Sprintf("backend = \"tls:%s\"", address))
		io.ReadAll(dialTLS(t, f.addr()))
		require.Contains(t, line(f, "the backend closed the connection without close_notify"), "level=WARN")
	})
}
