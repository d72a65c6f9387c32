package sslfilter_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// authorities returns CAs, in PEM form, whose names take at most n bytes in a request.
func authorities(t testing.TB, n int) (text []byte, size int) {
	t.Helper()
	for i := 0; ; i++ {
		ca := testkit.SelfSigned(t, x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), IsCA: true, BasicConstraintsValid: true,
			Subject: pkix.Name{CommonName: fmt.Sprintf("authority %05d ", i), Organization: []string{strings.Repeat("x", 60)}},
		})
		cert, err := x509.ParseCertificate(testkit.DER(t, ca))
		require.NoError(t, err)
		if size+2+len(cert.RawSubject) > n {
			return text, size
		}
		size += 2 + len(cert.RawSubject)
		text = append(text, ca...)
	}
}

// The names of the CAs must fit into the request for a certificate. Both versions send
// names up to the bound, and NewCtx rejects more.
func TestCertsCANamesAreBounded(t *testing.T) {
	root := testkit.PKIBytes(t, "root.crt")
	own := 2 + len(testkit.Cert(t, "root.crt").RawSubject)
	fitting, size := authorities(t, sslfilter.MaxCANames-own)
	require.Greater(t, size, sslfilter.MaxCANames-own-200)
	server := testkit.Asking(func(o *sslfilter.Options) { o.CACrt, o.CACrtMem = "", [][]byte{root, fitting} })
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		p := testkit.Connect(t, testkit.With(server, testkit.UpTo(highest)), testkit.Showing("client.crt", ""))
		require.True(t, p.Server.ClientCertValid())
	})

	long := testkit.TempFile(t, "cas.pem", slices.Concat(root, fitting, testkit.PKIBytes(t, "other.crt"), testkit.PKIBytes(t, "inter.crt"), testkit.PKIBytes(t, "ecroot.crt")))
	asks := func(o *sslfilter.Options) { o.CACrt = long }
	text := refuse(t, testkit.Asking(asks), "CACrt", long).Error()
	require.Regexp(t, `take 6\d{4} bytes in the request for a client certificate; at most 65024 are possible`, text)
	require.NoError(t, accepted(testkit.Server(asks)), "a server that does not ask for a certificate sends no names")
	require.NoError(t, accepted(testkit.Client(asks)), "a client sends no names")
}

// NewCtx rejects a chain that is too long for OpenSSL's clients. A chain just below the
// bound arrives.
func TestCertsOwnChainIsBounded(t *testing.T) {
	leaf := testkit.Mint(t, x509.Certificate{DNSNames: []string{"localhost"}})
	filler := func(n int) []byte {
		return testkit.DER(t, testkit.SelfSigned(t, x509.Certificate{Subject: pkix.Name{CommonName: strings.Repeat("x", n)}}))
	}
	room := sslfilter.MaxOwnChain - 4 - 5 - len(testkit.DER(t, leaf)) - 5
	overhead := len(filler(20000)) - 2*20000 // subject and issuer
	fit := (room - overhead) / 2
	chain := func(n int) []byte {
		return slices.Concat(leaf, testkit.PEM("CERTIFICATE", filler(n)))
	}
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		testkit.Connect(t, sslfilter.Options{CrtMem: chain(fit - 8), Key: testkit.PKI("client.key"), MaxVersion: highest}, testkit.Client())
	})

	file := testkit.TempFile(t, "long.pem", chain(fit+8))
	require.Contains(t, refuse(t, sslfilter.Options{Crt: file, Key: testkit.PKI("client.key")}, "Crt", file).Error(), "peers with OpenSSL take at most 102400")
}
