package sslfilter_test

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

const noRenegotiation = 100 // the alert

// answersHelloRequest reports whether a client with o.NoRenegotiation begins a new handshake
// when the server asks for one.
func answersHelloRequest(t *testing.T, o sslfilter.Options) bool {
	t.Helper()
	keyed := keyedOptions(true, sslfilter.VersionTLS12)
	keyed.NoRenegotiation = o.NoRenegotiation
	f := testkit.Filter(t, keyed)
	k := connectKeyed(t, f, true, nil)
	f.Outgoing(nil)
	_, err := f.Receive(nil, k.send(typeHandshake, message(0)))
	require.NoError(t, err)
	kind, body, err := k.in.open(f.Outgoing(nil))
	require.NoError(t, err)
	if kind == typeAlert {
		require.Equal(t, alert(warning, noRenegotiation), body)
		return false
	}
	require.Equal(t, byte(typeHandshake), kind)
	require.Equal(t, byte(1), body[0], "a ClientHello")
	return true
}

// A renegotiation is rejected with a warning, on both sides, and the connection continues.
// A server rejects it without the option, too.
func TestHandshakeNoRenegotiation(t *testing.T) {
	for _, c := range []struct {
		name           string
		client, option bool
	}{{"client", true, true}, {"server", false, true}, {"server without the option", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				o := keyedOptions(c.client, sslfilter.VersionTLS12)
				o.NoRenegotiation = c.option
				f := testkit.Filter(t, o)
				var request []byte
				k := connectKeyed(t, f, c.client, nil)
				f.Outgoing(nil)
				if request = message(0); !c.client {
					request = k.hello[5:] // its first ClientHello again, which does not refer to an earlier handshake
				}
				side := testkit.Side{Filter: f}
				for range 3 {
					wire := k.send(typeHandshake, request)
					for _, piece := range cut(append(wire, k.send(typeData, []byte("on "))...)) {
						side.Deliver(piece)
					}
					require.NoError(t, f.Err())
					kind, body, err := k.in.open(f.Outgoing(nil))
					require.NoError(t, err)
					require.Equal(t, byte(typeAlert), kind)
					require.Equal(t, alert(warning, noRenegotiation), body)
				}
				require.Equal(t, "on on on ", string(side.Got))
				require.NoError(t, f.Send([]byte("and on")))
				kind, body, err := k.in.open(f.Outgoing(nil))
				require.NoError(t, err)
				require.Equal(t, byte(typeData), kind)
				require.Equal(t, "and on", string(body))
				side.Deliver(k.send(typeAlert, alert(warning, closeNotify)))
				require.Equal(t, io.EOF, side.Err)
			})
		})
	}
}

// tickets returns the number of session tickets that a server with o sends to crypto/tls
// in its first handshake.
func tickets(t *testing.T, o sslfilter.Options, highest sslfilter.Version) int {
	t.Helper()
	count := new(countingCache)
	start := testkit.GoClient(t, func(config *tls.Config) {
		config.MaxVersion, config.ClientSessionCache = uint16(highest), count
	})

	peer := testkit.TalkToGo(t, testkit.Filter(t, o), false, start)
	require.NoError(t, peer.Err)
	return count.puts
}

// countingCache counts the sessions that are put into it, and does not keep them.
type countingCache struct{ puts int }

func (*countingCache) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (c *countingCache) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.puts++
	}
}

func TestHandshakeNumTickets(t *testing.T) {
	for _, c := range []struct{ n, in12, in13 int }{{-1, 0, 0}, {0, 1, 2}, {1, 1, 1}, {2, 1, 2}, {16, 1, 16}} {
		o := testkit.Server()
		o.NumTickets = c.n
		require.Equal(t, c.in12, tickets(t, o, sslfilter.VersionTLS12), "NumTickets %d", c.n)
		require.Equal(t, c.in13, tickets(t, o, sslfilter.VersionTLS13), "NumTickets %d", c.n)
	}
	for _, o := range []sslfilter.Options{
		testkit.Server(func(o *sslfilter.Options) { o.NumTickets = -2 }),
		testkit.Server(func(o *sslfilter.Options) { o.NumTickets = 17 }),
		testkit.Client(func(o *sslfilter.Options) { o.NumTickets = 1 }),
		testkit.Client(func(o *sslfilter.Options) { o.NumTickets = -1 }),
		testkit.Asking(func(o *sslfilter.Options) { o.NumTickets = 1 }),
	} {
		require.Equal(t, "NumTickets", testkit.As[*sslfilter.OptionError](t, accepted(o)).Option)
	}
	require.NoError(t, accepted(testkit.Asking(func(o *sslfilter.Options) { o.NumTickets = -1 })))
}
