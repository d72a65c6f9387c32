package memfault_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// view has the properties of a context and of a connection that it made.
type view struct {
	ciphers         []string
	version, alpn   string
	sent, announced int // number of certificates, and of names of CAs
	valid           [2]bool
	err             string
}

// look makes a connection between ctx and peer, one of which is a client. In TLS 1.2
// the names of CAs can be read on the wire.
func look(t *testing.T, ctx, peer *sslfilter.Ctx, cas ...[]byte) (v view) {
	t.Helper()
	own, err := ctx.NewFilter()
	require.NoError(t, err)
	other, err := peer.NewFilter()
	require.NoError(t, err)
	client, server := own, other
	if !ctx.Client() {
		client, server = other, own
	}
	p := testkit.Join(server, client)
	defer p.Close()
	p.Record = true
	if err := p.Handshake(); err != nil {
		v.err = err.Error()
	}
	for _, ca := range cas {
		block, _ := pem.Decode(ca)
		cert, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		if bytes.Contains(p.Server.Raw, cert.RawSubject) {
			v.announced++
		}
	}
	v.ciphers, v.version, v.alpn = ctx.Ciphers(), server.Version(), server.ALPN()
	v.sent, v.valid = len(other.Peer().Sent), [2]bool{server.ClientCertValid(), client.ClientCertValid()}
	return v
}

// requireWhole requires that have is equal to want, except that ciphers may be missing:
// OpenSSL itself omits an algorithm that it could not load when the context was made.
func requireWhole(t *testing.T, want, have view) {
	t.Helper()
	i := 0
	for _, name := range have.ciphers {
		for i < len(want.ciphers) && want.ciphers[i] != name {
			i++
		}
		require.Less(t, i, len(want.ciphers), "%s in %v", name, have.ciphers)
	}
	have.ciphers = want.ciphers
	require.Equal(t, want, have)
}

func server12() sslfilter.Options {
	return testkit.Server(testkit.TLS12)
}

func client12() sslfilter.Options {
	return testkit.Client(testkit.TLS12)
}

// NewCtx returns a complete context, or an error.
func TestNewCtx(t *testing.T) {
	root, other := testkit.PKIBytes(t, "root.crt"), testkit.PKIBytes(t, "other.crt")
	secret := func() ([]byte, error) { return []byte("secret"), nil }
	server := sslfilter.Options{
		Chain: testkit.PKI("chain.pem"), Key: testkit.PKI("server-inter.key"), CACrtMem: [][]byte{root, other}, CACRL: testkit.PKI("crl.pem"), ClientCert: true, TLS12: true,
		Cipher: "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256", Groups: "P-256:P-384", ALPN: []string{"one", "two"},
	}
	client := sslfilter.Options{
		Client: true, Crt: testkit.PKI("client-inter.crt"), Key: testkit.PKI("client-inter.key"), Chain: testkit.PKI("client-inter-chain.pem"), CACrt: testkit.PKI("root.crt"), ServerName: "localhost",
		Cipher: "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384", Groups: "P-384:P-256", ALPN: []string{"two", "one"}, TLS12: true, IgnoreVerifyErrors: []sslfilter.VerifyCode{sslfilter.VerifyCertHasExpired},
	}
	for _, c := range []struct {
		name  string
		ctx   sslfilter.Options
		other sslfilter.Options
	}{
		{"server with everything", server, client},
		{"client with everything", client, server},
		{"several identities", sslfilter.Options{TLS12: true, Identities: []sslfilter.Identity{
			{Chain: testkit.PKI("chain.pem"), Key: testkit.PKI("server-inter.key")}, {Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key")},
		}}, client12()},
		{"encrypted key in memory", sslfilter.Options{CrtMem: testkit.PKIBytes(t, "server.crt"), KeyMem: testkit.PKIBytes(t, "server-enc.key"), KeyPassphrase: secret, TLS12: true}, client12()},
		{"chain from the CAs", sslfilter.Options{Crt: testkit.PKI("server-inter.crt"), Key: testkit.PKI("server-inter.key"), CACrtMem: [][]byte{testkit.PKIBytes(t, "inter.crt"), root}, TLS12: true}, client12()},
		{"Ed25519, TLS 1.3 suites", sslfilter.Options{Crt: testkit.PKI("server-ed25519.crt"), Key: testkit.PKI("server-ed25519.key"), CipherSuites: "TLS_AES_128_GCM_SHA256", MinVersion: sslfilter.VersionTLS13}, sslfilter.Options{Client: true, InsecureSkipVerify: true}},
		{"commands of OpenSSL", sslfilter.Options{
			Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server.key"), SignatureAlgorithms: "RSA-PSS+SHA256:RSA+SHA512:RSA+SHA384", TLS12: true,
			Conf: []sslfilter.ConfCommand{{Name: "CipherString", Value: "ECDHE-RSA-AES256-GCM-SHA384"}, {Name: "Groups", Value: "P-256"}, {Name: "Options", Value: "-EncryptThenMac"}, {Name: "ClientSignatureAlgorithms", Value: "ECDSA+SHA256"}},
		}, client12()},
		{"the system's CAs", sslfilter.Options{Client: true, ServerName: "localhost"}, server12()},
		{"anonymous server", sslfilter.Options{Cipher: "aNULL:@SECLEVEL=0", TLS12: true}, sslfilter.Options{Client: true, InsecureSkipVerify: true, Cipher: "aNULL:@SECLEVEL=0", TLS12: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			peer, err := sslfilter.NewCtx(c.other)
			require.NoError(t, err)
			defer peer.Close()
			texts := make(said)
			defer texts.log(t)
			var want *view
			sweep(t, func(t *testing.T, heal func() int) {
				ctx, err := sslfilter.NewCtx(c.ctx)
				failed := heal()
				if err != nil {
					require.NotZero(t, failed, "%v", err)
					var option *sslfilter.OptionError
					var openssl *sslfilter.Error
					require.True(t, errors.As(err, &option) || errors.As(err, &openssl), "%T: %[1]v", err)
					texts.errors(err)
					return
				}
				defer ctx.Close()
				switch {
				case want == nil:
					have := look(t, ctx, peer, root, other)
					want = &have
				case failed > 0:
					requireWhole(t, *want, look(t, ctx, peer, root, other))
				}
			})
			t.Logf("%+v", *want)
		})
	}
}

// A certificate that the FIPS provider cannot verify is always refused.
func TestUnservedCertificate(t *testing.T) {
	const sha256WithRSA, md5WithRSA = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"
	der := bytes.ReplaceAll(testkit.Cert(t, "server.crt").Raw, []byte(sha256WithRSA), []byte(md5WithRSA))
	o := testkit.Server(testkit.Cipher("DEFAULT@SECLEVEL=0"), func(o *sslfilter.Options) {
		o.Crt, o.CrtMem, o.FIPS, o.FIPSConfig = "", testkit.PEM("CERTIFICATE", der), true, testkit.FIPSConfig(t)
	})
	texts := make(said)
	defer texts.log(t)
	sweepLast(t, 100, func(t *testing.T, heal func() int) {
		ctx, err := sslfilter.NewCtx(o)
		failed := heal()
		if err == nil {
			ctx.Close()
		}
		require.Error(t, err)
		texts.errors(err)
		require.True(t, failed > 0 || strings.Contains(err.Error(), "md5WithRSAEncryption"), "%v", err)
	})
}
