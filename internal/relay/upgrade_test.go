package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

const toWebSocket = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

// keepSending writes until the connection ends, and does not read.
func keepSending(conn net.Conn, text string) {
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

// idle-timeout ends a WebSocket connection whose backend has stopped reading, even
// though the relay is blocked in a Write to that backend.
func TestIdleTimeoutEndsABlockedWebSocket(t *testing.T) {
	deaf := backend(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		<-t.Context().Done()
	})
	inner := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", deaf))
	for name, to := range map[string]string{
		"plain": fmt.Sprintf("backend = %q\n", deaf),
		"TLS":   fmt.Sprintf("backend = \"tls:%s\"\n", inner.addr()) + trust(),
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), to, `idle-timeout = "500ms"`)
			c := newLines(t, dialTLS(t, f.addr()))
			c.say(toWebSocket)
			r, err := http.ReadResponse(c.in, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusSwitchingProtocols, r.StatusCode)
			go keepSending(c.Conn, string(make([]byte, 64<<10)))
			testkit.Eventually(t, func() bool { return f.count(func(c *counters) value64 { return &c.active }) == 0 }, "the connection is still there")
			require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.idle }))
		})
	}
}

// A client that asks for a protocol whose name is not ASCII, and does not read the
// response, is idle like any other.
func TestIdleTimeoutEndsUnreadAnswers(t *testing.T) {
	f := start(t, `mode = "http"`, `listen = ["plain:127.0.0.1:0"]`, fmt.Sprintf("backend = %q", mirror(t)), `idle-timeout = "500ms"`)
	conn := testkit.Dial(t, f.addr())
	require.NoError(t, conn.SetReadBuffer(4096)) // so that a slow relay soon has to wait for the client
	go keepSending(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: \xff\r\n\r\n")
	// If the kernel delays the client's data until the relay waits for the next request,
	// the connection ends by keepalive-timeout, which is not counted.
	f.logs("seconds=")
	require.Zero(t, f.count(func(c *counters) value64 { return &c.backendFailed }))
}

// The connection to a backend that switches to anything but WebSocket is closed.
func TestWrongSwitchEndsTheBackendConnection(t *testing.T) {
	for _, head := range []string{"Connection: Upgrade\r\nUpgrade: h2c", "Connection: Upgrade", "Connection: Upgrade\r\nUpgrade: \xff", "Upgrade: websocket"} {
		ended := make(chan struct{}, 1)
		f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
			in := bufio.NewReader(conn)
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\n%s\r\n\r\n", head)
			if _, err := io.Copy(io.Discard, in); err == nil {
				ended <- struct{}{}
			}
		})))
		c := newLines(t, dialTLS(t, f.addr()))
		status, _ := c.ask(toWebSocket)
		require.Equal(t, http.StatusBadGateway, status, head)
		testkit.Eventually(t, func() bool { return len(ended) == 1 }, "the connection to the backend is still open after %q", head)
	}
}
