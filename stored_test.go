package sslfilter_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// shelf is a store of sessions for tests.
type shelf map[string][]byte

// guest is a client of this library that keeps the last session it was given. (crypto/tls does not
// resume by an id in TLS 1.2.)
type guest struct {
	ctx     *sslfilter.Ctx
	session *sslfilter.Session
}

func newGuest(t *testing.T, highest sslfilter.Version, crt, key string) *guest {
	t.Helper()
	return &guest{ctx: testkit.Ctx(t, testkit.Showing(crt, key, testkit.UpTo(highest)))}
}

// visit connects a client to a server of ctx, which finds sessions in the shelf and stores new ones
// there. It must succeed.
func (s shelf) visit(t *testing.T, g *guest, ctx *sslfilter.Ctx) *sslfilter.Filter {
	t.Helper()
	f, err := s.meet(t, g, ctx)
	require.NoError(t, err)
	return f
}

// meet is visit with a handshake that may fail.
func (s shelf) meet(t *testing.T, g *guest, ctx *sslfilter.Ctx) (f *sslfilter.Filter, err error) {
	t.Helper()
	f = sslfilter.NewServerFilter(func(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		for _, id := range ctx.StoredIDs(hello) {
			if data := s[string(id)]; data != nil {
				require.NoError(t, f.OfferSession(id, data))
			}
		}
		return ctx, nil
	})
	t.Cleanup(func() { f.Close() })
	require.Nil(t, f.NewSessions())
	client := testkit.FilterOf(t, g.ctx)
	if g.session != nil {
		require.NoError(t, client.SetSession(g.session))
	}
	p := testkit.Join(f, client)
	if err := p.Handshake(); err != nil {
		require.Nil(t, f.NewSessions())
		return f, err
	}
	require.NoError(t, client.Send([]byte("ping")))
	p.Transfer()
	require.Equal(t, "ping", string(p.Server.Got))
	require.Equal(t, client.Resumed(), f.Resumed())
	for _, session := range client.Sessions() {
		g.session = session
	}
	for _, stored := range f.NewSessions() {
		require.Len(t, stored.ID, 32)
		require.WithinDuration(t, time.Now().Add(2*time.Hour), stored.Expires, time.Minute+testkit.Patience)
		require.False(t, bytes.Contains(stored.Data, []byte("localhost")), "the data are encrypted")
		s[string(stored.ID)] = stored.Data
	}
	require.Nil(t, f.NewSessions())
	return f, nil
}

func stateful(k *sslfilter.TicketKeys) testkit.Change {
	return func(o *sslfilter.Options) { o.StatefulSessions, o.TicketKeys = true, k }
}

