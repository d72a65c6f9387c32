// Package servernames determines which server names a server with certificates has:
// those that a client can ask for, and for which all its certificates are valid.
package servernames

import (
	"net/netip"
	"slices"
	"strings"
)

// Fold returns the name in lowercase, or "" for a name that no host has: one that
// is not ASCII or has an empty label.
func Fold(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r > '~' }) || slices.Contains(strings.Split(name, "."), "") {
		return ""
	}
	return strings.ToLower(name)
}

// Common returns the names for which all certificates are valid, in the form that
// Fold returns. dnsNames has the DNS names of each certificate. A client may get any
// of the certificates, so a name that only some of them have does not count. Neither
// does an address, which no client sends as a server name, nor a "*" that is not the
// whole first label.
func Common(dnsNames ...[]string) (names []string) {
	for _, own := range dnsNames {
		for _, name := range own {
			name = Fold(name)
			foreign := func(own []string) bool { return !Covers(own, name) }
			if possible(name) && !slices.Contains(names, name) && !slices.ContainsFunc(dnsNames, foreign) {
				names = append(names, name)
			}
		}
	}
	return names
}

// possible reports whether a client can ask for a name that Fold has returned, or for
// a name that it stands for.
func possible(name string) bool {
	base := strings.TrimPrefix(name, "*.")
	_, err := netip.ParseAddr(base)
	return base != "" && err != nil && !strings.Contains(base, "*")
}

// Covers reports whether a certificate with these DNS names is valid for a name in the
// form that Fold returns, which may be a wildcard: the certificate has the name itself,
// or a wildcard in place of its first label.
func Covers(dnsNames []string, name string) bool {
	_, tail, _ := strings.Cut(name, ".")
	return slices.ContainsFunc(dnsNames, func(own string) bool {
		own = Fold(own)
		return own != "" && (own == name || own == "*."+tail)
	})
}
