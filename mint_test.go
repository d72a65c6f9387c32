package sslfilter_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// certSpec is a certificate that the committed PKI does not have.
type certSpec struct {
	serial    int64
	big       *big.Int // wins over serial
	cn        string
	ca, caKey string // root.crt and root.key where empty
	client    bool   // for clients, and for servers otherwise
	expired   bool
	names     []string
	ips       []net.IP
	uris      []string
	emails    []string
	key       any // public key; that of client.key where nil
}

// mint makes a certificate for client.key, in PEM form.
func mint(t testing.TB, s certSpec) []byte {
	t.Helper()
	if s.ca == "" {
		s.ca, s.caKey = "root.crt", "root.key"
	}
	if s.key == nil {
		s.key = signer(t, "client.key").Public()
	}
	if s.big == nil {
		s.big = big.NewInt(s.serial)
	}
	usage := x509.ExtKeyUsageServerAuth
	if s.client {
		usage = x509.ExtKeyUsageClientAuth
	}
	template := &x509.Certificate{
		SerialNumber:   s.big,
		Subject:        pkix.Name{CommonName: s.cn},
		NotBefore:      time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:       time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
		ExtKeyUsage:    []x509.ExtKeyUsage{usage},
		DNSNames:       s.names,
		IPAddresses:    s.ips,
		EmailAddresses: s.emails,
	}
	for _, text := range s.uris {
		uri, err := url.Parse(text)
		require.NoError(t, err)
		template.URIs = append(template.URIs, uri)
	}
	if s.expired {
		template.NotAfter = template.NotBefore.AddDate(1, 0, 0)
	}
	ca, err := x509.ParseCertificate(pemDER(t, pkiBytes(t, s.ca)))
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, ca, s.key, signer(t, s.caKey))
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// revocations makes a CRL of the root with these serials, in PEM form.
func revocations(t testing.TB, serials ...*big.Int) []byte {
	t.Helper()
	list := &x509.RevocationList{
		Number:     big.NewInt(1),
		ThisUpdate: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NextUpdate: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: n, RevocationTime: list.ThisUpdate})
	}
	root, err := x509.ParseCertificate(pemDER(t, pkiBytes(t, "root.crt")))
	require.NoError(t, err)
	der, err := x509.CreateRevocationList(rand.Reader, list, root, signer(t, "root.key"))
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// serials makes the list that revocations takes.
func serials(n ...int64) (list []*big.Int) {
	for _, n := range n {
		list = append(list, big.NewInt(n))
	}
	return list
}

// signer is a private key of the test PKI.
func signer(t testing.TB, file string) crypto.Signer {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(pemDER(t, pkiBytes(t, file)))
	require.NoError(t, err)
	return key.(crypto.Signer)
}

func pemDER(t testing.TB, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	require.NotNil(t, block, "no PEM block in it")
	return block.Bytes
}
