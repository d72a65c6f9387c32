package filter_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

var (
	_ filter.Filter   = (*sslfilter.Cipher)(nil)
	_ filter.Detacher = (*sslfilter.Cipher)(nil)
	_ filter.Finisher = (*sslfilter.Cipher)(nil)
)

func newCipher(t testing.TB, o sslfilter.CipherOptions) *sslfilter.Cipher {
	t.Helper()
	c, err := sslfilter.NewCipher(o)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func sealed(t testing.TB, client bool) *sslfilter.Cipher {
	t.Helper()
	return newCipher(t, sslfilter.CipherOptions{Client: client, Key: testkit.Bytes(32, 14)})
}

// A Cipher stands alone, below TLS and above it, and both ends speak first.
func TestCipherInAStack(t *testing.T) {
	for name, layers := range map[string]func(client bool) []filter.Filter{
		"alone":     func(client bool) []filter.Filter { return []filter.Filter{sealed(t, client)} },
		"twice":     func(client bool) []filter.Filter { return []filter.Filter{sealed(t, client), sealed(t, client)} },
		"below TLS": func(client bool) []filter.Filter { return []filter.Filter{sealed(t, client), tlsSide(t, client)} },
		"above TLS": func(client bool) []filter.Filter { return []filter.Filter{tlsSide(t, client), sealed(t, client)} },
		"roles crossed": func(client bool) []filter.Filter {
			return []filter.Filter{sealed(t, !client), tlsSide(t, client)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				server, client := newEnd(t, &filter.Line{}, layers(false)...), newEnd(t, &filter.Line{}, layers(true)...)
				send(t, server, "banner")
				send(t, client, "hello")
				transfer(client, server, cut)
				require.Equal(t, []any{"hello"}, server.got)
				require.Equal(t, []any{"banner"}, client.got)
				require.NoError(t, client.CloseWrite())
				require.NoError(t, server.CloseWrite())
				transfer(client, server, cut)
				require.True(t, client.Flushed())
				require.Equal(t, io.EOF, server.err)
				require.Equal(t, io.EOF, client.err)
				require.Equal(t, io.EOF, server.ReceiveEOF())
			})
		})
	}
}

func tlsSide(t testing.TB, client bool) *sslfilter.Filter {
	t.Helper()
	if client {
		return tlsClient(t)
	}
	return tlsServer(t, 0)
}

// A Cipher is pushed at a command, as TLS is with STARTTLS, carries data, is taken off, and
// the connection goes on in plain text and with another Cipher. Injected plain text is
// refused.
func TestCipherIsPushedAndPopped(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		server, client := newEnd(t, &filter.Line{}), newEnd(t, &filter.Line{})
		server.record = func(rec any) {
			if rec == "ENCRYPT" {
				send(t, server, "OK", "go ahead")
				require.NoError(t, server.Push(sealed(t, false)))
				send(t, server, "sealed")
			}
		}
		client.record = func(rec any) {
			if rec == "go ahead" {
				require.NoError(t, client.Push(sealed(t, true)))
				send(t, client, "secret")
			}
		}
		for round := range 3 {
			server.got, client.got = nil, nil
			send(t, client, "ENCRYPT")
			transfer(client, server, cut)
			require.Equal(t, []any{"ENCRYPT", "secret"}, server.got, "round %d", round)
			require.Equal(t, []any{"OK", "go ahead", "sealed"}, client.got)
			for _, e := range []*end{client, server} {
				require.NoError(t, e.Filters()[0].CloseWrite())
			}
			transfer(client, server, cut)
			for _, e := range []*end{client, server} {
				require.Equal(t, io.EOF, e.err)
				f, err := e.Pop()
				require.NoError(t, err)
				require.NoError(t, f.Close())
			}
			send(t, server, "plain")
			transfer(client, server, cut)
			require.Equal(t, "plain", client.got[len(client.got)-1])
		}
	})
	server := newEnd(t, &filter.Line{})
	require.NoError(t, server.Receive([]byte("ENCRYPT\r\nINJECTED\r\n")))
	rec, err := server.Next()
	require.NoError(t, err)
	require.Equal(t, "ENCRYPT", rec)
	require.ErrorAs(t, server.Push(sealed(t, false)), new(*filter.LeftoverError))
}

// The end of the transport completes the last block of CipherEnc, which reaches the codec
// and a filter above.
func TestCipherEncInAStack(t *testing.T) {
	o := sslfilter.CipherOptions{
		Format: sslfilter.CipherEnc, Cipher: "aes-256-cbc", Iterations: 1000,
		Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
	}
	for name, layers := range map[string]func() []filter.Filter{
		"alone": func() []filter.Filter { return []filter.Filter{newCipher(t, o)} },
		"twice": func() []filter.Filter { return []filter.Filter{newCipher(t, o), newCipher(t, o)} },
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				for _, size := range []int{0, 1, 16, 1000} {
					writer, reader := newEnd(t, filter.Stream{}, layers()...), newEnd(t, filter.Stream{}, layers()...)
					data := testkit.Bytes(size, 1)
					send(t, writer, data)
					require.NoError(t, writer.CloseWrite())
					reader.deliver(writer.Outgoing(nil), cut)
					require.NoError(t, reader.err)
					reader.ReceiveEOF()
					reader.take()
					require.Equal(t, io.EOF, reader.err)
					require.True(t, bytes.Equal(data, []byte(reader.text())))
				}
			})
		})
	}
}
