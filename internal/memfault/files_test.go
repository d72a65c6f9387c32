package memfault_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cpeer"
	"github.com/seed-014b8713/sslfilter/internal/memfault"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// connected returns a connection whose client has sent its certificate.
func connected(t *testing.T, client string) *testkit.Pair {
	t.Helper()
	f, err := sslfilter.New(sslfilter.Options{Client: true, Crt: testkit.PKI(client + ".crt"), Key: testkit.PKI(client + ".key"), CACrt: testkit.PKI("root.crt"), ServerName: "localhost"})
	require.NoError(t, err)
	g, err := sslfilter.New(sslfilter.Options{Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server.key"), CACrt: testkit.PKI("root.crt"), ClientCert: true})
	require.NoError(t, err)
	p := testkit.Join(g, f)
	require.NoError(t, p.Handshake())
	return p
}

// If there is no memory to read a CRL, no certificate is accepted. Once there is memory
// again, the result is right.
func TestCRL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "crl.pem")
	crl := testkit.PKIBytes(t, "crl.pem")
	n := 0
	another := func() { // content that has not been read before
		n++
		next := file + ".next"
		require.NoError(t, os.WriteFile(next, append(bytes.Repeat([]byte("\n"), n%1000), crl...), 0o600))
		require.NoError(t, os.Rename(next, file))
	}
	good, revoked := connected(t, "client"), connected(t, "client-revoked")
	defer good.Close()
	defer revoked.Close()
	for name, c := range map[string]struct {
		pair *testkit.Pair
		want sslfilter.CRLStatus
	}{"good": {good, sslfilter.CRLNotListed}, "revoked": {revoked, sslfilter.CRLListed}} {
		t.Run(name, func(t *testing.T) {
			sweep(t, func(t *testing.T, heal func() int) {
				memfault.Exempt(another)
				r := c.pair.Server.ClientCertCRL(file)
				heal()
				if r.Status != c.want {
					require.Equal(t, sslfilter.CRLUnusable, r.Status)
					require.Error(t, r.Err)
				}
				require.Equal(t, c.want, c.pair.Server.ClientCertCRL(file).Status, "after %v", r)
			})
		})
	}
}

// unusual returns a certificate whose subject has an attribute with a type that OpenSSL can
// print only with an allocation: 2.25 and a UUID. Its first common name is a BMPString.
func unusual(t *testing.T) []byte {
	t.Helper()
	oid := append([]byte{6, 20, 2*40 + 25}, append(bytes.Repeat([]byte{0xff}, 18), 0x7f)...)
	set := func(kind, value []byte) []byte {
		attribute := append(slices.Concat([]byte{0x30, byte(len(kind) + len(value))}, kind), value...)
		return append([]byte{0x31, byte(len(attribute))}, attribute...)
	}
	sets := append(set([]byte{6, 3, 0x55, 4, 3}, []byte{0x1e, 4, 0, 'b', 0, 'c'}), set(oid, []byte{0x0c, 2, 'i', 'd'})...)
	subject := append([]byte{0x30, byte(len(sets))}, sets...)
	return testkit.MintFrom(t, testkit.CA(t, "root"), x509.Certificate{RawSubject: subject}, testkit.Key(t, "client.key").Public())
}

// The names of a certificate are complete, or there is an error.
func TestNames(t *testing.T) {
	cert := sslfilter.Certificate{DER: testkit.DER(t, unusual(t))}
	want, err := cert.Names()
	require.NoError(t, err)
	require.Regexp(t, `^2\.25\.\d{38,}=#.+,CN=bc$`, want.Subject)
	require.Equal(t, []string{"bc"}, want.CommonNames)
	sweepLast(t, most, func(t *testing.T, heal func() int) {
		names, err := cert.Names()
		if heal() == 0 {
			require.NoError(t, err)
		}
		if err == nil {
			require.Equal(t, want, names)
		}
	})
}

// The records about the certificates of a client are complete, or the connection has failed.
func TestCertIDs(t *testing.T) {
	server := testkit.Ctx(t, testkit.Requiring())
	client := testkit.Ctx(t, sslfilter.Options{Client: true, CrtMem: unusual(t), Key: testkit.PKI("client.key"), CACrt: testkit.PKI("root.crt"), ServerName: "localhost"})
	var want []sslfilter.CertID
	sweepLast(t, most, func(t *testing.T, heal func() int) {
		var p *testkit.Pair
		memfault.Exempt(func() {
			f, err := client.NewFilter()
			require.NoError(t, err)
			g, err := server.NewFilter()
			require.NoError(t, err)
			p = testkit.Join(g, f)
			require.NoError(t, p.Handshake())
		})
		defer p.Close()
		ids := p.Server.ClientCertIDs()
		heal()
		if want == nil {
			want = ids
			require.Contains(t, want[len(want)-1].Subject, "2.25.")
		}
		if p.Server.Filter.Err() == nil {
			require.Equal(t, want, ids)
		} else {
			require.Empty(t, ids)
		}
	})
}

