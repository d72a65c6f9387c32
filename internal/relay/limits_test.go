package relay

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

type value64 = interface{ Value() int64 }

// If a side does not read, the other side waits, and memory does not grow.
func TestASlowSideMakesNothingGrow(t *testing.T) {
	for name, slow := range map[string]string{"client": "the client does not read", "backend": "the backend does not read"} {
		t.Run(slow, func(t *testing.T) {
			const far = 1 << 30 // much larger than all buffers together
			release := make(chan struct{})
			f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
				if name == "client" {
					flood(conn, far)
					return
				}
				<-release
			})))
			defer close(release)
			conn := dialTLS(t, f.addr())
			if name == "backend" {
				go flood(conn, far)
			}
			moved := func() int64 { // the bytes that the relay has forwarded
				f.mu.Lock()
				defer f.mu.Unlock()
				for s := range f.sessions {
					return s.fromClient.Load() + s.fromBackend.Load()
				}
				return 0
			}
			stalled(t, moved)
			require.Less(t, moved(), int64(far/4))

			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			stalled(t, moved)
			runtime.GC()
			runtime.ReadMemStats(&after)
			require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20))
			f.Close()
		})
	}
}

// flood writes n bytes, or fewer if the connection ends.
func flood(conn net.Conn, n int) {
	for chunk := make([]byte, 64<<10); n > 0; n -= len(chunk) {
		if _, err := conn.Write(chunk); err != nil {
			return
		}
	}
}

// stalled waits until a counter has increased and then stops.
func stalled(t *testing.T, count func() int64) {
	t.Helper()
	last, same := int64(0), 0
	testkit.Eventually(t, func() bool {
		time.Sleep(20 * time.Millisecond)
		if now := count(); now > 0 && now == last {
			same++
		} else {
			last, same = now, 0
		}
		return same == 10
	}, "the counter never stopped")
}

func TestTimeLimits(t *testing.T) {
	idle := fmt.Sprintf("backend = %q", backend(t, func(c net.Conn) { io.Copy(io.Discard, c) }))
	t.Run("handshake-timeout", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), idle, `handshake-timeout = "50ms"`)
		silent, slow := testkit.Dial(t, f.addr()), testkit.Dial(t, f.addr())
		slow.Write([]byte("\x16\x03\x01\x02\x00\x01"))
		io.Copy(io.Discard, silent)
		io.Copy(io.Discard, slow)
		f.logs("handshake-timeout")
	})
	t.Run("idle-timeout", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), idle, `idle-timeout = "100ms"`)
		conn := dialTLS(t, f.addr())
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		f.logs("error=idle-timeout")
		require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.idle }))
	})
	t.Run("command-timeout", func(t *testing.T) {
		for mode, last := range map[string]string{modeIMAP: "* BYE timeout exceeded", modePOP3: "-ERR timeout exceeded", modeSMTP: "421 4.3.2 timeout exceeded"} {
			f := mailRelay(t, mode, idle, `command-timeout = "300ms"`)
			c := f.upgrade()
			c.expect("ready")
			done := make(chan struct{})
			go func() { // sending a byte at a time does not avoid the timeout
				defer close(done)
				for {
					if _, err := c.Write([]byte("x")); err != nil {
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
			c.expect(last)
			c.Close()
			<-done
		}
	})
	t.Run("command-timeout of http", func(t *testing.T) {
		f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), idle, `command-timeout = "50ms"`)
		conn := dialTLS(t, f.addr())
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost:")
		io.ReadAll(conn)
		testkit.Eventually(t, func() bool { return f.count(func(c *counters) value64 { return &c.active }) == 0 }, "the connection is still there")
	})
}

// pipeEnd is one end of a connection in memory.
type pipeEnd struct{ net.Conn }

func (pipeEnd) CloseWrite() error { return nil }

func TestOnlyIdleConnectionsAreIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, far := net.Pipe()
		defer far.Close()
		s := &session{raw: pipeEnd{client}, opened: time.Now(), state: &state{conf: &config.Relay{IdleTimeout: config.Duration(time.Second)}}}
		s.watch()
		for range 10 { // together longer than the limit
			time.Sleep(900 * time.Millisecond)
			synctest.Wait()
			require.False(t, s.expired.Load())
			s.touch()
		}
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		require.False(t, s.expired.Load())
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.True(t, s.expired.Load())
		_, err := client.Write([]byte("x"))
		require.ErrorIs(t, err, io.ErrClosedPipe)
	})
}

