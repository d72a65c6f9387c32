package sslfilter_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Of two CAs with one name, the issuer is the one whose key has signed the certificate. Both
// keys have the same type, because OpenSSL itself distinguishes issuers with keys of different types.
func TestStapleIssuersOfOneName(t *testing.T) {
	var cas []testkit.Issuer
	for _, name := range []string{"client.key", "other.key"} {
		key := testkit.Key(t, name)
		template := x509.Certificate{
			Subject: pkix.Name{CommonName: "Same CA"}, SerialNumber: big.NewInt(int64(len(cas) + 1)), IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		cert.SubjectKeyId = nil
		cas = append(cas, testkit.Issuer{Cert: cert, Key: key})
	}
	crt := testkit.MintFrom(t, cas[1], x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}}, testkit.Key(t, "server.key").Public())
	leaf, err := x509.ParseCertificate(testkit.DER(t, crt))
	require.NoError(t, err)
	response := testkit.OCSPResponse(t, testkit.OCSP{Cert: leaf, Issuer: cas[1].Cert, Signer: cas[1]})
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		file := append(testkit.PEM("CERTIFICATE", cas[order[0]].Cert.Raw), testkit.PEM("CERTIFICATE", cas[order[1]].Cert.Raw)...)
		staple := new(sslfilter.Staple)
		testkit.Ctx(t, sslfilter.Options{CrtMem: crt, Key: testkit.PKI("server.key"), CACrtMem: [][]byte{file}, Staple: staple})
		require.NoError(t, staple.Set(response))
	}
}

// A server staples the response of the certificate that it shows. A new response takes
// effect in a context that exists.
func TestStaple(t *testing.T) {
	response := func(name string, status int) []byte {
		return testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, name), Status: status})
	}
	rsa, ec := response("server.crt", 0), response("server-ec.crt", 0)
	var staples [2]*sslfilter.Staple
	for i, der := range [][]byte{rsa, ec} {
		var err error
		staples[i], err = sslfilter.NewStaple(der)
		require.NoError(t, err)
	}
	o := testkit.Server(func(o *sslfilter.Options) {
		o.Staple, o.CACrt = staples[0], testkit.PKI("root.crt")
		o.Identities = []sslfilter.Identity{{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key"), Staple: staples[1]}}
	})
	server, again := testkit.Ctx(t, o), testkit.Ctx(t, o)
	get := func(t *testing.T, ctx *sslfilter.Ctx, highest sslfilter.Version, auth string) []byte {
		p := testkit.PairOf(t, ctx, testkit.Ctx(t, testkit.Client(testkit.UpTo(highest), testkit.Cipher(auth), func(o *sslfilter.Options) { o.ServerName = "localhost" })))
		require.NoError(t, p.Handshake())
		require.Nil(t, p.Server.OCSPResponse())
		return p.Client.OCSPResponse()
	}
	require.Equal(t, rsa, get(t, server, sslfilter.VersionTLS12, "aRSA"))
	require.Equal(t, ec, get(t, server, sslfilter.VersionTLS12, "aECDSA"))
	require.Equal(t, ec, get(t, server, sslfilter.VersionTLS13, "DEFAULT"))

	revoked := response("server-ec.crt", 1)
	require.NoError(t, staples[1].Set(revoked))
	require.Equal(t, sslfilter.OCSPRevoked, staples[1].Status().Status)
	for _, ctx := range []*sslfilter.Ctx{server, again} {
		require.Equal(t, revoked, get(t, ctx, sslfilter.VersionTLS13, "DEFAULT"))
		require.Equal(t, rsa, get(t, ctx, sslfilter.VersionTLS12, "aRSA"))
	}
	require.NoError(t, staples[1].Set(nil))
	require.Equal(t, sslfilter.OCSPMissing, staples[1].Status().Status)
	require.Nil(t, get(t, server, sslfilter.VersionTLS13, "DEFAULT"))

	// A response that Set refuses does not replace the earlier one.
	for _, bad := range [][]byte{[]byte("x"), response("client.crt", 0), ec[:len(ec)-1], testkit.OCSPError(3),
		testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), Signer: testkit.CA(t, "other")}), make([]byte, 20000)} {
		err := staples[0].Set(bad)
		testkit.As[*sslfilter.Error](t, err)
		require.Equal(t, rsa, get(t, server, sslfilter.VersionTLS12, "aRSA"))
	}
}

