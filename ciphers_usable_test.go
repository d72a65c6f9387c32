package sslfilter_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
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
				usable := requireUsable(t, server)
				require.Equal(t, []string{strings.Join(usable, ":")}, log.Values("sslfilter: context made", "usable"))
			})
		}
	}
	require.Equal(t, []string{"AES256-SHA"}, testkit.Ctx(t, testkit.Server(testkit.Cipher("ECDHE-ECDSA-AES256-GCM-SHA384:AES256-SHA"), testkit.TLS12)).UsableCiphers())
	client := testkit.Ctx(t, testkit.Client())
	require.Equal(t, client.Ciphers(), client.UsableCiphers())
}

// curveServer returns options of a server with an EC key on this curve, which signs its
// own certificate, because Suite B applies to the whole chain.
func curveServer(t *testing.T, curve elliptic.Curve) sslfilter.Options {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return sslfilter.Options{CrtMem: testkit.MintFrom(t, testkit.Issuer{Key: key}, x509.Certificate{}, key.Public()), KeyMem: testkit.PEM("EC PRIVATE KEY", der)}
}

// requireUsable requires that a client can negotiate each suite of UsableCiphers, and no
// other suite of Ciphers.
func requireUsable(t *testing.T, server sslfilter.Options) (usable []string) {
	t.Helper()
	ctx := testkit.Ctx(t, server)
	for _, suite := range ctx.Ciphers() {
		p := testkit.Join(testkit.FilterOf(t, ctx), testkit.Filter(t, offering(suite)))
		if p.Handshake() == nil && p.Client.HandshakeDone() {
			require.Equal(t, suite, p.Client.Cipher())
			usable = append(usable, suite)
		}
	}
	require.Equal(t, usable, ctx.UsableCiphers())
	return usable
}

