package sslfilter_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/enginetest"
)

// offering is a client that offers this suite and no other, and takes everything.
func offering(suite string) sslfilter.Options {
	o := sslfilter.Options{Client: true, InsecureSkipVerify: true, Cipher: "ALL:@SECLEVEL=0"}
	if strings.HasPrefix(suite, "TLS_") {
		o.CipherSuites, o.MinVersion = suite, sslfilter.VersionTLS13
	} else {
		o.Cipher, o.TLS12 = suite+":@SECLEVEL=0", true
	}
	return o
}

// What UsableCiphers lists can be negotiated, and nothing else of Ciphers can.
func TestCiphersUsable(t *testing.T) {
	type change = func(*sslfilter.Options)
	keys := map[string]sslfilter.Options{"RSA": serverOptions(), "EC": serving("server-ec")}
	if served(t, "X25519") {
		keys["Ed25519"] = serving("server-ed25519")
	}
	dh := func(o *sslfilter.Options) { o.DHCert = pki("dh2048.pem") }
	for key, server := range keys {
		for name, changes := range map[string][]change{
			"with DHCert":        {dh},
			"all":                {func(o *sslfilter.Options) { o.Cipher = "ALL:@SECLEVEL=0" }},
			"all, TLS 1.2":       {func(o *sslfilter.Options) { o.Cipher, o.TLS12 = "ALL:@SECLEVEL=0", true }, dh},
			"the man page's own": {func(o *sslfilter.Options) { o.Cipher = "DHE-RSA-AES256-GCM-SHA384:AES256-SHA" }},
		} {
			t.Run(key+", "+name, func(t *testing.T) {
				server := server
				for _, c := range changes {
					server = with(server, c)
				}
				log := new(journal)
				server.Debug = slog.New(log)
				ctx := mustCtx(t, server)
				var usable []string
				for _, suite := range ctx.Ciphers() {
					p := enginetest.New(mustFilter(t, offering(suite)), filterOf(t, ctx))
					if p.Handshake() == nil && p.Client.HandshakeDone() {
						require.Equal(t, suite, p.Client.Cipher())
						usable = append(usable, suite)
					}
				}
				require.Equal(t, usable, ctx.UsableCiphers())
				require.Equal(t, []string{strings.Join(usable, ":")}, log.values("sslfilter: context made", "usable"))
			})
		}
	}
	require.Equal(t, []string{"AES256-SHA"}, mustCtx(t, in12(listing(serverOptions(), "ECDHE-ECDSA-AES256-GCM-SHA384:AES256-SHA"))).UsableCiphers())
	client := mustCtx(t, clientOptions())
	require.Equal(t, client.Ciphers(), client.UsableCiphers())
}

// A server that could complete no handshake is refused, and so is one without any suite.
func TestCiphersServerCannotNegotiate(t *testing.T) {
	why := func(o sslfilter.Options, option string) string { t.Helper(); return refuse(t, o, option, "").Error() }
	if !since(openssl40) { // which has parameters of its own
		text := why(in12(listing(serverOptions(), "DHE-RSA-AES256-GCM-SHA384")), "Cipher")
		require.Contains(t, text, "can negotiate none of DHE-RSA-AES256-GCM-SHA384 with a key of the type RSA; DHE suites need DHCert")
	}
	require.NoError(t, accepted(in12(with(listing(serverOptions(), "DHE-RSA-AES256-GCM-SHA384"), func(o *sslfilter.Options) { o.DHCert = pki("dh2048.pem") }))))
	require.Contains(t, why(in12(listing(serving("server-ec"), "ECDHE-RSA-AES256-GCM-SHA384")), "Cipher"), "with a key of the type EC")
	require.Contains(t, why(in12(listing(serverOptions(), "ECDHE-ECDSA-AES256-GCM-SHA384")), "Cipher"), "with a key of the type RSA")
	require.NoError(t, accepted(listing(serverOptions(), "ECDHE-ECDSA-AES256-GCM-SHA384")), "TLS 1.3 is left")
	require.Contains(t, why(in12(listing(serverOptions(), "NULL-SHA256:@SECLEVEL=2")), "Cipher"), "no suite is left")
	if since(openssl30) {
		text := why(in12(with(listing(serverOptions(), "ECDHE-RSA-AES256-GCM-SHA384"), func(o *sslfilter.Options) { o.Groups = "ffdhe2048" })), "Cipher")
		require.Contains(t, text, "ECDHE suites need an elliptic curve in Groups")
	}
}

// A server of TLS 1.0 or 1.1 alone is refused if its security level makes every
// handshake fail, and only then.
func TestCiphersOldVersionsAlone(t *testing.T) {
	needsUnserved(t, "MD5")
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS10, sslfilter.VersionTLS11} {
		for level := range 3 {
			o := with(listing(serverOptions(), fmt.Sprintf("AES128-SHA:@SECLEVEL=%d", level)), func(o *sslfilter.Options) { o.MinVersion, o.MaxVersion = v, v })
			if since(openssl35) && level > 0 {
				require.ErrorContains(t, refuse(t, o, "Cipher", ""), "no suite is left that the versions and the security level admit")
				continue
			}
			if since(openssl30) && level > 0 {
				require.ErrorContains(t, refuse(t, o, "MaxVersion", ""), "needs @SECLEVEL=0 in Cipher for "+v.String())
				continue
			}
			client := with(listing(clientOptions(), "AES128-SHA:@SECLEVEL=0"), func(o *sslfilter.Options) { o.MinVersion, o.MaxVersion = v, v })
			p := pair(t, o, client)
			require.NoError(t, p.Handshake())
			require.Equal(t, v.String(), p.Client.Version())
		}
	}
}

