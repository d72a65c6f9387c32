//go:build cgo

package sslfilter

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names has the names in a certificate, as OpenSSL has parsed them. Each value
// is well-formed for its type and has no NUL byte and no control character.
// Values that are not are left out, and counted in Malformed: a program that
// compares a name never sees one that another program could read differently.
//
// A name says who the peer is only if Peer.Valid is true.
type Names struct {
	// Subject and Issuer are distinguished names in the form of RFC 2253, most
	// specific part first, as "openssl x509 -nameopt RFC2253" prints them. In
	// this form special characters are escaped and the rest is ASCII, so that
	// different names have different texts. Compare these, and not the text of
	// X509_NAME_oneline.
	Subject, Issuer string
	// CommonNames has all common names of the subject, in the order in which
	// they are in the certificate, in UTF-8. A certificate may have several, and
	// programs disagree about which one counts.
	CommonNames []string
	// DNSNames, EmailAddresses, URIs and IPAddresses are those of the
	// subjectAltName. A DNS name may begin with "*.". Names in other alphabets
	// are in the form of A-labels ("xn--..."). Upper and lower case are as in
	// the certificate.
	DNSNames       []string
	EmailAddresses []string
	URIs           []string
	IPAddresses    []netip.Addr
	// Malformed counts the values that are left out, and a subjectAltName that
	// OpenSSL cannot read.
	Malformed int
}

// Names returns the names in the certificate. The error is that of OpenSSL if it
// cannot parse DER, or has no memory.
//
// Calls X509_NAME_print_ex(3), ASN1_STRING_to_UTF8(3), X509_get_ext_d2i(3).
func (c *Certificate) Names() (*Names, error) {
	list, found, err := namesOf(c.DER)
	if err != nil {
		return nil, err
	}
	n := new(Names)
	if found == altNamesBad {
		n.Malformed++
	}
	for _, name := range list {
		n.add(name.kind, string(name.value))
	}
	return n, nil
}

// add adds one name, or counts it in Malformed.
func (n *Names) add(kind nameKind, value string) {
	ok := false
	switch kind {
	case kindSubject:
		n.Subject, ok = value, true
	case kindIssuer:
		n.Issuer, ok = value, true
	case kindCommonName:
		ok = addIf(&n.CommonNames, value, utf8.ValidString(value) && !strings.ContainsFunc(value, unicode.IsControl))
	case kindDNS:
		ok = addIf(&n.DNSNames, value, !strings.ContainsFunc(value, notInDNSName))
	case kindMail:
		at := strings.LastIndexByte(value, '@')
		ok = addIf(&n.EmailAddresses, value, graphic(value) && at > 0 && at < len(value)-1)
	case kindURI:
		ok = addIf(&n.URIs, value, graphic(value))
	case kindIP:
		var ip netip.Addr
		if ip, ok = netip.AddrFromSlice([]byte(value)); ok {
			n.IPAddresses = append(n.IPAddresses, ip)
		}
	}
	if !ok {
		n.Malformed++
	}
}

// addIf appends value to list if it is well-formed and not empty.
func addIf(list *[]string, value string, wellFormed bool) bool {
	if !wellFormed || value == "" {
		return false
	}
	*list = append(*list, value)
	return true
}

// graphic reports whether s has only characters of ASCII that are visible.
func graphic(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

func notInDNSName(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._*", c))
}