// NewCtx rejects a list of signature algorithms without one for the key, however the list
// is written, and UsableCiphers lists what the other lists leave.
func TestCiphersUsableWithSignatures(t *testing.T) {
	rsa, p256 := testkit.Server(), testkit.ServerOf("server-ec")
	p384, p521 := curveServer(t, elliptic.P384()), curveServer(t, elliptic.P521())
	short := testkit.Cipher("ECDHE+AES128+AESGCM:AES128-SHA")
	level := func(n int) testkit.Change {
		return testkit.Cipher(fmt.Sprintf("ECDHE+AES128+AESGCM:@SECLEVEL=%d", n))
	}
	v13 := testkit.TLS13
	type row struct {
		list    string
		server  sslfilter.Options
		changes []testkit.Change
		text    string // of the error
	}
	const unfit = "must have an algorithm for this key"
	rows := []row{
		{" ECDSA+SHA256", rsa, nil, unfit}, {"ed25519: ECDSA+SHA256", rsa, nil, unfit}, {"\tECDSA+SHA256 ", rsa, nil, unfit}, {"SHA256+ECDSA", rsa, nil, unfit},
		{" rsa_pss_rsae_sha256 :ed25519", p256, nil, unfit}, {" ECDSA+SHA256", p256, nil, ""}, {"SHA256+RSA", rsa, nil, ""}, {"SHA256+RSA", rsa, []testkit.Change{v13}, unfit},
		{"ecdsa_secp521r1_sha512", p256, []testkit.Change{v13}, unfit}, {"ECDSA+SHA384", p256, []testkit.Change{v13}, unfit}, {"ECDSA+SHA1", p256, []testkit.Change{v13, level(0)}, unfit},
		{"ecdsa_secp521r1_sha512", p256, nil, ""}, {"ECDSA+SHA384:ECDSA+SHA256", p256, []testkit.Change{v13}, ""},
		{"ecdsa_secp384r1_sha384", p384, []testkit.Change{v13}, ""}, {"SHA384+ECDSA", p384, []testkit.Change{v13}, ""}, {"ECDSA+SHA256", p384, []testkit.Change{v13}, unfit}, {"ECDSA+SHA256", p384, nil, ""},
		{"ecdsa_secp521r1_sha512", p521, []testkit.Change{v13}, ""}, {"ecdsa_secp384r1_sha384", p521, []testkit.Change{v13}, unfit},
		{"RSA+SHA224", rsa, []testkit.Change{testkit.TLS12}, ""}, {"RSA+SHA224", p256, []testkit.Change{testkit.TLS12, level(2)}, unfit}, {"ECDSA+SHA224", p256, []testkit.Change{testkit.TLS12, level(3)}, unfit + " that the security level 3 admits"},
		{"ECDSA+SHA256", p256, []testkit.Change{level(3)}, ""}, {"ed25519", p256, nil, unfit},
		{"RSA+SHA1", rsa, []testkit.Change{testkit.TLS12, level(2)}, unfit + " that the security level 2 admits"}, {"rsa_pkcs1_sha1", rsa, []testkit.Change{testkit.TLS12, level(2)}, unfit},
	}
	if since(openssl35) {
		rows = append(rows, row{"?nosuch:ECDSA+SHA256", rsa, nil, unfit}, row{" ?ecdsa+SHA256", rsa, nil, unfit}, row{"?nosuch:rsa_pss_rsae_sha256", rsa, nil, ""})
	}
	if since(openssl30) {
		rows = append(rows, row{"RSA+SHA1", rsa, []testkit.Change{testkit.TLS12, level(1)}, unfit})
	} else {
		rows = append(rows, row{"RSA+SHA1", rsa, []testkit.Change{testkit.TLS12, level(1)}, ""})
	}
	if !sslfilter.FIPSEnabled() {
		rows = append(rows, row{"RSA+SHA1", rsa, []testkit.Change{testkit.TLS12, level(0)}, ""})
	}
	for _, c := range rows {
		for source, set := range map[string]testkit.Change{
			"SignatureAlgorithms":         func(o *sslfilter.Options) { o.SignatureAlgorithms = c.list },
			"Conf[0] SignatureAlgorithms": conf("SignatureAlgorithms", c.list),
		} {
			t.Run(fmt.Sprintf("%s %q", source, c.list), func(t *testing.T) {
				o := testkit.With(testkit.With(c.server, short, set), c.changes...)
				if c.text == "" {
					requireUsable(t, o)
					return
				}
				require.ErrorContains(t, refuse(t, o, "Cipher", ""), "; "+source+" "+c.text)
			})
		}
	}
}

// The rules of Suite B admit only keys on P-256 and P-384, in both versions.
func TestCiphersUsableWithSuiteB(t *testing.T) {
	rsa, p256 := testkit.Server(), curveServer(t, elliptic.P256())
	p384, p521 := curveServer(t, elliptic.P384()), curveServer(t, elliptic.P521())
	for _, c := range []struct {
		list   string
		server sslfilter.Options
		text   string // of the error
	}{
		{"SUITEB128", rsa, "P-256 or P-384"}, {"SUITEB128", p521, "P-256 or P-384"}, {"SUITEB128", p256, ""}, {"SUITEB128", p384, ""}, {"SUITEB128C2", p384, ""},
		{"SUITEB128ONLY", p256, ""}, {"SUITEB128ONLY", p384, "P-256"}, {"SUITEB192", p384, ""}, {"SUITEB192", p256, "P-384"}, {"SUITEB192", rsa, "P-384"},
	} {
		for option, set := range map[string]testkit.Change{"Cipher": testkit.Cipher(c.list), "Conf[0] CipherString": conf("CipherString", c.list)} {
			t.Run(c.list+" in "+option, func(t *testing.T) {
				o := testkit.With(c.server, set)
				if c.text == "" {
					requireUsable(t, o)
					return
				}
				require.ErrorContains(t, refuse(t, o, option, ""), "; the rules of Suite B need a key on "+c.text)
			})
		}
	}
}

