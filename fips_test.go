package sslfilter_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// inFIPS adds the FIPS provider to o.
func inFIPS(t testing.TB, o sslfilter.Options) sslfilter.Options {
	t.Helper()
	o.FIPS, o.FIPSConfig = true, testkit.FIPSConfig(t)
	return o
}

// FIPS agrees with what OpenSSL does: in FIPS mode there is no ChaCha20.
func TestFIPS(t *testing.T) {
	err := accepted(testkit.Server(testkit.Cipher("ECDHE-RSA-CHACHA20-POLY1305"), testkit.TLS12))
	require.Equal(t, err != nil, sslfilter.FIPSEnabled(), "%v", err)
	require.NoError(t, accepted(testkit.Server()), "FIPS leaves no entry in the error queue")
}

// Default properties with fips=yes are not enough: the provider must be active.
func TestFIPSWithoutTheProvider(t *testing.T) {
	if !since(openssl30) {
		t.Skip("OpenSSL 1.1.1 has no providers")
	}
	needsUnserved(t, "process-wide")
	conf := testkit.TempFile(t, "openssl.cnf", []byte("openssl_conf = init\n[init]\nalg_section = alg\n[alg]\ndefault_properties = fips=yes\n"))
	if child, _ := inChild(t, "", "OPENSSL_CONF="+conf); child {
		require.False(t, sslfilter.FIPSEnabled())
		require.Error(t, accepted(testkit.Server()), "nothing works with these properties")
		require.ErrorContains(t, refuse(t, testkit.Server(func(o *sslfilter.Options) { o.FIPS = true }), "FIPS", os.Getenv("OPENSSL_CONF")), "FIPSConfig")
	}
}

// providersOf returns the providers of a connection by their use.
func providersOf(t testing.TB, f *sslfilter.Filter) map[sslfilter.AlgorithmUse]string {
	t.Helper()
	list, err := f.Providers()
	require.NoError(t, err)
	by := make(map[sslfilter.AlgorithmUse]string)
	for _, line := range list {
		require.NotEmpty(t, line.Algorithm)
		require.NotContains(t, by, line.Use, "%v", list)
		by[line.Use] = line.Provider
	}
	return by
}

// all returns the same provider for these uses.
func all(provider string, uses ...sslfilter.AlgorithmUse) map[sslfilter.AlgorithmUse]string {
	by := make(map[sslfilter.AlgorithmUse]string)
	for _, use := range uses {
		by[use] = provider
	}
	return by
}

// The FIPS provider serves every operation of a FIPS context, even if the peer is a
// context of the default provider in the same process.
func TestFIPSContext(t *testing.T) {
	server := inFIPS(t, testkit.Requiring(crl(testkit.PKI("crl.pem"))))
	client := inFIPS(t, testkit.Showing("client.crt", ""))
	other := "default"
	if sslfilter.FIPSEnabled() {
		other = "fips"
	}
	const uses = sslfilter.UseKDF
	for name, key := range map[string]string{"RSA": "server", "EC": "server-ec"} {
		for _, p := range []struct {
			name           string
			server, client sslfilter.Options
			at             [2]string // the providers of the server and the client
		}{
			{"both", server, client, [2]string{"fips", "fips"}},
			{"the server alone", server, testkit.Showing("client.crt", ""), [2]string{"fips", other}},
			{"the client alone", testkit.Requiring(crl(testkit.PKI("crl.pem"))), client, [2]string{other, "fips"}},
			{"neither", testkit.Requiring(), testkit.Showing("client-ec.crt", "client-ec.key"), [2]string{other, other}},
		} {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				t.Run(name+", "+p.name, func(t *testing.T) {
					o := testkit.With(p.server, func(o *sslfilter.Options) {
						o.MaxVersion, o.Crt, o.Key, o.DHCert = highest, testkit.PKI(key+".crt"), testkit.PKI(key+".key"), testkit.PKI("dh2048.pem")
					})

					c := testkit.Connect(t, o, p.client)
					require.True(t, c.Server.ClientCertValid())
					require.True(t, c.Client.ClientCertValid())
					require.NoError(t, c.Client.Send([]byte("data")))
					c.Transfer()
					require.Equal(t, "data", string(c.Server.Got))
					if !since(openssl30) {
						return
					}
					want := []sslfilter.AlgorithmUse{sslfilter.UseCipher, uses, sslfilter.UseDigest, sslfilter.UseKeyExchange, sslfilter.UseSignature, sslfilter.UsePeerSignature}
					require.Equal(t, all(p.at[0], want...), providersOf(t, c.Server.Filter))
					require.Equal(t, all(p.at[1], want...), providersOf(t, c.Client.Filter))
				})
			})
		}
	}
}

