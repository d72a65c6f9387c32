//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ValidationError is returned if a certificate does not have the name, address or
// host that was asked for.
//
//lint:ignore ST1005,ST1012 programs know the name and the text
var ValidationError = errors.New("Host validation error")

// CheckFlags change how a name is compared with a certificate.
type CheckFlags int

const (
	AlwaysCheckSubject CheckFlags = C.X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT
	NoWildcards        CheckFlags = C.X509_CHECK_FLAG_NO_WILDCARDS
)

// X509_Version is the version of a certificate, as the number that a certificate
// contains: X.509 v1 has 0, and v3 has 2.
type X509_Version int

const (
	X509_V1 X509_Version = 0
	X509_V3 X509_Version = 2
)

// Certificate is an X.509 certificate. A Certificate that is being changed must not
// be used by another goroutine at the same time.
type Certificate struct {
	// Issuer is the certificate that SetIssuer has set, or nil.
	Issuer *Certificate

	x *C.X509
}

// CertificateInfo describes a certificate for NewCertificate. Issued and Expires
// are relative to the current time.
type CertificateInfo struct {
	Serial       *big.Int
	Issued       time.Duration
	Expires      time.Duration
	Country      string
	Organization string
	CommonName   string
}

func newCertificate(x *C.X509, op string, errs *C.compat_err) (*Certificate, error) {
	if x == nil {
		return nil, failure(op, errs)
	}
	c := &Certificate{x: x}
	runtime.AddCleanup(c, func(x *C.X509) { C.X509_free(x) }, x)
	return c, nil
}

