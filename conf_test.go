package sslfilter_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// conf sets commands: "MinProtocol", "TLSv1.3".
func conf(pairs ...string) testkit.Change {
	return func(o *sslfilter.Options) {
		for i := 0; i < len(pairs); i += 2 {
			o.Conf = append(o.Conf, sslfilter.ConfCommand{Name: pairs[i], Value: pairs[i+1]})
		}
	}
}

// confCases are commands whose results are recorded for each OpenSSL.
var confCases = [][2]string{
	{"CipherString", "ECDHE+AESGCM"}, {"CipherString", "NO-SUCH-CIPHER"}, {"ciphersuites", "TLS_AES_128_GCM_SHA256"}, {"Ciphersuites", "TLS_NO_SUCH_SUITE"},
	{"SignatureAlgorithms", "rsa_pss_rsae_sha256:ECDSA+SHA256"}, {"SignatureAlgorithms", "RSA+SHA1000"}, {"SignatureAlgorithms", "?no-such:RSA-PSS+SHA256"},
	{"ClientSignatureAlgorithms", "ecdsa_secp384r1_sha384"}, {"ClientSignatureAlgorithms", "mldsa65"},
	{"Groups", "P-384"}, {"Groups", "P-256:no-such-group"}, {"Curves", "P-256"},
	{"MinProtocol", "TLSv1.3"}, {"MinProtocol", "TLSv1.4"}, {"MinProtocol", "SSLv3"}, {"MaxProtocol", "TLSv1.2"}, {"MaxProtocol", "TLSv1.1"}, {"MinProtocol", "None"},
	{"Options", "-SessionTicket, -ExtendedMasterSecret"}, {"Options", "Bugs,-EncryptThenMac,-MiddleboxCompat"}, {"Options", "ServerPreference,PrioritizeChaCha"},
	{"Options", "NoSuchFlag"}, {"Options", "-CANames"}, {"Options", "AllowNoDHEKEX"}, {"Options", "PreferNoDHEKEX"}, {"Options", "-TxCertificateCompression"}, {"Options", "StrictCertCheck"}, {"Options", "LegacyECPointFormats"},
	{"Options", "Compression"}, {"Options", "UnsafeLegacyRenegotiation"}, {"Options", "-NoRenegotiation"}, {"Options", "KTLS"}, {"Options", ""},
	{"RecordPadding", "4096"}, {"RecordPadding", "16385"}, {"RecordPadding", "0x10"}, {"RecordPadding", "512,256"},
	{"NumTickets", "1"}, {"NumTickets", "17"}, {"NumTickets", "many"},
	{"VerifyMode", "Peer"}, {"VerifyCAFile", "root.crt"}, {"ChainCAFile", "root.crt"}, {"ClientCAFile", "root.crt"}, {"Certificate", "server.crt"}, {"PrivateKey", "server.key"},
	{"DHParameters", "dh2048.pem"}, {"Protocol", "-TLSv1.3"}, {"ECDHParameters", "P-256"}, {"ServerInfoFile", "info.pem"}, {"SetValidHost", "localhost"}, {"NoSuchCommand", "x"}, {"", "x"},
}

// The result of each command is recorded for each OpenSSL: accepted, or the error.
func TestConfCommands(t *testing.T) {
	results := make(map[string]string)
	for _, c := range confCases {
		for role, base := range map[string]sslfilter.Options{"server": testkit.Server(), "client": testkit.Client()} {
			err := accepted(testkit.With(base, conf(c[0], c[1])))
			name := fmt.Sprintf("%s %s on a %s", c[0], c[1], role)
			results[name] = "accepted"
			if err != nil {
				results[name] = strings.ReplaceAll(err.Error(), sslfilter.OpenSSLVersion(), "VERSION")
				option := "Conf[0]"
				if c[0] != "" {
					option += " " + c[0]
				}
				require.Contains(t, []string{option, "Cipher"}, testkit.As[*sslfilter.OptionError](t, err).Option)
			}
		}
	}
	golden(t, "conf", results)
}