// A FIPS context rejects revoked, expired and unknown certificates like other contexts.
func TestFIPSVerdicts(t *testing.T) {
	server := testkit.Ctx(t, inFIPS(t, testkit.Requiring(crl(testkit.PKI("crl.pem")))))
	for crt, admitted := range map[string]bool{"client.crt": true, "client-revoked.crt": false, "client-expired.crt": false, "client-unknown.crt": false} {
		p := testkit.Join(testkit.FilterOf(t, server), testkit.Filter(t, inFIPS(t, testkit.Showing(crt, ""))))
		p.Handshake()
		require.Equal(t, admitted, p.Server.HandshakeDone(), "%s: %v", crt, p.Server.Filter.Err())
		require.Equal(t, admitted, p.Server.ClientCertValid(), crt)
	}
}

// Filter.Providers lists the algorithms of each kind of handshake, by OpenSSL's names.
func TestFIPSProviders(t *testing.T) {
	if !since(openssl30) {
		p := testkit.Connect(t, testkit.Server(), testkit.Client())
		_, err := p.Server.Providers()
		require.Equal(t, "3.0", testkit.As[*sslfilter.VersionError](t, err).Needs)
		return
	}
	named := func(f *sslfilter.Filter) (lines []string) {
		list, err := f.Providers()
		require.NoError(t, err)
		for _, line := range list {
			require.NotEmpty(t, line.Provider, "%v", line)
			text, _, _ := strings.Cut(line.String(), ":")
			lines = append(lines, text)
		}
		return lines
	}
	for _, c := range []struct {
		name           string
		server, client sslfilter.Options
		at             []string // the server
		signed         string   // by the server
	}{
		{"TLS 1.3", testkit.Server(func(o *sslfilter.Options) { o.Groups = "P-384" }), testkit.Client(),
			[]string{"cipher AES-256-GCM", "kdf TLS13-KDF", "digest SHA384", "key exchange secp384r1"}, "RSA-PSS+SHA256"},
		{"TLS 1.2, AEAD", testkit.ServerOf("server-ec", func(o *sslfilter.Options) { o.Cipher, o.Groups = "ECDHE-ECDSA-AES128-GCM-SHA256", "P-256" }, testkit.TLS12), testkit.Client(),
			[]string{"cipher AES-128-GCM", "kdf TLS1-PRF", "digest SHA256", "key exchange secp256r1"}, "ECDSA+SHA256"},
		{"TLS 1.2, a suite of TLS 1.0", testkit.Server(testkit.Cipher("AES128-SHA"), testkit.TLS12), testkit.Client(),
			[]string{"cipher AES-128-CBC", "mac HMAC-SHA1", "kdf TLS1-PRF", "digest SHA256", "key exchange RSA"}, ""},
		{"DHE", dhServer("2", func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh2048.pem") }), dhClient("2"),
			[]string{"cipher AES-256-GCM", "kdf TLS1-PRF", "digest SHA384", "key exchange DH"}, "RSA-PSS+SHA256"},
		{"Ed25519", testkit.ServerOf("server-ed25519"), testkit.Client(func(o *sslfilter.Options) { o.Groups = "P-521" }),
			[]string{"cipher AES-256-GCM", "kdf TLS13-KDF", "digest SHA384", "key exchange secp521r1"}, "ED25519"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testkit.Connect(t, c.server, c.client)
			signature, peer := c.at, c.at
			if c.signed != "" {
				signature = append(slices.Clone(c.at), "signature "+c.signed)
				peer = append(slices.Clone(c.at), "peer signature "+c.signed)
			}
			require.Equal(t, signature, named(p.Server.Filter))
			require.Equal(t, peer, named(p.Client.Filter))
		})
	}
	f := testkit.Filter(t, testkit.Server())
	_, err := f.Providers()
	require.Equal(t, "Providers", testkit.As[*sslfilter.UsageError](t, err).Op)
	f.Close()
	_, err = f.Providers()
	require.ErrorIs(t, err, sslfilter.ErrClosed)
}

