package sslfilter_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// requireOptions checks that NewCtx returns an *OptionError, or a context whose
// handshakes succeed or fail with an error.
func requireOptions(t *testing.T, o sslfilter.Options, peer *sslfilter.Ctx) {
	t.Helper()
	ctx, err := sslfilter.NewCtx(o)
	if err != nil {
		require.Nil(t, ctx)
		refused := testkit.As[*sslfilter.OptionError](t, err)
		require.NotEmpty(t, refused.Option)
		require.True(t, strings.HasPrefix(err.Error(), "sslfilter: "), "%v", err)
		landmark(refused.Option + err.Error())
		return
	}
	defer ctx.Close()
	require.False(t, o.Client && len(ctx.Ciphers()) == 0, "a client without a suite")
	f, other := testkit.FilterOf(t, ctx), testkit.FilterOf(t, peer)
	defer f.Close()
	defer other.Close()
	p := testkit.Join(other, f)
	if !o.Client {
		p = testkit.Join(f, other)
	}
	err = p.Handshake()
	require.True(t, f.HandshakeDone() || err != nil, "neither done nor failed")
	landmark(f.Version() + f.Cipher())
	requireSound(t, f)
}

// Invariant: with any texts and numbers in the options there is no panic, and no C object
// is left. NewCtx returns an *OptionError that names the option, or a context whose
// handshake ends. A client has a cipher suite.
func FuzzOptions(f *testing.F) {
	client, server := testkit.Ctx(f, testkit.Client(func(o *sslfilter.Options) { o.InsecureSkipVerify = true })), testkit.Ctx(f, testkit.Server())
	for _, s := range [][7]string{
		{}, {"DEFAULT@SECLEVEL=0", "TLS_AES_128_GCM_SHA256", "X25519:P-256", "h2,http/1.1", "localhost", "localhost", "\x00"},
		{"ALL:!aNULL:+HIGH", "TLS_AES_128_GCM_SHA256:", "P-521", strings.Repeat("a", 256), "a.b", "127.0.0.1", "\x01\x02\x03"},
		{"@STRENGTH", "TLS_NONE", ":", ",", "[::1]", "::1%lo", "\xff\xff\xff\xff"}, {"@SECLEVEL=9", "x", "x", "x", "*.x", ".", "\x04"},
		{"kRSA:@SECLEVEL=6", "", "ffdhe2048", "", strings.Repeat("x.", 200), strings.Repeat("x", 64), "\x08\x10"}, {"eNULL:aNULL", "", "", "", "", "a\x00b", ""},
		{"\x00", "", "", "", "", "", ""}, {strings.Repeat("A:", 3000), strings.Repeat("B:", 3000), strings.Repeat("C:", 3000), "", "", "", ""},
	} {
		for _, flags := range []uint16{0, 1, 0xffff, 0x5555} {
			f.Add(s[0], s[1], s[2], s[3], s[4], s[5], []byte(s[6]), flags, 0, 20)
		}
	}
	f.Fuzz(func(t *testing.T, cipher, suites, groups, alpn, sni, name string, versions []byte, flags uint16, depth, ignored int) {
		on := func(bit int) bool { return flags>>bit&1 == 1 }
		s := &script{versions}
		version := func() sslfilter.Version {
			b := s.byte()
			if b == 0 || b > 5 {
				return sslfilter.Version(b)
			}
			return sslfilter.VersionTLS10 + sslfilter.Version(b-1)
		}
		o := sslfilter.Options{
			Cipher: cipher, CipherSuites: suites, Groups: groups, SNI: sni, ServerName: name, CAVerifyDepth: depth,
			MinVersion: version(), MaxVersion: version(), Client: on(0), InsecureSkipVerify: on(1), ClientCert: on(2), BlockBadClientCert: on(3),
			RequireValidClientCert: on(4), TLS: on(5), TLS12: on(6), NoHonor: on(7),
		}
		if alpn != "" {
			o.ALPN = strings.Split(alpn, ",")
		}
		if on(8) {
			o.IgnoreVerifyErrors = []sslfilter.VerifyCode{sslfilter.VerifyCode(ignored)}
		}
		if on(9) {
			o.CACrt = testkit.PKI("root.crt")
		}
		if !on(10) {
			o.Crt, o.Key = testkit.PKI("server.crt"), testkit.PKI("server.key")
		}
		peer := client
		if o.Client {
			peer = server
		}
		leavesNothing(t, func() { requireOptions(t, o, peer) })
	})
}

