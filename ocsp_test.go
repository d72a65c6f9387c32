package sslfilter_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func checkingOCSP(check sslfilter.OCSPCheck) testkit.Change {
	return func(o *sslfilter.Options) { o.OCSPCheck = check }
}

// responder returns a certificate for the key client-ec.key, issued by ca for the uses.
func responder(t testing.TB, ca string, uses ...x509.ExtKeyUsage) testkit.Issuer {
	t.Helper()
	return responderWith(t, ca, nil, uses...)
}

// responderWith is responder with more extensions.
func responderWith(t testing.TB, ca string, extra []pkix.Extension, uses ...x509.ExtKeyUsage) testkit.Issuer {
	t.Helper()
	key := testkit.Key(t, "client-ec.key")
	der := testkit.DER(t, testkit.MintFrom(t, testkit.CA(t, ca), x509.Certificate{
		SerialNumber: big.NewInt(0x0c59), Subject: pkix.Name{CommonName: "responder"}, ExtKeyUsage: uses, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: extra,
	}, key.Public()))
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return testkit.Issuer{Cert: cert, Key: key}
}

// A client accepts a response of the issuer or of its responder for this certificate, as
// long as it is valid. The server is crypto/tls, which staples anything.
func TestOCSPCheck(t *testing.T) {
	cert := testkit.Cert(t, "server.crt")
	root, other := testkit.CA(t, "root"), testkit.CA(t, "other")
	named, impostor := responder(t, "root", x509.ExtKeyUsageOCSPSigning), responder(t, "other", x509.ExtKeyUsageOCSPSigning)
	unnamed := responder(t, "root", x509.ExtKeyUsageServerAuth)
	good := testkit.OCSPResponse(t, testkit.OCSP{Cert: cert})
	response := func(o testkit.OCSP) []byte {
		if o.Cert == nil {
			o.Cert = cert
		}
		return testkit.OCSPResponse(t, o)
	}
	damaged := append([]byte(nil), good...)
	damaged[len(damaged)-1] ^= 1
	now := time.Now()
	const needed, failed = sslfilter.VerifyOCSPNeeded, sslfilter.VerifyOCSPFailed
	for _, c := range []struct {
		name   string
		staple []byte
		status sslfilter.OCSPStatus
		code   sslfilter.VerifyCode
		text   string
	}{
		{"good", good, sslfilter.OCSPGood, 0, ""},
		{"good, by the key of the responder", response(testkit.OCSP{ByKey: true}), sslfilter.OCSPGood, 0, ""},
		{"good, SHA-256", response(testkit.OCSP{SHA256: true}), sslfilter.OCSPGood, 0, ""},
		{"good, of a responder that the issuer has named", response(testkit.OCSP{Signer: named, Certs: [][]byte{named.Cert.Raw}}), sslfilter.OCSPGood, 0, ""},
		{"good, no date of expiry", response(testkit.OCSP{Forever: true}), sslfilter.OCSPGood, 0, ""},
		{"good, in the tolerance of clocks", response(testkit.OCSP{From: now.Add(2 * time.Minute)}), sslfilter.OCSPGood, 0, ""},
		{"missing", nil, sslfilter.OCSPMissing, 0, ""},
		{"revoked", response(testkit.OCSP{Status: 1, Reason: 1}), sslfilter.OCSPRevoked, sslfilter.VerifyCertRevoked, "revoked since 2024-05-01 12:00:00 UTC (keyCompromise)"},
		{"unknown", response(testkit.OCSP{Status: 2}), sslfilter.OCSPUnknown, sslfilter.VerifyOCSPUnknown, "does not know"},
		{"expired", response(testkit.OCSP{From: now.Add(-2 * time.Hour), Until: now.Add(-time.Hour)}), sslfilter.OCSPExpired, failed, "it was valid until"},
		{"old, no date of expiry", response(testkit.OCSP{Forever: true, From: now.Add(-25 * time.Hour)}), sslfilter.OCSPExpired, failed, "no date of expiry"},
		{"not yet valid", response(testkit.OCSP{From: now.Add(time.Hour)}), sslfilter.OCSPNotYetValid, failed, "it is valid from"},
		{"expired, with a fraction of a second", response(testkit.OCSP{Dates: [2]string{"20200101000000Z", "20200102000000.5Z"}}), sslfilter.OCSPMalformed, failed, "malformed"},
		{"expired, with an offset", response(testkit.OCSP{Dates: [2]string{"20200101000000Z", "20200102000000+0000"}}), sslfilter.OCSPMalformed, failed, "malformed"},
		{"not yet valid, with a fraction of a second", response(testkit.OCSP{Dates: [2]string{"20400101000000.5Z", "20450101000000Z"}}), sslfilter.OCSPMalformed, failed, "malformed"},
		{"old, no date of expiry, with a fraction of a second", response(testkit.OCSP{Forever: true, Dates: [2]string{"20200101000000.5Z"}}), sslfilter.OCSPMalformed, failed, "malformed"},
		{"it ends before it begins", response(testkit.OCSP{From: now.Add(-time.Minute), Until: now.Add(-2 * time.Minute)}), sslfilter.OCSPMalformed, failed, "malformed"},
		{"good, then revoked", response(testkit.OCSP{Then: &testkit.OCSP{Cert: cert, Status: 1, Reason: 1}}), sslfilter.OCSPRevoked, sslfilter.VerifyCertRevoked, "keyCompromise"},
		{"revoked, then good", response(testkit.OCSP{Status: 1, Then: &testkit.OCSP{Cert: cert}}), sslfilter.OCSPRevoked, sslfilter.VerifyCertRevoked, "revoked since"},
		{"good, then another certificate is revoked", response(testkit.OCSP{Then: &testkit.OCSP{Cert: testkit.Cert(t, "client.crt"), Status: 1}}), sslfilter.OCSPGood, 0, ""},
		{"another certificate of the issuer", response(testkit.OCSP{Cert: testkit.Cert(t, "client.crt")}), sslfilter.OCSPOtherCert, failed, "another certificate"},
		{"the same serial number of another issuer", response(testkit.OCSP{Issuer: other.Cert, Signer: other}), sslfilter.OCSPOtherCert, failed, "another certificate"},
		{"signed by another CA", response(testkit.OCSP{Signer: other, Certs: [][]byte{other.Cert.Raw}}), sslfilter.OCSPUnverified, failed, "not signed"},
		{"signed with another key", response(testkit.OCSP{Signer: testkit.Issuer{Cert: root.Cert, Key: other.Key}}), sslfilter.OCSPUnverified, failed, "not signed"},
		{"a responder of another CA", response(testkit.OCSP{Signer: impostor, Certs: [][]byte{impostor.Cert.Raw}}), sslfilter.OCSPUnverified, failed, "not signed"},
		{"a server certificate of the issuer", response(testkit.OCSP{Signer: unnamed, Certs: [][]byte{unnamed.Cert.Raw}}), sslfilter.OCSPUnverified, failed, "not signed"},
		{"a responder without its certificate", response(testkit.OCSP{Signer: named}), sslfilter.OCSPUnverified, failed, "not signed"},
		{"damaged signature", damaged, sslfilter.OCSPUnverified, failed, "not signed"},
		{"tryLater", testkit.OCSPError(3), sslfilter.OCSPUnsuccessful, failed, "tryLater"},
		{"garbage", []byte("garbage"), sslfilter.OCSPMalformed, failed, "malformed"},
		{"bytes after it", append(append([]byte(nil), good...), 0), sslfilter.OCSPMalformed, failed, "malformed"},
	} {
		fatal := false
		if since(openssl36) { // it parses the response before the check
			switch c.name {
			case "garbage":
				fatal = true
			case "bytes after it": // it hands over what it has parsed
				c.status, c.code = sslfilter.OCSPGood, 0
			}
		}
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				config := testkit.GoServer(t, func(g *tls.Config) { g.Certificates[0].OCSPStaple = c.staple })
				for _, check := range []sslfilter.OCSPCheck{sslfilter.OCSPIfStapled, sslfilter.OCSPRequire} {
					code := c.code
					if c.staple == nil && check == sslfilter.OCSPRequire {
						code = needed
					}
					f := testkit.Filter(t, testkit.Client(testkit.UpTo(highest), checkingOCSP(check)))
					peer := testkit.TalkToGo(t, f, true, config)
					p := f.Peer()
					require.Equal(t, c.status, p.OCSP.Status, "%v", p.OCSP)
					require.Equal(t, code == 0, p.Valid)
					require.Equal(t, code == 0, p.OCSP.OK())
					if code == 0 {
						require.NoError(t, f.Err())
						require.Equal(t, "pong", peer.Got)
						continue
					}
					refused := testkit.As[*sslfilter.VerifyError](t, f.Err())
					require.Equal(t, code, refused.Code)
					if !fatal || highest == sslfilter.VersionTLS12 { // in TLS 1.3 it ends before OpenSSL has stored the certificate
						require.Contains(t, refused.Subject, "localhost")
						require.Contains(t, p.String(), p.OCSP.String())
					}
					require.ErrorContains(t, f.Err(), c.text)
					require.Equal(t, refused.Error(), p.OCSP.Err.Error())
					if highest == sslfilter.VersionTLS12 { // in TLS 1.3, OpenSSL sends the alert without encryption, which crypto/tls does not accept
						require.ErrorContains(t, peer.Err, "bad certificate status response", "the alert")
					}
					require.False(t, f.ClientCertValid())
					if fatal {
						f = testkit.Filter(t, testkit.Client(testkit.UpTo(highest), checkingOCSP(check), ignoring(code), func(o *sslfilter.Options) { o.InsecureSkipVerify = true }))
						testkit.TalkToGo(t, f, true, config)
						require.Equal(t, code, testkit.As[*sslfilter.VerifyError](t, f.Err()).Code)
						require.Equal(t, c.status, f.Peer().OCSP.Status)
						f = testkit.Filter(t, testkit.Client(testkit.UpTo(highest)))
						testkit.TalkToGo(t, f, true, config)
						require.Equal(t, code, testkit.As[*sslfilter.VerifyError](t, f.Err()).Code, "OCSPOff")
						continue
					}

					// Without verification, the result is only reported.
					f = testkit.Filter(t, testkit.Client(testkit.UpTo(highest), checkingOCSP(check), func(o *sslfilter.Options) { o.InsecureSkipVerify = true }))
					require.Equal(t, "pong", testkit.TalkToGo(t, f, true, config).Got)
					require.Equal(t, c.status, f.Peer().OCSP.Status)
					require.False(t, f.ClientCertValid())
					require.False(t, f.Peer().Valid)

					f = testkit.Filter(t, testkit.Client(testkit.UpTo(highest), checkingOCSP(check), ignoring(code)))
					require.Equal(t, "pong", testkit.TalkToGo(t, f, true, config).Got)
					require.True(t, f.ClientCertValid())
					require.True(t, f.Peer().OCSP.Ignored)
				}
				if fatal {
					return
				}
				f := testkit.Filter(t, testkit.Client(testkit.UpTo(highest)))
				require.Equal(t, "pong", testkit.TalkToGo(t, f, true, config).Got, "OCSPOff")
				require.Equal(t, sslfilter.OCSPNotAsked, f.Peer().OCSP.Status)
			})
		})
	}
}