func TestFIPSProviderTexts(t *testing.T) {
	for want, line := range map[string]sslfilter.AlgorithmProvider{
		"cipher AES-256-GCM: fips":         {Use: sslfilter.UseCipher, Algorithm: "AES-256-GCM", Provider: "fips"},
		"peer signature ED25519: default":  {Use: sslfilter.UsePeerSignature, Algorithm: "ED25519", Provider: "default"},
		"mac HMAC-MD5: no provider":        {Use: sslfilter.UseMAC, Algorithm: "HMAC-MD5"},
		"AlgorithmUse(7) x: no provider":   {Use: 7, Algorithm: "x"},
		"AlgorithmUse(-1) x: no provider":  {Use: -1, Algorithm: "x"},
		"key exchange secp256r1: default":  {Use: sslfilter.UseKeyExchange, Algorithm: "secp256r1", Provider: "default"},
		"kdf TLS13-KDF: default":           {Use: sslfilter.UseKDF, Algorithm: "TLS13-KDF", Provider: "default"},
		"digest SHA384: default":           {Use: sslfilter.UseDigest, Algorithm: "SHA384", Provider: "default"},
		"signature RSA-PSS+SHA256: my own": {Use: sslfilter.UseSignature, Algorithm: "RSA-PSS+SHA256", Provider: "my own"},
	} {
		require.Equal(t, want, line.String())
	}
}

// withMD5 returns a certificate whose signature algorithm is MD5. OpenSSL does not check
// the signature of its own certificate.
func withMD5(t testing.TB, name string) []byte {
	t.Helper()
	const sha256WithRSA, md5WithRSA = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"
	der := testkit.DER(t, testkit.PKIBytes(t, name))
	require.Equal(t, 2, bytes.Count(der, []byte(sha256WithRSA)))
	return testkit.PEM("CERTIFICATE", bytes.ReplaceAll(der, []byte(sha256WithRSA), []byte(md5WithRSA)))
}

