package sslfilter_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// The Filter and crypto/tls, as the two ends of a connection, report the same facts about
// it.
func TestConnectionAgreesWithCryptoTLS(t *testing.T) {
	const label = "EXPORTER-sslfilter-test"
	check := func(t *testing.T, f *sslfilter.Filter, peer testkit.GoPeer) {
		t.Helper()
		require.NoError(t, peer.Err)
		state := peer.State
		require.Equal(t, state.CipherSuite, f.CipherSuite())
		require.Equal(t, state.NegotiatedProtocol, f.ALPN())
		require.Equal(t, "http/1.1", f.ALPN())
		require.Equal(t, "localhost", f.ServerName())
		require.Equal(t, state.TLSUnique, f.TLSUnique())
		require.False(t, f.Resumed())
		if since(openssl30) {
			require.Equal(t, uint16(state.CurveID), f.Group())
		} else {
			require.Zero(t, f.Group())
		}
		for _, context := range [][]byte{nil, {}, []byte("context")} {
			want, err := state.ExportKeyingMaterial(label, context, 48)
			require.NoError(t, err)
			got, err := f.ExportKeyingMaterial(label, context, 48)
			require.NoError(t, err)
			require.Equal(t, want, got, "context %q", context)
		}
	}
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		t.Run("client", func(t *testing.T) {
			staple := []byte{0x30, 0x03, 0x0a, 0x01, 0x06} // "unauthorized"; 3.6 and later check that it can be parsed
			f := testkit.Filter(t, testkit.Client(func(o *sslfilter.Options) {
				o.MaxVersion, o.ALPN = highest, []string{"h2", "http/1.1"}
				o.Crt, o.Key = testkit.PKI("client-inter-chain.pem"), testkit.PKI("client-inter.key")
			}))

			peer := testkit.TalkToGo(t, f, true, testkit.GoServer(t, func(c *tls.Config) {
				c.NextProtos, c.ClientAuth = []string{"http/1.1"}, tls.RequireAnyClientCert
				c.Certificates[0].OCSPStaple = staple
			}))

			check(t, f, peer)
			require.Equal(t, staple, f.OCSPResponse())
			require.Len(t, peer.State.PeerCertificates, 2, "the chain was sent")
			require.Equal(t, [][]byte{testkit.KeyPair(t, "server.crt", "server.key").Certificate[0]}, f.Peer().Sent)
		})
		t.Run("server", func(t *testing.T) {
			client := testkit.KeyPair(t, "client-inter-chain.pem", "client-inter.key")
			f := testkit.Filter(t, testkit.Server(func(o *sslfilter.Options) {
				o.ClientCert, o.CACrt = true, testkit.PKI("root.crt")
				o.MaxVersion, o.ALPN = highest, []string{"http/1.1", "h2"}
			}))

			peer := testkit.TalkToGo(t, f, false, testkit.GoClient(t, func(c *tls.Config) {
				c.NextProtos = []string{"h2", "http/1.1"} // the order of the server decides
				c.Certificates = []tls.Certificate{client}
			}))

			check(t, f, peer)
			require.Nil(t, f.OCSPResponse())
			require.Equal(t, client.Certificate, f.Peer().Sent, "own certificate first, and once")
		})
	})
}

func TestConnectionALPN(t *testing.T) {
	for name, test := range map[string]struct {
		server, client []string
		agreed         string
		refused        bool
	}{
		"the server's order decides":    {[]string{"h2", "http/1.1"}, []string{"http/1.1", "h2"}, "h2", false},
		"one in common":                 {[]string{"h2", "imap"}, []string{"pop3", "imap"}, "imap", false},
		"nothing in common":             {[]string{"h2"}, []string{"http/1.1"}, "", true},
		"the client offers no protocol": {[]string{"h2"}, nil, "", false},
		"the server has no protocols":   {nil, []string{"h2"}, "", false},
		"a prefix does not match":       {[]string{"h"}, []string{"h2"}, "", true},
		"longest names":                 {[]string{strings.Repeat("x", 255)}, []string{strings.Repeat("x", 255)}, strings.Repeat("x", 255), false},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				p := testkit.NewPair(t,
					testkit.Server(func(o *sslfilter.Options) { o.ALPN, o.MaxVersion = test.server, highest }),
					testkit.Client(func(o *sslfilter.Options) { o.ALPN = test.client }))

				err := p.Handshake()
				if test.refused {
					require.Equal(t, sslfilter.AlertError(120), testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err()), "no_application_protocol")
					require.ErrorContains(t, p.Server.Filter.Err(), "no application protocol")
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.agreed, p.Server.ALPN())
				require.Equal(t, test.agreed, p.Client.ALPN())
			})
		})
	}
}

// SetALPN applies only to its own connection.
func TestConnectionSetALPN(t *testing.T) {
	both := func(o *sslfilter.Options) { o.ALPN = []string{"h2", "http/1.1"} }
	server, client := testkit.Ctx(t, testkit.Server(both)), testkit.Ctx(t, testkit.Client(both))
	require.Equal(t, []string{"h2", "http/1.1"}, client.ALPN())
	for _, want := range []string{"h2", "http/1.1", "h2"} {
		p := testkit.PairOf(t, server, client)
		if want != "h2" {
			require.NoError(t, p.Client.SetALPN(want))
		}
		require.NoError(t, p.Handshake())
		require.Equal(t, want, p.Server.ALPN())
		require.Equal(t, want, p.Client.ALPN())
	}
}

func TestConnectionUnknownBeforeAndAfter(t *testing.T) {
	f := testkit.Filter(t, testkit.Server())
	for _, when := range []string{"before the handshake", "after Close"} {
		require.Zero(t, f.CipherSuite(), when)
		require.Zero(t, f.Group(), when)
		require.Zero(t, f.ALPN(), when)
		require.Zero(t, f.ServerName(), when)
		require.False(t, f.Resumed(), when)
		require.Nil(t, f.OCSPResponse(), when)
		require.Nil(t, f.TLSUnique(), when)
		require.Equal(t, "(NONE)", f.Cipher(), when)
		require.Equal(t, "(NONE)", f.Version(), when)
		require.Zero(t, f.Bits(), when)
		_, err := f.ExportKeyingMaterial("label", nil, 32)
		require.Error(t, err, when)
		require.NoError(t, f.Close())
	}
}

func TestConnectionExportKeyingMaterialIsBounded(t *testing.T) {
	p := testkit.Connect(t, testkit.Server(), testkit.Client())
	for _, n := range []int{-1, 0, sslfilter.MaxKeyingMaterial + 1} {
		_, err := p.Client.ExportKeyingMaterial("label", nil, n)
		testkit.As[*sslfilter.UsageError](t, err)
	}
	ours, err := p.Client.ExportKeyingMaterial("label", nil, sslfilter.MaxKeyingMaterial)
	require.NoError(t, err)
	theirs, err := p.Server.ExportKeyingMaterial("label", nil, sslfilter.MaxKeyingMaterial)
	require.NoError(t, err)
	require.Equal(t, theirs, ours)
}
