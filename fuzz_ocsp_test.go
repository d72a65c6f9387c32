package sslfilter_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
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

// Invariant: whatever a server staples, there is no panic, and a client that verifies
// responses accepts the server only if the response says "good". Then a Staple of the same
// certificate accepts the response too: two verifiers agree. The certificate demands a
// response, and CRLs are checked.
func FuzzOCSPClient(f *testing.F) {
	crt := testkit.MustStaple(f)
	cert, err := x509.ParseCertificate(testkit.DER(f, crt))
	require.NoError(f, err)
	root, other := testkit.CA(f, "root"), testkit.CA(f, "other")
	named := responder(f, "root", x509.ExtKeyUsageOCSPSigning)
	noCheck := responderWith(f, "root", []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}, x509.ExtKeyUsageOCSPSigning)
	const clients = 3
	for i, o := range []testkit.OCSP{
		{}, {SHA256: true, ByKey: true}, {Forever: true}, {SHA1: true}, {Status: 1}, {Status: 2}, {Until: time.Now().Add(-time.Hour)},
		{Signer: named, Certs: [][]byte{named.Cert.Raw}}, {Signer: noCheck, Certs: [][]byte{noCheck.Cert.Raw}}, {Signer: other, Certs: [][]byte{other.Cert.Raw}},
		{Then: &testkit.OCSP{Cert: cert, Status: 1}}, {Cert: testkit.Cert(f, "server.crt"), Then: &testkit.OCSP{Cert: cert}},
	} {
		if o.Cert == nil {
			o.Cert = cert
		}
		f.Add(byte(i%clients), testkit.OCSPResponse(f, o))
		f.Add(byte((i+1)%clients), testkit.OCSPResponse(f, o))
	}
	f.Add(byte(0), testkit.OCSPError(3))
	f.Add(byte(1), []byte{})
	key := testkit.Key(f, "client.key")
	contexts := [clients]*sslfilter.Ctx{
		testkit.Ctx(f, testkit.Client(checkingOCSP(sslfilter.OCSPIfStapled))),
		testkit.Ctx(f, testkit.Client(checkingOCSP(sslfilter.OCSPIfStapled), func(o *sslfilter.Options) {
			o.CRLCheck, o.CRLMem = sslfilter.CRLCheckLeaf, [][]byte{testkit.CRL(f, named.Cert.SerialNumber.Int64())}
		})),
		testkit.Ctx(f, testkit.Client(checkingOCSP(sslfilter.OCSPRequire), testkit.Cipher("DEFAULT:@SECLEVEL=0"), func(o *sslfilter.Options) {
			o.CACRLMem = testkit.CRL(f, named.Cert.SerialNumber.Int64())
		})),
	}
	staple := new(sslfilter.Staple)
	testkit.Ctx(f, sslfilter.Options{CrtMem: crt, Key: testkit.PKI("client.key"), CACrt: testkit.PKI("root.crt"), Staple: staple})
	f.Fuzz(func(t *testing.T, which byte, der []byte) {
		if len(der) > 1<<14 {
			return
		}
		leavesNothing(t, func() {
			client := testkit.FilterOf(t, contexts[which%clients])
			defer client.Close()
			peer := testkit.TalkToGo(t, client, true, &tls.Config{Certificates: []tls.Certificate{{
				Certificate: [][]byte{cert.Raw, root.Cert.Raw}, PrivateKey: key, OCSPStaple: der,
			}}})
			result := client.Peer().OCSP
			landmark(result.Status.String())
			require.Equal(t, result.Status == sslfilter.OCSPGood, client.ClientCertValid())
			require.Equal(t, result.OK(), client.ClientCertValid())
			if !client.ClientCertValid() {
				testkit.As[*sslfilter.VerifyError](t, client.Err())
				require.NotEqual(t, "pong", peer.Got)
				return
			}
			require.NoError(t, client.Err())
			require.Equal(t, "pong", peer.Got)
			require.NoError(t, staple.Set(nil))
			require.NoError(t, staple.Set(der))
			require.Equal(t, result.ThisUpdate, staple.Status().ThisUpdate)
		})
	})
}
