package sslfilter_test

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Ctx.Ciphers returns the suites of a cipher string, in order. Those that begin with
// TLS_ belong to TLS 1.3, which Cipher does not change.
func TestCiphersLists(t *testing.T) {
	lists := make(map[string][]string)
	for _, list := range []string{
		"",
		"DEFAULT@SECLEVEL=0", "DEFAULT@SECLEVEL=1", "DEFAULT@SECLEVEL=2", "DEFAULT@SECLEVEL=3", "DEFAULT@SECLEVEL=4", "DEFAULT@SECLEVEL=5",
		"DHE-RSA-AES256-GCM-SHA384:AES256-SHA", // from the man page
		"HIGH:!aNULL:!MD5", "HIGH:!aNULL:!kRSA:!PSK:!SRP@SECLEVEL=2", "MEDIUM:LOW:@SECLEVEL=0",
		"ALL:@SECLEVEL=0", "ALL:COMPLEMENTOFALL:@SECLEVEL=0", "aNULL:@SECLEVEL=0", "eNULL:@SECLEVEL=0",
		"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM", "kRSA:@SECLEVEL=1", "AES128:AES256:@STRENGTH", "ECDHE+AES:+AES256",
		"ECDHE-ECDSA-AES128-GCM-SHA256,ECDHE-RSA-AES128-GCM-SHA256 AES128-SHA;AES256-SHA", // all four separators
		"AES256-SHA:NO-SUCH-CIPHER", "AES256-SHA:-AES256-SHA:AES128-SHA", "AES256-SHA:AES128-SHA:!AES256-SHA:AES256-SHA",
		"SUITEB128", "SUITEB192", "TLSv1.2+aRSA", "CAMELLIA256:ARIA256",
	} {
		o := sslfilter.Options{Client: true, InsecureSkipVerify: true, Cipher: list}
		if accepted(o) != nil {
			lists[list] = []string{"refused"}
			continue
		}
		lists[list] = testkit.Ctx(t, o).Ciphers()
	}
	for name, o := range map[string]sslfilter.Options{
		"TLS 1.2 alone": {TLS12: true},
		"TLS 1.3 alone": {MinVersion: sslfilter.VersionTLS13},
		"CipherSuites":  {MinVersion: sslfilter.VersionTLS13, CipherSuites: "TLS_AES_128_CCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"},
		"TLS 1.0 alone": {MinVersion: sslfilter.VersionTLS10, MaxVersion: sslfilter.VersionTLS10, Cipher: "DEFAULT@SECLEVEL=0"},
	} {
		o.Client, o.InsecureSkipVerify = true, true
		if accepted(o) != nil {
			lists[name] = []string{"refused"}
			continue
		}
		lists[name] = testkit.Ctx(t, o).Ciphers()
	}
	golden(t, "ciphers", lists)
}

// A client offers exactly Ctx.Ciphers.
func TestCiphersOffered(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Client(func(o *sslfilter.Options) {
		o.Cipher = "ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA:ECDHE-RSA-AES256-GCM-SHA384"
		o.CipherSuites = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"
	}))

	var hello *tls.ClientHelloInfo
	testkit.TalkToGo(t, testkit.FilterOf(t, ctx), true, testkit.GoServer(t, func(c *tls.Config) {
		c.GetConfigForClient = func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			hello = info
			return nil, nil
		}
	}))

	const renegotiation = 0x00ff // TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746)
	offered := slices.DeleteFunc(hello.CipherSuites, func(id uint16) bool { return id == renegotiation })
	require.Equal(t, []uint16{0x1302, 0x1301, 0xc02f, 0x0035, 0xc030}, offered)
	want := []string{"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "AES256-SHA", "ECDHE-RSA-AES256-GCM-SHA384"}
	got := ctx.Ciphers()
	require.Equal(t, want, got)
	got[0] = "changed" // a copy
	require.Equal(t, want, ctx.Ciphers())
}

// NoHonor lets the client's order decide, in both versions.
func TestCiphersNoHonor(t *testing.T) {
	const strong, quick = "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"
	const strong13, quick13 = "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"
	server := testkit.Server(func(o *sslfilter.Options) { o.Cipher, o.CipherSuites = strong+":"+quick, strong13+":"+quick13 })
	client := testkit.Client(func(o *sslfilter.Options) { o.Cipher, o.CipherSuites = quick+":"+strong, quick13+":"+strong13 })
	for _, c := range []struct {
		noHonor bool
		in12    string
		in13    string
	}{
		{false, strong, strong13},
		{true, quick, quick13},
	} {
		server.NoHonor = c.noHonor
		p := testkit.Connect(t, server, testkit.With(client, testkit.TLS13))
		require.Equal(t, c.in13, p.Server.Cipher())
		only12 := client
		only12.CipherSuites = ""
		p = testkit.Connect(t, server, testkit.With(only12, testkit.TLS12))
		require.Equal(t, c.in12, p.Server.Cipher())
		require.Equal(t, p.Client.Cipher(), p.Server.Cipher())
	}
}

