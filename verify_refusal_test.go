package sslfilter_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/bounded"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// refusal returns the *VerifyError of a client that rejects a server with this certificate.
func refusal(t testing.TB, cert []byte, change func(*sslfilter.Options)) (*sslfilter.VerifyError, error) {
	t.Helper()
	server := sslfilter.Options{CrtMem: cert, Key: testkit.PKI("client.key")}
	p := testkit.NewPair(t, server, testkit.Client(change))
	require.Error(t, p.Handshake())
	err := p.Client.Filter.Err()
	return testkit.As[*sslfilter.VerifyError](t, err), err
}

// The error of a wrong name contains the wanted name, and the names of the certificate.
func TestVerifyNamesInARefusal(t *testing.T) {
	long := make([]string, 3000)
	for i := range long {
		long[i] = "name.example"
	}
	for _, c := range []struct {
		name  string
		cert  x509.Certificate
		want  string
		names []string
		text  string
	}{
		{"DNS names", x509.Certificate{DNSNames: []string{"localhost", "*.wild.example"}}, "a.example", []string{"localhost", "*.wild.example"},
			": the certificate is for localhost, *.wild.example, not for a.example"},
		{"addresses", x509.Certificate{DNSNames: []string{"a.example"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")}}, "2001:db8::2", []string{"a.example", "192.0.2.1", "2001:db8::1"},
			": the certificate is for a.example, 192.0.2.1, 2001:db8::1, not for 2001:db8::2"},
		{"no subjectAltName", x509.Certificate{Subject: pkix.Name{CommonName: "a.example"}}, "a.example", nil,
			": the certificate has no subjectAltName, and its common name does not count; wanted a.example"},
		{"mail address only", x509.Certificate{EmailAddresses: []string{"x@a.example"}}, "a.example", nil,
			": the certificate's subjectAltName has no DNS name and no IP address; wanted a.example"},
		{"control characters", x509.Certificate{DNSNames: []string{"a\x1b[2J\nb"}}, "a.example", []string{"a\x1b[2J\nb"},
			`: the certificate is for "a\x1b[2J\nb", not for a.example`},
		{"many names", x509.Certificate{DNSNames: long}, "a.example", long,
			": the certificate is for " + bounded.Text(strings.Join(long, ", ")) + ", not for a.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := refusal(t, testkit.Mint(t, c.cert), testkit.ServerName(c.want))
			require.Equal(t, c.want, e.ServerName)
			require.Equal(t, c.names, e.Names)
			require.True(t, strings.HasSuffix(err.Error(), c.text), "%v", err)
			require.Less(t, len(err.Error()), 3*bounded.MaxText)
		})
	}
}

// The error contains the name of SetServerName.
func TestVerifySetServerNameInARefusal(t *testing.T) {
	p := testkit.NewPair(t, testkit.Server(), testkit.Client())
	require.NoError(t, p.Client.SetServerName("b.example"))
	require.Error(t, p.Handshake())
	e := testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err())
	require.Equal(t, "b.example", e.ServerName)
	require.Contains(t, e.Names, "localhost")
}

// The error of a wrong date contains the date and the certificate, on both sides and in the
// verdict.
func TestVerifyDatesInARefusal(t *testing.T) {
	e, err := refusal(t, testkit.Mint(t, x509.Certificate{
		Subject: pkix.Name{CommonName: "old"}, DNSNames: []string{"localhost"}, NotAfter: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC),
	}), nil)
	require.Equal(t, sslfilter.VerifyCertHasExpired, e.Code)
	require.Equal(t, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), e.NotBefore)
	require.Equal(t, time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), e.NotAfter)
	require.True(t, strings.HasSuffix(err.Error(), " at depth 0: /CN=old: it was valid until 2021-01-01 00:00:00 UTC"), "%v", err)

	for crt, text := range map[string]string{
		"client-expired.crt": ": it was valid until ", "client-notyet.crt": ": it is valid from ",
	} {
		cert := testkit.Cert(t, crt)
		when := cert.NotAfter
		if crt == "client-notyet.crt" {
			when = cert.NotBefore
		}
		text += when.Format("2006-01-02 15:04:05 UTC")
		p := testkit.NewPair(t, testkit.Requiring(), testkit.Showing(crt, ""))
		require.Error(t, p.Handshake())
		e := testkit.As[*sslfilter.VerifyError](t, p.Server.Filter.Err())
		require.Equal(t, cert.NotBefore, e.NotBefore)
		require.Equal(t, cert.NotAfter, e.NotAfter)
		require.True(t, strings.HasSuffix(e.Error(), text), "%v", e)

		p = testkit.Connect(t, testkit.Asking(), testkit.Showing(crt, ""))
		peer := p.Server.Peer()
		require.Equal(t, cert.NotBefore, peer.Chain[0].NotBefore)
		require.Equal(t, cert.NotAfter, peer.Chain[0].NotAfter)
		require.True(t, strings.HasSuffix(peer.String(), text), "%v", peer)
	}
}

