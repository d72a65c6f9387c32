package sslfilter_test

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Connections with crypto/tls work with every type of key, with and without a client
// certificate.
func TestInteropWithCryptoTLS(t *testing.T) {
	for _, key := range []string{"server", "server-ec", "server-ed25519"} {
		for _, cert := range []string{"", "client", "client-ec", "client-ed25519"} {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				limit := func(c *tls.Config) { c.MaxVersion = uint16(highest) }
				t.Run("server "+key+" with "+cert, func(t *testing.T) {
					f := testkit.Filter(t, testkit.Asking(func(o *sslfilter.Options) { o.Crt, o.Key = testkit.PKI(key+".crt"), testkit.PKI(key+".key") }))
					peer := testkit.TalkToGo(t, f, false, testkit.GoClient(t, func(c *tls.Config) {
						limit(c)
						if cert != "" {
							c.Certificates = []tls.Certificate{testkit.KeyPair(t, cert+".crt", cert+".key")}
						}
					}))

					require.NoError(t, peer.Err)
					require.Equal(t, "ping", peer.Got)
					require.Equal(t, cert != "", f.ClientCertValid())
					requireSameTerms(t, f, peer.State)
				})
				t.Run("client "+cert+" at "+key, func(t *testing.T) {
					o := testkit.Showing("", "")
					if cert != "" {
						o = testkit.Showing(cert+".crt", cert+".key")
					}
					f := testkit.Filter(t, o)
					peer := testkit.TalkToGo(t, f, true, testkit.GoServer(t, func(c *tls.Config) {
						limit(c)
						c.ClientAuth = tls.VerifyClientCertIfGiven
						c.Certificates = []tls.Certificate{testkit.KeyPair(t, key+".crt", key+".key")}
					}))

					require.NoError(t, peer.Err)
					require.Equal(t, "pong", peer.Got)
					require.True(t, f.ClientCertValid())
					require.Equal(t, cert != "", len(peer.State.VerifiedChains) == 1)
					requireSameTerms(t, f, peer.State)
				})
			})
		}
	}
}

// requireSameTerms checks that both sides report the same version.
func requireSameTerms(t *testing.T, f *sslfilter.Filter, state tls.ConnectionState) {
	t.Helper()
	want := map[uint16]string{tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"}
	require.Equal(t, want[state.Version], f.Version())
}
