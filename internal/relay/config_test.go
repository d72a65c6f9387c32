package relay

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// parseFlags makes a configuration of flags.
func parseFlags(args ...string) (*Config, error) {
	fs := flag.NewFlagSet("sslrelay", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c := new(Config)
	Flags(fs, c)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	return c, c.Finish()
}

// Every field of the library's options has a flag and a key on each side where
// it means something, and what is given there reaches the field.
func TestEveryOptionHasAFlag(t *testing.T) {
	const inMemory, role, clients, servers = "a flag names files", "the side decides", "on the side of the backend alone", "on the side of the clients alone"
	skipServer := map[string]string{
		"Client": role, "CrtMem": inMemory, "KeyMem": inMemory, "ChainMem": inMemory, "CACrtMem": inMemory, "DHCertMem": inMemory,
		"CACRLMem": inMemory, "CRLMem": inMemory,
		"InsecureSkipVerify": clients, "ServerName": clients,
	}
	skipBackend := map[string]string{
		"Client": role, "CrtMem": inMemory, "KeyMem": inMemory, "ChainMem": inMemory, "CACrtMem": inMemory, "DHCertMem": inMemory,
		"CACRLMem": inMemory, "CRLMem": inMemory,
		"ClientCert": servers, "BlockBadClientCert": servers, "RequireValidClientCert": servers, "DHCert": servers, "NoHonor": servers, "NumTickets": servers,
	}
	log := slog.New(slog.DiscardHandler)
	values := map[string]string{
		"CAVerifyDepth": "3", "NumTickets": "1", "IgnoreVerifyErrors": "9,10", "MinVersion": "1.2", "MaxVersion": "1.3", "ErrorHandler": "carp",
		"KeyPassphrase": "env:X", "ALPN": "http/1.1", "CRLCheck": "chain", "CRLFiles": "a.crl",
	}
	for _, side := range []struct {
		prefix string
		skip   map[string]string
		make   func(*Relay) (sslfilter.Options, error)
	}{
		{"", skipServer, func(r *Relay) (sslfilter.Options, error) { return r.ServerTLS.options(log) }},
		{"backend-", skipBackend, func(r *Relay) (sslfilter.Options, error) { return r.BackendTLS.options(log) }},
	} {
		fields := reflect.TypeFor[sslfilter.Options]()
		for i := range fields.NumField() {
			f := fields.Field(i)
			if why := side.skip[f.Name]; why != "" {
				continue
			}
			value := values[f.Name]
			switch {
			case f.Type.Kind() == reflect.Bool || f.Name == "Debug":
				value = "true"
			case value == "":
				value = "value"
			}
			name := side.prefix + optionKey(f.Name)
			c, err := parseFlags("-listen", ":0", "-backend", "tls:h:1", "-"+name+"="+value)
			require.NoError(t, err, "Options.%s has no flag %s", f.Name, name)
			o, err := side.make(&c.Relays[0])
			require.NoError(t, err)
			require.False(t, reflect.ValueOf(o).Field(i).IsZero(), "flag %s does not reach Options.%s", name, f.Name)

			toml := fmt.Sprintf("%s = %q", name, value)
			switch f.Type.Kind() {
			case reflect.Bool, reflect.Int:
				if f.Name != "CRLCheck" { // which has words
					toml = name + " = " + value
				}
			case reflect.Slice:
				toml = name + " = [" + value + "]"
				if f.Type.Elem().Kind() == reflect.String {
					toml = fmt.Sprintf("%s = [%q]", name, value)
				}
			}
			if f.Name == "Debug" {
				toml = name + " = true"
			}
			c, err = Parse([]byte(relayTable(`listen = [":0"]`, `backend = "tls:h:1"`, toml)))
			require.NoError(t, err)
			o, err = side.make(&c.Relays[0])
			require.NoError(t, err)
			require.False(t, reflect.ValueOf(o).Field(i).IsZero(), "key %s does not reach Options.%s", name, f.Name)
		}
	}
}

func TestFlagsAndFileMeanTheSame(t *testing.T) {
	byFlags, err := parseFlags("-mode", "imap", "-listen", "starttls::143", "-listen=tls::993", "-crt", "a", "-key", "b", "-user", "user1=one:143",
		"-user", "user2=tls:two:993", "-backend", "unix:/run/imap", "-ignoreVerifyErrors", "9, 10", "-idle-timeout", "90s", "-tls1_2", "-max-connections", "7", "-log", "json")
	require.NoError(t, err)
	byFile, err := Parse([]byte(`
log = "json"
max-connections = 7
[[relay]]
mode = "imap"
listen = ["starttls::143", "tls::993"]
crt = "a"
key = "b"
backend = "unix:/run/imap"
ignoreVerifyErrors = [9, 10]
idle-timeout = "90s"
tls1_2 = true
users = { user1 = "one:143", user2 = "tls:two:993" }
`))
	require.NoError(t, err)
	require.Equal(t, byFile, byFlags)
}

func TestWrongConfigurations(t *testing.T) {
	ok := "[[relay]]\nlisten = [\"127.0.0.1:0\"]\nbackend = \"h:1\"\n"
	imap := "[[relay]]\nmode = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nbackend = \"h:1\"\n"
	http := "[[relay]]\nmode = \"http\"\nlisten = [\"127.0.0.1:0\"]\nbackend = \"h:1\"\n"
	for text, want := range map[string]string{
		ok + "crtt = \"x\"\n":                         `line 4: unknown key "relay.crtt"`,
		"crt = \"x\"\n" + ok:                          `line 1: unknown key "crt"; it belongs in a [[relay]] table`,
		ok + "max-connections = 1\n":                  `unknown key "relay.max-connections"; it belongs before the first [[relay]]`,
		ok + "[relay.tls]\nx = 1\n":                   `line 4`,
		ok + "caverifydepth = \"x\"\n":                `line 4: relay.caverifydepth: want a whole number, got a string`,
		ok + "idle-timeout = \"ten\"\n":               `line 4: relay.idle-timeout: want a time such as 90s or 35m, got "ten"`,
		ok + "idle-timeout = \"-1s\"\n":               `line 4: relay.idle-timeout: want a time above 0, got "-1s"`,
		ok + "crt = \n":                               `line 4`,
		"":                                            `there is no [[relay]]`,
		ok + ok:                                       `line 4: relay "tcp": name: another relay has the same name`,
		"[[relay]]\nbackend = \"h:1\"\n":              `listen: is missing`,
		"[[relay]]\nlisten = [\":1\"]\n":              `backend: is missing`,
		ok + "mode = \"ftp\"\n":                       `line 4: relay "ftp": mode: want tcp, http, imap, pop3 or smtp, got "ftp"`,
		strings.Replace(ok, "h:1", "h", 1):            `line 3: relay "tcp": backend: want host:port such as mail.example.org:143, got "h"`,
		strings.Replace(ok, "h:1", "h:x", 1):          `want a port from 0 to 65535 in "h:x", got "x"`,
		strings.Replace(ok, "h:1", ":1", 1):           `a backend needs a host and a port`,
		strings.Replace(ok, "h:1", "unix:x", 1):       `begins with /`,
		strings.Replace(ok, "h:1", "starttls:h:1", 1): `mode tcp has no STARTTLS`,
		strings.Replace(ok, "127.0.0.1:0", "starttls:127.0.0.1:0", 1):                                     `mode tcp has no STARTTLS`,
		ok + "[relay.users]\nx = \"h:1\"\n":                                                               `mode tcp has no login`,
		imap + "[relay.users]\nx = \"h\"\n":                                                               `line 6: relay "imap": users.x: want host:port`,
		imap + "capabilities = [\"STARTTLS\"]\n":                                                          `STARTTLS is added where it is true`,
		imap + "capabilities = [\"A B\"]\n":                                                               `want one word of printable ASCII, got "A B"`,
		imap + "greeting = \"a\\r\\nb\"\n":                                                                `greeting: only printable ASCII`,
		imap + "max-line = 10000000\n":                                                                    `max-line`,
		imap + "allow-unauthenticated = true\n":                                                           `is for mode smtp`,
		http + "alpn = [\"h2\"]\n":                                                                        `speaks HTTP/1.1`,
		http + "proxy-protocol = true\n":                                                                  `not with mode http`,
		http + "[relay.headers]\nnothing = \"X\"\n":                                                       `line 6: relay "http": headers.nothing: want verdict, subject, issuer, serial, cipher or protocol as the key`,
		http + "[relay.headers]\nverdict = \"a b\"\n":                                                     `want the name of a header, got "a b"`,
		http + "[relay.headers]\nverdict = \"Host\"\n":                                                    `meaning of its own`,
		http + "[relay.headers]\nverdict = \"x_tls_cipher\"\n":                                            `has the name`,
		ok + "[relay.headers]\nverdict = \"X\"\n":                                                         `headers: is for mode http`,
		ok + "backend-cacrt = \"x\"\nproxy-protocol = true\n":                                             `backend-cacrt: the backend "h:1" is reached without TLS; put tls: in front`,
		strings.Replace(ok, "127", "plain:127", 1) + "clientcert = true\nrequirevalidclientcert = true\n": `clientcert, requirevalidclientcert: no listener has TLS`,
		"counters = \"0.0.0.0:1\"\n" + ok:                                                                 `not a loopback address`,
		"counters = \"1\"\n" + ok:                                                                         `line 1: counters: want host:port`,
		"log = \"xml\"\n" + ok:                                                                            `line 1: log: want text or json, got "xml"`,
		"max-handshakes = -1\n" + ok:                                                                      `line 1: max-handshakes: want a number above 0, got -1`,
		ok + "errorhandler = \"die\"\n":                                                                   `line 4: relay "tcp": errorhandler: want ignore, carp, confess or carponetime, got "die"`,
		ok + "keypassphrase = \"hunter2\"\n":                                                              `keypassphrase: want file:, env: or credential: at its beginning`,
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, "%s", text)
		require.NotContains(t, err.Error(), "hunter2")
	}
	for _, args := range [][]string{{"-user", "x"}, {"-user", "x=1", "-user", "x=2"}, {"-ignoreVerifyErrors", "ten"}, {"-tls=maybe"}, {"-max-line", "x"}, {"-idle-timeout", "0s"}} {
		_, err := parseFlags(args...)
		require.Error(t, err, args)
	}
}

