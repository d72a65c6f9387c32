//go:build cgo

package sslfilter

import (
	"fmt"
	"slices"
	"strings"
)

func (s *sharedCtx) applyCiphers() error {
	o := &s.opts
	if !o.Client && !o.NoHonor {
		s.setServerPreference()
	}
	for _, list := range []struct {
		option, value string
		set           func(string) error
	}{
		{"Cipher", o.Cipher, s.setCiphers},
		{"CipherSuites", o.CipherSuites, s.setSuites},
		{"Groups", o.Groups, s.setGroups},
		{"SignatureAlgorithms", o.SignatureAlgorithms, func(list string) error { return s.setSignatures(o.Client, list) }},
	} {
		if list.value == "" {
			continue
		}
		if err := list.set(list.value); err != nil {
			return s.refused(list.option, list.option, list.value, err)
		}
	}
	if len(o.ALPN) > 0 {
		if err := s.setALPN(o.Client, o.alpn()); err != nil {
			return &OptionError{Option: "ALPN", Err: err}
		}
	}
	return nil
}

// refused returns the error for a value that OpenSSL has rejected. name is the
// option in the error. option is the option whose syntax the value has, or "".
func (s *sharedCtx) refused(name, option, value string, err error) error {
	if newer := needsNewer(option, value); newer != nil {
		return &OptionError{Option: name, Err: newer}
	}
	return badOption(name, "%q: %w%s", value, bare(err), s.lib.blame(option, value))
}

// checkCiphers determines the suites that a connection offers or accepts, after
// everything that changes them.
func (s *sharedCtx) checkCiphers() error {
	o := &s.opts
	names, _, err := s.ctxHandle.ciphers()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return badOption(o.cipherOption(), "no suite is left that the versions and the security level admit")
	}
	s.ciphers = names
	source, suites := o.setting("CipherSuites")
	if unknown := unknownSuites(suites, names); len(unknown) > 0 {
		if newer := needsNewer("CipherSuites", suites); newer != nil {
			return &OptionError{Option: source, Err: newer}
		}
		return badOption(source, "OpenSSL has no TLS 1.3 suite %s, or the security level excludes it", strings.Join(unknown, ", "))
	}
	if o.Debug != nil {
		source, list := o.setting("Cipher")
		for _, name := range s.lib.unknownCiphers(list) {
			o.Debug.Debug("sslfilter: "+source+" holds a name that OpenSSL drops", "name", name)
		}
	}
	return nil
}

// blame describes the entries because of which OpenSSL rejected a list. It
// returns "" if it finds none.
func (l library) blame(option, list string) string {
	var notes []string
	switch option {
	case "Cipher":
		for _, name := range l.unknownCiphers(list) {
			switch known := cipherName(name); {
			case known == "":
				notes = append(notes, fmt.Sprintf("OpenSSL does not know %q", name))
			case known == name:
				notes = append(notes, fmt.Sprintf("%q is a suite of TLS 1.3, which belongs in CipherSuites", name))
			default:
				notes = append(notes, fmt.Sprintf("%q has the name %s in OpenSSL", name, known))
			}
		}
	case "CipherSuites":
		for name := range strings.SplitSeq(list, ":") {
			name = strings.TrimSpace(name)
			switch known := cipherName(name); {
			case name == "" || known == name:
			case known != "":
				notes = append(notes, fmt.Sprintf("%q is a suite of TLS 1.2, which belongs in Cipher as %s", name, known))
			case len(l.unknownCiphers(name)) == 0:
				notes = append(notes, fmt.Sprintf("%q belongs in Cipher", name))
			default:
				notes = append(notes, fmt.Sprintf("OpenSSL does not know %q", name))
			}
		}
	case "Groups":
		for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return strings.ContainsRune(":/", r) }) {
			name = strings.TrimLeft(strings.TrimSpace(name), "?*-")
			if strings.EqualFold(name, "DEFAULT") || !l.refusesGroup(name) {
				continue
			}
			notes = append(notes, fmt.Sprintf("OpenSSL does not know the group %q, or the providers do not have it", name))
		}
	case "SignatureAlgorithms":
		for name := range strings.SplitSeq(list, ":") {
			if l.refusesSignature(name) {
				notes = append(notes, fmt.Sprintf("OpenSSL does not know the signature algorithm %q, or the providers do not have it", name))
			}
		}
	}
	if len(notes) == 0 {
		return ""
	}
	return ": " + strings.Join(notes, "; ")
}

func (l library) refusesGroup(name string) bool {
	h, err := newCtxHandle(l, false)
	if err != nil {
		return false
	}
	defer h.close()
	return h.setGroups(name) != nil
}

// cipherOption returns the option that an error about an empty list of suites names.
func (o *Options) cipherOption() string {
	source, list := o.setting("Cipher")
	if list == "" {
		if suites, list := o.setting("CipherSuites"); list != "" {
			return suites
		}
	}
	return source
}

