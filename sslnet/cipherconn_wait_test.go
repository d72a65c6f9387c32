package sslnet_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/derive"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// The result of a Write counts what the cipher has accepted, although the wait for the
// client ended early: a caller that continues after it sends nothing twice.
func TestCipherConnWriteCountsWhatIsSent(t *testing.T) {
	rawClient, rawServer := testkit.SocketPair(t)
	client, server := cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
	data := testkit.Bytes(150_000, 1)
	rest := data
	for round := 0; len(rest) > 0; round++ {
		if round < 2 {
			require.NoError(t, server.SetReadDeadline(time.Unix(1, 0)))
		} else {
			require.NoError(t, server.SetReadDeadline(time.Time{}))
			go client.Write([]byte("hello"))
		}
		n, err := server.Write(rest)
		if round < 2 {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		} else {
			require.NoError(t, err)
		}
		rest = rest[n:]
	}
	require.NoError(t, server.CloseWrite())
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, len(data), len(got))
	require.Equal(t, data, got)
}

// A record that a Read owes to the peer is sent although another call was about to end its
// turn to write.
func TestCipherConnSendsTheJoin(t *testing.T) {
	rawClient, rawServer := testkit.SocketPair(t)
	client, server := cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
	sendByte(t, client, server)
	release := client.HoldWriting()
	_, err := server.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(client, make([]byte, 1)) // the client owes its join
	require.NoError(t, err)
	release()
	require.NoError(t, server.SetReadDeadline(time.Now().Add(testkit.Patience)))
	read := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1)) // the client sends no data
		read <- err
	}()
	require.Eventually(t, server.Fresh, testkit.Patience, time.Millisecond)
	require.NoError(t, client.Close())
	require.Equal(t, io.EOF, <-read)
}

// watched tells when bytes have been read from it.
type watched struct {
	net.Conn
	read chan struct{}
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.read <- struct{}{}
	}
	return n, err
}

// inTwo sends the first bytes that are written in two parts. The second part follows when
// the first has been read.
type inTwo struct {
	net.Conn
	read <-chan struct{} // nil after the first Write
}

func (c *inTwo) Write(b []byte) (n int, err error) {
	if c.read != nil {
		if n, err = c.Conn.Write(b[:10]); err != nil {
			return n, err
		}
		<-c.read
		c.read = nil
	}
	rest, err := c.Conn.Write(b[n:])
	return n + rest, err
}

// crowded returns both ends of a connection with a passphrase. The client has sent "hello",
// and the server waits for its turn to derive the key, until release is called. first has the
// error of the server's call that waits: a Read, or, with writes, a Write of "220" that began
// before the client had sent its header, which arrives in two parts.
func crowded(t *testing.T, writes bool) (client net.Conn, server *sslnet.CipherConn, first <-chan error, release func()) {
	t.Helper()
	o := sslfilter.CipherOptions{Client: true, Iterations: sslfilter.MinCipherIterations, Passphrase: func() ([]byte, error) { return []byte("x"), nil }}
	c, err := sslfilter.NewCipher(o)
	require.NoError(t, err)
	o.Client = false
	s, err := sslfilter.NewCipher(o)
	require.NoError(t, err)
	for range derive.Slots() {
		require.True(t, derive.Enter(nil))
	}
	a, b := testkit.SocketPair(t)
	conn := &watched{b, make(chan struct{}, 100)}
	server = sslnet.NewCipherConn(conn, s)
	var rawClient net.Conn = a
	if writes {
		rawClient = &inTwo{a, conn.read}
	}
	client = sslnet.NewCipherConn(rawClient, c)
	t.Cleanup(func() { client.Close() })
	call := func() error {
		_, err := server.Read(make([]byte, 10))
		return err
	}
	if writes {
		call = func() error {
			_, err := server.Write([]byte("220"))
			return err
		}
	}
	result := make(chan error, 1)
	go func() { result <- call() }()
	if writes {
		require.Eventually(t, server.OutputWaits, testkit.Patience, time.Millisecond)
	}
	_, err = client.Write([]byte("hello"))
	require.NoError(t, err)
	<-conn.read
	return client, server, result, func() {
		for range derive.Slots() {
			derive.Leave()
		}
	}
}

// within returns the next value, and fails if there is none.
func within(t *testing.T, result <-chan error) error {
	t.Helper()
	select {
	case err := <-result:
		return err
	case <-time.After(testkit.Patience):
		t.Fatal("still waiting")
		return nil
	}
}

// While a server waits for its turn to derive a key, deadlines end Read and Write, and
// nothing is lost.
func TestCipherConnDeadlineBeforeTheKey(t *testing.T) {
	for name, want := range map[string]string{"read": "answer", "write": "220answer"} {
		t.Run(name, func(t *testing.T) {
			client, server, first, release := crowded(t, name == "write")
			defer server.Close()
			require.False(t, server.Fresh())
			wrote := make(chan error, 1)
			go func() {
				_, err := server.Write([]byte("lost?"))
				wrote <- err
			}()
			require.NoError(t, server.SetDeadline(time.Unix(1, 0)))
			require.ErrorIs(t, within(t, first), os.ErrDeadlineExceeded)
			require.ErrorIs(t, within(t, wrote), os.ErrDeadlineExceeded)
			_, err := server.Read(make([]byte, 10))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, server.SetDeadline(time.Time{}))
			release()
			b := make([]byte, 10)
			n, err := server.Read(b)
			require.NoError(t, err)
			require.Equal(t, "hello", string(b[:n]))
			_, err = server.Write([]byte("answer"))
			require.NoError(t, err)
			require.NoError(t, server.CloseWrite())
			answer, err := io.ReadAll(client)
			require.NoError(t, err)
			require.Equal(t, want, string(answer))
		})
	}
}

// Close ends the wait for the key, and everything that waits with it.
func TestCipherConnCloseBeforeTheKey(t *testing.T) {
	for name, writes := range map[string]bool{"read": false, "write": true} {
		t.Run(name, func(t *testing.T) {
			_, server, first, release := crowded(t, writes)
			wrote, closed := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := server.Write([]byte("x"))
				wrote <- err
			}()
			go func() { closed <- server.Close() }()
			require.NoError(t, within(t, closed))
			require.ErrorIs(t, within(t, first), net.ErrClosed)
			require.ErrorIs(t, within(t, wrote), net.ErrClosed)
			_, err := server.Read(make([]byte, 1))
			require.ErrorIs(t, err, net.ErrClosed)
			release()
			for range derive.Slots() { // none is taken by the connection
				require.True(t, derive.Enter(nil))
			}
			release()
		})
	}
}