func TestWrongFilesNameRelayAndKey(t *testing.T) {
	for text, want := range map[string]string{
		`crt = "nowhere.crt"` + "\nkey = \"k\"":                                    `relay "r": crt (nowhere.crt): cannot open it`,
		crt() + "cipher = \"NONSENSE\"":                                            `relay "r": cipher: "NONSENSE"`,
		crt() + "minversion = \"4\"":                                               `minversion: want 1.0, 1.1, 1.2 or 1.3, got "4"`,
		crt() + "clientcert = true\ncacrl = \"nowhere.pem\"":                       `relay "r": cacrl (nowhere.pem): cannot open it`,
		crt() + fmt.Sprintf("clientcert = true\ncacrl = %q", pki("crl-trunc.pem")): `relay "r": cacrl (` + pki("crl-trunc.pem"),
		crt() + "crlcheck = \"all\"":                                               `crlcheck: want off, leaf or chain, got "all"`,
		crt() + "crlcheck = \"leaf\"\nclientcert = true":                           `relay "r": crlcheck: has no CRL`,
		crt() + "crlfiles = [\"nowhere.pem\"]":                                     `relay "r": crlfiles (nowhere.pem): cannot open it`,
		crt() + fmt.Sprintf("crlfiles = [%q]", pki("crl.pem")):                     `relay "r": crlfiles: is given without crlcheck`,
		crt() + fmt.Sprintf("clientcert = true\ncacrt = %q\ncrlcheck = \"leaf\"\ncrlfiles = [%q, %q]", pki("root.crt"), pki("crl.pem"), pki("crl-trunc.pem")): `relay "r": crlfiles (` + pki("crl-trunc.pem"),
		crt() + fmt.Sprintf("cacrl = %q", pki("crl-trunc.pem")):                                                               `relay "r": cacrl (` + pki("crl-trunc.pem"),
		fmt.Sprintf("crt = %q\nkey = %q", pki("server.crt"), pki("server-enc.key")):                                           `key (` + pki("server-enc.key") + `): the private key is encrypted; set keypassphrase`,
		fmt.Sprintf("crt = %q\nkey = %q\nkeypassphrase = \"env:SSLRELAY_NOT_SET\"", pki("server.crt"), pki("server-enc.key")): `keypassphrase: the environment variable SSLRELAY_NOT_SET is not set`,
		crt() + "backend-cacrt = \"nowhere.pem\"":                                                                             `backend-cacrt (nowhere.pem)`,
		crt() + "fips = true\nfips-config = \"nowhere.cnf\"":                                                                  `relay "r": fips`, // fips-config (nowhere.cnf), or fips with OpenSSL 1.1.1
		crt() + "backend-fips = true\nbackend-fips-config = \"nowhere.cnf\"":                                                  `relay "r": backend-fips`,
		crt() + "fips-config = \"nowhere.cnf\"":                                                                               `relay "r": fips-config: is given without fips`,
		"":                                                                                                                    `relay "r": crt: is missing: a server needs a certificate and its key, unless cipher admits anonymous suites`,
		crt() + "requirevalidclientcert = true":                                                                               `relay "r": requirevalidclientcert: would refuse everybody: set cacrt`,
		crt() + "clientcert = true\ncrlcheck = \"leaf\"\ncrlfiles = [" + fmt.Sprintf("%q", pki("crl.pem")) + "]": `crlcheck: has no CA that could have signed a CRL: set cacrt`,
		crt() + "crlcheck = \"leaf\"":                                              `crlcheck: has nobody to check: on a server it needs clientcert or requirevalidclientcert`,
		crt() + "tls1_2 = true\nminversion = \"1.3\"":                              `minversion: is TLSv1.3, and tls1_2 asks for TLSv1.2 alone`,
		crt() + "tls = true\nminversion = \"1.1\"":                                 `minversion: is TLSv1.1, and tls asks for TLSv1.2 or later`,
		crt() + "maxversion = \"1.1\"":                                             `maxversion: is TLSv1.1, below the default minversion of TLSv1.2; set minversion too`,
		crt() + "backend-maxversion = \"1.1\"":                                     `backend-maxversion: is TLSv1.1, below the default backend-minversion of TLSv1.2; set backend-minversion too`,
		crt() + "backend-crt = \"x\"":                                              `backend-crt: is given without backend-key`,
		crt() + "backend-key = \"x\"":                                              `backend-key: is given without backend-crt or backend-chain`,
		crt() + "tls1_2 = true\nciphersuites = \"TLS_AES_128_GCM_SHA256\"":         `ciphersuites: names TLS 1.3 suites, and the highest version is TLSv1.2; TLS 1.2 suites go into cipher`,
		fmt.Sprintf("crt = %q\nkey = %q", pki("server.crt"), pki("server-ec.key")): `does not match the certificate of crt ` + pki("server.crt"),
	} {
		c, err := Parse([]byte(relayTable(`listen = ["127.0.0.1:0"]`, `backend = "tls:h:1"`, text)))
		require.NoError(t, err)
		_, err = New(c, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, want)
		require.NotRegexp(t, fieldName, err)
	}
}