// A server that admits old versions beside others says why they fail.
func TestCiphersOldVersionsNeedALowLevel(t *testing.T) {
	needsUnserved(t, "MD5")
	old := func(o *sslfilter.Options) {
		o.MinVersion, o.MaxVersion = sslfilter.VersionTLS10, sslfilter.VersionTLS11
	}
	server := with(serverOptions(), func(o *sslfilter.Options) { o.MinVersion = sslfilter.VersionTLS10 })
	p := pair(t, server, with(listing(clientOptions(), "ALL:@SECLEVEL=0"), old))
	err := p.Handshake()
	switch {
	case !since(openssl30): // makes their signatures at every security level
		require.NoError(t, err)
	case !since(openssl35):
		require.ErrorContains(t, p.Server.Filter.Err(), "with OpenSSL 3.0 and later, TLSv1.1 needs @SECLEVEL=0 in Cipher")
	default: // does not negotiate them at all
		require.ErrorContains(t, p.Server.Filter.Err(), "the peer's protocol versions are not admitted here")
	}
}

// The text of "no shared cipher" names what this server can negotiate, not what its list has.
func TestCiphersNoSharedCipherText(t *testing.T) {
	p := pair(t, in12(listing(serverOptions(), "ECDHE-ECDSA-AES256-GCM-SHA384:AES256-SHA")), in12(listing(clientOptions(), "ECDHE-RSA-AES256-GCM-SHA384")))
	require.Error(t, p.Handshake())
	require.ErrorContains(t, p.Server.Filter.Err(), "the peer offered ECDHE-RSA-AES256-GCM-SHA384; this side can negotiate AES256-SHA")
	require.NotContains(t, p.Server.Filter.Err().Error(), "ECDSA")
}

// authorities are CAs whose names take about n bytes in a request, in PEM form.
func authorities(t testing.TB, n int) (text []byte, size int) {
	t.Helper()
	key := signer(t, "client.key")
	for i := 0; ; i++ {
		name := pkix.Name{CommonName: fmt.Sprintf("authority %05d ", i), Organization: []string{strings.Repeat("x", 60)}}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: name, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		if size+2+len(cert.RawSubject) > n {
			return text, size
		}
		size += 2 + len(cert.RawSubject)
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
}

// The names of the CAs have to fit into the request for a certificate. Up to the
// bound both versions carry them; beyond it NewCtx says so.
func TestCertsCANamesAreBounded(t *testing.T) {
	root := pkiBytes(t, "root.crt")
	rootCert, err := x509.ParseCertificate(pemDER(t, root))
	require.NoError(t, err)
	own := 2 + len(rootCert.RawSubject)
	fitting, size := authorities(t, sslfilter.MaxCANames-own)
	require.Greater(t, size, sslfilter.MaxCANames-own-200)
	server := asking(func(o *sslfilter.Options) { o.CACrt, o.CACrtMem = "", [][]byte{root, fitting} })
	protocols(t, func(t *testing.T, highest sslfilter.Version) {
		p := connect(t, with(server, func(o *sslfilter.Options) { o.MaxVersion = highest }), showing("client.crt", ""))
		require.True(t, p.Server.ClientCertValid())
	})
	long := tempFile(t, "cas.pem", slices.Concat(root, fitting, pkiBytes(t, "other.crt"), pkiBytes(t, "inter.crt"), pkiBytes(t, "ecroot.crt")))
	asks := func(o *sslfilter.Options) { o.CACrt = long }
	text := refuse(t, asking(asks), "CACrt", long).Error()
	require.Regexp(t, `take 6\d{4} bytes in the request for a client certificate; at most 65024 are possible`, text)
	require.NoError(t, accepted(with(serverOptions(), asks)), "a server that asks nobody sends no names")
	require.NoError(t, accepted(with(clientOptions(), asks)), "a client sends no names")
}

// A chain that OpenSSL's clients would not read is refused; one of the bound arrives.
func TestCertsOwnChainIsBounded(t *testing.T) {
	key := signer(t, "client.key")
	leaf := mint(t, certSpec{serial: 0x900, names: []string{"localhost"}})
	filler := func(n int) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: strings.Repeat("x", n)},
			NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		require.NoError(t, err)
		return der
	}
	room := sslfilter.MaxOwnChain - 4 - 5 - len(pemDER(t, leaf)) - 5
	overhead := len(filler(20000)) - 2*20000 // subject and issuer
	fit := (room - overhead) / 2
	chain := func(n int) []byte {
		return slices.Concat(leaf, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: filler(n)}))
	}
	protocols(t, func(t *testing.T, highest sslfilter.Version) {
		connect(t, sslfilter.Options{CrtMem: chain(fit - 8), Key: pki("client.key"), MaxVersion: highest}, clientOptions())
	})
	file := tempFile(t, "long.pem", chain(fit+8))
	require.Contains(t, refuse(t, sslfilter.Options{Crt: file, Key: pki("client.key")}, "Crt", file).Error(), "peers with OpenSSL take at most 102400")
}
