//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
)

// Method is the digest of a signature.
type Method *C.EVP_MD

var (
	SHA1_Method   Method = C.EVP_sha1()
	SHA256_Method Method = C.EVP_sha256()
	SHA512_Method Method = C.EVP_sha512()
)

// The types of keys, as KeyType returns them.
const (
	KeyTypeNone    = NID_undef
	KeyTypeRSA     = NID_rsaEncryption
	KeyTypeRSA2    = NID_rsa
	KeyTypeDSA     = NID_dsa
	KeyTypeDSA1    = NID_dsa_2
	KeyTypeDSA2    = NID_dsaWithSHA
	KeyTypeDSA3    = NID_dsaWithSHA1
	KeyTypeDSA4    = NID_dsaWithSHA1_2
	KeyTypeDH      = NID_dhKeyAgreement
	KeyTypeDHX     = NID_dhpublicnumber
	KeyTypeEC      = NID_X9_62_id_ecPublicKey
	KeyTypeHMAC    = NID_hmac
	KeyTypeCMAC    = NID_cmac
	KeyTypeTLS1PRF = NID_tls1_prf
	KeyTypeHKDF    = NID_hkdf
	KeyTypeX25519  = NID_X25519
	KeyTypeX448    = NID_X448
	KeyTypeED25519 = NID_ED25519
	KeyTypeED448   = NID_ED448
)

// EllipticCurve is the number of a named curve.
type EllipticCurve int

const (
	Prime256v1 EllipticCurve = C.NID_X9_62_prime256v1 // P-256
	Secp384r1  EllipticCurve = C.NID_secp384r1        // P-384
	Secp521r1  EllipticCurve = C.NID_secp521r1        // P-521
)

// PublicKey is a public key. Only this package implements it.
type PublicKey interface {
	// VerifyPKCS1v15 verifies a signature of data: of PKCS #1 v1.5 with an RSA
	// key, ECDSA with an EC key, and EdDSA with a key of Ed25519 or Ed448, for
	// which method must be nil.
	VerifyPKCS1v15(method Method, data, sig []byte) error
	// MarshalPKIXPublicKeyPEM returns the SubjectPublicKeyInfo in PEM form.
	MarshalPKIXPublicKeyPEM() (pem_block []byte, err error)
	// MarshalPKIXPublicKeyDER returns the SubjectPublicKeyInfo in DER form.
	MarshalPKIXPublicKeyDER() (der_block []byte, err error)
	// KeyType returns the type of the key.
	KeyType() NID
	// BaseType returns the type of the key, which is the same for all legacy
	// numbers of an algorithm.
	BaseType() NID

	evpPKey() *key
}

// PrivateKey is a private key with its public key.
type PrivateKey interface {
	PublicKey

	// SignPKCS1v15 signs data; see VerifyPKCS1v15 for the kind of signature.
	SignPKCS1v15(Method, []byte) ([]byte, error)
	// MarshalPKCS1PrivateKeyPEM returns the key in PEM form: PKCS #1 for RSA,
	// SEC 1 for EC keys, and PKCS #8 for types without a form of their own.
	MarshalPKCS1PrivateKeyPEM() (pem_block []byte, err error)
	// MarshalPKCS1PrivateKeyDER returns the same in DER form.
	MarshalPKCS1PrivateKeyDER() (der_block []byte, err error)
}

// ed25519_support is what the tests of the old package ask for. OpenSSL 1.1.1 is
// the first version with Ed25519.
const ed25519_support = true

// key is an EVP_PKEY.
type key struct {
	p *C.EVP_PKEY
}

func newKey(p *C.EVP_PKEY) *key {
	k := &key{p}
	runtime.AddCleanup(k, func(p *C.EVP_PKEY) { C.EVP_PKEY_free(p) }, p)
	return k
}

type publicKey struct{ key *key }

type privateKey struct{ publicKey }

func (k publicKey) evpPKey() *key { return k.key }

func (k publicKey) KeyType() NID {
	defer runtime.KeepAlive(k.key)
	return NID(C.compat_key_id(k.key.p))
}

