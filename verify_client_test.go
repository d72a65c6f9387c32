package sslfilter_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// named returns options of a server whose certificate has these names and addresses.
func named(t testing.TB, names []string, ips ...string) sslfilter.Options {
	t.Helper()
	template := x509.Certificate{Subject: pkix.Name{CommonName: "cn.example"}, DNSNames: names}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	return sslfilter.Options{CrtMem: testkit.Mint(t, template), Key: testkit.PKI("client.key")}
}

func TestVerifyServerCertificate(t *testing.T) {
	const ok = sslfilter.VerifyOK
	for _, c := range []struct {
		name   string
		server sslfilter.Options
		client func(*sslfilter.Options)
		code   sslfilter.VerifyCode
		alert  sslfilter.AlertError
	}{
		{"valid", testkit.ServerOf("server"), nil, ok, 0},
		{"valid EC", testkit.ServerOf("server-ec"), nil, ok, 0},
		{"via intermediate", testkit.ServerOf("server-inter"), nil, ok, 0},
		{"intermediate not sent", testkit.ServerOf("server-inter", func(o *sslfilter.Options) { o.Chain = "" }), nil, 20, alertUnknownCA},
		{"unknown CA", testkit.ServerOf("server-unknown"), nil, 20, alertUnknownCA},
		{"unknown CA, ignored", testkit.ServerOf("server-unknown"), ignoring(20, 21), ok, 0},
		{"unknown CA, half ignored", testkit.ServerOf("server-unknown"), ignoring(20), 21, alertUnknownCA},
		{"self-signed", testkit.ServerOf("server-selfsigned"), nil, 18, alertUnknownCA},
		{"self-signed, ignored", testkit.ServerOf("server-selfsigned"), ignoring(18), ok, 0},
		{"expired", testkit.ServerOf("server-expired"), nil, 10, alertCertificateExpired},
		{"expired, ignored", testkit.ServerOf("server-expired"), ignoring(10), ok, 0},
		{"wrong host", named(t, []string{"evil.example"}), nil, 62, alertBadCertificate},
		{"wrong host, ignored", named(t, []string{"evil.example"}), ignoring(62), ok, 0},
		{"a certificate for clients", testkit.ServerOf("server-wronghost"), testkit.ServerName("evil.example"), 26, alertUnsupportedCert},
		{"second name", testkit.ServerOf("server"), testkit.ServerName("server.test"), ok, 0},
		{"name in capitals", testkit.ServerOf("server"), testkit.ServerName("LOCALHOST"), ok, 0},
		{"trailing dot", testkit.ServerOf("server"), testkit.ServerName("localhost."), ok, 0},
		{"name below", testkit.ServerOf("server"), testkit.ServerName("a.localhost"), 62, alertBadCertificate},
		{"wildcard", named(t, []string{"*.example.org"}), testkit.ServerName("a.example.org"), ok, 0},
		{"wildcard, two labels", named(t, []string{"*.example.org"}), testkit.ServerName("a.b.example.org"), 62, alertBadCertificate},
		{"wildcard, no label", named(t, []string{"*.example.org"}), testkit.ServerName("example.org"), 62, alertBadCertificate},
		{"partial wildcard", named(t, []string{"a*.example.org"}), testkit.ServerName("ab.example.org"), 62, alertBadCertificate},
		{"the CN is ignored beside names", named(t, []string{"a.example"}), testkit.ServerName("cn.example"), 62, alertBadCertificate},
		{"the CN alone is ignored", named(t, nil), testkit.ServerName("cn.example"), 62, alertBadCertificate},
		{"IP address", testkit.ServerOf("server"), testkit.ServerName("127.0.0.1"), ok, 0},
		{"wrong IP address", testkit.ServerOf("server"), testkit.ServerName("127.0.0.2"), 64, alertBadCertificate},
		{"IPv6 address", named(t, nil, "2001:db8::1"), testkit.ServerName("2001:db8::1"), ok, 0},
		{"IPv6 address written otherwise", named(t, nil, "2001:db8::1"), testkit.ServerName("[2001:0DB8:0::1]"), ok, 0},
		{"wrong IPv6 address", named(t, nil, "2001:db8::1"), testkit.ServerName("2001:db8::2"), 64, alertBadCertificate},
		{"IP address as a DNS name", named(t, []string{"127.0.0.1"}), testkit.ServerName("127.0.0.1"), 64, alertBadCertificate},
		{"name from SNI", testkit.ServerOf("server"), func(o *sslfilter.Options) { o.ServerName, o.SNI = "", "localhost" }, ok, 0},
		{"wrong name from SNI", testkit.ServerOf("server"), func(o *sslfilter.Options) { o.ServerName, o.SNI = "", "example.org" }, 62, alertBadCertificate},
		{"ServerName wins over SNI", testkit.ServerOf("server"), func(o *sslfilter.Options) { o.SNI = "example.org" }, ok, 0},
		{"no CA at all", testkit.ServerOf("server"), func(o *sslfilter.Options) { o.CACrtMem = [][]byte{} }, 20, alertUnknownCA},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := testkit.Ctx(t, c.server)
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				client := testkit.Ctx(t, testkit.Client(c.client, testkit.UpTo(highest)))
				testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
					p := testkit.PairOf(t, server, client)
					p.Cut = cut
					err := p.Handshake()
					if c.code != ok {
						requireServerRefused(t, p, c.code, c.alert)
						return
					}
					require.NoError(t, err)
					require.True(t, p.Client.HandshakeDone())
					require.True(t, p.Client.ClientCertValid())
					require.True(t, p.Client.Peer().Valid)
				})
			})

		})
	}
}

