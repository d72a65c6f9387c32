package sslfilter_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// visit makes a connection of two contexts that offers a session, if there is one, and
// exchanges data, with which the tickets of TLS 1.3 arrive.
func visit(t testing.TB, server, client *sslfilter.Ctx, s *sslfilter.Session) *testkit.Pair {
	t.Helper()
	p := testkit.PairOf(t, server, client)
	require.NoError(t, p.Client.SetSession(s))
	require.NoError(t, p.Handshake())
	require.NoError(t, p.Server.Send([]byte("hello")))
	p.Transfer()
	require.Equal(t, "hello", string(p.Client.Got))
	return p
}

// firstVisit returns a session of a full handshake.
func firstVisit(t testing.TB, server, client *sslfilter.Ctx) *sslfilter.Session {
	t.Helper()
	p := visit(t, server, client, nil)
	require.False(t, p.Client.Resumed())
	list := p.Client.Sessions()
	require.NotEmpty(t, list)
	require.Empty(t, p.Client.Sessions(), "each session is returned once")
	return list[len(list)-1]
}

// resumes makes a second visit and reports whether it resumed the session. Both sides
// must agree, and the reason of a full handshake must be in SessionError.
func resumes(t testing.TB, server, client *sslfilter.Ctx, s *sslfilter.Session) (p *testkit.Pair, resumed bool) {
	t.Helper()
	p = visit(t, server, client, s)
	require.Equal(t, p.Server.Resumed(), p.Client.Resumed())
	return p, p.Client.Resumed()
}

// A client resumes the session of an earlier connection, as often as the server gives new
// ones, even after the session was stored as bytes.
func TestSessionsResume(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		server, client := testkit.Ctx(t, testkit.Server()), testkit.Ctx(t, testkit.Client(testkit.UpTo(highest)))
		s := firstVisit(t, server, client)
		for range 3 {
			data, err := s.MarshalBinary()
			require.NoError(t, err)
			var stored sslfilter.Session
			require.NoError(t, stored.UnmarshalBinary(data))
			require.Equal(t, s.Expires(), stored.Expires())
			require.Equal(t, highest, stored.Version())
			require.WithinRange(t, stored.Expires(), time.Now().Add(time.Minute), time.Now().Add(7*24*time.Hour))

			p, resumed := resumes(t, server, client, &stored)
			require.True(t, resumed, "%v", p.Client.SessionError())
			require.NoError(t, p.Client.SessionError())
			require.True(t, p.Client.ClientCertValid())
			if list := p.Client.Sessions(); len(list) > 0 {
				s = list[0]
			}
			require.Nil(t, p.Server.Sessions())
		}
	})
}