// A context that cannot be made leaves its Staples as they were, whichever option is wrong.
func TestStapleIsBoundLast(t *testing.T) {
	ec := sslfilter.Identity{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key")}
	wrong := func() *sslfilter.Staple {
		s, err := sslfilter.NewStaple(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "client.crt")}))
		require.NoError(t, err)
		return s
	}
	for name, change := range map[string]func(o *sslfilter.Options, staple *sslfilter.Staple){
		"a later option": func(o *sslfilter.Options, _ *sslfilter.Staple) {
			o.ClientCert, o.CACrt, o.CACRL, o.ReadCRLOnce = true, testkit.PKI("root.crt"), "no-such-file", true
		},
		"another Staple": func(o *sslfilter.Options, _ *sslfilter.Staple) {
			ec.Staple = wrong()
			o.Identities = []sslfilter.Identity{ec}
		},
		"the same Staple": func(o *sslfilter.Options, staple *sslfilter.Staple) {
			ec.Staple = staple
			o.Identities = []sslfilter.Identity{ec}
		},
		"no usable suite": func(o *sslfilter.Options, _ *sslfilter.Staple) {
			o.TLS12, o.Cipher = true, "ECDHE-ECDSA-AES256-GCM-SHA384"
		},
	} {
		t.Run(name, func(t *testing.T) {
			staple := new(sslfilter.Staple)
			_, err := sslfilter.NewCtx(testkit.Server(func(o *sslfilter.Options) {
				o.Staple = staple
				change(o, staple)
			}))
			testkit.As[*sslfilter.OptionError](t, err)
			require.Nil(t, staple.Responders())
			_, err = staple.Request()
			testkit.As[*sslfilter.UsageError](t, err)
			testkit.Ctx(t, testkit.ServerOf("client-ec", func(o *sslfilter.Options) { o.Staple = staple }))
			require.NoError(t, staple.Set(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "client-ec.crt")})))
		})
	}
}

// Contexts that share several Staples, in any order, are made at the same time.
func TestStapleBindsConcurrently(t *testing.T) {
	var staples [2]sslfilter.Staple
	rsa := sslfilter.Identity{Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server.key"), Staple: &staples[0]}
	ec := sslfilter.Identity{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key"), Staple: &staples[1]}
	var group sync.WaitGroup
	for i := range 20 {
		o := sslfilter.Options{Identities: []sslfilter.Identity{rsa, ec}}
		if i%2 == 0 {
			o.Identities = []sslfilter.Identity{ec, rsa}
		}
		group.Go(func() {
			ctx, err := sslfilter.NewCtx(o)
			if err != nil {
				t.Error(err)
				return
			}
			ctx.Close()
		})
	}
	group.Wait()
}

// An older response does not replace a later one, which may say "revoked", even if the later
// one has expired in the meantime. A response of the same moment does.
func TestStapleRefusesAnOlderResponse(t *testing.T) {
	t.Parallel() // it waits
	cert, now := testkit.Cert(t, "server.crt"), time.Now().Truncate(time.Second)
	response := func(status int, from time.Duration, until time.Time) []byte {
		return testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, Status: status, From: now.Add(from), Until: until})
	}
	tomorrow := now.Add(24 * time.Hour)
	older := response(0, -2*time.Hour, tomorrow)
	refused := func(staple *sslfilter.Staple) {
		t.Helper()
		before := staple.Response()
		err := staple.Set(older)
		require.ErrorContains(t, err, "the OCSP response is older than the current one: it is from "+now.Add(-2*time.Hour).UTC().Format("2006-01-02 15:04:05 UTC"))
		testkit.As[*sslfilter.Error](t, err)
		require.Equal(t, before, staple.Response())
	}
	for _, used := range []bool{false, true} {
		staple := new(sslfilter.Staple)
		if used {
			testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.Staple, o.CACrt = staple, testkit.PKI("root.crt") }))
		}
		require.NoError(t, staple.Set(older))
		require.NoError(t, staple.Set(response(1, -time.Hour, tomorrow)))
		refused(staple)
		require.Equal(t, sslfilter.OCSPRevoked, staple.Status().Status)
		require.NoError(t, staple.Set(response(1, -time.Hour, now.Add(time.Hour))), "the same moment")
		refused(staple)
		require.NoError(t, staple.Set(nil))
		require.NoError(t, staple.Set(older), "after the response was removed")

		require.NoError(t, staple.Set(response(1, -time.Hour, time.Now().Add(3*time.Second))))
		testkit.Eventually(t, func() bool { return staple.Status().Status == sslfilter.OCSPExpired }, "the response has not expired")
		refused(staple)
	}
}

