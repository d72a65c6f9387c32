package config

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

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// relayTable returns a [[relay]] table with these lines.
func relayTable(lines ...string) string {
	return "[[relay]]\nname = \"r\"\n" + strings.Join(lines, "\n") + "\n"
}

// parseFlags makes a configuration from flags.
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

// Every field of the library's options has a flag and a key on each side on which it
// has an effect, and their value reaches the field.
func TestEveryOptionHasAFlag(t *testing.T) {
	const inMemory, role, clients, servers, once, fetched, made = "a flag names files", "the side decides", "on the side of the backend alone", "on the side of the clients alone", "the relay reads CRL files at the start and on SIGHUP", "stapling fetches the responses", "the relay makes them"
	skipServer := map[string]string{
		"Client": role, "CrtMem": inMemory, "KeyMem": inMemory, "ChainMem": inMemory, "CACrtMem": inMemory, "DHCertMem": inMemory,
		"CACRLMem": inMemory, "CRLMem": inMemory, "ReadCRLOnce": once, "Staple": fetched, "OCSPCheck": clients, "TicketKeys": made, "StatefulSessions": "a store is needed",
		"InsecureSkipVerify": clients, "ServerName": clients,
	}
	skipBackend := map[string]string{
		"Client": role, "CrtMem": inMemory, "KeyMem": inMemory, "ChainMem": inMemory, "CACrtMem": inMemory, "DHCertMem": inMemory,
		"CACRLMem": inMemory, "CRLMem": inMemory, "ReadCRLOnce": once, "Staple": fetched, "TicketKeys": servers, "ResumeClientCert": servers, "StatefulSessions": servers,
		"ClientCert": servers, "BlockBadClientCert": servers, "BlockInvalidClientCert": servers, "RequireValidClientCert": servers, "DHCert": servers, "NoHonor": servers, "NumTickets": servers,
	}
	log := slog.New(slog.DiscardHandler)
	values := map[string]string{
		"CAVerifyDepth": "3", "NumTickets": "1", "IgnoreVerifyErrors": "9,10", "MinVersion": "1.2", "MaxVersion": "1.3", "ErrorHandler": "carp",
		"KeyPassphrase": "env:X", "Identities": "a.pem=a.key", "OCSPCheck": "require", "ALPN": "http/1.1", "CRLCheck": "chain", "CRLFiles": "a.crl",
		"Conf": "RecordPadding 4096",
	}
	for _, side := range []struct {
		prefix string
		skip   map[string]string
		make   func(*Relay) sslfilter.Options
	}{
		{"", skipServer, func(r *Relay) sslfilter.Options { return r.Server.options(log) }},
		{"backend-", skipBackend, func(r *Relay) sslfilter.Options { return r.Upstream.options(log) }},
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
			o := side.make(&c.Relays[0])
			require.False(t, reflect.ValueOf(o).Field(i).IsZero(), "flag %s does not reach Options.%s", name, f.Name)

			toml := fmt.Sprintf("%s = %q", name, value)
			switch f.Type.Kind() {
			case reflect.Bool, reflect.Int:
				if f.Name != "CRLCheck" && f.Name != "OCSPCheck" { // the value is a word
					toml = name + " = " + value
				}
			case reflect.Slice:
				toml = name + " = [" + value + "]"
				if f.Type.Elem().Kind() != reflect.Int {
					toml = fmt.Sprintf("%s = [%q]", name, value)
				}
			}
			switch f.Name {
			case "Debug":
				toml = name + " = true"
			case "Identities":
				toml = name + ` = {"a.pem" = "a.key"}`
			}
			c, err = Parse([]byte(relayTable(`listen = [":0"]`, `backend = "tls:h:1"`, toml)))
			require.NoError(t, err)
			o = side.make(&c.Relays[0])
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
		strings.Replace(ok, "h:1", "unix:x", 1):       `must begin with /`,
		strings.Replace(ok, "h:1", "starttls:h:1", 1): `mode tcp has no STARTTLS`,
		strings.Replace(ok, "127.0.0.1:0", "starttls:127.0.0.1:0", 1):                                     `mode tcp has no STARTTLS`,
		ok + "[relay.users]\nx = \"h:1\"\n":                                                               `mode tcp has no login`,
		imap + "[relay.users]\nx = \"h\"\n":                                                               `line 6: relay "imap": users.x: want host:port`,
		imap + "capabilities = [\"STARTTLS\"]\n":                                                          `STARTTLS cannot be set`,
		imap + "capabilities = [\"A B\"]\n":                                                               `want one word of printable ASCII, got "A B"`,
		imap + "greeting = \"a\\r\\nb\"\n":                                                                `greeting: only printable ASCII`,
		imap + "max-line = 10000000\n":                                                                    `max-line`,
		imap + "allow-unauthenticated = true\n":                                                           `is for mode smtp`,
		http + "alpn = [\"h2\"]\n":                                                                        `speaks HTTP/1.1`,
		http + "proxy-protocol = true\n":                                                                  `not in mode http`,
		http + "[relay.headers]\nnothing = \"X\"\n":                                                       `line 6: relay "http": headers.nothing: want verdict, subject, issuer, serial, cipher or protocol as the key`,
		http + "[relay.headers]\nverdict = \"a b\"\n":                                                     `want the name of a header, got "a b"`,
		http + "[relay.headers]\nverdict = \"Host\"\n":                                                    `is reserved by HTTP`,
		http + "[relay.headers]\nverdict = \"x_tls_cipher\"\n":                                            `has the name`,
		ok + "[relay.headers]\nverdict = \"X\"\n":                                                         `headers: is for mode http`,
		ok + "backend-cacrt = \"x\"\nproxy-protocol = true\n":                                             `backend-cacrt: the backend "h:1" is reached without TLS; use the prefix tls: in its address`,
		strings.Replace(ok, "127", "plain:127", 1) + "clientcert = true\nrequirevalidclientcert = true\n": `clientcert, requirevalidclientcert: no listener has TLS`,
		"counters = \"0.0.0.0:1\"\n" + ok:                                                                 `not a loopback address`,
		"counters = \"1\"\n" + ok:                                                                         `line 1: counters: want host:port`,
		"log = \"xml\"\n" + ok:                                                                            `line 1: log: want text or json, got "xml"`,
		"max-handshakes = -1\n" + ok:                                                                      `line 1: max-handshakes: want a number above 0, got -1`,
		ok + "errorhandler = \"die\"\n":                                                                   `line 4: relay "tcp": errorhandler: want ignore, carp, confess or carponetime, got "die"`,
		ok + "minversion = \"4\"\n":                                                                       `line 4: relay.minversion: want 1.0, 1.1, 1.2 or 1.3, got "4"`,
		ok + "crlcheck = \"all\"\n":                                                                       `line 4: relay.crlcheck: want off, leaf or chain, got "all"`,
		ok + "conf = [\"RecordPadding\"]\n":                                                               `line 4: relay.conf: want the name of a command and its value, such as "RecordPadding 4096"`,
		ok + "conf = \"RecordPadding 4096\"\n":                                                            `line 4: relay.conf: want a list of strings such as ["RecordPadding 4096", "NumTickets 1"], got a string`,
		ok + "keypassphrase = \"hunter2\"\n":                                                              `keypassphrase: want file:path, env:NAME or credential:name`,
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

// A system's name that is not allowed as hostname does not make a configuration
// without hostname invalid.
func TestDefaultHostnameIsValid(t *testing.T) {
	for name, want := range map[string]string{"mail.example.org": "mail.example.org", "": "localhost", "my host": "localhost", "h\xf6st": "localhost"} {
		require.Equal(t, want, nameOrLocalhost(name))
		require.NoError(t, (&Relay{Hostname: nameOrLocalhost(name)}).validateTexts())
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

// A key is accepted only in its exact spelling, and once. Otherwise the last of
// several spellings would apply, and could admit every client.
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

// An error in a value names the key, its line and the expected value.
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
	// All mistakes of a file are reported at once, by line.
	_, err := Parse([]byte("crtt = 1\n[[relay]]\nlisten = 5\nbackend = 6\n"))
	require.Equal(t, []string{`line 1: unknown key "crtt"`, `line 3: relay.listen: want a list of strings such as ["one", "two"], got a number`, `line 4: relay.backend: want a string, got a number`},
		strings.Split(err.Error(), "\n"))
}

// Every field of the configuration has a row, and every row a field.
func TestEveryFieldHasARow(t *testing.T) {
	rows := make(map[scope]map[string]bool)
	for _, o := range options {
		if rows[o.scope] == nil {
			rows[o.scope] = make(map[string]bool)
		}
		require.False(t, rows[o.scope][o.field], "%s: two rows", o.field)
		rows[o.scope][o.field] = true
		require.True(t, o.value(new(Config), new(Relay)).IsValid(), "%s: no such field", o.field)
	}
	for of, fields := range map[scope]reflect.Type{ofProgram: reflect.TypeFor[Config](), ofSessions: reflect.TypeFor[Sessions](), ofRelay: reflect.TypeFor[Relay]()} {
		for i := range fields.NumField() {
			if name := fields.Field(i).Name; name != "Relays" && name != "Sessions" && name != "Server" && name != "Upstream" {
				require.True(t, rows[of][name], "%s has no row", name)
			}
		}
	}
}