func TestPassphrases(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pass")
	require.NoError(t, os.WriteFile(file, []byte("secret\nmore"), 0o600))
	t.Setenv("SSLRELAY_TEST_PASS", "secret")
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for _, source := range []string{"file:" + file, "env:SSLRELAY_TEST_PASS", "credential:pass"} {
		got, err := passphrase(source)()
		require.NoError(t, err)
		require.Equal(t, "secret", string(got), source)
	}
	_, err := passphrase("credential:../pass")()
	require.ErrorContains(t, err, `want the name of a credential, got "../pass"`)
}

func TestUsersFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	load := func() (*state, error) {
		c, err := Parse([]byte(relayTable(`mode = "imap"`, `listen = ["plain:127.0.0.1:0"]`, fmt.Sprintf("users-file = %q", file))))
		require.NoError(t, err)
		return newState(&c.Relays[0], slog.New(slog.DiscardHandler))
	}
	write("# name backend\nuser1 one:143\n\n@two.test tls:two:993\n")
	st, err := load()
	require.NoError(t, err)
	defer st.retire()
	for user, want := range map[string]string{"user1": "plain:one:143", "x@two.test": "tls:two:993", "a@b@two.test": "tls:two:993", "": "", "@two.test": "", "user2": "", "x@three.test": ""} {
		e, _, ok := st.route(user)
		require.Equal(t, want != "", ok, user)
		if ok {
			require.Equal(t, want, e.String())
		}
	}
	for text, want := range map[string]string{"user1\n": "line 1", "a b:1\na c:1\n": `line 2: "a" is listed twice, also in `, "a b\n": "want host:port"} {
		write(text)
		_, err := load()
		require.ErrorContains(t, err, want)
	}
}

