package sslfilter_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Invariant: whatever a responder sends, there is no panic, an error is an *Error, and a
// response is accepted only if it says what the issuer has signed: this one certificate is
// good.
func FuzzOCSP(f *testing.F) {
	cert, other := testkit.Cert(f, "server.crt"), testkit.CA(f, "other")
	named := responder(f, "root", 9) // x509.ExtKeyUsageOCSPSigning
	for _, o := range []testkit.OCSP{
		{Cert: cert}, {Cert: cert, SHA256: true, ByKey: true}, {Cert: cert, Forever: true}, {Cert: cert, Signer: named, Certs: [][]byte{named.Cert.Raw}},
		{Cert: cert, Until: time.Now().Add(-time.Hour)},
	} {
		f.Add(testkit.OCSPResponse(f, o))
	}
	f.Add(testkit.OCSPResponse(f, testkit.OCSP{Cert: cert, Signer: other, Certs: [][]byte{other.Cert.Raw}}))
	f.Add(testkit.OCSPError(3))
	f.Add([]byte{})
	staple := new(sslfilter.Staple)
	testkit.Ctx(f, testkit.Server(func(o *sslfilter.Options) { o.Staple, o.CACrt = staple, testkit.PKI("root.crt") }))
	f.Fuzz(func(t *testing.T, der []byte) {
		err := staple.Set(der)
		if err != nil {
			landmark(testkit.As[*sslfilter.Error](t, err).Hint)
			return
		}
		if len(der) == 0 {
			require.Equal(t, sslfilter.OCSPMissing, staple.Status().Status)
			return
		}
		require.Equal(t, sslfilter.OCSPGood, staple.Status().Status)
	})
}