// The server gets the alert bad_certificate_status_response.
func TestOCSPCheckAlert(t *testing.T) {
	staple, err := sslfilter.NewStaple(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), Status: 1}))
	require.NoError(t, err)
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for change, want := range map[*sslfilter.Staple]sslfilter.VerifyCode{staple: sslfilter.VerifyCertRevoked, nil: sslfilter.VerifyOCSPNeeded} {
			p := testkit.NewPair(t, testkit.Server(testkit.UpTo(highest), func(o *sslfilter.Options) { o.Staple = change }), testkit.Client(checkingOCSP(sslfilter.OCSPRequire)))
			require.Error(t, p.Handshake())
			require.Equal(t, want, testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code)
			require.Equal(t, sslfilter.AlertError(113), testkit.As[sslfilter.AlertError](t, p.Server.Filter.Err()))
		}
	})
}

// The result has the dates of the response.
func TestOCSPCheckDates(t *testing.T) {
	from, until := time.Now().Add(-3*time.Hour).UTC().Truncate(time.Second), time.Now().Add(5*time.Hour).UTC().Truncate(time.Second)
	config := testkit.GoServer(t, func(g *tls.Config) {
		g.Certificates[0].OCSPStaple = testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), From: from, Until: until, Status: 1, Reason: 4})
	})
	f := testkit.Filter(t, testkit.Client(checkingOCSP(sslfilter.OCSPIfStapled)))
	testkit.TalkToGo(t, f, true, config)
	r := f.Peer().OCSP
	require.Equal(t, []time.Time{from, until, testkit.RevokedAt}, []time.Time{r.ThisUpdate, r.NextUpdate, r.RevokedAt})
	require.Equal(t, 4, r.Reason)
}