// The verdict on a resumed session is that of a full handshake at this moment.
func TestSessionsVerdict(t *testing.T) {
	dir := t.TempDir()
	crl := dir + "/crl.pem"
	require.NoError(t, os.WriteFile(crl, testkit.CRL(t, 4711), 0o600))
	ignore := func(codes ...sslfilter.VerifyCode) testkit.Change {
		return func(o *sslfilter.Options) { o.IgnoreVerifyErrors = codes }
	}
	unverified := func(o *sslfilter.Options) { o.InsecureSkipVerify = true }
	for name, c := range map[string]struct {
		server sslfilter.Options
		client sslfilter.Options
	}{
		"valid":                  {testkit.Server(), testkit.Client()},
		"with an intermediate":   {testkit.ServerOf("server-inter"), testkit.Client()},
		"EC":                     {testkit.ServerOf("server-ec"), testkit.Client()},
		"an address":             {testkit.Server(), testkit.Client(testkit.ServerName("127.0.0.1"))},
		"expired, ignored":       {testkit.ServerOf("server-expired"), testkit.Client(ignore(sslfilter.VerifyCertHasExpired))},
		"another name, ignored":  {testkit.Server(), testkit.Client(testkit.ServerName("elsewhere.test"), ignore(sslfilter.VerifyHostnameMismatch))},
		"unknown CA, ignored":    {testkit.Server(), testkit.Client(trusting("other.crt"), ignore(sslfilter.VerifyUnableToGetIssuerLoc, sslfilter.VerifyUnableToVerifyLeaf))},
		"unknown CA, unverified": {testkit.Server(), testkit.Client(trusting("other.crt"), unverified)},
		"expired, unverified":    {testkit.ServerOf("server-expired"), testkit.Client(unverified)},
		"no CA, unverified":      {testkit.ServerOf("server-inter"), testkit.Client(func(o *sslfilter.Options) { o.CACrt = "" }, unverified)},
		"CACRL":                  {testkit.Server(), testkit.Client(func(o *sslfilter.Options) { o.CACRL = crl })},
		"CACRL, revoked, unverified": {testkit.Server(), testkit.Client(unverified, func(o *sslfilter.Options) {
			o.CACRLMem = testkit.CRL(t, testkit.Cert(t, "server.crt").SerialNumber.Int64())
		})},
		"CRLCheck": {testkit.Server(), testkit.Client(func(o *sslfilter.Options) { o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{crl} })},
		"CRLCheck, missing, accepted": {testkit.ServerOf("server-inter"), testkit.Client(func(o *sslfilter.Options) {
			o.CRLCheck, o.CRLFiles, o.AllowMissingCRL = sslfilter.CRLCheckChain, []string{crl}, true
		})},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				server, client := testkit.Ctx(t, c.server), testkit.Ctx(t, testkit.With(c.client, testkit.UpTo(highest)))
				full := visit(t, server, client, nil)
				list := full.Client.Sessions()
				require.NotEmpty(t, list)

				p, resumed := resumes(t, server, client, list[0])
				require.True(t, resumed, "%v", p.Client.SessionError())
				require.Equal(t, full.Client.Peer(), p.Client.Peer())
				require.Equal(t, full.Client.ClientCertIDs(), p.Client.ClientCertIDs())
				require.Equal(t, full.Client.ClientCertValid(), p.Client.ClientCertValid())
				require.Equal(t, full.Client.ClientCertExists(), p.Client.ClientCertExists())
				require.NotEmpty(t, p.Client.Peer().Sent)
				require.NotEmpty(t, p.Client.Peer().Chain)
			})
		})
	}
}

// A session is not offered if this side would not accept its certificates now, or if it
// belongs to something else. The handshake is then a full one.
func TestSessionsNotOffered(t *testing.T) {
	serial := testkit.Cert(t, "server.crt").SerialNumber.Int64()
	revoked := testkit.TempFile(t, "revoked.pem", testkit.CRL(t, serial))
	for name, c := range map[string]struct {
		first, second testkit.Change // of the client
		code          sslfilter.VerifyCode
		reason        string
		fails         bool // so does the full handshake
	}{
		"CA removed":            {nil, trusting("other.crt"), sslfilter.VerifyUnableToGetIssuerLoc, "", true},
		"CACRL revokes":         {nil, func(o *sslfilter.Options) { o.CACRL = revoked }, sslfilter.VerifyCertRevoked, "", true},
		"CACRLMem revokes":      {nil, func(o *sslfilter.Options) { o.CACRLMem = testkit.CRL(t, serial) }, sslfilter.VerifyCertRevoked, "", true},
		"CRLFiles revoke":       {nil, func(o *sslfilter.Options) { o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{revoked} }, sslfilter.VerifyCertRevoked, "", true},
		"another name":          {nil, testkit.ServerName("server.test"), 0, "another server name", false},
		"another SNI":           {nil, func(o *sslfilter.Options) { o.SNI = "server.test" }, 0, "another server name", false},
		"other protocols":       {nil, func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }, 0, "ALPN", false},
		"a client certificate":  {nil, showing("client.crt"), 0, "another certificate", false},
		"no client certificate": {showing("client.crt"), nil, 0, "another certificate", false},
		"another certificate":   {showing("client.crt"), showing("client-ec.crt"), 0, "another certificate", false},
		"the security level":    {nil, testkit.Cipher("DEFAULT:@SECLEVEL=2"), 0, "other options", false},
		"other ciphers":         {nil, testkit.Cipher("ECDHE-RSA-AES128-GCM-SHA256"), 0, "other options", false},
		"other groups":          {nil, func(o *sslfilter.Options) { o.Groups = "P-384" }, 0, "other options", false},
		"made without verification": {func(o *sslfilter.Options) { o.InsecureSkipVerify, o.CACrt = true, testkit.PKI("other.crt") },
			trusting("other.crt"), sslfilter.VerifyUnableToGetIssuerLoc, "", true},
		"made without the name": {func(o *sslfilter.Options) { o.InsecureSkipVerify, o.ServerName = true, "elsewhere.test" },
			testkit.ServerName("elsewhere.test"), sslfilter.VerifyHostnameMismatch, "", true},
		"the error is not ignored any more": {func(o *sslfilter.Options) {
			o.ServerName, o.IgnoreVerifyErrors = "elsewhere.test", []sslfilter.VerifyCode{sslfilter.VerifyHostnameMismatch}
		}, testkit.ServerName("elsewhere.test"), sslfilter.VerifyHostnameMismatch, "", true},
		"OCSP is required": {nil, checkingOCSP(sslfilter.OCSPRequire), 0, "there is no OCSP response", true},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				server := testkit.Ctx(t, testkit.Server())
				level := testkit.Cipher("DEFAULT:@SECLEVEL=1")
				if c.second != nil && testkit.Client(c.second).Cipher == "" {
					level = nil
				}
				s := firstVisit(t, server, testkit.Ctx(t, testkit.Client(testkit.UpTo(highest), level, c.first)))

				p := testkit.PairOf(t, server, testkit.Ctx(t, testkit.Client(testkit.UpTo(highest), level, c.second)))
				require.NoError(t, p.Client.SetSession(s))
				err := p.Handshake()

				require.False(t, p.Client.Resumed())
				reason := p.Client.SessionError()
				require.ErrorContains(t, reason, "the session is not offered: ")
				require.ErrorContains(t, reason, c.reason)
				if c.code != 0 {
					require.Equal(t, c.code, testkit.As[*sslfilter.VerifyError](t, reason).Code)
				}
				if c.fails {
					require.Error(t, err)
					require.False(t, p.Client.HandshakeDone())
				} else {
					require.NoError(t, err)
					require.True(t, p.Client.ClientCertValid())
				}
			})
		})
	}
}