// A response that expires is not stapled any more, and not accepted.
func TestStapleExpires(t *testing.T) {
	t.Parallel() // it waits
	cert := testkit.Cert(t, "server.crt")
	staple, err := sslfilter.NewStaple(testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, Until: time.Now().Add(2 * time.Second)}))
	require.NoError(t, err)
	server := testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.Staple = staple }))
	client := testkit.Ctx(t, testkit.Client())
	testkit.Eventually(t, func() bool {
		p := testkit.PairOf(t, server, client)
		require.NoError(t, p.Handshake())
		return p.Client.OCSPResponse() == nil
	}, "the response is still stapled")
	require.Equal(t, sslfilter.OCSPExpired, staple.Status().Status)
	testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.Staple = staple })) // a reload with an old response
	require.ErrorContains(t, staple.Set(testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, Until: time.Now().Add(-time.Minute)})), "has expired")
}

// A response can have statements about other certificates. Once the Staple is used, the dates
// that count are those of the statement about its certificate, whose place does not matter.
func TestStapleOfSeveralStatements(t *testing.T) {
	t.Parallel() // it waits
	cert, now := testkit.Cert(t, "server.crt"), time.Now()
	root := func(o *sslfilter.Options) { o.CACrt = testkit.PKI("root.crt") }
	statements := func(until time.Time) []byte {
		return testkit.OCSPResponse(t, testkit.OCSP{
			Cert: testkit.Cert(t, "client.crt"), From: now.Add(-time.Minute), Until: now.Add(7 * 24 * time.Hour),
			Then: &testkit.OCSP{Cert: cert, From: now.Add(-2 * time.Hour), Until: until},
		})
	}
	for name, change := range map[string]testkit.Change{"issuer known": root, "issuer unknown": func(*sslfilter.Options) {}, "issuer known later": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response := statements(time.Now().Add(3 * time.Second))
			staple, err := sslfilter.NewStaple(response)
			require.NoError(t, err)
			stapling := func(o *sslfilter.Options) { o.Staple = staple }
			if change == nil {
				testkit.Ctx(t, testkit.Server(stapling))
				change = root
			}
			server, client := testkit.Ctx(t, testkit.Server(stapling, change)), testkit.Ctx(t, testkit.Client())
			stapled := func() []byte {
				p := testkit.PairOf(t, server, client)
				require.NoError(t, p.Handshake())
				return p.Client.OCSPResponse()
			}
			require.Equal(t, response, stapled())
			testkit.Eventually(t, func() bool { return staple.Status().Status == sslfilter.OCSPExpired }, "the response has not expired")
			require.Nil(t, stapled(), "an expired response")
			later := testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, From: now.Add(-time.Hour)})
			require.NoError(t, staple.Set(later), "it is older than the statement about another certificate")
			require.Equal(t, later, stapled())
		})
	}
}