// The issuer may be an intermediate.
func TestOCSPCheckIntermediate(t *testing.T) {
	inter := testkit.CA(t, "inter")
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for signer, status := range map[string]sslfilter.OCSPStatus{"inter": sslfilter.OCSPGood, "root": sslfilter.OCSPUnverified} {
			cert, err := tls.X509KeyPair(joinFiles(t, "server-inter.crt", "inter.crt"), testkit.PKIBytes(t, "server-inter.key"))
			require.NoError(t, err)
			cert.OCSPStaple = testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server-inter.crt"), Issuer: inter.Cert, Signer: testkit.CA(t, signer)})
			f := testkit.Filter(t, testkit.Client(testkit.UpTo(highest), checkingOCSP(sslfilter.OCSPRequire)))
			testkit.TalkToGo(t, f, true, testkit.GoServer(t, func(g *tls.Config) { g.Certificates = []tls.Certificate{cert} }))
			require.Equal(t, status, f.Peer().OCSP.Status, signer)
		}
	})
}

// A certificate can demand a stapled response.
func TestOCSPCheckMustStaple(t *testing.T) {
	crt := testkit.MustStaple(t)
	server := sslfilter.Options{CrtMem: crt, Key: testkit.PKI("client.key")}
	cert, err := x509.ParseCertificate(testkit.DER(t, crt))
	require.NoError(t, err)
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		client := testkit.Client(testkit.UpTo(highest), checkingOCSP(sslfilter.OCSPIfStapled))
		p := testkit.NewPair(t, server, client)
		require.Error(t, p.Handshake())
		require.Equal(t, sslfilter.VerifyOCSPNeeded, testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code)
		require.ErrorContains(t, p.Client.Filter.Err(), "the certificate demands one")
		require.True(t, p.Client.Peer().OCSP.MustStaple)
		client.OCSPCheck = sslfilter.OCSPOff
		testkit.Connect(t, server, client)

		staple, err := sslfilter.NewStaple(testkit.OCSPResponse(t, testkit.OCSP{Cert: cert}))
		require.NoError(t, err)
		client.OCSPCheck = sslfilter.OCSPIfStapled
		p = testkit.Connect(t, testkit.With(server, func(o *sslfilter.Options) { o.Staple = staple }), client)
		require.True(t, p.Client.Peer().OCSP.MustStaple)
	})
}

