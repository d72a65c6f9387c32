// Package testpki makes throw-away PKIs for tests, examples and the demo. It uses only the
// standard library. All keys are new, and should not be used after the program ends.
//
// [New] makes the usual set: a CA, a server, four client certificates and a CRL. [NewCA]
// and [CA.Issue] make other certificates.
package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Cert is a certificate with its private key.
type Cert struct {
	*x509.Certificate
	Key crypto.Signer
}

// CertPEM returns the content of a .crt file.
func (c *Cert) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// KeyPEM returns the content of a .key file: PKCS #8, not encrypted.
func (c *Cert) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("testpki: key of %s: %w", c.Subject, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Write creates name.crt and name.key in dir. The key has mode 0600. An existing file is an
// error.
func (c *Cert) Write(dir, name string) error {
	key, err := c.KeyPEM()
	if err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, name+".key"), key, 0o600); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, name+".crt"), c.CertPEM(), 0o644)
}

// CA is a certificate that issues others.
type CA struct{ Cert }

// NewCA makes a self-signed CA whose common name is name.
func NewCA(name string) (*CA, error) {
	c, err := issue(nil, Spec{Name: name}, func(t *x509.Certificate) {
		t.IsCA, t.BasicConstraintsValid = true, true
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	})
	if err != nil {
		return nil, err
	}
	return &CA{*c}, nil
}

// Spec describes a certificate for Issue.
type Spec struct {
	Name  string   // common name of the subject
	Hosts []string // names and IP addresses of a server; empty for a client certificate

	NotBefore time.Time     // default: an hour ago
	NotAfter  time.Time     // default: in ten years
	Key       crypto.Signer // default: a new ECDSA P-256 key
	Serial    *big.Int      // default: 120 random bits, not 0
}

// Issue returns a certificate that the CA has issued.
func (ca *CA) Issue(s Spec) (*Cert, error) {
	return issue(ca, s, func(t *x509.Certificate) {
		t.KeyUsage = x509.KeyUsageDigitalSignature
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if len(s.Hosts) > 0 {
			t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}
		for _, host := range s.Hosts {
			if ip, err := netip.ParseAddr(host); err == nil {
				t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
			} else {
				t.DNSNames = append(t.DNSNames, host)
			}
		}
	})
}

// issue sets the fields that all certificates share. If ca is nil, the certificate is
// self-signed.
func issue(ca *CA, s Spec, extend func(*x509.Certificate)) (*Cert, error) {
	fail := func(err error) (*Cert, error) { return nil, fmt.Errorf("testpki: certificate %q: %w", s.Name, err) }
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: s.Serial,
		Subject:      pkix.Name{Organization: []string{"sslfilter test"}, CommonName: s.Name},
		NotBefore:    s.NotBefore,
		NotAfter:     s.NotAfter,
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = now.Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = now.AddDate(10, 0, 0)
	}
	extend(t)
	var err error
	if t.SerialNumber == nil {
		if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
			return fail(err)
		}
		t.SerialNumber.Add(t.SerialNumber, big.NewInt(1))
	}
	key := s.Key
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return fail(err)
		}
	}
	parent, signer := t, key
	if ca != nil {
		parent, signer = ca.Certificate, ca.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return fail(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	return &Cert{Certificate: cert, Key: key}, nil
}

// CRL returns a CRL in PEM form with the serial numbers of revoked. It needs at least one:
// Options.CACRL rejects every certificate if the list has no entries.
func (ca *CA) CRL(revoked ...*Cert) ([]byte, error) {
	if len(revoked) == 0 {
		return nil, errors.New("testpki: a CRL needs at least one entry")
	}
	now := time.Now()
	t := &x509.RevocationList{Number: big.NewInt(now.Unix()), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.AddDate(10, 0, 0)}
	for _, c := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: t.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, ca.Certificate, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("testpki: CRL: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

// PKI is the usual set.
type PKI struct {
	CA     *CA
	Server *Cert  // for localhost, 127.0.0.1, ::1 and the names passed to New
	CRL    []byte // PEM, of CA; Revoked is on it

	Valid   *Cert // a valid client certificate
	Revoked *Cert // a client certificate on CRL
	Expired *Cert // a client certificate that expired an hour ago
	Unknown *Cert // a client certificate of an unknown CA
}

// New makes a PKI. The server certificate also contains names.
func New(names ...string) (*PKI, error) {
	ca, err := NewCA("Throw-away CA")
	if err != nil {
		return nil, err
	}
	other, err := NewCA("Unknown CA")
	if err != nil {
		return nil, err
	}
	p, now := &PKI{CA: ca}, time.Now()
	for _, c := range []struct {
		cert **Cert
		ca   *CA
		spec Spec
	}{
		{&p.Server, ca, Spec{Name: "localhost", Hosts: append([]string{"localhost", "127.0.0.1", "::1"}, names...)}},
		{&p.Valid, ca, Spec{Name: "valid client"}},
		{&p.Revoked, ca, Spec{Name: "revoked client"}},
		{&p.Expired, ca, Spec{Name: "expired client", NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.Add(-time.Hour)}},
		{&p.Unknown, other, Spec{Name: "client of an unknown CA"}},
	} {
		if *c.cert, err = c.ca.Issue(c.spec); err != nil {
			return nil, err
		}
	}
	p.CRL, err = ca.CRL(p.Revoked)
	return p, err
}

// Write writes everything to the folder dir, which must exist: ca, server, client-valid,
// client-revoked, client-expired and client-unknown as .crt and .key (mode 0600), and
// ca.crl. An existing file is an error.
func (p *PKI) Write(dir string) error {
	for _, c := range []struct {
		cert *Cert
		name string
	}{
		{&p.CA.Cert, "ca"}, {p.Server, "server"},
		{p.Valid, "client-valid"}, {p.Revoked, "client-revoked"}, {p.Expired, "client-expired"}, {p.Unknown, "client-unknown"},
	} {
		if err := c.cert.Write(dir, c.name); err != nil {
			return err
		}
	}
	return writeNew(filepath.Join(dir, "ca.crl"), p.CRL, 0o644)
}

// WriteTemp makes a PKI as New does and writes it to a new folder, which the
// caller removes.
func WriteTemp(names ...string) (dir string, err error) {
	p, err := New(names...)
	if err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", "throw-away-pki-"); err != nil {
		return "", fmt.Errorf("testpki: %w", err)
	}
	if err := p.Write(dir); err != nil {
		os.RemoveAll(dir)
		return "", err
	}
	return dir, nil
}

// ThrowAway sets *crt and *key to files of WriteTemp if both are empty, for a server without
// a certificate. It prints the file of the CA, which clients can trust until remove is
// called.
func ThrowAway(crt, key *string) (remove func(), err error) {
	if *crt != "" || *key != "" {
		return func() {}, nil
	}
	dir, err := WriteTemp()
	if err != nil {
		return nil, err
	}
	*crt, *key = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	fmt.Println("throw-away certificates:", filepath.Join(dir, "ca.crt"))
	return func() { os.RemoveAll(dir) }, nil
}

func writeNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("testpki: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("testpki: %s: %w", name, err)
	}
	return nil
}
