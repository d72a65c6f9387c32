package sslfilter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func TestHandshakeIsIdempotent(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Client.Handshake())
		hello := p.Client.Outgoing(nil)
		require.NoError(t, p.Client.Handshake())
		require.Empty(t, p.Client.Outgoing(nil))
		require.NoError(t, p.Server.Handshake())
		require.Empty(t, p.Server.Outgoing(nil))
		p.Server.Deliver(hello)
		p.Transfer()
		require.True(t, p.Client.HandshakeDone() && p.Server.HandshakeDone())
		require.NoError(t, p.Client.Handshake())
	})
}

// The session tickets of TLS 1.3 are in Outgoing immediately after the handshake. A server
// that asks for certificates sends no tickets.
func TestHandshakeTicketsAreSentAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		server  sslfilter.Options
		tickets bool
	}{
		"server":                 {testkit.Server(), true},
		"ClientCert":             {testkit.Asking(), false},
		"RequireValidClientCert": {testkit.Requiring(), false},
	} {
		t.Run(name, func(t *testing.T) {
			p := testkit.NewPair(t, testkit.With(c.server, testkit.TLS13), testkit.Showing("client.crt", ""))
			require.NoError(t, p.Client.Handshake())
			p.Server.Deliver(p.Client.Outgoing(nil))
			p.Client.Deliver(p.Server.Outgoing(nil))
			p.Server.Deliver(p.Client.Outgoing(nil))
			require.True(t, p.Server.HandshakeDone())
			require.Equal(t, c.tickets, len(p.Server.Outgoing(nil)) > 0)
		})
	}
}

// A damaged byte anywhere in the connection never causes wrong plaintext, and a filter that
// failed stays failed.
func TestHandshakeAlteredBytesNeverPass(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		server, client := testkit.Ctx(t, testkit.ServerOf("server-ec", testkit.Only(v))), testkit.Ctx(t, testkit.Client(testkit.Only(v)))
		fresh := func() *testkit.Pair {
			s, err := server.NewFilter()
			require.NoError(t, err)
			c, err := client.NewFilter()
			require.NoError(t, err)
			return testkit.Join(s, c)
		}
		probe := fresh()
		defer probe.Close()
		probe.Record = true
		require.NoError(t, probe.Handshake())
		total := len(probe.Client.Raw) + len(probe.Server.Raw)
		for at := 0; at < total; at += 7 {
			p := fresh()
			seen := 0
			p.Alter = func(_ bool, b []byte) []byte {
				if at >= seen && at < seen+len(b) {
					b[at-seen] ^= 0x20
				}
				seen += len(b)
				return b
			}
			p.Client.Send([]byte("ping"))
			p.Handshake()
			p.Alter = nil
			p.Server.Send([]byte("pong"))
			p.Transfer()
			require.Contains(t, []string{"", "ping"}, string(p.Server.Got), "byte %d", at)
			require.Contains(t, []string{"", "pong"}, string(p.Client.Got), "byte %d", at)
			if err := p.Client.Filter.Err(); err != nil {
				_, again := p.Client.Receive(nil, []byte("x"))
				require.Same(t, err, again, "byte %d", at)
			}
			p.Close()
		}
	})
}
