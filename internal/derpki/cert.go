package derpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"math/big"

	_ "crypto/md5"
	_ "crypto/sha1"
	_ "crypto/sha512"
)

// Key is a key pair.
type Key struct {
	crypto.Signer
	SPKI []byte // SubjectPublicKeyInfo
}

// EC derives a key of a curve from a name. The key is the same in every run.
func EC(curve elliptic.Curve, name string) *Key {
	sum := sha256.Sum256([]byte(name))
	size := (curve.Params().BitSize + 7) / 8
	raw := make([]byte, size)
	copy(raw[max(0, size-len(sum)):], sum[:])
	raw[0] &= 0x7f
	raw[0] >>= uint(8*size - curve.Params().BitSize)
	key, err := ecdsa.ParseRawPrivateKey(curve, raw)
	must(err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	must(err)
	return &Key{key, spki}
}

// P256 is EC of that curve.
func P256(name string) *Key { return EC(elliptic.P256(), name) }

// Ed25519 derives a key from a name.
func Ed25519(name string) *Key {
	sum := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(sum[:])
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	must(err)
	return &Key{key, spki}
}

// RSA makes a new key, which differs in every run.
func RSA(bits int) *Key {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	must(err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	must(err)
	return &Key{key, spki}
}

// P192 derives a key of a curve that crypto/elliptic does not have.
func P192(name string) *Key {
	hex := func(s string) *big.Int {
		n, ok := new(big.Int).SetString(s, 16)
		if !ok {
			panic(s)
		}
		return n
	}
	// SEC 2, secp192r1.
	p := hex("fffffffffffffffffffffffffffffffeffffffffffffffff")
	n := hex("ffffffffffffffffffffffff99def836146bc9b1b4d22831")
	b := hex("64210519e59c80e70fa7e9ab72243049feb8deecc146b9b1")
	g := point{hex("188da80eb03090f67cbf20eb43a18800f4ff0afd82ff1012"), hex("07192b95ffc8da78631011ed6b24cdd573f977a11e794811")}
	sum := sha256.Sum256([]byte(name))
	d := new(big.Int).SetBytes(sum[:])
	d.Mod(d, new(big.Int).Sub(n, big.NewInt(1))).Add(d, big.NewInt(1))
	k := &weakKey{p: p, n: n, b: b, g: g, d: d}
	q := k.mul(d, g)
	public := append([]byte{4}, append(q.x.FillBytes(make([]byte, 24)), q.y.FillBytes(make([]byte, 24))...)...)
	return &Key{k, Seq(Seq(OID(1, 2, 840, 10045, 2, 1), OID(1, 2, 840, 10045, 3, 1, 1)), Bits(public))}
}

// SigAlg is a signature algorithm.
type SigAlg struct {
	Hash crypto.Hash
	ID   []byte // AlgorithmIdentifier
}

var null = TLV(TagNull)

// Signature algorithms.
var (
	ECDSAWithSHA1   = SigAlg{crypto.SHA1, Seq(OID(1, 2, 840, 10045, 4, 1))}
	ECDSAWithSHA224 = SigAlg{crypto.SHA224, Seq(OID(1, 2, 840, 10045, 4, 3, 1))}
	ECDSAWithSHA256 = SigAlg{crypto.SHA256, Seq(OID(1, 2, 840, 10045, 4, 3, 2))}
	ECDSAWithSHA384 = SigAlg{crypto.SHA384, Seq(OID(1, 2, 840, 10045, 4, 3, 3))}
	RSAWithMD5      = SigAlg{crypto.MD5, Seq(OID(1, 2, 840, 113549, 1, 1, 4), null)}
	RSAWithSHA1     = SigAlg{crypto.SHA1, Seq(OID(1, 2, 840, 113549, 1, 1, 5), null)}
	RSAWithSHA256   = SigAlg{crypto.SHA256, Seq(OID(1, 2, 840, 113549, 1, 1, 11), null)}
	Ed25519Alg      = SigAlg{0, Seq(OID(1, 3, 101, 112))}
	UnknownAlg      = SigAlg{crypto.SHA256, Seq(OID(1, 3, 6, 1, 4, 1, 99999, 1))}
)

// Alg returns the usual signature algorithm of a key.
func (k *Key) Alg() SigAlg {
	switch k.Signer.(type) {
	case *rsa.PrivateKey:
		return RSAWithSHA256
	case ed25519.PrivateKey:
		return Ed25519Alg
	}
	return ECDSAWithSHA256
}

func (k *Key) sign(alg SigAlg, data []byte) []byte {
	if alg.Hash != 0 {
		h := alg.Hash.New()
		h.Write(data)
		data = h.Sum(nil)
	}
	var opts crypto.SignerOpts = alg.Hash
	sig, err := k.Sign(nil, data, opts) // without randomness, as in RFC 6979
	must(err)
	return sig
}

// Cert describes a certificate. All byte slices are DER. Zero values have the usual
// meanings: version 3, serial number 1, the algorithm of the issuer's key, valid from
// 2020 to 2099.
type Cert struct {
	Version         []byte // the whole element [0]; empty and not nil is version 1
	Serial          []byte
	Issuer, Subject []byte
	NotBefore       []byte
	NotAfter        []byte
	Key             *Key
	SPKI            []byte // wins over that of Key
	Exts            [][]byte
	ExtsRaw         []byte // the whole element [3]; wins over Exts

	Alg     *SigAlg // the signature algorithm
	Inner   []byte  // AlgorithmIdentifier in the TBSCertificate, if it differs
	Signer  *Key
	BadSig  bool                // the signature has a wrong bit
	Outer   func([]byte) []byte // changes the complete certificate
	Changed func([]byte) []byte // changes the TBSCertificate before it is signed
}

// The elements for the versions of a certificate.
var (
	Version1 = []byte{}
	Version2 = TLV(0xa0, Int(1))
	Version3 = TLV(0xa0, Int(2))
	Version4 = TLV(0xa0, Int(3))
)

// DER returns the certificate.
func (c Cert) DER() []byte {
	if c.Version == nil {
		c.Version = Version3
	}
	if c.Serial == nil {
		c.Serial = Int(1)
	}
	if c.NotBefore == nil {
		c.NotBefore = Time(2020)
	}
	if c.NotAfter == nil {
		c.NotAfter = Time(2099)
	}
	if c.SPKI == nil {
		c.SPKI = c.Key.SPKI
	}
	alg := c.Signer.Alg()
	if c.Alg != nil {
		alg = *c.Alg
	}
	inner := c.Inner
	if inner == nil {
		inner = alg.ID
	}
	exts := c.ExtsRaw
	if exts == nil && len(c.Exts) > 0 {
		exts = TLV(0xa3, Seq(c.Exts...))
	}
	tbs := Seq(c.Version, c.Serial, inner, c.Issuer, Seq(c.NotBefore, c.NotAfter), c.Subject, c.SPKI, exts)
	if c.Changed != nil {
		tbs = c.Changed(tbs)
	}
	return finish(tbs, alg, c.Signer, c.BadSig, c.Outer)
}

func finish(tbs []byte, alg SigAlg, signer *Key, bad bool, outer func([]byte) []byte) []byte {
	sig := signer.sign(alg, tbs)
	if bad {
		sig[len(sig)-1] ^= 1
	}
	der := Seq(tbs, alg.ID, Bits(sig))
	if outer != nil {
		der = outer(der)
	}
	return der
}

// Revoked is one entry of a CRL.
type Revoked struct {
	Serial []byte
	Exts   [][]byte
}

// CRL describes a CRL, as Cert describes a certificate.
type CRL struct {
	Version                []byte // empty and not nil is version 1
	Issuer                 []byte
	ThisUpdate, NextUpdate []byte // a NextUpdate that is empty and not nil is left out
	Entries                []Revoked
	Exts                   [][]byte

	Alg    *SigAlg
	Signer *Key
	BadSig bool
	Outer  func([]byte) []byte
}

// DER returns the CRL.
func (c CRL) DER() []byte {
	if c.Version == nil {
		c.Version = Int(1)
	}
	if c.ThisUpdate == nil {
		c.ThisUpdate = Time(2020)
	}
	if c.NextUpdate == nil {
		c.NextUpdate = Time(2099)
	}
	alg := c.Signer.Alg()
	if c.Alg != nil {
		alg = *c.Alg
	}
	var entries, exts []byte
	for _, e := range c.Entries {
		var of []byte
		if len(e.Exts) > 0 {
			of = Seq(e.Exts...)
		}
		entries = append(entries, Seq(e.Serial, Time(2021), of)...)
	}
	if len(entries) > 0 {
		entries = Seq(entries)
	}
	if len(c.Exts) > 0 {
		exts = TLV(0xa0, Seq(c.Exts...))
	}
	tbs := Seq(c.Version, alg.ID, c.Issuer, c.ThisUpdate, c.NextUpdate, entries, exts)
	return finish(tbs, alg, c.Signer, c.BadSig, c.Outer)
}

func must(err error) {
	if err != nil {
		panic("derpki: " + err.Error()) // a mistake in the test
	}
}

// PKCS8 returns a private key in DER, as PKCS #8.
func PKCS8(k *Key) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(k.Signer)
	must(err)
	return der
}
