package sslfilter_test

// These tests bound the costs of a hostile peer. Memory is that of the process, including
// C, and a flood sends many times its bound. Processor time is compared with honest
// handshakes, for each byte that the peer sends.

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

const (
	// maxGrown is how many KiB the process may grow during one flood. If OpenSSL kept
	// the whole flood, it would grow by much more.
	maxGrown = 16 << 10
	// maxCost is how many times more processor time a byte of a flood may cost than a
	// byte of an honest handshake. A cost that grows with the number of earlier bytes
	// exceeds every such factor. The highest that was measured is 6.8, for key updates
	// that ask for an answer; it depends on the processor.
	maxCost = 12
)

// cpu returns the processor time of this thread. Linux updates that of getrusage(2) only
// from time to time.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		peers.SkipUnless(t, "thread-clock", fmt.Sprintf("the processor time of a thread (%v)", err), "this needs clock_gettime(2) of Linux")
	}
	return time.Duration(now.Nano())
}

// spent returns the processor time of f on a thread of its own.
func spent(t testing.TB, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := cpu(t)
	f()
	return cpu(t) - before
}

// honest returns the processor time that each byte of an honest client costs a server, and
// that each byte of an honest server costs a client, in a full handshake.
func honest(t *testing.T, server, client *sslfilter.Ctx) (perByte [2]float64) {
	t.Helper()
	const rounds = 10
	var cost [2]time.Duration
	var bytes [2]int
	for range rounds {
		s, c := testkit.FilterOf(t, server), testkit.FilterOf(t, client)
		cost[1] += spent(t, func() { c.Handshake() })
		for from, to, i := c, s, 0; ; from, to, i = to, from, 1-i {
			wire := from.Outgoing(nil)
			if len(wire) == 0 {
				break
			}
			bytes[i] += len(wire)
			cost[i] += spent(t, func() { to.Receive(nil, wire) })
		}
		require.True(t, s.HandshakeDone() && c.HandshakeDone())
		s.Close()
		c.Close()
	}
	return [2]float64{float64(cost[0]) / float64(bytes[0]), float64(cost[1]) / float64(bytes[1])}
}

// requireSmall checks that the process has not grown.
func requireSmall(t *testing.T, before int) {
	t.Helper()
	if !instrumented {
		require.Less(t, testkit.ResidentKiB(t)-before, maxGrown, "KiB that the process has grown")
	}
}

// requireCheap compares the processor time for n bytes with that of handshakes.
func requireCheap(t *testing.T, cost time.Duration, n int, honest float64) {
	t.Helper()
	t.Logf("a byte costs %.2f times as much as one of an honest handshake", float64(cost)/float64(n)/honest)
	if !instrumented {
		require.Less(t, float64(cost)/float64(n), maxCost*honest)
	}
}

// keyedFlood is something that a peer with the keys sends again and again after the
// handshake.
type keyedFlood struct {
	name   string
	server bool // the flood goes to a server, not to a client
	in     sslfilter.Version
	n      int
	wire   func(k *keyed, i int) []byte
	ends   bool // the flood soon causes an error
}

// stapling gives a server a Staple with a response for its certificate.
func stapling(t testing.TB, crt string) testkit.Change {
	staple, err := sslfilter.NewStaple(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, crt)}))
	require.NoError(t, err)
	return func(o *sslfilter.Options) { o.Staple = staple }
}