// A stored session is resumed as long as it is offered, also by another context with the same keys.
// Anything else in a store leads to a full handshake.
func TestStoredSessions(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		k := ticketKeys(t)
		ctx, second := testkit.Ctx(t, testkit.Server(stateful(k))), testkit.Ctx(t, testkit.Server(stateful(k)))
		s, v := shelf{}, newGuest(t, highest, "", "")
		require.False(t, s.visit(t, v, ctx).Resumed())
		require.Len(t, s, map[sslfilter.Version]int{sslfilter.VersionTLS12: 1, sslfilter.VersionTLS13: 2}[highest])
		first := v.session
		require.True(t, s.visit(t, v, ctx).Resumed())
		require.True(t, s.visit(t, v, second).Resumed(), "after a reload")
		v.session = first
		require.True(t, s.visit(t, v, ctx).Resumed(), "the same session again")

		for name, data := range map[string]func(id string) []byte{
			"deleted":         func(string) []byte { return nil },
			"one byte":        func(string) []byte { return []byte{1} },
			"cut":             func(id string) []byte { return s[id][:len(s[id])-1] },
			"longer":          func(id string) []byte { return append(bytes.Clone(s[id]), 0) },
			"random":          func(id string) []byte { return testkit.Bytes(len(s[id]), 9) },
			"without content": func(id string) []byte { return append(bytes.Clone(s[id][:32]), s[id][len(s[id])-32:]...) },
			"first byte":      func(id string) []byte { return flipped(s[id], 0) },
			"IV":              func(id string) []byte { return flipped(s[id], 16) },
			"content":         func(id string) []byte { return flipped(s[id], 40) },
			"MAC":             func(id string) []byte { return flipped(s[id], len(s[id])-1) },
			"of another client": func(string) []byte {
				other, o := shelf{}, newGuest(t, highest, "", "")
				other.visit(t, o, ctx)
				for _, data := range other {
					return data
				}
				return nil
			},
		} {
			v.session = first
			lying := shelf{}
			for id := range s {
				lying[id] = data(id)
			}
			refused := lying.visit(t, v, ctx).State()
			require.False(t, refused.Resumed, name)
			want := sslfilter.NotResumedUnknownKey
			if name == "deleted" {
				want = sslfilter.NotResumedNotStored
			}
			require.Equal(t, want, refused.NotResumed, name)
			require.True(t, lying.visit(t, v, ctx).Resumed(), name)
		}
		v.session = first
		require.False(t, maps.Clone(s).visit(t, v, testkit.Ctx(t, testkit.Server(stateful(ticketKeys(t))))).Resumed(), "other keys")
		v.session = first
		require.False(t, maps.Clone(s).visit(t, v, testkit.Ctx(t, testkit.ServerOf("server-inter", stateful(k)))).Resumed(), "another certificate")
		v.session = first
		require.False(t, maps.Clone(s).visit(t, v, testkit.Ctx(t, testkit.Server(sharing(k)))).Resumed(), "a context with tickets")
		v.session = first
		require.True(t, s.visit(t, v, ctx).Resumed())
	})
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// Stored sessions carry client certificates, of any size, which are verified again.
func TestStoredSessionsOfClients(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for crt, key := range map[string]string{"client.crt": "client.key", "client-inter-chain.pem": "client-inter.key"} {
			if _, err := os.Stat(testkit.PKI(key)); err != nil {
				key = "client.key"
			}
			file := testkit.TempFile(t, "crl.pem", testkit.CRL(t, 0x7000))
			ctx := testkit.Ctx(t, testkit.Requiring(stateful(ticketKeys(t)), func(o *sslfilter.Options) { o.ResumeClientCert, o.CACRL = true, file }))
			s, v := shelf{}, newGuest(t, highest, crt, key)
			full := s.visit(t, v, ctx)
			require.False(t, full.Resumed())
			again := s.visit(t, v, ctx)
			require.True(t, again.Resumed())
			require.Equal(t, ask(full), ask(again))

			require.NoError(t, os.WriteFile(file, testkit.CRL(t, testkit.Cert(t, crt).SerialNumber.Int64()), 0o600))
			f, client := testkit.FilterOf(t, ctx), testkit.FilterOf(t, v.ctx)
			require.NoError(t, client.SetSession(v.session))
			for id, data := range s {
				if f.OfferSession([]byte(id), data) != nil {
					break
				}
			}
			require.Error(t, testkit.Join(f, client).Handshake())
			require.False(t, f.ClientCertValid())
		}
	})
}

// A server reads the ClientHello itself, and offers the session to a Filter of its context.
func TestStoredSessionsWithReadClientHello(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Server(stateful(nil)))
	hello := testkit.Filter(t, testkit.Client())
	require.NoError(t, hello.Handshake())
	parsed, err := sslfilter.ReadClientHello(hello.Outgoing(nil))
	require.NoError(t, err)
	f := testkit.FilterOf(t, ctx)
	for _, id := range parsed.SessionIDs {
		require.NoError(t, f.OfferSession(id, []byte("not a session")))
	}
	p := testkit.Join(f, testkit.Filter(t, testkit.Client()))
	require.NoError(t, p.Handshake())
	require.Len(t, f.NewSessions(), 2)
	testkit.As[*sslfilter.UsageError](t, f.OfferSession([]byte{1}, []byte{1}))
}

func TestStoredSessionsErrors(t *testing.T) {
	for text, o := range map[string]sslfilter.Options{
		"is for servers, and Client is set":                            testkit.Client(stateful(nil)),
		"is given, and NumTickets -1 means that no session is resumed": testkit.Server(stateful(nil), func(o *sslfilter.Options) { o.NumTickets = -1 }),
		"resumes sessions only with ResumeClientCert":                  testkit.Asking(stateful(nil)),
	} {
		require.ErrorContains(t, refuse(t, o, "StatefulSessions", ""), text)
	}
	id := make([]byte, 32)
	testkit.As[*sslfilter.UsageError](t, testkit.Filter(t, testkit.Server()).OfferSession(id, id))
	testkit.As[*sslfilter.UsageError](t, testkit.Filter(t, testkit.Client()).OfferSession(id, id))
	f := testkit.Filter(t, testkit.Server(stateful(nil)))
	testkit.As[*sslfilter.UsageError](t, f.OfferSession(nil, id))
	testkit.As[*sslfilter.UsageError](t, f.OfferSession(make([]byte, 33), id))
	testkit.As[*sslfilter.UsageError](t, f.OfferSession(id, nil))
	testkit.As[*sslfilter.UsageError](t, f.OfferSession(id, make([]byte, 1<<20)))
	for range 4 {
		require.NoError(t, f.OfferSession(id, id))
	}
	testkit.As[*sslfilter.UsageError](t, f.OfferSession(id, id))
}

