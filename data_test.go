package sslfilter_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func requireSame(t testing.TB, want, got []byte) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	require.Equal(t, sha256.Sum256(want), sha256.Sum256(got))
}

func TestDataArrivesHoweverItIsCut(t *testing.T) {
	testkit.EachPairCut(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Handshake())
		var up, down []byte
		for i, n := range []int{1, 2, 100, 1459, 16383, 16384, 16385, 32725, 50000} {
			piece := testkit.Bytes(n, uint64(i))
			require.NoError(t, p.Client.Send(piece))
			up = append(up, piece...)
			p.Transfer()
			require.NoError(t, p.Server.Send(piece))
			down = append(down, piece...)
			p.Transfer()
		}
		requireSame(t, up, p.Server.Got)
		requireSame(t, down, p.Client.Got)
	})
}

func TestDataTenMebibytesInOneSend(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Handshake())
		big := testkit.Bytes(10<<20, 7)
		require.NoError(t, p.Client.Send(big))
		p.Transfer()
		requireSame(t, big, p.Server.Got)
		require.True(t, p.Client.Flushed())
	})
}

// The original loses a record "0", which is false in Perl, and delays what follows.
func TestDataRecordZeroAndEmptyWrites(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Client.Send([]byte("0")))
		require.NoError(t, p.Handshake())
		for _, s := range []string{"0", "", "a", "", "0", "b"} {
			require.NoError(t, p.Client.Send([]byte(s)))
			p.Transfer()
		}
		require.NoError(t, p.Client.Send(nil))
		p.Transfer()
		require.Equal(t, "00a0b", string(p.Server.Got))
	})
}

func TestDataSentEarlyIsInOrder(t *testing.T) {
	testkit.EachPairCut(t, func(t *testing.T, p *testkit.Pair) {
		up, down := testkit.Bytes(300000, 1), testkit.Bytes(200000, 2)
		require.NoError(t, p.Server.Send([]byte("banner ")))
		require.NoError(t, p.Server.Send(down))
		require.NoError(t, p.Client.Send([]byte("early ")))
		require.NoError(t, p.Client.Send(up))
		require.False(t, p.Client.Flushed())
		require.NoError(t, p.Handshake())
		require.NoError(t, p.Client.Send([]byte(" late")))
		p.Transfer()
		requireSame(t, fmt.Appendf(nil, "early %s late", up), p.Server.Got)
		requireSame(t, fmt.Appendf(nil, "banner %s", down), p.Client.Got)
	})
}

// Data may arrive together with the client's Finished. The original passes such data on
// without decrypting it.
func TestDataWithTheLastFlight(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
	require.NoError(t, p.Client.Send([]byte("GET / HTTP/1.0\r\n\r\n")))
	hello := p.Client.Outgoing(nil)
	p.Server.Deliver(hello)
	p.Client.Deliver(p.Server.Outgoing(nil))
	flight := p.Client.Outgoing(nil)
	require.True(t, p.Client.HandshakeDone())
	require.False(t, p.Server.HandshakeDone())
	plain, err := p.Server.Receive([]byte("kept: "), flight)
	require.NoError(t, err)
	require.True(t, p.Server.HandshakeDone())
	require.Equal(t, "kept: GET / HTTP/1.0\r\n\r\n", string(plain))
}

func TestDataSendStartsAClient(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
	require.NoError(t, p.Client.Send(nil))
	require.NotEmpty(t, p.Client.Outgoing(nil))
	require.Empty(t, p.Server.Outgoing(nil))
}

func TestDataSentEarlyIsBounded(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
	require.NoError(t, p.Client.Handshake())
	part := testkit.Bytes(1<<20, 3)
	var sent []byte
	for p.Client.Send(part) == nil {
		sent = append(sent, part...)
		require.LessOrEqual(t, len(sent), sslfilter.MaxPlaintext)
	}
	require.Greater(t, len(sent), sslfilter.MaxPlaintext-2*len(part))
	require.ErrorIs(t, p.Client.Send(part), sslfilter.ErrBufferFull)
	require.NoError(t, p.Client.Filter.Err())
	p.Transfer()
	require.NoError(t, p.Client.Send([]byte("afterwards")))
	p.Transfer()
	requireSame(t, append(sent, "afterwards"...), p.Server.Got)
}

func TestDataOutgoingIsBounded(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Handshake())
		big := testkit.Bytes(sslfilter.MaxPlaintext, 4)
		require.NoError(t, p.Server.Send(big))
		require.ErrorIs(t, p.Server.Send([]byte("x")), sslfilter.ErrBufferFull)
		require.NoError(t, p.Server.Send(nil))
		p.Transfer()
		require.NoError(t, p.Server.Send([]byte("x")))
		p.Transfer()
		requireSame(t, append(big, 'x'), p.Client.Got)
	})
}

