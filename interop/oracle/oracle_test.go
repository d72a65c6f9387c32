package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

const (
	pkiDir   = "../../testdata/pki"
	caseFile = "../../testdata/oracle/cases.jsonl"

	// runMain makes this test binary run the program itself.
	runMain = "SSLFILTER_ORACLE_MAIN"
)

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

func linked(t *testing.T) version {
	v, err := parseVersion(sslfilter.OpenSSLVersion())
	require.NoError(t, err)
	return v
}

func allCases(t *testing.T) []*Case {
	cases, err := ReadCases(caseFile)
	require.NoError(t, err)
	require.NotEmpty(t, cases)
	return cases
}

// stacks.jsonl has more cases of the kind "stack", recorded in the same way. Cases with
// a note have the right result where the original is wrong.
func TestStacks(t *testing.T) {
	cases, err := ReadCases("testdata/stacks.jsonl")
	require.NoError(t, err)
	require.NotEmpty(t, cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			r := Run(c, pkiDir)
			require.Empty(t, r.Unsupported)
			require.NotEmpty(t, c.Expect)
			require.Empty(t, Compare(adjust(c, linked(t)), r))
		})
	}
}

// notFIPS are the cases that need an algorithm which the FIPS provider does not have.
// Each of them must have another result with FIPS.
var notFIPS = map[string]string{
	"A05-rsa1024-seclevel1":      "it signs with no RSA key below 2048 bits (SP 800-131A)",
	"E01-dh-dhx2048":             "it takes no parameters but the safe primes of RFC 7919 and RFC 3526 (SP 800-56A)",
	"E02-dhmem-dhx2048":          "it takes no parameters but the safe primes of RFC 7919 and RFC 3526 (SP 800-56A)",
	"E10-cipher-camellia":        "Camellia is not approved",
	"E10-cipher-chacha":          "ChaCha20-Poly1305 is not approved",
	"E11-cipher-chacha-tls12":    "ChaCha20-Poly1305 is not approved",
	"E12-cipher-camellia-client": "Camellia is not approved",
	"E12-cipher-chacha-client":   "ChaCha20-Poly1305 is not approved",
	"E14-enull-both-sec0":        "it has no NULL cipher",
}

func TestOracle(t *testing.T) {
	v := linked(t)
	for _, c := range allCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			if reason := notFIPS[c.Name]; reason != "" && sslfilter.FIPSEnabled() {
				require.NotEmpty(t, Compare(adjust(c, v), Run(c, pkiDir)))
				t.Skip("not under FIPS: " + reason)
			}
			r := Run(c, pkiDir)
			require.Empty(t, r.Unsupported)
			require.NotEmpty(t, c.Expect)
			for _, wrong := range Compare(adjust(c, v), r) {
				t.Error(wrong)
			}
		})
	}
}

