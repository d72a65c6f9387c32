package sslfilter_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// attacker makes certificates with new keys.
type attacker struct {
	t      testing.TB
	serial int64
}

type forged struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// issue makes a certificate with parent as its issuer, signed by signer. If parent is nil, the
// certificate is self-signed.
func (a *attacker) issue(cn string, ca bool, parent *x509.Certificate, signer crypto.Signer) forged {
	a.t.Helper()
	a.serial++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := x509.Certificate{SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: cn}}
	if ca {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		template.DNSNames = []string{"localhost"}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	}
	if parent == nil {
		signer = key
	}
	text := testkit.MintFrom(a.t, testkit.Issuer{Cert: parent, Key: signer}, template, key.Public())
	cert, err := x509.ParseCertificate(testkit.DER(a.t, text))
	require.NoError(a.t, err)
	return forged{cert, key, text}
}

// showing adds the certificate and the rest of its chain to o.
func (f forged) showing(o sslfilter.Options, rest ...forged) sslfilter.Options {
	chain := bytes.Clone(f.pem)
	for _, c := range rest {
		chain = append(chain, c.pem...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(f.key)
	if err != nil {
		panic(err)
	}
	o.CrtMem, o.KeyMem = chain, testkit.PEM("PRIVATE KEY", key)
	return o
}

// attack is a certificate that was not issued by a trusted CA.
type attack struct {
	name  string
	shows func(sslfilter.Options) sslfilter.Options
	codes []sslfilter.VerifyCode // the errors that OpenSSL reports; if all of them are ignored, the peer is accepted
}

func attacks(t testing.TB) []attack {
	a := &attacker{t: t}
	root := a.issue("foreign root", true, nil, nil)
	inter := a.issue("foreign intermediate", true, root.cert, root.key)
	ofRoot := a.issue("ann", false, root.cert, root.key)
	ofInter := a.issue("ann", false, inter.cert, inter.key)
	self := a.issue("ann", false, nil, nil)
	trusted := testkit.Cert(t, "root.crt")
	namesTrusted := a.issue("ann", false, &x509.Certificate{RawSubject: trusted.RawSubject}, testkit.Key(t, "other.key")) // an RSA key, like that of the CA
	return []attack{
		{"foreign root", func(o sslfilter.Options) sslfilter.Options { return ofRoot.showing(o, root) }, []sslfilter.VerifyCode{19}},
		{"foreign intermediate", func(o sslfilter.Options) sslfilter.Options { return ofInter.showing(o, inter) }, []sslfilter.VerifyCode{20}},
		{"issuer forged", func(o sslfilter.Options) sslfilter.Options { return namesTrusted.showing(o) }, []sslfilter.VerifyCode{7}},
		{"self-signed", func(o sslfilter.Options) sslfilter.Options { return self.showing(o) }, []sslfilter.VerifyCode{18}},
		{"certificate alone", func(o sslfilter.Options) sslfilter.Options { return ofInter.showing(o) }, []sslfilter.VerifyCode{20, 21}},
	}
}

// verifyErrors returns the X509_V_ERR numbers that have a text in the linked OpenSSL.
func verifyErrors() (list []sslfilter.VerifyCode) {
	for code := sslfilter.VerifyCode(1); code < 200; code++ {
		if text := code.String(); !strings.Contains(text, "error number") && !strings.Contains(text, "unknown") {
			list = append(list, code)
		}
	}
	return list
}

// letsIn reports whether a side that requires a valid certificate accepts the attacker.
func letsIn(t testing.TB, server bool, ignore []sslfilter.VerifyCode, a attack) bool {
	t.Helper()
	var verifying, attacking *sslfilter.Filter
	own := testkit.ServerOf("server-ec")
	if server {
		verifying = testkit.Filter(t, testkit.With(own, func(o *sslfilter.Options) {
			o.RequireValidClientCert, o.CACrt, o.IgnoreVerifyErrors = true, testkit.PKI("root.crt"), ignore
		}))

		attacking = testkit.Filter(t, a.shows(sslfilter.Options{Client: true, InsecureSkipVerify: true}))
		p := testkit.Join(verifying, attacking)
		p.Handshake()
	} else {
		verifying = testkit.Filter(t, testkit.Client(func(o *sslfilter.Options) { o.IgnoreVerifyErrors = ignore }))
		attacking = testkit.Filter(t, a.shows(sslfilter.Options{}))
		p := testkit.Join(attacking, verifying)
		p.Handshake()
	}
	in := verifying.Err() == nil && verifying.HandshakeDone()
	require.Equal(t, in, verifying.ClientCertValid(), "the verdict and the handshake agree")
	return in
}

// The test ignores a single error number at a time, and tries every attack on both sides. At
// least one attack succeeds if and only if VerifyCode.AdmitsAnyone, on which the warnings are
// based, returns true.
func TestVerifyIgnoredErrorsThatAdmitAnyone(t *testing.T) {
	all := attacks(t)
	numbers := verifyErrors()
	require.Contains(t, numbers, sslfilter.VerifyHostnameMismatch)
	require.Greater(t, len(numbers), 60)
	for i, code := range numbers {
		if testing.Short() && i%4 != 0 && !code.AdmitsAnyone() {
			continue
		}
		for _, server := range []bool{true, false} {
			admitted := false
			for _, a := range all {
				in := letsIn(t, server, []sslfilter.VerifyCode{code}, a)
				require.Equal(t, slices.Equal(a.codes, []sslfilter.VerifyCode{code}), in, "%d (%v), %s, server: %v", int(code), code, a.name, server)
				admitted = admitted || in
			}
			require.Equal(t, admitted, code.AdmitsAnyone(), "%d (%v), server: %v", int(code), code, server)
		}
	}
}

// NewCtx writes a warning to Debug for each ignored error that lets anybody make an accepted
// certificate.
func TestVerifyIgnoredErrorsAreLogged(t *testing.T) {
	log := new(testkit.Log)
	testkit.Ctx(t, testkit.Asking(func(o *sslfilter.Options) {
		o.IgnoreVerifyErrors, o.Debug = []sslfilter.VerifyCode{9, 20, 21, 7}, log.Logger()
	}))

	require.Equal(t, []string{"20", "7"}, log.Values("sslfilter: IgnoreVerifyErrors accepts a certificate that anybody can make", "error"))
}

// The attacker is accepted if all errors that OpenSSL reports for the attack are ignored, and
// rejected if one of them is not ignored.
func TestVerifyIgnoredErrorsTogether(t *testing.T) {
	for _, a := range attacks(t) {
		for _, server := range []bool{true, false} {
			require.True(t, letsIn(t, server, a.codes, a), "%s, server: %v", a.name, server)
			for i := range a.codes {
				fewer := slices.Delete(slices.Clone(a.codes), i, i+1)
				require.False(t, letsIn(t, server, append(fewer, 9, 10), a), "%s without %d, server: %v", a.name, a.codes[i], server)
			}
		}
	}
}

// A certificate of a trusted CA that is not itself a CA cannot issue certificates, even if one
// error is ignored, whichever it is. If a client trusts public CAs, everybody can have such a certificate.
func TestVerifyLeafIsNotACA(t *testing.T) {
	a := &attacker{t: t}
	holder := testkit.Cert(t, "client.crt")
	leaf := a.issue("ann", false, holder, testkit.Key(t, "client.key"))
	shows := func(o sslfilter.Options) sslfilter.Options {
		return leaf.showing(o, forged{pem: testkit.PKIBytes(t, "client.crt")})
	}
	for _, code := range verifyErrors() {
		require.False(t, letsIn(t, true, []sslfilter.VerifyCode{code}, attack{"below a client", shows, nil}), "%d (%v)", int(code), code)
	}
}
