package testkit

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// folder is testdata/pki of the module, relative to the working directory of the test.
// It is relative because error texts contain the paths of files, and some of these
// texts are compared with golden files.
var folder = sync.OnceValue(func() string {
	at, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for up := ""; ; up, at = filepath.Join("..", up), filepath.Dir(at) {
		pki := filepath.Join("testdata", "pki")
		if _, err := os.Stat(filepath.Join(at, pki)); err == nil {
			return filepath.Join(up, pki)
		}
		if at == filepath.Dir(at) {
			panic("testkit: no folder testdata/pki above " + at)
		}
	}
})

// PKI returns the path of a file of the committed test PKI, relative to the
// working directory. testdata/pki/mkpki.sh makes these files.
func PKI(name string) string { return filepath.Join(folder(), name) }

// AbsPKI is PKI with an absolute path, for programs and configurations that do
// not belong to the working directory of the test.
func AbsPKI(name string) string {
	path, err := filepath.Abs(PKI(name))
	if err != nil {
		panic(err)
	}
	return path
}

// PKIBytes returns the content of a file of the test PKI.
func PKIBytes(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(PKI(name))
	require.NoError(t, err)
	return data
}

// Cert returns the first certificate in a file of the test PKI.
func Cert(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(DER(t, PKIBytes(t, name)))
	require.NoError(t, err)
	return cert
}

// Key returns the private key in a file of the test PKI.
func Key(t testing.TB, name string) crypto.Signer {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(DER(t, PKIBytes(t, name)))
	require.NoError(t, err)
	return key.(crypto.Signer)
}

// DER returns the content of the first PEM block of text.
func DER(t testing.TB, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	require.NotNil(t, block, "no PEM block in the text")
	return block.Bytes
}

// PEM returns der as a PEM block of this type.
func PEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