// A TLS feature extension that cannot be read counts as a demand for a response, because it
// may contain one.
func TestOCSPCheckMustStapleDamaged(t *testing.T) {
	feature := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}
	damaged := pkix.Extension{Id: feature.Id, Value: []byte{0x30, 4, 2, 1, 5}}
	for name, extensions := range map[string][]pkix.Extension{"damaged": {damaged}, "twice": {feature, feature}} {
		t.Run(name, func(t *testing.T) {
			template := x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, ExtraExtensions: extensions}
			server := sslfilter.Options{CrtMem: testkit.Mint(t, template), Key: testkit.PKI("client.key")}
			p := testkit.NewPair(t, server, testkit.Client(checkingOCSP(sslfilter.OCSPIfStapled)))
			require.Error(t, p.Handshake())
			require.Equal(t, sslfilter.VerifyOCSPNeeded, testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code)
			require.True(t, p.Client.Peer().OCSP.MustStaple)
		})
	}
}

// Trust that a CA certificate has for OCSPSigning is not trust in every certificate below
// it: a responder still needs the extended key usage.
func TestOCSPCheckExplicitTrust(t *testing.T) {
	leaf, named := responder(t, "root", x509.ExtKeyUsageServerAuth), responder(t, "root", x509.ExtKeyUsageOCSPSigning)
	uses, err := asn1.Marshal(struct{ Trust []asn1.ObjectIdentifier }{[]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 9}, {1, 3, 6, 1, 5, 5, 7, 3, 1}}}) // as openssl x509 -addtrust
	require.NoError(t, err)
	root := testkit.PEM("TRUSTED CERTIFICATE", append(slices.Clone(testkit.CA(t, "root").Cert.Raw), uses...))
	for signer, want := range map[*testkit.Issuer]sslfilter.OCSPStatus{&leaf: sslfilter.OCSPUnverified, &named: sslfilter.OCSPGood} {
		config := testkit.GoServer(t, func(g *tls.Config) {
			g.Certificates[0].OCSPStaple = testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), Signer: *signer, Certs: [][]byte{signer.Cert.Raw}})
		})
		f := testkit.Filter(t, testkit.Client(checkingOCSP(sslfilter.OCSPRequire), func(o *sslfilter.Options) { o.CACrt, o.CACrtMem = "", [][]byte{root} }))
		testkit.TalkToGo(t, f, true, config)
		require.Equal(t, want, f.Peer().OCSP.Status)
	}
}

