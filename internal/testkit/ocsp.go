package testkit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// OCSP describes an OCSP response. The zero value of a field has a meaning: the
// response is good, and is valid from an hour ago until tomorrow.
type OCSP struct {
	Cert    *x509.Certificate // the certificate that it is about
	Issuer  *x509.Certificate // of Cert; the default is the test PKI's root
	Signer  Issuer            // the default is the root
	Certs   [][]byte          // certificates in the response, in DER form
	Status  int               // 0 good, 1 revoked, 2 unknown
	Reason  int               // of a revocation
	SHA256  bool              // hashes the issuer with SHA-256, not SHA-1
	From    time.Time         // thisUpdate
	Until   time.Time         // nextUpdate
	Forever bool              // there is no nextUpdate
	ByKey   bool              // names the responder by its key
	SHA1    bool              // signs with SHA-1, not SHA-256
	Dates   [2]string         // thisUpdate and nextUpdate as they are in the response, instead of From and Until
	Then    *OCSP             // one more statement in the same response; only Cert, Issuer, Status, Reason, SHA256 and the dates are used
}

// These types are the ASN.1 of RFC 6960 section 4.2.1.
type (
	ocspResponse struct {
		Status   asn1.Enumerated
		Response ocspBytes `asn1:"explicit,tag:0,optional"`
	}
	ocspBytes struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	}
	ocspBasic struct {
		Data      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
		Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	ocspData struct {
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Responses []ocspSingle
	}
	ocspSingle struct {
		ID      ocspID
		Good    asn1.Flag   `asn1:"tag:0,optional"`
		Revoked ocspRevoked `asn1:"tag:1,optional"`
		Unknown asn1.Flag   `asn1:"tag:2,optional"`
		From    asn1.RawValue
		Until   []asn1.RawValue `asn1:"tag:0,optional,omitempty"`
	}
	ocspRevoked struct {
		At     time.Time       `asn1:"generalized"`
		Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
	}
	ocspID struct {
		Hash      pkix.AlgorithmIdentifier
		Name, Key []byte
		Serial    asn1.RawValue
	}
)

// RevokedAt is the date of a revocation by OCSP.
var RevokedAt = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

// OCSPResponse returns an OCSP response in DER form.
func OCSPResponse(t testing.TB, o OCSP) []byte {
	t.Helper()
	if o.Signer.Cert == nil {
		o.Signer = CA(t, "root")
	}
	statements := []ocspSingle{o.statement(t)}
	if o.Then != nil {
		statements = append(statements, o.Then.statement(t))
	}
	responder := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: o.Signer.Cert.RawSubject}
	if o.ByKey {
		sum := sha1.Sum(keyBits(t, o.Signer.Cert))
		hash, err := asn1.Marshal(sum[:])
		require.NoError(t, err)
		responder = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, IsCompound: true, Bytes: hash}
	}
	data, err := asn1.Marshal(ocspData{responder, time.Now().UTC().Truncate(time.Second), statements})
	require.NoError(t, err)
	hash, algorithms := crypto.SHA256, [2]asn1.ObjectIdentifier{{1, 2, 840, 113549, 1, 1, 11}, {1, 2, 840, 10045, 4, 3, 2}} // sha256WithRSAEncryption, ecdsa-with-SHA256
	if o.SHA1 {
		hash, algorithms = crypto.SHA1, [2]asn1.ObjectIdentifier{{1, 2, 840, 113549, 1, 1, 5}, {1, 2, 840, 10045, 4, 1}} // sha1WithRSAEncryption, ecdsa-with-SHA1
	}
	sum := hash.New()
	sum.Write(data)
	signature, err := o.Signer.Key.Sign(rand.Reader, sum.Sum(nil), hash)
	require.NoError(t, err)
	basic := ocspBasic{Data: asn1.RawValue{FullBytes: data}, Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}}
	basic.Algorithm.Algorithm, basic.Algorithm.Parameters = algorithms[0], asn1.NullRawValue
	if _, ec := o.Signer.Key.Public().(*ecdsa.PublicKey); ec {
		basic.Algorithm = pkix.AlgorithmIdentifier{Algorithm: algorithms[1]}
	}
	for _, der := range o.Certs {
		basic.Certs = append(basic.Certs, asn1.RawValue{FullBytes: der})
	}
	inner, err := asn1.Marshal(basic)
	require.NoError(t, err)
	der, err := asn1.Marshal(ocspResponse{0, ocspBytes{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}, inner}})
	require.NoError(t, err)
	return der
}

// statement is what the response says about one certificate.
func (o OCSP) statement(t testing.TB) (single ocspSingle) {
	t.Helper()
	if o.Issuer == nil {
		o.Issuer = CA(t, "root").Cert
	}
	now := time.Now()
	if o.From.IsZero() {
		o.From = now.Add(-time.Hour)
	}
	if o.Until.IsZero() {
		o.Until = now.Add(24 * time.Hour)
	}
	dates := o.Dates
	if dates[0] == "" {
		const layout = "20060102150405Z"
		dates = [2]string{o.From.UTC().Format(layout), o.Until.UTC().Format(layout)}
	}
	date := func(text string) asn1.RawValue {
		return asn1.RawValue{Tag: asn1.TagGeneralizedTime, Bytes: []byte(text)}
	}
	single.From = date(dates[0])
	if !o.Forever {
		single.Until = []asn1.RawValue{date(dates[1])}
	}
	serial, err := asn1.Marshal(o.Cert.SerialNumber)
	require.NoError(t, err)
	single.ID.Serial.FullBytes = serial
	if o.SHA256 {
		name, key := sha256.Sum256(o.Issuer.RawSubject), sha256.Sum256(keyBits(t, o.Issuer))
		single.ID.Hash.Algorithm, single.ID.Name, single.ID.Key = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, name[:], key[:]
	} else {
		name, key := sha1.Sum(o.Issuer.RawSubject), sha1.Sum(keyBits(t, o.Issuer))
		single.ID.Hash.Algorithm, single.ID.Name, single.ID.Key = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, name[:], key[:]
	}
	single.ID.Hash.Parameters = asn1.NullRawValue
	switch o.Status {
	case 0:
		single.Good = true
	case 1:
		single.Revoked = ocspRevoked{RevokedAt, asn1.Enumerated(o.Reason)}
	default:
		single.Unknown = true
	}
	return single
}

// keyBits returns the public key as OCSP hashes it.
func keyBits(t testing.TB, cert *x509.Certificate) []byte {
	t.Helper()
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	_, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &key)
	require.NoError(t, err)
	return key.Bits.Bytes
}

// OCSPError returns a response with the status of an error: 3 is tryLater.
func OCSPError(status int) []byte { return []byte{0x30, 3, 0x0a, 1, byte(status)} }

// MustStaple returns a certificate of the root for localhost and the key client.key, with
// the TLS feature extension, in PEM form.
func MustStaple(t testing.TB) []byte {
	t.Helper()
	return Mint(t, x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}},
	})
}
