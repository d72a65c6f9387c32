package sslfilter_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
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

// twoIdentities returns the options of a server with an RSA and an EC certificate.
func twoIdentities(t testing.TB, rsa, ec []string) sslfilter.Options {
	o := named(t, rsa)
	crt := testkit.MintFrom(t, testkit.CA(t, "root"), x509.Certificate{DNSNames: ec}, testkit.Key(t, "client-ec.key").Public())
	o.Identities = []sslfilter.Identity{{CrtMem: crt, Key: testkit.PKI("client-ec.key")}}
	return o
}

// If a context has several identities, a client may get the certificate of any of them.
func TestNameMapIdentities(t *testing.T) {
	m, err := sslfilter.NewNameMap(nil, testkit.Ctx(t, twoIdentities(t,
		[]string{"a.example", "only-rsa.example", "Both.example", "*.wild.example", "*.all.example"},
		[]string{"both.example", "only-ec.example", "www.wild.example", "*.all.example"})))
	require.NoError(t, err)
	for name, found := range map[string]bool{
		"both.example": true, "www.wild.example": true, "x.all.example": true,
		"a.example": false, "only-rsa.example": false, "only-ec.example": false, "x.wild.example": false,
	} {
		_, err := m.Choose(&sslfilter.ClientHello{ServerName: name})
		require.Equal(t, found, err == nil, name)
	}
}

// Names that no host has match nothing. A client verifies ASCII names (RFC 9525), and folds
// nothing but A to Z.
func TestNameMapOddNames(t *testing.T) {
	odd := func(names ...string) *sslfilter.Ctx {
		var list []asn1.RawValue
		for _, name := range names {
			list = append(list, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)})
		}
		body, err := asn1.Marshal(list)
		require.NoError(t, err)
		extension := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: body}
		o := testkit.Server()
		o.Crt, o.CrtMem = "", testkit.MintFrom(t, testkit.CA(t, "root"), x509.Certificate{ExtraExtensions: []pkix.Extension{extension}}, testkit.Key(t, "server.key").Public())
		return testkit.Ctx(t, o)
	}
	none := []string{"", ".", "*.", "*..", "dot.example.", ".lead.example", "two..example", "*..two.example", "caf\xc3\xa9.example", "caf\xe9.example", "\u212a.example", "*"}
	_, err := sslfilter.NewNameMap(nil, odd(none...))
	testkit.As[*sslfilter.UsageError](t, err)

	ctx, def := odd(append(none, "K.example", "*.K.example")...), withNames(t, "def.example")
	m, err := sslfilter.NewNameMap(def, ctx)
	require.NoError(t, err)
	for name, want := range map[string]*sslfilter.Ctx{
		"k.example": ctx, "K.example.": ctx, "x.k.example": ctx,
		"": def, ".": def, "..": def, "x.": def, "dot.example": def, "dot.example.": def, "k.example..": def, ".k.example": def,
		"\u212a.example": def, "x.\u212a.example": def, "caf\xc3\xa9.example": def, "caf\xe9.example": def, "caf\xc3\x89.example": def, "\xff.k.example": def,
	} {
		got, err := m.Choose(&sslfilter.ClientHello{ServerName: name})
		require.NoError(t, err)
		require.True(t, want == got, "%q", name)
	}
}

func TestNameMapErrors(t *testing.T) {
	good, nameless := withNames(t, "a.example"), withNames(t)
	closed := testkit.Ctx(t, testkit.Server())
	closed.Close()
	client := testkit.Ctx(t, testkit.Client())
	disjoint := testkit.Ctx(t, twoIdentities(t, []string{"a.example"}, []string{"b.example", "*.a.example"}))
	for text, more := range map[string][]*sslfilter.Ctx{
		"context 2 of more is nil":                                                       {good, nil},
		"context 1 of more is the context of a client":                                   {client},
		"context 1 of more is closed":                                                    {closed, good},
		"the certificate of context 2 of more has no DNS name":                           {good, nameless},
		"there is no DNS name for which all certificates of context 1 of more are valid": {disjoint},
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
