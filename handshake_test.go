package sslfilter_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func TestKeyUpdate(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
		p.Cut = cut
		require.NoError(t, p.Handshake())
		for range 5 {
			for _, sides := range [][2]*testkit.Side{{&p.Client, &p.Server}, {&p.Server, &p.Client}} {
				from, to := sides[0], sides[1]
				from.Got, to.Got = nil, nil
				require.NoError(t, from.Send([]byte("old key, ")))
				require.NoError(t, from.KeyUpdate(true))
				require.NoError(t, from.Send([]byte("new key")))
				p.Transfer()
				require.Equal(t, "old key, new key", string(to.Got))
				require.NoError(t, to.Send([]byte("answer")))
				p.Transfer()
				require.Equal(t, "answer", string(from.Got))
			}
		}
	})
}

// The answer must be in Outgoing immediately: otherwise a side that only reads would never
// send it.
func TestKeyUpdateIsAnsweredAtOnce(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
	require.NoError(t, p.Handshake())
	require.NoError(t, p.Client.KeyUpdate(true))
	p.Server.Deliver(p.Client.Outgoing(nil))
	require.NotEmpty(t, p.Server.Outgoing(nil))
	require.NoError(t, p.Client.KeyUpdate(false))
	p.Server.Deliver(p.Client.Outgoing(nil))
	require.Empty(t, p.Server.Outgoing(nil))
}

// Each request causes an answer. A caller that sends Outgoing can answer any number of
// requests. If nobody sends it, the number of waiting answers is bounded.
func TestKeyUpdateFloodIsBounded(t *testing.T) {
	const flood = 12000 // 27 bytes each, and 256 KiB are the bound
	t.Run("answered", func(t *testing.T) {
		p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
		require.NoError(t, p.Handshake())
		for range flood {
			require.NoError(t, p.Client.KeyUpdate(true))
			p.Transfer()
		}
		require.NoError(t, p.Client.Send([]byte("still here")))
		p.Transfer()
		require.Equal(t, "still here", string(p.Server.Got))
	})
	t.Run("nobody takes the answers", func(t *testing.T) {
		p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
		require.NoError(t, p.Handshake())
		for range flood {
			require.NoError(t, p.Client.KeyUpdate(true))
			p.Server.Deliver(p.Client.Outgoing(nil))
		}
		require.ErrorIs(t, p.Server.Filter.Err(), sslfilter.ErrBufferFull)
		require.Less(t, len(p.Server.Outgoing(nil)), 300<<10)
	})
}

func TestKeyUpdateNotPossible(t *testing.T) {
	var usage *sslfilter.UsageError
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS12))
	require.ErrorAs(t, p.Client.KeyUpdate(true), &usage, "before the handshake")
	require.NoError(t, p.Handshake())
	require.ErrorAs(t, p.Client.KeyUpdate(true), &usage, "in TLS 1.2")
	require.NoError(t, p.Client.Send([]byte("goes on")))
	p.Transfer()
	require.Equal(t, "goes on", string(p.Server.Got))
}

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
// that asks for certificates does not send any.
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

func TestCtxServesManyConnections(t *testing.T) {
	server, client := testkit.Ctx(t, testkit.ServerOf("server-ec")), testkit.Ctx(t, testkit.Client())
	failures := make(chan error, 8)
	for range cap(failures) {
		go func() { failures <- talk(client, server) }()
	}
	for range cap(failures) {
		require.NoError(t, <-failures)
	}

	living, err := server.NewFilter()
	require.NoError(t, err)
	defer living.Close()
	require.NoError(t, server.Close())
	require.NoError(t, server.Close())
	_, err = server.NewFilter()
	require.ErrorIs(t, err, sslfilter.ErrClosed)

	cloned, err := living.Clone() // shares the SSL_CTX of the closed Ctx
	require.NoError(t, err)
	for _, s := range []*sslfilter.Filter{living, cloned} {
		c, err := client.NewFilter()
		require.NoError(t, err)
		p := testkit.Join(s, c)
		require.NoError(t, p.Handshake())
		p.Close()
	}
	require.NoError(t, client.Close())
	_, err = living.Clone()
	require.ErrorIs(t, err, sslfilter.ErrClosed)
}

// talk makes 20 connections, one after another.
func talk(client, server *sslfilter.Ctx) error {
	for range 20 {
		c, err := client.NewFilter()
		if err != nil {
			return err
		}
		s, err := server.NewFilter()
		if err != nil {
			return err
		}
		p := testkit.Join(s, c)
		if err := p.Handshake(); err != nil {
			return err
		}
		p.Client.Send([]byte("ping"))
		p.Transfer()
		if !bytes.Equal(p.Server.Got, []byte("ping")) {
			return p.Server.Err
		}
		p.Close()
	}
	return nil
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