// The security level applies to the signature of a response and to the key of a responder.
func TestOCSPCheckSecurityLevel(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	der := testkit.DER(t, testkit.MintFrom(t, testkit.CA(t, "root"), x509.Certificate{
		Subject: pkix.Name{CommonName: "weak"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, key.Public()))
	weak, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	cert := testkit.Cert(t, "server.crt")
	for name, response := range map[string]testkit.OCSP{"SHA-1": {Cert: cert, SHA1: true}, "RSA 1024": {Cert: cert, Signer: testkit.Issuer{Cert: weak, Key: key}, Certs: [][]byte{der}}} {
		config := testkit.GoServer(t, func(g *tls.Config) { g.Certificates[0].OCSPStaple = testkit.OCSPResponse(t, response) })
		for cipher, want := range map[string]sslfilter.OCSPStatus{"DEFAULT:@SECLEVEL=0": sslfilter.OCSPGood, "DEFAULT:@SECLEVEL=2": sslfilter.OCSPUnverified} {
			f := testkit.Filter(t, testkit.Client(checkingOCSP(sslfilter.OCSPRequire), testkit.Cipher(cipher)))
			testkit.TalkToGo(t, f, true, config)
			require.Equal(t, want, f.Peer().OCSP.Status, "%s, %s", name, cipher)
		}
	}
}

// A CRL also applies to the certificate of a delegated responder, unless that has the
// extension id-pkix-ocsp-nocheck.
func TestOCSPCheckResponderOnCRL(t *testing.T) {
	unchecked := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}
	const serial = 0x0c59
	for _, c := range []struct {
		name    string
		noCheck bool
		revoked []int64 // serial numbers
		change  testkit.Change
		status  sslfilter.OCSPStatus
	}{
		{"not revoked", false, nil, nil, sslfilter.OCSPGood},
		{"revoked", false, []int64{serial}, nil, sslfilter.OCSPBadResponder},
		{"revoked, not to be checked", true, []int64{serial}, nil, sslfilter.OCSPGood},
		{"another is revoked", false, []int64{serial + 1}, nil, sslfilter.OCSPGood},
		{"revoked, which is ignored", false, []int64{serial}, func(o *sslfilter.Options) { o.IgnoreVerifyErrors = []sslfilter.VerifyCode{sslfilter.VerifyCertRevoked} }, sslfilter.OCSPGood},
	} {
		for _, serials := range []bool{false, true} {
			if serials && c.change != nil {
				continue // CACRL ignores nothing
			}
			t.Run(fmt.Sprintf("%s/CACRL=%v", c.name, serials), func(t *testing.T) {
				var extra []pkix.Extension
				if c.noCheck {
					extra = append(extra, unchecked)
				}
				named := responderWith(t, "root", extra, x509.ExtKeyUsageOCSPSigning)
				staple := testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), Signer: named, Certs: [][]byte{named.Cert.Raw}})
				testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
					f := testkit.Filter(t, testkit.Client(testkit.UpTo(v), checkingOCSP(sslfilter.OCSPRequire), func(o *sslfilter.Options) {
						crl := testkit.CRL(t, c.revoked...)
						if serials {
							o.CACRLMem = testkit.CRL(t, append(c.revoked, 0x7777)...) // a list without serial numbers admits nobody
						} else {
							o.CRLCheck, o.CRLMem = sslfilter.CRLCheckLeaf, [][]byte{crl}
						}
						if c.change != nil {
							c.change(o)
						}
					}))
					testkit.TalkToGo(t, f, true, testkit.GoServer(t, func(g *tls.Config) { g.Certificates[0].OCSPStaple = staple }))
					require.Equal(t, c.status, f.Peer().OCSP.Status, "%v", f.Err())
					if c.status == sslfilter.OCSPGood {
						require.NoError(t, f.Err())
						require.True(t, f.ClientCertValid())
						return
					}
					require.Equal(t, sslfilter.VerifyOCSPFailed, testkit.As[*sslfilter.VerifyError](t, f.Err()).Code)
					require.ErrorContains(t, f.Err(), "the certificate of the OCSP responder is revoked")
					require.False(t, f.ClientCertValid())
				})
			})
		}
	}
}