// Invariant: with any content for certificates, keys, CAs or DH parameters there is no
// panic and no prompt, and no C object is left. NewCtx returns an *OptionError that names
// the option, or a context. A side whose certificate and key were accepted can prove that
// it has the key.
func FuzzPEM(f *testing.F) {
	names := []string{
		"server.crt", "server.key", "server-enc.key", "server-ec.key", "server-combined.pem", "chain-with-key.pem", "server-text.crt", "server-trunc.crt",
		"dh1024.pem", "dhx2048.pem", "garbage.pem", "empty.pem", "server.der", "client-ed25519.key", "server-pkcs1.key", "crl.pem", "client-serneg.crt",
	}
	for i, name := range names {
		for kind := range uint8(5) {
			if i%5 == int(kind) || i < 6 {
				f.Add(kind, testkit.PKIBytes(f, name))
			}
		}
	}
	for _, seed := range []string{
		"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "-----BEGIN DH PARAMETERS-----\nMAYCAQsCAQI=\n-----END DH PARAMETERS-----\n",
		"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
		"-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n", "-----BEGIN TRUSTED CERTIFICATE-----\nMAA=\n-----END TRUSTED CERTIFICATE-----\n",
		"-----BEGIN X509 CRL-----", "\x00\x00", "-----BEGIN \x00-----\n",
	} {
		for kind := range uint8(5) {
			f.Add(kind, []byte(seed))
		}
	}
	for i, name := range []string{"server.crt", "client-multi.crt", "server.key", "server-ec.key", "client-ed25519.key", "dh1024.pem", "dhx2048.pem"} {
		for kind := range uint8(5) {
			f.Add(kind+5*uint8(1+min(i/2, 3)), testkit.DER(f, testkit.PKIBytes(f, name)))
		}
	}
	types := []string{"", "CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "DH PARAMETERS", "X9.42 DH PARAMETERS", "TRUSTED CERTIFICATE"}
	client := testkit.Ctx(f, sslfilter.Options{Client: true, InsecureSkipVerify: true, Cipher: "DEFAULT@SECLEVEL=0"})
	crt, key := testkit.PKIBytes(f, "server.crt"), testkit.PKIBytes(f, "server.key")
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		if kind := types[int(kind)/5%len(types)]; kind != "" {
			data = testkit.PEM(kind, data)
		}
		o := sslfilter.Options{CrtMem: crt, KeyMem: key, Cipher: "DEFAULT@SECLEVEL=0", KeyPassphrase: func() ([]byte, error) { return []byte("secret"), nil }}
		switch kind % 5 {
		case 0:
			o.CrtMem = data
		case 1:
			o.KeyMem = data
		case 2:
			o.CrtMem, o.KeyMem, o.ChainMem = nil, nil, data
		case 3:
			o.CACrtMem, o.ClientCert = [][]byte{data}, true
		case 4:
			o.DHCertMem = data
		}
		kept := bytes.Clone(data)
		leavesNothing(t, func() { requireOptions(t, o, client) })
		require.Equal(t, kept, data, "the caller's text was changed")
	})
}

// Invariant: with any content in a file of CRLs there is no panic, and no C object is left.
// No content before a list hides that list: a certificate that is listed after it is never
// "not revoked". A certificate that Go's parser finds revoked is revoked.
func FuzzCRL(f *testing.F) {
	for _, name := range []string{
		"crl.pem", "crl-30.pem", "crl-after-cert.pem", "crl-empty.pem", "crl-garbage.pem", "crl-multi-root-first.pem", "crl-text.pem", "crl-trunc.pem", "crl.der", "empty.pem",
		"crl-badsig.pem", "garbage.pem", "root.crt", "server.key",
	} {
		f.Add(false, testkit.PKIBytes(f, name))
	}
	for _, name := range []string{"crl.pem", "crl-30.pem", "crl-empty.pem", "crl-badsig.pem"} {
		f.Add(true, testkit.DER(f, testkit.PKIBytes(f, name)))
	}
	for _, seed := range []string{
		"-----BEGIN X509 CRL-----\n", "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----", "-----BEGIN X509 CRL-----\n\n-----END X509 CRL-----\n", "-----BEGIN ", "\x00",
		strings.Repeat("x", 254), strings.Repeat("-----BEGIN X-----\nAAAA\n-----END X-----\n", 3),
	} {
		f.Add(false, []byte(seed))
	}
	visitor, file := visited(f, "client.crt"), filepath.Join(f.TempDir(), "crl.pem")
	own := big.NewInt(0x2001) // its serial
	revoking := testkit.CRLFrom(f, testkit.CA(f, "root"), x509.RevocationList{RevokedCertificateEntries: testkit.Revoked(own)})
	f.Fuzz(func(t *testing.T, der bool, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		if der {
			data = testkit.PEM("X509 CRL", data)
		}
		sslfilter.ForgetCRLs()
		leavesNothing(t, func() {
			require.NoError(t, os.WriteFile(file, data, 0o600))
			first := visitor.ClientCertCRL(file)
			require.Equal(t, first.OK(), visitor.ClientCertNotOnCRL(file))
			if first.OK() {
				require.False(t, revokes(data, own), "Go finds the serial on a list")
			}
			landmark(first.String())
			sslfilter.ForgetCRLs() // the garbage collector frees lists that are replaced in the cache
			require.NoError(t, os.WriteFile(file, append(append(bytes.Clone(data), '\n'), revoking...), 0o600))
			require.False(t, visitor.ClientCertNotOnCRL(file), "hidden")
			sslfilter.ForgetCRLs()
		})
	})
}

// revokes reports whether Go's parsers find serial on a list.
func revokes(text []byte, serial *big.Int) bool {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return false
		}
		text = rest
		if block.Type != "X509 CRL" {
			continue
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			continue
		}
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(serial) == 0 {
				return true
			}
		}
	}
}
