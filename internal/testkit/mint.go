package testkit

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The dates of everything that is minted, unless the template has others.
var (
	mintedFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	mintedUntil = time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Issuer signs certificates and CRLs.
type Issuer struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// CA returns an issuer of the test PKI by the name of its files, such as "root",
// "inter" or "other".
func CA(t testing.TB, name string) Issuer {
	t.Helper()
	return Issuer{Cert(t, name+".crt"), Key(t, name+".key")}
}

// Mint issues a certificate of the test PKI's root for the key client.key, and
// returns it in PEM form. The template describes it as x509.CreateCertificate
// does; serial number and dates have defaults.
func Mint(t testing.TB, template x509.Certificate) []byte {
	t.Helper()
	return MintFrom(t, CA(t, "root"), template, Key(t, "client.key").Public())
}

// MintFrom is Mint with another issuer and another public key.
func MintFrom(t testing.TB, ca Issuer, template x509.Certificate, key crypto.PublicKey) []byte {
	t.Helper()
	fillDates(&template.NotBefore, &template.NotAfter)
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(0x4711)
	}
	if ca.Cert == nil {
		ca.Cert = &template
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, ca.Cert, key, ca.Key)
	require.NoError(t, err)
	return PEM("CERTIFICATE", der)
}

// SelfSigned is Mint for a certificate that the key client.key itself signs.
func SelfSigned(t testing.TB, template x509.Certificate) []byte {
	t.Helper()
	key := Key(t, "client.key")
	return MintFrom(t, Issuer{Key: key}, template, key.Public())
}

// CRL returns a CRL of the test PKI's root with these serial numbers, in PEM form.
func CRL(t testing.TB, serials ...int64) []byte {
	t.Helper()
	var all []*big.Int
	for _, n := range serials {
		all = append(all, big.NewInt(n))
	}
	return CRLFrom(t, CA(t, "root"), x509.RevocationList{RevokedCertificateEntries: Revoked(all...)})
}

// CRLFrom returns a CRL as the template describes it, in PEM form. Number and
// dates have defaults.
func CRLFrom(t testing.TB, ca Issuer, template x509.RevocationList) []byte {
	t.Helper()
	fillDates(&template.ThisUpdate, &template.NextUpdate)
	if template.Number == nil {
		template.Number = big.NewInt(1)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &template, ca.Cert, ca.Key)
	require.NoError(t, err)
	return PEM("X509 CRL", der)
}

// CRLv1 is CRL for a CRL of version 1, which has no number and no other extensions. OpenSSL
// accepts it, and crypto/x509 does not.
func CRLv1(t testing.TB, serials ...int64) []byte {
	t.Helper()
	var list pkix.CertificateList
	_, err := asn1.Unmarshal(DER(t, CRL(t, serials...)), &list)
	require.NoError(t, err)
	list.TBSCertList.Raw, list.TBSCertList.Version, list.TBSCertList.Extensions = nil, 0, nil
	tbs, err := asn1.Marshal(list.TBSCertList)
	require.NoError(t, err)
	sum := sha256.Sum256(tbs)
	signature, err := CA(t, "root").Key.Sign(rand.Reader, sum[:], crypto.SHA256)
	require.NoError(t, err)
	list.SignatureValue = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	der, err := asn1.Marshal(list)
	require.NoError(t, err)
	return PEM("X509 CRL", der)
}

// Revoked returns the entries of a CRL with these serial numbers.
func Revoked(serials ...*big.Int) (entries []x509.RevocationListEntry) {
	for _, n := range serials {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: mintedFrom})
	}
	return entries
}

func fillDates(from, until *time.Time) {
	if from.IsZero() {
		*from = mintedFrom
	}
	if until.IsZero() {
		*until = mintedUntil
	}
}
