package relay

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// loadUserTable makes the state of a relay with these users.
func loadUserTable(t *testing.T, table, file string, more ...string) (*state, error) {
	t.Helper()
	lines := append([]string{`mode = "imap"`, `listen = ["plain:127.0.0.1:0"]`}, more...)
	if file != "" {
		path := filepath.Join(t.TempDir(), "users")
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
		lines = append(lines, fmt.Sprintf("users-file = %q", path))
	}
	c, err := config.Parse([]byte(relayTable(append(lines, "[relay.users]", table)...)))
	if err != nil {
		return nil, err
	}
	st, err := newState(&c.Relays[0], slog.New(slog.DiscardHandler), nil)
	if err == nil {
		t.Cleanup(st.retire)
	}
	return st, err
}

// In domains, case and a trailing dot are ignored. Local parts are compared exactly.
func TestUsersAreFoundByDomain(t *testing.T) {
	st, err := loadUserTable(t, "\"@Other.de\" = \"other:143\"\nuser1 = \"one:143\"\n\"Anna@other.DE.\" = \"anna:143\"\n\"@b\u00fccher.de\" = \"books:143\"",
		"@file.example. file:143\n", `backend = "default:143"`)
	require.NoError(t, err)
	for user, want := range map[string]string{
		"bob@other.de": "other", "bob@Other.de": "other", "bob@OTHER.DE": "other", "bob@other.de.": "other", "bob@x@OTHER.de": "other",
		"Anna@other.de": "anna", "Anna@OTHER.de.": "anna", "anna@other.de": "other",
		"bob@File.Example": "file", "bob@B\u00dcCHER.de": "books",
		"user1": "one", "User1": "default", "user1.": "default", "@other.de": "default", "bob@other.de..": "default", "bob@another.de": "default",
		"bob@sub.other.de": "default", "bob@": "default", "": "default", "other.de": "default", "bob@other.de\xff": "default",
	} {
		e, known, ok := st.route(user)
		require.True(t, ok)
		require.Equal(t, want, e.Host, "%q", user)
		require.Equal(t, want == "default", known == "", "%q", user)
	}
	_, known, _ := st.route("bob@OTHER.de")
	require.Equal(t, "@Other.de", known, "the log contains the name as it is written in the table")
}

// If two names in the table are equal, the error contains both.
func TestUsersThatAreTheSame(t *testing.T) {
	for _, c := range []struct{ table, file, want string }{
		{"\"@other.de\" = \"a:1\"\n\"@OTHER.de\" = \"b:1\"", "", `line 6: relay "r": users.@other.de: "@other.de" is the same as "@OTHER.de" in users`},
		{"\"bob@other.de\" = \"a:1\"\n\"bob@other.de.\" = \"a:1\"", "", `"bob@other.de." is the same as "bob@other.de" in users`},
		{"", "@other.de a:1\n\n@Other.de. b:1\n", `users line 3: "@Other.de." is the same as "@other.de" in `},
		{"", "anna a:1\nanna a:1\n", `users line 2: "anna" is listed twice; the other entry is in `},
		{"\"@other.de\" = \"a:1\"", "@OTHER.DE b:1\n", `users line 1: "@OTHER.DE" is the same as "@other.de" in users`},
		{"\"@\" = \"a:1\"", "", `"@" is not a user name or @domain`},
		{"\"bob@.\" = \"a:1\"", "", `"bob@." is not a user name or @domain`},
		{"\"@a@b.example\" = \"a:1\"", "", `"@a@b.example" is not a user name or @domain`},
		{"", "bob@\xff.de a:1\n", `users line 1: "bob@\xff.de" is not a user name`},
	} {
		_, err := loadUserTable(t, c.table, c.file)
		require.ErrorContains(t, err, c.want)
		if c.file != "" {
			require.ErrorContains(t, err, "users-file: ")
		}
	}
	_, err := loadUserTable(t, "bob = \"a:1\"\nBob = \"b:1\"\n\"bob@x.de\" = \"a:1\"\n\"Bob@x.de\" = \"b:1\"", "")
	require.NoError(t, err, "local parts are compared exactly")
}

// A user's password goes to the user's backend and not to the default backend, however
// the client spells the domain.
func TestTheSpellingOfADomainDoesNotChooseTheBackend(t *testing.T) {
	for _, mode := range []string{modeIMAP, modePOP3, modeSMTP} {
		t.Run(mode, func(t *testing.T) {
			for _, user := range []string{"bob@Other.de", "bob@OTHER.DE", "bob@other.de."} {
				other := map[string][]string{
					modeIMAP: {"S: * OK", fmt.Sprintf("C: a LOGIN %q \"secret\"", user), "S: a OK in"},
					modePOP3: {"S: +OK", "C: USER " + user, "S: +OK", "C: PASS secret", "S: +OK in"},
					modeSMTP: {"S: 220 x", "C: EHLO me", "S: 250 AUTH PLAIN", "C: AUTH PLAIN " + b64("\x00"+user+"\x00secret"), "S: 235 in"},
				}[mode]
				login := map[string]string{
					modeIMAP: "a LOGIN " + user + " secret\r\n",
					modePOP3: "USER " + user + "\r\nPASS secret\r\n",
					modeSMTP: "EHLO me\r\nAUTH PLAIN " + b64("\x00"+user+"\x00secret") + "\r\n",
				}[mode]
				wrong := backend(t, func(net.Conn) { t.Errorf("%s: the default backend was dialed", user) })
				f := mailRelay(t, mode, fmt.Sprintf("backend = %q\n[relay.users]\n\"@other.de\" = %q", wrong, backend(t, script(t, other...))))
				c := f.direct()
				c.say(login + "ECHO\r\n")
				for line := ""; line != "ECHO\r\n"; {
					line = c.expect("")
				}
				f.logs("user=@other.de")
			}
		})
	}
}
