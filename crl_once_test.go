package sslfilter_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// With ReadCRLOnce, a Ctx keeps what its files held when it was made, and a new
// Ctx sees the change.
func TestCRLReadOnce(t *testing.T) {
	without, listing := testkit.CRL(t, 0x2002), testkit.CRL(t, 0x2001)
	for name, use := range map[string]func(*sslfilter.Options, string){
		"CACRL": func(o *sslfilter.Options, file string) { o.CACRL = file },
		"CRLFiles": func(o *sslfilter.Options, file string) {
			o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{file}
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := testkit.TempFile(t, "crl.pem", without)
			change := func(o *sslfilter.Options) { o.ReadCRLOnce = true; use(o, file) }
			client := testkit.Ctx(t, testkit.Showing("client.crt", ""))
			valid := func(server *sslfilter.Ctx) *sslfilter.Peer {
				t.Helper()
				p := testkit.PairOf(t, server, client)
				require.NoError(t, p.Handshake())
				return p.Server.Peer()
			}
			server := testkit.Ctx(t, testkit.Asking(change))
			require.True(t, valid(server).Valid)

			require.NoError(t, os.WriteFile(file, listing, 0o600))
			require.True(t, valid(server).Valid)
			require.False(t, valid(testkit.Ctx(t, testkit.Asking(change))).Valid)

			require.NoError(t, os.WriteFile(file, listing[:len(listing)/2], 0o600))
			require.True(t, valid(server).Valid)
			_, err := sslfilter.NewCtx(testkit.Asking(change))
			var option *sslfilter.OptionError
			require.ErrorAs(t, err, &option)
			require.Equal(t, name, option.Option)
			require.Equal(t, file, option.File)

			require.NoError(t, os.Remove(file))
			require.True(t, valid(server).Valid)
		})
	}
}
