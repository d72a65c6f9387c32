//go:build cgo

package sslfilter

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"strings"
)

// VersionError reports that the linked OpenSSL is too old for a feature.
type VersionError struct {
	Ability string // the feature: "group X25519MLKEM768"
	Needs   string // the version that introduced it: "3.5"
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("sslfilter: %s needs OpenSSL %s or later; this is %s", e.Ability, e.Needs, OpenSSLVersion())
}

func needs(ability, version string) error { return &VersionError{Ability: ability, Needs: version} }

// olderThan reports whether the OpenSSL at run time is older than version, a
// major and a minor number: "3.5".
func olderThan(version string) bool {
	var major, minor uint64
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return opensslNumber() < major<<28|minor<<20
}

// hasProviders reports whether OpenSSL has library contexts and providers.
func hasProviders() bool { return !olderThan("3.0") }

// newer maps names that OpenSSL 1.1.1 does not have to the version that
// introduced them (CHANGES.md of OpenSSL; measured with 1.1.1, 3.0, 3.5, 3.6
// and 4.0). Names are in lowercase.
var newer = map[string]map[string]string{
	"Groups": {
		"ffdhe2048": "3.0", "ffdhe3072": "3.0", "ffdhe4096": "3.0", "ffdhe6144": "3.0", "ffdhe8192": "3.0",
		"secp256r1":            "3.0", // named prime256v1 before; 1.1.1 has the other names
		"brainpoolp256r1tls13": "3.2", "brainpoolp384r1tls13": "3.2", "brainpoolp512r1tls13": "3.2",
		"x25519mlkem768": "3.5", "secp256r1mlkem768": "3.5", "secp384r1mlkem1024": "3.5",
		"mlkem512": "3.5", "mlkem768": "3.5", "mlkem1024": "3.5", "default": "3.5",
	},
	"SignatureAlgorithms": {
		"mldsa44": "3.5", "mldsa65": "3.5", "mldsa87": "3.5",
		"ecdsa_brainpoolp256r1tls13_sha256": "3.2", "ecdsa_brainpoolp384r1tls13_sha384": "3.2", "ecdsa_brainpoolp512r1tls13_sha512": "3.2",
	},
	"CipherSuites": {"tls_sha256_sha256": "3.4", "tls_sha384_sha384": "3.4"},
}

// kindOf names an element of the lists in newer.
var kindOf = map[string]string{"Groups": "group", "CipherSuites": "ciphersuite", "SignatureAlgorithms": "signature algorithm"}

// needsNewer returns the *VersionError for the first name in the list of an
// option that only a later OpenSSL knows, or nil.
func needsNewer(option, list string) error {
	if option == "Groups" && strings.ContainsAny(list, "/*") && olderThan("3.5") {
		return needs("'/' and '*' in a list of groups", "3.5")
	}
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return strings.ContainsRune(":/ ", r) }) {
		bare := strings.TrimLeft(name, "?*-")
		if version := newer[option][strings.ToLower(bare)]; version != "" && olderThan(version) {
			return needs(kindOf[option]+" "+bare, version)
		}
	}
	if (option == "Groups" || option == "SignatureAlgorithms") && strings.Contains(list, "?") && olderThan("3.3") {
		return needs("'?' in a list of "+kindOf[option]+"s", "3.3")
	}
	return nil
}

// newerKeys has the key types that OpenSSL 3.5 introduced (FIPS 204).
var newerKeys = map[string]string{
	"2.16.840.1.101.3.4.3.17": "ML-DSA-44", "2.16.840.1.101.3.4.3.18": "ML-DSA-65", "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}

// needsNewerKey returns the *VersionError for the first certificate or private
// key in text whose key type only a later OpenSSL knows, or nil.
func needsNewerKey(text []byte) error {
	if !olderThan("3.5") {
		return nil
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if kind := newerKeys[keyKind(block)]; kind != "" {
			return needs("a key of the kind "+kind, "3.5")
		}
	}
	return nil
}

// keyKind returns the object identifier of the key in a PEM block, or "".
func keyKind(block *pem.Block) string {
	defer clear(block.Bytes) // it may be a private key
	switch block.Type {
	case "CERTIFICATE":
		var info struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return ""
		}
		if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil {
			return ""
		}
		return info.Algorithm.Algorithm.String()
	case "PRIVATE KEY":
		var info struct {
			Version   int
			Algorithm pkix.AlgorithmIdentifier
			Key       []byte
		}
		if _, err := asn1.Unmarshal(block.Bytes, &info); err != nil {
			return ""
		}
		clear(info.Key)
		return info.Algorithm.Algorithm.String()
	}
	return ""
}
