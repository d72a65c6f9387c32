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
		From    time.Time   `asn1:"generalized"`
		Until   time.Time   `asn1:"generalized,explicit,tag:0,optional"`
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
	root := CA(t, "root")
	if o.Issuer == nil {
		o.Issuer = root.Cert
	}
	if o.Signer.Cert == nil {
		o.Signer = root
	}
	now := time.Now().UTC().Truncate(time.Second)
	if o.From.IsZero() {
		o.From = now.Add(-time.Hour)
	}
	if o.Until.IsZero() {
		o.Until = now.Add(24 * time.Hour)
	}
	if o.Forever {
		o.Until = time.Time{}
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	parse := func(cert *x509.Certificate) []byte {
		_, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &key)
		require.NoError(t, err)
		return key.Bits.Bytes
	}
	serial, err := asn1.Marshal(o.Cert.SerialNumber)
	require.NoError(t, err)
	single := ocspSingle{ID: ocspID{Serial: asn1.RawValue{FullBytes: serial}}, From: o.From.UTC(), Until: o.Until.UTC()}
	if o.Forever {
		single.Until = time.Time{}
	}
	if o.SHA256 {
		name, issuerKey := sha256.Sum256(o.Issuer.RawSubject), sha256.Sum256(parse(o.Issuer))
		single.ID.Hash.Algorithm, single.ID.Name, single.ID.Key = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, name[:], issuerKey[:]
	} else {
		name, issuerKey := sha1.Sum(o.Issuer.RawSubject), sha1.Sum(parse(o.Issuer))
		single.ID.Hash.Algorithm, single.ID.Name, single.ID.Key = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, name[:], issuerKey[:]
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
	responder := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: o.Signer.Cert.RawSubject}
	if o.ByKey {
		sum := sha1.Sum(parse(o.Signer.Cert))
		hash, err := asn1.Marshal(sum[:])
		require.NoError(t, err)
		responder = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, IsCompound: true, Bytes: hash}
	}
	data, err := asn1.Marshal(ocspData{responder, now, []ocspSingle{single}})
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	signature, err := o.Signer.Key.Sign(rand.Reader, sum[:], crypto.SHA256)
	require.NoError(t, err)
	basic := ocspBasic{Data: asn1.RawValue{FullBytes: data}, Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}}
	basic.Algorithm.Algorithm, basic.Algorithm.Parameters = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.NullRawValue // sha256WithRSAEncryption
	if _, ec := o.Signer.Key.Public().(*ecdsa.PublicKey); ec {
		basic.Algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}} // ecdsa-with-SHA256
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

// OCSPError returns a response with the status of an error: 3 is tryLater.
func OCSPError(status int) []byte { return []byte{0x30, 3, 0x0a, 1, byte(status)} }