// Cipher applies to TLS 1.2 and CipherSuites to TLS 1.3. Neither changes the other.
func TestCiphersCipherAndCipherSuites(t *testing.T) {
	for _, c := range []struct {
		cipher, suites string
		in12, in13     string
		bits12, bits13 int
	}{
		{"", "", "ECDHE-RSA-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384", 256, 256},
		{"ECDHE-RSA-AES128-GCM-SHA256", "", "ECDHE-RSA-AES128-GCM-SHA256", "TLS_AES_256_GCM_SHA384", 128, 256},
		{"", "TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "TLS_AES_128_GCM_SHA256", 256, 128},
		{"ECDHE-RSA-CHACHA20-POLY1305", "TLS_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305", "TLS_CHACHA20_POLY1305_SHA256", 256, 256},
		{"AES128-SHA", "TLS_AES_128_CCM_SHA256", "AES128-SHA", "TLS_AES_128_CCM_SHA256", 128, 128},
		{"ECDHE-RSA-NULL-SHA:@SECLEVEL=0", "", "ECDHE-RSA-NULL-SHA", "TLS_AES_256_GCM_SHA384", 0, 256},
	} {
		if strings.Contains(c.cipher, "CHACHA20") && !served(t, "CHACHA20") || strings.Contains(c.cipher, "NULL") && !served(t, "NULL") {
			continue
		}
		server := testkit.Server(func(o *sslfilter.Options) { o.Cipher, o.CipherSuites = c.cipher, c.suites })
		client := testkit.Client(func(o *sslfilter.Options) {
			o.Cipher, o.CipherSuites = "ALL:eNULL:@SECLEVEL=0", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256"
			if served(t, "CHACHA20") {
				o.CipherSuites += ":TLS_CHACHA20_POLY1305_SHA256"
			}
		})

		p := testkit.Connect(t, server, testkit.With(client, testkit.TLS13))
		require.Equal(t, c.in13, p.Client.Cipher())
		require.Equal(t, c.bits13, p.Client.Bits())
		require.Equal(t, c.bits13, p.Server.Bits())
		client.CipherSuites = ""
		p = testkit.Connect(t, server, testkit.With(client, testkit.TLS12))
		require.Equal(t, c.in12, p.Client.Cipher())
		require.Equal(t, c.bits12, p.Client.Bits())
		require.Equal(t, c.bits12, p.Server.Bits())
	}
}

// The cipher string in the man page of the original has no effect in TLS 1.3, and its
// DHE suite needs DHCert before OpenSSL 4.0.
func TestCiphersOfTheManPage(t *testing.T) {
	const list, first, second = "DHE-RSA-AES256-GCM-SHA384:AES256-SHA", "DHE-RSA-AES256-GCM-SHA384", "AES256-SHA"
	server := testkit.Server(testkit.Cipher(list))
	withDH := testkit.With(server, func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh2048.pem") })
	require.Equal(t, "TLS_AES_256_GCM_SHA384", testkit.Connect(t, server, testkit.Client()).Server.Cipher())
	require.Equal(t, first, testkit.Connect(t, withDH, testkit.Client(testkit.TLS12)).Server.Cipher())
	alone := second
	if since(openssl40) {
		alone = first
	}
	require.Equal(t, alone, testkit.Connect(t, server, testkit.Client(testkit.TLS12)).Server.Cipher())
	require.Equal(t, second, testkit.Connect(t, withDH, testkit.Client(testkit.Cipher("AES256-SHA"), testkit.TLS12)).Server.Cipher())
}

// Groups selects the key exchange in both versions. A client that sends a key share of
// another group gets a HelloRetryRequest (RFC 8446 section 4.1.4).
func TestCiphersGroups(t *testing.T) {
	for name, id := range map[string]uint16{"X25519": 29, "X448": 30, "P-256": 23, "P-384": 24, "P-521": 25} {
		t.Run(name, func(t *testing.T) {
			if !served(t, name) {
				return
			}
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				server := testkit.Server(func(o *sslfilter.Options) { o.Groups, o.MaxVersion = name, highest })
				for _, offered := range []string{name, groups(t, "X448:P-521:P-384:P-256:X25519"), groups(t, "X25519:P-256:P-384:P-521:X448")} {
					p := testkit.Connect(t, server, testkit.Client(func(o *sslfilter.Options) { o.Groups = offered }))
					for _, side := range []*sslfilter.Filter{p.Client.Filter, p.Server.Filter} {
						if since(openssl30) {
							require.Equal(t, id, side.Group(), offered)
						}
					}
				}

				// crypto/tls shows the groups of the ClientHello.
				var hello *tls.ClientHelloInfo
				client := testkit.Client(func(o *sslfilter.Options) { o.Groups, o.MaxVersion = name, highest })
				testkit.TalkToGo(t, testkit.Filter(t, client), true, testkit.GoServer(t, func(c *tls.Config) {
					c.GetConfigForClient = func(info *tls.ClientHelloInfo) (*tls.Config, error) {
						hello = info
						return nil, nil
					}
				}))

				require.Equal(t, []tls.CurveID{tls.CurveID(id)}, hello.SupportedCurves)
			})
		})
	}
}