// A command is refused if an option sets the same thing, and the error names both.
func TestConfSameAsAnOption(t *testing.T) {
	for _, c := range []struct {
		command, value, option string
		change                 testkit.Change
	}{
		{"CipherString", "HIGH", "Cipher", testkit.Cipher("HIGH")},
		{"Ciphersuites", "TLS_AES_128_GCM_SHA256", "CipherSuites", func(o *sslfilter.Options) { o.CipherSuites = "TLS_AES_128_GCM_SHA256" }},
		{"Groups", "P-256", "Groups", func(o *sslfilter.Options) { o.Groups = "P-256" }},
		{"curves", "P-256", "Groups", func(o *sslfilter.Options) { o.Groups = "P-256" }},
		{"SignatureAlgorithms", "RSA-PSS+SHA256", "SignatureAlgorithms", func(o *sslfilter.Options) { o.SignatureAlgorithms = "RSA-PSS+SHA256" }},
		{"MinProtocol", "TLSv1.2", "MinVersion", testkit.TLS13}, {"MinProtocol", "TLSv1.2", "TLS12", testkit.TLS12}, {"MaxProtocol", "TLSv1.2", "TLS12", testkit.TLS12},
		{"MaxProtocol", "TLSv1.2", "MaxVersion", testkit.UpTo(sslfilter.VersionTLS13)},
		{"NumTickets", "1", "NumTickets", func(o *sslfilter.Options) { o.NumTickets = -1 }},
		{"Options", "SessionTicket", "NumTickets", func(o *sslfilter.Options) { o.NumTickets = -1 }},
		{"Options", "-Bugs, -ServerPreference", "NoHonor", func(o *sslfilter.Options) { o.NoHonor = true }},
	} {
		err := refuse(t, testkit.Server(c.change, conf("RecordPadding", "0", c.command, c.value)), "Conf[1] "+c.command, "")
		require.ErrorContains(t, err, "sets the same as "+c.option+", which is given too")
	}
}

// A context whose versions, suites or keys do not fit a command is refused, and the error
// names the command.
func TestConfConflicts(t *testing.T) {
	for _, c := range []struct {
		change       testkit.Change
		option, text string
	}{
		{conf("MinProtocol", "TLSv1.3", "MaxProtocol", "TLSv1.2"), "Conf[1] MaxProtocol", "no version is left from TLSv1.3 to TLSv1.2"},
		{func(o *sslfilter.Options) { testkit.TLS13(o); conf("MaxProtocol", "TLSv1.2")(o) }, "Conf[0] MaxProtocol", "no version is left"},
		{func(o *sslfilter.Options) { o.TLS = true; conf("MinProtocol", "TLSv1.1")(o) }, "Conf[0] MinProtocol", "admits TLSv1.1, and TLS asks for TLSv1.2"},
		{func(o *sslfilter.Options) {
			o.CipherSuites = "TLS_AES_128_GCM_SHA256"
			conf("MaxProtocol", "TLSv1.2")(o)
		}, "CipherSuites", "names TLS 1.3 suites, and the highest version is TLSv1.2"},
		{func(o *sslfilter.Options) { testkit.TLS12(o); conf("Ciphersuites", "TLS_AES_128_GCM_SHA256")(o) }, "Conf[0] Ciphersuites", "the highest version is TLSv1.2"},
		{func(o *sslfilter.Options) {
			testkit.TLS12(o)
			conf("CipherString", "ECDHE-ECDSA-AES128-GCM-SHA256")(o)
		}, "Conf[0] CipherString", "no handshake can be completed"},
		{func(o *sslfilter.Options) { testkit.TLS13(o); conf("SignatureAlgorithms", "RSA+SHA256")(o) }, "Cipher", "; Conf[0] SignatureAlgorithms must have an algorithm for this key"},
		{conf("Groups", "P-256\x00"), "Conf[0] Groups", "NUL"},
		{conf("Groups\n", "P-256"), `Conf[0] "Groups\n"`, "is not a command"},
	} {
		require.ErrorContains(t, refuse(t, testkit.Server(c.change), c.option, ""), c.text)
	}
	if since(openssl30) && !since(openssl35) && !sslfilter.FIPSEnabled() {
		old := conf("MinProtocol", "TLSv1", "MaxProtocol", "TLSv1.2", "maxprotocol", "TLSv1.1", "RecordPadding", "0")
		require.ErrorContains(t, refuse(t, testkit.Server(old), "Conf[2] maxprotocol", ""), "needs @SECLEVEL=0 in Cipher for TLSv1.1")
	}
	asking := testkit.Asking(conf("NumTickets", "1"))
	require.ErrorContains(t, refuse(t, asking, "Conf[0] NumTickets", ""), "a server that asks for client certificates sends tickets only with ResumeClientCert")
	asking = testkit.Asking(conf("Options", "SessionTicket"))
	require.ErrorContains(t, refuse(t, asking, "Conf[0] Options", ""), "a server that asks for client certificates sends tickets only with ResumeClientCert")
}

