package sslfilter_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// eachRole runs f for both versions, and for a client and a server with changed options.
// join makes a new pair: b is the side with the changed options, a the other one.
func eachRole(t *testing.T, change func(*sslfilter.Options), f func(t *testing.T, join func() (p *testkit.Pair, a, b *testkit.Side))) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		server := testkit.Server(func(o *sslfilter.Options) { o.Crt, o.Key = testkit.PKI("server-ec.crt"), testkit.PKI("server-ec.key") })
		client := testkit.Client(testkit.UpTo(v))
		for _, role := range []string{"client", "server"} {
			t.Run(role, func(t *testing.T) {
				o := map[string]sslfilter.Options{"client": client, "server": server}
				o[role] = testkit.With(o[role], change)
				of := map[string]*sslfilter.Ctx{"client": testkit.Ctx(t, o["client"]), "server": testkit.Ctx(t, o["server"])}
				f(t, func() (p *testkit.Pair, a, b *testkit.Side) {
					p = testkit.PairOf(t, of["server"], of["client"])
					if role == "client" {
						return p, &p.Server, &p.Client
					}
					return p, &p.Client, &p.Server
				})
			})
		}
	})
}

func allowMissingEnd(o *sslfilter.Options) { o.AllowMissingCloseNotify = true }

// truncatedBy returns the *TruncatedError in err.
func truncatedBy(t testing.TB, err error) sslfilter.TruncatedError {
	t.Helper()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotErrorIs(t, err, io.EOF)
	return *testkit.As[*sslfilter.TruncatedError](t, err)
}

// The transport may end after any byte. TruncatedError reports whether it ended inside a
// record, and AllowMissingCloseNotify accepts only an end between two records.
func TestClosingTruncation(t *testing.T) {
	for _, allow := range []bool{false, true} {
		t.Run(fmt.Sprintf("allow %v", allow), func(t *testing.T) {
			eachRole(t, func(o *sslfilter.Options) { o.AllowMissingCloseNotify = allow }, func(t *testing.T, join func() (p *testkit.Pair, a, b *testkit.Side)) {
				for cut := 0; ; cut++ {
					p, a, b := join()
					require.NoError(t, p.Handshake())
					require.NoError(t, a.Send([]byte("1")))
					one := a.Outgoing(nil)
					require.NoError(t, a.Send(make([]byte, 40)))
					wire := a.Outgoing(one)
					inside := cut != 0 && cut != len(one) && cut != len(wire)
					b.Deliver(wire[:cut])
					err := b.ReceiveEOF()
					require.Equal(t, err, b.ReceiveEOF(), "it stays")
					if allow && !inside {
						require.Equal(t, io.EOF, err, "after %d bytes", cut)
						require.NoError(t, b.Filter.Err())
					} else {
						require.Equal(t, sslfilter.TruncatedError{InsideRecord: inside}, truncatedBy(t, err), "after %d bytes", cut)
						require.Equal(t, err, b.Filter.Err())
					}
					p.Close()
					if cut == len(wire) {
						return
					}
				}
			})
		})
	}
}

// An end during the handshake is always an error, even with AllowMissingCloseNotify.
func TestClosingTruncatedHandshake(t *testing.T) {
	eachRole(t, allowMissingEnd, func(t *testing.T, join func() (p *testkit.Pair, a, b *testkit.Side)) {
		for cut, flight := 0, 1; cut < flight; cut += 1 + cut/40 {
			p, a, b := join()
			require.NoError(t, p.Client.Handshake())
			if a == &p.Server {
				p.Server.Deliver(p.Client.Outgoing(nil))
			}
			wire := a.Outgoing(nil)
			flight = len(wire)
			b.Deliver(wire[:cut])
			b.Outgoing(nil)
			require.False(t, b.HandshakeDone())
			require.True(t, truncatedBy(t, b.ReceiveEOF()).InHandshake, "after %d bytes", cut)
			p.Close()
		}
		_, _, b := join()
		require.Equal(t, sslfilter.TruncatedError{InHandshake: true}, truncatedBy(t, b.ReceiveEOF()), "before the handshake")
	})
}

// An end during a renegotiation is an error, too.
func TestClosingTruncatedRenegotiation(t *testing.T) {
	f := testkit.Filter(t, testkit.With(keyedOptions(true, sslfilter.VersionTLS12), allowMissingEnd))
	k := connectKeyed(t, f, true, nil)
	f.Outgoing(nil)
	_, err := f.Receive(nil, k.send(typeHandshake, message(0))) // HelloRequest
	require.NoError(t, err)
	require.NotEmpty(t, f.Outgoing(nil), "a ClientHello")
	require.Equal(t, sslfilter.TruncatedError{InHandshake: true}, truncatedBy(t, f.ReceiveEOF()))
}

// After an end that the option accepts, this side can still send, as after close_notify.
// Detach is not possible, because the peer did not agree to continue in plain text.
func TestClosingAllowMissingCloseNotify(t *testing.T) {
	var told []error
	eachRole(t, func(o *sslfilter.Options) {
		o.AllowMissingCloseNotify = true
		o.ErrorHandler = func(_ *sslfilter.Filter, err error) { told = append(told, err) }
	}, func(t *testing.T, join func() (p *testkit.Pair, a, b *testkit.Side)) {
		p, a, b := join()
		require.NoError(t, p.Handshake())
		require.NoError(t, a.Send([]byte("question")))
		b.Deliver(a.Outgoing(nil))
		require.Equal(t, "question", string(b.Got))
		require.Equal(t, io.EOF, b.ReceiveEOF())

		require.Equal(t, "Detach", testkit.As[*sslfilter.UsageError](t, detach(b.Filter)).Op)
		require.Equal(t, "Receive", testkit.As[*sslfilter.UsageError](t, receive(b.Filter)).Op)
		_, err := b.Receive(nil, nil)
		require.Equal(t, io.EOF, err)

		require.NoError(t, b.Send([]byte("answer")))
		require.NoError(t, b.CloseWrite())
		a.Deliver(b.Outgoing(nil))
		require.True(t, b.Flushed())
		require.Equal(t, "answer", string(a.Got))
		require.Equal(t, io.EOF, a.Err)
		require.NoError(t, b.Filter.Err())
		require.Equal(t, "Detach", testkit.As[*sslfilter.UsageError](t, detach(b.Filter)).Op)
	})
	require.Empty(t, told)
}

// With the option, a close_notify still ends the connection, and Detach returns the bytes
// after it.
func TestClosingCloseNotifyWithAllowMissing(t *testing.T) {
	eachRole(t, allowMissingEnd, func(t *testing.T, join func() (p *testkit.Pair, a, b *testkit.Side)) {
		p, a, b := join()
		require.NoError(t, p.Handshake())
		require.NoError(t, a.CloseWrite())
		b.Deliver(append(a.Outgoing(nil), "plain"...))
		require.Equal(t, io.EOF, b.ReceiveEOF())
		rest, err := b.Detach()
		require.NoError(t, err)
		require.Equal(t, "plain", string(rest))
	})
}
