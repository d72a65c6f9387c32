package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// relays returns a configuration with a relay named a, b and so on for each text.
func relays(texts ...string) string {
	all := ""
	for i, text := range texts {
		all += fmt.Sprintf("[[relay]]\nname = \"%c\"\nbackend = \"h:1\"\n%s\n", 'a'+i, text)
	}
	return all
}

// Relays share a listener if they write its address in the same way, and its port is
// not 0.
func TestNamesListeners(t *testing.T) {
	c, err := Parse([]byte(relays(
		`listen = ["tls:127.0.0.1:7", "plain:127.0.0.1:8", "127.0.0.1:0"]`, `listen = ["127.0.0.1:9"]`, `listen = ["127.0.0.1:0", "127.0.0.1:7"]`)))
	require.NoError(t, err)
	var got []string
	for _, l := range c.Listeners() {
		got = append(got, fmt.Sprint(l.Endpoint, " ", l.Relays))
	}
	require.Equal(t, []string{"tls:127.0.0.1:7 [0 2]", "plain:127.0.0.1:8 [0]", "tls:127.0.0.1:0 [0]", "tls:127.0.0.1:9 [1]", "tls:127.0.0.1:0 [2]"}, got)
	require.NoError(t, c.CheckAddresses())
}

// Relays that share a listener have to agree in what applies before the server name is
// known, and in nothing else.
func TestNamesSharing(t *testing.T) {
	const tls, starttls = "listen = [\"127.0.0.1:7\"]\n", "mode = \"imap\"\nlisten = [\"starttls:127.0.0.1:7\"]\n"
	for _, text := range []string{
		relays(tls, tls+"mode = \"http\"\ncrt = \"x\"\nidle-timeout = \"1m\"\nrequirevalidclientcert = true\ndefault-server = true"),
		relays(tls+"mode = \"imap\"\ngreeting = \"x\"", tls+"mode = \"pop3\"\nmax-line = 600\ncommand-timeout = \"9s\"\nallow-plaintext = true"),
		relays(starttls+"servernames = [\"x.test\"]", starttls+"servernames = []\ndefault-server = true\nproxy-protocol = true"),
		relays(starttls+"allow-plaintext = true", starttls+"allow-plaintext = true\ndefault-server = true"),
		relays(starttls + "servernames = [\"x.test\"]\nallow-plaintext = true\ndefault-server = true"),
		relays(starttls + "allow-plaintext = true"),
	} {
		_, err := Parse([]byte(text))
		require.NoError(t, err, text)
	}
	var tried []string
	for text, want := range map[string]string{
		relays(tls, strings.Replace(tls, "127", "plain:127", 1)):                                         `relay "b": listen: plain:127.0.0.1:7: relay "a" listens on this address with the prefix tls:`,
		relays(strings.Replace(tls, "127", "plain:127", 1), strings.Replace(tls, "127", "plain:127", 1)): `relay "b": listen: plain:127.0.0.1:7: relay "a" listens on this address too, and without TLS`,
		relays(tls, starttls): `relay "b": listen: starttls:127.0.0.1:7: relay "a" listens on this address with the prefix tls:`,
		relays(tls+"default-server = true", tls+"default-server = true"):                              `relay "b": default-server: relay "a" is the default of tls:127.0.0.1:7 already`,
		relays(tls, tls+"handshake-timeout = \"9s\""):                                                 `relay "b": handshake-timeout: differs from that of relay "a", which shares tls:127.0.0.1:7: it applies before the client's server name is known`,
		relays(tls+"no-plain-http-reply = true\nmode = \"http\"", tls+"mode = \"http\""):              `relay "b": no-plain-http-reply: differs`,
		relays(starttls, starttls+"greeting = \"x\""):                                                 `relay "b": greeting: differs`,
		relays(starttls, starttls+"hostname = \"x\""):                                                 `relay "b": hostname: differs`,
		relays(starttls, starttls+"capabilities = [\"IMAP4rev1\"]"):                                   `relay "b": capabilities: differs`,
		relays(starttls, starttls+"max-line = 9000"):                                                  `relay "b": max-line: differs`,
		relays(starttls, starttls+"command-timeout = \"9s\""):                                         `relay "b": command-timeout: differs`,
		relays(starttls, strings.Replace(starttls, "imap", "pop3", 1)):                                `relay "b": mode: differs`,
		relays(starttls, starttls+"allow-plaintext = true\ndefault-server = true"):                    `relay "b": allow-plaintext: differs`,
		relays(starttls+"allow-plaintext = true", starttls+"allow-plaintext = true"):                  `relay "a": allow-plaintext: needs a relay with default-server on starttls:127.0.0.1:7, because a client without TLS has no server name`,
		relays(starttls + "allow-plaintext = true\nservernames = [\"x.test\"]"):                       `relay "a": allow-plaintext: needs a relay with default-server`,
		strings.ReplaceAll(relays(starttls, starttls+"allow-unauthenticated = true"), "imap", "smtp"): `relay "b": allow-unauthenticated: differs`,
		relays("listen = [\"plain:127.0.0.1:7\"]\nservernames = [\"x.test\"]"):                        `relay "a": servernames: no listener has TLS`,
		relays("listen = [\"plain:127.0.0.1:7\"]\ndefault-server = true"):                             `relay "a": default-server: no listener has TLS`,
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "\n")
		if _, key, ok := strings.Cut(want, `relay "b": `); ok && strings.HasSuffix(want, "differs") || strings.Contains(want, "handshake-timeout") {
			key, _, _ = strings.Cut(key, ":")
			tried = append(tried, key)
		}
	}
	var marked []string
	for _, o := range options {
		if o.early != "" {
			marked = append(marked, o.key)
		}
	}
	require.ElementsMatch(t, marked, tried)
	c, err := Parse([]byte(relays("listen = [\"localhost:7\"]", "listen = [\"127.0.0.1:7\"]")))
	require.NoError(t, err)
	require.ErrorContains(t, c.CheckAddresses(), `its port is already used by tls:localhost:7 of relay "a"; two relays share an address if both write it in the same way`)
}