func TestDataSmallSendsShareARecord(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
	require.NoError(t, p.Handshake())
	for range 100 {
		require.NoError(t, p.Client.Send([]byte("sixteen bytes ok")))
	}
	wire := p.Client.Outgoing(nil)
	require.Len(t, wire, 1600+5+1+16) // header, content type, tag (RFC 8446 section 5.2)
	p.Server.Deliver(wire)
	require.Equal(t, bytes.Repeat([]byte("sixteen bytes ok"), 100), p.Server.Got)
}

// Results are appended to the caller's slice. The slice is used if it has room, and
// never shares memory with the Filter.
func TestDataIsAppended(t *testing.T) {
	p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS13))
	require.NoError(t, p.Handshake())
	require.NoError(t, p.Client.Send([]byte("first")))
	wire := p.Client.Outgoing([]byte("prefix"))
	require.Equal(t, "prefix", string(wire[:6]))
	first := bytes.Clone(wire)
	require.NoError(t, p.Client.Send([]byte("second, which is longer")))
	second := p.Client.Outgoing(nil)
	require.Equal(t, first, wire)

	tight := make([]byte, 3, 4) // one byte of room
	plain, err := p.Server.Receive(tight, wire[6:])
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00first", string(plain))
	plain2, err := p.Server.Receive(plain[:3:3], second)
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00second, which is longer", string(plain2))
	require.Equal(t, "\x00\x00\x00first", string(plain))
}

func TestDataDoesNotAllocate(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Handshake())
		for _, n := range []int{1, 64, 16384, 100000} {
			message := testkit.Bytes(n, 5)
			wire, plain := make([]byte, 0, 2*n+1000), make([]byte, 0, 2*n+1000)
			var err error
			allocs := testing.AllocsPerRun(100, func() {
				if err = p.Client.Send(message); err != nil {
					return
				}
				wire = p.Client.Outgoing(wire[:0])
				plain, err = p.Server.Receive(plain[:0], wire)
			})
			require.NoError(t, err)
			require.Len(t, plain, n)
			require.Less(t, allocs, 1.0, "%d bytes", n)
		}
	})
}

// Data that waits in pieces of any size is sent completely and in order.
func TestDataQueuedInPieces(t *testing.T) {
	testkit.EachPair(t, func(t *testing.T, p *testkit.Pair) {
		require.NoError(t, p.Handshake())
		for round, size := range []int{1, 1000, 262143, 262144, 262145, 3 << 20} {
			sent := testkit.Bytes(7<<20, uint64(round))
			for rest := sent; len(rest) > 0; {
				n := min(size, len(rest))
				require.NoError(t, p.Client.Send(rest[:n]))
				rest = rest[n:]
				if size == 1 && len(rest) < len(sent)-300_000 {
					size = 1 << 20
				}
			}
			require.False(t, p.Client.Flushed())
			if p.Client.State().Version == sslfilter.VersionTLS13 {
				require.NoError(t, p.Client.KeyUpdate(false), "data that was sent before is encrypted with the old key")
			}
			plain, err := p.Server.Receive(nil, p.Client.Outgoing(nil))
			require.NoError(t, err)
			require.True(t, bytes.Equal(sent, plain), "pieces of %d", size)
			require.True(t, p.Client.Flushed())
		}
	})
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		for _, n := range []int{64, 1024, 16384, 262144} {
			b.Run(fmt.Sprintf("%v/%d", v, n), func(b *testing.B) {
				p := testkit.NewPair(b, testkit.ServerOf("server-ec", testkit.Only(v)), testkit.Client(testkit.Only(v)))
				require.NoError(b, p.Handshake())
				message := testkit.Bytes(n, 6)
				wire, plain := make([]byte, 0, 2*n+1000), make([]byte, 0, 2*n+1000)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if err := p.Client.Send(message); err != nil {
						b.Fatal(err)
					}
					wire = p.Client.Outgoing(wire[:0])
					if plain, _ = p.Server.Receive(plain[:0], wire); len(plain) != n {
						b.Fatalf("%d bytes arrived", len(plain))
					}
				}
			})
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	for _, key := range []string{"server-ec", "server"} {
		b.Run(key, func(b *testing.B) {
			server, client := testkit.Ctx(b, testkit.ServerOf(key)), testkit.Ctx(b, testkit.Client())
			b.ReportAllocs()
			for b.Loop() {
				c, _ := client.NewFilter()
				s, _ := server.NewFilter()
				p := testkit.Join(s, c)
				if err := p.Handshake(); err != nil {
					b.Fatal(err)
				}
				p.Close()
			}
		})
	}
}
