package sslfilter_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

const (
	v10 = sslfilter.VersionTLS10
	v11 = sslfilter.VersionTLS11
	v12 = sslfilter.VersionTLS12
	v13 = sslfilter.VersionTLS13
)

// Each combination of options allows certain versions.
func TestVersionsAdmitted(t *testing.T) {
	all := []sslfilter.Version{v10, v11, v12, v13}
	for _, c := range []struct {
		name    string
		options sslfilter.Options
		admits  []sslfilter.Version
	}{
		{"default", sslfilter.Options{}, []sslfilter.Version{v12, v13}},
		{"TLS", sslfilter.Options{TLS: true}, []sslfilter.Version{v12, v13}},
		{"TLS12", sslfilter.Options{TLS12: true}, []sslfilter.Version{v12}},
		{"TLS and TLS12", sslfilter.Options{TLS: true, TLS12: true}, []sslfilter.Version{v12}},
		{"TLS12 with its own limits", sslfilter.Options{TLS12: true, MinVersion: v12, MaxVersion: v12}, []sslfilter.Version{v12}},
		{"MinVersion 1.0", sslfilter.Options{MinVersion: v10}, all},
		{"MinVersion 1.1", sslfilter.Options{MinVersion: v11}, all[1:]},
		{"MinVersion 1.2", sslfilter.Options{MinVersion: v12}, all[2:]},
		{"MinVersion 1.3", sslfilter.Options{MinVersion: v13}, all[3:]},
		{"TLS with MinVersion 1.3", sslfilter.Options{TLS: true, MinVersion: v13}, all[3:]},
		{"MaxVersion 1.2", sslfilter.Options{MaxVersion: v12}, []sslfilter.Version{v12}},
		{"MaxVersion 1.3", sslfilter.Options{MaxVersion: v13}, all[2:]},
		{"1.0 to 1.1", sslfilter.Options{MinVersion: v10, MaxVersion: v11}, all[:2]},
		{"1.1 to 1.2", sslfilter.Options{MinVersion: v11, MaxVersion: v12}, all[1:3]},
		{"1.0 alone", sslfilter.Options{MinVersion: v10, MaxVersion: v10}, all[:1]},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := testkit.With(c.options, func(o *sslfilter.Options) {
				o.Crt, o.Key, o.Cipher = testkit.PKI("server.crt"), testkit.PKI("server.key"), "DEFAULT:@SECLEVEL=0"
			})

			client := testkit.With(c.options, func(o *sslfilter.Options) { o.Client, o.InsecureSkipVerify, o.Cipher = true, true, server.Cipher })
			for _, v := range all {
				if !served(t, v.String()) {
					continue
				}
				want := "(NONE)"
				for _, admitted := range c.admits {
					if v == admitted {
						want = v.String()
					}
				}
				only := func(o sslfilter.Options) sslfilter.Options {
					o.TLS, o.TLS12, o.MinVersion, o.MaxVersion = false, false, v, v
					return o
				}
				p := testkit.NewPair(t, server, only(client))
				p.Handshake()
				require.Equal(t, want, p.Server.Version(), "server, client of %v", v)
				p = testkit.NewPair(t, only(server), client)
				p.Handshake()
				require.Equal(t, want != "(NONE)", p.Client.HandshakeDone(), "client, server of %v: %v", v, p.Client.Filter.Err())
				if want != "(NONE)" {
					require.Equal(t, want, p.Client.Version())
				}
			}
		})
	}
}

// The highest common version is negotiated.
func TestVersionsHighestCommon(t *testing.T) {
	require.Equal(t, "TLSv1.3", testkit.Connect(t, testkit.Server(), testkit.Client()).Client.Version())
	require.Equal(t, "TLSv1.2", testkit.Connect(t, testkit.Server(testkit.TLS12), testkit.Client()).Client.Version())
	require.Equal(t, "TLSv1.2", testkit.Connect(t, testkit.Server(), testkit.Client(testkit.TLS12)).Client.Version())
}

func TestVersionsNames(t *testing.T) {
	for v, name := range map[sslfilter.Version]string{v10: "TLSv1", v11: "TLSv1.1", v12: "TLSv1.2", v13: "TLSv1.3", 0x0300: "0x0300", 0: "0x0000"} {
		require.Equal(t, name, v.String())
	}
}