// A key counts only as it is documented, and once: the last of several spellings
// would decide, and one of these lets everybody in.
func TestKeysAreExact(t *testing.T) {
	ok := "[[relay]]\nlisten = [\"127.0.0.1:0\"]\nbackend = \"h:1\"\n"
	for text, want := range map[string]string{
		ok + "requirevalidclientcert = true\nRequireValidClientCert = false\n":           `line 5: unknown key "relay.RequireValidClientCert"; the key is written requirevalidclientcert`,
		ok + "RequireValidClientCert = true\n":                                           `line 4: unknown key "relay.RequireValidClientCert"; the key is written requirevalidclientcert`,
		ok + "ignoreverifyerrors = [20]\n":                                               `line 4: unknown key "relay.ignoreverifyerrors"; the key is written ignoreVerifyErrors`,
		ok + "\"requirevalid\\u0063lientcert\" = true\nrequirevalidclientcert = false\n": `line 5: key requirevalidclientcert is already defined`,
		ok + "clientcert = true\nclientcert = false\n":                                   `line 5: `,
		ok + "[relay.Headers]\nverdict = \"X\"\n":                                        `line 4: unknown key "relay.Headers"; the key is written headers`,
		ok + "mode = \"http\"\n[relay.headers]\nverdict = \"X\"\nVerdict = \"Y\"\n":      `line 7: relay "http": headers.Verdict: want verdict,`,
		ok + "mode = \"http\"\nheaders = { verdict = \"X\", verdict = \"Y\" }\n":         `line 5: `,
		ok + "mode = \"imap\"\n[relay.users]\nx = \"h:1\"\nx = \"h:2\"\n":                `line 7: `,
		ok + "mode = \"imap\"\nusers.x = \"h:1\"\nusers.\"x\" = \"h:2\"\n":               `line 6: `,
		"[[Relay]]\nlisten = [\":0\"]\nbackend = \"h:1\"\n":                              `line 1: unknown key "Relay"; the key is written relay`,
		"Log = \"json\"\n" + ok:                                                          `line 1: unknown key "Log"; the key is written log`,
		"max_connections = 1\n" + ok:                                                     `line 1: unknown key "max_connections"; the key is written max-connections`,
		"log = \"json\"\nlog = \"text\"\n" + ok:                                          `line 2: `,
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, "%s", text)
		require.NotContains(t, err.Error(), "\n", "%s", text)
	}
	for _, args := range [][]string{
		{"-requirevalidclientcert", "-requirevalidclientcert=false"}, {"-crt", "a", "-crt", "b"}, {"-max-line", "1", "-max-line=1"},
		{"-idle-timeout=1m", "-idle-timeout=2m"}, {"-header", "verdict=a", "-header", "verdict=b"},
	} {
		_, err := parseFlags(append(args, "-listen", "plain::0", "-backend", "h:1")...)
		require.ErrorContains(t, err, "given twice", args)
	}
	_, err := parseFlags("-listen", ":0", "-listen", ":1", "-backend", "h:1", "-ignoreVerifyErrors", "9", "-ignoreVerifyErrors", "10")
	require.NoError(t, err)
}