func keyedFloods() []keyedFlood {
	const v12, v13 = sslfilter.VersionTLS12, sslfilter.VersionTLS13
	ticket := bytes.Repeat([]byte("ticket!!"), 750) // 6 KiB each, 60 MiB in total
	of := func(kind byte, parts ...[]byte) func(*keyed, int) []byte {
		return func(k *keyed, _ int) []byte { return k.send(kind, parts...) }
	}
	return []keyedFlood{
		{"tickets", false, v13, 10_000, func(k *keyed, i int) []byte {
			body := slices.Concat([]byte{0, 0, 28, 32, 0, 0, byte(i >> 8), byte(i), 2, byte(i >> 8), byte(i), byte(len(ticket) >> 8), byte(len(ticket))}, ticket, []byte{0, 0})
			return k.send(typeHandshake, message(4, body...))
		}, false},
		{"key updates of a client", true, v13, 10_000, of(typeHandshake, keyUpdating(0)), false},
		{"key updates of a server", false, v13, 10_000, of(typeHandshake, keyUpdating(0)), false},
		{"key updates of a client that ask for one", true, v13, 10_000, of(typeHandshake, keyUpdating(1)), false},
		{"key updates of a server that ask for one", false, v13, 10_000, of(typeHandshake, keyUpdating(1)), false},
		{"empty records", true, v13, 10_000, of(typeData, nil), true},
		{"empty records in TLS 1.2", true, v12, 10_000, of(typeData, nil), true},
		{"warnings", true, v12, 10_000, of(typeAlert, []byte{1, 90}), true},
		{"warnings to a client", false, v12, 10_000, of(typeAlert, []byte{1, 90}), true},
		{"ChangeCipherSpec", true, v13, 10_000, func(*keyed, int) []byte { return tlsRecord(typeCCS, 1) }, true},
		{"heartbeats", true, v12, 10_000, of(typeHeartbeat, []byte{1, 0, 3, 1, 2, 3}), true},
		{"CertificateRequests", false, v13, 10_000, of(typeHandshake, message(13, 1, 7, 0, 0)), true},
		{"renegotiations of a client", true, v12, 10_000, func(k *keyed, _ int) []byte { return k.send(typeHandshake, k.hello[5:]) }, false},
		{"HelloRequests", false, v12, 10_000, of(typeHandshake, message(0)), false},
		{"a message that never ends", true, v13, 10_000, func(k *keyed, i int) []byte {
			if i == 0 {
				return k.send(typeHandshake, []byte{24, 0xff, 0xff, 0xff})
			}
			return k.send(typeHandshake, make([]byte, 16000))
		}, true},
		{"garbage", true, v13, 10_000, func(*keyed, int) []byte { return tlsRecord(typeData, make([]byte, 100)...) }, true},
	}
}

// A peer with the keys may send each of these floods: memory does not grow, the costs are
// not higher than those of handshakes, and another connection continues to work.
func TestHostileFloods(t *testing.T) {
	contexts := make(map[string]*sslfilter.Ctx)
	costs := make(map[sslfilter.Version][2]float64)
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		for _, client := range []bool{false, true} {
			contexts[fmt.Sprint(v, client)] = testkit.Ctx(t, keyedOptions(client, v))
		}
		costs[v] = honest(t, contexts[fmt.Sprint(v, false)], contexts[fmt.Sprint(v, true)])
	}
	flood := func(t *testing.T, c keyedFlood, f *sslfilter.Filter) {
		t.Helper()
		beside := testkit.Connect(t, testkit.Server(), testkit.Client())
		honest := costs[c.in][0]
		if !c.server {
			honest = costs[c.in][1]
		}
		k := connectKeyed(t, f, !c.server, nil)
		f.Outgoing(nil)
		runtime.GC()
		before := testkit.ResidentKiB(t)
		var cost time.Duration
		var err error
		sent, said := 0, []byte(nil)
		for i := 0; i < c.n && err == nil; {
			wires := make([][]byte, 0, 100)
			for ; i < c.n && len(wires) < cap(wires); i++ {
				wires = append(wires, c.wire(k, i))
			}
			cost += spent(t, func() {
				for _, wire := range wires {
					var plain []byte
					if plain, err = f.Receive(nil, wire); err != nil {
						return
					}
					require.Empty(t, plain)
					said = f.Outgoing(said[:0])
					sent += len(wire)
				}
			})
		}
		if c.ends {
			require.Error(t, err)
			require.Less(t, sent, 1<<17)
		} else {
			require.NoError(t, err)
			requireCheap(t, cost, sent, honest)
		}
		requireSmall(t, before)
		require.NoError(t, beside.Client.Send([]byte("another connection")))
		beside.Transfer()
		require.Equal(t, "another connection", string(beside.Server.Got))
	}
	for _, c := range keyedFloods() {
		t.Run(c.name, func(t *testing.T) {
			flood(t, c, testkit.FilterOf(t, contexts[fmt.Sprint(c.in, !c.server)]))
		})
		if c.server {
			t.Run(c.name+", to a chosen context with a Staple", func(t *testing.T) {
				chosen := testkit.Ctx(t, testkit.With(keyedOptions(false, c.in), stapling(t, "server-ec.crt")))
				flood(t, c, choosing(t, always(chosen)))
			})
		}
	}
}