// The description of the CRLs is complete, or there is an error.
func TestCRLsShown(t *testing.T) {
	ctx, err := sslfilter.NewCtx(sslfilter.Options{Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server.key"), CACRL: testkit.PKI("crl-multi-root-first.pem"), ClientCert: true, CACrt: testkit.PKI("root.crt")})
	require.NoError(t, err)
	defer ctx.Close()
	want, err := ctx.CRLs()
	require.NoError(t, err)
	require.Len(t, want, 2)
	sweep(t, func(t *testing.T, heal func() int) {
		all, err := ctx.CRLs()
		if heal() == 0 {
			require.NoError(t, err)
		}
		if err == nil {
			require.Equal(t, want, all)
		}
	})
}

// DH parameters are loaded and checked, or rejected.
func TestDH(t *testing.T) {
	sound := testkit.PKIBytes(t, "dh1024.pem") // the smallest that OpenSSL accepts at level 0
	n := 0
	for name, c := range map[string]struct {
		pem  []byte
		good bool
	}{"sound": {sound, true}, "broken": {brokenDH(t), false}} {
		t.Run(name, func(t *testing.T) {
			if c.good && sslfilter.FIPSEnabled() {
				t.Skip("the FIPS provider rejects parameters of 1,024 bits, and larger ones take too long here")
			}
			texts := make(said)
			defer texts.log(t)
			sweep(t, func(t *testing.T, heal func() int) {
				n++ // parameters that have not been checked before
				ctx, err := sslfilter.NewCtx(sslfilter.Options{
					DHCertMem: append(bytes.Repeat([]byte("\n"), n%1000), c.pem...), Cipher: "aNULL:@SECLEVEL=0", TLS12: true,
				})
				failed := heal()
				texts.errors(err)
				if err == nil {
					ctx.Close()
					require.True(t, c.good)
				} else {
					require.True(t, failed > 0 || !c.good)
				}
			})
		})
	}
}

// brokenDH returns parameters whose modulus is not a prime: 2^1024 - 1.
func brokenDH(t *testing.T) []byte {
	t.Helper()
	p := new(big.Int).Lsh(big.NewInt(1), 1024)
	der, err := asn1.Marshal(struct{ P, G *big.Int }{p.Sub(p, big.NewInt(1)), big.NewInt(2)})
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS", Bytes: der})
}

// A renegotiation and the data around it are complete, or the connection reports an
// error. The verdict is that on the certificate that was sent.
func TestRenegotiation(t *testing.T) {
	ctx, err := sslfilter.NewCtx(sslfilter.Options{
		Client: true, CACrt: testkit.PKI("root.crt"), ServerName: "localhost", Crt: testkit.PKI("client.crt"), Key: testkit.PKI("client.key"),
	})
	require.NoError(t, err)
	defer ctx.Close()
	texts := make(said)
	defer texts.log(t)
	said := marked(3000)
	sweep(t, func(t *testing.T, heal func() int) {
		var server *cpeer.Server
		var err error
		memfault.Exempt(func() { server, err = cpeer.New(testkit.PKI("server.crt"), testkit.PKI("server.key"), true) })
		require.NoError(t, err)
		defer memfault.Exempt(server.Close)
		f, err := ctx.NewFilter()
		if err != nil {
			texts.errors(err)
			return
		}
		defer f.Close()
		var got, arrived, sent []byte
		alive := true
		pump := func() {
			for moved := true; moved && alive; {
				wire := f.Outgoing(nil)
				memfault.Exempt(func() {
					plain, err := server.Receive(wire)
					arrived = append(arrived, plain...)
					alive = err == nil
				})
				var back []byte
				memfault.Exempt(func() { back = server.Outgoing() })
				if len(back) > 0 {
					got, _ = f.Receive(got, back)
				}
				moved = len(wire) > 0 || len(back) > 0
			}
		}
		send := func() {
			if f.Send(said) == nil {
				sent = append(sent, said...)
			}
		}
		texts.errors(f.Handshake())
		send()
		pump()
		rounds := 0
		for range 2 {
			if !alive || !f.HandshakeDone() {
				break
			}
			memfault.Exempt(func() { alive = server.Renegotiate() == nil })
			send()
			pump()
			if alive {
				rounds++
			}
			ids := f.ClientCertIDs()
			require.False(t, f.ClientCertValid() && f.Err() == nil && len(ids) != 2, "%v", ids)
		}
		failed := heal()
		texts.errors(f.Err())
		require.True(t, bytes.HasPrefix(sent, arrived))
		require.Empty(t, got)
		if failed == 0 {
			require.NoError(t, f.Err())
			require.Equal(t, 2, rounds)
			require.Equal(t, 2, server.Rounds())
		}
		if f.Err() == nil && alive && rounds == 2 {
			require.Equal(t, len(sent), len(arrived))
			require.True(t, f.Flushed())
			require.True(t, f.ClientCertValid())
		}
	})
}