// What is wrong with a value is said with the key, its line and what is wanted.
func TestWrongValuesHaveKeyAndLine(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`listen = "tls:127.0.0.1:0"`, `line 3: relay.listen: want a list of strings such as ["one", "two"], got a string`},
		{`listen = ["127.0.0.1:0", 5]`, `line 3: relay.listen: want a list of strings such as ["one", "two"], got a list with something else in it`},
		{`listen = ["tsl:host:1"]`, `line 3: relay "tcp": listen: "tsl:host:1": want tls:, starttls: or plain: before host:port, got "tsl:"`},
		{`listen = ["::1:143"]`, `want host:port with the IPv6 address in brackets`},
		{`listen = []`, `line 3: relay "tcp": listen: is missing`},
		{`backend = ["a", "b"]`, `line 3: relay.backend: want a string, got a list`},
		{`clientcert = "true"`, `line 3: relay.clientcert: want true or false, got a string`},
		{`caverifydepth = 1.5`, `line 3: relay.caverifydepth: want a whole number, got a number with a fraction`},
		{`ignoreVerifyErrors = 20`, `line 3: relay.ignoreVerifyErrors: want a list of whole numbers such as [9, 10], got a number`},
		{`idle-timeout = 90`, `line 3: relay.idle-timeout: want a time such as "90s" or "35m", got a number`},
		{`users = ["a"]`, `line 3: relay.users: want a table of strings, got a list`},
		{"[relay.users]\n# more\na = 5", `line 5: relay.users.a: want a string, got a number`},
		{`users = { "a.b" = 5 }`, `line 3: relay.users.a.b: want a string, got a number`},
		{`keypassphrase = ["hunter2"]`, `line 3: relay.keypassphrase: want a string, got a list`},
		{`handshake-timeout = "1000h"`, `line 3: relay "tcp": handshake-timeout: want at most 168h, got 1000h`},
		{`crt = 1979-05-27`, `line 3: relay.crt: want a string, got a date`},
	} {
		_, err := Parse([]byte("# first\n[[relay]]\n" + c.line + "\n"))
		require.ErrorContains(t, err, c.want)
		require.NotContains(t, err.Error(), "hunter2")
	}
	for text, want := range map[string]string{
		"relay = 1":                        `line 1: relay: want tables that begin with [[relay]]`,
		"[relay]\nlisten = [\":0\"]\n":     `line 1: relay: want tables that begin with [[relay]]`,
		"relay = [{ listn = [\":0\"] }]\n": `line 1: unknown key "relay.listn"`,
		"[[relay]]\nlisten = [\":0\"]\nbackend = \"h:1\"\n[[relay]]\nname = \"b\"\nlisten = [\":0\"]\n": `line 4: relay "b": backend: is missing`,
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	// All mistakes of a file are told at once, by line.
	_, err := Parse([]byte("crtt = 1\n[[relay]]\nlisten = 5\nbackend = 6\n"))
	require.Equal(t, []string{`line 1: unknown key "crtt"`, `line 3: relay.listen: want a list of strings such as ["one", "two"], got a number`, `line 4: relay.backend: want a string, got a number`},
		strings.Split(err.Error(), "\n"))
}