// NewCtx rejects options with which no handshake could complete under the FIPS provider,
// though they work without it.
func TestFIPSRefusesWhatCannotWork(t *testing.T) {
	old := func(o *sslfilter.Options) {
		o.MinVersion, o.MaxVersion, o.Cipher = sslfilter.VersionTLS11, sslfilter.VersionTLS11, "DEFAULT@SECLEVEL=0"
	}
	for _, c := range []struct {
		name   string
		base   sslfilter.Options
		change func(*sslfilter.Options)
		option string
		file   string
		text   string
	}{
		{"CHACHA20 alone in TLS 1.3, server", testkit.Server(), func(o *sslfilter.Options) { o.CipherSuites = "TLS_CHACHA20_POLY1305_SHA256" },
			"CipherSuites", "", "TLS_CHACHA20_POLY1305_SHA256"},
		{"CHACHA20 alone in TLS 1.3, client", testkit.Client(), func(o *sslfilter.Options) { o.CipherSuites = "TLS_CHACHA20_POLY1305_SHA256" },
			"CipherSuites", "", "TLS_CHACHA20_POLY1305_SHA256"},
		{"CHACHA20 alone in TLS 1.2, server", testkit.Server(testkit.TLS12), testkit.Cipher("ECDHE+CHACHA20"), "Cipher", "", "ECDHE+CHACHA20"},
		{"CHACHA20 alone in TLS 1.2, client", testkit.Client(testkit.TLS12), testkit.Cipher("ECDHE+CHACHA20"), "Cipher", "", "ECDHE+CHACHA20"},
		{"X25519 alone, server", testkit.Server(), func(o *sslfilter.Options) { o.Groups = "X25519" }, "Groups", "", "X25519"},
		{"X25519 alone, client", testkit.Client(), func(o *sslfilter.Options) { o.Groups = "X25519" }, "Groups", "", "X25519"},
		{"X25519 alone in Conf, server", testkit.Server(), func(o *sslfilter.Options) { o.Conf = []sslfilter.ConfCommand{{Name: "Groups", Value: "X25519"}} }, "Conf[0] Groups", "", "X25519"},
		{"X25519 alone in Conf, client", testkit.Client(), func(o *sslfilter.Options) { o.Conf = []sslfilter.ConfCommand{{Name: "Groups", Value: "X25519"}} }, "Conf[0] Groups", "", "X25519"},
		{"CHACHA20 alone in Conf", testkit.Server(), func(o *sslfilter.Options) {
			o.Conf = []sslfilter.ConfCommand{{Name: "Ciphersuites", Value: "TLS_CHACHA20_POLY1305_SHA256"}}
		}, "Conf[0] Ciphersuites", "", "TLS_CHACHA20_POLY1305_SHA256"},
		{"RSA-1024 in Identities, server", testkit.ServerOf("server-ec", testkit.Cipher("DEFAULT@SECLEVEL=0")), also(id("server-1024")), "FIPS", "", "Identities[0].Key"},
		{"RSA-1024 in Identities, client", testkit.Client(testkit.Cipher("DEFAULT@SECLEVEL=0"), also(id("client-ec"))), also(id("server-1024")), "FIPS", "", "Identities[1].Key"},
		{"TLS 1.1, server", testkit.Server(), old, "FIPS", "", "(Cipher, MinVersion, MaxVersion, Key)"},
		{"TLS 1.1, client", testkit.Client(), old, "FIPS", "", "(Cipher, MinVersion, MaxVersion)"},
		{"RSA-1024, server", testkit.Server(), func(o *sslfilter.Options) {
			o.Crt, o.Key, o.Cipher = testkit.PKI("server-1024.crt"), testkit.PKI("server-1024.key"), "DEFAULT@SECLEVEL=0"
		}, "FIPS", "", "Key"},
		{"RSA-1024, client", testkit.Client(), func(o *sslfilter.Options) {
			o.Crt, o.Key, o.Cipher = testkit.PKI("server-1024.crt"), testkit.PKI("server-1024.key"), "DEFAULT@SECLEVEL=0"
		}, "FIPS", "", "Key"},
		{"a key that fits no suite", testkit.ServerOf("server-ec", testkit.TLS12), testkit.Cipher("AES128-SHA"), "FIPS", "", "no shared cipher"},
		{"a signature with MD5", testkit.Server(testkit.Cipher("DEFAULT@SECLEVEL=0")), func(o *sslfilter.Options) { o.CrtMem = withMD5(t, "server.crt") }, "CrtMem", "", "md5WithRSAEncryption"},
		{"a signature with MD5 in the chain", testkit.ServerOf("server-inter", testkit.Cipher("DEFAULT@SECLEVEL=0")), func(o *sslfilter.Options) {
			o.Chain = testkit.TempFile(t, "chain.pem", slices.Concat(testkit.PKIBytes(t, "server-inter.crt"), withMD5(t, "inter.crt")))
		}, "Chain", "chain.pem", "md5WithRSAEncryption"},
		{"a key that is encrypted with MD5", testkit.Server(), func(o *sslfilter.Options) {
			o.KeyMem, o.KeyPassphrase = oldForm(t, "server-pkcs1.key", passphrase), saying(passphrase)
		}, "KeyMem", "", "(with FIPS)"},
		{"DH parameters that are not approved", dhServer("1", func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh2048.pem") }), func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dhx2048.pem") }, "DHCert", testkit.PKI("dhx2048.pem"), "(with FIPS)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testkit.With(inFIPS(t, c.base), c.change)
			ctx, err := sslfilter.NewCtx(o)
			require.Nil(t, ctx)
			refused := testkit.As[*sslfilter.OptionError](t, err)
			require.Equal(t, c.option, refused.Option, "%v", err)
			require.True(t, strings.HasSuffix(refused.File, c.file), "%v", err)
			require.Contains(t, err.Error(), c.text)
			require.Equal(t, 1, strings.Count(err.Error(), "sslfilter: "), "%v", err)
			if c.option == "FIPS" {
				require.Contains(t, err.Error(), "loaded providers: fips ")
			}
			require.NoError(t, accepted(inFIPS(t, c.base)), "only the change is rejected")
			if !sslfilter.FIPSEnabled() && c.name != "a key that fits no suite" {
				o.FIPS, o.FIPSConfig = false, ""
				require.NoError(t, accepted(o), "it works without FIPS")
			}
		})
	}
}

