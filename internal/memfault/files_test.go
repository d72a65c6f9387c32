package memfault_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
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
