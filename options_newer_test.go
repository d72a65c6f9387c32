package sslfilter_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// With an earlier OpenSSL, a feature of a later version causes an error that names the later
// version. With that version the feature works.
func TestOptionsOfNewerOpenSSL(t *testing.T) {
	newer := func(name string) string { return filepath.Join("testdata", "newer", name) }
	groups := func(list string) func(*sslfilter.Options) { return func(o *sslfilter.Options) { o.Groups = list } }
	suites := func(list string) func(*sslfilter.Options) {
		return func(o *sslfilter.Options) { o.CipherSuites, o.Cipher = list, "DEFAULT@SECLEVEL=0" }
	}
	versions := map[string]uint64{"3.0": openssl30, "3.2": openssl32, "3.3": 0x30300000, "3.4": 0x30400000, "3.5": openssl35}
	for _, c := range []struct {
		change func(*sslfilter.Options)
		option string
		needs  string
		name   string // contained in the error
	}{
		{groups("ffdhe2048"), "Groups", "3.0", "group ffdhe2048"},
		{groups("P-256:ffdhe8192"), "Groups", "3.0", "group ffdhe8192"},
		{groups("secp256r1:P-384"), "Groups", "3.0", "group secp256r1"},
		{groups("brainpoolP256r1tls13"), "Groups", "3.2", "group brainpoolP256r1tls13"},
		{groups("?no-such-group:P-256"), "Groups", "3.3", "'?'"},
		{groups("X25519MLKEM768"), "Groups", "3.5", "group X25519MLKEM768"},
		{groups("P-256:x25519mlkem768"), "Groups", "3.5", "group x25519mlkem768"},
		{groups("SecP256r1MLKEM768"), "Groups", "3.5", "group SecP256r1MLKEM768"},
		{groups("SecP384r1MLKEM1024"), "Groups", "3.5", "group SecP384r1MLKEM1024"},
		{groups("MLKEM768"), "Groups", "3.5", "group MLKEM768"},
		{groups("?X25519MLKEM768:P-256"), "Groups", "3.5", "group X25519MLKEM768"},
		{groups("*P-256/P-384"), "Groups", "3.5", "'/' and '*'"},
		{groups("DEFAULT"), "Groups", "3.5", "group DEFAULT"},
		{suites("TLS_SHA256_SHA256"), "CipherSuites", "3.4", "ciphersuite TLS_SHA256_SHA256"},
		{suites("TLS_AES_128_GCM_SHA256:TLS_SHA384_SHA384"), "CipherSuites", "3.4", "ciphersuite TLS_SHA384_SHA384"},
		{func(o *sslfilter.Options) { o.Crt, o.Key = newer("mldsa44.crt"), newer("mldsa44.key") }, "Crt", "3.5", "ML-DSA-44"},
		{func(o *sslfilter.Options) { o.Key = newer("mldsa44.key") }, "Key", "3.5", "ML-DSA-44"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testkit.Server(c.change)
			if c.option == "CipherSuites" && !served(t, "NULL") { // these suites do not encrypt
				return
			}
			if c.option == "Groups" && c.needs == "3.2" && !served(t, "brainpool") {
				return
			}
			err := accepted(o)
			if err == nil && c.option == "Groups" && sslfilter.FIPSEnabled() {
				return // the FIPS module may be newer than OpenSSL, and have more groups
			}
			if !since(versions[c.needs]) {
				refused := testkit.As[*sslfilter.OptionError](t, err)
				require.Equal(t, c.option, refused.Option)
				require.Equal(t, c.needs, testkit.As[*sslfilter.VersionError](t, err).Needs, "%v", err)
				require.Contains(t, err.Error(), c.name)
				require.Contains(t, err.Error(), " needs OpenSSL "+c.needs+" or later; this is "+sslfilter.OpenSSLVersion())
				return
			}
			if c.option == "Key" { // the key of another certificate
				require.ErrorContains(t, err, "does not match")
				return
			}
			require.NoError(t, err)
		})
	}
}

// For an unknown name, the error does not ask for a newer version.
func TestOptionsUnknownNamesNeedNoVersion(t *testing.T) {
	for option, change := range map[string]func(*sslfilter.Options){
		"Groups":       func(o *sslfilter.Options) { o.Groups = "P-256:NO-SUCH-GROUP" },
		"CipherSuites": func(o *sslfilter.Options) { o.CipherSuites = "TLS_NO_SUCH_SUITE" },
		"Key":          func(o *sslfilter.Options) { o.Key = testkit.PKI("client.key") },
		"Crt":          func(o *sslfilter.Options) { o.Crt = testkit.PKI("garbage.pem") },
	} {
		err := accepted(testkit.Server(change))
		require.Equal(t, option, testkit.As[*sslfilter.OptionError](t, err).Option)
		var newer *sslfilter.VersionError
		require.NotErrorAs(t, err, &newer)
	}
}

// The table in docs/options.md has every name that needs a later OpenSSL, in the row of
// its version.
func TestOptionsNewerOpenSSLDocs(t *testing.T) {
	rows := make(map[string]string)
	for _, line := range readPage(t, filepath.Join("docs", "options.md")).lines {
		if cells := strings.Split(line.text, " | "); line.section == "Abilities of later versions of OpenSSL" && len(cells) == 2 {
			rows[strings.TrimPrefix(cells[0], "| ")] = strings.ToLower(cells[1])
		}
	}
	for name, version := range sslfilter.Newer() {
		require.Regexp(t, `\b`+regexp.QuoteMeta(strings.ToLower(name))+`\b`, rows[version], version)
	}
}
