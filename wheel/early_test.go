package wheel_test

import (
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/wheel"
)

// Output that was put before the handshake is at its bound, and the wheel must still
// read: only the peer's handshake messages let the output leave.
func TestEarlyPutAtItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		// In TLS 1.2 the client has two flights to read.
		client := start(t, a, stackOf(t, nil, testkit.Filter(t, testkit.Client(testkit.UpTo(sslfilter.VersionTLS12)))), nil)
		block := make([]byte, 1<<20)
		put := 0
		for client.Put(block) == nil {
			put += len(block)
		}
		require.GreaterOrEqual(t, put, wheel.MaxOutput)
		got := 0
		server, err := wheel.New(b, stackOf(t, nil, tlsServer(t)), wheel.Events{
			Input: func(_ *wheel.ReadWrite, rec any) { got += len(rec.([]byte)) },
			Error: func(_ *wheel.ReadWrite, op string, err error) { t.Errorf("%s: %v", op, err) },
		})
		require.NoError(t, err)
		synctest.Wait()
		server.Close()
		server.Wait()
		require.Equal(t, put, got)
	})
}

// A server's Filter may choose its context by the ClientHello.
func TestWheelWithAChoice(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Server())
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		client := start(t, a, stackOf(t, nil, testkit.Filter(t, testkit.Client())), nil)
		require.NoError(t, client.Put([]byte("hello")))
		tls := sslfilter.NewServerFilter(func(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
			if hello.ServerName != "localhost" {
				return nil, nil
			}
			return ctx, nil
		})
		got := ""
		server, err := wheel.New(b, stackOf(t, nil, tls), wheel.Events{
			Input: func(_ *wheel.ReadWrite, rec any) { got += string(rec.([]byte)) },
			Error: func(_ *wheel.ReadWrite, op string, err error) { t.Errorf("%s: %v", op, err) },
		})
		require.NoError(t, err)
		synctest.Wait()
		server.Close()
		server.Wait()
		require.Equal(t, "hello", got)
	})
}
