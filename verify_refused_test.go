package sslfilter_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// requireRefusedPeer checks the Peer of an error that ended a handshake: it has these
// certificates, is neither valid nor proved, and stays the same after Close.
func requireRefusedPeer(t *testing.T, f *sslfilter.Filter, sent ...[]byte) *sslfilter.Error {
	t.Helper()
	e := testkit.As[*sslfilter.Error](t, f.Err())
	p := e.Peer
	require.NotNil(t, p, "%v", e)
	require.True(t, p.Exists)
	require.False(t, p.KeyProved)
	require.False(t, p.Valid)
	require.Len(t, p.Sent, len(sent))
	for i := range sent {
		require.True(t, bytes.Equal(sent[i], p.Sent[i]), "certificate %d", i)
	}
	require.True(t, bytes.Equal(sent[0], p.Chain[0].DER))
	require.NotEmpty(t, p.IDs)
	require.Equal(t, f.ClientCertIDs(), p.IDs)
	require.True(t, reflect.DeepEqual(f.Peer(), p))
	require.Contains(t, p.String(), "the peer has not proved that it has the key")
	text := p.String()
	require.NoError(t, f.Close())
	require.Nil(t, f.Peer())
	require.Equal(t, text, e.Peer.String())
	return e
}

// The error of a refused client has the certificates that it sent, for each reason and over
// every TLS version.
func TestVerifyRefusedClient(t *testing.T) {
	raw := func(files ...string) (list [][]byte) {
		for _, file := range files {
			list = append(list, testkit.Cert(t, file).Raw)
		}
		return list
	}
	serials := func(o *sslfilter.Options) { o.CACRL = testkit.PKI("crl.pem") }
	lists := func(o *sslfilter.Options) {
		o.CRLCheck, o.CRLMem = sslfilter.CRLCheckLeaf, [][]byte{testkit.CRL(t, testkit.Cert(t, "client-revoked.crt").SerialNumber.Int64())}
	}
	for _, c := range []struct {
		name     string
		server   func(*sslfilter.Options)
		crt, key string
		sent     [][]byte
		code     sslfilter.VerifyCode
		chain    int
		crl      sslfilter.CRLStatus
		crlCheck sslfilter.CRLStatus
	}{
		{"unknown CA", nil, "client-unknown.crt", "", raw("client-unknown.crt"), 20, 1, 0, 0},
		{"self-signed", nil, "client-self.crt", "client-self.key", raw("client-self.crt"), 18, 1, 0, 0},
		{"expired", nil, "client-expired.crt", "", raw("client-expired.crt"), 10, 2, 0, 0},
		{"with intermediates", trusting("other.crt"), "client-deep-chain.pem", "client-deep.key", raw("client-deep.crt", "inter3.crt", "inter2.crt", "inter.crt"), 20, 4, 0, 0},
		{"revoked by serial", serials, "client-revoked.crt", "", raw("client-revoked.crt"), 23, 2, sslfilter.CRLListed, 0},
		{"unknown CA, not revoked", serials, "client-unknown.crt", "", raw("client-unknown.crt"), 20, 1, sslfilter.CRLNotListed, 0},
		{"revoked by CRL", lists, "client-revoked.crt", "", raw("client-revoked.crt"), 23, 2, 0, sslfilter.CRLListed},
		{"CRL missing", func(o *sslfilter.Options) { lists(o); o.CRLCheck = sslfilter.CRLCheckChain }, "client-deep-chain.pem", "client-deep.key",
			raw("client-deep.crt", "inter3.crt", "inter2.crt", "inter.crt"), 3, 5, 0, sslfilter.CRLMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			for option, set := range map[string]func(*sslfilter.Options){
				"RequireValidClientCert": func(o *sslfilter.Options) { o.RequireValidClientCert = true },
				"BlockInvalidClientCert": func(o *sslfilter.Options) { o.BlockInvalidClientCert = true },
			} {
				testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
					p := testkit.NewPair(t, testkit.Asking(c.server, set), testkit.Showing(c.crt, c.key, testkit.UpTo(highest), func(o *sslfilter.Options) {
						if strings.HasSuffix(c.crt, ".pem") {
							o.Chain, o.Crt = o.Crt, ""
						}
					}))
					require.Error(t, p.Handshake(), option)
					e := requireRefusedPeer(t, p.Server.Filter, c.sent...)
					require.Equal(t, c.code, testkit.As[*sslfilter.VerifyError](t, e).Code)
					require.Len(t, e.Peer.Chain, c.chain)
					require.Equal(t, c.crl, e.Peer.CRL.Status)
					require.Equal(t, c.crlCheck, e.Peer.CRLCheck.Status)
				})
			}
		})
	}
}

// The error of a handshake in which the peer sent no certificate has no Peer.
func TestVerifyRefusedWithoutACertificate(t *testing.T) {
	for name, o := range map[string]sslfilter.Options{
		"RequireValidClientCert": testkit.Requiring(),
		"BlockBadClientCert":     testkit.Asking(func(o *sslfilter.Options) { o.BlockBadClientCert = true }),
	} {
		testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
			p := testkit.NewPair(t, o, testkit.Client(testkit.UpTo(highest)))
			require.Error(t, p.Handshake(), name)
			require.Nil(t, testkit.As[*sslfilter.Error](t, p.Server.Filter.Err()).Peer, name)
			require.False(t, p.Server.Peer().KeyProved)
		})
	}
	f := testkit.Filter(t, testkit.Requiring())
	_, err := f.Receive(nil, []byte("GET / HTTP/1.1\r\n\r\n"))
	require.Nil(t, testkit.As[*sslfilter.Error](t, err).Peer)
}

