package sslfilter_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// RequireValidClientCert rejects exactly the clients for which ClientCertValid is false, with
// an alert that gives the reason.
func TestVerifyRequireValidClientCert(t *testing.T) {
	eachVerdict(t, testkit.Requiring, func(t *testing.T, v verdict, highest sslfilter.Version, p *testkit.Pair) {
		err := p.Handshake()
		if v.valid {
			require.NoError(t, err)
			require.True(t, p.Server.HandshakeDone())
			requireVerdict(t, v, p.Server.Filter)
			return
		}
		requireRefused(t, p)
		if v.crt == "" {
			require.Equal(t, noCertificateAlert(highest), testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err()))
			return
		}
		require.Equal(t, v.alert, testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err()))
		requireFirstError(t, p.Server.Filter, v)
	})
}

// BlockInvalidClientCert refuses exactly the clients that show a certificate which is
// not valid, and serves the others.
func TestVerifyBlockInvalidClientCert(t *testing.T) {
	for _, v := range verdicts() {
		t.Run(v.name, func(t *testing.T) {
			o := testkit.Requiring(v.server)
			o.RequireValidClientCert, o.BlockBadClientCert, o.BlockInvalidClientCert = false, false, true
			server := testkit.Ctx(t, o)
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				p := testkit.PairOf(t, server, testkit.Ctx(t, testkit.Showing(v.crt, v.key, func(o *sslfilter.Options) { o.MaxVersion = highest })))
				err := p.Handshake()
				switch {
				case v.crt == "":
					require.NoError(t, err)
					require.True(t, p.Server.HandshakeDone())
					require.False(t, p.Server.ClientCertExists())
					require.False(t, p.Server.ClientCertValid())
				case v.valid:
					require.NoError(t, err)
					requireVerdict(t, v, p.Server.Filter)
				default:
					requireRefused(t, p)
					require.Equal(t, v.alert, testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err()))
					requireFirstError(t, p.Server.Filter, v)
				}
			})
		})
	}
}

// With BlockBadClientCert too, a missing certificate is refused as well.
func TestVerifyBlockInvalidAndBadClientCert(t *testing.T) {
	both := func(o *sslfilter.Options) { o.BlockInvalidClientCert, o.BlockBadClientCert = true, true }
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		server := testkit.Ctx(t, testkit.Asking(both, testkit.UpTo(highest)))
		p := testkit.PairOf(t, server, testkit.Ctx(t, testkit.Client()))
		require.Error(t, p.Handshake())
		requireRefused(t, p)
		p = testkit.PairOf(t, server, testkit.Ctx(t, testkit.Showing("client.crt", "")))
		require.NoError(t, p.Handshake())
		require.True(t, p.Server.ClientCertValid())
	})
}

// noCertificateAlert returns the alert for a missing certificate (RFC 8446, RFC 5246).
func noCertificateAlert(v sslfilter.Version) sslfilter.AlertError {
	if v == sslfilter.VersionTLS13 {
		return alertCertificateRequired
	}
	return alertHandshakeFailure
}

// requireRefused checks that the server rejected the client.
func requireRefused(t *testing.T, p *testkit.Pair) {
	t.Helper()
	require.Error(t, p.Server.Filter.Err())
	require.False(t, p.Server.HandshakeDone())
	require.False(t, p.Server.ClientCertValid())
	require.False(t, p.Server.Peer().Valid)
	require.Error(t, p.Client.Filter.Err())
	require.Empty(t, p.Server.Got)
}

// requireFirstError checks that the VerifyError is the first error that is not ignored.
func requireFirstError(t *testing.T, f *sslfilter.Filter, v verdict) {
	t.Helper()
	refused := testkit.As[*sslfilter.VerifyError](t, f.Err())
	ids := f.ClientCertIDs()
	last := ids[len(ids)-1] // OpenSSL does not call the callback again after a rejection
	require.Equal(t, last.Depth, refused.Depth)
	require.Equal(t, last.Subject, refused.Subject)
	switch v.crl {
	case sslfilter.CRLListed:
		require.Equal(t, sslfilter.VerifyCertRevoked, refused.Code)
	case sslfilter.CRLEmpty, sslfilter.CRLUnusable:
		require.Equal(t, sslfilter.VerifyUnableToGetCRL, refused.Code)
	default:
		require.Equal(t, last.Err, refused.Code)
		require.NotZero(t, refused.Code)
		require.Equal(t, v.ids[len(ids)-1].code, refused.Code)
	}
}

// liar makes signatures that do not belong to the certificate.
type liar struct {
	public crypto.PublicKey
	sign   func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error)
}

func (l liar) Public() crypto.PublicKey { return l.public }

func (l liar) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return l.sign(r, digest, o)
}

