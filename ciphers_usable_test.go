package sslfilter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// offering returns options of a client that offers only this suite, and accepts every
// server.
func offering(suite string) sslfilter.Options {
	o := sslfilter.Options{Client: true, InsecureSkipVerify: true, Cipher: "ALL:@SECLEVEL=0"}
	if strings.HasPrefix(suite, "TLS_") {
		o.CipherSuites, o.MinVersion = suite, sslfilter.VersionTLS13
	} else {
		o.Cipher, o.TLS12 = suite+":@SECLEVEL=0", true
	}
	return o
}

// Each suite of UsableCiphers can be negotiated, and no other suite of Ciphers can.
func TestCiphersUsable(t *testing.T) {
	type change = func(*sslfilter.Options)
	keys := map[string]sslfilter.Options{"RSA": testkit.Server(), "EC": testkit.ServerOf("server-ec")}
	if served(t, "X25519") {
		keys["Ed25519"] = testkit.ServerOf("server-ed25519")
	}
	dh := func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh2048.pem") }
	for key, server := range keys {
		for name, changes := range map[string][]change{
			"with DHCert":        {dh},
			"all":                {testkit.Cipher("ALL:@SECLEVEL=0")},
			"all, TLS 1.2":       {func(o *sslfilter.Options) { o.Cipher, o.TLS12 = "ALL:@SECLEVEL=0", true }, dh},
			"the man page's own": {testkit.Cipher("DHE-RSA-AES256-GCM-SHA384:AES256-SHA")},
		} {
			t.Run(key+", "+name, func(t *testing.T) {
				server := server
				for _, c := range changes {
					server = testkit.With(server, c)
				}
				log := new(testkit.Log)
				server.Debug = log.Logger()
				ctx := testkit.Ctx(t, server)
				var usable []string
				for _, suite := range ctx.Ciphers() {
					p := testkit.Join(testkit.FilterOf(t, ctx), testkit.Filter(t, offering(suite)))
					if p.Handshake() == nil && p.Client.HandshakeDone() {
						require.Equal(t, suite, p.Client.Cipher())
						usable = append(usable, suite)
					}
				}
				require.Equal(t, usable, ctx.UsableCiphers())
				require.Equal(t, []string{strings.Join(usable, ":")}, log.Values("sslfilter: context made", "usable"))
			})
		}
	}
	require.Equal(t, []string{"AES256-SHA"}, testkit.Ctx(t, testkit.Server(testkit.Cipher("ECDHE-ECDSA-AES256-GCM-SHA384:AES256-SHA"), testkit.TLS12)).UsableCiphers())
	client := testkit.Ctx(t, testkit.Client())
	require.Equal(t, client.Ciphers(), client.UsableCiphers())
}

