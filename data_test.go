package sslfilter_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/enginetest"
)

// versions are the options that pin both sides to one protocol version.
var versions = map[string]sslfilter.Options{
	"TLSv1.2": {TLS12: true},
	"TLSv1.3": {MinVersion: sslfilter.VersionTLS13},
}

// eachVersion runs f with a fresh pair in TLS 1.2 and 1.3.
func eachVersion(t *testing.T, f func(t *testing.T, p *enginetest.Pair)) {
	for name := range versions {
		t.Run(name, func(t *testing.T) { f(t, versionPair(t, name)) })
	}
}

// versionPair joins a plain server and a verifying client.
func versionPair(t testing.TB, version string) *enginetest.Pair {
	t.Helper()
	server, client := versions[version], versions[version]
	server.Crt, server.Key = "testdata/pki/server-ec.crt", "testdata/pki/server-ec.key"
	client.Client, client.CACrt, client.ServerName = true, "testdata/pki/root.crt", "localhost"
	return joined(t, server, client)
}

func joined(t testing.TB, server, client sslfilter.Options) *enginetest.Pair {
	t.Helper()
	s, err := sslfilter.New(server)
	require.NoError(t, err)
	c, err := sslfilter.New(client)
	require.NoError(t, err)
	p := enginetest.New(c, s)
	t.Cleanup(p.Close)
	return p
}

// chunkers are the ways in which every scenario is delivered.
func chunkers(t testing.TB) map[string]enginetest.Chunker {
	seed := rand.Uint64()
	t.Logf("random cuts with seed %d", seed)
	return map[string]enginetest.Chunker{
		"whole":          enginetest.Whole,
		"byte at a time": enginetest.Size(1),
		"random":         enginetest.Random(seed),
	}
}

// noise is n bytes that differ by seed.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func requireSame(t testing.TB, want, got []byte) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	require.Equal(t, sha256.Sum256(want), sha256.Sum256(got))
}

func TestDataArrivesHoweverItIsCut(t *testing.T) {
	for version := range versions {
		for name, chunk := range chunkers(t) {
			t.Run(version+"/"+name, func(t *testing.T) {
				p := versionPair(t, version)
				p.Chunk = chunk
				require.NoError(t, p.Handshake())
				var up, down []byte
				for i, n := range []int{1, 2, 100, 1459, 16383, 16384, 16385, 32725, 50000} {
					piece := noise(n, uint64(i))
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
	}
}

func TestDataTenMebibytesInOneSend(t *testing.T) {
	eachVersion(t, func(t *testing.T, p *enginetest.Pair) {
		require.NoError(t, p.Handshake())
		big := noise(10<<20, 7)
		require.NoError(t, p.Client.Send(big))
		p.Transfer()
		requireSame(t, big, p.Server.Got)
		require.True(t, p.Client.Flushed())
	})
}

// The original drops a record "0" and stalls what follows (Perl's idea of false).
func TestDataRecordZeroAndEmptyWrites(t *testing.T) {
	eachVersion(t, func(t *testing.T, p *enginetest.Pair) {
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
	for version := range versions {
		for name, chunk := range chunkers(t) {
			t.Run(version+"/"+name, func(t *testing.T) {
				p := versionPair(t, version)
				p.Chunk = chunk
				up, down := noise(300000, 1), noise(200000, 2)
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
	}
}

// Finished and data in one delivery: the original hands such data out raw.
func TestDataWithTheLastFlight(t *testing.T) {
	p := versionPair(t, "TLSv1.3")
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
	p := versionPair(t, "TLSv1.3")
	require.NoError(t, p.Client.Send(nil))
	require.NotEmpty(t, p.Client.Outgoing(nil))
	require.Empty(t, p.Server.Outgoing(nil))
}

func TestDataSentEarlyIsBounded(t *testing.T) {
	p := versionPair(t, "TLSv1.3")
	require.NoError(t, p.Client.Handshake())
	part := noise(1<<20, 3)
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
	eachVersion(t, func(t *testing.T, p *enginetest.Pair) {
		require.NoError(t, p.Handshake())
		big := noise(sslfilter.MaxPlaintext, 4)
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
	p := versionPair(t, "TLSv1.3")
	require.NoError(t, p.Handshake())
	for range 100 {
		require.NoError(t, p.Client.Send([]byte("sixteen bytes ok")))
	}
	wire := p.Client.Outgoing(nil)
	require.Len(t, wire, 1600+5+1+16) // header, content type, tag (RFC 8446 section 5.2)
	p.Server.Deliver(wire)
	require.Equal(t, bytes.Repeat([]byte("sixteen bytes ok"), 100), p.Server.Got)
}

// A slice that has room is appended to, one that has none is replaced, and
// neither shares memory with what the Filter uses later.
func TestDataIsAppended(t *testing.T) {
	p := versionPair(t, "TLSv1.3")
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
	eachVersion(t, func(t *testing.T, p *enginetest.Pair) {
		require.NoError(t, p.Handshake())
		for _, n := range []int{1, 64, 16384, 100000} {
			message := noise(n, 5)
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

// What waits in several pieces comes out in order and whole, however it was sent.
func TestDataQueuedInPieces(t *testing.T) {
	eachVersion(t, func(t *testing.T, p *enginetest.Pair) {
		require.NoError(t, p.Handshake())
		for round, size := range []int{1, 1000, 262143, 262144, 262145, 3 << 20} {
			sent := noise(7<<20, uint64(round))
			for rest := sent; len(rest) > 0; {
				n := min(size, len(rest))
				require.NoError(t, p.Client.Send(rest[:n]))
				rest = rest[n:]
				if size == 1 && len(rest) < len(sent)-300_000 {
					size = 1 << 20
				}
			}
			require.False(t, p.Client.Flushed())
			if p.Client.Version() == "TLSv1.3" {
				require.NoError(t, p.Client.KeyUpdate(false), "what was sent is made under the old key, and held")
			}
			plain, err := p.Server.Receive(nil, p.Client.Outgoing(nil))
			require.NoError(t, err)
			require.True(t, bytes.Equal(sent, plain), "pieces of %d", size)
			require.True(t, p.Client.Flushed())
		}
	})
}

func BenchmarkRoundTrip(b *testing.B) {
	for version := range versions {
		for _, n := range []int{64, 1024, 16384, 262144} {
			b.Run(fmt.Sprintf("%s/%d", version, n), func(b *testing.B) {
				p := versionPair(b, version)
				require.NoError(b, p.Handshake())
				message := noise(n, 6)
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
			server, err := sslfilter.NewCtx(sslfilter.Options{Crt: "testdata/pki/" + key + ".crt", Key: "testdata/pki/" + key + ".key"})
			require.NoError(b, err)
			defer server.Close()
			client, err := sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: "testdata/pki/root.crt", ServerName: "localhost"})
			require.NoError(b, err)
			defer client.Close()
			b.ReportAllocs()
			for b.Loop() {
				c, _ := client.NewFilter()
				s, _ := server.NewFilter()
				p := enginetest.New(c, s)
				if err := p.Handshake(); err != nil {
					b.Fatal(err)
				}
				p.Close()
			}
		})
	}
}
