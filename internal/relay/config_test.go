package relay

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func TestWrongFilesNameRelayAndKey(t *testing.T) {
	for text, want := range map[string]string{
		`crt = "nowhere.crt"` + "\nkey = \"k\"":                                               `relay "r": crt (nowhere.crt): cannot open it`,
		crt() + "cipher = \"NONSENSE\"":                                                       `relay "r": cipher: "NONSENSE"`,
		crt() + "clientcert = true\ncacrl = \"nowhere.pem\"":                                  `relay "r": cacrl (nowhere.pem): cannot open it`,
		crt() + fmt.Sprintf("clientcert = true\ncacrl = %q", testkit.AbsPKI("crl-trunc.pem")): `relay "r": cacrl (` + testkit.AbsPKI("crl-trunc.pem"),
		crt() + "crlcheck = \"leaf\"\nclientcert = true":                                      `relay "r": crlcheck: has no CRL`,
		crt() + fmt.Sprintf("clientcert = true\ncacrt = %q\ncrlcheck = \"leaf\"\ncrlfiles = [\"nowhere.pem\"]", testkit.AbsPKI("root.crt")):                                                    `relay "r": crlfiles (nowhere.pem): cannot open it`,
		crt() + fmt.Sprintf("crlfiles = [%q]", testkit.AbsPKI("crl.pem")):                                                                                                                      `relay "r": crlfiles: is given without crlcheck`,
		crt() + fmt.Sprintf("clientcert = true\ncacrt = %q\ncrlcheck = \"leaf\"\ncrlfiles = [%q, %q]", testkit.AbsPKI("root.crt"), testkit.AbsPKI("crl.pem"), testkit.AbsPKI("crl-trunc.pem")): `relay "r": crlfiles (` + testkit.AbsPKI("crl-trunc.pem"),
		crt() + fmt.Sprintf("cacrl = %q", testkit.AbsPKI("crl-trunc.pem")):                                                                                                                     `relay "r": cacrl (` + testkit.AbsPKI("crl-trunc.pem"),
		fmt.Sprintf("crt = %q\nkey = %q", testkit.AbsPKI("server.crt"), testkit.AbsPKI("server-enc.key")):                                                                                      `key (` + testkit.AbsPKI("server-enc.key") + `): the private key is encrypted; set keypassphrase`,
		fmt.Sprintf("crt = %q\nkey = %q\nkeypassphrase = \"env:SSLRELAY_NOT_SET\"", testkit.AbsPKI("server.crt"), testkit.AbsPKI("server-enc.key")):                                            `keypassphrase: the environment variable SSLRELAY_NOT_SET is not set`,
		crt() + "backend-cacrt = \"nowhere.pem\"":                            `backend-cacrt (nowhere.pem)`,
		crt() + "fips = true\nfips-config = \"nowhere.cnf\"":                 `relay "r": fips`, // fips-config (nowhere.cnf), or fips with OpenSSL 1.1.1
		crt() + "backend-fips = true\nbackend-fips-config = \"nowhere.cnf\"": `relay "r": backend-fips`,
		crt() + "fips-config = \"nowhere.cnf\"":                              `relay "r": fips-config: is given without fips`,
		"":                                                                   `relay "r": crt: is missing: a server needs a certificate and its key, unless cipher admits anonymous suites`,
		crt() + "requirevalidclientcert = true":                              `relay "r": requirevalidclientcert: would reject every client: set cacrt`,
		crt() + "clientcert = true\ncrlcheck = \"leaf\"\ncrlfiles = [" + fmt.Sprintf("%q", testkit.AbsPKI("crl.pem")) + "]": `crlcheck: has no CA that could have signed a CRL: set cacrt`,
		crt() + "crlcheck = \"leaf\"":                                      `crlcheck: there is no peer certificate to check: on a server it needs clientcert, blockinvalidclientcert or requirevalidclientcert`,
		crt() + "tls1_2 = true\nminversion = \"1.3\"":                      `minversion: is TLSv1.3, and tls1_2 asks for TLSv1.2 alone`,
		crt() + "tls = true\nminversion = \"1.1\"":                         `minversion: is TLSv1.1, and tls asks for TLSv1.2 or later`,
		crt() + "maxversion = \"1.1\"":                                     `maxversion: is TLSv1.1, below the default minversion of TLSv1.2; set minversion too`,
		crt() + "backend-maxversion = \"1.1\"":                             `backend-maxversion: is TLSv1.1, below the default backend-minversion of TLSv1.2; set backend-minversion too`,
		crt() + "backend-crt = \"x\"":                                      `backend-crt: is given without backend-key`,
		crt() + "backend-key = \"x\"":                                      `backend-key: is given without backend-crt or backend-chain`,
		crt() + "tls1_2 = true\nciphersuites = \"TLS_AES_128_GCM_SHA256\"": `ciphersuites: names TLS 1.3 suites, and the highest version is TLSv1.2; TLS 1.2 suites go into cipher`,
		fmt.Sprintf("crt = %q\nkey = %q", testkit.AbsPKI("server.crt"), testkit.AbsPKI("server-ec.key")): `does not match the certificate of crt ` + testkit.AbsPKI("server.crt"),
	} {
		c, err := config.Parse([]byte(relayTable(`listen = ["127.0.0.1:0"]`, `backend = "tls:h:1"`, text)))
		require.NoError(t, err)
		_, err = New(c, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, want)
		require.NotRegexp(t, `\b(Crt|Key|CACrt|CACRL|CRLCheck|CRLFiles|ClientCert|RequireValidClientCert|Cipher|CipherSuites|TLS12|MinVersion|MaxVersion|KeyPassphrase|FIPSConfig|\w+Mem)\b`, err)
	}
}

func TestUsersFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	load := func() (*state, error) {
		c, err := config.Parse([]byte(relayTable(`mode = "imap"`, `listen = ["plain:127.0.0.1:0"]`, fmt.Sprintf("users-file = %q", file))))
		require.NoError(t, err)
		return newState(&c.Relays[0], slog.New(slog.DiscardHandler), nil)
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
	for text, want := range map[string]string{"user1\n": "line 1", "a b:1\na c:1\n": `line 2: "a" is listed twice; the other entry is in `, "a b\n": "want host:port"} {
		write(text)
		_, err := load()
		require.ErrorContains(t, err, want)
	}
}

// Addresses that exclude each other are found before a port is opened.
func TestAddressesThatCollide(t *testing.T) {
	text := func(counters string, listen ...string) string {
		all := ""
		if counters != "" {
			all = fmt.Sprintf("counters = %q\n", counters)
		}
		for i, l := range listen {
			all += fmt.Sprintf("[[relay]]\nname = \"%c\"\nlisten = [%s]\nbackend = \"h:1\"\n", 'a'+i, l)
		}
		return all
	}
	for conf, want := range map[string]string{
		text("", `"plain:127.0.0.1:7", "plain:127.0.0.1:7"`):          `relay "a": listen: plain:127.0.0.1:7: its port is already used by plain:127.0.0.1:7 of relay "a"`,
		text("", `"plain:127.0.0.1:7"`, `"plain:0.0.0.0:7"`):          `relay "b": listen: plain:0.0.0.0:7: its port is already used by plain:127.0.0.1:7 of relay "a"`,
		text("", `"plain::7"`, `"plain:127.0.0.1:7"`):                 `relay "b": listen: `,
		text("", `"plain:[::]:7"`, `"plain:127.0.0.1:7"`):             `relay "b": listen: `,
		text("", `"plain:0.0.0.0:7"`, `"plain:[::1]:7"`):              `relay "b": listen: `,
		text("", `"plain:localhost:7"`, `"plain:127.0.0.1:7"`):        `relay "b": listen: `,
		text("127.0.0.1:7", `"plain:127.0.0.1:7"`):                    `counters: 127.0.0.1:7: its port is already used by plain:127.0.0.1:7 of relay "a"`,
		text("localhost:7", `"plain:127.0.0.1:8", "plain:0.0.0.0:7"`): `counters: localhost:7: its port is already used by plain:0.0.0.0:7`,
	} {
		c, err := config.Parse([]byte(conf))
		require.NoError(t, err)
		_, err = New(c, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, want, conf)
		var out strings.Builder
		require.Equal(t, 1, Check(&out, c, time.Now()).Errors, "%s", out.String())
		require.Contains(t, out.String(), "ERROR: "+want)
	}
	for _, conf := range []string{
		text("127.0.0.1:0", `"plain:127.0.0.1:0", "plain:127.0.0.1:0"`, `"plain:0.0.0.0:0"`), text("", `"plain:127.0.0.1:7"`, `"plain:127.0.0.2:7"`),
		text("127.0.0.1:9", `"plain:127.0.0.1:7"`, `"plain:127.0.0.1:8"`),
	} {
		c, err := config.Parse([]byte(conf))
		require.NoError(t, err)
		require.NoError(t, c.CheckAddresses(), conf)
	}
	ok := "[[relay]]\nlisten = [\"plain:127.0.0.1:0\"]\nbackend = \"h:1\"\n"
	for _, port := range []string{"99999", "abc", "-1", "+80", ""} {
		_, err := config.Parse([]byte(fmt.Sprintf("counters = \"127.0.0.1:%s\"\n", port) + ok))
		require.ErrorContains(t, err, "line 1: counters: want a port from 0 to 65535", port)
		_, err = config.Parse([]byte(strings.Replace(ok, ":0", ":"+port, 1)))
		require.ErrorContains(t, err, "line 2: relay \"tcp\": listen: ", port)
	}
}

func TestReloadRefusesWhatNeedsARestartByKey(t *testing.T) {
	before := "max-handshakes = 5\n" + relayTable(`mode = "http"`, `listen = ["plain:127.0.0.1:0"]`, `backend = "h:1"`)
	f := startAll(t, before)
	for text, want := range map[string]string{
		"drain-timeout = \"1s\"\n" + before:                              "drain-timeout",
		strings.Replace(before, "5", "6", 1):                             "max-handshakes",
		before + "[[relay]]\nlisten = [\"plain::0\"]\nbackend = \"h:1\"": `listen of relay "tcp" (plain::0 is new)`,
		strings.Replace(before, `"r"`, `"s"`, 1):                         `listen of relay "s" (plain:127.0.0.1:0 is new), listen of relay "r" (plain:127.0.0.1:0 is missing)`,
		strings.Replace(before, "http", "tcp", 1):                        `mode of relay "r"`,
		before + "idle-timeout = \"9s\"\n":                               `idle-timeout of relay "r"`,
		before + "command-timeout = \"9s\"\n":                            `command-timeout of relay "r"`,
		before + "max-header = 2000\n":                                   `max-header of relay "r"`,
		strings.Replace(before, "127.0.0.1", "127.0.0.2", 1):             `listen of relay "r" (plain:127.0.0.2:0 is new), listen of relay "r" (plain:127.0.0.1:0 is missing)`,
	} {
		c, err := config.Parse([]byte(text))
		require.NoError(t, err)
		require.ErrorContains(t, f.Reload(c), "a change of "+want+" needs a restart")
	}
	c, err := config.Parse([]byte("counters-remote = true\n" + before + "backend-timeout = \"9s\"\nmax-line = 600\n"))
	require.NoError(t, err)
	require.NoError(t, f.Reload(c))
}
