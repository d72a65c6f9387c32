package filter_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// xor is a filter without a handshake. It changes each byte, and can turn one byte
// of input into many.
type xor struct {
	key    byte
	times  int // 0 is 1
	limit  int // of out; 0 means no bound
	hold   bool
	out    []byte
	closed bool
	err    error
}

func (x *xor) Receive(dst, wire []byte) ([]byte, error) {
	for _, b := range wire {
		dst = append(dst, bytes.Repeat([]byte{b ^ x.key}, max(x.times, 1))...)
	}
	return dst, x.err
}

func (x *xor) Send(plain []byte) error {
	if x.err != nil {
		return x.err
	}
	if x.limit > 0 && len(x.out)+len(plain) > x.limit {
		return errors.New("full")
	}
	for _, b := range plain {
		x.out = append(x.out, b^x.key)
	}
	return nil
}

func (x *xor) Outgoing(dst []byte) []byte {
	if x.hold {
		return dst
	}
	dst = append(dst, x.out...)
	x.out = nil
	return dst
}

func (x *xor) ReceiveEOF() error { return io.EOF }
func (x *xor) CloseWrite() error { x.closed = true; return nil }
func (x *xor) Flushed() bool     { return len(x.out) == 0 }
func (x *xor) Err() error        { return x.err }
func (x *xor) Close() error      { return nil }

// A filter that is not TLS, over and under TLS, pushed and popped while data flow.
func TestOtherFilters(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		server := newEnd(t, &filter.Line{}, &xor{key: 1}, tlsServer(t, 0), &xor{key: 2})
		client := newEnd(t, &filter.Line{}, &xor{key: 1}, tlsClient(t), &xor{key: 2})
		send(t, client, "one")
		transfer(client, server, cut)
		for _, e := range []*end{server, client} {
			old, err := e.Replace(2, &xor{key: 3})
			require.NoError(t, err)
			require.Equal(t, byte(2), old.(*xor).key)
		}
		send(t, client, "two")
		transfer(client, server, cut)
		for _, e := range []*end{server, client} {
			_, err := e.Remove(0)
			require.NoError(t, err)
			require.NoError(t, e.Insert(1, &xor{key: 4}))
		}
		send(t, client, "three")
		transfer(client, server, cut)
		require.Equal(t, []any{"one", "two", "three"}, server.got)

		require.NoError(t, client.CloseWrite())
		transfer(client, server, cut)
		require.Equal(t, io.EOF, server.Filters()[0].(interface{ ReceiveEOF() error }).ReceiveEOF(), "close_notify came")
		require.True(t, client.Filters()[1].(*xor).closed)
		require.True(t, client.Flushed())
	})
}

func TestPopRefusesAFilterThatHoldsOutput(t *testing.T) {
	x := &xor{hold: true}
	e := newEnd(t, nil, x)
	send(t, e, "held")
	_, err := e.Pop()
	require.Error(t, err)
	require.Equal(t, 4, e.Waiting())
	x.hold = false
	require.Equal(t, "held", string(e.Outgoing(nil)))
	_, err = e.Pop()
	require.NoError(t, err)
	require.Zero(t, e.Waiting())
}

func TestBoundOfFiltersThatExpandTheirInput(t *testing.T) {
	e := newEnd(t, nil, &xor{times: filter.MaxUnread + 2<<20})
	err := e.Receive([]byte("x"))
	require.ErrorIs(t, err, filter.ErrBufferFull)
	require.Equal(t, err, e.Err())
}

// A record may be larger than the data that a filter accepts at once.
func TestRecordLargerThanAFilterHolds(t *testing.T) {
	x := &xor{limit: 1 << 20}
	e := newEnd(t, nil, x)
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
	x.hold = true
	send(t, e, big)
	require.Empty(t, e.Outgoing(nil))
	require.Equal(t, len(big), e.Waiting())
	send(t, e, "and more")
	require.Error(t, e.Push(&xor{}), "what was sent before must not go through it")
	_, err := e.Pop()
	require.Error(t, err)
	x.hold = false
	require.True(t, bytes.Equal(append(big, "and more"...), e.Outgoing(nil)))
	require.True(t, e.Flushed())

	x.limit = 1
	require.Error(t, e.Send("no part of it is kept"))
	require.Zero(t, e.Waiting())
	require.NoError(t, e.Err())
}

func TestErrorOfALowerFilter(t *testing.T) {
	low := &xor{}
	e := newEnd(t, nil, low, &xor{})
	low.err = errors.New("broken")
	send(t, e, "x") // the top takes it
	require.Empty(t, e.Outgoing(nil))
	require.Equal(t, low.err, e.Err())
	require.Equal(t, low.err, e.Send("y"))
}