func showing(crt string) testkit.Change {
	return func(o *sslfilter.Options) {
		o.Crt, o.Key = testkit.PKI(crt), testkit.PKI(strings.Replace(crt, ".crt", ".key", 1))
	}
}

// The files of CRLs are read again: a certificate that is revoked between two visits is
// not accepted at the second, and neither is any if the file is gone.
func TestSessionsCRLChanges(t *testing.T) {
	for name, use := range map[string]func(o *sslfilter.Options, file string){
		"CACRL": func(o *sslfilter.Options, file string) { o.CACRL = file },
		"CRLFiles": func(o *sslfilter.Options, file string) {
			o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{file}
		},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				file := testkit.TempFile(t, "crl.pem", testkit.CRL(t, 4711))
				server := testkit.Ctx(t, testkit.Server())
				client := testkit.Ctx(t, testkit.Client(testkit.UpTo(highest), func(o *sslfilter.Options) { use(o, file) }))
				s := firstVisit(t, server, client)
				_, resumed := resumes(t, server, client, s)
				require.True(t, resumed)

				require.NoError(t, os.WriteFile(file, testkit.CRL(t, testkit.Cert(t, "server.crt").SerialNumber.Int64(), 4711), 0o600))
				p := testkit.PairOf(t, server, client)
				require.NoError(t, p.Client.SetSession(s))
				require.Error(t, p.Handshake())
				require.Equal(t, sslfilter.VerifyCertRevoked, testkit.As[*sslfilter.VerifyError](t, p.Client.SessionError()).Code)
				require.Equal(t, sslfilter.VerifyCertRevoked, testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code)

				require.NoError(t, os.Remove(file))
				p = testkit.PairOf(t, server, client)
				require.NoError(t, p.Client.SetSession(s))
				require.Error(t, p.Handshake())
				require.Equal(t, sslfilter.VerifyUnableToGetCRL, testkit.As[*sslfilter.VerifyError](t, p.Client.SessionError()).Code)
			})
		})
	}
}

// A certificate that has expired since the first visit is not accepted.
func TestSessionsCertificateExpires(t *testing.T) {
	t.Parallel() // it waits
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		var until time.Time
		var server, client *sslfilter.Ctx
		var p *testkit.Pair
		for valid := time.Second; ; valid *= 2 { // a slow machine needs longer
			until = time.Now().Add(valid).Truncate(time.Second).Add(time.Second)
			crt := testkit.Mint(t, x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until})
			server = testkit.Ctx(t, sslfilter.Options{CrtMem: crt, Key: testkit.PKI("client.key")})
			client = testkit.Ctx(t, testkit.Client(testkit.UpTo(highest)))
			p = testkit.PairOf(t, server, client)
			if err := p.Handshake(); err == nil {
				break
			} else {
				require.Less(t, valid, testkit.Patience, "%v", err)
			}
		}
		p.Server.Send([]byte("hello"))
		p.Transfer()
		list := p.Client.Sessions()
		require.NotEmpty(t, list)

		time.Sleep(time.Until(until.Add(1100 * time.Millisecond)))
		p = testkit.PairOf(t, server, client)
		require.NoError(t, p.Client.SetSession(list[0]))
		require.Error(t, p.Handshake())
		require.Equal(t, sslfilter.VerifyCertHasExpired, testkit.As[*sslfilter.VerifyError](t, p.Client.SessionError()).Code)
	})
}

