package sslnet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// cipherConn makes the end of a connection with a static key.
func cipherConn(t testing.TB, conn net.Conn, client bool) *sslnet.CipherConn {
	t.Helper()
	c, err := sslfilter.NewCipher(sslfilter.CipherOptions{Client: client, Key: testkit.Bytes(32, 14)})
	require.NoError(t, err)
	cc := sslnet.NewCipherConn(conn, c)
	t.Cleanup(func() { cc.Close() })
	return cc
}

// sendByte sends a byte.
func sendByte(t testing.TB, from, to net.Conn) {
	t.Helper()
	_, err := from.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(to, make([]byte, 1))
	require.NoError(t, err)
}

// CipherConn behaves as a net.Conn should, over TCP and over a pipe, as client and as
// server.
func TestCipherConnNettest(t *testing.T) {
	for name, clientFirst := range map[string]bool{"client": true, "server": false} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				client, server := testkit.SocketPair(t)
				c1, c2 = cipherConn(t, client, true), cipherConn(t, server, false)
				sendByte(t, c1, c2) // a client cannot read if it cannot write, as in a handshake
				sendByte(t, c2, c1)
				if !clientFirst {
					c1, c2 = c2, c1
				}
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
		})
	}
}

// Both sides send much at the same time. A server that only writes, and a client that only
// reads, exchange their headers too.
func TestCipherConnBothDirections(t *testing.T) {
	rawClient, rawServer := testkit.SocketPair(t)
	client, server := cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
	data := testkit.Bytes(5<<20, 1)
	errs := make(chan error, 2)
	for _, c := range []*sslnet.CipherConn{client, server} {
		go func() {
			_, err := c.Write(data)
			if err == nil {
				err = c.CloseWrite()
			}
			errs <- err
		}()
	}
	for _, c := range []*sslnet.CipherConn{server, client} {
		got := make(chan []byte)
		go func() {
			b, err := io.ReadAll(c)
			if err != nil {
				b = []byte(err.Error())
			}
			got <- b
		}()
		defer func() { require.True(t, bytes.Equal(data, <-got)) }()
	}
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)

	rawClient, rawServer = testkit.SocketPair(t)
	client, server = cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
	go func() {
		server.Write([]byte("220 ready\r\n"))
		server.Close()
	}()
	greeting, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "220 ready\r\n", string(greeting))
	require.True(t, client.Fresh())
}

// A server that reads and writes at the same time speaks first, and its stream has an end
// although the client has sent no data.
func TestCipherConnServerSpeaksFirst(t *testing.T) {
	rawClient, rawServer := testkit.SocketPair(t)
	client, server := cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(server)
		read <- err
	}()
	wrote := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("220 ready\r\n"))
		wrote <- errors.Join(err, server.CloseWrite())
	}()
	require.NoError(t, client.SetReadDeadline(time.Now().Add(testkit.Patience)))
	greeting, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "220 ready\r\n", string(greeting))
	require.NoError(t, <-wrote)
	require.NoError(t, client.Close())
	require.NoError(t, <-read)

	rawClient, rawServer = testkit.SocketPair(t)
	client, server = cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
	go func() { wrote <- server.CloseWrite() }() // before the client's first record
	require.NoError(t, client.SetReadDeadline(time.Now().Add(testkit.Patience)))
	nothing, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Empty(t, nothing)
	require.NoError(t, <-wrote)
}

// A connection that is cut is not an end, and a stranger is not answered.
func TestCipherConnErrors(t *testing.T) {
	rawClient, rawServer := testkit.SocketPair(t)
	client, server := cipherConn(t, rawClient, true), cipherConn(t, rawServer, false)
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	b := make([]byte, 10)
	n, err := server.Read(b)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))
	require.NoError(t, rawClient.CloseWrite()) // Close would reset the connection if the server's header is unread
	_, err = io.ReadAll(server)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	stranger, rawServer := testkit.SocketPair(t)
	server = cipherConn(t, rawServer, false)
	go stranger.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	_, err = server.Write([]byte("220 ready\r\n"))
	require.ErrorContains(t, err, "not a sealed stream")
	require.NoError(t, server.Close())
	got, _ := io.ReadAll(stranger)
	require.Empty(t, got)
	_, err = server.Read(b)
	require.Error(t, err)
}
