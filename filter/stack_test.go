package filter_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func TestStackWithoutFilters(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		e := newEnd(t, nil)
		send(t, e, "to the ", []byte("network"))
		require.Equal(t, 14, e.Waiting())
		require.False(t, e.Flushed())
		require.Equal(t, "> to the network", string(e.Outgoing([]byte("> "))))
		require.True(t, e.Flushed())
		require.Zero(t, e.Waiting())
		require.Empty(t, e.Outgoing(nil))
		e.deliver([]byte("from the network"), cut)
		require.Equal(t, "from the network", e.text())
		require.NoError(t, e.err)
		require.Equal(t, io.EOF, e.ReceiveEOF())
		_, err := e.Next()
		require.Equal(t, io.EOF, err)
	})
}

// Data before the handshake, banners and replies, in both directions. In the
// original, data that arrives with the last flight bypasses the upper filters
// in TLS 1.3, and on a client also in TLS 1.2.
func TestLinesOverTLS(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			server := newEnd(t, &filter.Line{}, tlsServer(t, v))
			client := newEnd(t, &filter.Line{}, tlsClient(t))
			send(t, server, "banner", "0")
			send(t, client, "early", "", "0")
			require.False(t, client.Flushed())
			require.Equal(t, len("early\r\n\r\n0\r\n"), client.Waiting())
			transfer(client, server, cut)
			require.True(t, client.Flushed())
			require.Zero(t, client.Waiting())
			send(t, client, "late")
			transfer(client, server, cut)
			require.Equal(t, []any{"early", "", "0", "late"}, server.got)
			require.Equal(t, []any{"banner", "0"}, client.got)

			require.NoError(t, client.CloseWrite())
			require.Error(t, client.Send("x"))
			transfer(client, server, cut)
			require.Equal(t, io.EOF, server.err)
			send(t, server, "the way back is open")
			require.NoError(t, server.CloseWrite())
			transfer(client, server, cut)
			require.Equal(t, "the way back is open", client.got[2])
			require.Equal(t, io.EOF, client.err)
			require.Equal(t, io.EOF, client.ReceiveEOF())
			require.True(t, server.Flushed())
		})
	})
}

// One delivery has the whole flight and the data after it.
func TestDataWithTheLastFlightPassesEveryFilter(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		server := newEnd(t, &filter.Line{}, tlsServer(t, v))
		client := newEnd(t, &filter.Line{}, tlsClient(t))
		send(t, client, "one", "two")
		server.deliver(client.Outgoing(nil), testkit.Whole)
		client.deliver(server.Outgoing(nil), testkit.Whole)
		flight := client.Outgoing(nil)
		if v == sslfilter.VersionTLS12 { // the client finishes one flight later
			server.deliver(flight, testkit.Whole)
			send(t, server, "with the last flight")
			client.deliver(server.Outgoing(nil), testkit.Whole)
			require.Equal(t, []any{"with the last flight"}, client.got)
			flight = client.Outgoing(nil)
		}
		require.Empty(t, server.got)
		server.deliver(flight, testkit.Whole)
		require.Equal(t, []any{"one", "two"}, server.got)
	})
}

func TestCutConnection(t *testing.T) {
	for name, test := range map[string]struct {
		sent  string
		close bool
		want  error
	}{
		"no close_notify":                      {"a\n", false, io.ErrUnexpectedEOF},
		"close_notify":                         {"a\n", true, io.EOF},
		"close_notify in the middle of a line": {"a\nb", true, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			server := newEnd(t, &filter.Line{}, tlsServer(t, 0))
			client := newEnd(t, nil, tlsClient(t))
			send(t, client, test.sent)
			if test.close {
				require.NoError(t, client.CloseWrite())
			}
			transfer(client, server, testkit.Whole)
			require.ErrorIs(t, server.ReceiveEOF(), test.want)
			require.ErrorIs(t, server.ReceiveEOF(), test.want)
			server.take()
			require.ErrorIs(t, server.err, test.want)
			require.Equal(t, []any{"a"}, server.got)
		})
	}
}