// A session is not offered if this side no longer allows its version. If the server no longer
// accepts the version, there is a full handshake.
func TestSessionsVersions(t *testing.T) {
	server := testkit.Ctx(t, testkit.Server())
	for first, second := range map[sslfilter.Version]sslfilter.Version{sslfilter.VersionTLS12: sslfilter.VersionTLS13, sslfilter.VersionTLS13: sslfilter.VersionTLS12} {
		t.Run(fmt.Sprintf("%v then %v", first, second), func(t *testing.T) {
			s := firstVisit(t, server, testkit.Ctx(t, testkit.Client(testkit.UpTo(first))))

			p, resumed := resumes(t, server, testkit.Ctx(t, testkit.Client(testkit.Only(second))), s)
			require.False(t, resumed)
			require.Error(t, p.Client.SessionError())
			require.True(t, p.Client.ClientCertValid())
		})
	}
	s := firstVisit(t, server, testkit.Ctx(t, testkit.Client()))
	p, resumed := resumes(t, testkit.Ctx(t, testkit.Server(testkit.TLS12)), testkit.Ctx(t, testkit.Client()), s)
	require.False(t, resumed)
	require.True(t, p.Client.ClientCertValid())
	require.Len(t, p.Client.Peer().Chain, 2)
}

// A server that does not know the session does a full handshake, whose verdict counts,
// not that on the session.
func TestSessionsServerDeclines(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		client := testkit.Ctx(t, testkit.Client(testkit.UpTo(highest)))
		s := firstVisit(t, testkit.Ctx(t, testkit.Server()), client)

		p, resumed := resumes(t, testkit.Ctx(t, testkit.ServerOf("server-ec")), client, s)
		require.False(t, resumed)
		require.NoError(t, p.Client.SessionError())
		require.True(t, p.Client.ClientCertValid())
		require.Equal(t, testkit.Cert(t, "server-ec.crt").Raw, p.Client.Peer().Sent[0])

		p = testkit.PairOf(t, testkit.Ctx(t, testkit.ServerOf("server-expired")), client)
		require.NoError(t, p.Client.SetSession(s))
		require.Error(t, p.Handshake())
		require.Equal(t, sslfilter.VerifyCertHasExpired, testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code)
	})
}

// The stapled response is stored with the session and verified again.
func TestSessionsOCSP(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		until := time.Now().Add(2 * time.Hour)
		staple, err := sslfilter.NewStaple(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), Until: until}))
		require.NoError(t, err)
		server := testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.Staple = staple }))
		for _, check := range []sslfilter.OCSPCheck{sslfilter.OCSPOff, sslfilter.OCSPIfStapled, sslfilter.OCSPRequire} {
			client := testkit.Ctx(t, testkit.Client(testkit.UpTo(highest), checkingOCSP(check)))
			full := visit(t, server, client, nil)

			p, resumed := resumes(t, server, client, full.Client.Sessions()[0])
			require.True(t, resumed, "%v", p.Client.SessionError())
			require.NotEmpty(t, p.Client.OCSPResponse())
			require.Equal(t, full.Client.OCSPResponse(), p.Client.OCSPResponse())
			require.Equal(t, full.Client.Peer(), p.Client.Peer())
		}
	})
}

