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
	signsEC
	signsDSA
	signsEd25519
	signsEd448

	signsAll signs = -1
)

// signatureKinds returns the kinds of keys that can sign with a list of
// signature algorithms. A name that it does not know stands for all kinds.
func signatureKinds(list string) (kinds signs) {
	if list == "" {
		return signsAll
	}
	for name := range strings.SplitSeq(strings.ToLower(list), ":") {
		switch name = strings.TrimLeft(name, "?"); {
		case strings.HasPrefix(name, "rsa+"), strings.HasPrefix(name, "rsa_pkcs1_"):
			kinds |= signsRSA
		case strings.HasPrefix(name, "rsa-pss+"), strings.HasPrefix(name, "pss+"), strings.HasPrefix(name, "rsa_pss_rsae_"):
			kinds |= signsRSA | signsRSA13
		case strings.HasPrefix(name, "rsa_pss_pss_"):
			kinds |= signsPSS
		case strings.HasPrefix(name, "ecdsa+"), strings.HasPrefix(name, "ecdsa_"):
			kinds |= signsEC
		case strings.HasPrefix(name, "dsa+"), strings.HasPrefix(name, "dsa_"):
			kinds |= signsDSA
		case name == "ed25519":
			kinds |= signsEd25519
		case name == "ed448":
			kinds |= signsEd448
		default:
			return signsAll
		}
	}
	return kinds
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
