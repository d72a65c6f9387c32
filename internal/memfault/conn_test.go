package memfault_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/memfault"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// marked returns data that can be recognized on the wire.
func marked(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	data := make([]byte, n)
	r.Read(data)
	copy(data, "plaintext that must never be seen on the wire")
	return data
}

// side is one end of a connection, with its results.
type side struct {
	*testkit.Side
	sent     []byte // data that Send accepted
	closed   bool   // CloseWrite succeeded
	errs     []error
	ids      []sslfilter.CertID
	peer     *sslfilter.Peer
	names    *sslfilter.Names       // nil without a certificate, or if there was no memory
	parsed   *sslfilter.Certificate // as names
	valid    bool
	exported []byte
	done     bool // done, version and alpn are recorded at the end
	version  string
	alpn     string
}

func (s *side) send(data []byte) {
	if s.note(s.Send(data)) {
		s.sent = append(s.sent, data...)
	}
}

func (s *side) note(err error) bool {
	if err != nil {
		s.errs = append(s.errs, err)
	}
	return err == nil
}

// ask calls every function about the peer.
func (s *side) ask() {
	s.valid = s.ClientCertValid()
	s.ids = s.ClientCertIDs()
	s.peer = s.Peer()
	if len(s.peer.Chain) > 0 {
		s.names, _ = s.peer.Chain[0].Names()
		s.parsed, _ = sslfilter.ParseCertificate(s.peer.Chain[0].DER)
	}
	if s.HandshakeDone() && s.Filter.Err() == nil {
		var err error
		s.exported, err = s.ExportKeyingMaterial("EXPORTER-test", nil, 32)
		s.note(err)
	}
}

// whole reports whether nothing failed on this side.
func (s *side) whole() bool { return len(s.errs) == 0 && s.Filter.Err() == nil }

// A connection is as it would be without a failure, or it reports an error. No byte is
// lost, changed or sent unencrypted, a truncated end is not mistaken for an orderly one,
// and an invalid certificate never becomes valid.
func TestConnection(t *testing.T) {
	server := sslfilter.Options{
		Chain: testkit.PKI("chain.pem"), Key: testkit.PKI("server-inter.key"), CACrt: testkit.PKI("root.crt"), CACRL: testkit.PKI("crl.pem"), ClientCert: true, ALPN: []string{"one"},
	}
	client := sslfilter.Options{
		Client: true, Crt: testkit.PKI("client-ec.crt"), Key: testkit.PKI("client-ec.key"), CACrt: testkit.PKI("root.crt"), ServerName: "localhost", ALPN: []string{"one"},
	}
	change := func(o sslfilter.Options, f func(o *sslfilter.Options)) sslfilter.Options { f(&o); return o }
	as := func(name string) sslfilter.Options {
		return change(client, func(o *sslfilter.Options) { o.Crt, o.Key = testkit.PKI(name+".crt"), testkit.PKI(name+".key") })
	}
	for _, c := range []struct {
		name           string
		server, client sslfilter.Options
	}{
		{"good client", server, client},
		{"unknown client", server, as("client-unknown")},
		{"revoked client", server, as("client-revoked")},
		{"revoked client, enforced", change(server, func(o *sslfilter.Options) { o.RequireValidClientCert = true }), as("client-revoked")},
		{"stapled response", change(server, func(o *sslfilter.Options) {
			staple, err := sslfilter.NewStaple(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server-inter.crt"), Issuer: testkit.Cert(t, "inter.crt"), Signer: testkit.CA(t, "inter")}))
			require.NoError(t, err)
			o.Staple = staple
		}), change(client, func(o *sslfilter.Options) { o.OCSPCheck = sslfilter.OCSPRequire })},
		{"client with two identities, server with two", change(server, func(o *sslfilter.Options) {
			o.Identities = []sslfilter.Identity{{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key")}}
		}), change(as("client-self"), func(o *sslfilter.Options) {
			o.Identities = []sslfilter.Identity{{Crt: testkit.PKI("client-ec.crt"), Key: testkit.PKI("client-ec.key")}}
		})},
		{"key logs", change(server, func(o *sslfilter.Options) { o.KeyLog = io.Discard }), change(client, func(o *sslfilter.Options) { o.KeyLog = io.Discard })},
		{"client that gets sessions", change(server, func(o *sslfilter.Options) { o.ResumeClientCert = true }), client},
		{"server of another name", server, change(client, func(o *sslfilter.Options) { o.ServerName = "other.test" })},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, highest := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
				t.Run(highest.String(), func(t *testing.T) {
					newCtx := func(o sslfilter.Options) *sslfilter.Ctx {
						o.MaxVersion = highest
						ctx, err := sslfilter.NewCtx(o)
						require.NoError(t, err)
						t.Cleanup(func() { ctx.Close() })
						return ctx
					}
					connection{server: newCtx(c.server), client: newCtx(c.client), tls13: highest == sslfilter.VersionTLS13}.sweep(t)
				})
			}
		})
	}
}