// SetSession at a wrong time or on a server is an error that changes nothing.
func TestSessionsUsage(t *testing.T) {
	server, client := testkit.Ctx(t, testkit.Server()), testkit.Ctx(t, testkit.Client())
	s := firstVisit(t, server, client)

	p := testkit.PairOf(t, server, client)
	testkit.As[*sslfilter.UsageError](t, p.Server.SetSession(s))
	testkit.As[*sslfilter.UsageError](t, p.Client.SetSession(new(sslfilter.Session)))
	require.NoError(t, p.Client.SetSession(s))
	require.NoError(t, p.Client.SetSession(nil))
	require.NoError(t, p.Handshake())
	require.False(t, p.Client.Resumed())
	testkit.As[*sslfilter.UsageError](t, p.Client.SetSession(s))

	var none sslfilter.Session
	_, err := none.MarshalBinary()
	require.Error(t, err)
	require.Zero(t, none.Expires())
	require.Zero(t, (*sslfilter.Session)(nil).Expires())
	data, err := s.MarshalBinary()
	require.NoError(t, err)
	for name, bad := range map[string][]byte{"empty": nil, "cut": data[:len(data)-1], "longer": append(data[:len(data):len(data)], 0), "junk": []byte("junk"), "huge": make([]byte, 1<<20)} {
		require.Error(t, none.UnmarshalBinary(bad), name)
	}
	require.Zero(t, none.Version())
}

// No way to print a session shows its bytes.
func TestSessionsAreNotPrinted(t *testing.T) {
	s := firstVisit(t, testkit.Ctx(t, testkit.Server()), testkit.Ctx(t, testkit.Client()))
	data, err := s.MarshalBinary()
	require.NoError(t, err)
	secret := fmt.Sprintf("%x", data[60:68])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		text := fmt.Sprintf(verb, s)
		require.Less(t, len(text), 100)
		require.NotContains(t, strings.ToLower(text), secret)
		require.NotContains(t, fmt.Sprintf(verb, *s), secret)
	}
}

// SessionKey is the same only for clients that can use each other's sessions.
func TestSessionsKey(t *testing.T) {
	key := func(changes ...testkit.Change) string {
		return testkit.Filter(t, testkit.Client(changes...)).SessionKey()
	}
	same := key()
	require.Len(t, same, 64)
	require.Equal(t, same, key())
	require.Equal(t, same, key(func(o *sslfilter.Options) { o.CACrt, o.CACrtMem = "", [][]byte{testkit.PKIBytes(t, "root.crt")} }))
	require.Equal(t, key(trustingMem(t, "root.crt", "other.crt")), key(trustingMem(t, "other.crt", "root.crt")), "the order of the CAs does not matter")
	seen := map[string]string{same: "the default"}
	for name, change := range map[string]testkit.Change{
		"the name":            testkit.ServerName("server.test"),
		"SNI":                 func(o *sslfilter.Options) { o.SNI = "server.test" },
		"ALPN":                func(o *sslfilter.Options) { o.ALPN = []string{"h2"} },
		"two protocols":       func(o *sslfilter.Options) { o.ALPN = []string{"h2", "http/1.1"} },
		"a certificate":       showing("client.crt"),
		"another certificate": showing("client-ec.crt"),
		"the CA":              trusting("other.crt"),
		"no verification":     func(o *sslfilter.Options) { o.InsecureSkipVerify = true },
		"an ignored error":    func(o *sslfilter.Options) { o.IgnoreVerifyErrors = []sslfilter.VerifyCode{10} },
		"a CRL":               func(o *sslfilter.Options) { o.CACRLMem = testkit.CRL(t, 1) },
		"another CRL":         func(o *sslfilter.Options) { o.CACRLMem = testkit.CRL(t, 2) },
		"a CRL to check":      func(o *sslfilter.Options) { o.CRLCheck, o.CRLMem = sslfilter.CRLCheckLeaf, [][]byte{testkit.CRL(t, 1)} },
		"OCSP":                checkingOCSP(sslfilter.OCSPIfStapled),
		"ciphers":             testkit.Cipher("ECDHE-RSA-AES256-GCM-SHA384"),
		"groups":              func(o *sslfilter.Options) { o.Groups = "P-384" },
		"versions":            testkit.TLS12,
	} {
		k := key(change)
		require.Empty(t, seen[k], "%s and %s have the same key", name, seen[k])
		seen[k] = name
	}
	f := testkit.Filter(t, testkit.Client())
	require.NoError(t, f.SetALPN("h2"))
	require.Equal(t, key(func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }), f.SessionKey())
	require.NoError(t, f.SetServerName("server.test"))
	require.NotEqual(t, same, f.SessionKey())
	for _, name := range []string{"localhost", "127.0.0.1"} {
		f = testkit.Filter(t, testkit.Client(testkit.ServerName("")))
		require.NoError(t, f.SetServerName(name))
		require.Equal(t, key(testkit.ServerName(name)), f.SessionKey(), "the same name, from the options and from SetServerName")
		require.Equal(t, key(testkit.ServerName(name)), key(testkit.ServerName(name), func(o *sslfilter.Options) { o.SNI = name }))
	}
	require.NotEqual(t, key(testkit.ServerName("127.0.0.1")), key(testkit.ServerName("127.0.0.1"), func(o *sslfilter.Options) { o.SNI = "localhost" }))
	sending := testkit.Client(func(o *sslfilter.Options) { o.SNI = "sent.test" })
	one, two := testkit.Filter(t, sending), testkit.Filter(t, sending)
	require.NoError(t, one.SetServerName("server.test"))
	require.NoError(t, two.SetVerifiedName("server.test"))
	require.NotEqual(t, one.SessionKey(), two.SessionKey(), "the name that is sent differs")
	require.Empty(t, testkit.Filter(t, testkit.Server()).SessionKey())
	require.Empty(t, testkit.Filter(t, testkit.Client(testkit.ServerName(""))).SessionKey())
}

