package sslnet_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// announced tells when a Read of it begins.
type announced struct {
	net.Conn
	begins chan struct{}
}

func (a *announced) Read(b []byte) (int, error) {
	select {
	case a.begins <- struct{}{}:
	default:
	}
	return a.Conn.Read(b)
}

// A Write or CloseWrite returns an error if its data was dropped because the peer is not
// the client or has gone, even if a Read was the first to notice it.
func TestCipherConnReportsDroppedData(t *testing.T) {
	other, err := sslfilter.NewCipher(sslfilter.CipherOptions{Client: true, Key: testkit.Bytes(32, 15)})
	require.NoError(t, err)
	defer other.Close()
	otherKey, err := other.SendOutgoing(nil, []byte("hello"))
	require.NoError(t, err)
	peers := map[string]func(peer net.Conn, server *sslnet.CipherConn){
		"stranger":  func(peer net.Conn, _ *sslnet.CipherConn) { peer.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		"other key": func(peer net.Conn, _ *sslnet.CipherConn) { peer.Write(otherKey) },
		"cut":       func(peer net.Conn, _ *sslnet.CipherConn) { peer.(*net.TCPConn).CloseWrite() },
		"closed":    func(_ net.Conn, server *sslnet.CipherConn) { server.Close() },
	}
	calls := map[string]func(*sslnet.CipherConn) error{
		"Write": func(c *sslnet.CipherConn) error {
			n, err := c.Write([]byte("220"))
			if n != 3 {
				return nil
			}
			return err
		},
		"CloseWrite": (*sslnet.CipherConn).CloseWrite,
	}
	for peer, acts := range peers {
		for name, call := range calls {
			t.Run(peer+"/"+name, func(t *testing.T) {
				raw, rawServer := testkit.SocketPair(t)
				conn := &announced{rawServer, make(chan struct{}, 1)}
				server := cipherConn(t, conn, false)
				read, called := make(chan error, 1), make(chan error, 1)
				go func() {
					_, err := server.Read(make([]byte, 10))
					read <- err
				}()
				<-conn.begins
				go func() { called <- call(server) }()
				require.Eventually(t, server.OutputWaits, testkit.Patience, time.Millisecond)
				acts(raw, server)
				require.Error(t, within(t, read))
				require.Error(t, within(t, called))
			})
		}
	}
}

// A client that ends its stream at once, or cuts it after its first record, still receives
// what the server sends.
func TestCipherConnAnswersAfterTheEnd(t *testing.T) {
	ends := map[string]func(client *sslnet.CipherConn, raw net.Conn) error{
		"end": func(client *sslnet.CipherConn, raw net.Conn) error { return client.CloseWrite() },
		"cut": func(client *sslnet.CipherConn, raw net.Conn) error {
			_, err := client.Write(nil)
			if err == nil {
				err = raw.(*net.TCPConn).CloseWrite()
			}
			return err
		},
	}
	for name, end := range ends {
		for _, answer := range []string{"answer", ""} {
			if name == "cut" && answer == "" {
				continue // then CloseWrite reports the cut
			}
			t.Run(name+" "+answer, func(t *testing.T) {
				rawClient, rawServer := testkit.SocketPair(t)
				client, server := cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
				require.NoError(t, end(client, rawClient))
				if answer != "" {
					n, err := server.Write([]byte(answer))
					require.NoError(t, err)
					require.Equal(t, len(answer), n)
				}
				require.NoError(t, client.SetReadDeadline(time.Now().Add(testkit.Patience)))
				got := make([]byte, len(answer))
				_, err := io.ReadFull(client, got)
				require.NoError(t, err)
				require.Equal(t, answer, string(got))
				if name == "cut" {
					return
				}
				require.NoError(t, server.CloseWrite())
				_, err = client.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err)
				_, err = rawClient.Read(make([]byte, 1)) // the transport has ended too
				require.Equal(t, io.EOF, err)
				_, err = server.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err)
			})
		}
	}
}

// The write deadline ends a Write that waits for the client's first record, whether the
// Write reads or another goroutine does. Nothing is lost.
func TestCipherConnWriteDeadlineBeforeTheClient(t *testing.T) {
	for name, reads := range map[string]bool{"alone": false, "beside a Read": true} {
		t.Run(name, func(t *testing.T) {
			rawClient, rawServer := testkit.SocketPair(t)
			conn := &announced{rawServer, make(chan struct{}, 1)}
			client, server := cipherConn(t, rawClient, true), cipherConn(t, conn, false)
			b := make([]byte, 10)
			read, wrote := make(chan error, 1), make(chan error, 1)
			if reads {
				go func() {
					_, err := io.ReadFull(server, b[:5])
					read <- err
				}()
				<-conn.begins
			}
			go func() {
				_, err := server.Write([]byte("220"))
				wrote <- err
			}()
			if !reads {
				<-conn.begins
			}
			require.Eventually(t, server.OutputWaits, testkit.Patience, time.Millisecond)
			require.NoError(t, server.SetWriteDeadline(time.Unix(1, 0)))
			require.ErrorIs(t, within(t, wrote), os.ErrDeadlineExceeded)
			require.NoError(t, server.SetWriteDeadline(time.Time{}))
			if !reads {
				require.NoError(t, server.SetReadDeadline(time.Unix(1, 0)))
				_, err := server.Read(b)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.NoError(t, server.SetReadDeadline(time.Time{}))
				go func() {
					_, err := io.ReadFull(server, b[:5])
					read <- err
				}()
			}
			_, err := client.Write([]byte("hello"))
			require.NoError(t, err)
			require.NoError(t, within(t, read))
			require.Equal(t, "hello", string(b[:5]))
			_, err = server.Write([]byte(" ready"))
			require.NoError(t, err)
			require.NoError(t, server.CloseWrite())
			got, err := io.ReadAll(client)
			require.NoError(t, err)
			require.Equal(t, "220 ready", string(got))
		})
	}
}

// After many Writes of a server have timed out, the next Write reads the client's record
// and does not fail because the buffer is full.
func TestCipherConnWritesThatTimedOut(t *testing.T) {
	rawClient, rawServer := testkit.SocketPair(t)
	client, server := cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
	chunk := testkit.Bytes(64<<10, 1)
	accepted := 0
	require.NoError(t, server.SetReadDeadline(time.Unix(1, 0)))
	for range sslfilter.MaxPlaintext / len(chunk) {
		n, err := server.Write(chunk)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		accepted += n
	}
	require.NoError(t, server.SetReadDeadline(time.Time{}))
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	wrote := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("x"))
		server.CloseWrite()
		wrote <- err
	}()
	got, err := io.ReadAll(client)
	require.NoError(t, within(t, wrote))
	require.NoError(t, err)
	require.Len(t, got, accepted+1)
}

// Close sends the end of a client's stream even while a Read receives the server's first
// record.
func TestCipherConnCloseBesideTheFirstRecord(t *testing.T) {
	rawClient, rawServer := testkit.SocketPair(t)
	client, server := cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	release := client.HoldCipher()
	closed := make(chan error, 1)
	go func() { closed <- client.Close() }()
	<-client.Closing()
	for range 100 { // if Close did not wait for the cipher, it would return now
		runtime.Gosched()
	}
	release()
	require.NoError(t, within(t, closed))
	got, err := io.ReadAll(server)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
}