// Data that was sent before the input was cut can still leave.
func TestOutputAfterACutInput(t *testing.T) {
	server, client := newEnd(t, nil, tlsServer(t, 0)), newEnd(t, nil, tlsClient(t))
	transfer(client, server, testkit.Whole)
	send(t, server, "goodbye")
	require.ErrorIs(t, server.ReceiveEOF(), io.ErrUnexpectedEOF)
	transfer(client, server, testkit.Whole)
	require.Equal(t, "goodbye", client.text())
	require.Error(t, server.Send("more"))
}

// The records before the failure come out, then the error, and the alert leaves.
func TestFatalErrorInTheMiddle(t *testing.T) {
	server, client := newEnd(t, &filter.Line{}, tlsServer(t, 0)), newEnd(t, &filter.Line{}, tlsClient(t))
	transfer(client, server, testkit.Whole)
	send(t, client, "good")
	wire := client.Outgoing(nil)
	send(t, client, "bad")
	bad := client.Outgoing(nil)
	bad[len(bad)-1] ^= 1
	err := server.Receive(append(wire, bad...))
	require.Error(t, err)
	server.take()
	require.Equal(t, []any{"good"}, server.got)
	require.Equal(t, err, server.err)
	require.Equal(t, err, server.Err())
	require.Equal(t, err, server.Receive([]byte("x")))
	require.Equal(t, err, server.Send("x"))
	require.Equal(t, err, server.ReceiveEOF())
	require.Equal(t, err, server.CloseWrite())
	require.Equal(t, err, server.Push(tlsServer(t, 0)))

	client.deliver(server.Outgoing(nil), testkit.Whole)
	var alert sslfilter.AlertError
	require.ErrorAs(t, client.err, &alert)
	require.Equal(t, sslfilter.AlertError(20), alert) // bad_record_mac
}

func TestBoundOfUnreadRecords(t *testing.T) {
	e := newEnd(t, nil)
	require.NoError(t, e.Receive(make([]byte, filter.MaxUnread-1)))
	require.ErrorIs(t, e.Receive([]byte("xy")), filter.ErrBufferFull)
	require.NoError(t, e.Err())
	require.Equal(t, filter.MaxUnread-1, e.Unread(), "nothing was taken")
	e.take()
	require.Len(t, e.got[0], filter.MaxUnread-1)
	e.deliver([]byte("xy"), testkit.Whole)
	require.Equal(t, "xy", string(e.got[1].([]byte)), "and it goes on")
}

func TestBoundOfWaitingOutput(t *testing.T) {
	for name, filters := range map[string][]filter.Filter{"plain": nil, "in a handshake": {tlsClient(t)}} {
		t.Run(name, func(t *testing.T) {
			e := newEnd(t, nil, filters...)
			send(t, e, make([]byte, filter.MaxWaiting-1), "x")
			require.ErrorIs(t, e.Send("y"), filter.ErrBufferFull)
			require.NoError(t, e.Err())
			require.Equal(t, filter.MaxWaiting, e.Waiting())
		})
	}
}

func TestClosedStack(t *testing.T) {
	e := newEnd(t, nil, tlsClient(t))
	require.NoError(t, e.Close())
	require.NoError(t, e.Close())
	require.Equal(t, filter.ErrClosed, e.Receive(nil))
	require.Equal(t, filter.ErrClosed, e.ReceiveEOF())
	require.Equal(t, filter.ErrClosed, e.Send("x"))
	require.Equal(t, filter.ErrClosed, e.CloseWrite())
	require.Equal(t, filter.ErrClosed, e.Push(tlsClient(t)))
	require.Equal(t, filter.ErrClosed, e.SetCodec(filter.Stream{}))
	_, err := e.Next()
	require.Equal(t, filter.ErrClosed, err)
	_, err = e.Pop()
	require.Equal(t, filter.ErrClosed, err)
	require.Empty(t, e.Outgoing(nil))
	require.True(t, e.Flushed())
	require.Zero(t, e.Unread())
}