func TestNamesSpelling(t *testing.T) {
	conf := func(names string) string {
		return relays("listen = [\"127.0.0.1:7\"]\nservernames = [" + names + "]")
	}
	for _, name := range []string{"www.example.org", "WWW.Example.ORG.", "*.example.net", "localhost", "_dmarc.x-1.test", "xn--bcher-kva.example", "*.test", "1.2.3", strings.Repeat("a.", 126) + "a"} {
		_, err := Parse([]byte(conf(fmt.Sprintf("%q", name))))
		require.NoError(t, err, name)
	}
	for name, want := range map[string]string{
		"":                              "want a host name",
		".":                             "want a host name",
		".example.org":                  "want a host name",
		"a..b":                          "want a host name",
		"a b":                           "want a host name",
		"a:443":                         "want a host name",
		"https://a.test":                "want a host name",
		"a\x00.test":                    "want a host name",
		strings.Repeat("a", 64):         "want a host name",
		strings.Repeat("a.", 127) + "a": "too long",
		"*":                             "want * only as the first label",
		"*.":                            "want * only as the first label",
		"www.*.test":                    "want * only as the first label",
		"*.*.test":                      "want * only as the first label",
		"w*.test":                       "want * only as the first label",
		"bücher.example":                "want the ASCII form",
		"192.0.2.1":                     "is an IP address",
		"2001:db8::1":                   "is an IP address",
	} {
		_, err := Parse([]byte(conf(fmt.Sprintf("%q", strings.ReplaceAll(name, "\x00", "")))))
		if strings.Contains(name, "\x00") {
			_, err = Parse([]byte(conf("\"a\\u0000.test\"")))
		}
		require.ErrorContains(t, err, `line 5: relay "a": servernames: `, name)
		require.ErrorContains(t, err, want, name)
	}
	_, err := Parse([]byte(conf(`"a.test", "A.test."`)))
	require.ErrorContains(t, err, `servernames: "A.test." is listed twice`)
	_, err = Parse([]byte(conf("")))
	require.ErrorContains(t, err, `servernames: is empty, so no client can reach the relay; set default-server`)
	_, err = Parse([]byte(conf("") + "default-server = true\n"))
	require.NoError(t, err)
	require.Equal(t, "www.example.org", NameKey("WWW.example.ORG."))
	require.Equal(t, "\u212a.test", NameKey("\u212a.TEST"), "only ASCII letters have a case")
}

// The documentation names exactly the options in which relays on one address have to
// agree.
func TestNamesSharedOptionsAreDocumented(t *testing.T) {
	page := string(testkit.Contents(t, "../../../docs/relay.md"))
	_, part, ok := strings.Cut(page, "have to agree in what applies before the server name is known:")
	require.True(t, ok)
	part, _, _ = strings.Cut(part, ".\n")
	var documented, keys []string
	for i, key := range strings.Split(part, "`") {
		if i%2 == 1 && key != "tls:" && key != "starttls:" {
			documented = append(documented, key)
		}
	}
	for _, o := range options {
		if o.early != "" {
			keys = append(keys, o.key)
		}
	}
	require.ElementsMatch(t, keys, documented)
}