// checkUsable determines which suites can be negotiated, and returns an error for
// a server that could not complete any handshake.
func (s *sharedCtx) checkUsable() error {
	o := &s.opts
	if o.Client {
		s.usable = s.ciphers
		return nil
	}
	// Versions before TLS 1.2 sign with MD5 and SHA-1, which OpenSSL 3.0 and later
	// accept only at level 0. A server checks this even for suites without a signature.
	if _, high := s.versions(); high != 0 && high < VersionTLS12 && !olderThan("3.0") && s.securityLevel() > 0 {
		source := "MaxVersion"
		if i := o.command(source); i >= 0 {
			source = o.confName(i)
		}
		return badOption(source, "no handshake can be completed: a server needs @SECLEVEL=0 in Cipher for %v with this OpenSSL", high)
	}
	_, groups := o.setting("Groups")
	ec, ff := s.lib.groupKinds(groups)
	dhe := o.fileOption("DHCert").given() || ff && !olderThan("4.0")
	source, algorithms := o.setting("SignatureAlgorithms")
	level := s.securityLevel()
	if s.low < VersionTLS12 && olderThan("3.0") { // versions before TLS 1.2 sign at every level
		level = 0
	}
	kinds, suiteB := s.lib.signatureKinds(algorithms, level), s.suiteBKinds()
	kinds13 := kinds
	if suiteB != 0 { // OpenSSL negotiates TLS 1.3 only if the list has an algorithm for the key, too
		kinds, kinds13, ec = suiteB, suiteB&s.lib.signatureKinds(algorithms, 0), true
	}
	if _, high := s.versions(); high != 0 && high < VersionTLS12 { // which have no list of signature algorithms
		kinds = signsAll
	}
	usable, err := s.ctxHandle.usable(dhe, ec, kinds, kinds13)
	if err != nil {
		return err
	}
	s.usable = usable
	if len(usable) > 0 {
		return nil
	}
	text := "no handshake can be completed: this server can negotiate none of " + strings.Join(s.ciphers, ":")
	for i := range s.identities {
		text += []string{" with a key of the type ", " or "}[min(i, 1)] + s.keyType(i)
	}
	has := func(kx string) bool {
		return slices.ContainsFunc(s.ciphers, func(name string) bool { return strings.HasPrefix(name, kx) })
	}
	if !dhe && (has("DHE-") || has("ADH-")) {
		text += "; DHE suites need DHCert"
	}
	if !ec && (has("ECDHE-") || has("AECDH-")) {
		text += "; ECDHE suites need an elliptic curve in Groups"
	}
	switch {
	case suiteB != 0:
		text += "; the rules of Suite B need a key on " + map[signs]string{signsP256: "P-256", signsP384: "P-384", signsP256 | signsP384: "P-256 or P-384"}[suiteB&^signsSuiteB]
		if algorithms != "" {
			text += "; in TLS 1.3, " + source + " must have an algorithm for it, too"
		}
	case algorithms != "":
		text += "; " + source + " must have an algorithm for this key"
		if kinds != s.lib.signatureKinds(algorithms, 0) {
			text += fmt.Sprintf(" that the security level %d admits", level)
		}
	}
	return badOption(o.cipherOption(), "%s", text)
}

// groupKinds reports whether a list of groups has groups for ECDHE and groups for
// DHE in versions before TLS 1.3. OpenSSL processes the list in order, so that a
// group can be removed with "-" and added again.
func (l library) groupKinds(list string) (ec, ff bool) {
	if list == "" {
		return true, true
	}
	// DEFAULT of SSL_CTX_set1_groups_list(3), without the groups of TLS 1.3 only
	const ordinary = "?x25519:?secp256r1:?x448:?secp384r1:?secp521r1:?ffdhe2048:?ffdhe3072"
	groups := make(map[string]bool)
	for entry := range strings.FieldsFuncSeq(strings.ToLower(list), func(r rune) bool { return strings.ContainsRune(":/", r) }) {
		entry = strings.TrimSpace(entry)
		if entry == "default" {
			entry = ordinary
		}
		for name := range strings.SplitSeq(entry, ":") {
			bare := strings.TrimLeft(name, "?*-")
			marks := name[:len(name)-len(bare)]
			if strings.Contains(marks, "?") && (strings.HasPrefix(bare, " ") || l.refusesGroup(bare)) {
				continue
			}
			groups[groupName(bare)] = !strings.Contains(marks, "-")
		}
	}
	for name, have := range groups {
		switch {
		case !have, strings.HasSuffix(name, "tls13"), strings.Contains(name, "mlkem"): // TLS 1.3 only
		case strings.HasPrefix(name, "ffdhe"):
			ff = true
		default:
			ec = true
		}
	}
	return ec, ff
}

// groupName returns one name, in lower case, for the curves that have several.
func groupName(name string) string {
	if bits, found := strings.CutPrefix(name, "p-"); found {
		return "secp" + bits + "r1"
	}
	switch name {
	case "prime192v1":
		return "secp192r1"
	case "prime256v1":
		return "secp256r1"
	}
	return name
}

// unknownSuites returns the names that OpenSSL 3 silently drops from a TLS 1.3 list.
func unknownSuites(list string, have []string) []string {
	var unknown []string
	for name := range strings.SplitSeq(list, ":") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(have, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// unknownCiphers returns the names in a cipher list that select no cipher.
func (l library) unknownCiphers(list string) []string {
	names := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(":, ;", r) })
	var unknown []string
	for _, name := range names {
		bare, _, _ := strings.Cut(strings.TrimLeft(name, "+-!"), "@")
		if bare == "" {
			continue
		}
		h, err := newCtxHandle(l, false)
		if err != nil {
			return unknown
		}
		if h.setCiphers(bare+":@SECLEVEL=0") != nil {
			unknown = append(unknown, bare)
		}
		h.close()
	}
	return unknown
}
