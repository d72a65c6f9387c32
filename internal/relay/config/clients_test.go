package config

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// admitted reports whether a list with these entries admits a certificate.
func admitted(t *testing.T, template x509.Certificate, entries ...string) bool {
	t.Helper()
	list, err := Clients(entries).Parse()
	require.NoError(t, err)
	err = list.Admit(&sslfilter.Certificate{DER: testkit.DER(t, testkit.Mint(t, template))})
	if err != nil {
		require.ErrorIs(t, err, ErrNotAllowed)
	}
	return err == nil
}

func TestClientsAdmit(t *testing.T) {
	spiffe, err := url.Parse("spiffe://example.org/web")
	require.NoError(t, err)
	alice := x509.Certificate{
		Subject: pkix.Name{CommonName: "alice", Organization: []string{"bob"}}, DNSNames: []string{"A.example.org", "*.wild.example"},
		EmailAddresses: []string{"Alice@Example.org"}, URIs: []*url.URL{spiffe},
	}
	commonName := func(names ...string) (c x509.Certificate) {
		for _, name := range names {
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name})
		}
		return c
	}
	root := "issuer:" + testkit.Cert(t, "root.crt").Subject.String()
	for _, c := range []struct {
		entry string
		cert  x509.Certificate
		ok    bool
	}{
		{"cn:alice", alice, true},
		{"cn:Alice", alice, false},
		{"cn:bob", alice, false},
		{"cn:A.example.org", alice, false},
		{"cn:alic", alice, false},
		{"cn:alice", commonName("alice", "bob"), false}, // programs disagree about which one counts
		{"cn:bob", commonName("alice", "bob"), false},
		{"cn:alice", commonName("alice\x00.evil"), false},
		{"cn:alice", commonName("x,CN=alice"), false},
		{"cn:Doe, John", commonName("Doe, John"), true},
		{"cn:B\u00fccher", commonName("B\u00fccher"), true},
		{"cn:Bu\u0308cher", commonName("B\u00fccher"), false}, // nothing is normalized
		{"dns:a.EXAMPLE.org", alice, true},
		{"dns:b.example.org", alice, false},
		{"dns:example.org", alice, false},
		{"dns:www.wild.example", alice, false}, // a wildcard in a certificate stands for nothing
		{"dns:alice", alice, false},
		{"dns:good.example", x509.Certificate{DNSNames: []string{"good.example\x00.evil.example"}}, false},
		{"dns:n199.example", manyNames(), true},
		{"dns:n200.example", manyNames(), false},
		{"email:Alice@example.ORG", alice, true},
		{"email:alice@example.org", alice, false},
		{"uri:spiffe://example.org/web", alice, true},
		{"uri:spiffe://example.org/Web", alice, false},
		{"uri:spiffe://example.org/web/", alice, false},
		{"uri:SPIFFE://example.org/web", alice, false},
		{root, alice, true},
		{strings.ToLower(root), alice, false},
		{"issuer:CN=alice,O=bob", alice, false},
	} {
		require.Equal(t, c.ok, admitted(t, c.cert, c.entry), "%s", c.entry)
		require.Equal(t, c.ok, admitted(t, c.cert, "cn:nobody", c.entry, "dns:nobody"), "one matching entry is enough: %s", c.entry)
	}
	der := testkit.Cert(t, "client.crt").Raw
	plain := fmt.Sprintf("%x", sha256.Sum256(der))
	colons := sslfilter.Hexdump(sum(der))
	for entry, ok := range map[string]bool{"sha256:" + plain: true, "sha256:" + strings.ToUpper(plain): true, "sha256:" + colons: true, "sha256:" + strings.Repeat("0", 64): false} {
		list, err := Clients{entry}.Parse()
		require.NoError(t, err)
		require.Equal(t, ok, list.Admit(&sslfilter.Certificate{DER: der}) == nil, entry)
	}
	list, err := Clients{"cn:x"}.Parse()
	require.NoError(t, err)
	require.ErrorIs(t, list.Admit(&sslfilter.Certificate{DER: []byte("junk")}), ErrNotAllowed)
}

func sum(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

func manyNames() (c x509.Certificate) {
	for i := range 200 {
		c.DNSNames = append(c.DNSNames, fmt.Sprintf("n%d.example", i))
	}
	return c
}

func TestClientsThatAreWrong(t *testing.T) {
	relay := func(lines ...string) string {
		return "[[relay]]\nlisten = [\"127.0.0.1:1\"]\nbackend = \"h:1\"\ncrt = \"c\"\nkey = \"k\"\n" + strings.Join(lines, "\n")
	}
	const required = "requirevalidclientcert = true"
	for entry, want := range map[string]string{
		"alice": "want cn:, dns:", "CN:alice": "want cn:, dns:", "": "want cn:, dns:", "cn:": "a common name", "cn: alice": "a common name", "cn:a\\u0000b": "a common name",
		"cn:*": "patterns", "dns:*.example.org": "patterns", "uri:spiffe://example.org/*": "patterns", "email:*@example.org": "patterns",
		"dns:b\u00fccher.example": "xn--", "dns:example.org.": "a host name", "dns:": "a host name", "dns:a b": "a host name",
		"email:alice": "an address", "email:@x": "an address", "email:a@": "an address", "uri:example.org": "a URI", "uri:x: y": "a URI",
		"issuer:Example CA": "RFC2253", "issuer:/CN=Example": "RFC2253", "sha256:1234": "32 bytes", "sha256:" + strings.Repeat("0:", 64): "32 bytes", "sha1:00": "want cn:, dns:",
	} {
		_, err := Parse([]byte(relay(required, fmt.Sprintf("allow-clients = [\"%s\"]", entry))))
		require.ErrorContains(t, err, "allow-clients", entry)
		require.ErrorContains(t, err, want, entry)
	}
	for _, c := range []struct {
		want  string
		lines []string
	}{
		{"allow-clients: needs requirevalidclientcert", []string{`allow-clients = ["cn:a"]`}},
		{"allow-clients: needs requirevalidclientcert", []string{`allow-clients = ["cn:a"]`, "clientcert = true", "blockinvalidclientcert = true"}},
		{"allow-clients: is empty", []string{`allow-clients = []`, required}},
		{`allow-clients: "dns:A" is listed twice`, []string{`allow-clients = ["dns:a", "dns:A"]`, required}},
		{"allow-clients: want a list of strings", []string{`allow-clients = "cn:a"`, required}},
		{`allow-clients: "cn:a": with 18 in ignoreVerifyErrors anyone can make`, []string{`allow-clients = ["cn:a"]`, required, "ignoreVerifyErrors = [10, 18]"}},
		{"backend-allow-clients", []string{`backend-allow-clients = ["cn:a"]`}},
	} {
		_, err := Parse([]byte(relay(c.lines...)))
		require.ErrorContains(t, err, c.want)
	}
	_, err := Parse([]byte(relay(required, "ignoreVerifyErrors = [18]", `allow-clients = ["sha256:`+strings.Repeat("0", 64)+`"]`)))
	require.NoError(t, err, "a fingerprint is safe without a CA")
	plain := "[[relay]]\nlisten = [\"plain:127.0.0.1:1\"]\nbackend = \"h:1\"\n" + required + "\nallow-clients = [\"cn:a\"]"
	_, err = Parse([]byte(plain))
	require.ErrorContains(t, err, "no listener has TLS")
}
