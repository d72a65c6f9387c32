package filter_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// messages of different sizes, two of which are larger than a TLS record.
func messages() (sent []any, got []any) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 2500) // 40,000 bytes
	sent = []any{"<a/>", []byte("<b/>"), "x", large, "", strings.Repeat("y", 16384), "<c/>"}
	got = []any{
		[]byte("<a/>"), []byte("<b/>"), []byte("x"), large[:16384], large[16384:32768], large[32768:],
		[]byte(strings.Repeat("y", 16384)), []byte("<c/>"),
	}
	return sent, got
}

func TestRecords(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			server := newEnd(t, filter.Records{}, tlsServer(t, v))
			client := newEnd(t, filter.Records{}, tlsClient(t))
			sent, want := messages()
			send(t, client, sent...) // before the handshake
			send(t, server, sent...)
			require.False(t, client.Flushed())
			require.NotZero(t, client.Waiting())
			transfer(client, server, cut)
			require.Equal(t, want, server.got)
			require.Equal(t, want, client.got)
			require.True(t, client.Flushed())
			require.Zero(t, client.Waiting())
			require.Zero(t, server.Unread())

			client.got, server.got = nil, nil
			send(t, client, sent...) // after it, in one Outgoing
			require.NoError(t, client.CloseWrite())
			transfer(client, server, cut)
			require.Equal(t, want, server.got)
			require.Equal(t, io.EOF, server.err)
			send(t, server, sent...)
			transfer(client, server, cut)
			require.Equal(t, want, client.got)
		})
	})
}

// A stack that calls CloseWrite before the handshake still sends its records first.
func TestRecordsBeforeAnEarlyClose(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		server, client := newEnd(t, filter.Records{}, tlsServer(t, v)), newEnd(t, filter.Records{}, tlsClient(t))
		send(t, client, "one", "two")
		require.NoError(t, client.CloseWrite())
		transfer(client, server, testkit.Whole)
		require.Equal(t, []any{[]byte("one"), []byte("two")}, server.got)
		require.Equal(t, io.EOF, server.err)
	})
}

// Without TLS, the bytes of one call of Receive are a record.
func TestRecordsWithoutTLS(t *testing.T) {
	e := newEnd(t, filter.Records{})
	require.NoError(t, e.Receive([]byte("one")))
	require.NoError(t, e.Receive([]byte("two")))
	e.take()
	require.Equal(t, []any{[]byte("one"), []byte("two")}, e.got)
	send(t, e, "three", []byte("four"))
	require.Equal(t, "threefour", string(e.Outgoing(nil)))
	require.ErrorContains(t, e.Send(3), "filter: Records: cannot send a int")

	e = newEnd(t, filter.Records{}, &xor{key: 1})
	require.NoError(t, e.Receive([]byte("`")))
	require.NoError(t, e.Receive([]byte("c")))
	e.take()
	require.Equal(t, []any{[]byte("a"), []byte("b")}, e.got)
}

// If TLS runs inside TLS, the records are those of the inner TLS.
func TestRecordsOfTheTopFilter(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		server := newEnd(t, filter.Records{}, tlsServer(t, sslfilter.VersionTLS13), tlsServer(t, sslfilter.VersionTLS12))
		client := newEnd(t, filter.Records{}, tlsClient(t), tlsClient(t))
		sent, want := messages()
		send(t, client, sent...)
		transfer(client, server, cut)
		require.Equal(t, want, server.got)
	})
}

// Records that replaces another codec in the middle of a TLS record returns the rest
// of that record, and then whole records.
func TestRecordsFromTheMiddle(t *testing.T) {
	server, client := newEnd(t, filter.Stream{}, tlsServer(t, sslfilter.VersionTLS13)), newEnd(t, filter.Stream{}, tlsClient(t))
	transfer(client, server, testkit.Whole)
	send(t, client, "a stream")
	wire := client.Outgoing(nil)
	require.NoError(t, client.SetEncoder(filter.Records{}))
	send(t, client, "one", "two")
	wire = client.Outgoing(wire)
	require.NoError(t, server.Receive(wire[:7]))
	require.NoError(t, server.SetDecoder(filter.Records{}))
	server.deliver(wire[7:], testkit.Size(3))
	require.Equal(t, []any{[]byte("a stream"), []byte("one"), []byte("two")}, server.got)

	send(t, client, "three", "four")
	require.NoError(t, server.Receive(client.Outgoing(nil)))
	require.NoError(t, server.SetDecoder(filter.Stream{}))
	server.got = nil
	server.take()
	require.Equal(t, []any{[]byte("threefour")}, server.got, "Stream has no records")
}

// If another codec replaces Records, its data is sent after that of Records, even if
// both were given to the Stack before the handshake.
func TestRecordsKeepTheOrder(t *testing.T) {
	server, client := newEnd(t, filter.Records{}, tlsServer(t, sslfilter.VersionTLS13)), newEnd(t, filter.Records{}, tlsClient(t))
	send(t, client, "one", "two")
	require.NoError(t, client.SetEncoder(&filter.Line{}))
	send(t, client, "three")
	_, err := client.Pop()
	require.ErrorContains(t, err, "wait for a handshake")
	transfer(client, server, testkit.Whole)
	require.Equal(t, []any{[]byte("one"), []byte("two"), []byte("three\r\n")}, server.got)
}
