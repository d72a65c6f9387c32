package config

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// Users maps user names and domains to backends.
type Users map[string]User // by UserKey

// User is one row of the table.
type User struct {
	Endpoint
	Name  string // as written in the table
	where string // place of the entry, for errors
}

// maxUsers bounds the number of entries in the table of users.
const maxUsers = 1 << 20

// UserKey returns the form in which user names are compared. In domains, case and a
// trailing dot are ignored, as in the DNS. Everything before the last @ is compared
// exactly, because only the mail server of the domain knows how to interpret local
// parts (RFC 5321 section 2.4).
func UserKey(name string) string {
	at := strings.LastIndexByte(name, '@')
	if at < 0 {
		return name
	}
	return name[:at+1] + strings.TrimSuffix(strings.ToLower(name[at+1:]), ".")
}

// add adds an entry. Two names with the same UserKey are an error, even if they have
// the same backend.
func (t Users) add(name, where string, e Endpoint) error {
	key := UserKey(name)
	switch other, twice := t[key]; {
	case twice && other.Name == name:
		return fmt.Errorf("%q is listed twice; the other entry is in %s", name, other.where)
	case twice:
		return fmt.Errorf("%q is the same as %q in %s: case and a trailing dot are ignored in domains", name, other.Name, other.where)
	case name == "" || strings.HasSuffix(key, "@") || strings.HasPrefix(key, "@") && strings.Count(key, "@") > 1 || !utf8.ValidString(name):
		return fmt.Errorf("%q is not a user name or @domain", name)
	case len(t) >= maxUsers:
		return fmt.Errorf("more than %d users", maxUsers)
	}
	t[key] = User{e, name, where}
	return nil
}

// Find looks a user up: first the name itself, then its domain.
func (t Users) Find(user string) (User, bool) {
	key := UserKey(user)
	if e, ok := t[key]; ok && !strings.HasPrefix(key, "@") {
		return e, true
	}
	at := strings.LastIndexByte(key, '@')
	if at < 1 {
		return User{}, false
	}
	e, ok := t[key[at:]]
	return e, ok
}

// addConfigured adds the users of a configuration.
func (t Users) addConfigured(users map[string]string) error {
	for _, name := range SortedKeys(users) {
		e, err := ParseBackend(users[name])
		if err == nil {
			err = t.add(name, "users", e)
		}
		if err != nil {
			return wrongKey("users."+name, "%w", err)
		}
	}
	return nil
}

// addFile adds the users of a file with a name and an address in each line.
func (t Users) addFile(file string, startTLSAllowed bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(strings.TrimPrefix(lines.Text(), string(byteOrderMark)))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		where := fmt.Sprintf("%s line %d", file, n)
		if len(words) != 2 {
			return fmt.Errorf("%s: want a name and an address, got %d words", where, len(words))
		}
		e, err := ParseBackend(words[1])
		if err == nil && e.Security == StartTLS && !startTLSAllowed {
			err = errors.New("this mode has no STARTTLS")
		}
		if err == nil {
			err = t.add(words[0], where, e)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// Backends returns the table of users, and the backend of all other users, which
// is nil if there is none.
func (r *Relay) Backends() (users Users, others *Endpoint, err error) {
	if r.Backend != "" {
		e, err := ParseBackend(r.Backend)
		if err == nil {
			err = r.checkName(e)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("backend: %w", err)
		}
		others = &e
	}
	users = make(Users)
	if err := users.addConfigured(r.Users); err != nil {
		return nil, nil, err
	}
	if r.UsersFile != "" {
		if err := users.addFile(r.UsersFile, r.Protocol() != nil); err != nil {
			return nil, nil, fmt.Errorf("users-file: %w", err)
		}
	}
	for _, u := range users {
		if err := r.checkName(u.Endpoint); err != nil {
			return nil, nil, fmt.Errorf("the backend of user %s: %w", u.Name, err)
		}
	}
	return users, others, nil
}

// checkName reports a TLS backend without a name that could be verified.
func (r *Relay) checkName(e Endpoint) error {
	if e.Network == "unix" && e.Security != Plain && r.Upstream.ServerName == "" && !r.Upstream.InsecureSkipVerify {
		return fmt.Errorf("%v has no host whose name could be verified; set backend-servername", e)
	}
	return nil
}
