package memfault_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A CRL whose extensions could not be read is not used: an indirect CRL is always refused,
// and a context that could be made accepts a certificate that is not listed, and no other.
func TestIssuingDistributionPoint(t *testing.T) {
	checking := func(serial int64, idp ...byte) sslfilter.Options {
		crl := testkit.CRLFrom(t, testkit.CA(t, "root"), x509.RevocationList{
			RevokedCertificateEntries: testkit.Revoked(big.NewInt(serial)),
			ExtraExtensions:           []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: idp}},
		})
		return testkit.Client(func(o *sslfilter.Options) { o.CRLCheck, o.CRLMem = sslfilter.CRLCheckLeaf, [][]byte{crl} })
	}
	listed := testkit.Cert(t, "server.crt").SerialNumber.Int64()
	server := testkit.Ctx(t, testkit.Server())
	const onlyUsers, onlyCAs, indirect = 0x81, 0x82, 0x84
	for name, c := range map[string]struct {
		serial         int64
		kind           byte
		refused, valid bool
	}{
		"indirect":                  {0x7000, indirect, true, false},
		"of users, not listed":      {0x7000, onlyUsers, false, true},
		"of users, listed":          {listed, onlyUsers, false, false},
		"of CAs, so that none fits": {0x7000, onlyCAs, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := checking(c.serial, 0x30, 3, c.kind, 1, 0xff)
			texts := make(said)
			defer texts.log(t)
			sweep(t, func(t *testing.T, heal func() int) {
				ctx, err := sslfilter.NewCtx(o)
				failed := heal()
				if err != nil {
					require.True(t, failed > 0 || c.refused, "%v", err)
					texts.errors(err)
					return
				}
				defer ctx.Close()
				require.False(t, c.refused, "it was taken for a complete CRL")
				f, err := ctx.NewFilter()
				require.NoError(t, err)
				g, err := server.NewFilter()
				require.NoError(t, err)
				p := testkit.Join(g, f)
				defer p.Close()
				p.Handshake()
				require.Equal(t, c.valid, f.ClientCertValid(), "%v", f.Err())
			})
		})
	}
}