// A client with a certificate but not its key is never valid: all checks of the certificate
// succeed, except the signature of the handshake.
func TestVerifyNeverValidBeforeTheKeyIsProved(t *testing.T) {
	victim := testkit.Key(t, "client.key").Public()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for name, l := range map[string]liar{
		"another key": {victim, other.Sign},
		"garbage": {victim, func(r io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
			text := make([]byte, 256)
			_, err := io.ReadFull(r, text[1:])
			return text, err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				for mode, o := range map[string]sslfilter.Options{"asking": testkit.Asking(), "requiring": testkit.Requiring()} {
					t.Run(mode, func(t *testing.T) {
						f := testkit.Filter(t, o)
						peer := testkit.TalkToGo(t, f, false, testkit.GoClient(t, func(c *tls.Config) {
							c.MaxVersion = uint16(highest)
							c.Certificates = []tls.Certificate{{Certificate: [][]byte{testkit.Cert(t, "client.crt").Raw}, PrivateKey: l}}
						}))

						require.Error(t, peer.Err)
						require.Error(t, f.Err())
						require.True(t, f.ClientCertExists(), "the certificate was sent")
						require.Equal(t, []seen{rootID, leafID("client valid", rootName, "20:01", 0)}, seenOf(f.ClientCertIDs()))
						require.False(t, f.HandshakeDone())
						require.False(t, f.ClientCertValid())
						require.False(t, f.Peer().Valid)
						require.NotEqual(t, "valid", f.Peer().String())
					})
				}
			})
		})
	}
}

// The peer is not valid after any byte of the handshake until it has proved its key.
func TestVerifyNotValidBeforeHandshakeDone(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		p := testkit.NewPair(t, testkit.Asking(), testkit.Showing("client.crt", "", testkit.UpTo(highest)))
		shown := 0
		look := func() {
			if !p.Server.HandshakeDone() {
				require.False(t, p.Server.ClientCertValid())
				require.False(t, p.Server.Peer().Valid)
				if p.Server.ClientCertExists() {
					shown++
				}
			}
		}
		require.NoError(t, p.Client.Handshake())
		for range 10 {
			for _, b := range p.Client.Outgoing(nil) {
				p.Server.Deliver([]byte{b})
				look()
			}
			p.Client.Deliver(p.Server.Outgoing(nil))
		}
		require.True(t, p.Server.ClientCertValid())
		require.NotZero(t, shown, "the certificate arrived before the proof")
	})
}

// A server that asks for certificates does not resume sessions: OpenSSL does not call the
// verify callback for a resumed session, so that there would be no verdict.
func TestVerifyNoResumptionWithClientCert(t *testing.T) {
	for name, c := range map[string]struct {
		server  sslfilter.Options
		resumes bool
	}{
		"ClientCert":             {testkit.Asking(), false},
		"RequireValidClientCert": {testkit.Requiring(), false},
		"neither":                {testkit.Server(), true}, // to show that the test detects resumption
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				server := testkit.Ctx(t, c.server)
				start := testkit.GoClient(t, func(config *tls.Config) {
					config.MaxVersion = uint16(highest)
					config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
					config.Certificates = []tls.Certificate{testkit.KeyPair(t, "client.crt", "client.key")}
				})

				resumed := false
				for range 3 {
					f := testkit.FilterOf(t, server)
					peer := testkit.TalkToGo(t, f, false, start)
					require.NoError(t, peer.Err)
					require.Equal(t, !c.resumes, f.ClientCertValid())
					resumed = resumed || peer.State.DidResume
				}
				require.Equal(t, c.resumes, resumed)
			})
		})
	}
}

// The server sends the names of its CAs, by which a client chooses its certificate.
func TestVerifyCANamesAreSent(t *testing.T) {
	root, other := testkit.PKIBytes(t, "root.crt"), testkit.PKIBytes(t, "other.crt")
	both := []string{"root.crt", "other.crt"}
	for name, c := range map[string]struct {
		change func(*sslfilter.Options)
		want   []string
	}{
		"none":                   {func(o *sslfilter.Options) { o.CACrt = "" }, nil},
		"CACrt":                  {nil, both[:1]},
		"CACrt with two":         {trusting("ca-both.pem"), both},
		"CACrtMem":               {func(o *sslfilter.Options) { o.CACrtMem = [][]byte{root, other} }, both},
		"CACrtMem, two in one":   {func(o *sslfilter.Options) { o.CACrtMem = [][]byte{slices.Concat(root, other)} }, both},
		"the same twice":         {func(o *sslfilter.Options) { o.CACrtMem = [][]byte{root, root} }, both[:1]},
		"CACrtMem wins":          {func(o *sslfilter.Options) { o.CACrtMem = [][]byte{other} }, both[1:]},
		"RequireValidClientCert": {func(o *sslfilter.Options) { o.RequireValidClientCert = true }, both[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				var want, got [][]byte
				for _, file := range c.want {
					want = append(want, testkit.Cert(t, file).RawSubject)
				}
				testkit.TalkToGo(t, testkit.Filter(t, testkit.Asking(c.change)), false, testkit.GoClient(t, func(config *tls.Config) {
					config.MaxVersion = uint16(highest)
					config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
						got = info.AcceptableCAs
						return new(tls.Certificate), nil
					}
				}))

				require.Equal(t, want, got)
			})
		})
	}
}
