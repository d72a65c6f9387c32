package sslfilter_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func TestClosingWriteThenRead(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Handshake())
		require.NoError(t, p.Client.Send([]byte("request")))
		require.NoError(t, p.Client.CloseWrite())
		require.NoError(t, p.Client.CloseWrite(), "idempotent")
		require.False(t, p.Client.Flushed())
		p.Transfer()
		require.True(t, p.Client.Flushed())
		require.Equal(t, "request", string(p.Server.Got))
		require.Equal(t, io.EOF, p.Server.Err)
		require.NoError(t, p.Server.Filter.Err(), "close_notify is not a failure")

		var usage *sslfilter.UsageError
		require.ErrorAs(t, p.Client.Send([]byte("too late")), &usage)
		require.NoError(t, p.Server.Send([]byte("answer, after the peer's close_notify")))
		p.Transfer()
		require.Equal(t, "answer, after the peer's close_notify", string(p.Client.Got))
		require.NoError(t, p.Client.Err)
		require.NoError(t, p.Server.CloseWrite())
		p.Transfer()
		require.Equal(t, io.EOF, p.Client.Err)
		require.Equal(t, io.EOF, p.Client.ReceiveEOF())
		require.Equal(t, io.EOF, p.Server.ReceiveEOF())
	})
}

func TestClosingDataBeforeCloseNotify(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Handshake())
		require.NoError(t, p.Client.Send([]byte("last words")))
		require.NoError(t, p.Client.CloseWrite())
		plain, err := p.Server.Receive(nil, p.Client.Outgoing(nil))
		require.Equal(t, io.EOF, err)
		require.Equal(t, "last words", string(plain))
		plain, err = p.Server.Receive(nil, nil)
		require.Equal(t, io.EOF, err, "and again")
		require.Empty(t, plain)
	})
}

func TestClosingBeforeTheHandshake(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Client.Send([]byte("all there is")))
		require.NoError(t, p.Client.CloseWrite())
		require.NoError(t, p.Handshake())
		p.Transfer()
		require.Equal(t, "all there is", string(p.Server.Got))
		require.Equal(t, io.EOF, p.Server.Err)
	})
}

func TestClosingReceiveEOF(t *testing.T) {
	var handled []error
	options := func() (server, client sslfilter.Options) {
		server = testkit.ServerOf("server-ec")
		server.ErrorHandler = func(_ *sslfilter.Filter, err error) { handled = append(handled, err) }
		return server, sslfilter.Options{Client: true, InsecureSkipVerify: true}
	}
	t.Run("cut in the data", func(t *testing.T) {
		handled = nil
		server, client := options()
		p := testkit.NewPair(t, server, client)
		require.NoError(t, p.Handshake())
		require.NoError(t, p.Server.Send([]byte("accepted before the cut")))
		err := p.Server.ReceiveEOF()
		require.Zero(t, truncatedBy(t, err))
		require.Equal(t, err, p.Server.ReceiveEOF())
		require.Equal(t, err, p.Server.Filter.Err())
		require.Equal(t, []error{err}, handled)
		require.True(t, p.Server.HandshakeDone())
		require.Equal(t, err, p.Server.Send([]byte("refused")))
		p.Client.Deliver(p.Server.Outgoing(nil))
		require.Equal(t, "accepted before the cut", string(p.Client.Got))
	})
	t.Run("cut in the handshake", func(t *testing.T) {
		handled = nil
		server, client := options()
		p := testkit.NewPair(t, server, client)
		require.NoError(t, p.Client.Handshake())
		p.Server.Deliver(p.Client.Outgoing(nil)[:20])
		require.Equal(t, sslfilter.TruncatedError{InsideRecord: true, InHandshake: true}, truncatedBy(t, p.Server.ReceiveEOF()))
		require.False(t, p.Server.HandshakeDone())
		require.Len(t, handled, 1)
	})
	t.Run("before anything", func(t *testing.T) {
		server, client := options()
		p := testkit.NewPair(t, server, client)
		require.Equal(t, sslfilter.TruncatedError{InHandshake: true}, truncatedBy(t, p.Server.ReceiveEOF()))
	})
	t.Run("clean", func(t *testing.T) {
		handled = nil
		server, client := options()
		p := testkit.NewPair(t, server, client)
		require.NoError(t, p.Handshake())
		require.NoError(t, p.Client.CloseWrite())
		p.Transfer()
		require.Equal(t, io.EOF, p.Server.ReceiveEOF())
		require.NoError(t, p.Server.Filter.Err())
		require.Empty(t, handled)
	})
}