func (k publicKey) BaseType() NID {
	defer runtime.KeepAlive(k.key)
	return NID(C.compat_key_base_id(k.key.p))
}

// method checks that a signature of this key has a digest, or has none.
func (k publicKey) method(m Method) error {
	switch k.BaseType() {
	case KeyTypeED25519, KeyTypeED448:
		if m != nil {
			return errors.New("openssl: Ed25519 and Ed448 sign the data itself: the method must be nil")
		}
	default:
		if m == nil {
			return errors.New("openssl: a signature with this type of key needs a method")
		}
	}
	return nil
}

func (k publicKey) VerifyPKCS1v15(method Method, data, sig []byte) error {
	if err := k.method(method); err != nil {
		return err
	}
	var errs C.compat_err
	ok := C.compat_verify(k.key.p, method, ptr(data), C.size_t(len(data)), ptr(sig), C.size_t(len(sig)), &errs)
	runtime.KeepAlive(k.key)
	if ok == 0 {
		return failure("verify", &errs)
	}
	return nil
}

// write returns the key in one of the forms of compat_key_write.
func (k *key) write(form C.int) ([]byte, error) {
	var errs C.compat_err
	var out C.compat_buf
	ok := C.compat_key_write(k.p, form, &out, &errs)
	runtime.KeepAlive(k)
	if ok == 0 {
		return nil, failure("marshal key", &errs)
	}
	return take(&out), nil
}

// pkcs8 returns the private key in PEM form, for the engine.
func (k *key) pkcs8() ([]byte, error) { return k.write(C.COMPAT_PKCS8_PEM) }

func (k publicKey) MarshalPKIXPublicKeyPEM() (pem_block []byte, err error) {
	return k.key.write(C.COMPAT_PUBLIC_PEM)
}

func (k publicKey) MarshalPKIXPublicKeyDER() (der_block []byte, err error) {
	return k.key.write(C.COMPAT_PUBLIC_DER)
}

func (k privateKey) MarshalPKCS1PrivateKeyPEM() (pem_block []byte, err error) {
	return k.key.write(C.COMPAT_PRIVATE_PEM)
}

func (k privateKey) MarshalPKCS1PrivateKeyDER() (der_block []byte, err error) {
	return k.key.write(C.COMPAT_PRIVATE_DER)
}

func (k privateKey) SignPKCS1v15(method Method, data []byte) ([]byte, error) {
	if err := k.method(method); err != nil {
		return nil, err
	}
	var errs C.compat_err
	var sig C.compat_buf
	ok := C.compat_sign(k.key.p, method, ptr(data), C.size_t(len(data)), &sig, &errs)
	runtime.KeepAlive(k.key)
	if ok == 0 {
		return nil, failure("sign", &errs)
	}
	return take(&sig), nil
}

// private returns p as a PrivateKey, or the error if it is nil.
func private(op string, p *C.EVP_PKEY, errs *C.compat_err) (PrivateKey, error) {
	if p == nil {
		return nil, failure(op, errs)
	}
	return privateKey{publicKey{newKey(p)}}, nil
}

func public(op string, p *C.EVP_PKEY, errs *C.compat_err) (PublicKey, error) {
	if p == nil {
		return nil, failure(op, errs)
	}
	return publicKey{newKey(p)}, nil
}

// LoadPrivateKeyFromPEM reads a private key that is not encrypted. It never asks
// for a passphrase: for a key that is encrypted it returns an error.
func LoadPrivateKeyFromPEM(pem_block []byte) (PrivateKey, error) {
	var errs C.compat_err
	return private("private key", C.compat_key_private_pem(ptr(pem_block), C.size_t(len(pem_block)), nil, 0, &errs), &errs)
}

// LoadPrivateKeyFromPEMWithPassword reads a private key that may be encrypted with
// password.
func LoadPrivateKeyFromPEMWithPassword(pem_block []byte, password string) (PrivateKey, error) {
	var errs C.compat_err
	var p *C.EVP_PKEY
	withString(password, func(s *C.char) {
		p = C.compat_key_private_pem(ptr(pem_block), C.size_t(len(pem_block)), s, C.size_t(len(password)), &errs)
	})
	return private("private key", p, &errs)
}