// Addresses that cannot be listened on together are found before a port is opened.
func TestAddressesThatCollide(t *testing.T) {
	config := func(counters string, listen ...string) string {
		text := ""
		if counters != "" {
			text = fmt.Sprintf("counters = %q\n", counters)
		}
		for i, l := range listen {
			text += fmt.Sprintf("[[relay]]\nname = \"%c\"\nlisten = [%s]\nbackend = \"h:1\"\n", 'a'+i, l)
		}
		return text
	}
	for text, want := range map[string]string{
		config("", `"plain:127.0.0.1:7", "plain:127.0.0.1:7"`):          `relay "a": listen: plain:127.0.0.1:7: its port is taken by plain:127.0.0.1:7 of relay "a"`,
		config("", `"plain:127.0.0.1:7"`, `"plain:0.0.0.0:7"`):          `relay "b": listen: plain:0.0.0.0:7: its port is taken by plain:127.0.0.1:7 of relay "a"`,
		config("", `"plain::7"`, `"plain:127.0.0.1:7"`):                 `relay "b": listen: `,
		config("", `"plain:[::]:7"`, `"plain:127.0.0.1:7"`):             `relay "b": listen: `,
		config("", `"plain:0.0.0.0:7"`, `"plain:[::1]:7"`):              `relay "b": listen: `,
		config("", `"plain:localhost:7"`, `"plain:127.0.0.1:7"`):        `relay "b": listen: `,
		config("127.0.0.1:7", `"plain:127.0.0.1:7"`):                    `counters: 127.0.0.1:7: its port is taken by plain:127.0.0.1:7 of relay "a"`,
		config("localhost:7", `"plain:127.0.0.1:8", "plain:0.0.0.0:7"`): `counters: localhost:7: its port is taken by plain:0.0.0.0:7`,
	} {
		c, err := Parse([]byte(text))
		require.NoError(t, err)
		_, err = New(c, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, want, text)
		var out strings.Builder
		require.Equal(t, 1, Check(&out, c, time.Now()).Errors, "%s", out.String())
		require.Contains(t, out.String(), "ERROR: "+want)
	}
	for _, text := range []string{
		config("127.0.0.1:0", `"plain:127.0.0.1:0", "plain:127.0.0.1:0"`, `"plain:0.0.0.0:0"`), config("", `"plain:127.0.0.1:7"`, `"plain:127.0.0.2:7"`),
		config("127.0.0.1:9", `"plain:127.0.0.1:7"`, `"plain:127.0.0.1:8"`),
	} {
		c, err := Parse([]byte(text))
		require.NoError(t, err)
		require.NoError(t, c.checkAddresses(), text)
	}
	ok := "[[relay]]\nlisten = [\"plain:127.0.0.1:0\"]\nbackend = \"h:1\"\n"
	for _, port := range []string{"99999", "abc", "-1", "+80", ""} {
		_, err := Parse([]byte(fmt.Sprintf("counters = \"127.0.0.1:%s\"\n", port) + ok))
		require.ErrorContains(t, err, "line 1: counters: want a port from 0 to 65535", port)
		_, err = Parse([]byte(strings.Replace(ok, ":0", ":"+port, 1)))
		require.ErrorContains(t, err, "line 2: relay \"tcp\": listen: ", port)
	}
}

