package relay

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// setting is the value of an option, or of a command of Conf that sets the same thing.
type setting struct{ key, value string }

// settings are what the options and commands of a side set. If several commands set the
// same thing, the last one counts.
type settings struct {
	cipher, groups               setting
	signatures, clientSignatures setting
	flags                        map[string]bool // of the command Options, by name in lower case
}

func settingsOf(t *config.TLS) *settings {
	s := &settings{
		cipher:     setting{"cipher", t.Cipher},
		groups:     setting{"groups", t.Groups},
		signatures: setting{"signaturealgorithms", t.SignatureAlgorithms},
		flags:      make(map[string]bool),
	}
	for _, c := range t.Conf {
		own := setting{"conf", c.Value}
		switch strings.ToLower(c.Name) {
		case "cipherstring":
			s.cipher = setting{"cipher", c.Value}
		case "groups", "curves":
			s.groups = own
		case "signaturealgorithms":
			s.signatures = own
		case "clientsignaturealgorithms":
			s.clientSignatures = own
		case "options":
			s.setFlags(c.Value)
		}
	}
	return s
}

func (s *settings) setFlags(list string) {
	for text := range strings.SplitSeq(strings.ToLower(list), ",") {
		text = strings.TrimSpace(text)
		name, off := strings.CutPrefix(text, "-")
		name = strings.TrimPrefix(name, "+")
		s.flags[name] = !off
		if name == "bugs" { // SSL_OP_ALL has SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS
			s.flags["emptyfragments"] = off
		}
	}
}

// weakFlags are flags of the command Options that weaken connections.
var weakFlags = []struct {
	name string
	on   bool // the value that weakens
	why  string
	when func(low, high sslfilter.Version, cbc bool) bool
}{
	{"AllowNoDHEKEX", true, noForwardSecrecy, admits13},
	{"PreferNoDHEKEX", true, noForwardSecrecy, admits13},
	{"ExtendedMasterSecret", false, "keys of TLS 1.2 are not bound to the handshake (RFC 7627)", func(low, _ sslfilter.Version, _ bool) bool { return low < sslfilter.VersionTLS13 }},
	{"EncryptThenMac", false, "padding of CBC suites is not authenticated (RFC 7366)", func(_, _ sslfilter.Version, cbc bool) bool { return cbc }},
	{"EmptyFragments", false, "CBC suites of TLS 1.0 have predictable initialization vectors (CVE-2011-3389)", func(low, _ sslfilter.Version, cbc bool) bool { return cbc && low < sslfilter.VersionTLS11 }},
}

const noForwardSecrecy = "resumed sessions of TLS 1.3 may have no forward secrecy"

func admits13(_, high sslfilter.Version, _ bool) bool { return high >= sslfilter.VersionTLS13 }

// settings reports the weaknesses of what the options and commands of a side set,
// apart from the suites themselves.
func (r *report) settings(side string, t *config.TLS, ctx *sslfilter.Ctx) {
	s := settingsOf(t)
	for _, level := range []string{"@SECLEVEL=0", "@SECLEVEL=1"} {
		if strings.Contains(s.cipher.value, level) {
			r.weak("%s%s: %s allows short keys and old signatures", side, s.cipher.key, level)
		}
	}
	low, high := ctx.Versions()
	cbc := false
	for _, name := range ctx.UsableCiphers() {
		cbc = cbc || !authenticated(name)
	}
	for _, flag := range weakFlags {
		if on, set := s.flags[strings.ToLower(flag.name)]; set && on == flag.on && flag.when(low, high, cbc) {
			sign := map[bool]string{false: "-"}[on]
			r.weak("%sconf: Options %s%s: %s", side, sign, flag.name, flag.why)
		}
	}
	for _, list := range []setting{s.signatures, s.clientSignatures} {
		if names := matching(list.value, oldSignature); len(names) > 0 {
			r.weak("%s%s: signatures with a broken hash: %s", side, list.key, strings.Join(names, " "))
		}
	}
	if names := matching(s.groups.value, shortGroup); len(names) > 0 {
		r.weak("%s%s: groups of less than 256 bits: %s", side, s.groups.key, strings.Join(names, " "))
	}
}

// matching returns the names in a list of OpenSSL that match. OpenSSL 3.5 also has "/"
// between tuples of groups, and prefixes.
func matching(list string, match func(name string) bool) (names []string) {
	for _, name := range strings.FieldsFunc(list, func(c rune) bool { return strings.ContainsRune(":/ ", c) }) {
		name = strings.TrimLeft(name, "?*-")
		if match(name) {
			names = append(names, name)
		}
	}
	return names
}

var brokenHash = regexp.MustCompile(`(?i)(^|[+_])(sha1|md5)($|[+_])`)

// oldSignature reports whether a signature algorithm, such as "RSA+SHA1" or
// "ecdsa_sha1", uses a hash that is not secure.
func oldSignature(name string) bool { return brokenHash.MatchString(name) }

var number = regexp.MustCompile(`[0-9]+`)

// shortGroup reports whether a group has less than 256 bits by its name, such as
// "P-224" or "sect163k1".
func shortGroup(name string) bool {
	bits, err := strconv.Atoi(number.FindString(name))
	return err == nil && bits >= 100 && bits < 256
}
