package sslfilter_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// namesIn returns the names of a certificate in PEM form.
func namesIn(t testing.TB, cert []byte) *sslfilter.Names {
	t.Helper()
	c := sslfilter.Certificate{DER: testkit.DER(t, cert)}
	names, err := c.Names()
	require.NoError(t, err)
	return names
}

// altName returns a subjectAltName extension with these values, each of the given type of
// GENERAL_NAME and with the given bytes, as no honest CA would make it.
func altName(t testing.TB, values ...asn1.RawValue) x509.Certificate {
	t.Helper()
	for i := range values {
		values[i].Class = asn1.ClassContextSpecific
	}
	der, err := asn1.Marshal(values)
	require.NoError(t, err)
	return x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}}}
}

func commonNames(names ...string) x509.Certificate {
	var c x509.Certificate
	for _, name := range names {
		c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name})
	}
	return c
}

func TestNames(t *testing.T) {
	uri, err := url.Parse("spiffe://Example.org/ns/web")
	require.NoError(t, err)
	names := namesIn(t, testkit.Mint(t, x509.Certificate{
		Subject:        pkix.Name{CommonName: "alice", Organization: []string{"A, B"}},
		DNSNames:       []string{"A.example", "*.wild.example", "xn--bcher-kva.example"},
		EmailAddresses: []string{"Alice@Example.org", "\"a@b\"@example.org"},
		URIs:           []*url.URL{uri},
		IPAddresses:    []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")},
	}))
	root := testkit.Cert(t, "root.crt")
	require.Equal(t, &sslfilter.Names{
		Subject: `CN=alice,O=A\, B`, Issuer: root.Subject.String(), CommonNames: []string{"alice"},
		DNSNames: []string{"A.example", "*.wild.example", "xn--bcher-kva.example"}, EmailAddresses: []string{"Alice@Example.org", "\"a@b\"@example.org"},
		URIs: []string{"spiffe://Example.org/ns/web"}, IPAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
	}, names)
	_, err = new(sslfilter.Certificate).Names()
	require.Error(t, err)
}

// ParseCertificate returns what Peer has in its chain, also for a certificate that
// crypto/x509 rejects.
func TestNamesParseCertificate(t *testing.T) {
	want := testkit.Connect(t, testkit.Server(), testkit.Client()).Client.Peer().Chain[0]
	got, err := sslfilter.ParseCertificate(want.DER)
	require.NoError(t, err)
	require.Equal(t, &want, got)
	got.DER[0]++
	require.NotEqual(t, want.DER, got.DER, "it is a copy")

	negative := testkit.DER(t, testkit.Contents(t, testkit.PKI("client-serneg.crt")))
	_, err = x509.ParseCertificate(negative)
	require.Error(t, err)
	got, err = sslfilter.ParseCertificate(negative)
	require.NoError(t, err)
	require.NotEmpty(t, got.Subject)
	require.False(t, got.NotAfter.IsZero())
	for _, junk := range [][]byte{nil, {0x30}, want.DER[1:], append(slices.Clone(want.DER), 0)} {
		got, err = sslfilter.ParseCertificate(junk)
		require.Error(t, err)
		require.Nil(t, got)
	}
}

