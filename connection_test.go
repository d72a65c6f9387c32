package sslfilter_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/enginetest"
)

// What both ends of a connection say of it must be the same, and crypto/tls
// is the other end.
func TestConnectionAgreesWithCryptoTLS(t *testing.T) {
	const label = "EXPORTER-sslfilter-test"
	check := func(t *testing.T, f *sslfilter.Filter, peer goPeer) {
		t.Helper()
		require.NoError(t, peer.err)
		state := peer.state
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
	protocols(t, func(t *testing.T, highest sslfilter.Version) {
		t.Run("client", func(t *testing.T) {
			staple := []byte{0x30, 0x03, 0x0a, 0x01, 0x06} // "unauthorized"; 3.6 and later look whether it can be parsed
			f := mustFilter(t, with(clientOptions(), func(o *sslfilter.Options) {
				o.MaxVersion, o.ALPN = highest, []string{"h2", "http/1.1"}
				o.Crt, o.Key = pki("client-inter-chain.pem"), pki("client-inter.key")
			}))
			peer := talkToGo(t, f, true, goServer(t, func(c *tls.Config) {
				c.NextProtos, c.ClientAuth = []string{"http/1.1"}, tls.RequireAnyClientCert
				c.Certificates[0].OCSPStaple = staple
			}))
			check(t, f, peer)
			require.Equal(t, staple, f.OCSPResponse())
			require.Len(t, peer.state.PeerCertificates, 2, "the chain was sent")
			require.Equal(t, [][]byte{goCertificate(t, "server.crt", "server.key").Certificate[0]}, f.Peer().Sent)
		})
		t.Run("server", func(t *testing.T) {
			client := goCertificate(t, "client-inter-chain.pem", "client-inter.key")
			f := mustFilter(t, with(serverOptions(), func(o *sslfilter.Options) {
				o.ClientCert, o.CACrt = true, pki("root.crt")
				o.MaxVersion, o.ALPN = highest, []string{"http/1.1", "h2"}
			}))
			peer := talkToGo(t, f, false, goClient(t, func(c *tls.Config) {
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
		"the server's order decides": {[]string{"h2", "http/1.1"}, []string{"http/1.1", "h2"}, "h2", false},
		"one in common":              {[]string{"h2", "imap"}, []string{"pop3", "imap"}, "imap", false},
		"nothing in common":          {[]string{"h2"}, []string{"http/1.1"}, "", true},
		"the client offers none":     {[]string{"h2"}, nil, "", false},
		"the server knows none":      {nil, []string{"h2"}, "", false},
		"a prefix is no match":       {[]string{"h"}, []string{"h2"}, "", true},
		"longest names":              {[]string{strings.Repeat("x", 255)}, []string{strings.Repeat("x", 255)}, strings.Repeat("x", 255), false},
	} {
		t.Run(name, func(t *testing.T) {
			protocols(t, func(t *testing.T, highest sslfilter.Version) {
				p := pair(t,
					with(serverOptions(), func(o *sslfilter.Options) { o.ALPN, o.MaxVersion = test.server, highest }),
					with(clientOptions(), func(o *sslfilter.Options) { o.ALPN = test.client }))
				err := p.Handshake()
				if test.refused {
					require.Equal(t, sslfilter.AlertError(120), asError[sslfilter.AlertError](t, p.Client.Filter.Err()), "no_application_protocol")
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

// SetALPN counts for its connection alone.
func TestConnectionSetALPN(t *testing.T) {
	both := func(o *sslfilter.Options) { o.ALPN = []string{"h2", "http/1.1"} }
	server, client := mustCtx(t, with(serverOptions(), both)), mustCtx(t, with(clientOptions(), both))
	require.Equal(t, []string{"h2", "http/1.1"}, client.ALPN())
	for _, want := range []string{"h2", "http/1.1", "h2"} {
		p := enginetest.New(filterOf(t, client), filterOf(t, server))
		if want != "h2" {
			require.NoError(t, p.Client.SetALPN(want))
		}
		require.NoError(t, p.Handshake())
		require.Equal(t, want, p.Server.ALPN())
		require.Equal(t, want, p.Client.ALPN())
	}
}

func TestConnectionUnknownBeforeAndAfter(t *testing.T) {
	f := mustFilter(t, serverOptions())
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
	p := connect(t, serverOptions(), clientOptions())
	for _, n := range []int{-1, 0, sslfilter.MaxKeyingMaterial + 1} {
		_, err := p.Client.ExportKeyingMaterial("label", nil, n)
		asError[*sslfilter.UsageError](t, err)
	}
	ours, err := p.Client.ExportKeyingMaterial("label", nil, sslfilter.MaxKeyingMaterial)
	require.NoError(t, err)
	theirs, err := p.Server.ExportKeyingMaterial("label", nil, sslfilter.MaxKeyingMaterial)
	require.NoError(t, err)
	require.Equal(t, theirs, ours)
}

func TestCtxClientAndServerName(t *testing.T) {
	for name, c := range map[string]struct {
		options sslfilter.Options
		client  bool
		name    string
	}{
		"server":         {serverOptions(), false, ""},
		"server, SNI":    {with(serverOptions(), func(o *sslfilter.Options) { o.SNI = "a.test" }), false, ""},
		"client":         {sslfilter.Options{Client: true, InsecureSkipVerify: true}, true, ""},
		"client, SNI":    {sslfilter.Options{Client: true, CACrt: pki("root.crt"), SNI: "a.test"}, true, "a.test"},
		"client, both":   {sslfilter.Options{Client: true, CACrt: pki("root.crt"), SNI: "a.test", ServerName: "b.test"}, true, "b.test"},
		"client, verify": {clientOptions(), true, "localhost"},
	} {
		ctx := mustCtx(t, c.options)
		require.Equal(t, c.client, ctx.Client(), name)
		require.Equal(t, c.name, ctx.ServerName(), name)
	}
}
