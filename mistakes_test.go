package sslfilter_test

// Other bindings of OpenSSL have made these mistakes; SECURITY.md lists them.

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// OpenSSL compares names with their length and by their type: not only up to the first NUL
// (CVE-2009-2408, CVE-2013-4073, CVE-2013-4238), not as part of a text of all names
// (CVE-2021-44532), and not with a URI (CVE-2021-44531), a mail address or the common name.
// A wildcard stands for exactly one label.
func TestMistakesLookalikeNames(t *testing.T) {
	const host, deep, ip = "www.example.org", "a.b.example.org", "192.0.2.7"
	for _, c := range []struct {
		name, want string
		cert       x509.Certificate
		ok         bool
	}{
		{"the name", host, x509.Certificate{DNSNames: []string{host}}, true},
		{"other case of letters", host, x509.Certificate{DNSNames: []string{"WWW.Example.ORG"}}, true},
		{"a wildcard", host, x509.Certificate{DNSNames: []string{"*.example.org"}}, true},
		{"a NUL after it", host, x509.Certificate{DNSNames: []string{host + "\x00.evil.test"}}, false},
		{"a NUL before it", host, x509.Certificate{DNSNames: []string{"evil.test\x00" + host}}, false},
		{"another name after it", host, x509.Certificate{DNSNames: []string{host + ".evil.test"}}, false},
		{"another name before it", host, x509.Certificate{DNSNames: []string{"evil" + host}}, false},
		{"a list in one name", host, x509.Certificate{DNSNames: []string{"evil.test, DNS:" + host}}, false},
		{"a line of its own", host, x509.Certificate{DNSNames: []string{"evil.test\nDNS:" + host}}, false},
		{"the common name", host, x509.Certificate{Subject: pkix.Name{CommonName: host}, DNSNames: []string{"evil.test"}}, false},
		{"only the common name", host, x509.Certificate{Subject: pkix.Name{CommonName: host}}, false},
		{"a URI", host, x509.Certificate{URIs: []*url.URL{{Scheme: "https", Host: host, Path: "/"}}}, false},
		{"a mail address", host, x509.Certificate{EmailAddresses: []string{host}}, false},
		{"a wildcard for two labels", deep, x509.Certificate{DNSNames: []string{"*.example.org"}}, false},
		{"a wildcard in the middle", deep, x509.Certificate{DNSNames: []string{"a.*.example.org"}}, false},
		{"a partial wildcard", host, x509.Certificate{DNSNames: []string{"w*.example.org"}}, false},
		{"a wildcard alone", host, x509.Certificate{DNSNames: []string{"*"}}, false},
		{"a wildcard for a domain", "example.org", x509.Certificate{DNSNames: []string{"*.org"}}, false},
		{"an address as a name", ip, x509.Certificate{DNSNames: []string{ip}}, false},
		{"an address as a wildcard", ip, x509.Certificate{DNSNames: []string{"*.0.2.7"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testkit.NewPair(t, sslfilter.Options{CrtMem: testkit.Mint(t, c.cert), Key: testkit.PKI("client.key")}, testkit.Client(testkit.ServerName(c.want)))
			err := p.Handshake()
			require.Equal(t, c.ok, p.Client.HandshakeDone(), "%v", err)
			require.Equal(t, c.ok, p.Client.ClientCertValid())
			if !c.ok {
				code := testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code
				require.Contains(t, []sslfilter.VerifyCode{62, 64}, code) // host name, IP address
			}
		})
	}
}

// The C code does not call functions with which other bindings have made mistakes. All C
// files are searched; TestLayering checks that the lists are complete.
func TestMistakesForbiddenCalls(t *testing.T) {
	var code []byte
	for _, name := range slices.Concat(cFiles, cgoFiles) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		code = append(code, text...)
	}
	code = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`).ReplaceAll(code, nil)
	require.Contains(t, string(code), "SSL_set_verify(", "the search does not see the code")
	for call, why := range map[string]string{
		"SSL_set_SSL_CTX":                        "replaces the context in the handshake, and loses settings of the old one",
		"SSL_CTX_set_verify":                     "sets the callback of the context, which is lost with it",
		"SSL_get_verify_result":                  "is X509_V_OK without a certificate, too",
		"SSL_CTX_set_tlsext_servername_callback": "needs a decision of the caller in the handshake, and a failure must not be an acceptance (CVE-2026-27448)",
		"X509_NAME_get_text_by_NID":              "ends a name at its first NUL",
		"X509_check_host":                        "compares outside of the verification, and can be forgotten",
		"SSL_clear":                              "keeps data of the last peer",
		"SSL_CTX_set_default_passwd_cb":          "has OpenSSL's prompt as its default",
		"EVP_VerifyFinal":                        "is -1 for an error, which is true (CVE-2008-5077)",
		"SSL_peek":                               "returns data that are read again",
		"SSL_write_early_data":                   "sends what can be replayed",
		"SSL_read_early_data":                    "reads what can be replayed",
		"SSL_CTX_set_post_handshake_auth":        "lets a server ask for a certificate at any time",
	} {
		require.False(t, regexp.MustCompile(`\b`+call+`\(`).Match(code), "%s %s", call, why)
	}
	// A session must not resume what was verified for another name (CVE-2020-8172): only
	// fssl_conn_offer offers one, after it has verified the certificates again.
	require.Equal(t, 1, strings.Count(string(code), "SSL_set_session("))
	// ASN1_STRING_to_UTF8 makes texts, which are then compared. Only Certificate.Names
	// calls it, and returns no text that has a NUL byte or a control character.
	require.Equal(t, 1, strings.Count(string(code), "ASN1_STRING_to_UTF8("))
}

// An ErrorHandler must not close the filter. If it does, the process does not crash.
func TestMistakesHandlerThatCloses(t *testing.T) {
	o := keyedOptions(true, sslfilter.VersionTLS12)
	told := 0
	o.ErrorHandler = func(f *sslfilter.Filter, err error) {
		told++
		f.Close()
	}
	f := testkit.Filter(t, o)
	k := connectKeyed(t, f, true, nil)
	_, err := f.Receive(nil, k.send(typeHandshake, message(0))) // a renegotiation begins
	require.NoError(t, err)
	f.Receive(nil, k.send(typeAlert, []byte{1, 0})) // and cannot be completed
	require.NoError(t, f.Send([]byte("never")))
	require.NotPanics(t, func() { f.Outgoing(nil) })
	require.Equal(t, 1, told)
}