// A session is not resumed if the security level excludes its cipher suite, as in a full handshake:
// in TLS 1.2 the suite of the session would be used again. (At level 3 and above, OpenSSL accepts no
// tickets in TLS 1.2, so only stored sessions are concerned.)
func TestStoredSessionsSecurityLevel(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader) // level 4 needs 192 bits
	require.NoError(t, err)
	crt := testkit.MintFrom(t, testkit.Issuer{Key: key}, x509.Certificate{DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}, key.Public())
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	k := ticketKeys(t)
	server := func(stored bool, suites string, level int) *sslfilter.Ctx {
		return testkit.Ctx(t, sslfilter.Options{CrtMem: crt, KeyMem: testkit.PEM("PRIVATE KEY", der), StatefulSessions: stored, TicketKeys: k, Groups: "P-384",
			Cipher: fmt.Sprintf("%s:@SECLEVEL=%d", suites, level)})
	}
	const weak, both = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
	for _, c := range []struct {
		stored        bool
		first, second string
		level, after  int
		resumes       bool
	}{
		{true, weak, both, 1, 1, true},
		{true, weak, both, 1, 3, true},
		{true, weak, both, 1, 4, false},
		{true, both, both, 4, 4, true},
		{false, weak, both, 1, 2, true},
		{false, weak, both, 1, 3, false},
		{false, weak, both, 1, 4, false},
	} {
		g := &guest{ctx: testkit.Ctx(t, testkit.Client(testkit.TLS12, testkit.Cipher(both), func(o *sslfilter.Options) { o.CACrtMem = [][]byte{crt} }))}
		s := shelf{}
		require.False(t, s.visit(t, g, server(c.stored, c.first, c.level)).Resumed())
		f := s.visit(t, g, server(c.stored, c.second, c.after))
		require.Equal(t, c.resumes, f.Resumed(), "%+v: %v", c, f.State())
		if c.after == 4 {
			require.Equal(t, "ECDHE-ECDSA-AES256-GCM-SHA384", f.Cipher())
		}
		if c.stored && !c.resumes {
			require.Equal(t, sslfilter.NotResumedCipher, f.State().NotResumed)
		}
	}
}

// The MAC keys of a stored session and of a ticket differ, even with the same ticket key, so that
// neither can be made from the other.
func TestStoredSessionsAreNotTickets(t *testing.T) {
	key := ticketKey("one")
	ctx := testkit.Ctx(t, testkit.Server(stateful(ticketKeys(t, key))))
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	s := shelf{}
	s.visit(t, newGuest(t, sslfilter.VersionTLS13, "", ""), ctx)
	require.NotEmpty(t, s)
	for id, data := range s {
		n := len(data) - sha256.Size
		require.Equal(t, key[:16], data[:16])
		require.NotEqual(t, mac(key[16:48], data[:n], []byte(id)), data[n:])
		require.Equal(t, mac(mac(key[16:48], []byte("sslfilter: stored session, 1")), data[:n], []byte(id)), data[n:])
	}
}

// Arbitrary data of a store never breaks a handshake.
func FuzzStoredSession(f *testing.F) {
	k := ticketKeys(f, ticketKey("one"))
	ctx, err := sslfilter.NewCtx(testkit.Server(stateful(k)))
	require.NoError(f, err)
	f.Cleanup(func() { ctx.Close() })
	f.Add([]byte("one............."))
	f.Fuzz(func(t *testing.T, data []byte) {
		client := testkit.Filter(t, testkit.Client())
		require.NoError(t, client.Handshake())
		var server *sslfilter.Filter
		server = sslfilter.NewServerFilter(func(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
			for _, id := range hello.SessionIDs {
				server.OfferSession(id, data)
			}
			return ctx, nil
		})
		t.Cleanup(func() { server.Close() })
		require.NoError(t, testkit.Join(server, client).Handshake())
		require.False(t, server.Resumed())
	})
}