// What a reload refuses is what the documentation says.
func TestReloadRefusesWhatIsDocumented(t *testing.T) {
	page := string(contents(t, "../../docs/relay.md"))
	_, part, ok := strings.Cut(page, "These need a restart:")
	require.True(t, ok)
	part, _, _ = strings.Cut(part, ".\n")
	var documented []string
	for i, key := range strings.Split(part, "`") {
		if i%2 == 1 && key != "http" {
			documented = append(documented, key)
		}
	}
	var keys []string
	note := func(f reflect.StructField, _ reflect.Value) {
		if f.Tag.Get("restart") != "" {
			keys = append(keys, f.Tag.Get("toml"))
		}
	}
	eachField(reflect.ValueOf(Config{}), note)
	eachField(reflect.ValueOf(Relay{}), note)
	require.ElementsMatch(t, keys, documented)
	require.Contains(t, part, "the number")

	before := "max-handshakes = 5\n" + relayTable(`mode = "http"`, `listen = ["plain:127.0.0.1:0"]`, `backend = "h:1"`)
	f := startAll(t, before)
	for text, want := range map[string]string{
		"drain-timeout = \"1s\"\n" + before:                              "drain-timeout",
		strings.Replace(before, "5", "6", 1):                             "max-handshakes",
		before + "[[relay]]\nlisten = [\"plain::0\"]\nbackend = \"h:1\"": "the number of relays",
		before + "idle-timeout = \"9s\"\n":                               `idle-timeout of relay "r"`,
		before + "command-timeout = \"9s\"\n":                            `command-timeout of relay "r"`,
		before + "max-header = 2000\n":                                   `max-header of relay "r"`,
		strings.Replace(before, "127.0.0.1", "127.0.0.2", 1):             `listen of relay "r"`,
	} {
		c, err := Parse([]byte(text))
		require.NoError(t, err)
		require.ErrorContains(t, f.Reload(c), "a change of "+want+" needs a restart")
	}
	c, err := Parse([]byte("counters-remote = true\n" + before + "backend-timeout = \"9s\"\nmax-line = 600\n"))
	require.NoError(t, err)
	require.NoError(t, f.Reload(c))
}