// A server whose context is chosen by the ClientHello behaves like one with that context, or
// it fails. The function that chooses sees the whole ClientHello or is not called.
func TestChooser(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		alpn := func(o *sslfilter.Options) { o.ALPN = []string{"one"} }
		server, client := testkit.Ctx(t, testkit.Asking(testkit.UpTo(v), alpn)), testkit.Ctx(t, testkit.Showing("client-ec.crt", "client-ec.key", testkit.UpTo(v), alpn))
		var want *sslfilter.ClientHello
		choose := func(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
			seen := *hello
			seen.Raw, seen.SessionIDs = nil, nil // random
			if want == nil {
				want = &seen
			}
			require.Equal(t, want, &seen)
			return server, nil
		}
		connection{server: server, client: client, choose: choose, tls13: v == sslfilter.VersionTLS13}.sweep(t)
	})
}

// A client that offers a session resumes it, or it does a full handshake, or it fails. Its
// verdict is the same.
func TestSession(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		server := testkit.Ctx(t, testkit.ServerOf("server-inter"))
		client := testkit.Ctx(t, testkit.Client(testkit.UpTo(v), func(o *sslfilter.Options) {
			o.IgnoreVerifyErrors = []sslfilter.VerifyCode{sslfilter.VerifyHostnameMismatch}
		}))
		p := testkit.PairOf(t, server, client)
		require.NoError(t, p.Handshake())
		require.NoError(t, p.Server.Send([]byte("tickets")))
		p.Transfer()
		list := p.Client.Sessions()
		require.NotEmpty(t, list)
		connection{server: server, client: client, session: list[0], tls13: v == sslfilter.VersionTLS13}.sweep(t)

		data, err := list[0].MarshalBinary()
		require.NoError(t, err)
		sweep(t, func(t *testing.T, heal func() int) {
			var s sslfilter.Session
			err := s.UnmarshalBinary(data)
			heal()
			if err == nil {
				require.Equal(t, list[0].String(), s.String())
			}
		})
	})
}

// A server that verifies the certificate of a resumed client again resumes the session, or it
// does a full handshake, or it fails. Its verdict is the same, and a client that has been
// revoked since its first visit is refused.
func TestServerSession(t *testing.T) {
	for name, stored := range map[string]bool{"tickets": false, "stored": true} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
				keys, err := sslfilter.NewTicketKeys()
				require.NoError(t, err)
				server := func(serial int64) *sslfilter.Ctx {
					return testkit.Ctx(t, testkit.Requiring(func(o *sslfilter.Options) {
						o.ResumeClientCert, o.StatefulSessions, o.TicketKeys, o.CACRLMem = true, stored, keys, testkit.CRL(t, serial)
					}))
				}
				valid, revoking := server(0x7000), server(testkit.Cert(t, "client-inter.crt").SerialNumber.Int64())
				client := testkit.Ctx(t, testkit.Showing("client-inter-chain.pem", "client-inter.key", testkit.UpTo(v)))
				p := testkit.PairOf(t, valid, client)
				require.NoError(t, p.Handshake())
				require.NoError(t, p.Server.Send([]byte("tickets")))
				p.Transfer()
				list := p.Client.Sessions()
				require.NotEmpty(t, list)
				c := connection{server: valid, client: client, session: list[len(list)-1], stored: p.Server.NewSessions(), tls13: v == sslfilter.VersionTLS13}
				require.Equal(t, stored, len(c.stored) > 0)
				c.sweep(t)

				texts := make(said)
				defer texts.log(t)
				sweep(t, func(t *testing.T, heal func() int) {
					f, err := client.NewFilter()
					if err != nil {
						texts.errors(err)
						return
					}
					defer f.Close()
					g, err := revoking.NewFilter()
					if err != nil {
						texts.errors(err)
						return
					}
					defer g.Close()
					require.NoError(t, f.SetSession(c.session))
					for _, s := range c.stored {
						require.NoError(t, g.OfferSession(s.ID, s.Data))
					}
					testkit.Join(g, f).Handshake()
					heal()
					texts.errors(g.Err())
					require.False(t, g.HandshakeDone() || g.ClientCertValid() || g.Peer().Valid)
				})
			})
		})
	}
}