// LoadPrivateKeyFromPEMWidthPassword is LoadPrivateKeyFromPEMWithPassword under the
// name that it first had.
func LoadPrivateKeyFromPEMWidthPassword(pem_block []byte, password string) (PrivateKey, error) {
	return LoadPrivateKeyFromPEMWithPassword(pem_block, password)
}

// LoadPrivateKeyFromDER reads a private key: PKCS #1, SEC 1 or PKCS #8.
func LoadPrivateKeyFromDER(der_block []byte) (PrivateKey, error) {
	var errs C.compat_err
	return private("private key", C.compat_key_private_der(ptr(der_block), C.size_t(len(der_block)), &errs), &errs)
}

// LoadPublicKeyFromPEM reads a SubjectPublicKeyInfo ("PUBLIC KEY").
func LoadPublicKeyFromPEM(pem_block []byte) (PublicKey, error) {
	var errs C.compat_err
	return public("public key", C.compat_key_public_pem(ptr(pem_block), C.size_t(len(pem_block)), &errs), &errs)
}

// LoadPublicKeyFromDER reads a SubjectPublicKeyInfo.
func LoadPublicKeyFromDER(der_block []byte) (PublicKey, error) {
	var errs C.compat_err
	return public("public key", C.compat_key_public_der(ptr(der_block), C.size_t(len(der_block)), &errs), &errs)
}

// GenerateRSAKey generates an RSA key. Its exponent is 65537; the old package took
// 3, which FIPS and many CAs do not accept.
func GenerateRSAKey(bits int) (PrivateKey, error) { return GenerateRSAKeyWithExponent(bits, 65537) }

// GenerateRSAKeyWithExponent generates an RSA key with this public exponent.
//
// Calls EVP_PKEY_keygen(3).
func GenerateRSAKeyWithExponent(bits int, exponent int) (PrivateKey, error) {
	if exponent < 3 || exponent%2 == 0 {
		return nil, fmt.Errorf("openssl: RSA exponent %d: must be odd, and 3 or more", exponent)
	}
	if bits < 512 || bits > 16384 {
		return nil, fmt.Errorf("openssl: RSA key of %d bits: must have 512 to 16384", bits)
	}
	var errs C.compat_err
	return private("generate RSA key", C.compat_key_rsa(C.int(bits), C.ulong(exponent), &errs), &errs)
}

// GenerateECKey generates an EC key.
func GenerateECKey(curve EllipticCurve) (PrivateKey, error) {
	var errs C.compat_err
	return private("generate EC key", C.compat_key_ec(C.int(curve), &errs), &errs)
}

// GenerateED25519Key generates an Ed25519 key.
func GenerateED25519Key() (PrivateKey, error) {
	var errs C.compat_err
	return private("generate Ed25519 key", C.compat_key_ed25519(&errs), &errs)
}

// DeriveSharedSecret derives the secret that the owners of the two keys have in
// common: ECDH, X25519 or DH, according to the type of the keys.
//
// Calls EVP_PKEY_derive(3).
func DeriveSharedSecret(private PrivateKey, public PublicKey) ([]byte, error) {
	var errs C.compat_err
	var secret C.compat_buf
	k, peer := private.evpPKey(), public.evpPKey()
	ok := C.compat_derive(k.p, peer.p, &secret, &errs)
	runtime.KeepAlive(k)
	runtime.KeepAlive(peer)
	if ok == 0 {
		return nil, failure("derive", &errs)
	}
	return take(&secret), nil
}

// DH is a group for the key exchange DHE.
type DH struct {
	pem []byte
}

// LoadDHParametersFromPEM reads DH parameters ("DH PARAMETERS").
func LoadDHParametersFromPEM(pem_block []byte) (*DH, error) {
	var errs C.compat_err
	p := C.compat_dh_pem(ptr(pem_block), C.size_t(len(pem_block)), &errs)
	if p == nil {
		return nil, failure("DH parameters", &errs)
	}
	pem, err := newKey(p).write(C.COMPAT_PARAMETERS_PEM)
	if err != nil {
		return nil, err
	}
	return &DH{pem}, nil
}
