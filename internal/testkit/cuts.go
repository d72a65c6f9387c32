package testkit

import (
	"math/rand/v2"
	"testing"

	"github.com/seed-014b8713/sslfilter"
)

// EachVersion runs f for TLS 1.2 and for TLS 1.3. The version is the highest that
// the test should allow.
func EachVersion(t *testing.T, f func(t *testing.T, highest sslfilter.Version)) {
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		t.Run(v.String(), func(t *testing.T) { f(t, v) })
	}
}

// EachPair runs f with a new Pair of TLS 1.2 and with one of TLS 1.3. The server
// has the certificate server-ec, and the client verifies it.
func EachPair(t *testing.T, f func(t *testing.T, p *Pair)) {
	EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		f(t, NewPair(t, ServerOf("server-ec", Only(v)), Client(Only(v))))
	})
}

// EachPairCut is EachPair for each kind of Cut, which the Pair uses.
func EachPairCut(t *testing.T, f func(t *testing.T, p *Pair)) {
	EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		Cuts(t, func(t *testing.T, cut Cut) {
			p := NewPair(t, ServerOf("server-ec", Only(v)), Client(Only(v)))
			p.Cut = cut
			f(t, p)
		})
	})
}

// A Cut divides the bytes of one direction into the pieces that arrive.
type Cut func(wire []byte) [][]byte

// Cuts runs f with each kind of Cut: everything at once, a byte at a time, and
// random pieces, whose seed is logged.
func Cuts(t *testing.T, f func(t *testing.T, cut Cut)) {
	seed := rand.Uint64()
	for name, cut := range map[string]Cut{"whole": Whole, "byte at a time": Size(1), "random cuts": Random(seed)} {
		t.Run(name, func(t *testing.T) {
			t.Logf("seed of the random cuts: %d", seed)
			f(t, cut)
		})
	}
}

// Whole is a Cut that delivers everything at once.
func Whole(wire []byte) [][]byte { return [][]byte{wire} }

// Size returns a Cut into pieces of n bytes.
func Size(n int) Cut {
	return func(wire []byte) (pieces [][]byte) {
		for len(wire) > n {
			pieces, wire = append(pieces, wire[:n]), wire[n:]
		}
		return append(pieces, wire)
	}
}

// Random returns a Cut into pieces of random sizes. The same seed gives the same
// pieces.
func Random(seed uint64) Cut {
	r := rand.New(rand.NewPCG(seed, seed))
	return func(wire []byte) (pieces [][]byte) {
		for len(wire) > 0 {
			n := 1 + r.IntN(min(len(wire), 1+r.IntN(4096)))
			pieces, wire = append(pieces, wire[:n]), wire[n:]
		}
		return pieces
	}
}

// ByRecord is a Cut that delivers one TLS record at a time. The last piece is
// what remains after the last whole record, and may be empty.
func ByRecord(wire []byte) (pieces [][]byte) {
	for len(wire) >= 5 {
		n := min(len(wire), 5+int(wire[3])<<8+int(wire[4]))
		pieces, wire = append(pieces, wire[:n]), wire[n:]
	}
	return append(pieces, wire)
}

// Bytes returns n bytes that are the same for the same seed.
func Bytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}