// Ticket keys, and a context that uses them, are complete or an error. After an error the keys
// are as before.
func TestTicketKeys(t *testing.T) {
	one, two := [80]byte{1}, [80]byte{2}
	server := testkit.Requiring(func(o *sslfilter.Options) { o.ResumeClientCert, o.StatefulSessions = true, true })
	texts := make(said)
	defer texts.log(t)
	sweep(t, func(t *testing.T, heal func() int) {
		keys, err := sslfilter.NewTicketKeys()
		if err != nil {
			texts.errors(err)
			return
		}
		o := server
		o.TicketKeys = keys
		ctx, err := sslfilter.NewCtx(o)
		if err != nil {
			texts.errors(err)
			return
		}
		defer ctx.Close()
		texts.errors(keys.Set(one, two), keys.Set(two))
	})
}

// A client that checks the stapled response never accepts a server with a bad one. The
// response has expired, is missing although the certificate demands one, says "revoked"
// after it has said "good", or is signed by a responder whose certificate is on a CRL. The
// server is crypto/tls.
func TestOCSP(t *testing.T) {
	cert := testkit.Cert(t, "server.crt")
	feature := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}
	demanding := testkit.Mint(t, x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, ExtraExtensions: []pkix.Extension{feature}})
	staples := func(o testkit.OCSP) *tls.Config {
		return testkit.GoServer(t, func(g *tls.Config) { g.Certificates[0].OCSPStaple = testkit.OCSPResponse(t, o) })
	}
	key := testkit.Key(t, "client-ec.key")
	responder, err := x509.ParseCertificate(testkit.DER(t, testkit.MintFrom(t, testkit.CA(t, "root"), x509.Certificate{
		SerialNumber: big.NewInt(0x0c59), Subject: pkix.Name{CommonName: "responder"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}, key.Public())))
	require.NoError(t, err)
	ctx := testkit.Ctx(t, testkit.Client(func(o *sslfilter.Options) {
		o.OCSPCheck, o.CRLCheck, o.CRLMem = sslfilter.OCSPIfStapled, sslfilter.CRLCheckLeaf, [][]byte{testkit.CRL(t, 0x0c59)}
	}))
	for name, server := range map[string]*tls.Config{
		"expired":            staples(testkit.OCSP{Cert: cert, From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-24 * time.Hour)}),
		"revoked responder":  staples(testkit.OCSP{Cert: cert, Signer: testkit.Issuer{Cert: responder, Key: key}, Certs: [][]byte{responder.Raw}}),
		"good, then revoked": staples(testkit.OCSP{Cert: cert, Then: &testkit.OCSP{Cert: cert, Status: 1}}),
		"demanded, not there": testkit.GoServer(t, func(g *tls.Config) {
			pair, err := tls.X509KeyPair(demanding, testkit.PKIBytes(t, "client.key"))
			require.NoError(t, err)
			g.Certificates = []tls.Certificate{pair}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			texts := make(said)
			defer texts.log(t)
			sweep(t, func(t *testing.T, heal func() int) {
				f, err := ctx.NewFilter()
				if err != nil {
					texts.errors(err)
					return
				}
				defer f.Close()
				testkit.TalkToGo(t, f, true, server)
				heal()
				texts.errors(f.Err())
				require.Error(t, f.Err())
				require.False(t, f.ClientCertValid())
				require.False(t, f.Peer().Valid)
			})
		})
	}
}

// exemptEnds returns both ends of a connection. Their allocations do not fail.
func exemptEnds(t *testing.T, server, client *sslfilter.Ctx) (g, f *sslfilter.Filter) {
	t.Helper()
	memfault.Exempt(func() {
		var err error
		f, err = client.NewFilter()
		require.NoError(t, err)
		g, err = server.NewFilter()
		require.NoError(t, err)
	})
	return g, f
}

