package sslfilter_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// id returns an identity of the test PKI by the name of its files.
func id(name string) sslfilter.Identity {
	return sslfilter.Identity{Crt: testkit.PKI(name + ".crt"), Key: testkit.PKI(name + ".key")}
}

func also(ids ...sslfilter.Identity) testkit.Change {
	return func(o *sslfilter.Options) { o.Identities = append(o.Identities, ids...) }
}

// shownBy returns the serial number of the certificate that f has shown, and its index.
func shownBy(f *sslfilter.Filter) (serial string, index int) {
	s := f.State().Shown
	if s == nil {
		return "", -2
	}
	return sslfilter.Hexdump(s.Serial), s.Index
}

// A server chooses by the ciphers and the signature algorithms of the client.
func TestCertsIdentitiesOfAServer(t *testing.T) {
	chained := sslfilter.Identity{Chain: testkit.PKI("chain-with-key.pem")} // RSA
	server := testkit.Ctx(t, testkit.ServerOf("server-ec", also(chained)))
	alone := testkit.Ctx(t, sslfilter.Options{Identities: []sslfilter.Identity{id("server-ec"), chained}})
	rsa, ec := testkit.Cert(t, "server-inter.crt"), testkit.Cert(t, "server-ec.crt")
	inter := testkit.Cert(t, "inter.crt").Raw
	require.Equal(t, [][][]byte{{ec.Raw}, {rsa.Raw, inter}}, server.Chains())
	require.Equal(t, [][]byte{ec.Raw}, server.Chain())
	require.Equal(t, server.Chains(), alone.Chains())
	require.Contains(t, server.UsableCiphers(), "ECDHE-RSA-AES256-GCM-SHA384", "of the second")
	require.Contains(t, server.UsableCiphers(), "ECDHE-ECDSA-AES256-GCM-SHA384")
	for _, c := range []struct {
		name   string
		change testkit.Change
		index  int
		sent   [][]byte
	}{
		{"TLS 1.2, RSA", func(o *sslfilter.Options) { testkit.TLS12(o); o.Cipher = "aRSA" }, 0, [][]byte{rsa.Raw, inter}},
		{"TLS 1.2, ECDSA", func(o *sslfilter.Options) { testkit.TLS12(o); o.Cipher = "aECDSA" }, -1, [][]byte{ec.Raw}},
		{"TLS 1.3", testkit.TLS13, -1, [][]byte{ec.Raw}}, // ECDSA is before RSA in OpenSSL's list
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testkit.PairOf(t, server, testkit.Ctx(t, testkit.Client(c.change)))
			require.Nil(t, p.Server.State().Shown, "before the handshake")
			require.NoError(t, p.Handshake())
			require.Equal(t, c.sent, p.Client.Peer().Sent)
			shown := p.Server.State().Shown
			require.NotNil(t, shown)
			require.Equal(t, c.index, shown.Index)
			require.Equal(t, c.sent[0], shown.DER)
			require.Equal(t, p.Client.Peer().Chain[0].Subject, shown.Subject)
			require.Nil(t, p.Client.State().Shown)

			p = testkit.PairOf(t, alone, testkit.Ctx(t, testkit.Client(c.change)))
			require.NoError(t, p.Handshake())
			require.Equal(t, c.index+1, p.Server.State().Shown.Index, "of a server without Crt")
		})
	}
}

// crypto/tls as the client gets the certificate that fits its ciphers.
func TestCertsIdentitiesWithCryptoTLS(t *testing.T) {
	server := testkit.Ctx(t, testkit.Server(also(id("server-ec"), id("server-ed25519"))))
	for suite, want := range map[uint16]string{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "server.crt", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "server-ec.crt",
	} {
		peer := testkit.TalkToGo(t, testkit.FilterOf(t, server), false, testkit.GoClient(t, func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites, c.InsecureSkipVerify = tls.VersionTLS12, []uint16{suite}, true
		}))
		require.NoError(t, peer.Err)
		require.Equal(t, testkit.Cert(t, want).Raw, peer.State.PeerCertificates[0].Raw)
	}
}