// A list is accepted if the FIPS provider serves a part of it, and so are higher security
// levels and all kinds of keys.
func TestFIPSAdmitsWhatWorks(t *testing.T) {
	for name, o := range map[string]sslfilter.Options{
		"RSA alone, client":     testkit.Client(testkit.Cipher("AES128-SHA"), testkit.TLS12),
		"SUITEB128":             testkit.Client(testkit.Cipher("SUITEB128"), testkit.TLS12),
		"SUITEB192":             testkit.Client(testkit.Cipher("SUITEB192"), testkit.TLS12),
		"level 4, client":       testkit.Client(testkit.Cipher("DEFAULT@SECLEVEL=4")),
		"level 5, client":       testkit.Client(testkit.Cipher("DEFAULT@SECLEVEL=5")),
		"TLS 1.3 alone":         testkit.Server(testkit.TLS13),
		"TLS 1.2 alone":         testkit.Server(testkit.TLS12),
		"ALPN":                  testkit.Server(func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }),
		"ALPN, client":          testkit.Client(func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }),
		"P-521":                 testkit.Server(func(o *sslfilter.Options) { o.Groups = "P-521" }),
		"Ed25519":               testkit.ServerOf("server-ed25519"),
		"encrypted key":         testkit.Server(func(o *sslfilter.Options) { o.Key, o.KeyPassphrase = testkit.PKI("server-enc.key"), saying("secret") }),
		"client certificate":    testkit.Client(func(o *sslfilter.Options) { o.Crt, o.Key = testkit.PKI("client-ec.crt"), testkit.PKI("client-ec.key") }),
		"DHE alone":             dhServer("2", func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh2048.pem") }),
		"anonymous":             testkit.With(sslfilter.Options{Cipher: "AECDH-AES256-SHA:@SECLEVEL=0"}, testkit.TLS12),
		"requires certificates": testkit.Requiring(),
		"the system's CAs":      {Client: true, ServerName: "localhost"},
		"CHACHA20 beside AES":   testkit.Server(testkit.Cipher("ECDHE+CHACHA20:ECDHE+AESGCM"), testkit.TLS12),
	} {
		require.NoError(t, accepted(inFIPS(t, o)), name)
	}
}

// FIPSConfig rejects a file that does not activate the FIPS provider.
func TestFIPSConfig(t *testing.T) {
	withConfig := func(file string) sslfilter.Options {
		return testkit.Server(func(o *sslfilter.Options) { o.FIPS, o.FIPSConfig = true, file })
	}
	if !since(openssl30) {
		err := refuse(t, withConfig("anything"), "FIPS", "")
		require.Equal(t, "3.0", testkit.As[*sslfilter.VersionError](t, err).Needs)
		require.Contains(t, err.Error(), "needs OpenSSL 3.0 or later; this is OpenSSL 1.1.1")
		return
	}
	dir := t.TempDir()
	large := filepath.Join(dir, "large.cnf")
	require.NoError(t, os.WriteFile(large, make([]byte, 1<<20+1), 0o600))
	for _, c := range []struct{ name, file, text string }{
		{"empty", testkit.TempFile(t, "a.cnf", nil), "the FIPS provider is not active under it; loaded providers: default "},
		{"another provider", testkit.TempFile(t, "b.cnf", []byte("openssl_conf = init\n[init]\nproviders = p\n[p]\nbase = b\n[b]\nactivate = 1\n")),
			"the FIPS provider is not active under it; loaded providers: base "},
		{"a module that does not exist", testkit.TempFile(t, "c.cnf", []byte("openssl_conf = init\n[init]\nproviders = p\n[p]\nnowhere = b\n[b]\nactivate = 1\n")), "loaded"},
		{"not a configuration", testkit.TempFile(t, "d.cnf", []byte("[never closed\n")), "cannot be loaded: "},
		{"a section that is missing", testkit.TempFile(t, "e.cnf", []byte("openssl_conf = init\n[init]\nproviders = p\n")), "cannot be loaded: "},
		{"a name with a wrong quote", testkit.TempFile(t, "f.cnf", []byte("openssl_conf = init\n[init]\nproviders = 'p\\'q'\n")), "cannot be loaded: "},
		{"a line that does not end", testkit.TempFile(t, "g.cnf", []byte("openssl_conf = init\n[init]\nproviders = \\")), ""},
		{"missing", filepath.Join(dir, "missing.cnf"), "no such file"},
		{"a directory", dir, "not a regular file"},
		{"too large", large, "it has more than 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := refuse(t, withConfig(c.file), "FIPSConfig", c.file)
			require.Contains(t, err.Error(), c.text)
			if c.name == "missing" {
				require.ErrorIs(t, err, fs.ErrNotExist)
			}
		})
	}
	require.NoError(t, accepted(testkit.Server()), "no failed configuration has an effect")
}