// A client never accepts a server of another name: no allocation is left out, because one of
// them is for OpenSSL's copy of the name.
func TestVerifiedName(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		if testing.Short() && v != sslfilter.VersionTLS13 {
			t.Skip("takes seconds; OpenSSL verifies in the same way in both versions")
		}
		server := testkit.Ctx(t, testkit.Server(testkit.UpTo(v)))
		client := testkit.Ctx(t, testkit.Client(func(o *sslfilter.Options) { o.ServerName = "other.test" }))
		sweepLast(t, most, func(t *testing.T, heal func() int) {
			g, f := exemptEnds(t, server, client)
			var flight []byte
			memfault.Exempt(func() {
				require.NoError(t, f.Handshake())
				_, err := g.Receive(nil, f.Outgoing(nil))
				require.NoError(t, err)
				flight = g.Outgoing(nil)
			})
			p := testkit.Join(g, f)
			defer p.Close()
			f.Receive(nil, flight)
			heal()
			p.Transfer()
			require.Error(t, f.Err())
			require.False(t, f.HandshakeDone() || f.ClientCertValid() || f.Peer().Valid)
		})
	})
}

// A client whose new name could not be set accepts no server, although the caller ignores the
// error: OpenSSL has already forgotten the name that was set before.
func TestServerName(t *testing.T) {
	server := testkit.Ctx(t, testkit.Server())
	client := testkit.Ctx(t, testkit.Client(func(o *sslfilter.Options) { o.ServerName = "" }))
	named := testkit.Ctx(t, testkit.Client(func(o *sslfilter.Options) { o.ServerName, o.SNI = "other.test", "sent.test" }))
	texts := make(said)
	defer texts.log(t)
	for name, c := range map[string]struct {
		ctx *sslfilter.Ctx
		set func(f *sslfilter.Filter) error
	}{
		"host":         {client, func(f *sslfilter.Filter) error { return f.SetServerName("third.test") }},
		"address":      {client, func(f *sslfilter.Filter) error { return f.SetServerName("192.0.2.1") }},
		"verified":     {named, func(f *sslfilter.Filter) error { return f.SetVerifiedName("third.test") }},
		"from options": {named, (*sslfilter.Filter).Handshake},
	} {
		t.Run(name, func(t *testing.T) {
			sweep(t, func(t *testing.T, heal func() int) {
				var f, g *sslfilter.Filter
				memfault.Exempt(func() {
					var err error
					f, err = c.ctx.NewFilter()
					require.NoError(t, err)
					g, err = server.NewFilter()
					require.NoError(t, err)
					if c.ctx == client {
						require.NoError(t, f.SetServerName("other.test"))
					}
				})
				p := testkit.Join(g, f)
				defer p.Close()
				err := c.set(f)
				heal()
				texts.errors(err)
				p.Handshake()
				require.False(t, f.HandshakeDone(), "it has accepted a server of another name")
				if err != nil {
					require.Equal(t, err, f.Err())
				}
			})
		})
	}
}

// The protocols that a client could not set are not replaced by those that were set before.
func TestALPN(t *testing.T) {
	alpn := func(o *sslfilter.Options) { o.ALPN = []string{"one", "two"} }
	server, client := testkit.Ctx(t, testkit.Server(alpn)), testkit.Ctx(t, testkit.Client(alpn))
	sweep(t, func(t *testing.T, heal func() int) {
		g, f := exemptEnds(t, server, client)
		p := testkit.Join(g, f)
		defer p.Close()
		err := f.SetALPN("two")
		heal()
		p.Handshake()
		if err != nil {
			require.Equal(t, err, f.Err())
		}
		require.Equal(t, err == nil, f.HandshakeDone())
		require.True(t, err != nil || f.ALPN() == "two")
	})
}

// connection is a scenario: a handshake, data in both directions, a key update, more
// data, and an orderly end.
type connection struct {
	server, client *sslfilter.Ctx
	choose         func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) // chooses server, if set
	tls13          bool
	session        *sslfilter.Session        // offered by the client, if set
	stored         []sslfilter.StoredSession // offered to the server
}