// groups returns list without the groups that the FIPS provider does not have.
func groups(t testing.TB, list string) string {
	t.Helper()
	return strings.Join(slices.DeleteFunc(strings.Split(list, ":"), func(name string) bool { return !served(t, name) }), ":")
}

// "@SECLEVEL" in Cipher decides which certificates are accepted: NewCtx checks this
// side's certificate, and the handshake the peer's.
func TestCiphersSecurityLevelAndCertificates(t *testing.T) {
	const keyTooSmall = sslfilter.VerifyCode(66) // X509_V_ERR_EE_KEY_TOO_SMALL
	level := func(o sslfilter.Options, n string) sslfilter.Options {
		return testkit.With(o, testkit.Cipher("DEFAULT@SECLEVEL="+n))
	}
	for n, admitted := range map[string]bool{"0": true, "1": true, "2": false, "3": false} { // RSA-1024 has 80 bits of security
		if admitted && !served(t, "RSA-1024") {
			continue
		}
		own := level(testkit.ServerOf("server-1024"), n)
		if !admitted {
			refuse(t, own, "Crt", testkit.PKI("server-1024.crt"))
			if !served(t, "RSA-1024") {
				continue
			}
			own = level(testkit.ServerOf("server-1024"), "1")
		}
		p := testkit.NewPair(t, own, level(testkit.Client(), n))
		err := p.Handshake()
		require.Equal(t, admitted, p.Client.HandshakeDone(), "level %s: %v", n, err)
		if !admitted {
			require.Equal(t, keyTooSmall, testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code)
		}
	}
	for n, admitted := range map[string]bool{"0": true, "1": false} { // TLS 1.0 signs with SHA-1
		if !served(t, "TLSv1") {
			break
		}
		old := func(o sslfilter.Options) sslfilter.Options {
			o.MinVersion, o.MaxVersion = sslfilter.VersionTLS10, sslfilter.VersionTLS10
			return level(o, n)
		}
		_, clientErr := sslfilter.NewCtx(old(testkit.Client())) // OpenSSL 4.0 has no usable suite
		_, serverErr := sslfilter.NewCtx(old(testkit.Server())) // 3.0 and later have no usable signature algorithm
		if clientErr != nil || serverErr != nil {
			require.False(t, admitted, "level %s: %v, %v", n, clientErr, serverErr)
			continue
		}
		p := testkit.NewPair(t, old(testkit.Server()), old(testkit.Client()))
		err := p.Handshake()
		require.Equal(t, admitted || !since(openssl30), p.Server.HandshakeDone(), "level %s: %v", n, err)
	}
}

// A server needs no certificate if all its cipher suites are anonymous.
func TestCiphersAnonymous(t *testing.T) {
	anonymous := testkit.With(sslfilter.Options{Cipher: "AECDH-AES256-SHA:ADH-AES256-SHA:@SECLEVEL=0"}, testkit.TLS12)
	client := testkit.With(sslfilter.Options{Client: true, InsecureSkipVerify: true, Cipher: anonymous.Cipher}, testkit.TLS12)
	p := testkit.Connect(t, anonymous, client)
	require.Equal(t, "AECDH-AES256-SHA", p.Server.Cipher())
	require.NoError(t, p.Client.Send([]byte("from an anonymous client")))
	p.Transfer()
	require.Equal(t, "from an anonymous client", string(p.Server.Got))

	mixed := testkit.Server(testkit.Cipher("AECDH-AES256-SHA:AES256-SHA:@SECLEVEL=0"), testkit.TLS12)
	require.Equal(t, "AECDH-AES256-SHA", testkit.Connect(t, mixed, client).Server.Cipher())
	require.Equal(t, "AES256-SHA", testkit.Connect(t, mixed, testkit.Client(testkit.TLS12)).Server.Cipher())

	p = testkit.NewPair(t, anonymous, testkit.Client(testkit.TLS12))
	require.Error(t, p.Handshake())
	require.False(t, p.Server.HandshakeDone())
}

// OpenSSL accepts a cipher list even if the protocol versions and the security level exclude
// all of its suites. NewCtx rejects such a list, because no handshake could complete. With the
// original, each handshake fails.
func TestCiphersNoneLeft(t *testing.T) {
	for name, change := range map[string]func(*sslfilter.Options){
		"no suite of TLS 1.2": func(o *sslfilter.Options) { o.Cipher, o.TLS12 = "eNULL", true },
		"level too high":      func(o *sslfilter.Options) { o.Cipher, o.TLS12 = "AES128-SHA@SECLEVEL=5", true },
	} {
		for _, side := range []sslfilter.Options{testkit.Client(), testkit.Server()} {
			require.ErrorContains(t, refuse(t, testkit.With(side, change), "Cipher", ""), "no suite is left", name)
		}
	}
}