// requireServerRefused checks that the client rejected the server, with this error and this
// alert.
func requireServerRefused(t *testing.T, p *testkit.Pair, code sslfilter.VerifyCode, alert sslfilter.AlertError) {
	t.Helper()
	require.False(t, p.Client.HandshakeDone())
	require.False(t, p.Client.ClientCertValid())
	require.True(t, p.Client.ClientCertExists())
	require.Equal(t, code, testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code)
	require.Equal(t, alert, testkit.As[sslfilter.AlertError](t, p.Server.Filter.Err()))
	require.Error(t, p.Client.Send([]byte("secret")))
	p.Transfer()
	require.Empty(t, p.Server.Got)
}

// With InsecureSkipVerify, as in the original, the handshake succeeds with every server. The
// verdict is available afterwards, and ignores the name.
func TestVerifyInsecureSkipVerify(t *testing.T) {
	for _, c := range []struct {
		server string
		valid  bool
		errors []sslfilter.VerifyCode
	}{
		{"server", true, nil},
		{"server-inter", true, nil},
		{"server-unknown", false, []sslfilter.VerifyCode{20, 21}},
		{"server-selfsigned", false, []sslfilter.VerifyCode{18}},
		{"server-expired", false, []sslfilter.VerifyCode{10}},
		{"server-wronghost", false, []sslfilter.VerifyCode{26}}, // without 62, the host name mismatch
	} {
		t.Run(c.server, func(t *testing.T) {
			for _, name := range []string{"", "example.org"} {
				p := testkit.Connect(t, testkit.ServerOf(c.server), testkit.Client(func(o *sslfilter.Options) {
					o.InsecureSkipVerify, o.ServerName = true, name
				}))

				require.Equal(t, c.valid, p.Client.ClientCertValid())
				var codes []sslfilter.VerifyCode
				for _, id := range p.Client.ClientCertIDs() {
					if id.Err != 0 {
						codes = append(codes, id.Err)
					}
				}
				require.Equal(t, c.errors, codes)
			}
		})
	}
}

// ClientCertIDs contains a mismatch of the name if the name is verified.
func TestVerifyNameMismatchIsInTheIDs(t *testing.T) {
	count := func(f *sslfilter.Filter) (n int) {
		for _, id := range f.ClientCertIDs() {
			if id.Err == sslfilter.VerifyHostnameMismatch {
				n++
			}
		}
		return n
	}
	client := testkit.Client(testkit.ServerName("example.org"))
	p := testkit.NewPair(t, testkit.Server(), client)
	require.Error(t, p.Handshake())
	require.Equal(t, 1, count(p.Client.Filter))
	p = testkit.Connect(t, testkit.Server(), testkit.With(client, ignoring(62)))
	require.Equal(t, 1, count(p.Client.Filter))
	require.True(t, p.Client.ClientCertValid())
	p = testkit.Connect(t, testkit.Server(), testkit.With(client, func(o *sslfilter.Options) { o.InsecureSkipVerify = true }))
	require.Zero(t, count(p.Client.Filter))
}

