package live_test

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// scanned are the servers that are scanned.
var scanned = []struct {
	name, key string
	change    func(*sslfilter.Options)
}{
	{"default, RSA", "server", nil},
	{"default, ECDSA", "server-ec", nil},
	{"TLS12", "server", func(o *sslfilter.Options) { o.TLS12 = true }},
	{"Cipher", "server", func(o *sslfilter.Options) {
		o.Cipher, o.CipherSuites = "ECDHE+CHACHA20:AES128-SHA:ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"
	}},
}

// servable returns the suites that a server with this type of key can negotiate
// without DH parameters. The other suites of the list are never negotiated.
func servable(ciphers []string, ecdsa bool) (list []string) {
	for _, c := range ciphers {
		switch {
		case strings.HasPrefix(c, "TLS_"):
		case strings.Contains(c, "PSK") || strings.Contains(c, "SRP") || strings.HasPrefix(c, "DHE-"):
			continue
		case strings.HasPrefix(c, "ECDHE-ECDSA-") != ecdsa:
			continue
		case ecdsa == !strings.Contains(c, "ECDSA"): // only RSA has a key exchange of its own
			continue
		}
		list = append(list, c)
	}
	return list
}

// sslscan finds the suites of Ctx.Ciphers, and calls none of them weak.
func TestSSLScan(t *testing.T) {
	notShort(t, true)
	path := peers.Find(t, "sslscan", "sslscan")
	version, _ := run(t, path, "--version", "--no-colour")
	document.peer("sslscan", "sslscan", firstMatch(`(\d+\.\S+)`, version))
	for _, s := range scanned {
		t.Run(s.name, func(t *testing.T) {
			o := sslfilter.Options{Crt: testkit.AbsPKI(s.key + ".crt"), Key: testkit.AbsPKI(s.key + ".key")}
			if s.change != nil {
				s.change(&o)
			}
			addr, _ := echoServer(t, o)
			file := filepath.Join(t.TempDir(), "scan.xml")
			out, status := run(t, path, "--no-colour", "--xml="+file, "--no-heartbleed", "--no-groups", "--no-check-certificate", "--sni-name=localhost", addr)
			require.Zero(t, status, out)
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			var found struct {
				Protocols []struct {
					Type    string `xml:"type,attr"`
					Version string `xml:"version,attr"`
					Enabled int    `xml:"enabled,attr"`
				} `xml:"ssltest>protocol"`
				Ciphers []struct {
					Name     string `xml:"cipher,attr"`
					Strength string `xml:"strength,attr"`
				} `xml:"ssltest>cipher"`
			}
			require.NoError(t, xml.Unmarshal(data, &found), "%s", data)
			var names, protocols []string
			for _, c := range found.Ciphers {
				names = append(names, c.Name)
				require.Contains(t, []string{"strong", "acceptable"}, c.Strength, c.Name)
			}
			for _, p := range found.Protocols {
				if p.Enabled == 1 {
					protocols = append(protocols, p.Type+p.Version)
				}
			}
			require.ElementsMatch(t, servable(testkit.Ctx(t, o).Ciphers(), s.key == "server-ec"), names)
			want := []string{"tls1.2", "tls1.3"}
			if o.TLS12 {
				want = want[:1]
			}
			require.Equal(t, want, protocols)
			document.extra(scan+" ("+s.name+")", "sslscan", "yes")
		})
	}
}

// testssl.sh finds no problem in the protocols and the kinds of suites that a server
// has by default. It gives suites with CBC the severity LOW.
func TestTestSSL(t *testing.T) {
	notShort(t, true)
	t.Parallel()
	path := peers.Find(t, "testssl.sh", "testssl")
	addr, _ := echoServer(t, testkit.Server())
	file := filepath.Join(t.TempDir(), "found.json")
	p := peers.StartForeign(t, nil, path, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1", "--jsonfile", file,
		"-p", "-s", "https://localhost:"+peers.Port(t, addr))
	p.CloseInput()
	p.WaitWithin(16 * peers.Patience) // takes most of a minute of CPU time
	data, err := os.ReadFile(file)
	require.NoError(t, err, p.Output())
	var found []struct{ ID, Severity, Finding string }
	require.NoError(t, json.Unmarshal(data, &found), "%s", data)
	verdicts := map[string]string{}
	for _, f := range found {
		verdicts[f.ID] = f.Severity + ": " + f.Finding
		if strings.HasPrefix(f.ID, "cipherlist_") || slices.Contains([]string{"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3"}, f.ID) {
			require.Contains(t, []string{"OK", "INFO", "LOW"}, f.Severity, "%s: %s", f.ID, f.Finding)
		}
	}
	for id, want := range map[string]string{
		"SSLv2": "OK: not offered", "SSLv3": "OK: not offered", "TLS1": "INFO: not offered", "TLS1_1": "INFO: not offered",
		"TLS1_2": "OK: offered", "TLS1_3": "OK: offered", "cipherlist_NULL": "OK: not offered", "cipherlist_aNULL": "OK: not offered",
		"cipherlist_EXPORT": "OK: not offered", "cipherlist_STRONG": "OK: offered",
	} {
		require.True(t, strings.HasPrefix(verdicts[id], want), "%s is %q\n%s", id, verdicts[id], data)
	}
	version, _ := run(t, "/usr/bin/dpkg-query", "-W", "-f", "${Version}", "testssl.sh")
	document.peer("testssl.sh", "testssl.sh", firstMatch(`([\d.]+)`, version))
	document.extra(weak+" (default, RSA)", "testssl.sh", "yes")
}
