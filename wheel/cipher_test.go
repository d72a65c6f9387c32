package wheel_test

import (
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A Cipher is pushed and popped over a connection while data flow, as TLS is.
func TestCipherAndBack(t *testing.T) {
	sealed := func(client bool) *sslfilter.Cipher {
		c, err := sslfilter.NewCipher(sslfilter.CipherOptions{Client: client, Key: testkit.Bytes(32, 14)})
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		server := start(t, a, nil, func(w *log, rec any) {
			if rec == "ENCRYPT" {
				require.NoError(t, w.Put("go ahead"))
				require.NoError(t, w.Push(sealed(false)))
			}
		})
		cipher := sealed(true)
		client := start(t, b, nil, func(w *log, rec any) {
			if rec == "go ahead" {
				require.NoError(t, w.Push(cipher))
				require.NoError(t, w.Put("secret"))
			}
		})
		require.NoError(t, client.Put("ENCRYPT"))
		synctest.Wait()
		server.want(t, "input ENCRYPT", "flushed", "input secret")
		client.want(t, "flushed", "input go ahead", "flushed")
		require.True(t, cipher.Fresh())

		require.NoError(t, client.Do(func(*filter.Stack) error { return cipher.CloseWrite() }))
		synctest.Wait()
		server.want(t, "read: EOF")
		_, err := server.Pop()
		require.NoError(t, err)
		require.NoError(t, server.Put("in plain text"))
		synctest.Wait()
		client.want(t, "read: EOF")
		_, err = client.Pop()
		require.NoError(t, err)
		synctest.Wait()
		client.want(t, "input in plain text")
	})
}