// The commands of Conf are part of what the Ctx reports and checks.
func TestConfIsSeenByTheCtx(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Server(conf("CipherString", "AES128-SHA", "MaxProtocol", "TLSv1.2", "Options", "-EncryptThenMac")))
	require.Equal(t, []string{"AES128-SHA"}, ctx.Ciphers())
	require.Equal(t, []string{"AES128-SHA"}, ctx.UsableCiphers())
	low, high := ctx.Versions()
	require.Equal(t, []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS12}, []sslfilter.Version{low, high})
	low, high = testkit.Ctx(t, testkit.Client(conf("MinProtocol", "None"))).Versions()
	require.Equal(t, []sslfilter.Version{sslfilter.VersionTLS10, sslfilter.VersionTLS13}, []sslfilter.Version{low, high})

	signing := testkit.Ctx(t, testkit.Server(conf("CipherString", "ECDHE-RSA-AES128-GCM-SHA256", "SignatureAlgorithms", "RSA+SHA256", "ClientSignatureAlgorithms", "ECDSA+SHA256")))
	require.Equal(t, []string{"ECDHE-RSA-AES128-GCM-SHA256"}, signing.UsableCiphers(), "TLS 1.3 has no PKCS #1 signatures")
	p := testkit.PairOf(t, signing, testkit.Ctx(t, testkit.Client(testkit.TLS12)))
	require.NoError(t, p.Handshake())
	require.Error(t, testkit.PairOf(t, signing, testkit.Ctx(t, testkit.Client(testkit.TLS13))).Handshake())
	refuse(t, testkit.Server(conf("CipherString", "AES128-SHA", "SignatureAlgorithms", "ECDSA+SHA256", "MaxProtocol", "TLSv1.2")), "Conf[0] CipherString", "")

	require.NoError(t, accepted(testkit.Server(func(o *sslfilter.Options) { // the level of the command applies to certificates
		o.Crt, o.Key = testkit.PKI("server-1024.crt"), testkit.PKI("server-1024.key")
		conf("CipherString", "DEFAULT@SECLEVEL=0")(o)
	})))
	log := new(testkit.Log)
	require.NoError(t, accepted(testkit.Server(conf("CipherString", "HIGH:NOSUCH"), func(o *sslfilter.Options) { o.Debug = log.Logger() })))
	require.Equal(t, []string{"NOSUCH"}, log.Values("sslfilter: Conf[0] CipherString holds a name that OpenSSL drops", "name"))
}

// Commands take effect on the wire, as crypto/tls sees it.
func TestConfOnTheWire(t *testing.T) {
	hello := func(t *testing.T, change testkit.Change) (seen *tls.ClientHelloInfo) {
		t.Helper()
		config := testkit.GoServer(t, func(config *tls.Config) {
			config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				seen = hello
				return nil, nil
			}
		})
		require.NoError(t, testkit.TalkToGo(t, testkit.Filter(t, testkit.Client(change)), true, config).Err)
		return seen
	}
	require.Equal(t, []tls.SignatureScheme{tls.PSSWithSHA384, tls.PSSWithSHA256}, hello(t, conf("SignatureAlgorithms", "RSA-PSS+SHA384:rsa_pss_rsae_sha256")).SignatureSchemes)
	require.Equal(t, []tls.CurveID{tls.CurveP384, tls.CurveP256}, hello(t, conf("Groups", "P-384:P-256")).SupportedCurves)
	require.Equal(t, []tls.CurveID{tls.CurveP256}, hello(t, conf("Groups", "P-384", "groups", "P-256")).SupportedCurves, "the last one counts")
	require.Equal(t, []uint16{tls.VersionTLS13}, hello(t, conf("MinProtocol", "TLSv1.3")).SupportedVersions)
	require.Equal(t, []uint16{tls.TLS_AES_128_GCM_SHA256}, hello(t, conf("MinProtocol", "TLSv1.3", "Ciphersuites", "TLS_AES_128_GCM_SHA256")).CipherSuites[:1])

	request := func(t *testing.T, changes ...testkit.Change) (seen []tls.SignatureScheme) {
		t.Helper()
		config := testkit.GoClient(t, func(config *tls.Config) {
			config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				seen = info.SignatureSchemes
				return new(tls.Certificate), nil
			}
		})
		require.NoError(t, testkit.TalkToGo(t, testkit.Filter(t, testkit.Asking(changes...)), false, config).Err)
		return seen
	}
	signatures := func(o *sslfilter.Options) { o.SignatureAlgorithms = "rsa_pss_rsae_sha256:ECDSA+SHA384" }
	for _, version := range []testkit.Change{testkit.TLS12, testkit.TLS13} {
		require.Equal(t, []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP384AndSHA384}, request(t, version, signatures), "SignatureAlgorithms apply to client certificates too")
		require.Equal(t, []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, request(t, version, signatures, conf("ClientSignatureAlgorithms", "ECDSA+SHA256")))
	}
	for n, command := range map[int]testkit.Change{0: conf("NumTickets", "0"), 1: conf("NumTickets", "1"), 16: conf("NumTickets", "16")} {
		require.Equal(t, n, tickets(t, testkit.Server(command), sslfilter.VersionTLS13))
	}
	require.Equal(t, 0, tickets(t, testkit.Server(conf("Options", "-SessionTicket")), sslfilter.VersionTLS12))
}