// A context of the FIPS provider resumes its own sessions, and none of another context.
func TestSessionsFIPS(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		server := testkit.Ctx(t, testkit.ServerOf("server-inter"))
		inside, outside := testkit.Ctx(t, inFIPS(t, testkit.Client(testkit.UpTo(highest)))), testkit.Ctx(t, testkit.Client(testkit.UpTo(highest)))
		full := visit(t, server, inside, nil)
		s := full.Client.Sessions()[0]

		p, resumed := resumes(t, server, inside, s)
		require.True(t, resumed, "%v", p.Client.SessionError())
		require.Equal(t, full.Client.Peer(), p.Client.Peer())
		_, resumed = resumes(t, server, outside, s)
		require.False(t, resumed)
		_, resumed = resumes(t, server, inside, firstVisit(t, server, outside))
		require.False(t, resumed)
	})
}

// A client keeps the last four tickets.
func TestSessionsAreBounded(t *testing.T) {
	server, client := testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.NumTickets = 9 })), testkit.Ctx(t, testkit.Client(testkit.TLS13))
	p := visit(t, server, client, nil)
	list := p.Client.Sessions()
	require.Len(t, list, 4)
	for _, s := range list {
		_, resumed := resumes(t, server, client, s)
		require.True(t, resumed)
	}
}

// The certificates of a session are bounded by what OpenSSL accepts in a handshake.
func TestSessionsOfALongChain(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		chain := testkit.PKIBytes(t, "server.crt")
		big := testkit.Mint(t, x509.Certificate{Subject: pkix.Name{CommonName: "padding"}, ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: make([]byte, 9_000)}}})
		for range 10 {
			chain = append(chain, big...)
		}
		server := testkit.Ctx(t, sslfilter.Options{ChainMem: chain, Key: testkit.PKI("server.key")})
		client := testkit.Ctx(t, testkit.Client(testkit.UpTo(highest)))
		full := visit(t, server, client, nil)
		p, resumed := resumes(t, server, client, full.Client.Sessions()[0])
		require.True(t, resumed)
		require.Len(t, p.Client.Peer().Sent, 11)
		require.Equal(t, full.Client.Peer(), p.Client.Peer())
	})
}

// A session whose ticket is larger than any that the library keeps is not accepted. OpenSSL could
// not send it, and the handshake would fail.
func TestSessionsForgedTicket(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		s := firstVisit(t, testkit.Ctx(t, testkit.Server()), testkit.Ctx(t, testkit.Client(testkit.UpTo(highest))))
		data, err := s.MarshalBinary()
		require.NoError(t, err)
		for size, good := range map[int]bool{100: true, 16 << 10: true, 16<<10 + 1: false, 70_000: false} {
			var fields []asn1.RawValue
			_, err = asn1.Unmarshal(data, &fields)
			require.NoError(t, err)
			i := slices.IndexFunc(fields, func(v asn1.RawValue) bool { return v.Class == asn1.ClassContextSpecific && v.Tag == 10 })
			require.GreaterOrEqual(t, i, 0)
			ticket, err := asn1.Marshal(make([]byte, size))
			require.NoError(t, err)
			fields[i].Bytes, fields[i].FullBytes = ticket, nil
			forged, err := asn1.Marshal(fields)
			require.NoError(t, err)
			err = new(sslfilter.Session).UnmarshalBinary(forged)
			require.Equal(t, good, err == nil, "%d bytes: %v", size, err)
		}
	})
}
