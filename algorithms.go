//go:build cgo

package sslfilter

import "fmt"

// AlgorithmUse is what a connection uses an algorithm for.
type AlgorithmUse int

const (
	UseCipher        AlgorithmUse = iota // encrypts the records
	UseMAC                               // authenticates them; absent where the cipher does
	UseKDF                               // derives the keys
	UseDigest                            // the hash under UseKDF and of the handshake's transcript
	UseKeyExchange                       // the group, or RSA; absent in a resumed session without
	UseSignature                         // what this side signed the handshake with, if it did
	UsePeerSignature                     // what the peer signed it with, if it did
)

// String gives "cipher", "mac", "kdf", "digest", "key exchange", "signature" or
// "peer signature".
func (u AlgorithmUse) String() string {
	names := [...]string{"cipher", "mac", "kdf", "digest", "key exchange", "signature", "peer signature"}
	if u < 0 || int(u) >= len(names) {
		return fmt.Sprintf("AlgorithmUse(%d)", int(u))
	}
	return names[u]
}

// AlgorithmProvider says which provider of OpenSSL serves an algorithm.
type AlgorithmProvider struct {
	Use       AlgorithmUse
	Algorithm string // "AES-256-GCM", "secp256r1", "RSA-PSS+SHA256"
	Provider  string // "fips", "default"; empty where no active provider serves it
}

// String gives "cipher AES-256-GCM: fips".
func (a AlgorithmProvider) String() string {
	provider := a.Provider
	if provider == "" {
		provider = "no provider"
	}
	return a.Use.String() + " " + a.Algorithm + ": " + provider
}

// Providers lists the algorithms that the connection uses, and which provider
// serves each. OpenSSL does not tell which implementation a connection took;
// the answer is what a fetch of that algorithm gives in the connection's library
// context under its properties, which is how OpenSSL takes it. It does not say
// whether the provider counts a use as approved.
//
// The handshake must be done, and OpenSSL be 3.0 or later; otherwise it is an
// error.
//
// Calls EVP_CIPHER_fetch(3), EVP_MAC_fetch(3), EVP_KDF_fetch(3),
// EVP_KEYMGMT_fetch(3), EVP_SIGNATURE_fetch(3).
func (f *Filter) Providers() ([]AlgorithmProvider, error) {
	f.calls++
	switch {
	case f.ssl == nil:
		return nil, ErrClosed
	case !hasProviders():
		return nil, needs("Providers", "3.0")
	case !f.proved():
		return nil, &UsageError{"Providers", "the handshake is not done"}
	}
	return f.ssl.served(), nil
}