// A value that another program could read differently is left out and counted.
func TestNamesMalformed(t *testing.T) {
	raw := func(tag int, value string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(value)} }
	const mail, dns, uri, ip = 1, 2, 6, 7
	for name, c := range map[string]struct {
		cert      x509.Certificate
		malformed int
		kept      []string
	}{
		"NUL in a DNS name":    {altName(t, raw(dns, "good.example\x00.evil.example"), raw(dns, "a.example")), 1, []string{"a.example"}},
		"UTF-8 in a DNS name":  {altName(t, raw(dns, "b\u00fccher.example")), 1, nil},
		"Latin-1":              {altName(t, raw(dns, "b\xfccher.example")), 1, nil},
		"empty values":         {altName(t, raw(dns, ""), raw(mail, ""), raw(uri, ""), raw(ip, "")), 4, nil},
		"spaces":               {altName(t, raw(dns, " "), raw(mail, "a b@x"), raw(uri, "x: y")), 3, nil},
		"line breaks":          {altName(t, raw(dns, "a\nb"), raw(mail, "a\r\n@x"), raw(uri, "x:\n")), 3, nil},
		"mail without an @":    {altName(t, raw(mail, "alice"), raw(mail, "@x"), raw(mail, "a@")), 3, nil},
		"NUL in a mail":        {altName(t, raw(mail, "alice@example.org\x00.evil")), 1, nil},
		"NUL in a URI":         {altName(t, raw(uri, "spiffe://a/b\x00c")), 1, nil},
		"addresses":            {altName(t, raw(ip, "123"), raw(ip, "12345678901234567")), 2, nil},
		"two commas":           {altName(t, raw(dns, "a.example,b.example")), 1, nil},
		"not a list":           {x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: []byte{4, 1, 0}}}}, 1, nil},
		"NUL in a common name": {commonNames("good\x00evil"), 1, nil},
		"control characters":   {commonNames("a\nb", "\u0085", "ok"), 2, []string{"ok"}},
		"several common names": {commonNames("a", "b", "a"), 0, []string{"a", "b", "a"}},
		"UTF-8 common name":    {commonNames("B\u00fccher \U0001f600"), 0, []string{"B\u00fccher \U0001f600"}},
		"nothing":              {x509.Certificate{}, 0, nil},
	} {
		n := namesIn(t, testkit.Mint(t, c.cert))
		require.Equal(t, c.malformed, n.Malformed, name)
		var kept []string
		kept = append(append(append(append(kept, n.CommonNames...), n.DNSNames...), n.EmailAddresses...), n.URIs...)
		require.Equal(t, c.kept, kept, name)
		require.Empty(t, n.IPAddresses, name)
	}
	many := make([]string, 200)
	for i := range many {
		many[i] = fmt.Sprintf("n%d.example", i)
	}
	require.Equal(t, many, namesIn(t, testkit.Mint(t, x509.Certificate{DNSNames: many})).DNSNames)
}

// The separators of a distinguished name are escaped in its values.
func TestNamesEscapeSeparators(t *testing.T) {
	quoted := namesIn(t, testkit.Mint(t, commonNames("a,CN=admin+O=x\\\"\x00\n")))
	require.Equal(t, `CN=a\,CN=admin\+O=x\\\"\00\0A`, quoted.Subject)
}

// Invariant: whatever the certificate is, each name is well-formed for its type, and no C
// object is left.
func FuzzNames(f *testing.F) {
	for _, file := range []string{"client.crt", "client-nulcn.crt", "client-bmp.crt", "client-mail.crt", "client-multi.crt", "server.crt"} {
		f.Add(testkit.Cert(f, file).Raw)
	}
	f.Add(testkit.DER(f, testkit.Mint(f, x509.Certificate{EmailAddresses: []string{"a@b"}, DNSNames: []string{"a"}, IPAddresses: []net.IP{net.IPv6loopback}})))
	f.Fuzz(func(t *testing.T, der []byte) {
		leavesNothing(t, func() {
			c := sslfilter.Certificate{DER: der}
			n, err := c.Names()
			parsed, unreadable := sslfilter.ParseCertificate(der)
			require.Equal(t, err == nil, unreadable == nil)
			if err != nil {
				require.Nil(t, n)
				require.Nil(t, parsed)
				return
			}
			for _, list := range [][]string{n.CommonNames, n.DNSNames, n.EmailAddresses, n.URIs} {
				for _, name := range list {
					require.NotEmpty(t, name)
					require.Equal(t, strings.ToValidUTF8(name, ""), name)
					require.False(t, strings.ContainsAny(name, "\x00\r\n\x1b"), "%q", name)
				}
			}
			require.False(t, strings.ContainsFunc(n.Subject+n.Issuer, func(c rune) bool { return c < ' ' || c > '~' }), "%q %q", n.Subject, n.Issuer)
		})
	})
}
