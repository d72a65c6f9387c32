package sslfilter_test

import (
	"crypto/tls"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/enginetest"
)

// serving is a server of the test PKI by the name of its files.
func serving(name string) sslfilter.Options {
	o := sslfilter.Options{Crt: pki(name + ".crt"), Key: pki(name + ".key")}
	if name == "server-inter" {
		o.Chain = pki("chain.pem")
	}
	return o
}

// named makes a server whose certificate has these names and addresses.
func named(t testing.TB, names []string, ips ...string) sslfilter.Options {
	t.Helper()
	spec := certSpec{serial: 0x41, cn: "cn.example", names: names}
	for _, ip := range ips {
		spec.ips = append(spec.ips, net.ParseIP(ip))
	}
	return sslfilter.Options{CrtMem: mint(t, spec), Key: pki("client.key")}
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
		{"valid", serving("server"), nil, ok, 0},
		{"valid EC", serving("server-ec"), nil, ok, 0},
		{"via intermediate", serving("server-inter"), nil, ok, 0},
		{"intermediate not sent", with(serving("server-inter"), func(o *sslfilter.Options) { o.Chain = "" }), nil, 20, alertUnknownCA},
		{"unknown CA", serving("server-unknown"), nil, 20, alertUnknownCA},
		{"unknown CA, ignored", serving("server-unknown"), ignoring(20, 21), ok, 0},
		{"unknown CA, half ignored", serving("server-unknown"), ignoring(20), 21, alertUnknownCA},
		{"self-signed", serving("server-selfsigned"), nil, 18, alertUnknownCA},
		{"self-signed, ignored", serving("server-selfsigned"), ignoring(18), ok, 0},
		{"expired", serving("server-expired"), nil, 10, alertCertificateExpired},
		{"expired, ignored", serving("server-expired"), ignoring(10), ok, 0},
		{"wrong host", named(t, []string{"evil.example"}), nil, 62, alertBadCertificate},
		{"wrong host, ignored", named(t, []string{"evil.example"}), ignoring(62), ok, 0},
		{"a certificate for clients", serving("server-wronghost"), hostname("evil.example"), 26, alertUnsupportedCert},
		{"second name", serving("server"), hostname("server.test"), ok, 0},
		{"name in capitals", serving("server"), hostname("LOCALHOST"), ok, 0},
		{"trailing dot", serving("server"), hostname("localhost."), ok, 0},
		{"name below", serving("server"), hostname("a.localhost"), 62, alertBadCertificate},
		{"wildcard", named(t, []string{"*.example.org"}), hostname("a.example.org"), ok, 0},
		{"wildcard, two labels", named(t, []string{"*.example.org"}), hostname("a.b.example.org"), 62, alertBadCertificate},
		{"wildcard, no label", named(t, []string{"*.example.org"}), hostname("example.org"), 62, alertBadCertificate},
		{"partial wildcard", named(t, []string{"a*.example.org"}), hostname("ab.example.org"), 62, alertBadCertificate},
		{"the CN does not count beside names", named(t, []string{"a.example"}), hostname("cn.example"), 62, alertBadCertificate},
		{"the CN does not count alone either", named(t, nil), hostname("cn.example"), 62, alertBadCertificate},
		{"IP address", serving("server"), hostname("127.0.0.1"), ok, 0},
		{"wrong IP address", serving("server"), hostname("127.0.0.2"), 64, alertBadCertificate},
		{"IPv6 address", named(t, nil, "2001:db8::1"), hostname("2001:db8::1"), ok, 0},
		{"IPv6 address written otherwise", named(t, nil, "2001:db8::1"), hostname("[2001:0DB8:0::1]"), ok, 0},
		{"wrong IPv6 address", named(t, nil, "2001:db8::1"), hostname("2001:db8::2"), 64, alertBadCertificate},
		{"IP address as a DNS name", named(t, []string{"127.0.0.1"}), hostname("127.0.0.1"), 64, alertBadCertificate},
		{"name from SNI", serving("server"), func(o *sslfilter.Options) { o.ServerName, o.SNI = "", "localhost" }, ok, 0},
		{"wrong name from SNI", serving("server"), func(o *sslfilter.Options) { o.ServerName, o.SNI = "", "example.org" }, 62, alertBadCertificate},
		{"ServerName wins over SNI", serving("server"), func(o *sslfilter.Options) { o.SNI = "example.org" }, ok, 0},
		{"no CA at all", serving("server"), func(o *sslfilter.Options) { o.CACrtMem = [][]byte{} }, 20, alertUnknownCA},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := mustCtx(t, c.server)
			protocols(t, func(t *testing.T, highest sslfilter.Version) {
				client := mustCtx(t, with(with(clientOptions(), c.client), func(o *sslfilter.Options) { o.MaxVersion = highest }))
				cuts(t, func(t *testing.T, cut enginetest.Chunker) {
					p := enginetest.New(filterOf(t, client), filterOf(t, server))
					p.Chunk = cut
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

func hostname(name string) func(*sslfilter.Options) {
	return func(o *sslfilter.Options) { o.ServerName = name }
}

// requireServerRefused holds that the client gave up, and told the server why.
func requireServerRefused(t *testing.T, p *enginetest.Pair, code sslfilter.VerifyCode, alert sslfilter.AlertError) {
	t.Helper()
	require.False(t, p.Client.HandshakeDone())
	require.False(t, p.Client.ClientCertValid())
	require.True(t, p.Client.ClientCertExists())
	require.Equal(t, code, asError[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code)
	require.Equal(t, alert, asError[sslfilter.AlertError](t, p.Server.Filter.Err()))
	require.Error(t, p.Client.Send([]byte("secret")))
	p.Transfer()
	require.Empty(t, p.Server.Got)
}

// The original's way: any server, and a verdict afterwards, without the name.
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
		{"server-wronghost", false, []sslfilter.VerifyCode{26}}, // and 62 is not among them
	} {
		t.Run(c.server, func(t *testing.T) {
			for _, name := range []string{"", "example.org"} {
				p := connect(t, serving(c.server), with(clientOptions(), func(o *sslfilter.Options) {
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

// A mismatch of the name stands in ClientCertIDs, but only where the name is verified.
func TestVerifyNameMismatchIsInTheIDs(t *testing.T) {
	count := func(f *sslfilter.Filter) (n int) {
		for _, id := range f.ClientCertIDs() {
			if id.Err == sslfilter.VerifyHostnameMismatch {
				n++
			}
		}
		return n
	}
	client := with(clientOptions(), hostname("example.org"))
	p := pair(t, serverOptions(), client)
	require.Error(t, p.Handshake())
	require.Equal(t, 1, count(p.Client.Filter))
	p = connect(t, serverOptions(), with(client, ignoring(62)))
	require.Equal(t, 1, count(p.Client.Filter))
	require.True(t, p.Client.ClientCertValid())
	p = connect(t, serverOptions(), with(client, func(o *sslfilter.Options) { o.InsecureSkipVerify = true }))
	require.Zero(t, count(p.Client.Filter))
}

// Without a name anybody with any certificate of the CA could be the server.
func TestVerifyNoNameNoHandshake(t *testing.T) {
	nameless := with(clientOptions(), hostname(""))
	for name, start := range map[string]func(*sslfilter.Filter) error{
		"Handshake": (*sslfilter.Filter).Handshake,
		"Send":      func(f *sslfilter.Filter) error { return f.Send([]byte("x")) },
		"Receive":   func(f *sslfilter.Filter) error { _, err := f.Receive(nil, []byte("x")); return err },
	} {
		t.Run(name, func(t *testing.T) {
			f := mustFilter(t, nameless)
			require.Equal(t, name, asError[*sslfilter.UsageError](t, start(f)).Op)
			require.Empty(t, f.Outgoing(nil))
			require.NoError(t, f.Err(), "a usage error leaves the filter as it was")
			require.NoError(t, f.SetServerName("localhost"))
			p := enginetest.New(f, mustFilter(t, serverOptions()))
			require.NoError(t, p.Handshake())
			require.True(t, p.Client.ClientCertValid())
		})
	}
	for _, bad := range []string{"", ".", ".localhost", "a b", "a\tb", "a\x00b", "a\x7f", strings.Repeat("x", 256)} {
		f := mustFilter(t, nameless)
		asError[*sslfilter.UsageError](t, f.SetServerName(bad))
		require.Equal(t, "SetVerifiedName", asError[*sslfilter.UsageError](t, f.SetVerifiedName(bad)).Op)
		asError[*sslfilter.UsageError](t, f.Handshake())
		require.NoError(t, f.Err())
	}
}

// What crypto/tls sees as SNI, and which name is verified.
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
		{"trailing dot", hostname("localhost."), "", "localhost", true},
		{"IP address, trailing dot", hostname("127.0.0.1."), "", "", true},
		{"IP address", hostname("127.0.0.1"), "", "", true},
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
			protocols(t, func(t *testing.T, highest sslfilter.Version) {
				var hello *tls.ClientHelloInfo
				f := mustFilter(t, with(clientOptions(), c.client))
				if name, ok := strings.CutPrefix(c.set, "verify "); ok {
					require.NoError(t, f.SetVerifiedName(name))
				} else if c.set != "" {
					require.NoError(t, f.SetServerName(c.set))
				}
				talkToGo(t, f, true, goServer(t, func(config *tls.Config) {
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

// OpenSSL's verification has nothing to say about a server without a certificate.
func TestVerifyAnonymousServer(t *testing.T) {
	anonymous := func(o *sslfilter.Options) { o.Cipher, o.TLS12 = "aNULL:@SECLEVEL=0", true }
	server := with(sslfilter.Options{}, anonymous)
	p := pair(t, server, with(clientOptions(), anonymous))
	require.Error(t, p.Handshake())
	require.False(t, p.Client.HandshakeDone())
	asError[*sslfilter.VerifyError](t, p.Client.Filter.Err())
	require.False(t, p.Client.ClientCertValid())
	require.Error(t, p.Client.Send([]byte("secret")))
	p.Transfer()
	require.Empty(t, p.Server.Got)

	p = connect(t, server, with(with(clientOptions(), anonymous), func(o *sslfilter.Options) { o.InsecureSkipVerify = true }))
	require.Contains(t, p.Client.Cipher(), "DH-") // AECDH-…, ADH-…
	require.False(t, p.Client.ClientCertExists())
	require.False(t, p.Client.ClientCertValid())
	require.Empty(t, p.Client.ClientCertIDs())
}

func TestCRLClientRefusesListedServer(t *testing.T) {
	lists := func(n ...int64) string { return tempFile(t, "crl.pem", revocations(t, serials(n...)...)) }
	for _, c := range []struct {
		name string
		file string
		code sslfilter.VerifyCode
	}{
		{"another listed", lists(0x1002), sslfilter.VerifyOK},
		{"server listed", lists(0x1001), sslfilter.VerifyCertRevoked},
		{"CA listed", lists(0x0A), sslfilter.VerifyCertRevoked},
		{"no entries", lists(), sslfilter.VerifyUnableToGetCRL},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := with(clientOptions(), crl(c.file))
			if c.code == sslfilter.VerifyOK {
				require.True(t, connect(t, serverOptions(), client).Client.ClientCertValid())
				return
			}
			p := pair(t, serverOptions(), client)
			require.Error(t, p.Handshake())
			alert := alertCertificateRevoked
			if c.code == sslfilter.VerifyUnableToGetCRL {
				alert = alertUnknownCA
			}
			requireServerRefused(t, p, c.code, alert)

			insecure := connect(t, serverOptions(), with(client, func(o *sslfilter.Options) { o.InsecureSkipVerify = true }))
			require.False(t, insecure.Client.ClientCertValid())
		})
	}
	require.Equal(t, big.NewInt(0x1001).Bytes(), connect(t, serverOptions(), clientOptions()).Client.Peer().Chain[0].Serial)
}

// A client without CACrt trusts what the system trusts.
func TestVerifySystemStoreIsTheDefault(t *testing.T) {
	for _, c := range []struct {
		ca    string
		valid bool
	}{{"root.crt", true}, {"other.crt", false}} {
		t.Run(c.ca, func(t *testing.T) {
			if child, _ := inChild(t, "", "SSL_CERT_FILE="+pki(c.ca), "SSL_CERT_DIR="+t.TempDir()); !child {
				return
			}
			require.NotEmpty(t, os.Getenv("SSL_CERT_FILE"))
			client := with(clientOptions(), func(o *sslfilter.Options) { o.CACrt = "" })
			for range 2 { // the store is shared by all contexts
				p := pair(t, serverOptions(), client)
				err := p.Handshake()
				require.Equal(t, c.valid, err == nil, "%v", err)
				require.Equal(t, c.valid, p.Client.ClientCertValid())
			}
		})
	}
}