// Set in one goroutine does not disturb handshakes in others.
func TestStapleConcurrently(t *testing.T) {
	cert := testkit.Cert(t, "server.crt")
	ders := [][]byte{testkit.OCSPResponse(t, testkit.OCSP{Cert: cert}), testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, SHA256: true})}
	staple := new(sslfilter.Staple)
	server := testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.Staple = staple }))
	require.NoError(t, staple.Set(ders[0]))
	client := testkit.Ctx(t, testkit.Client(checkingOCSP(sslfilter.OCSPRequire)))
	stop := make(chan struct{})
	var setting sync.WaitGroup
	setting.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				if err := staple.Set(ders[i%2]); err != nil {
					panic(err)
				}
			}
		}
	})
	for range 50 {
		p := testkit.PairOf(t, server, client)
		require.NoError(t, p.Handshake())
		require.Contains(t, ders, p.Client.OCSPResponse())
	}
	close(stop)
	setting.Wait()
}

func TestStapleErrors(t *testing.T) {
	cert, ec := testkit.Cert(t, "server.crt"), testkit.Cert(t, "server-ec.crt")
	staple := func(o testkit.OCSP) *sslfilter.Staple {
		s, err := sslfilter.NewStaple(testkit.OCSPResponse(t, o))
		require.NoError(t, err)
		return s
	}
	used := staple(testkit.OCSP{Cert: cert})
	testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.Staple = used }))
	for name, c := range map[string]struct {
		options      sslfilter.Options
		option, text string
	}{
		"client": {testkit.Client(func(o *sslfilter.Options) {
			o.Crt, o.Key, o.Staple = testkit.PKI("client.crt"), testkit.PKI("client.key"), used
		}), "Staple", "is for servers"},
		"without Crt":         {sslfilter.Options{Staple: used}, "Staple", "is given without Crt and Key"},
		"another certificate": {testkit.Server(func(o *sslfilter.Options) { o.Staple = staple(testkit.OCSP{Cert: ec}) }), "Staple", "for another certificate"},
		"used":                {testkit.ServerOf("server-ec", func(o *sslfilter.Options) { o.Staple = used }), "Staple", "already used for another certificate"},
		"not the issuer's": {testkit.Server(func(o *sslfilter.Options) {
			o.CACrt, o.Staple = testkit.PKI("root.crt"), staple(testkit.OCSP{Cert: cert, Signer: testkit.CA(t, "other")})
		}), "Staple", "not signed"},
		"in Identities":     {testkit.Server(also(sslfilter.Identity{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key"), Staple: used})), "Identities[0].Staple", "already used"},
		"check on a server": {testkit.Server(checkingOCSP(sslfilter.OCSPRequire)), "OCSPCheck", "is for clients"},
		"no such check":     {testkit.Client(checkingOCSP(3)), "OCSPCheck", "is 3"},
		"negative check":    {testkit.Client(checkingOCSP(-1)), "OCSPCheck", "is -1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sslfilter.NewCtx(c.options)
			require.Equal(t, c.option, testkit.As[*sslfilter.OptionError](t, err).Option)
			require.ErrorContains(t, err, c.text)
		})
	}
	for _, der := range [][]byte{[]byte("x"), testkit.OCSPError(3), testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, Until: time.Now().Add(-time.Minute)})} {
		_, err := sslfilter.NewStaple(der)
		testkit.As[*sslfilter.Error](t, err)
	}
}

// The request is for the certificate, and the certificate names its responders.
func TestStapleRequest(t *testing.T) {
	staple := new(sslfilter.Staple)
	_, err := staple.Request()
	testkit.As[*sslfilter.UsageError](t, err)
	require.Nil(t, staple.Responders())
	crt := testkit.Mint(t, x509.Certificate{DNSNames: []string{"localhost"}, OCSPServer: []string{"http://ocsp.test/a", "http://ocsp.test/b"}})
	testkit.Ctx(t, sslfilter.Options{CrtMem: crt, Key: testkit.PKI("client.key"), Staple: staple})
	require.Equal(t, []string{"http://ocsp.test/a", "http://ocsp.test/b"}, staple.Responders())
	_, err = staple.Request()
	testkit.As[*sslfilter.UsageError](t, err)
	testkit.Ctx(t, sslfilter.Options{CrtMem: crt, Key: testkit.PKI("client.key"), CACrt: testkit.PKI("root.crt"), Staple: staple})
	der, err := staple.Request()
	require.NoError(t, err)
	require.NotEmpty(t, der)
	require.Equal(t, byte(0x30), der[0])
}
