//go:build unix

package socket_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/socket"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// counting is a pool that counts the buffers that are taken from it.
type counting struct{ taken int }

func (p *counting) Get() []byte {
	p.taken++
	return make([]byte, 4)
}

func (p *counting) Put([]byte) { p.taken-- }

// A Reader returns the data in order, then io.EOF. It holds no buffer after a timeout
// or at the end.
func TestRead(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "socket")
			}
			l, err := net.Listen(network, addr)
			require.NoError(t, err)
			defer l.Close()
			peer, err := net.Dial(network, l.Addr().String())
			require.NoError(t, err)
			defer peer.Close()
			conn, err := l.Accept()
			require.NoError(t, err)
			defer conn.Close()
			pool := new(counting)
			r := socket.New(conn, pool)
			require.NotNil(t, r)

			require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			data, err := r.Read()
			require.Nil(t, data)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Zero(t, pool.taken)

			require.NoError(t, conn.SetReadDeadline(time.Time{}))
			const text = "more than one buffer"
			go func() {
				io.WriteString(peer, text)
				peer.Close()
			}()
			var got strings.Builder
			for {
				data, err = r.Read()
				if err != nil {
					break
				}
				got.Write(data)
				pool.Put(data)
			}
			require.Equal(t, io.EOF, err)
			require.Nil(t, data)
			require.Equal(t, text, got.String())
			require.Zero(t, pool.taken)
		})
	}
}

func TestDiscard(t *testing.T) {
	peer, conn := testkit.SocketPair(t)
	pool := new(counting)
	r := socket.New(conn, pool)
	r.Discard() // there is nothing yet, and Discard does not wait
	testkit.Say(t, peer, "012345678")
	data, err := r.Read()
	require.NoError(t, err)
	require.Equal(t, "0123", string(data))
	pool.Put(data)
	r.Discard()
	data, err = r.Read()
	require.NoError(t, err)
	require.Equal(t, "8", string(data))
	pool.Put(data)
	require.Zero(t, pool.taken)
}

// New returns nil for a connection that is not a stream, and for a type that may have a
// Read method of its own.
func TestOtherConnections(t *testing.T) {
	pool := new(counting)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	require.Nil(t, socket.New(a, pool))
	tcp := testkit.Dial(t, testkit.Listen(t).Addr().String())
	require.Nil(t, socket.New(struct{ net.Conn }{tcp}, pool))
	datagrams, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "socket"), Net: "unixgram"})
	require.NoError(t, err)
	defer datagrams.Close()
	require.Nil(t, socket.New(datagrams, pool))
}