// longSubject returns a self-signed certificate with a subject of 45,000 bytes.
func longSubject(t testing.TB) []byte {
	t.Helper()
	return testkit.SelfSigned(t, x509.Certificate{
		SerialNumber: new(big.Int).Lsh(big.NewInt(1), 8*3000), Subject: pkix.Name{CommonName: strings.Repeat("\x01", 45000)},
	})
}

// Texts with values that the peer chooses are bounded. The fields are exact.
func TestVerifyPeerTextsAreBounded(t *testing.T) {
	const most = 2*bounded.MaxText + 512
	log := new(testkit.Log)
	client := testkit.Showing("client.crt", "", func(o *sslfilter.Options) { o.Crt, o.CrtMem = "", longSubject(t) })
	p := testkit.NewPair(t, testkit.Requiring(func(o *sslfilter.Options) { o.Debug = log.Logger() }), client)
	require.Error(t, p.Handshake())
	e := testkit.As[*sslfilter.VerifyError](t, p.Server.Filter.Err())
	require.Greater(t, len(e.Subject), 45000, "the field is exact")
	require.Less(t, len(e.Error()), most)
	require.Contains(t, e.Error(), " bytes cut]")
	require.Less(t, len(p.Server.Filter.Err().Error()), most)
	for _, message := range log.Messages() {
		for _, key := range []string{"error", "peer", "state"} {
			for _, value := range log.Values(message, key) {
				require.Less(t, len(value), most, "%s: %s", message, key)
			}
		}
	}

	serial := new(big.Int).Lsh(big.NewInt(1), 8*3000)
	p = testkit.Connect(t, testkit.Asking(func(o *sslfilter.Options) {
		o.CACRLMem = testkit.CRLFrom(t, testkit.CA(t, "root"), x509.RevocationList{RevokedCertificateEntries: testkit.Revoked(serial)})
	}), client)
	peer := p.Server.Peer()
	require.Equal(t, sslfilter.CRLListed, peer.CRL.Status)
	require.Len(t, peer.CRL.Serial, 3001, "the field is exact")
	require.Greater(t, len(peer.CRL.Subject), 45000)
	require.Less(t, len(peer.CRL.String()), 3*bounded.MaxText)
	require.Less(t, len(peer.String()), 3*bounded.MaxText)
	require.Greater(t, len(p.Server.ClientCertIDs()[0].Subject), 45000)
}

// If a server asks for certificates and trusts no CA, the verdict gives the reason why every
// certificate is invalid.
func TestVerifyWithoutACA(t *testing.T) {
	const why = "; this side trusts no CA, since CACrt is not given"
	for name, c := range map[string]struct {
		change func(*sslfilter.Options)
		told   bool
	}{
		"no CA":             {func(o *sslfilter.Options) { o.CACrt = "" }, true},
		"an empty CACrtMem": {func(o *sslfilter.Options) { o.CACrtMem = [][]byte{} }, true},
		"another CA":        {func(o *sslfilter.Options) { o.CACrt = testkit.PKI("other.crt") }, false},
		"in memory":         {func(o *sslfilter.Options) { o.CACrt, o.CACrtMem = "", [][]byte{testkit.PKIBytes(t, "other.crt")} }, false},
	} {
		log := new(testkit.Log)
		p := testkit.Connect(t, testkit.Asking(func(o *sslfilter.Options) { c.change(o); o.Debug = log.Logger() }), testkit.Showing("client.crt", ""))
		require.False(t, p.Server.ClientCertValid(), name)
		require.Equal(t, c.told, strings.HasSuffix(p.Server.Peer().String(), why), "%s: %v", name, p.Server.Peer())
		said := log.Values("sslfilter: option has no effect", "option")
		if c.told {
			require.Contains(t, said, "ClientCert without CACrt: no client certificate can be valid", name)
		} else {
			require.NotContains(t, strings.Join(said, "\n"), "ClientCert without CACrt", name)
		}
	}
	p := testkit.Connect(t, testkit.Asking(func(o *sslfilter.Options) { o.CACrt = "" }), testkit.Client())
	require.Equal(t, "no certificate", p.Server.Peer().String())
}