// In a resumed session the server shows no certificate.
func TestCertsIdentitiesOfAResumedSession(t *testing.T) {
	server := testkit.Ctx(t, testkit.Server(also(id("server-ec"))))
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		config := testkit.GoClient(t, func(c *tls.Config) {
			c.MaxVersion, c.ClientSessionCache, c.InsecureSkipVerify = uint16(highest), tls.NewLRUClientSessionCache(1), true
		})
		for _, resumed := range []bool{false, true} {
			f := testkit.FilterOf(t, server)
			var shown *sslfilter.ShownIdentity
			peer := testkit.TalkToGo(t, f, false, config)
			require.NoError(t, peer.Err)
			require.Equal(t, resumed, peer.State.DidResume)
			shown = f.State().Shown
			require.Equal(t, resumed, shown == nil)
		}
	})
}

// A client shows the first certificate whose issuer the server lists.
func TestCertsIdentitiesOfAClient(t *testing.T) {
	other := testkit.CA(t, "other")
	fromOther := sslfilter.Identity{
		CrtMem: testkit.MintFrom(t, other, x509.Certificate{}, testkit.Key(t, "client.key").Public()), Key: testkit.PKI("client.key"),
	}
	rsa, ec, ed := id("client"), id("client-ec"), id("client-ed25519")
	inter := sslfilter.Identity{Chain: testkit.PKI("client-inter-chain.pem"), Key: testkit.PKI("client-inter.key")}
	for _, c := range []struct {
		name string
		ids  []sslfilter.Identity
		cas  []string
		want int // index in Identities, or none
	}{
		{"the first fits", []sslfilter.Identity{rsa, fromOther}, []string{"root"}, 0},
		{"the second fits, with the same type of key", []sslfilter.Identity{fromOther, rsa}, []string{"root"}, 1},
		{"the other CA", []sslfilter.Identity{rsa, ec, fromOther}, []string{"other"}, 2},
		{"both CAs", []sslfilter.Identity{fromOther, rsa}, []string{"root", "other"}, 0},
		{"an intermediate of the CA", []sslfilter.Identity{fromOther, inter}, []string{"root"}, 1},
		{"no list", []sslfilter.Identity{ec, rsa}, nil, 0},
		{"none fits", []sslfilter.Identity{rsa, ed}, []string{"other"}, -2},
		{"a single one is always shown", []sslfilter.Identity{rsa}, []string{"other"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				ask := testkit.Server(func(o *sslfilter.Options) { o.ClientCert = true })
				config := testkit.GoServer(t, func(g *tls.Config) { g.ClientAuth, g.ClientCAs = tls.RequestClientCert, nil })
				for _, ca := range c.cas {
					ask.CACrtMem = append(ask.CACrtMem, testkit.PKIBytes(t, ca+".crt"))
					if config.ClientCAs == nil {
						config.ClientCAs = x509.NewCertPool()
					}
					config.ClientCAs.AddCert(testkit.Cert(t, ca+".crt"))
				}
				ctx := testkit.Ctx(t, testkit.Client(testkit.UpTo(highest), also(c.ids...)))
				p := testkit.PairOf(t, testkit.Ctx(t, ask), ctx)
				require.NoError(t, p.Handshake())
				_, index := shownBy(p.Client.Filter)
				require.Equal(t, c.want, index)
				sent := p.Server.Peer().Sent
				if c.want >= 0 {
					require.Equal(t, ctx.Chains()[c.want], sent)
				} else {
					require.Empty(t, sent)
				}

				f := testkit.FilterOf(t, ctx)
				peer := testkit.TalkToGo(t, f, true, config)
				require.NoError(t, peer.Err)
				require.Len(t, peer.State.PeerCertificates, len(sent), "crypto/tls")
				for i, cert := range peer.State.PeerCertificates {
					require.Equal(t, sent[i], cert.Raw)
				}
			})
		})
	}
}