// The rules of Suite B replace the list of signature algorithms. In TLS 1.3, OpenSSL needs an
// algorithm for the key in both.
func TestCiphersUsableWithSuiteBAndSignatures(t *testing.T) {
	p256, p384 := curveServer(t, elliptic.P256()), curveServer(t, elliptic.P384())
	for _, c := range []struct {
		list, algorithm string
		server          sslfilter.Options
	}{
		{"SUITEB128", "ECDSA+SHA256", p256}, {"SUITEB128", "ecdsa_secp384r1_sha384", p384}, {"SUITEB128ONLY", "ecdsa_secp256r1_sha256", p256}, {"SUITEB192", "SHA384+ECDSA", p384},
	} {
		for _, also := range []string{"rsa_pss_rsae_sha256", "ecdsa_secp521r1_sha512:RSA+SHA256", "ed25519"} {
			for algorithms, fits := range map[string]bool{also: false, also + ":" + c.algorithm: true} {
				t.Run(c.list+" "+algorithms, func(t *testing.T) {
					o := testkit.With(c.server, testkit.Cipher(c.list), func(o *sslfilter.Options) { o.SignatureAlgorithms = algorithms })
					usable := requireUsable(t, o)
					require.Equal(t, fits, slices.Contains(usable, "TLS_AES_256_GCM_SHA384"))
					require.True(t, slices.ContainsFunc(usable, func(name string) bool { return strings.HasPrefix(name, "ECDHE-") }))
					o.MinVersion = sslfilter.VersionTLS13
					if fits {
						require.NoError(t, accepted(o))
						return
					}
					require.ErrorContains(t, refuse(t, o, "Cipher", ""), "; in TLS 1.3, SignatureAlgorithms must have an algorithm for it, too")
				})
			}
		}
	}
}

// A list of groups without an elliptic curve for TLS 1.2 makes ECDHE suites unusable,
// however the list is written.
func TestCiphersUsableWithGroups(t *testing.T) {
	lists := map[string]bool{"P-384": true, " P-256 : P-384": true} // whether there is a curve
	if since(openssl30) {
		lists["ffdhe3072"], lists["ffdhe3072:P-256"] = false, true
	}
	if since(openssl35) {
		for _, list := range []string{"P-256:ffdhe3072:-P-256", "?nosuch:ffdhe3072", "P-256:ffdhe3072:-secp256r1", "prime256v1:ffdhe3072/-p-256", "ffdhe3072:?-P-256", "? P-256:ffdhe3072", "DEFAULT:-X25519:-X448:-P-256:-P-384:-P-521"} {
			lists[list] = false
		}
		for _, list := range []string{"-P-256:P-256:ffdhe3072", "P-256:-P-256:P-256", "DEFAULT:-X25519", "?nosuch:*P-256"} {
			lists[list] = true
		}
		if served(t, "brainpool") {
			lists["brainpoolP256r1tls13"], lists["brainpoolP256r1tls13:P-256"] = false, true
		}
		if served(t, "X25519") {
			lists["X25519MLKEM768:ffdhe3072"] = false
		} else {
			delete(lists, "DEFAULT:-X25519")
			delete(lists, "DEFAULT:-X25519:-X448:-P-256:-P-384:-P-521")
		}
	}
	for list, curve := range lists {
		t.Run(list, func(t *testing.T) {
			groups := func(o *sslfilter.Options) { o.Groups = list }
			requireUsable(t, testkit.Server(testkit.TLS12, testkit.Cipher("ECDHE+AES128+AESGCM:AES128-SHA"), groups))
			o := testkit.Server(testkit.TLS12, testkit.Cipher("ECDHE+AESGCM"), groups)
			if curve {
				require.NoError(t, accepted(o))
				return
			}
			require.ErrorContains(t, refuse(t, o, "Cipher", ""), "ECDHE suites need an elliptic curve in Groups")
		})
	}
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
		require.ErrorContains(t, p.Server.Filter.Err(), "this side does not allow the peer's protocol versions")
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
