//go:build cgo

package sslfilter

import "fmt"

// AlgorithmUse is the purpose for which a connection uses an algorithm.
type AlgorithmUse int

const (
	UseCipher        AlgorithmUse = iota // encrypts the records
	UseMAC                               // authenticates the records; absent if the cipher does
	UseKDF                               // derives the keys
	UseDigest                            // the hash of UseKDF and of the handshake transcript
	UseKeyExchange                       // the group, or RSA; absent if a resumed session has no key exchange
	UseSignature                         // the signature of this side in the handshake, if there is one
	UsePeerSignature                     // the signature of the peer in the handshake, if there is one
)

// String returns "cipher", "mac", "kdf", "digest", "key exchange", "signature"
// or "peer signature".
func (u AlgorithmUse) String() string {
	names := [...]string{"cipher", "mac", "kdf", "digest", "key exchange", "signature", "peer signature"}
	if u < 0 || int(u) >= len(names) {
		return fmt.Sprintf("AlgorithmUse(%d)", int(u))
	}
	return names[u]
}

// AlgorithmProvider names the OpenSSL provider that implements an algorithm.
type AlgorithmProvider struct {
	Use       AlgorithmUse
	Algorithm string // "AES-256-GCM", "secp256r1", "RSA-PSS+SHA256"
	Provider  string // "fips", "default"; empty if no active provider implements it
}

// String returns the three fields: "cipher AES-256-GCM: fips".
func (a AlgorithmProvider) String() string {
	provider := a.Provider
	if provider == "" {
		provider = "no provider"
	}
	return a.Use.String() + " " + a.Algorithm + ": " + provider
}

// Providers lists the algorithms that the connection uses, and the provider
// that implements each. OpenSSL does not report which implementation a
// connection uses. Providers fetches each algorithm in the connection's library
// context and with its properties, which is what OpenSSL does too. The result
// does not say whether the provider counts a use as approved.
//
// It returns a *UsageError before the handshake is done, and a *VersionError
// with an OpenSSL before 3.0.
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