// The system's openssl.cnf applies if the options do not set the versions, and it never
// lowers the default.
func TestVersionsOfTheSystem(t *testing.T) {
	for name, c := range map[string]struct {
		limits  string
		change  func(*sslfilter.Options)
		version string // of a connection, or the rejected option
	}{
		"no limits":                   {"", nil, "TLSv1.3"},
		"MaxProtocol 1.2":             {"MaxProtocol = TLSv1.2", nil, "TLSv1.2"},
		"MaxProtocol 1.2, MaxVersion": {"MaxProtocol = TLSv1.2", func(o *sslfilter.Options) { o.MaxVersion = v13 }, "TLSv1.3"},
		"MaxProtocol 1.2, MinVersion": {"MaxProtocol = TLSv1.2", func(o *sslfilter.Options) { o.MinVersion = v13 }, "MinVersion"},
		"MaxProtocol 1.1":             {"MaxProtocol = TLSv1.1", nil, "MinVersion"},
		"MinProtocol 1.3":             {"MinProtocol = TLSv1.3", nil, "TLSv1.3"},
		"MinProtocol 1.3, MaxVersion": {"MinProtocol = TLSv1.3", func(o *sslfilter.Options) { o.MaxVersion = v12 }, "MaxVersion"},
		"MinProtocol 1.3, MinVersion": {"MinProtocol = TLSv1.3", func(o *sslfilter.Options) { o.MinVersion, o.MaxVersion = v12, v12 }, "TLSv1.2"},
		"MinProtocol 1.3, TLS12":      {"MinProtocol = TLSv1.3", testkit.TLS12, "TLSv1.2"},
		"MinProtocol 1.0":             {"MinProtocol = TLSv1", testkit.Cipher("DEFAULT@SECLEVEL=0"), "TLSv1.3"},
		"MinProtocol 1.0, MaxVersion": {"MinProtocol = TLSv1\nCipherString = DEFAULT@SECLEVEL=0", func(o *sslfilter.Options) { o.MinVersion, o.MaxVersion = v10, v11 }, "TLSv1.1"},
		"CipherString of the system":  {"CipherString = AES256-SHA", testkit.TLS12, "TLSv1.2 AES256-SHA"},
		"CipherString, and Cipher":    {"CipherString = AES256-SHA", func(o *sslfilter.Options) { o.TLS12, o.Cipher = true, "AES128-SHA" }, "TLSv1.2 AES128-SHA"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := testkit.TempFile(t, "openssl.cnf", []byte("openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = limits\n[limits]\n"+c.limits+"\n"))
			if child, _ := inChild(t, "", "OPENSSL_CONF="+conf); !child {
				return
			}
			o := testkit.Server(c.change)
			if strings.HasSuffix(c.version, "Version") {
				require.ErrorContains(t, refuse(t, o, c.version, ""), "openssl.cnf")
				return
			}
			p := testkit.Connect(t, o, testkit.Client(c.change))
			require.Contains(t, p.Server.Version()+" "+p.Server.Cipher(), c.version)
		})
	}
}

// MinProtocol of openssl.cnf does not enable TLS 1.0, which RFC 8996 forbids.
func TestVersionsOldOfTheSystem(t *testing.T) {
	conf := testkit.TempFile(t, "openssl.cnf", []byte("openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = limits\n[limits]\nMinProtocol = TLSv1\nCipherString = DEFAULT@SECLEVEL=0\n"))
	if child, _ := inChild(t, "", "OPENSSL_CONF="+conf); child {
		p := testkit.NewPair(t, testkit.Server(), testkit.Client(func(o *sslfilter.Options) { o.MinVersion, o.MaxVersion = v10, v11 }))
		require.Error(t, p.Handshake())
		require.False(t, p.Server.HandshakeDone())
	}
}

func TestVersionsOpenSSL(t *testing.T) {
	require.Regexp(t, regexp.MustCompile(`^OpenSSL \d+\.\d+\.\d+`), sslfilter.OpenSSLVersion())
	require.True(t, strings.HasPrefix(sslfilter.OpenSSLVersion(), "OpenSSL "+opensslName()), "%s is not %s", sslfilter.OpenSSLVersion(), opensslName())
}