func (c connection) sweep(t *testing.T) {
	texts := make(said)
	defer texts.log(t)
	var want *[2]side
	small, large := marked(100), marked(40_000)
	sweep(t, func(t *testing.T, heal func() int) {
		f, err := c.client.NewFilter()
		if err != nil {
			texts.errors(err)
			return
		}
		defer f.Close()
		g, err := c.server.NewFilter()
		if err == nil && c.choose != nil {
			g.Close()
			g = sslfilter.NewServerFilter(c.choose)
			err = g.Err()
		}
		if err != nil {
			texts.errors(err)
			return
		}
		defer g.Close()
		require.NoError(t, f.SetSession(c.session))
		for _, s := range c.stored {
			require.NoError(t, g.OfferSession(s.ID, s.Data))
		}
		p := testkit.Join(g, f)
		p.Record = true
		sides := [2]side{{Side: &p.Client}, {Side: &p.Server}}
		client, server := &sides[0], &sides[1]
		client.note(p.Client.Handshake())
		client.send(small)
		p.Transfer()
		for i := range sides {
			sides[i].ask()
			sides[i].send(large)
		}
		p.Transfer()
		for i := range sides {
			if c.tls13 && sides[i].HandshakeDone() {
				sides[i].note(sides[i].KeyUpdate(i == 0))
			}
			p.Transfer()
			sides[i].send(small)
		}
		p.Transfer()
		for i := range sides {
			sides[i].closed = sides[i].note(sides[i].CloseWrite())
			p.Transfer()
		}
		if client.EOF() && server.EOF() {
			_, err := client.Detach()
			client.note(err)
			p.Transfer()
		}
		p.Client.Sessions()
		for _, s := range p.Server.NewSessions() {
			require.True(t, len(s.ID) == 32 && len(s.Data) > 80 && s.Expires.After(time.Now()), "a session that is not whole")
		}
		failed := heal()
		if want == nil {
			require.Zero(t, failed)
			require.Equal(t, c.session != nil, p.Client.Resumed())
			want = &sides
		}
		for i := range sides {
			sides[i].done, sides[i].version, sides[i].alpn = sides[i].HandshakeDone(), sides[i].Version(), sides[i].ALPN()
		}
		for i := range sides {
			s, other := &sides[i], &sides[1-i]
			texts.errors(s.errs...)
			texts.errors(s.Filter.Err())
			s.hold(t, &want[i], other)
		}
		if client.whole() && server.whole() {
			require.True(t, client.EOF() && server.EOF() && client.HandshakeDone() && server.HandshakeDone())
			require.Equal(t, client.exported, server.exported)
		}
		for _, s := range sides {
			require.NotContains(t, string(s.Raw), string(small[:40]))
		}
	})
}

// hold requires that s is equal to want, or has failed without harm.
func (s *side) hold(t *testing.T, want, other *side) {
	t.Helper()
	require.True(t, bytes.HasPrefix(other.sent, s.Got), "the received data is what was sent")
	if s.EOF() {
		require.True(t, other.closed)
		require.Equal(t, len(other.sent), len(s.Got), "an orderly end before all data has arrived")
	}
	if s.done {
		require.NotEqual(t, "(NONE)", s.Cipher())
		require.NotContains(t, s.Cipher(), "NULL")
		require.Equal(t, want.version, s.version)
		require.Equal(t, want.alpn, s.alpn)
	} else {
		require.False(t, s.valid)
	}
	require.False(t, s.valid && !want.valid, "an invalid certificate became valid")
	require.False(t, s.peer.Valid && !want.valid, "an invalid certificate became valid")
	require.False(t, s.done && !want.done, "the handshake should have been rejected")
	if s.names != nil {
		require.Equal(t, want.names, s.names)
	}
	if s.parsed != nil {
		require.Equal(t, want.parsed, s.parsed)
	}
	if s.peer.Valid {
		require.Equal(t, want.peer, s.peer)
	}
	if s.valid && len(s.ids) > 0 {
		require.Equal(t, want.ids, s.ids)
	}
	require.False(t, s.valid && s.whole() && len(s.ids) == 0, "valid without a certificate")
	for _, id := range s.ids { // if there is no memory for the key or the extensions of a certificate, it has more errors
		known := slices.ContainsFunc(want.ids, func(w sslfilter.CertID) bool { return w.Subject == id.Subject && bytes.Equal(w.Serial, id.Serial) })
		// a side that rejects at the first error has not verified the whole chain without that error
		require.True(t, known || id.Depth > 0 && id.Subject != "" && len(id.Serial) > 0, "unknown certificate %+v", id)
	}
	if s.whole() && s.done {
		require.NotEmpty(t, s.exported)
	}
	for _, err := range append(s.errs, s.Filter.Err()) {
		var openssl *sslfilter.Error
		require.True(t, err == nil || errors.Is(err, io.EOF) || errors.As(err, &openssl), "%T: %[1]v", err)
		if openssl != nil && openssl.Peer != nil {
			require.False(t, openssl.Peer.Valid || openssl.Peer.KeyProved, "a refused peer")
			require.True(t, openssl.Peer.Exists)
			require.True(t, len(openssl.Peer.Sent) == 0 || slices.EqualFunc(openssl.Peer.Sent, want.peer.Sent, bytes.Equal), "not the certificates that were sent")
		}
	}
}
