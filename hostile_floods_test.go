package sslfilter_test

// What a hostile peer may cost. Memory is that of the process, C's included, and
// a flood sends many times the bound. Processor time is compared with that of
// honest handshakes: a flood may cost no more for each byte that the peer sends.

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
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

const (
	// maxGrown is what the process may grow by under one flood, in KiB. Floods of
	// which OpenSSL kept all would be far beyond it.
	maxGrown = 16 << 10
	// maxCost is how many times what a byte of an honest handshake costs a byte
	// of a flood may cost. What is looked for grows with what came before, and
	// exceeds any such number. Measured up to 6.8, for key updates that ask for an
	// answer: one processor is better at arithmetic than another, and at code.
	maxCost = 12
)

// cpu is the processor time of this thread. Getrusage would not do: Linux brings
// its figure up to date only from time to time.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		t.Skip("no processor time of a thread: ", err)
	}
	return time.Duration(now.Nano())
}

// spent is the processor time of f on a thread of its own.
func spent(t testing.TB, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := cpu(t)
	f()
	return cpu(t) - before
}

// honest is what a byte of an honest client costs a server, and one of an honest
// server a client, in a full handshake.
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

// requireSmall is that the process has not grown since.
func requireSmall(t *testing.T, before int) {
	t.Helper()
	if !instrumented {
		require.Less(t, testkit.ResidentKiB(t)-before, maxGrown, "KiB that it made the process grow")
	}
}

// requireCheap is that n bytes cost no more than those of handshakes.
func requireCheap(t *testing.T, cost time.Duration, n int, honest float64) {
	t.Helper()
	t.Logf("a byte costs %.2f of one of an honest handshake", float64(cost)/float64(n)/honest)
	if !instrumented {
		require.Less(t, float64(cost)/float64(n), maxCost*honest)
	}
}

// keyedFlood is what a peer with the keys sends again and again behind the handshake.
type keyedFlood struct {
	name   string
	server bool // at a server, and at a client otherwise
	in     sslfilter.Version
	n      int
	wire   func(k *keyed, i int) []byte
	ends   bool // with an error, and soon
}

func keyedFloods() []keyedFlood {
	const v12, v13 = sslfilter.VersionTLS12, sslfilter.VersionTLS13
	ticket := bytes.Repeat([]byte("ticket!!"), 750) // 6 KiB: all of them would be 60 MiB
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

// A peer with the keys may send any of these for ever: it makes nothing grow,
// costs no more than handshakes would, and an honest connection beside it goes on.
func TestHostileFloods(t *testing.T) {
	toServer, toClient := keyedConfigs(t)
	contexts := make(map[string]*sslfilter.Ctx)
	costs := make(map[sslfilter.Version][2]float64)
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		for _, client := range []bool{false, true} {
			contexts[fmt.Sprint(v, client)] = testkit.Ctx(t, keyedOptions(client, v))
		}
		costs[v] = honest(t, contexts[fmt.Sprint(v, false)], contexts[fmt.Sprint(v, true)])
	}
	for _, c := range keyedFloods() {
		t.Run(c.name, func(t *testing.T) {
			beside := testkit.Connect(t, testkit.Server(), testkit.Client())
			f := testkit.FilterOf(t, contexts[fmt.Sprint(c.in, !c.server)])
			config, honest := toServer, costs[c.in][0]
			if !c.server {
				config, honest = toClient, costs[c.in][1]
			}
			k := connectKeyed(t, f, !c.server, config, nil)
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
			require.NoError(t, beside.Client.Send([]byte("beside it")))
			beside.Transfer()
			require.Equal(t, "beside it", string(beside.Server.Got))
		})
	}
}

// Nobody who has the keys is needed for these: a ClientHello in 16,000 records,
// one byte at a time, costs no more than as many bytes of handshakes, and works.
func TestHostileHandshakeInPieces(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		server := testkit.Ctx(t, keyedOptions(false, v))
		perByte := honest(t, server, testkit.Ctx(t, keyedOptions(true, v)))[0]
		client := testkit.Ctx(t, testkit.With(keyedOptions(true, v), func(o *sslfilter.Options) {
			for i := range 100 {
				o.ALPN = append(o.ALPN, fmt.Sprintf("%0160d", i))
			}
		}))

		s, c := testkit.FilterOf(t, server), testkit.FilterOf(t, client)
		require.NoError(t, c.Handshake())
		var hello []byte
		for out := c.Outgoing(nil); len(out) > 0; {
			n := 5 + (int(out[3])<<8 | int(out[4]))
			hello, out = append(hello, out[5:n]...), out[n:]
		}
		require.Greater(t, len(hello), 16_000)
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
	})

}

// A peer's list of certificates is bounded by OpenSSL's 100 KiB, on both sides,
// and a list below that costs no more than its bytes.
func TestHostileHugeCertificates(t *testing.T) {
	root := testkit.DER(t, testkit.PKIBytes(t, "ecroot.crt"))
	repeated := func(n int) (chain [][]byte) { return slices.Repeat([][]byte{root}, n) }
	padded := func(n int) [][]byte { return [][]byte{derOfNames(t, n)} }
	toServer, toClient := keyedConfigs(t)
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
					config := toServer.Clone()
					if client {
						config = toClient.Clone()
					}
					config.Certificates = slices.Clone(config.Certificates)
					config.Certificates[0].Certificate = append(slices.Clone(config.Certificates[0].Certificate[:1]), c.chain...)
					f := testkit.Filter(t, keyedOptions(client, v))
					runtime.GC()
					before := testkit.ResidentKiB(t)
					k := connectKeyed(t, f, client, config, func(_ byte, body []byte) [][]byte { return [][]byte{body} })
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

// derOfNames is a certificate with n names.
func derOfNames(t testing.TB, n int) []byte {
	t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("host%d.example.org", i)
	}
	return testkit.DER(t, testkit.Mint(t, x509.Certificate{DNSNames: names}))
}
