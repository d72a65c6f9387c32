package sslfilter_test

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/enginetest"
)

// effect shows that one option does what it says: the same connection without
// and with it.
type effect struct {
	field         string
	base          sslfilter.Options
	change        func(*sslfilter.Options)
	see           func(*testing.T, sslfilter.Options) string
	without, with string
}

const refused = "refused"

// met joins o with the other side, and says what became of it: refused, by
// NewCtx or in the handshake, or what look tells.
func met(other sslfilter.Options, look func(p *enginetest.Pair) string) func(*testing.T, sslfilter.Options) string {
	return func(t *testing.T, o sslfilter.Options) string {
		t.Helper()
		ctx, err := sslfilter.NewCtx(o)
		if err != nil {
			return "bad " + asError[*sslfilter.OptionError](t, err).Option
		}
		defer ctx.Close()
		p := enginetest.New(filterOf(t, ctx), mustFilter(t, other))
		if !o.Client {
			p = enginetest.New(mustFilter(t, other), filterOf(t, ctx))
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

// effects has every field of Options.
func effects(t testing.TB) []effect {
	anyone := sslfilter.Options{Client: true, InsecureSkipVerify: true} // a client for every server
	in12 := func(o sslfilter.Options) sslfilter.Options { o.TLS12 = true; return o }
	serial := met(anyone, func(p *enginetest.Pair) string { return sslfilter.Hexdump(p.Client.ClientCertIDs()[0].Serial) })
	sent := met(anyone, func(p *enginetest.Pair) string { return strings.Repeat("+", len(p.Client.Peer().Sent)) })
	version := met(anyone, func(p *enginetest.Pair) string { return p.Client.Version() })
	cipher := met(anyone, func(p *enginetest.Pair) string { return p.Client.Cipher() })
	valid := func(crt, key string) func(*testing.T, sslfilter.Options) string {
		return met(showing(crt, key), func(p *enginetest.Pair) string { return truth(p.Server.ClientCertValid()) })
	}
	sni := met(serverOptions(), func(p *enginetest.Pair) string { return p.Server.ServerName() })
	prefers := in12(anyone)
	prefers.Cipher = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
	log, text := logTo()
	handled := 0
	return []effect{
		{"Client", with(serverOptions(), func(o *sslfilter.Options) { o.CACrt = pki("root.crt") }),
			func(o *sslfilter.Options) { *o = clientOptions() }, func(t *testing.T, o sslfilter.Options) string {
				f := mustFilter(t, o)
				require.NoError(t, f.Handshake())
				return truth(len(f.Outgoing(nil)) > 0)
			}, "false", "true"},
		{"Crt", sslfilter.Options{Key: pki("server.key")}, func(o *sslfilter.Options) { o.Crt = pki("server.crt") }, serial, "bad Key", "10:01"},
		{"CrtMem", serverOptions(), func(o *sslfilter.Options) {
			o.CrtMem = pkiBytes(t, "server-ec.crt")
			o.KeyMem = pkiBytes(t, "server-ec.key")
		}, serial, "10:01", "10:02"},
		{"Key", sslfilter.Options{Crt: pki("server.crt")}, func(o *sslfilter.Options) { o.Key = pki("server.key") }, serial, "bad Crt", "10:01"},
		{"KeyMem", serverOptions(), func(o *sslfilter.Options) { o.KeyMem = pkiBytes(t, "client.key") }, serial, "10:01", "bad KeyMem"},
		{"KeyPassphrase", sslfilter.Options{Crt: pki("server.crt"), Key: pki("server-enc.key")},
			func(o *sslfilter.Options) { o.KeyPassphrase = saying("secret") }, serial, "bad Key", "10:01"},
		{"Chain", serving("server"), func(o *sslfilter.Options) { o.Crt, o.Key, o.Chain = "", "", pki("chain-with-key.pem") }, sent, "+", "++"},
		{"ChainMem", serving("server-inter"), func(o *sslfilter.Options) { o.ChainMem = pkiBytes(t, "server-inter.crt") }, sent, "+++", "+"},
		{"CACrt", asking(func(o *sslfilter.Options) { o.CACrt = "" }), func(o *sslfilter.Options) { o.CACrt = pki("root.crt") }, valid("client.crt", ""), "false", "true"},
		{"CACrtMem", asking(nil), func(o *sslfilter.Options) { o.CACrtMem = [][]byte{pkiBytes(t, "other.crt")} }, valid("client.crt", ""), "true", "false"},
		{"CAVerifyDepth", asking(nil), depth(2), valid("client-deep-chain.pem", "client-deep.key"), "true", "false"},
		{"CACRL", asking(nil), crl(pki("crl.pem")), valid("client-revoked.crt", ""), "true", "false"},
		{"CACRLMem", asking(nil), func(o *sslfilter.Options) { o.CACRLMem = pkiBytes(t, "crl.pem") }, valid("client-revoked.crt", ""), "true", "false"},
		{"CRLCheck", asking(checking(sslfilter.CRLCheckLeaf, "crl-inter-empty.pem")), func(o *sslfilter.Options) { o.CRLCheck = sslfilter.CRLCheckChain },
			valid("client-inter-chain.pem", ""), "true", "false"},
		{"CRLFiles", asking(checking(sslfilter.CRLCheckLeaf)), checking(sslfilter.CRLCheckLeaf, "crl.pem"), valid("client.crt", ""), "bad CRLCheck", "true"},
		{"CRLMem", asking(checking(sslfilter.CRLCheckLeaf, "crl-other.pem")), func(o *sslfilter.Options) { o.CRLMem = [][]byte{pkiBytes(t, "crl.pem")} },
			valid("client.crt", ""), "false", "true"},
		{"AllowMissingCRL", asking(checking(sslfilter.CRLCheckLeaf, "crl-other.pem")), allowMissing, valid("client.crt", ""), "false", "true"},
		{"AllowExpiredCRL", asking(checking(sslfilter.CRLCheckLeaf, "crl-expired.pem")), allowExpired, valid("client.crt", ""), "false", "true"},
		{"ClientCert", with(serverOptions(), func(o *sslfilter.Options) { o.CACrt = pki("root.crt") }),
			func(o *sslfilter.Options) { o.ClientCert = true }, valid("client.crt", ""), "false", "true"},
		{"BlockBadClientCert", asking(nil), func(o *sslfilter.Options) { o.BlockBadClientCert = true }, valid("", ""), "false", refused},
		{"RequireValidClientCert", asking(nil), func(o *sslfilter.Options) { o.RequireValidClientCert = true }, valid("client-expired.crt", ""), "false", refused},
		{"IgnoreVerifyErrors", asking(nil), ignoring(10), valid("client-expired.crt", ""), "false", "true"},
		{"InsecureSkipVerify", clientOptions(), func(o *sslfilter.Options) { o.InsecureSkipVerify = true }, met(serving("server-unknown"), nil), refused, "done"},
		{"SNI", clientOptions(), func(o *sslfilter.Options) { o.SNI = "example.org" }, sni, "localhost", "example.org"},
		{"ServerName", with(clientOptions(), func(o *sslfilter.Options) { o.ServerName, o.SNI = "", "example.org" }),
			func(o *sslfilter.Options) { o.ServerName = "server.test" }, sni, refused, "example.org"},
		{"TLS", with(serverOptions(), func(o *sslfilter.Options) { o.MinVersion = sslfilter.VersionTLS10 }),
			func(o *sslfilter.Options) { o.TLS = true }, version, "TLSv1.3", "bad MinVersion"},
		{"TLS12", serverOptions(), func(o *sslfilter.Options) { o.TLS12 = true }, version, "TLSv1.3", "TLSv1.2"},
		{"MinVersion", serverOptions(), func(o *sslfilter.Options) { o.MinVersion = sslfilter.VersionTLS13 }, met(in12(anyone), nil), "done", refused},
		{"MaxVersion", serverOptions(), func(o *sslfilter.Options) { o.MaxVersion = sslfilter.VersionTLS12 }, version, "TLSv1.3", "TLSv1.2"},
		{"Cipher", in12(serverOptions()), func(o *sslfilter.Options) { o.Cipher = "AES256-SHA" }, cipher, "ECDHE-RSA-AES256-GCM-SHA384", "AES256-SHA"},
		{"CipherSuites", serverOptions(), func(o *sslfilter.Options) { o.CipherSuites = "TLS_AES_128_GCM_SHA256" }, cipher, "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"},
		{"Groups", serverOptions(), func(o *sslfilter.Options) { o.Groups = "P-384" },
			met(with(anyone, func(o *sslfilter.Options) { o.Groups = "P-256" }), nil), "done", refused},
		{"ALPN", serverOptions(), func(o *sslfilter.Options) { o.ALPN = []string{"h2"} },
			met(with(anyone, func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }), func(p *enginetest.Pair) string { return p.Client.ALPN() }), "", "h2"},
		{"NoHonor", serverOptions(), func(o *sslfilter.Options) { o.NoHonor = true },
			met(prefers, func(p *enginetest.Pair) string { return p.Client.Cipher() }), "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"},
		{"NumTickets", serverOptions(), func(o *sslfilter.Options) { o.NumTickets = -1 }, func(t *testing.T, o sslfilter.Options) string {
			return fmt.Sprint(tickets(t, o, sslfilter.VersionTLS13))
		}, "2", "0"}, // TestHandshakeNumTickets has the rest
		{"NoRenegotiation", in12(clientOptions()), func(o *sslfilter.Options) { o.NoRenegotiation = true }, func(t *testing.T, o sslfilter.Options) string {
			return truth(answersHelloRequest(t, o))
		}, "true", "false"}, // TestHandshakeNoRenegotiation has the rest
		{"DHCert", serverOptions(), func(o *sslfilter.Options) { o.DHCert = pki("server.crt") }, serial, "10:01", "bad DHCert"}, // TestDHE has the rest
		{"DHCertMem", with(serverOptions(), func(o *sslfilter.Options) { o.DHCert = pki("server.crt") }),
			func(o *sslfilter.Options) { o.DHCertMem = pkiBytes(t, "dh2048.pem") }, serial, "bad DHCert", "10:01"},
		{"FIPS", serverOptions(), func(o *sslfilter.Options) { o.FIPS = true }, func(t *testing.T, o sslfilter.Options) string {
			err := accepted(o)
			if !o.FIPS || err != nil == sslfilter.FIPS() { // the process's own configuration is the default
				return "plain: " + truth(err == nil)
			}
			return "as the process: " + truth(err == nil || asError[*sslfilter.OptionError](t, err).Option == "FIPS")
		}, "plain: true", "as the process: true"}, // TestFIPSContext has the rest
		{"FIPSConfig", serverOptions(), func(o *sslfilter.Options) { o.FIPSConfig = "fips.cnf" }, met(anyone, nil), "done", "bad FIPSConfig"},
		{"AllowMissingCloseNotify", serverOptions(), allowMissingEnd, met(anyone, func(p *enginetest.Pair) string {
			return truth(p.Server.ReceiveEOF() == io.EOF)
		}), "false", "true"},
		{"ErrorHandler", requiring(nil), func(o *sslfilter.Options) {
			o.ErrorHandler = func(*sslfilter.Filter, error) { handled++ }
		}, func(t *testing.T, o sslfilter.Options) string {
			require.Equal(t, refused, valid("", "")(t, o))
			return strings.Repeat("!", handled)
		}, "", "!"},
		{"Debug", serverOptions(), func(o *sslfilter.Options) { o.Debug = log }, func(t *testing.T, o sslfilter.Options) string {
			require.Equal(t, "10:01", serial(t, o))
			return truth(strings.Contains(text.String(), "handshake done"))
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
			require.Equal(t, e.with, e.see(t, with(e.base, e.change)))
		})
	}
	require.Empty(t, left, "options without a case in effects")
}

// Options of the original that do nothing where they stand are accepted, and
// Debug says so, once for each.
func TestOptionsWithoutEffectAreLogged(t *testing.T) {
	const topic = "sslfilter: option has no effect"
	for _, c := range []struct {
		base   sslfilter.Options
		change func(*sslfilter.Options)
		told   []string
	}{
		{serverOptions(), nil, nil},
		{clientOptions(), nil, nil},
		{asking(nil), crl(pki("crl.pem")), nil},
		{requiring(nil), crl(pki("crl.pem")), nil},
		{clientOptions(), crl(pki("crl.pem")), nil},
		{serverOptions(), func(o *sslfilter.Options) { o.NoHonor, o.DHCert, o.TLS = true, pki("dh2048.pem"), true }, nil},
		{asking(nil), func(o *sslfilter.Options) { o.BlockBadClientCert = true }, nil},
		{requiring(nil), func(o *sslfilter.Options) { o.ClientCert, o.BlockBadClientCert = false, true }, nil},
		{clientOptions(), func(o *sslfilter.Options) { o.SNI, o.TLS12 = "localhost", true }, nil},
		{clientOptions(), func(o *sslfilter.Options) { o.ClientCert = true }, []string{"ClientCert on a client"}},
		{clientOptions(), func(o *sslfilter.Options) { o.BlockBadClientCert = true }, []string{"BlockBadClientCert on a client"}},
		{clientOptions(), func(o *sslfilter.Options) { o.DHCert = pki("no-such-file.pem") }, []string{"DHCert on a client"}},
		{clientOptions(), func(o *sslfilter.Options) { o.DHCertMem = []byte("not looked at") }, []string{"DHCert on a client"}},
		{clientOptions(), func(o *sslfilter.Options) { o.NoHonor = true }, []string{"NoHonor on a client"}},
		{serverOptions(), func(o *sslfilter.Options) { o.BlockBadClientCert = true }, []string{"BlockBadClientCert without ClientCert"}},
		{serverOptions(), func(o *sslfilter.Options) { o.SNI = "localhost" }, []string{"SNI on a server"}},
		{serverOptions(), crl(pki("crl.pem")), []string{"CACRL without ClientCert"}},
		{serverOptions(), func(o *sslfilter.Options) { o.TLS, o.TLS12 = true, true }, []string{"TLS with TLS12"}},
		{serverOptions(), ignoring(10), []string{"IgnoreVerifyErrors without ClientCert"}},
		{serverOptions(), depth(3), []string{"CAVerifyDepth without ClientCert"}},
		{asking(nil), func(o *sslfilter.Options) { o.IgnoreVerifyErrors, o.CAVerifyDepth = []sslfilter.VerifyCode{10}, 3 }, nil},
		{clientOptions(), func(o *sslfilter.Options) { o.IgnoreVerifyErrors, o.CAVerifyDepth = []sslfilter.VerifyCode{10}, 3 }, nil},
		{serverOptions(), func(o *sslfilter.Options) { o.ClientCert = true }, []string{"ClientCert without CACrt: no client certificate can be valid"}},
		{in13(serverOptions()), func(o *sslfilter.Options) { o.Cipher, o.DHCert, o.TLS = "ECDHE+AESGCM", pki("dh2048.pem"), true },
			[]string{"TLS with TLS 1.3 alone", "Cipher with TLS 1.3 alone", "DHCert with TLS 1.3 alone"}},
		{in13(clientOptions()), func(o *sslfilter.Options) { o.Cipher, o.TLS = "ECDHE+AESGCM", true }, []string{"TLS with TLS 1.3 alone", "Cipher with TLS 1.3 alone"}},
		{in13(serverOptions()), func(o *sslfilter.Options) { o.Cipher = "DEFAULT@SECLEVEL=1" }, nil}, // the level holds for TLS 1.3 too
		{serverOptions(), func(o *sslfilter.Options) { o.CrtMem = pkiBytes(t, "server.crt") }, []string{"Crt with CrtMem"}},
		{serverOptions(), func(o *sslfilter.Options) { o.KeyMem = pkiBytes(t, "server.key") }, []string{"Key with KeyMem"}},
		{serving("server-inter"), func(o *sslfilter.Options) { o.ChainMem = pkiBytes(t, "chain.pem") }, []string{"Chain with ChainMem"}},
		{asking(nil), func(o *sslfilter.Options) { o.CACrtMem = [][]byte{pkiBytes(t, "root.crt")} }, []string{"CACrt with CACrtMem"}},
		{asking(nil), func(o *sslfilter.Options) { o.CACRL, o.CACRLMem = "x", pkiBytes(t, "crl.pem") }, []string{"CACRL with CACRLMem"}},
		{serverOptions(), func(o *sslfilter.Options) { o.DHCert, o.DHCertMem = "x", pkiBytes(t, "dh2048.pem") }, []string{"DHCert with DHCertMem"}},
		{clientOptions(), func(o *sslfilter.Options) {
			o.ClientCert, o.BlockBadClientCert, o.NoHonor, o.TLS, o.TLS12 = true, true, true, true, true
		},
			[]string{"ClientCert on a client", "BlockBadClientCert on a client", "NoHonor on a client", "TLS with TLS12"}},
	} {
		log := new(journal)
		require.NoError(t, accepted(with(with(c.base, c.change), func(o *sslfilter.Options) { o.Debug = slog.New(log) })))
		require.Equal(t, c.told, log.values(topic, "option"))
	}
}

// Names in Cipher that OpenSSL drops without a word are told, and those that it knows are not.
func TestOptionsDroppedCipherNamesAreLogged(t *testing.T) {
	for list, told := range map[string][]string{
		"":                                       nil,
		"HIGH:!aNULL:!MD5:@STRENGTH:@SECLEVEL=1": nil,
		"ECDHE+AESGCM:DHE-RSA-AES256-GCM-SHA384": nil,
		"HIGH:NOSUCH:!aNULL":                     {"NOSUCH"},
		"HIGH:!NOSUCH":                           {"NOSUCH"},
		"HIGH:-NOSUCH,+NOR;ECDHE+THIS":           {"NOSUCH", "NOR", "ECDHE+THIS"},
		"HIGH TLS_AES_128_GCM_SHA256":            {"TLS_AES_128_GCM_SHA256"}, // which is for CipherSuites
	} {
		log := new(journal)
		require.NoError(t, accepted(with(serverOptions(), func(o *sslfilter.Options) { o.Cipher, o.Debug = list, slog.New(log) })), list)
		if strings.Contains(list, "MD5") && !served(t, "MD5") {
			told = []string{"MD5"} // no cipher has it
		}
		got := log.values("sslfilter: Cipher holds a name that OpenSSL drops", "name")
		slices.Sort(got)
		slices.Sort(told)
		require.Equal(t, told, got, list)
	}
}