// A close_notify during the handshake is a failure.
func TestClosingInTheHandshake(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS12))
	require.NoError(t, p.Client.Handshake())
	p.Client.Deliver([]byte{21, 3, 3, 0, 2, 1, 0}) // record: alert, TLS 1.2, warning, close_notify
	var failure *sslfilter.Error
	require.ErrorAs(t, p.Client.Err, &failure)
	require.NotErrorIs(t, p.Client.Err, io.EOF)
	require.Contains(t, failure.Error(), "closed the connection in the handshake")
	require.Same(t, failure, p.Client.Filter.Err())
}

func TestClosingDetach(t *testing.T) {
	testkit.EachPairCut(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Handshake())

		var usage *sslfilter.UsageError
		_, err := p.Server.Detach()
		require.ErrorAs(t, err, &usage, "before the peer's close_notify")
		require.NoError(t, p.Client.Send([]byte("under TLS, ")))
		p.Transfer()

		require.NoError(t, p.Client.Send([]byte("then not")))
		require.NoError(t, p.Client.CloseWrite())
		wire := append(p.Client.Outgoing(nil), "PLAIN WORDS\r\n"...)
		for _, piece := range p.Cut(wire) {
			p.Server.Deliver(piece)
		}
		require.Equal(t, "under TLS, then not", string(p.Server.Got))
		require.Equal(t, io.EOF, p.Server.Err)

		require.NoError(t, p.Server.Send([]byte("queued before Detach")))
		plain, err := p.Server.Detach()
		require.NoError(t, err)
		require.Equal(t, "PLAIN WORDS\r\n", string(plain))
		require.False(t, p.Server.Flushed())
		answer := append(p.Server.Outgoing(nil), "plain answer"...)
		require.True(t, p.Server.Flushed())

		require.ErrorAs(t, p.Server.Send([]byte("x")), &usage)
		_, err = p.Server.Receive(nil, []byte("x"))
		require.ErrorAs(t, err, &usage)
		_, err = p.Server.Detach()
		require.ErrorAs(t, err, &usage)
		require.Empty(t, p.Server.Outgoing(nil))

		for _, piece := range p.Cut(answer) {
			p.Client.Deliver(piece)
		}
		require.Equal(t, "queued before Detach", string(p.Client.Got))
		plain, err = p.Client.Detach()
		require.NoError(t, err)
		require.Equal(t, "plain answer", string(plain))
		require.Empty(t, p.Client.Outgoing(nil), "our close_notify is sent once")
	})
}

func TestClosingTrailingBytesAreBounded(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
	require.NoError(t, p.Handshake())
	require.NoError(t, p.Client.CloseWrite())
	p.Transfer()
	require.True(t, p.Server.EOF())
	full := testkit.Bytes(sslfilter.MaxTrailing, 1)
	_, err := p.Server.Receive(nil, full)
	require.Equal(t, io.EOF, err)
	_, err = p.Server.Receive(nil, []byte("x"))
	require.ErrorIs(t, err, sslfilter.ErrBufferFull)
	plain, err := p.Server.Detach()
	require.NoError(t, err)
	requireSame(t, full, plain)
}

// After our close_notify nothing that OpenSSL produces is sent, here the answer to a key
// update: the peer would read it as plain text.
func TestClosingNothingFollowsCloseNotify(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
	require.NoError(t, p.Handshake())
	require.NoError(t, p.Server.CloseWrite())
	end := p.Server.Outgoing(nil)
	require.NotEmpty(t, end)
	require.NoError(t, p.Client.KeyUpdate(true))
	require.NoError(t, p.Client.Send([]byte("more")))
	p.Server.Deliver(p.Client.Outgoing(nil))
	require.Equal(t, "more", string(p.Server.Got))
	require.Empty(t, p.Server.Outgoing(nil))
	p.Client.Deliver(end)
	require.Equal(t, io.EOF, p.Client.Err)
}

// Nor is the alert of a later failure sent: the peer would read it as plain text, too.
func TestClosingNoAlertFollowsCloseNotify(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Handshake())
		require.NoError(t, p.Server.CloseWrite())
		end := p.Server.Outgoing(nil)
		require.NoError(t, p.Client.Send([]byte("damaged")))
		wire := p.Client.Outgoing(nil)
		wire[len(wire)-1] ^= 1
		p.Server.Deliver(wire)
		require.Error(t, p.Server.Filter.Err())
		require.Empty(t, p.Server.Outgoing(nil))
		p.Client.Deliver(end)
		require.Equal(t, io.EOF, p.Client.Err)
	})
}

func TestClosingCloseIsIdempotent(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
	require.NoError(t, p.Handshake())
	require.NoError(t, p.Server.Send([]byte("never fetched")))
	require.NoError(t, p.Server.Close())
	require.NoError(t, p.Server.Close())
	require.Equal(t, []byte("dst"), p.Server.Outgoing([]byte("dst")))
}