// A client without a server name cannot start the handshake: any certificate of the CA would
// be accepted.
func TestVerifyNoNameNoHandshake(t *testing.T) {
	nameless := testkit.Client(testkit.ServerName(""))
	for name, start := range map[string]func(*sslfilter.Filter) error{
		"Handshake": (*sslfilter.Filter).Handshake,
		"Send":      func(f *sslfilter.Filter) error { return f.Send([]byte("x")) },
		"Receive":   func(f *sslfilter.Filter) error { _, err := f.Receive(nil, []byte("x")); return err },
	} {
		t.Run(name, func(t *testing.T) {
			f := testkit.Filter(t, nameless)
			require.Equal(t, name, testkit.As[*sslfilter.UsageError](t, start(f)).Op)
			require.Empty(t, f.Outgoing(nil))
			require.NoError(t, f.Err(), "a usage error leaves the filter as it was")
			require.NoError(t, f.SetServerName("localhost"))
			p := testkit.Join(testkit.Filter(t, testkit.Server()), f)
			require.NoError(t, p.Handshake())
			require.True(t, p.Client.ClientCertValid())
		})
	}
	for _, bad := range []string{"", ".", ".localhost", "a b", "a\tb", "a\x00b", "a\x7f", strings.Repeat("x", 256)} {
		f := testkit.Filter(t, nameless)
		testkit.As[*sslfilter.UsageError](t, f.SetServerName(bad))
		require.Equal(t, "SetVerifiedName", testkit.As[*sslfilter.UsageError](t, f.SetVerifiedName(bad)).Op)
		testkit.As[*sslfilter.UsageError](t, f.Handshake())
		require.NoError(t, f.Err())
	}
}

