package sslfilter_test

import (
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
	t.Run("padded answers to one call of Receive", func(t *testing.T) {
		for _, n := range []int{15, 16} {
			p := testkit.Connect(t, testkit.Server(testkit.TLS13, conf("RecordPadding", "16384")), testkit.Client(testkit.TLS13))
			for range n {
				require.NoError(t, p.Client.KeyUpdate(true))
			}
			p.Server.Deliver(p.Client.Outgoing(nil))
			if n < 16 {
				require.NoError(t, p.Server.Filter.Err())
				continue
			}
			require.ErrorIs(t, p.Server.Filter.Err(), sslfilter.ErrBufferFull)
			require.ErrorContains(t, p.Server.Filter.Err(), "the peer sent too many key updates at once")
		}
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