func TestNumberLimits(t *testing.T) {
	where := fmt.Sprintf("backend = %q", backend(t, testkit.Echo))
	relay := relayTable(`listen = ["127.0.0.1:0"]`, crt(), where)
	for key, limit := range map[string]string{"max-connections": "max-connections = 2", "max-connections-per-client": "max-connections-per-client = 2"} {
		t.Run(key, func(t *testing.T) {
			f := startAll(t, limit+"\n"+relay)
			one := dialTLS(t, f.addr())
			two := dialTLS(t, f.addr())
			testkit.Exchange(t, one, "x")
			testkit.Exchange(t, two, "x")
			conn, err := net.Dial("tcp", f.addr())
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, 1))
				conn.Close()
			}
			require.Error(t, err)
			f.logs("limit=" + key)
			require.NoError(t, two.CloseWrite())
			io.ReadAll(two)
			two.Close()
			testkit.Eventually(t, func() bool { return f.count(func(c *counters) value64 { return &c.active }) == 1 }, "the slot is not free")
			testkit.Exchange(t, dialTLS(t, f.addr()), "x")
			testkit.Exchange(t, one, "x")
		})
	}
	t.Run("max-handshakes", func(t *testing.T) {
		f := startAll(t, "max-handshakes = 1\n"+relay)
		silent := testkit.Dial(t, f.addr())
		testkit.Eventually(t, func() bool { return f.handshakes.Len() == 1 }, "no handshake began")
		waiting := tls.Client(testkit.Dial(t, f.addr()), clientConfig(t))
		done := make(chan error, 1)
		go func() { done <- waiting.Handshake() }()
		silent.Close()
		require.NoError(t, <-done)
	})
	t.Run("max-handshakes, and no handshake ends", func(t *testing.T) {
		f := startAll(t, "max-handshakes = 1\n"+relay+"handshake-timeout = \"1h\"\n")
		testkit.Dial(t, f.addr())
		testkit.Eventually(t, func() bool { return f.handshakes.Len() == 1 }, "no handshake began")
		testkit.Exchange(t, dialTLS(t, f.addr()), "x")
		f.logs("too slow, and max-handshakes was reached")
	})
}

// A client is served while very many silent connections of one address wait before
// it.
func TestAClientDoesNotQueueBehindSilentConnections(t *testing.T) {
	const silent = 200
	f := startAll(t, "max-handshakes = 2\n"+relayTable(`listen = ["127.0.0.1:0"]`, crt(), `handshake-timeout = "1h"`,
		fmt.Sprintf("backend = %q", backend(t, testkit.Echo))))
	for range silent {
		testkit.Dial(t, f.addr())
	}
	testkit.Eventually(t, func() bool { return f.count(func(c *counters) value64 { return &c.active }) == silent }, "the silent connections were not accepted")
	from := net.Dialer{Timeout: testkit.Patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	raw, err := from.Dial("tcp", f.addr())
	if err != nil {
		peers.SkipUnless(t, "loopback-net", fmt.Sprintf("the address 127.0.0.2 (%v)", err), "this needs the whole network 127.0.0.0/8")
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(testkit.Patience))
	conn := tls.Client(raw, clientConfig(t))
	testkit.Exchange(t, conn, "x")
	require.Less(t, f.count(func(c *counters) value64 { return &c.handshakesFailed }), int64(silent/2), "the client had to wait for the silent ones")
}

// One blocked client does not affect the others, and no goroutine is left over.
func TestNothingIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("all of it", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
		stuck := testkit.Dial(t, f.addr())
		for range 20 {
			conn := dialTLS(t, f.addr())
			testkit.Exchange(t, conn, "x")
			conn.Close()
		}
		stuck.Close()
	})
	testkit.Eventually(t, func() bool { return runtime.NumGoroutine() <= before }, "goroutines are left")
}