// If a session is resumed, no response is requested, and an anonymous suite has no certificate.
func TestOCSPCheckAnonymous(t *testing.T) {
	anonymous := func(o *sslfilter.Options) { testkit.TLS12(o); o.Cipher = "aNULL:@SECLEVEL=0" }
	if !served(t, "aNULL") {
		return
	}
	p := testkit.NewPair(t, testkit.With(sslfilter.Options{}, anonymous), testkit.Client(anonymous, checkingOCSP(sslfilter.OCSPRequire)))
	require.Error(t, p.Handshake())
	require.ErrorContains(t, p.Client.Filter.Err(), "showed no certificate")
}

func TestOCSPTexts(t *testing.T) {
	for s := sslfilter.OCSPNotAsked; s <= sslfilter.OCSPBadResponder; s++ {
		require.NotContains(t, s.String(), "OCSPStatus(")
	}
	require.Equal(t, "OCSPStatus(99)", sslfilter.OCSPStatus(99).String())
	require.Equal(t, "off if-stapled require OCSPCheck(7)", fmt.Sprint(sslfilter.OCSPOff, sslfilter.OCSPIfStapled, sslfilter.OCSPRequire, sslfilter.OCSPCheck(7)))
}

// In a library context of the FIPS provider, its provider verifies the response too.
func TestOCSPCheckFIPS(t *testing.T) {
	if !since(openssl30) {
		t.Skip("OpenSSL 1.1.1 has no providers")
	}
	cert, named := testkit.Cert(t, "server.crt"), responder(t, "root", x509.ExtKeyUsageOCSPSigning)
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for _, o := range []testkit.OCSP{{Cert: cert}, {Cert: cert, Signer: named, Certs: [][]byte{named.Cert.Raw}}} {
			staple, err := sslfilter.NewStaple(testkit.OCSPResponse(t, o))
			require.NoError(t, err)
			server := inFIPS(t, testkit.Server(func(o *sslfilter.Options) { o.Staple, o.CACrt = staple, testkit.PKI("root.crt") }))
			p := testkit.Connect(t, server, inFIPS(t, testkit.Client(testkit.UpTo(highest), checkingOCSP(sslfilter.OCSPRequire))))
			require.Equal(t, sslfilter.OCSPGood, p.Client.Peer().OCSP.Status)
		}
		other := testkit.CA(t, "other")
		config := testkit.GoServer(t, func(g *tls.Config) {
			g.Certificates[0].OCSPStaple = testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, Signer: testkit.Issuer{Cert: testkit.Cert(t, "root.crt"), Key: other.Key}})
		})
		f := testkit.Filter(t, inFIPS(t, testkit.Client(testkit.UpTo(highest), checkingOCSP(sslfilter.OCSPRequire))))
		testkit.TalkToGo(t, f, true, config)
		require.Equal(t, sslfilter.OCSPUnverified, f.Peer().OCSP.Status)
	})
}