// A client chooses an identity whose key can make a signature that the server accepts. In
// TLS 1.3 this depends on the curve of the key. An intermediate that is signed with an
// algorithm that the server does not list does not exclude an identity.
func TestCertsIdentitiesOfAClientByAlgorithm(t *testing.T) {
	inter := testkit.CA(t, "inter")
	minted := func(curve elliptic.Curve) sslfilter.Identity {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		crt := testkit.MintFrom(t, inter, x509.Certificate{}, key.Public())
		return sslfilter.Identity{ChainMem: slices.Concat(crt, testkit.PKIBytes(t, "inter.crt")), KeyMem: testkit.PEM("PRIVATE KEY", der)}
	}
	p256, p384, rsa := minted(elliptic.P256()), minted(elliptic.P384()), id("client")
	for _, c := range []struct {
		name, algorithms string
		ids              []sslfilter.Identity
		want             map[sslfilter.Version]int // index in Identities, or none
	}{
		{"RSA or EC", "ECDSA+SHA256", []sslfilter.Identity{rsa, p256}, map[sslfilter.Version]int{sslfilter.VersionTLS12: 1, sslfilter.VersionTLS13: 1}},
		{"EC or RSA", "RSA-PSS+SHA256", []sslfilter.Identity{p256, rsa}, map[sslfilter.Version]int{sslfilter.VersionTLS12: 1, sslfilter.VersionTLS13: 1}},
		{"the curve", "ECDSA+SHA384", []sslfilter.Identity{p256, p384}, map[sslfilter.Version]int{sslfilter.VersionTLS12: 0, sslfilter.VersionTLS13: 1}},
		{"no curve fits", "ECDSA+SHA512", []sslfilter.Identity{p256, p384}, map[sslfilter.Version]int{sslfilter.VersionTLS12: 0, sslfilter.VersionTLS13: -2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				ask := testkit.Server(func(o *sslfilter.Options) {
					o.ClientCert, o.CACrtMem = true, [][]byte{testkit.PKIBytes(t, "root.crt")}
					o.Conf = []sslfilter.ConfCommand{{Name: "ClientSignatureAlgorithms", Value: c.algorithms}}
				})
				p := testkit.Connect(t, ask, testkit.Client(testkit.UpTo(highest), also(c.ids...)))
				_, index := shownBy(p.Client.Filter)
				require.Equal(t, c.want[highest], index)
				require.Equal(t, index >= 0, len(p.Server.Peer().Sent) > 0)
			})
		})
	}
}

// A client shows no certificate to a server that does not request one.
func TestCertsIdentitiesNobodyAsks(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		p := testkit.Connect(t, testkit.Server(testkit.UpTo(highest)), testkit.Client(also(id("client"))))
		require.Nil(t, p.Client.State().Shown)
		require.Equal(t, -1, p.Server.State().Shown.Index)
	})
}

