//go:build cgo

package sslfilter

import "strings"

// signs is a set of kinds of keys, with one bit for each kind. It says which of
// them a list of signature algorithms has an algorithm for.
type signs int

const (
	signsRSA   signs = 1 << iota // up to TLS 1.2
	signsRSA13                   // in TLS 1.3, which has no PKCS #1 signatures
	signsPSS
	signsEC // up to TLS 1.2
	signsDSA
	signsEd25519
	signsEd448
	signsP256 // in TLS 1.3, where the curve belongs to the algorithm
	signsP384
	signsP521
	signsBrainpool
	signsSuiteB // the curve belongs to the algorithm before TLS 1.3 too

	signsAll = ^signsSuiteB
)

// signatureKinds returns the kinds of keys that can sign with a list of
// signature algorithms at a security level. A name that it does not know stands
// for all kinds.
func (l library) signatureKinds(list string, level int) (kinds signs) {
	if list == "" {
		return signsAll
	}
	for name := range strings.SplitSeq(strings.ToLower(list), ":") {
		name = strings.TrimSpace(name) // as OpenSSL does
		bare, optional := strings.CutPrefix(name, "?")
		key, hash, plus := strings.Cut(bare, "+")
		if plus && strings.HasPrefix(key, "sha") { // OpenSSL accepts both orders
			key, hash = hash, key
		}
		if !plus {
			key, hash = bare, bare[strings.LastIndexByte(bare, '_')+1:]
		}
		if bits, known := signatureBits(hash); known && bits < levelBits(level) {
			continue
		}
		switch {
		case key == "rsa", strings.HasPrefix(key, "rsa_pkcs1_"):
			kinds |= signsRSA
		case key == "rsa-pss", key == "pss", strings.HasPrefix(key, "rsa_pss_rsae_"):
			kinds |= signsRSA | signsRSA13
		case strings.HasPrefix(key, "rsa_pss_pss_"):
			kinds |= signsPSS
		case strings.HasPrefix(key, "ecdsa_brainpool"):
			kinds |= signsEC | signsBrainpool
		case key == "ecdsa", strings.HasPrefix(key, "ecdsa_"):
			kinds |= signsEC | map[string]signs{"sha256": signsP256, "sha384": signsP384, "sha512": signsP521}[hash]
		case key == "dsa", strings.HasPrefix(key, "dsa_"):
			kinds |= signsDSA
		case key == "ed25519":
			kinds |= signsEd25519
		case key == "ed448":
			kinds |= signsEd448
		case optional && l.refusesSignature(bare): // OpenSSL skips it
		default:
			return signsAll
		}
	}
	return kinds
}

// suiteBKinds returns the kinds of keys that can sign under the rules of Suite B,
// which SUITEB128 and the like in a cipher list switch on. It returns 0 if they
// are off. They replace SignatureAlgorithms and Groups.
func (h *ctxHandle) suiteBKinds() signs {
	p256, p384 := h.suiteB()
	switch {
	case p256 && p384:
		return signsSuiteB | signsP256 | signsP384
	case p256:
		return signsSuiteB | signsP256
	case p384:
		return signsSuiteB | signsP384
	}
	return 0
}

// signatureBits returns the strength of a signature with this hash, or with this
// algorithm that has no choice of a hash, as OpenSSL rates it.
func signatureBits(hash string) (bits int, known bool) {
	bits, known = map[string]int{"sha1": 64, "sha224": 112, "sha256": 128, "ed25519": 128, "sha384": 192, "ed448": 224, "sha512": 256}[hash]
	if hash == "sha1" && olderThan("3.0") {
		bits = 80
	}
	return bits, known
}

// levelBits returns the strength that a security level asks for
// (SSL_CTX_set_security_level(3)).
func levelBits(level int) int {
	return []int{0, 80, 112, 128, 192, 256}[min(max(level, 0), 5)]
}

// refusesSignature reports whether OpenSSL does not know a signature algorithm.
func (l library) refusesSignature(name string) bool {
	h, err := newCtxHandle(l, false)
	if err != nil {
		return false
	}
	defer h.close()
	return h.setSignatures(false, name) != nil
}