// Only the providers of FIPSConfig are used. Its ssl_conf would apply to the process, and
// change every context.
func TestFIPSConfigLeavesTheProcessAlone(t *testing.T) {
	text, err := os.ReadFile(testkit.FIPSConfig(t))
	require.NoError(t, err)
	text = append(bytes.Replace(text, []byte("[openssl_init]\n"), []byte("[openssl_init]\nssl_conf = sslfilter_ssl\n"), 1),
		"\n[sslfilter_ssl]\nsystem_default = sslfilter_limits\n[sslfilter_limits]\nMaxProtocol = TLSv1.2\n"...)
	require.Contains(t, string(text), "ssl_conf")
	conf := testkit.TempFile(t, "fips.cnf", text)
	server := testkit.Server(func(o *sslfilter.Options) { o.FIPS, o.FIPSConfig = true, conf })
	p := testkit.Connect(t, server, inFIPS(t, testkit.Client()))
	require.Equal(t, "TLSv1.3", p.Server.Version())
	require.Equal(t, "fips", providersOf(t, p.Server.Filter)[sslfilter.UseCipher])
	require.Equal(t, "TLSv1.3", testkit.Connect(t, testkit.Server(), testkit.Client()).Server.Version())
}

// Contexts with the same configuration share its providers, in any goroutine.
func TestFIPSContextsTogether(t *testing.T) {
	server, client := inFIPS(t, testkit.Server()), inFIPS(t, testkit.Client())
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			s, err := sslfilter.New(server)
			if err != nil {
				errs[i] = err
				return
			}
			c, err := sslfilter.New(client)
			if err != nil {
				errs[i] = err
				return
			}
			p := testkit.Join(s, c)
			errs[i] = p.Handshake()
			p.Close()
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

// The number of library contexts is bounded, because they are never freed.
func TestFIPSConfigsAreBounded(t *testing.T) {
	conf := testkit.FIPSConfig(t)
	if child, _ := inChild(t, "", "SSLFILTER_FIPS_CONFIG="+conf); !child {
		return
	}
	text, err := os.ReadFile(conf)
	require.NoError(t, err)
	for i := range sslfilter.MaxLibraries + 1 {
		file := testkit.TempFile(t, fmt.Sprintf("%d.cnf", i), fmt.Appendf(bytes.Clone(text), "\n# %d\n", i))
		o := testkit.Server(func(o *sslfilter.Options) { o.FIPS, o.FIPSConfig = true, file })
		if i < sslfilter.MaxLibraries {
			require.NoError(t, accepted(o))
			continue
		}
		require.ErrorContains(t, refuse(t, o, "FIPSConfig", file), "number 17")
	}
	require.NoError(t, accepted(testkit.Server(func(o *sslfilter.Options) {
		o.FIPS, o.FIPSConfig = true, testkit.TempFile(t, "again.cnf", fmt.Appendf(bytes.Clone(text), "\n# %d\n", 0))
	})), "a known configuration does not count again")
}

// BenchmarkFIPSContext measures NewCtx with and without the FIPS provider.
func BenchmarkFIPSContext(b *testing.B) {
	for name, o := range map[string]sslfilter.Options{"plain": testkit.Server(), "FIPS server": inFIPS(b, testkit.Server()), "FIPS client": inFIPS(b, testkit.Client())} {
		require.NoError(b, accepted(o))
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, accepted(o))
			}
		})
	}
}
