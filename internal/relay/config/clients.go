package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed-014b8713/sslfilter"
)

// Clients is the list of allow-clients, as written.
type Clients []string

// AllowList is a list of clients in the form in which they are compared.
type AllowList map[string]struct{}

// Parse returns the list for comparisons.
func (c Clients) Parse() (AllowList, error) {
	list := make(AllowList, len(c))
	for _, entry := range c {
		key, err := clientKey(entry)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", entry, err)
		}
		if _, twice := list[key]; twice {
			return nil, fmt.Errorf("%q is listed twice", entry)
		}
		list[key] = struct{}{}
	}
	return list, nil
}

// ErrNotAllowed is the reason why a client is not served.
var ErrNotAllowed = errors.New("the client is not in allow-clients")

// Admit returns an error if the certificate of a client, which must be valid, matches no
// entry. The names are those that OpenSSL has parsed. A malformed name matches no entry.
func (l AllowList) Admit(cert *sslfilter.Certificate) error {
	keys := []string{"sha256:" + Fingerprint(cert.DER)}
	names, err := cert.Names()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	keys = append(keys, "issuer:"+names.Issuer)
	if len(names.CommonNames) == 1 { // programs disagree about which of several counts
		keys = append(keys, "cn:"+names.CommonNames[0])
	}
	for _, name := range names.DNSNames {
		keys = append(keys, "dns:"+strings.ToLower(name))
	}
	for _, address := range names.EmailAddresses {
		keys = append(keys, "email:"+mailKey(address))
	}
	for _, uri := range names.URIs {
		keys = append(keys, "uri:"+uri)
	}
	for _, key := range keys {
		if _, ok := l[key]; ok {
			return nil
		}
	}
	return ErrNotAllowed
}

// Fingerprint returns the SHA-256 fingerprint of a certificate.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// mailKey returns an address in the form in which it is compared: case is ignored in
// the domain only (RFC 5321 section 2.4).
func mailKey(address string) string {
	at := strings.LastIndexByte(address, '@')
	return address[:at+1] + strings.ToLower(address[at+1:])
}

var (
	hostName   = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	mail       = regexp.MustCompile(`^[!-~]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$`)
	uri        = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$`)
	issuer     = regexp.MustCompile(`^[A-Za-z0-9.]+=[ -~]*$`)
	colonBytes = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){31}$`)
	plainBytes = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// clientKey returns an entry in the form in which it is compared.
func clientKey(entry string) (string, error) {
	kind, value, _ := strings.Cut(entry, ":")
	if strings.Contains(value, "*") {
		return "", errors.New("patterns with * are not supported")
	}
	switch kind {
	case "cn":
		if value == "" || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) || strings.TrimSpace(value) != value {
			return "", errors.New("want a common name without control characters, and without space around it")
		}
	case "dns":
		if !hostName.MatchString(value) {
			return "", errors.New("want a host name such as www.example.org, and names in other alphabets in the form xn--")
		}
		value = strings.ToLower(value)
	case "email":
		if !mail.MatchString(value) {
			return "", errors.New("want an address such as alice@example.org")
		}
		value = mailKey(value)
	case "uri":
		if !uri.MatchString(value) {
			return "", errors.New("want a URI such as spiffe://example.org/web")
		}
	case "issuer":
		if !issuer.MatchString(value) {
			return "", errors.New(`want the name that "openssl x509 -noout -issuer -nameopt RFC2253" prints, such as CN=Example CA,O=Example`)
		}
	case "sha256":
		value = strings.ToLower(value)
		if colonBytes.MatchString(value) {
			value = strings.ReplaceAll(value, ":", "")
		}
		if !plainBytes.MatchString(value) {
			return "", errors.New("want the 32 bytes of a fingerprint in hexadecimal, with or without colons between them")
		}
	default:
		return "", errors.New("want cn:, dns:, email:, uri:, issuer: or sha256: before the name")
	}
	return kind + ":" + value, nil
}

// validateClients checks allow-clients, and what it depends on.
func (t *TLS) validateClients() error {
	if t.AllowClients == nil {
		return nil
	}
	if len(t.AllowClients) == 0 {
		return wrongKey("allow-clients", "is empty, so no client would be served; leave it out to serve all clients with a valid certificate")
	}
	if _, err := t.AllowClients.Parse(); err != nil {
		return wrongKey("allow-clients", "%w", err)
	}
	if !t.RequireValidClientCert {
		return wrongKey("allow-clients", "needs requirevalidclientcert: the names in a certificate that is not valid say nothing")
	}
	byName := slices.IndexFunc(t.AllowClients, func(entry string) bool { return !strings.HasPrefix(entry, "sha256:") })
	anyone := slices.IndexFunc(t.IgnoreVerifyErrors, sslfilter.VerifyCode.AdmitsAnyone)
	if byName >= 0 && anyone >= 0 {
		return wrongKey("allow-clients", "%q: with %d in ignoreVerifyErrors anyone can make a certificate with this name; only sha256: is safe then",
			t.AllowClients[byName], int(t.IgnoreVerifyErrors[anyone]))
	}
	return nil
}
