package sslfilter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// If OpenSSL rejects a list, the error names the wrong element, and says what to do.
func TestOptionsListsNameTheCulprit(t *testing.T) {
	for _, c := range []struct {
		option, list, want string
	}{
		{"Cipher", "NOSUCH", `OpenSSL does not know "NOSUCH"`},
		{"Cipher", "TLS_AES_128_GCM_SHA256", `"TLS_AES_128_GCM_SHA256" is a suite of TLS 1.3, which belongs in CipherSuites`},
		{"Groups", "P-256:P-265", `OpenSSL does not know the group "P-265"`},
		{"Groups", "NOSUCH", `OpenSSL does not know the group "NOSUCH"`},
	} {
		err := refuse(t, testkit.Server(func(o *sslfilter.Options) {
			*map[string]*string{"Cipher": &o.Cipher, "Groups": &o.Groups}[c.option] = c.list
		}),

			c.option, "")
		require.ErrorContains(t, err, c.want)
	}
	err := accepted(testkit.Server(testkit.Cipher("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")))
	if err != nil { // 3.2 and later also accept the names of the RFCs
		require.ErrorContains(t, err, `"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" has the name ECDHE-RSA-AES128-GCM-SHA256 in OpenSSL`)
	}
	require.Equal(t, !since(openssl32), err != nil)
	good := refuse(t, testkit.Server(func(o *sslfilter.Options) { o.Groups = "P-256:P-265" }), "Groups", "")
	require.NotContains(t, good.Error(), `"P-256"`, "a known name is not reported")
}

// A server name that cannot be in a certificate is an error of the option. The error says
// what to give instead.
func TestOptionsBadHostNames(t *testing.T) {
	for name, want := range map[string]string{
		"bücher.example": "is not ASCII: give its A-label, which begins with xn--", "localhost:443": "has a port: give the bare host",
		"https://localhost": "is a URL or a part of one: give the bare host", "localhost/": "is a URL or a part of one",
		"user@localhost": "is a URL or a part of one", "[::1]:443": "has a port", "::1:443x": "has a port",
	} {
		require.ErrorContains(t, refuse(t, testkit.Client(testkit.ServerName(name)), "ServerName", ""), want, name)
		require.ErrorContains(t, refuse(t, testkit.Client(func(o *sslfilter.Options) { o.SNI, o.ServerName = name, "" }), "SNI", ""), want, name)
		require.ErrorContains(t, refuse(t, testkit.Client(func(o *sslfilter.Options) { o.SNI = name }), "SNI", ""), want, "%s, only sent", name)
		require.ErrorContains(t, refuse(t, sslfilter.Options{Client: true, InsecureSkipVerify: true, SNI: name}, "SNI", ""), want, name)
		f := testkit.Filter(t, testkit.Client())
		err := f.SetServerName(name)
		testkit.As[*sslfilter.UsageError](t, err)
		require.ErrorContains(t, err, want, name)
	}
	for _, name := range []string{"localhost", "xn--bcher-kva.example", "a_b.example", "::1", "[::1]", "127.0.0.1", "localhost."} {
		require.NoError(t, accepted(testkit.Client(func(o *sslfilter.Options) { o.SNI, o.ServerName = name, "" })), name)
	}
}

// NUL bytes and empty contents are errors, as docs/options.md describes.
func TestOptionsEmptyAndNUL(t *testing.T) {
	refuse(t, testkit.Client(func(o *sslfilter.Options) { o.ALPN = []string{"h2", "a\x00b"} }), "ALPN", "")
	refuse(t, testkit.Client(func(o *sslfilter.Options) { o.DHCertMem = []byte{} }), "DHCertMem", "")
	refuse(t, testkit.Client(func(o *sslfilter.Options) {
		checking(sslfilter.CRLCheckLeaf, "crl.pem")(o)
		o.CRLMem = [][]byte{}
	}),

		"CRLMem", "")
}
