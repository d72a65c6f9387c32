package sslfilter_test

import (
	"crypto/x509"
	"math/big"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Ctx.CRLs shows the CRLs of each option as OpenSSL parses them, those that crypto/x509
// rejects too.
func TestCRLsShown(t *testing.T) {
	from, until := time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2051, 2, 3, 4, 5, 6, 0, time.UTC)
	lists := slices.Concat(testkit.CRLv1(t, 1, 2, 3), testkit.CRLFrom(t, testkit.CA(t, "other"), x509.RevocationList{
		ThisUpdate: from, NextUpdate: until, RevokedCertificateEntries: testkit.Revoked(big.NewInt(-7)),
	}), testkit.PKIBytes(t, "root.crt"))
	file := testkit.TempFile(t, "crl.pem", lists)
	want := func(option, file string) []sslfilter.CRL {
		minted := func(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
		return []sslfilter.CRL{
			{Option: option, File: file, Issuer: "CN=Oracle Root CA,O=Oracle Test,C=DE", ThisUpdate: minted(2020), NextUpdate: minted(2049), Serials: 3},
			{Option: option, File: file, Issuer: "CN=Unknown CA,O=Other Org,C=DE", ThisUpdate: from, NextUpdate: until, Serials: 1},
		}
	}
	for name, c := range map[string]struct {
		change testkit.Change
		want   []sslfilter.CRL
	}{
		"none":     {nil, nil},
		"CACRL":    {func(o *sslfilter.Options) { o.CACRL = file }, want("CACRL", file)},
		"CRLFiles": {func(o *sslfilter.Options) { o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{file} }, want("CRLFiles", file)},
		"in memory": {func(o *sslfilter.Options) {
			o.CACRLMem, o.CRLCheck, o.CRLMem = lists, sslfilter.CRLCheckLeaf, [][]byte{lists}
		}, nil},
	} {
		ctx := testkit.Ctx(t, testkit.Asking(c.change))
		all, err := ctx.CRLs()
		require.NoError(t, err, name)
		require.Equal(t, c.want, all, name)
		require.NoError(t, ctx.Close())
		_, err = ctx.CRLs()
		require.Equal(t, sslfilter.ErrClosed, err)
	}
	ctx := testkit.Ctx(t, testkit.Asking(func(o *sslfilter.Options) { o.CACRL = file }))
	require.NoError(t, os.WriteFile(file, lists[:len(lists)/3], 0o600))
	_, err := ctx.CRLs()
	require.Equal(t, file, testkit.As[*sslfilter.OptionError](t, err).File)
	require.NoError(t, os.Remove(file))
	_, err = ctx.CRLs()
	require.Equal(t, "CACRL", testkit.As[*sslfilter.OptionError](t, err).Option)
}