// A peer without the keys may send a ClientHello in 16,000 records of one byte, or in 9,000
// before the context is chosen (MaxClientHello). It costs no more than as many bytes of
// handshakes, and the handshake completes.
func TestHostileHandshakeInPieces(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		server := testkit.Ctx(t, keyedOptions(false, v))
		perByte := honest(t, server, testkit.Ctx(t, keyedOptions(true, v)))[0]
		long := func(protocols int) *sslfilter.Filter {
			return testkit.Filter(t, testkit.With(keyedOptions(true, v), func(o *sslfilter.Options) {
				for i := range protocols { // which makes the ClientHello long
					o.ALPN = append(o.ALPN, fmt.Sprintf("%0160d", i))
				}
			}))
		}
		requireCheapInPieces(t, testkit.FilterOf(t, server), long(100), 16_000, perByte)
		requireCheapInPieces(t, choosing(t, always(server)), long(58), 9_000, perByte)
	})
}

// requireCheapInPieces gives a server the ClientHello of c, which has at least as many
// bytes, in records of one byte, and then completes the handshake.
func requireCheapInPieces(t *testing.T, s, c *sslfilter.Filter, least int, perByte float64) {
	t.Helper()
	require.NoError(t, c.Handshake())
	var hello []byte
	for out := c.Outgoing(nil); len(out) > 0; { // one record, or two
		n := 5 + (int(out[3])<<8 | int(out[4]))
		hello, out = append(hello, out[5:n]...), out[n:]
	}
	require.Greater(t, len(hello), least)
	var wire []byte
	for _, b := range hello {
		wire = append(wire, tlsRecord(typeHandshake, b)...)
	}
	runtime.GC()
	before := testkit.ResidentKiB(t)
	cost := spent(t, func() {
		for i := range wire {
			_, err := s.Receive(nil, wire[i:i+1])
			require.NoError(t, err)
		}
	})
	requireSmall(t, before)
	requireCheap(t, cost, len(wire), perByte)
	p := testkit.Join(s, c)
	p.Transfer()
	require.True(t, s.HandshakeDone() && c.HandshakeDone())
}

// On both sides, OpenSSL bounds the list of the peer's certificates to 100 KiB. A shorter
// list does not make the process grow.
func TestHostileHugeCertificates(t *testing.T) {
	root := testkit.DER(t, testkit.PKIBytes(t, "ecroot.crt"))
	repeated := func(n int) (chain [][]byte) { return slices.Repeat([][]byte{root}, n) }
	padded := func(n int) [][]byte { return [][]byte{derOfNames(t, n)} }
	for _, c := range []struct {
		name   string
		chain  [][]byte
		refuse bool
	}{
		{"200 intermediates", repeated(200), false},
		{"2,000 intermediates", repeated(2000), true},
		{"one of 80 KiB", padded(3_000), false},
		{"one of 500 KiB", padded(20_000), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
				for _, client := range []bool{false, true} {
					config := keyedConfig(t, client).Clone()
					config.Certificates = slices.Clone(config.Certificates)
					config.Certificates[0].Certificate = append(slices.Clone(config.Certificates[0].Certificate[:1]), c.chain...)
					f := testkit.Filter(t, keyedOptions(client, v))
					runtime.GC()
					before := testkit.ResidentKiB(t)
					k := &keyed{f: f, client: client, config: config}
					k.connect(t, func(_ byte, body []byte) [][]byte { return [][]byte{body} })
					requireSmall(t, before)
					if c.refuse {
						require.ErrorContains(t, f.Err(), "excessive message size")
						require.False(t, f.HandshakeDone())
						continue
					}
					require.NoError(t, f.Err())
					require.True(t, k.f.HandshakeDone())
					require.LessOrEqual(t, len(f.ClientCertIDs()), 512)
				}
			})
		})
	}
}

// derOfNames returns a certificate with n names.
func derOfNames(t testing.TB, n int) []byte {
	t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("host%d.example.org", i)
	}
	return testkit.DER(t, testkit.Mint(t, x509.Certificate{DNSNames: names}))
}