// NewCertificate makes a certificate of version 3 for key. Its issuer is its own
// subject, until SetIssuer changes that. Sign completes it.
func NewCertificate(info *CertificateInfo, key PublicKey) (*Certificate, error) {
	var errs C.compat_err
	c, err := newCertificate(C.compat_cert_new(&errs), "certificate", &errs)
	if err != nil {
		return nil, err
	}
	name, err := NewName()
	if err != nil {
		return nil, err
	}
	for _, entry := range []struct{ field, value string }{
		{"C", info.Country}, {"O", info.Organization}, {"CN", info.CommonName},
	} {
		if entry.value == "" {
			continue
		}
		if err := name.AddTextEntry(entry.field, entry.value); err != nil {
			return nil, err
		}
	}
	serial := info.Serial
	if serial == nil {
		serial = new(big.Int)
	}
	for _, err := range []error{
		c.SetVersion(X509_V3), c.SetSerial(serial), c.SetIssueDate(info.Issued), c.SetExpireDate(info.Expires),
		c.SetPubKey(key), c.SetSubjectName(name), c.SetIssuerName(name),
	} {
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// LoadCertificateFromPEM reads the first certificate in pem_block.
func LoadCertificateFromPEM(pem_block []byte) (*Certificate, error) {
	var errs C.compat_err
	return newCertificate(C.compat_cert_pem(ptr(pem_block), C.size_t(len(pem_block)), &errs), "certificate", &errs)
}

// certificateFromDER reads a certificate that a peer has sent.
func certificateFromDER(der []byte) (*Certificate, error) {
	var errs C.compat_err
	return newCertificate(C.compat_cert_der(ptr(der), C.size_t(len(der)), &errs), "certificate", &errs)
}

// made returns an error unless this package made the certificate.
func (c *Certificate) made(op string) error {
	if c == nil || c.x == nil {
		return errors.New("openssl: " + op + ": the Certificate was not made by this package")
	}
	return nil
}

// do calls f, which does op with the certificate.
func (c *Certificate) do(op string, f func(errs *C.compat_err) C.int) error {
	if err := c.made(op); err != nil {
		return err
	}
	var errs C.compat_err
	ok := f(&errs)
	runtime.KeepAlive(c)
	if ok == 0 {
		return failure(op, &errs)
	}
	return nil
}

// MarshalPEM returns the certificate in PEM form.
func (c *Certificate) MarshalPEM() (pem_block []byte, err error) {
	var out C.compat_buf
	if err := c.do("marshal certificate", func(errs *C.compat_err) C.int { return C.compat_cert_write_pem(c.x, &out, errs) }); err != nil {
		return nil, err
	}
	return take(&out), nil
}

// SetSerial sets the serial number.
func (c *Certificate) SetSerial(serial *big.Int) error {
	b := serial.Bytes()
	var negative C.int
	if serial.Sign() < 0 {
		negative = 1
	}
	return c.do("set serial", func(errs *C.compat_err) C.int {
		return C.compat_cert_set_serial(c.x, ptr(b), C.size_t(len(b)), negative, errs)
	})
}

// GetSerialNumberHex returns the serial number in hexadecimal, or "" if OpenSSL
// cannot read it.
func (c *Certificate) GetSerialNumberHex() (serial string) {
	var out C.compat_buf
	if c.do("serial", func(errs *C.compat_err) C.int { return C.compat_cert_serial_hex(c.x, &out, errs) }) != nil {
		return ""
	}
	return string(take(&out))
}

// SetIssueDate sets the first moment of validity, relative to the current time.
func (c *Certificate) SetIssueDate(when time.Duration) error { return c.setTime(0, when) }

// SetExpireDate sets the last moment of validity, relative to the current time.
func (c *Certificate) SetExpireDate(when time.Duration) error { return c.setTime(1, when) }

func (c *Certificate) setTime(notAfter C.int, when time.Duration) error {
	return c.do("set date", func(errs *C.compat_err) C.int {
		return C.compat_cert_set_time(c.x, notAfter, C.long(when/time.Second), errs)
	})
}

// SetPubKey sets the public key.
func (c *Certificate) SetPubKey(pubKey PublicKey) error {
	k := pubKey.evpPKey()
	defer runtime.KeepAlive(k)
	return c.do("set key", func(errs *C.compat_err) C.int { return C.compat_cert_set_key(c.x, k.p, errs) })
}

// SetSubjectName sets the subject.
func (c *Certificate) SetSubjectName(name *Name) error { return c.setName(0, name) }

// SetIssuerName sets the name of the issuer. SetIssuer also makes extensions refer
// to the issuer's certificate.
func (c *Certificate) SetIssuerName(name *Name) error { return c.setName(1, name) }

func (c *Certificate) setName(issuer C.int, name *Name) error {
	defer runtime.KeepAlive(name)
	return c.do("set name", func(errs *C.compat_err) C.int { return C.compat_cert_set_name(c.x, issuer, name.n, errs) })
}

// SetIssuer sets the name of the issuer, and Issuer, which AddExtension uses.
func (c *Certificate) SetIssuer(issuer *Certificate) error {
	name, err := issuer.GetSubjectName() // an error if issuer is nil
	if err != nil {
		return err
	}
	if err := c.SetIssuerName(name); err != nil {
		return err
	}
	c.Issuer = issuer
	return nil
}

// GetSubjectName returns a copy of the subject.
func (c *Certificate) GetSubjectName() (*Name, error) { return c.name(0) }

// GetIssuerName returns a copy of the name of the issuer.
func (c *Certificate) GetIssuerName() (*Name, error) { return c.name(1) }

func (c *Certificate) name(issuer C.int) (*Name, error) {
	var n *C.X509_NAME
	err := c.do("name", func(errs *C.compat_err) C.int {
		if n = C.compat_cert_name(c.x, issuer, errs); n == nil {
			return 0
		}
		return 1
	})
	if err != nil {
		return nil, err
	}
	return newName(n), nil
}

// GetVersion returns the version.
func (c *Certificate) GetVersion() X509_Version {
	if c.made("version") != nil {
		return X509_V1
	}
	defer runtime.KeepAlive(c)
	return X509_Version(C.X509_get_version(c.x))
}

// SetVersion sets the version.
func (c *Certificate) SetVersion(version X509_Version) error {
	return c.do("set version", func(errs *C.compat_err) C.int { return C.compat_cert_set_version(c.x, C.long(version), errs) })
}

// AddExtension adds an extension with this number. value is in the form of
// x509v3_config(5): "critical,CA:TRUE".
func (c *Certificate) AddExtension(nid NID, value string) error {
	issuer := c.Issuer
	if issuer == nil {
		issuer = c
	}
	if err := issuer.made("add extension"); err != nil {
		return err
	}
	defer runtime.KeepAlive(issuer)
	return c.do("add extension", func(errs *C.compat_err) (ok C.int) {
		withString(value, func(s *C.char) { ok = C.compat_cert_add_extension(c.x, issuer.x, C.int(nid), s, errs) })
		return ok
	})
}

// AddExtensions adds several extensions, in the order of their numbers. It stops
// at the first error.
func (c *Certificate) AddExtensions(extensions map[NID]string) error {
	for _, nid := range sortedKeys(extensions) {
		if err := c.AddExtension(nid, extensions[nid]); err != nil {
			return err
		}
	}
	return nil
}

// Sign signs the certificate with EVP_SHA256, EVP_SHA384 or EVP_SHA512. Ed25519
// and Ed448 keys have no digest: for them digest is EVP_NULL.
func (c *Certificate) Sign(privKey PrivateKey, digest EVP_MD) error {
	var errs C.compat_err
	var md *C.EVP_MD
	switch digest {
	case EVP_SHA256, EVP_SHA384, EVP_SHA512:
		if md = C.compat_md(C.int(digest), &errs); md == nil {
			return failure("sign certificate", &errs)
		}
	case EVP_NULL:
		if base := privKey.BaseType(); base != KeyTypeED25519 && base != KeyTypeED448 {
			return errors.New("openssl: sign certificate: this type of key needs a digest")
		}
	default:
		return fmt.Errorf("openssl: sign certificate: digest %d: want EVP_SHA256, EVP_SHA384 or EVP_SHA512", digest)
	}
	k := privKey.evpPKey()
	defer runtime.KeepAlive(k)
	return c.do("sign certificate", func(errs *C.compat_err) C.int { return C.compat_cert_sign(c.x, k.p, md, errs) })
}

// matches returns an error unless privKey is the key of the certificate.
func (c *Certificate) matches(privKey PrivateKey) error {
	k := privKey.evpPKey()
	defer runtime.KeepAlive(k)
	return c.do("private key", func(errs *C.compat_err) C.int { return C.compat_cert_matches(c.x, k.p, errs) })
}

// PublicKey returns the public key of the certificate.
func (c *Certificate) PublicKey() (PublicKey, error) {
	if err := c.made("public key"); err != nil {
		return nil, err
	}
	var errs C.compat_err
	p := C.compat_cert_key(c.x, &errs)
	runtime.KeepAlive(c)
	return public("certificate key", p, &errs)
}

// CheckHost returns nil if the certificate is for this host name, and
// ValidationError if it is not. If it has no DNS name in its subjectAltName, the
// common name counts. An IP address is not a host name; see VerifyHostname.
//
// Calls X509_check_host(3).
func (c *Certificate) CheckHost(host string, flags CheckFlags) error {
	return c.check(C.COMPAT_HOST, []byte(host), flags)
}

// CheckEmail is CheckHost for an email address.
//
// Calls X509_check_email(3).
func (c *Certificate) CheckEmail(email string, flags CheckFlags) error {
	return c.check(C.COMPAT_EMAIL, []byte(email), flags)
}

// CheckIP is CheckHost for an IP address.
//
// Calls X509_check_ip(3).
func (c *Certificate) CheckIP(ip net.IP, flags CheckFlags) error {
	if v4 := ip.To4(); v4 != nil {
		ip = v4
	}
	return c.check(C.COMPAT_IP, ip, flags)
}

func (c *Certificate) check(kind C.int, name []byte, flags CheckFlags) error {
	if len(name) == 0 {
		return ValidationError // X509_check_host(3) reads up to a NUL if the length is 0
	}
	var found C.int
	err := c.do("check name", func(errs *C.compat_err) C.int {
		found = C.compat_cert_check(c.x, kind, ptr(name), C.size_t(len(name)), C.uint(flags), errs)
		return found + 1
	})
	if err == nil && found == 0 {
		err = ValidationError
	}
	return err
}

// VerifyHostname is CheckIP if host is an IP address, possibly in brackets, and
// otherwise CheckHost.
func (c *Certificate) VerifyHostname(host string) error {
	if ip := net.ParseIP(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); ip != nil {
		return c.CheckIP(ip, 0)
	}
	return c.CheckHost(host, 0)
}

// Name is the name of a subject or an issuer.
type Name struct {
	n *C.X509_NAME
}

func newName(n *C.X509_NAME) *Name {
	name := &Name{n}
	runtime.AddCleanup(name, func(n *C.X509_NAME) { C.X509_NAME_free(n) }, n)
	return name
}

// NewName returns an empty name.
func NewName() (*Name, error) {
	var errs C.compat_err
	n := C.compat_name_new(&errs)
	if n == nil {
		return nil, failure("name", &errs)
	}
	return newName(n), nil
}

// AddTextEntry appends an entry: "CN", "localhost".
//
// Calls X509_NAME_add_entry_by_txt(3).
func (n *Name) AddTextEntry(field, value string) error {
	var errs C.compat_err
	var ok C.int
	b := []byte(value)
	withString(field, func(s *C.char) { ok = C.compat_name_add(n.n, s, ptr(b), C.int(len(b)), &errs) })
	runtime.KeepAlive(n)
	if ok == 0 {
		return failure("name entry "+field, &errs)
	}
	return nil
}

// AddTextEntries appends several entries, ordered by their fields.
func (n *Name) AddTextEntries(entries map[string]string) error {
	for _, field := range sortedKeys(entries) {
		if err := n.AddTextEntry(field, entries[field]); err != nil {
			return err
		}
	}
	return nil
}

// GetEntry returns the first entry with this number, in UTF-8.
func (n *Name) GetEntry(nid NID) (entry string, ok bool) {
	var errs C.compat_err
	var out C.compat_buf
	found := C.compat_name_entry(n.n, C.int(nid), &out, &errs)
	runtime.KeepAlive(n)
	if found <= 0 {
		return "", false
	}
	return string(take(&out)), true
}

func sortedKeys[K cmp.Ordered](m map[K]string) []K { return slices.Sorted(maps.Keys(m)) }
