package sslfilter_test

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// effect shows the effect of one option: the same connection without and with it.
type effect struct {
	field         string
	base          sslfilter.Options
	change        func(*sslfilter.Options)
	see           func(*testing.T, sslfilter.Options) string
	without, with string
}

const refused = "refused"

// met connects a side with o to the other side, and returns the result: "bad" and the option
// that NewCtx rejects, refused if the handshake fails, or the result of look.
func met(other sslfilter.Options, look func(p *testkit.Pair) string) func(*testing.T, sslfilter.Options) string {
	return func(t *testing.T, o sslfilter.Options) string {
		t.Helper()
		ctx, err := sslfilter.NewCtx(o)
		if err != nil {
			return "bad " + testkit.As[*sslfilter.OptionError](t, err).Option
		}
		defer ctx.Close()
		p := testkit.Join(testkit.Filter(t, other), testkit.FilterOf(t, ctx))
		if !o.Client {
			p = testkit.Join(testkit.FilterOf(t, ctx), testkit.Filter(t, other))
		}
		if p.Handshake() != nil {
			return refused
		}
		if look == nil {
			return "done"
		}
		return look(p)
	}
}

func truth(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// effects has a row for every field of Options.
func effects(t testing.TB) []effect {
	anyone := sslfilter.Options{Client: true, InsecureSkipVerify: true} // a client that accepts every server
	serial := met(anyone, func(p *testkit.Pair) string { return sslfilter.Hexdump(p.Client.ClientCertIDs()[0].Serial) })
	sent := met(anyone, func(p *testkit.Pair) string { return strings.Repeat("+", len(p.Client.Peer().Sent)) })
	version := met(anyone, func(p *testkit.Pair) string { return p.Client.Version() })
	cipher := met(anyone, func(p *testkit.Pair) string { return p.Client.Cipher() })
	valid := func(crt, key string) func(*testing.T, sslfilter.Options) string {
		return met(testkit.Showing(crt, key), func(p *testkit.Pair) string { return truth(p.Server.ClientCertValid()) })
	}
	sni := met(testkit.Server(), func(p *testkit.Pair) string { return p.Server.ServerName() })
	prefers := testkit.With(anyone, testkit.TLS12)
	prefers.Cipher = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
	log := new(testkit.Log)
	handled, keys, keysOfTickets := 0, new(secretLog), new(sslfilter.TicketKeys)
	return []effect{
		{"Client", testkit.Server(func(o *sslfilter.Options) { o.CACrt = testkit.PKI("root.crt") }),
			func(o *sslfilter.Options) { *o = testkit.Client() }, func(t *testing.T, o sslfilter.Options) string {
				f := testkit.Filter(t, o)
				require.NoError(t, f.Handshake())
				return truth(len(f.Outgoing(nil)) > 0)
			}, "false", "true"},
		{"Crt", sslfilter.Options{Key: testkit.PKI("server.key")}, func(o *sslfilter.Options) { o.Crt = testkit.PKI("server.crt") }, serial, "bad Key", "10:01"},
		{"CrtMem", testkit.Server(), func(o *sslfilter.Options) {
			o.CrtMem = testkit.PKIBytes(t, "server-ec.crt")
			o.KeyMem = testkit.PKIBytes(t, "server-ec.key")
		}, serial, "10:01", "10:02"},
		{"Key", sslfilter.Options{Crt: testkit.PKI("server.crt")}, func(o *sslfilter.Options) { o.Key = testkit.PKI("server.key") }, serial, "bad Crt", "10:01"},
		{"KeyMem", testkit.Server(), func(o *sslfilter.Options) { o.KeyMem = testkit.PKIBytes(t, "client.key") }, serial, "10:01", "bad KeyMem"},
		{"KeyPassphrase", sslfilter.Options{Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server-enc.key")},
			func(o *sslfilter.Options) { o.KeyPassphrase = saying("secret") }, serial, "bad Key", "10:01"},
		{"Chain", testkit.ServerOf("server"), func(o *sslfilter.Options) { o.Crt, o.Key, o.Chain = "", "", testkit.PKI("chain-with-key.pem") }, sent, "+", "++"},
		{"ChainMem", testkit.ServerOf("server-inter"), func(o *sslfilter.Options) { o.ChainMem = testkit.PKIBytes(t, "server-inter.crt") }, sent, "+++", "+"},
		{"Staple", testkit.Server(), func(o *sslfilter.Options) {
			o.Staple, _ = sslfilter.NewStaple(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt")}))
		},
			met(anyone, func(p *testkit.Pair) string { return truth(p.Client.OCSPResponse() != nil) }), "false", "true"}, // more in TestStaple
		{"OCSPCheck", testkit.Client(), checkingOCSP(sslfilter.OCSPRequire), met(testkit.Server(), nil), "done", refused}, // more in TestOCSPCheck
		{"Identities", testkit.Server(), func(o *sslfilter.Options) {
			o.Identities = []sslfilter.Identity{{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key")}}
		}, serial, "10:01", "10:02"}, // more in TestCertsIdentitiesOfAServer
		{"CACrt", testkit.Asking(func(o *sslfilter.Options) { o.CACrt = "" }), func(o *sslfilter.Options) { o.CACrt = testkit.PKI("root.crt") }, valid("client.crt", ""), "false", "true"},
		{"CACrtMem", testkit.Asking(), func(o *sslfilter.Options) { o.CACrtMem = [][]byte{testkit.PKIBytes(t, "other.crt")} }, valid("client.crt", ""), "true", "false"},
		{"CAVerifyDepth", testkit.Asking(), depth(2), valid("client-deep-chain.pem", "client-deep.key"), "true", "false"},
		{"CACRL", testkit.Asking(), crl(testkit.PKI("crl.pem")), valid("client-revoked.crt", ""), "true", "false"},
		{"CACRLMem", testkit.Asking(), func(o *sslfilter.Options) { o.CACRLMem = testkit.PKIBytes(t, "crl.pem") }, valid("client-revoked.crt", ""), "true", "false"},
		{"CRLCheck", testkit.Asking(checking(sslfilter.CRLCheckLeaf, "crl-inter-empty.pem")), func(o *sslfilter.Options) { o.CRLCheck = sslfilter.CRLCheckChain },
			valid("client-inter-chain.pem", ""), "true", "false"},
		{"CRLFiles", testkit.Asking(checking(sslfilter.CRLCheckLeaf)), checking(sslfilter.CRLCheckLeaf, "crl.pem"), valid("client.crt", ""), "bad CRLCheck", "true"},
		{"CRLMem", testkit.Asking(checking(sslfilter.CRLCheckLeaf, "crl-other.pem")), func(o *sslfilter.Options) { o.CRLMem = [][]byte{testkit.PKIBytes(t, "crl.pem")} },
			valid("client.crt", ""), "false", "true"},
		{"ReadCRLOnce", testkit.Asking(), func(o *sslfilter.Options) { o.ReadCRLOnce = true }, func(t *testing.T, o sslfilter.Options) string {
			file := testkit.TempFile(t, "crl.pem", testkit.CRL(t, 0x2002))
			o.CACRL = file
			server := testkit.Ctx(t, o)
			require.NoError(t, os.WriteFile(file, testkit.CRL(t, 0x2001), 0o600))
			p := testkit.PairOf(t, server, testkit.Ctx(t, testkit.Showing("client.crt", "")))
			require.NoError(t, p.Handshake())
			return truth(p.Server.ClientCertValid())
		}, "false", "true"},
		{"AllowMissingCRL", testkit.Asking(checking(sslfilter.CRLCheckLeaf, "crl-other.pem")), allowMissing, valid("client.crt", ""), "false", "true"},
		{"AllowExpiredCRL", testkit.Asking(checking(sslfilter.CRLCheckLeaf, "crl-expired.pem")), allowExpired, valid("client.crt", ""), "false", "true"},
		{"ClientCert", testkit.Server(func(o *sslfilter.Options) { o.CACrt = testkit.PKI("root.crt") }),
			func(o *sslfilter.Options) { o.ClientCert = true }, valid("client.crt", ""), "false", "true"},
		{"BlockBadClientCert", testkit.Asking(), func(o *sslfilter.Options) { o.BlockBadClientCert = true }, valid("", ""), "false", refused},
		{"BlockInvalidClientCert", testkit.Asking(), func(o *sslfilter.Options) { o.BlockInvalidClientCert = true }, valid("client-expired.crt", ""), "false", refused},
		{"RequireValidClientCert", testkit.Asking(), func(o *sslfilter.Options) { o.RequireValidClientCert = true }, valid("client-expired.crt", ""), "false", refused},
		{"IgnoreVerifyErrors", testkit.Asking(), ignoring(10), valid("client-expired.crt", ""), "false", "true"},
		{"InsecureSkipVerify", testkit.Client(), func(o *sslfilter.Options) { o.InsecureSkipVerify = true }, met(testkit.ServerOf("server-unknown"), nil), refused, "done"},
		{"SNI", testkit.Client(), func(o *sslfilter.Options) { o.SNI = "example.org" }, sni, "localhost", "example.org"},
		{"ServerName", testkit.Client(func(o *sslfilter.Options) { o.ServerName, o.SNI = "", "example.org" }),
			testkit.ServerName("server.test"), sni, refused, "example.org"},
		{"TLS", testkit.Server(func(o *sslfilter.Options) { o.MinVersion = sslfilter.VersionTLS10 }),
			func(o *sslfilter.Options) { o.TLS = true }, version, "TLSv1.3", "bad MinVersion"},
		{"TLS12", testkit.Server(), testkit.TLS12, version, "TLSv1.3", "TLSv1.2"},
		{"MinVersion", testkit.Server(), testkit.TLS13, met(testkit.With(anyone, testkit.TLS12), nil), "done", refused},
		{"MaxVersion", testkit.Server(), func(o *sslfilter.Options) { o.MaxVersion = sslfilter.VersionTLS12 }, version, "TLSv1.3", "TLSv1.2"},
		{"Cipher", testkit.Server(testkit.TLS12), testkit.Cipher("AES256-SHA"), cipher, "ECDHE-RSA-AES256-GCM-SHA384", "AES256-SHA"},
		{"CipherSuites", testkit.Server(), func(o *sslfilter.Options) { o.CipherSuites = "TLS_AES_128_GCM_SHA256" }, cipher, "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"},
		{"Groups", testkit.Server(), func(o *sslfilter.Options) { o.Groups = "P-384" },
			met(testkit.With(anyone, func(o *sslfilter.Options) { o.Groups = "P-256" }), nil), "done", refused},
		{"SignatureAlgorithms", testkit.Server(), func(o *sslfilter.Options) { o.SignatureAlgorithms = "RSA-PSS+SHA384" },
			met(testkit.With(anyone, func(o *sslfilter.Options) { o.SignatureAlgorithms = "RSA-PSS+SHA256" }), nil), "done", refused}, // more in TestConfSignatureAlgorithms
		{"Conf", testkit.Server(), conf("MaxProtocol", "TLSv1.2"), version, "TLSv1.3", "TLSv1.2"}, // more in TestConfCommands
		{"ALPN", testkit.Server(), func(o *sslfilter.Options) { o.ALPN = []string{"h2"} },
			met(testkit.With(anyone, func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }), func(p *testkit.Pair) string { return p.Client.ALPN() }), "", "h2"},
		{"NoHonor", testkit.Server(), func(o *sslfilter.Options) { o.NoHonor = true },
			met(prefers, func(p *testkit.Pair) string { return p.Client.Cipher() }), "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"},
		{"NumTickets", testkit.Server(), func(o *sslfilter.Options) { o.NumTickets = -1 }, func(t *testing.T, o sslfilter.Options) string {
			return fmt.Sprint(tickets(t, o, sslfilter.VersionTLS13))
		}, "2", "0"}, // more in TestHandshakeNumTickets
		{"TicketKeys", testkit.Server(), func(o *sslfilter.Options) { o.TicketKeys = keysOfTickets }, func(t *testing.T, o sslfilter.Options) string {
			v := visiting(t, sslfilter.VersionTLS13, "", "")
			require.False(t, v.visit(t, testkit.Ctx(t, testkit.Server(sharing(keysOfTickets)))))
			return truth(v.visit(t, testkit.Ctx(t, o)))
		}, "false", "true"}, // more in TestTicketKeysAreShared
		{"ResumeClientCert", testkit.Asking(), func(o *sslfilter.Options) { o.ResumeClientCert = true }, func(t *testing.T, o sslfilter.Options) string {
			v, ctx := visiting(t, sslfilter.VersionTLS13, "client.crt", "client.key"), testkit.Ctx(t, o)
			require.False(t, v.visit(t, ctx))
			return truth(v.visit(t, ctx))
		}, "false", "true"}, // more in TestResumeClientCert
		{"StatefulSessions", testkit.Server(), func(o *sslfilter.Options) { o.StatefulSessions = true }, func(t *testing.T, o sslfilter.Options) string {
			s := shelf{}
			s.visit(t, newGuest(t, sslfilter.VersionTLS12, "", ""), testkit.Ctx(t, o))
			return fmt.Sprint(len(s))
		}, "0", "1"}, // more in TestStoredSessions
		{"NoRenegotiation", testkit.Client(testkit.TLS12), func(o *sslfilter.Options) { o.NoRenegotiation = true }, func(t *testing.T, o sslfilter.Options) string {
			return truth(answersHelloRequest(t, o))
		}, "true", "false"}, // more in TestHandshakeNoRenegotiation
		{"DHCert", testkit.Server(), func(o *sslfilter.Options) { o.DHCert = testkit.PKI("server.crt") }, serial, "10:01", "bad DHCert"}, // more in TestDHE
		{"DHCertMem", testkit.Server(func(o *sslfilter.Options) { o.DHCert = testkit.PKI("server.crt") }),
			func(o *sslfilter.Options) { o.DHCertMem = testkit.PKIBytes(t, "dh2048.pem") }, serial, "bad DHCert", "10:01"},
		{"FIPS", testkit.Server(), func(o *sslfilter.Options) { o.FIPS = true }, func(t *testing.T, o sslfilter.Options) string {
			err := accepted(o)
			if !o.FIPS || err != nil == sslfilter.FIPSEnabled() { // the default is the configuration of the process
				return "plain: " + truth(err == nil)
			}
			return "as the process: " + truth(err == nil || testkit.As[*sslfilter.OptionError](t, err).Option == "FIPS")
		}, "plain: true", "as the process: true"}, // more in TestFIPSContext
		{"FIPSConfig", testkit.Server(), func(o *sslfilter.Options) { o.FIPSConfig = "fips.cnf" }, met(anyone, nil), "done", "bad FIPSConfig"},
		{"AllowMissingCloseNotify", testkit.Server(), allowMissingEnd, met(anyone, func(p *testkit.Pair) string {
			return truth(p.Server.ReceiveEOF() == io.EOF)
		}), "false", "true"},
		{"KeyLog", testkit.Server(), loggingKeys(keys), func(t *testing.T, o sslfilter.Options) string {
			require.Equal(t, "10:01", serial(t, o))
			return truth(len(keys.lines()) > 0)
		}, "false", "true"}, // more in TestKeyLogLines
		{"ErrorHandler", testkit.Requiring(), func(o *sslfilter.Options) {
			o.ErrorHandler = func(*sslfilter.Filter, error) { handled++ }
		}, func(t *testing.T, o sslfilter.Options) string {
			require.Equal(t, refused, valid("", "")(t, o))
			return strings.Repeat("!", handled)
		}, "", "!"},
		{"Debug", testkit.Server(), func(o *sslfilter.Options) { o.Debug = log.Logger() }, func(t *testing.T, o sslfilter.Options) string {
			require.Equal(t, "10:01", serial(t, o))
			return truth(strings.Contains(log.String(), "handshake done"))
		}, "false", "true"},
	}
}

func TestOptionsHaveTheirEffect(t *testing.T) {
	left := make(map[string]bool)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[sslfilter.Options]()) {
		left[field.Name] = true
	}
	for _, e := range effects(t) {
		var alone sslfilter.Options
		e.change(&alone)
		require.False(t, reflect.ValueOf(alone).FieldByName(e.field).IsZero(), "the case of %s does not set it", e.field)
		delete(left, e.field)
		t.Run(e.field, func(t *testing.T) {
			require.Equal(t, e.without, e.see(t, e.base))
			require.Equal(t, e.with, e.see(t, testkit.With(e.base, e.change)))
		})
	}
	require.Empty(t, left, "options without a row in effects")
}

// Options of the original that have no effect in a context are accepted, and logged to
// Debug once.
func TestOptionsWithoutEffectAreLogged(t *testing.T) {
	const topic = "sslfilter: option has no effect"
	for _, c := range []struct {
		base   sslfilter.Options
		change func(*sslfilter.Options)
		told   []string
	}{
		{testkit.Server(), nil, nil},
		{testkit.Client(), nil, nil},
		{testkit.Asking(), crl(testkit.PKI("crl.pem")), nil},
		{testkit.Requiring(), crl(testkit.PKI("crl.pem")), nil},
		{testkit.Client(), crl(testkit.PKI("crl.pem")), nil},
		{testkit.Server(), func(o *sslfilter.Options) { o.NoHonor, o.DHCert, o.TLS = true, testkit.PKI("dh2048.pem"), true }, nil},
		{testkit.Asking(), func(o *sslfilter.Options) { o.BlockBadClientCert = true }, nil},
		{testkit.Requiring(), func(o *sslfilter.Options) { o.ClientCert, o.BlockBadClientCert = false, true }, nil},
		{testkit.Client(), func(o *sslfilter.Options) { o.SNI, o.TLS12 = "localhost", true }, nil},
		{testkit.Client(), func(o *sslfilter.Options) { o.ClientCert = true }, []string{"ClientCert on a client"}},
		{testkit.Client(), func(o *sslfilter.Options) { o.BlockBadClientCert = true }, []string{"BlockBadClientCert on a client"}},
		{testkit.Client(), func(o *sslfilter.Options) { o.DHCert = testkit.PKI("no-such-file.pem") }, []string{"DHCert on a client"}},
		{testkit.Client(), func(o *sslfilter.Options) { o.DHCertMem = []byte("not looked at") }, []string{"DHCert on a client"}},
		{testkit.Client(), func(o *sslfilter.Options) { o.NoHonor = true }, []string{"NoHonor on a client"}},
		{testkit.Server(), func(o *sslfilter.Options) { o.BlockBadClientCert = true }, []string{"BlockBadClientCert without ClientCert"}},
		{testkit.Server(), func(o *sslfilter.Options) { o.SNI = "localhost" }, []string{"SNI on a server"}},
		{testkit.Server(), crl(testkit.PKI("crl.pem")), []string{"CACRL without ClientCert"}},
		{testkit.Server(), func(o *sslfilter.Options) { o.TLS, o.TLS12 = true, true }, []string{"TLS with TLS12"}},
		{testkit.Server(), ignoring(10), []string{"IgnoreVerifyErrors without ClientCert"}},
		{testkit.Server(), depth(3), []string{"CAVerifyDepth without ClientCert"}},
		{testkit.Asking(), func(o *sslfilter.Options) { o.IgnoreVerifyErrors, o.CAVerifyDepth = []sslfilter.VerifyCode{10}, 3 }, nil},
		{testkit.Client(), func(o *sslfilter.Options) { o.IgnoreVerifyErrors, o.CAVerifyDepth = []sslfilter.VerifyCode{10}, 3 }, nil},
		{testkit.Server(), func(o *sslfilter.Options) { o.ClientCert = true }, []string{"ClientCert without CACrt: no client certificate can be valid"}},
		{testkit.Server(testkit.TLS13), func(o *sslfilter.Options) {
			o.Cipher, o.DHCert, o.TLS = "ECDHE+AESGCM", testkit.PKI("dh2048.pem"), true
		},
			[]string{"TLS with TLS 1.3 alone", "Cipher with TLS 1.3 alone", "DHCert with TLS 1.3 alone"}},
		{testkit.Client(testkit.TLS13), func(o *sslfilter.Options) { o.Cipher, o.TLS = "ECDHE+AESGCM", true }, []string{"TLS with TLS 1.3 alone", "Cipher with TLS 1.3 alone"}},
		{testkit.Server(testkit.TLS13), testkit.Cipher("DEFAULT@SECLEVEL=1"), nil}, // the security level applies to TLS 1.3, too
		{testkit.Server(), func(o *sslfilter.Options) { o.CrtMem = testkit.PKIBytes(t, "server.crt") }, []string{"Crt with CrtMem"}},
		{testkit.Server(), func(o *sslfilter.Options) { o.KeyMem = testkit.PKIBytes(t, "server.key") }, []string{"Key with KeyMem"}},
		{testkit.ServerOf("server-inter"), func(o *sslfilter.Options) { o.ChainMem = testkit.PKIBytes(t, "chain.pem") }, []string{"Chain with ChainMem"}},
		{testkit.Asking(), func(o *sslfilter.Options) { o.CACrtMem = [][]byte{testkit.PKIBytes(t, "root.crt")} }, []string{"CACrt with CACrtMem"}},
		{testkit.Asking(), func(o *sslfilter.Options) { o.CACRL, o.CACRLMem = "x", testkit.PKIBytes(t, "crl.pem") }, []string{"CACRL with CACRLMem"}},
		{testkit.Server(), func(o *sslfilter.Options) { o.DHCert, o.DHCertMem = "x", testkit.PKIBytes(t, "dh2048.pem") }, []string{"DHCert with DHCertMem"}},
		{testkit.Client(), func(o *sslfilter.Options) {
			o.ClientCert, o.BlockBadClientCert, o.NoHonor, o.TLS, o.TLS12 = true, true, true, true, true
		},
			[]string{"ClientCert on a client", "BlockBadClientCert on a client", "NoHonor on a client", "TLS with TLS12"}},
	} {
		log := new(testkit.Log)
		require.NoError(t, accepted(testkit.With(c.base, c.change, func(o *sslfilter.Options) { o.Debug = log.Logger() })))
		require.Equal(t, c.told, log.Values(topic, "option"))
	}
}

// Names in Cipher that OpenSSL silently ignores are logged to Debug.
func TestOptionsDroppedCipherNamesAreLogged(t *testing.T) {
	for list, told := range map[string][]string{
		"":                                       nil,
		"HIGH:!aNULL:!MD5:@STRENGTH:@SECLEVEL=1": nil,
		"ECDHE+AESGCM:DHE-RSA-AES256-GCM-SHA384": nil,
		"HIGH:NOSUCH:!aNULL":                     {"NOSUCH"},
		"HIGH:!NOSUCH":                           {"NOSUCH"},
		"HIGH:-NOSUCH,+NOR;ECDHE+THIS":           {"NOSUCH", "NOR", "ECDHE+THIS"},
		"HIGH TLS_AES_128_GCM_SHA256":            {"TLS_AES_128_GCM_SHA256"}, // it belongs in CipherSuites
	} {
		log := new(testkit.Log)
		require.NoError(t, accepted(testkit.Server(func(o *sslfilter.Options) { o.Cipher, o.Debug = list, log.Logger() })), list)
		if strings.Contains(list, "MD5") && !served(t, "MD5") {
			told = []string{"MD5"} // no suite of the FIPS provider uses it
		}
		got := log.Values("sslfilter: Cipher holds a name that OpenSSL drops", "name")
		slices.Sort(got)
		slices.Sort(told)
		require.Equal(t, told, got, list)
	}
}