// A difference that is not needed any more would hide the next mistake.
func TestDifferencesAreNeeded(t *testing.T) {
	v := linked(t)
	byName := make(map[string]*Case)
	for _, c := range allCases(t) {
		byName[c.Name] = c
	}
	for i := range differences {
		d := &differences[i]
		t.Run(d.name, func(t *testing.T) {
			c := byName[d.name]
			require.NotNil(t, c, "the file has no such case")
			if !d.holds(v) {
				t.Skipf("not for %s", sslfilter.OpenSSLVersion())
			}
			require.NotEmpty(t, Compare(c, Run(c, pkiDir)), "the file's own expectations hold: %s", d.why)
		})
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]version{
		"OpenSSL 1.1.1w  11 Sep 2023": 111,
		"OpenSSL 3.0.19 27 Jan 2026":  300,
		"OpenSSL 3.5.0 8 Apr 2025":    305,
		"OpenSSL 4.0.0-dev ":          400,
	} {
		got, err := parseVersion(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	_, err := parseVersion("BoringSSL")
	require.Error(t, err)
}

// write writes lines to a case file.
func write(t *testing.T, lines ...string) string {
	path := filepath.Join(t.TempDir(), "cases.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
	return path
}

// program runs the program as a process.
func program(t *testing.T, args ...string) (stdout string, status int) {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), runMain+"=1")
	var errText bytes.Buffer
	cmd.Stderr = &errText
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	t.Log(errText.String())
	return string(out), cmd.ProcessState.ExitCode()
}

// scenario returns a case that succeeds, with room for expectations and other keys.
const (
	server   = `"server":{"new":{"crt":"@server.crt","key":"@server.key","clientcert":1,"cacrt":"@root.crt"}}`
	client   = `"client":{"new":{"client":1,"crt":"@client.crt","key":"@client.key"}}`
	messages = `"messages":[{"from":"client","data":["hello"]}]`
)

func caseLine(name, scenario, expect string) string {
	return fmt.Sprintf(`{"name":%q,"scenario":{%s},"expect":{%s}}`, name, scenario, expect)
}

func TestProgramPrintsEveryCase(t *testing.T) {
	path := write(t,
		caseLine("works", server+","+client+","+messages+`,"crls":["@crl.pem",null]`, ``),
		caseLine("option", `"server":{"new":{"certificate":"x"}},`+client, ``),
		caseLine("stack", `"server":{"kind":"stack","stack":["SSL","Block"],"new":{}},`+client, ``),
		caseLine("peer", `"server":{"kind":"ssleay"},`+client, ``),
		caseLine("script", server+","+client+`,"ops":[{"op":"pump"}]`, ``),
		``,
		`{"name":"broken"`,
		`[]`,
	)
	out, status := program(t, "-pki", pkiDir, path)
	require.Zero(t, status)
	got := make(map[string]map[string]any)
	for line := range strings.Lines(out) {
		var r map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		got[r["name"].(string)] = r
	}
	require.ElementsMatch(t, []string{"works", "option", "stack", "peer", "script", "line 7", "line 8"}, slices.Collect(maps.Keys(got)))

	side := got["works"]["server"].(map[string]any)
	require.Equal(t, true, side["done"])
	require.Equal(t, true, side["valid"])
	require.Equal(t, map[string]any{"@crl.pem": true, "": false}, side["crl"])
	require.Equal(t, []any{"/C=DE/O=Oracle Test/CN=client valid", "/C=DE/O=Oracle Test/CN=Oracle Root CA", "20:01", 0.0}, side["ids"].([]any)[1])
	require.Equal(t, map[string]any{"bytes": 5.0, "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}, side["rx"])
	require.NotContains(t, side, "error")

	require.Equal(t, true, got["option"]["server"].(map[string]any)["new_error"])
	require.NotContains(t, got["option"]["client"], "new_error")
	for _, name := range []string{"stack", "peer", "script", "line 7", "line 8"} {
		require.NotEmpty(t, got[name]["unsupported"], name)
		require.NotContains(t, got[name], "server", name)
	}
}

func TestProgramCompares(t *testing.T) {
	good := caseLine("good", server+","+client+","+messages, `"server":{"done":true,"valid":true,"rx":{"bytes":5}}`)
	for name, test := range map[string]struct {
		lines  []string
		out    []string
		status int
	}{
		"all agree": {
			lines: []string{good},
			out:   []string{"1 cases: 1 agree, 0 disagree, 0 unsupported"},
		},
		"wrong expectations": {
			lines: []string{
				good,
				caseLine("bad", server+","+client+`,"crls":["@crl.pem","@crl-zero.pem"]`,
					`"server":{"valid":false,"ids":[],"error":1,"crl":{"@crl.pem":true,"@crl-zero.pem":true}},"client":{"version":"TLSv1.2"}`),
				caseLine("made", server+","+client, `"server":{"new_error":true}`),
				caseLine("not made", `"server":{"new":{"crt":"@garbage.pem","key":"@server.key"}},`+client, `"server":{"done":true}`),
				caseLine("stack", `"server":{"kind":"stack"},`+client, `"server":{"done":true}`),
			},
			out: []string{
				`bad: client: version: want "TLSv1.2", got "TLSv1.3"`,
				`bad: server: crl.@crl-zero.pem: want true, got false`,
				`bad: server: error: want 1, got null`,
				`bad: server: ids: want [], got [[`,
				`bad: server: valid: want false, got true`,
				`made: server: new_error: want an error, and there was none`,
				`not made: server: new_error: option Crt`,
				`5 cases: 1 agree, 3 disagree, 1 unsupported`,
			},
			status: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, status := program(t, "-compare", "-pki", pkiDir, write(t, test.lines...))
			require.Equal(t, test.status, status)
			lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
			require.Len(t, lines, len(test.out), out)
			for i, want := range test.out {
				// the prefix of sslfilter does not matter here
				require.True(t, strings.HasPrefix(strings.Replace(lines[i], "sslfilter: ", "", 1), want), "%q\n%q", lines[i], want)
			}
		})
	}
}

func TestProgramRefusesWrongUse(t *testing.T) {
	for name, args := range map[string][]string{
		"no file":      {"-pki", pkiDir},
		"missing file": {filepath.Join(t.TempDir(), "none.jsonl")},
		"unknown flag": {"-nosuch"},
	} {
		t.Run(name, func(t *testing.T) {
			out, status := program(t, args...)
			require.Empty(t, out)
			require.Equal(t, 2, status)
		})
	}
}