// RecordPadding hides the length of messages in TLS 1.3, and both sides still understand
// each other however the stream is cut.
func TestConfRecordPadding(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		p := testkit.Connect(t, testkit.Server(testkit.TLS13, conf("RecordPadding", "4096")), testkit.Client(conf("RecordPadding", "16384")))
		p.Cut = cut
		for _, n := range []int{1, 100, 4000, 4097, 16384, 100000} {
			text := testkit.Bytes(n, uint64(n))
			for _, side := range []struct{ from, to *testkit.Side }{{&p.Server, &p.Client}, {&p.Client, &p.Server}} {
				side.to.Got = nil
				require.NoError(t, side.from.Send(text))
				p.Transfer()
				require.Equal(t, text, side.to.Got)
			}
		}
	})
	p := testkit.Connect(t, testkit.Server(testkit.TLS13, conf("RecordPadding", "4096")), testkit.Client())
	for _, n := range []int{1, 100, 4000} {
		require.NoError(t, p.Server.Send(testkit.Bytes(n, 1)))
		wire := p.Server.Outgoing(nil)
		require.Len(t, wire, 5+4096+16, "%d bytes", n)
		p.Client.Deliver(wire)
	}
}

// A server's own rules are in force after the commands: it rejects renegotiation, and sends
// no ticket if it asks for certificates.
func TestConfCannotUndoTheRules(t *testing.T) {
	require.Zero(t, tickets(t, testkit.Asking(conf("Options", "-Bugs", "NumTickets", "0")), sslfilter.VersionTLS12))
	for _, o := range []sslfilter.Options{testkit.Asking(conf("Options", "-SessionTicket")), testkit.Asking(conf("Options", "AllowNoDHEKEX"))} {
		for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
			require.Zero(t, tickets(t, o, v))
		}
	}
}

// A list of SignatureAlgorithms decides which key can sign, in both versions.
func TestConfSignatureAlgorithms(t *testing.T) {
	signatures := func(list string) testkit.Change {
		return func(o *sslfilter.Options) { o.SignatureAlgorithms = list }
	}
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		p := testkit.NewPair(t, testkit.Server(testkit.UpTo(v), signatures("rsa_pss_rsae_sha384")), testkit.Client(signatures("RSA-PSS+SHA256:RSA-PSS+SHA384")))
		require.NoError(t, p.Handshake())
		p = testkit.NewPair(t, testkit.Server(testkit.UpTo(v), signatures("rsa_pss_rsae_sha384")), testkit.Client(signatures("RSA-PSS+SHA256")))
		require.Error(t, p.Handshake())
	})
	for _, c := range []struct{ server, list, text string }{
		{"server", "ECDSA+SHA256", "with a key of the type RSA; SignatureAlgorithms must have an algorithm for this key"},
		{"server-ec", "rsa_pss_rsae_sha256:ed25519", "with a key of the type EC; SignatureAlgorithms must have"},
	} {
		o := testkit.ServerOf(c.server, signatures(c.list), testkit.Cipher("ECDHE+AESGCM"))
		require.ErrorContains(t, refuse(t, o, "Cipher", ""), c.text)
	}
	err := refuse(t, testkit.Server(signatures("RSA-PSS+SHA256:no-such-algorithm")), "SignatureAlgorithms", "")
	require.ErrorContains(t, err, `OpenSSL does not know the signature algorithm "no-such-algorithm"`)
	require.NotContains(t, err.Error(), `algorithm "RSA`)
	if !since(openssl35) {
		require.Equal(t, "3.5", testkit.As[*sslfilter.VersionError](t, accepted(testkit.Server(signatures("RSA-PSS+SHA256:mldsa65")))).Needs)
	}
}
