package sslfilter_test

import (
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// withNames returns the context of a server whose certificate has these DNS names.
func withNames(t testing.TB, names ...string) *sslfilter.Ctx {
	return testkit.Ctx(t, named(t, names, "127.0.0.1"))
}

func TestNameMap(t *testing.T) {
	a, b := withNames(t, "a.example", "WWW.A.example", "shared.example"), withNames(t, "*.b.example", "shared.example")
	c, def := withNames(t, "mail.b.example", "*.a.example", "*"), withNames(t, "def.example", "mail.b.example", "*.def.example")
	m, err := sslfilter.NewNameMap(def, a, b, c)
	require.NoError(t, err)
	for name, want := range map[string]*sslfilter.Ctx{
		"a.example": a, "A.Example": a, "a.example.": a, "www.a.example": a, "shared.example": a,
		"x.b.example": b, "X.B.EXAMPLE": b, "mail.b.example": c, "x.a.example": c,
		"def.example": def, "x.def.example": def,
		"b.example": def, "x.y.b.example": def, ".b.example": def, "": def, "other": def, "*": def, "*.b.example": b, "127.0.0.1": def, ".": def,
	} {
		got, err := m.Choose(&sslfilter.ClientHello{ServerName: name})
		require.NoError(t, err)
		require.True(t, want == got, name)
	}

	m, err = sslfilter.NewNameMap(nil, a)
	require.NoError(t, err)
	got, err := m.Choose(&sslfilter.ClientHello{ServerName: "a.example"})
	require.NoError(t, err)
	require.True(t, got == a)
	for _, name := range []string{"", "other.example"} {
		got, err = m.Choose(&sslfilter.ClientHello{ServerName: name})
		require.Nil(t, got)
		require.Equal(t, name, testkit.As[*sslfilter.ServerNameError](t, err).ServerName)
	}
	_, err = new(sslfilter.NameMap).Choose(&sslfilter.ClientHello{ServerName: "a.example"})
	testkit.As[*sslfilter.ServerNameError](t, err)
}

// If a context has several identities, a client may get the certificate of any of them.
func TestNameMapIdentities(t *testing.T) {
	o := named(t, []string{"a.example", "only-rsa.example", "Both.example"})
	ec := testkit.MintFrom(t, testkit.CA(t, "root"), x509.Certificate{DNSNames: []string{"both.example", "only-ec.example"}}, testkit.Key(t, "client-ec.key").Public())
	o.Identities = []sslfilter.Identity{{CrtMem: ec, Key: testkit.PKI("client-ec.key")}}
	m, err := sslfilter.NewNameMap(nil, testkit.Ctx(t, o))
	require.NoError(t, err)
	for name, found := range map[string]bool{"both.example": true, "a.example": false, "only-rsa.example": false, "only-ec.example": false} {
		_, err := m.Choose(&sslfilter.ClientHello{ServerName: name})
		require.Equal(t, found, err == nil, name)
	}
}

func TestNameMapErrors(t *testing.T) {
	good, nameless := withNames(t, "a.example"), withNames(t)
	closed := testkit.Ctx(t, testkit.Server())
	closed.Close()
	client := testkit.Ctx(t, testkit.Client())
	for text, more := range map[string][]*sslfilter.Ctx{
		"context 2 of more is nil":                             {good, nil},
		"context 1 of more is the context of a client":         {client},
		"context 1 of more is closed":                          {closed, good},
		"the certificate of context 2 of more has no DNS name": {good, nameless},
	} {
		_, err := sslfilter.NewNameMap(nil, more...)
		require.Equal(t, text, testkit.As[*sslfilter.UsageError](t, err).Msg)
	}
	for _, def := range []*sslfilter.Ctx{client, closed} {
		_, err := sslfilter.NewNameMap(def)
		require.Contains(t, testkit.As[*sslfilter.UsageError](t, err).Msg, "def is")
	}
	_, err := sslfilter.NewNameMap(nameless, good)
	require.NoError(t, err, "def needs no name")
}

// Each name gets its own certificate, which the client verifies. An unknown name is refused
// without a default, and a context that was closed since is reported.
func TestNameMapHandshake(t *testing.T) {
	a, b := withNames(t, "a.example"), withNames(t, "*.b.example")
	m, err := sslfilter.NewNameMap(nil, a, b)
	require.NoError(t, err)
	connect := func(name string) *testkit.Pair {
		p := testkit.Join(choosing(t, m.Choose), testkit.Filter(t, testkit.Client(testkit.ServerName(name))))
		p.Handshake()
		return p
	}
	for _, name := range []string{"a.example", "x.b.example", "X.B.example"} {
		require.True(t, connect(name).Client.HandshakeDone(), name)
	}
	require.Equal(t, unrecognizedName, testkit.As[sslfilter.AlertError](t, connect("c.example").Client.Filter.Err()))
	a.Close()
	require.ErrorContains(t, connect("a.example").Server.Filter.Err(), "closed")
}