// NewCtx rejects a server that could not complete any handshake.
func TestCiphersServerCannotNegotiate(t *testing.T) {
	why := func(o sslfilter.Options, option string) string { t.Helper(); return refuse(t, o, option, "").Error() }
	if !since(openssl40) { // 4.0 has DH parameters of its own
		text := why(testkit.Server(testkit.Cipher("DHE-RSA-AES256-GCM-SHA384"), testkit.TLS12), "Cipher")
		require.Contains(t, text, "can negotiate none of DHE-RSA-AES256-GCM-SHA384 with a key of the type RSA; DHE suites need DHCert")
	}
	require.NoError(t, accepted(testkit.Server(testkit.Cipher("DHE-RSA-AES256-GCM-SHA384"), func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh2048.pem") }, testkit.TLS12)))
	require.Contains(t, why(testkit.ServerOf("server-ec", testkit.Cipher("ECDHE-RSA-AES256-GCM-SHA384"), testkit.TLS12), "Cipher"), "with a key of the type EC")
	require.Contains(t, why(testkit.Server(testkit.Cipher("ECDHE-ECDSA-AES256-GCM-SHA384"), testkit.TLS12), "Cipher"), "with a key of the type RSA")
	require.NoError(t, accepted(testkit.Server(testkit.Cipher("ECDHE-ECDSA-AES256-GCM-SHA384"))), "TLS 1.3 is left")
	require.Contains(t, why(testkit.Server(testkit.Cipher("NULL-SHA256:@SECLEVEL=2"), testkit.TLS12), "Cipher"), "no suite is left")
	if since(openssl30) {
		text := why(testkit.Server(testkit.Cipher("ECDHE-RSA-AES256-GCM-SHA384"), func(o *sslfilter.Options) { o.Groups = "ffdhe2048" }, testkit.TLS12), "Cipher")
		require.Contains(t, text, "ECDHE suites need an elliptic curve in Groups")
	}
}

// NewCtx rejects a server that allows only TLS 1.0 or 1.1 if its security level makes
// every handshake fail, and only then.
func TestCiphersOldVersionsAlone(t *testing.T) {
	needsUnserved(t, "MD5")
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS10, sslfilter.VersionTLS11} {
		for level := range 3 {
			o := testkit.Server(testkit.Cipher(fmt.Sprintf("AES128-SHA:@SECLEVEL=%d", level)), func(o *sslfilter.Options) { o.MinVersion, o.MaxVersion = v, v })
			if since(openssl35) && level > 0 {
				require.ErrorContains(t, refuse(t, o, "Cipher", ""), "no suite is left that the versions and the security level admit")
				continue
			}
			if since(openssl30) && level > 0 {
				require.ErrorContains(t, refuse(t, o, "MaxVersion", ""), "needs @SECLEVEL=0 in Cipher for "+v.String())
				continue
			}
			client := testkit.Client(testkit.Cipher("AES128-SHA:@SECLEVEL=0"), func(o *sslfilter.Options) { o.MinVersion, o.MaxVersion = v, v })
			p := testkit.NewPair(t, o, client)
			require.NoError(t, p.Handshake())
			require.Equal(t, v.String(), p.Client.Version())
		}
	}
}

// If a server allows old versions together with new ones, the error of a failed
// handshake gives the reason.
func TestCiphersOldVersionsNeedALowLevel(t *testing.T) {
	needsUnserved(t, "MD5")
	old := func(o *sslfilter.Options) {
		o.MinVersion, o.MaxVersion = sslfilter.VersionTLS10, sslfilter.VersionTLS11
	}
	server := testkit.Server(func(o *sslfilter.Options) { o.MinVersion = sslfilter.VersionTLS10 })
	p := testkit.NewPair(t, server, testkit.Client(testkit.Cipher("ALL:@SECLEVEL=0"), old))
	err := p.Handshake()
	switch {
	case !since(openssl30): // 1.1.1 makes their signatures at every security level
		require.NoError(t, err)
	case !since(openssl35):
		require.ErrorContains(t, p.Server.Filter.Err(), "with OpenSSL 3.0 and later, TLSv1.1 needs @SECLEVEL=0 in Cipher")
	default: // 3.5 does not negotiate them at all
		require.ErrorContains(t, p.Server.Filter.Err(), "the peer's protocol versions are not admitted here")
	}
}

// The text of "no shared cipher" lists the suites that this server can negotiate, not
// all suites of its list.
func TestCiphersNoSharedCipherText(t *testing.T) {
	p := testkit.NewPair(t, testkit.Server(testkit.Cipher("ECDHE-ECDSA-AES256-GCM-SHA384:AES256-SHA"), testkit.TLS12), testkit.Client(testkit.Cipher("ECDHE-RSA-AES256-GCM-SHA384"), testkit.TLS12))
	require.Error(t, p.Handshake())
	require.ErrorContains(t, p.Server.Filter.Err(), "the peer offered ECDHE-RSA-AES256-GCM-SHA384; this side can negotiate AES256-SHA")
	require.NotContains(t, p.Server.Filter.Err().Error(), "ECDSA")
}