// The error of a client that refuses a server has the server's certificates.
func TestVerifyRefusedServer(t *testing.T) {
	for name, c := range map[string]struct {
		server string
		client func(*sslfilter.Options)
		code   sslfilter.VerifyCode
		files  []string
	}{
		"unknown CA": {"server-unknown", nil, 20, []string{"server-unknown.crt"}},
		"wrong name": {"server", testkit.ServerName("evil.example"), 62, []string{"server.crt"}},
		"chain":      {"server-inter", trusting("other.crt"), 19, []string{"server-inter.crt", "inter.crt", "root.crt"}},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				p := testkit.NewPair(t, testkit.ServerOf(c.server), testkit.Client(c.client, testkit.UpTo(highest)))
				require.Error(t, p.Handshake())
				var sent [][]byte
				for _, file := range c.files {
					sent = append(sent, testkit.Cert(t, file).Raw)
				}
				require.Nil(t, testkit.As[*sslfilter.Error](t, p.Server.Filter.Err()).Peer, "the server got an alert, and no certificate")
				require.Equal(t, c.code, testkit.As[*sslfilter.VerifyError](t, requireRefusedPeer(t, p.Client.Filter, sent...)).Code)
			})
		})
	}
}

// stolen returns a certificate of somebody else, without its key.
func stolen(t *testing.T, crt string) tls.Certificate {
	t.Helper()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	cert := testkit.Cert(t, crt)
	require.Equal(t, elliptic.P256(), cert.PublicKey.(*ecdsa.PublicKey).Curve)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: liar{cert.PublicKey, other.Sign}}
}

// A peer that shows the valid certificate of somebody else does not get through. The error has
// the certificate, and says that the key is not proved.
func TestVerifyRefusedWithoutTheKey(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for name, o := range map[string]sslfilter.Options{
			"ClientCert":             testkit.Asking(),
			"RequireValidClientCert": testkit.Requiring(),
			"BlockInvalidClientCert": testkit.Asking(func(o *sslfilter.Options) { o.BlockInvalidClientCert = true }),
		} {
			f := testkit.Filter(t, testkit.With(o, testkit.UpTo(highest)))
			testkit.TalkToGo(t, f, false, testkit.GoClient(t, func(c *tls.Config) { c.Certificates = []tls.Certificate{stolen(t, "client-ec.crt")} }))
			require.False(t, f.HandshakeDone(), name)
			e := requireRefusedPeer(t, f, testkit.Cert(t, "client-ec.crt").Raw)
			require.False(t, errors.As(e, new(*sslfilter.VerifyError)), "the certificate itself is valid")
			require.Empty(t, e.Peer.Errors)
			require.Len(t, e.Peer.Chain, 2)
		}
		f := testkit.Filter(t, testkit.Client(testkit.UpTo(highest)))
		testkit.TalkToGo(t, f, true, testkit.GoServer(t, func(c *tls.Config) { c.Certificates = []tls.Certificate{stolen(t, "server-ec.crt")} }))
		require.False(t, f.HandshakeDone())
		requireRefusedPeer(t, f, testkit.Cert(t, "server-ec.crt").Raw)
	})
}

// An error after the handshake has no Peer: the peer was accepted, and Filter.Peer still
// describes it.
func TestVerifyRefusedIsAboutTheHandshake(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		p := testkit.Connect(t, testkit.Requiring(), testkit.Showing("client.crt", "", testkit.UpTo(highest)))
		require.True(t, p.Server.Peer().KeyProved)
		require.True(t, p.Client.Peer().KeyProved)
		require.Equal(t, p.Server.ClientCertIDs(), p.Server.Peer().IDs)
		_, err := p.Server.Receive(nil, bytes.Repeat([]byte{0xff}, 1<<10))
		require.Error(t, err)
		require.NotErrorIs(t, err, io.EOF)
		require.Nil(t, testkit.As[*sslfilter.Error](t, err).Peer)
		require.True(t, p.Server.Peer().KeyProved)
	})
}

// The errors of the largest chain that OpenSSL accepts stay within a bound.
func TestVerifyRefusedIsBounded(t *testing.T) {
	cert := longSubject(t)
	client := testkit.Showing("client.crt", "", func(o *sslfilter.Options) { o.Crt, o.CrtMem = "", cert })
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		p := testkit.NewPair(t, testkit.Requiring(), testkit.With(client, testkit.UpTo(highest)))
		require.Error(t, p.Handshake())
		e := requireRefusedPeer(t, p.Server.Filter, testkit.DER(t, cert))
		require.Less(t, len(e.Error()), 4096)
		require.Less(t, len(e.Peer.Sent[0]), 100<<10)
		require.Less(t, len(e.Peer.String()), 4096)
	})
}