func TestCertsIdentitiesErrors(t *testing.T) {
	mem := func(name string) []byte { return testkit.PKIBytes(t, name) }
	for _, c := range []struct {
		name         string
		options      sslfilter.Options
		option, file string
		text         string
	}{
		{"empty", testkit.Server(also(sslfilter.Identity{})), "Identities[0]", "", "names no certificate"},
		{"no key", testkit.Server(also(sslfilter.Identity{Crt: testkit.PKI("server-ec.crt")})), "Identities[0].Crt", "", "is given without Identities[0].Key"},
		{"key alone", testkit.Server(also(id("server-ec"), sslfilter.Identity{KeyMem: mem("server-ec.key")})), "Identities[1].KeyMem", "", "without Identities[1].Crt or Identities[1].Chain"},
		{"wrong key", testkit.Server(also(sslfilter.Identity{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ed25519.key")})),
			"Identities[0].Key", testkit.PKI("server-ed25519.key"), "does not match the certificate of Identities[0].Crt " + testkit.PKI("server-ec.crt")},
		{"missing file", testkit.Server(also(sslfilter.Identity{Crt: "no-such.crt", Key: "no-such.key"})), "Identities[0].Crt", "no-such.crt", "no such file"},
		{"NUL", testkit.Server(also(sslfilter.Identity{Chain: "a\x00b"})), "Identities[0].Chain", "", "NUL"},
		{"encrypted", testkit.Server(also(sslfilter.Identity{Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server-enc.key")})),
			"Identities[0].Key", testkit.PKI("server-enc.key"), "set Identities[0].KeyPassphrase"},
		{"same type as Crt", testkit.Server(also(id("server-ec"), id("server-inter"))), "Identities[1].Crt", testkit.PKI("server-inter.crt"), "and that of Crt " + testkit.PKI("server.crt")},
		{"same type", testkit.Server(also(id("server-ec"), sslfilter.Identity{CrtMem: mem("server-ec-root.crt"), KeyMem: mem("server-ec-root.key")})),
			"Identities[1].CrtMem", "", "and that of Identities[0].Crt"},
		{"the same certificate", testkit.Server(also(id("server"))), "Identities[0].Crt", testkit.PKI("server.crt"), "and that of Crt"},
		{"too many", testkit.Client(also(slices.Repeat([]sslfilter.Identity{id("client")}, 17)...)), "Identities", "", "17 certificates; 16 are possible"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := sslfilter.NewCtx(c.options)
			option := testkit.As[*sslfilter.OptionError](t, err)
			require.Equal(t, c.option, option.Option)
			require.Equal(t, c.file, option.File)
			require.ErrorContains(t, err, c.text)
		})
	}
	testkit.Ctx(t, testkit.Client(also(slices.Repeat([]sslfilter.Identity{id("client")}, 16)...)))
}

// NewCtx keeps no secret of Identities, and does not change the caller's slice.
func TestCertsIdentitiesBelongToTheCaller(t *testing.T) {
	ids := []sslfilter.Identity{
		{CrtMem: testkit.PKIBytes(t, "server-ec.crt"), KeyMem: testkit.PKIBytes(t, "server-ec.key")},
		{Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server-enc.key"), KeyPassphrase: saying("secret")},
	}
	ctx := testkit.Ctx(t, sslfilter.Options{Identities: ids})
	require.Equal(t, testkit.PKIBytes(t, "server-ec.key"), ids[0].KeyMem)
	require.NotNil(t, ids[1].KeyPassphrase)
	require.False(t, sslfilter.KeepsSecrets(ctx))
	for i := range ids {
		ids[i] = sslfilter.Identity{}
	}
	p := testkit.PairOf(t, ctx, testkit.Ctx(t, testkit.Client()))
	require.NoError(t, p.Handshake())
	require.Zero(t, p.Server.State().Shown.Index)
}

// ML-DSA keys do not replace RSA and EC. Before OpenSSL 3.5 they are an error.
func TestCertsIdentitiesMLDSA(t *testing.T) {
	mldsa := sslfilter.Identity{Crt: filepath.Join("testdata", "newer", "mldsa44.crt"), Key: filepath.Join("testdata", "newer", "mldsa44.key")}
	if !since(openssl35) {
		_, err := sslfilter.NewCtx(testkit.Server(also(mldsa)))
		require.ErrorAs(t, err, new(*sslfilter.VersionError))
		require.Contains(t, testkit.As[*sslfilter.OptionError](t, err).Option, "Identities[0].")
		return
	}
	server := testkit.Ctx(t, testkit.Server(also(id("server-ec"), mldsa)))
	require.Len(t, server.Chains(), 3)
	_, err := sslfilter.NewCtx(testkit.Server(also(mldsa, mldsa)))
	require.ErrorContains(t, err, "and that of Identities[0]")
}