// The options and methods decide which name is sent as SNI, and which is verified.
func TestVerifyServerNames(t *testing.T) {
	long := strings.Repeat("x", 255)
	for _, c := range []struct {
		name      string
		client    func(*sslfilter.Options)
		set       string
		sni       string
		handshake bool
	}{
		{"ServerName", nil, "", "localhost", true},
		{"SNI", func(o *sslfilter.Options) { o.SNI, o.ServerName = "localhost", "" }, "", "localhost", true},
		{"SNI and ServerName", func(o *sslfilter.Options) { o.SNI = "example.org" }, "", "example.org", true},
		{"SetServerName", nil, "server.test", "server.test", true},
		{"SetServerName wins over both", func(o *sslfilter.Options) { o.SNI, o.ServerName = "example.org", "example.net" }, "localhost", "localhost", true},
		{"SetServerName, wrong", nil, "example.org", "example.org", false},
		{"SetServerName, IP address", nil, "127.0.0.1", "", true},
		{"SetServerName, wrong IP address", nil, "127.0.0.9", "", false},
		{"SetVerifiedName", nil, "verify server.test", "server.test", true},
		{"SetVerifiedName beside SNI", func(o *sslfilter.Options) { o.SNI, o.ServerName = "example.org.", "" }, "verify localhost", "example.org", true},
		{"SetVerifiedName beside both", func(o *sslfilter.Options) { o.SNI, o.ServerName = "example.org", "example.net" }, "verify localhost", "example.org", true},
		{"SetVerifiedName, wrong", func(o *sslfilter.Options) { o.SNI = "localhost" }, "verify example.org", "localhost", false},
		{"SetVerifiedName beside an IP address", func(o *sslfilter.Options) { o.SNI = "127.0.0.1" }, "verify localhost", "", true},
		{"SetServerName, trailing dot", nil, "localhost.", "localhost", true},
		{"trailing dot", testkit.ServerName("localhost."), "", "localhost", true},
		{"IP address, trailing dot", testkit.ServerName("127.0.0.1."), "", "", true},
		{"IP address", testkit.ServerName("127.0.0.1"), "", "", true},
		{"IP address beside SNI", func(o *sslfilter.Options) { o.SNI, o.ServerName = "example.org", "127.0.0.1" }, "", "example.org", true},
		{"IP address as SNI", func(o *sslfilter.Options) { o.SNI, o.ServerName = "127.0.0.1", "" }, "", "", true},
		{"no verification", func(o *sslfilter.Options) { o.SNI, o.ServerName, o.InsecureSkipVerify = "example.org", "", true }, "", "example.org", true},
		{"no verification, ServerName", func(o *sslfilter.Options) { o.ServerName, o.InsecureSkipVerify = "example.org", true }, "", "example.org", true},
		{"no verification, no name", func(o *sslfilter.Options) { o.ServerName, o.InsecureSkipVerify = "", true }, "", "", true},
		{"no verification, IP address", func(o *sslfilter.Options) { o.SNI, o.ServerName, o.InsecureSkipVerify = "::1", "", true }, "", "", true},
		{"no verification, SetServerName", func(o *sslfilter.Options) { o.InsecureSkipVerify = true }, "example.org", "example.org", true},
		{"longest", func(o *sslfilter.Options) { o.SNI = long }, "", long, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				var hello *tls.ClientHelloInfo
				f := testkit.Filter(t, testkit.Client(c.client))
				if name, ok := strings.CutPrefix(c.set, "verify "); ok {
					require.NoError(t, f.SetVerifiedName(name))
				} else if c.set != "" {
					require.NoError(t, f.SetServerName(c.set))
				}
				testkit.TalkToGo(t, f, true, testkit.GoServer(t, func(config *tls.Config) {
					config.MaxVersion = uint16(highest)
					config.GetConfigForClient = func(info *tls.ClientHelloInfo) (*tls.Config, error) {
						hello = info
						return nil, nil
					}
				}))

				require.NotNil(t, hello)
				require.Equal(t, c.sni, hello.ServerName)
				require.Equal(t, c.handshake, f.HandshakeDone(), "%v", f.Err())
			})
		})
	}
}

// A client rejects a server without a certificate, though OpenSSL does not verify it.
func TestVerifyAnonymousServer(t *testing.T) {
	anonymous := func(o *sslfilter.Options) { o.Cipher, o.TLS12 = "aNULL:@SECLEVEL=0", true }
	server := testkit.With(sslfilter.Options{}, anonymous)
	p := testkit.NewPair(t, server, testkit.Client(anonymous))
	require.Error(t, p.Handshake())
	require.False(t, p.Client.HandshakeDone())
	testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err())
	require.False(t, p.Client.ClientCertValid())
	require.Error(t, p.Client.Send([]byte("secret")))
	p.Transfer()
	require.Empty(t, p.Server.Got)

	p = testkit.Connect(t, server, testkit.Client(anonymous, func(o *sslfilter.Options) { o.InsecureSkipVerify = true }))
	require.Contains(t, p.Client.Cipher(), "DH-") // AECDH-…, ADH-…
	require.False(t, p.Client.ClientCertExists())
	require.False(t, p.Client.ClientCertValid())
	require.Empty(t, p.Client.ClientCertIDs())
}

// A client without CACrt trusts the CAs of the system.
func TestVerifySystemStoreIsTheDefault(t *testing.T) {
	for _, c := range []struct {
		ca    string
		valid bool
	}{{"root.crt", true}, {"other.crt", false}} {
		t.Run(c.ca, func(t *testing.T) {
			if child, _ := inChild(t, "", "SSL_CERT_FILE="+testkit.PKI(c.ca), "SSL_CERT_DIR="+t.TempDir()); !child {
				return
			}
			require.NotEmpty(t, os.Getenv("SSL_CERT_FILE"))
			client := testkit.Client(func(o *sslfilter.Options) { o.CACrt = "" })
			for range 2 { // all contexts share the store
				p := testkit.NewPair(t, testkit.Server(), client)
				err := p.Handshake()
				require.Equal(t, c.valid, err == nil, "%v", err)
				require.Equal(t, c.valid, p.Client.ClientCertValid())
			}
		})
	}
}
