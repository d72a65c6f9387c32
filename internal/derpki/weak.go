package derpki

import (
	"crypto"
	"crypto/sha256"
	"io"
	"math/big"
)

// weakKey signs with ECDSA over a curve y² = x³ - 3x + b. The implementation is simple,
// slow and open to timing attacks: it is only for tests.
type weakKey struct {
	p, n, b *big.Int
	g       point
	d       *big.Int
}

// point is a point of the curve. With a nil x it is the point at infinity.
type point struct{ x, y *big.Int }

func (k *weakKey) Public() crypto.PublicKey { return nil }

// Sign ignores its source of randomness; the nonce comes from key and digest.
func (k *weakKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	e := new(big.Int).SetBytes(digest[:min(len(digest), 24)])
	seed := sha256.Sum256(append(k.d.Bytes(), digest...))
	nonce := new(big.Int).SetBytes(seed[:])
	nonce.Mod(nonce, new(big.Int).Sub(k.n, big.NewInt(1))).Add(nonce, big.NewInt(1))
	r := new(big.Int).Mod(k.mul(nonce, k.g).x, k.n)
	s := new(big.Int).Mul(r, k.d)
	s.Add(s, e).Mul(s, new(big.Int).ModInverse(nonce, k.n)).Mod(s, k.n)
	return Seq(unsigned(r), unsigned(s)), nil
}

func unsigned(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) == 0 || b[0] >= 0x80 {
		b = append([]byte{0}, b...)
	}
	return Int(b...)
}

func (k *weakKey) mul(n *big.Int, a point) (sum point) {
	for i := n.BitLen() - 1; i >= 0; i-- {
		sum = k.add(sum, sum)
		if n.Bit(i) == 1 {
			sum = k.add(sum, a)
		}
	}
	return sum
}

func (k *weakKey) add(a, b point) point {
	switch {
	case a.x == nil:
		return b
	case b.x == nil:
		return a
	}
	var slope *big.Int
	if a.x.Cmp(b.x) == 0 {
		if a.y.Cmp(b.y) != 0 || a.y.Sign() == 0 {
			return point{}
		}
		slope = new(big.Int).Mul(a.x, a.x)
		slope.Mul(slope, big.NewInt(3)).Sub(slope, big.NewInt(3))
		slope.Mul(slope, new(big.Int).ModInverse(new(big.Int).Lsh(a.y, 1), k.p))
	} else {
		dx := new(big.Int).Sub(b.x, a.x)
		slope = new(big.Int).Sub(b.y, a.y)
		slope.Mul(slope, new(big.Int).ModInverse(dx.Mod(dx, k.p), k.p))
	}
	x := new(big.Int).Mul(slope, slope)
	x.Sub(x, a.x).Sub(x, b.x).Mod(x, k.p)
	y := new(big.Int).Sub(a.x, x)
	y.Mul(y, slope).Sub(y, a.y).Mod(y, k.p)
	return point{x, y}
}
