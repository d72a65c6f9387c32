package relay

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"
)

// certificate is a certificate parsed by crypto/x509 for display. OpenSSL uses its
// own copy.
type certificate struct {
	*x509.Certificate       // nil if err is set
	err               error // of crypto/x509
}

// parseCertificates parses the certificates that a context has loaded.
func parseCertificates(ders [][]byte) []certificate {
	list := make([]certificate, len(ders))
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		list[i] = certificate{c, err}
	}
	return list
}

// notAfter returns when the first of the relay's certificates expires, in Unix time, or
// 0 if that is not known.
func (st *state) notAfter() (first int64) {
	for _, own := range st.ownCertificates() {
		if end := own.NotAfter.Unix(); first == 0 || end < first {
			first = end
		}
	}
	return first
}

// ownCertificates returns the certificates that the relay presents to clients, without
// those that crypto/x509 cannot parse.
func (st *state) ownCertificates() (own []*x509.Certificate) {
	if st.server == nil {
		return nil
	}
	for _, chain := range st.server.Chains() {
		if list := parseCertificates(chain[:min(len(chain), 1)]); len(list) > 0 && list[0].err == nil {
			own = append(own, list[0].Certificate)
		}
	}
	return own
}

// keyOf describes a public key. If the key is too short, weak says so.
func keyOf(c *x509.Certificate) (what string, weak string) {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		if bits < 2048 {
			weak = fmt.Sprintf("an RSA key of %d bits; the minimum is 2048", bits)
		}
		return fmt.Sprintf("RSA %d bits", bits), weak
	case *ecdsa.PublicKey:
		bits := key.Curve.Params().BitSize
		if bits < 256 {
			weak = fmt.Sprintf("an EC key of %d bits; 256 is usual", bits)
		}
		return fmt.Sprintf("EC %s %d bits", key.Curve.Params().Name, bits), weak
	case ed25519.PublicKey:
		return "Ed25519 256 bits", ""
	}
	return c.PublicKeyAlgorithm.String(), ""
}

// weakSignature describes a signature algorithm that is not secure. The signature of
// a root certificate is never verified, so its algorithm does not matter.
func weakSignature(c *x509.Certificate) string {
	if selfSigned(c) {
		return ""
	}
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return "a signature with " + c.SignatureAlgorithm.String()
	}
	return ""
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// soon is how long before its expiry a certificate is reported.
const soon = 30 * 24 * time.Hour

// dates describes a problem with the validity period of a certificate.
func dates(c *x509.Certificate, now time.Time) string {
	switch {
	case now.After(c.NotAfter):
		return "expired on " + day(c.NotAfter)
	case now.Before(c.NotBefore):
		return "not valid before " + day(c.NotBefore)
	case now.Add(soon).After(c.NotAfter):
		return fmt.Sprintf("expires in %d days, on %s", int(c.NotAfter.Sub(now).Hours()/24), day(c.NotAfter))
	}
	return ""
}

// dayOf is day for a date that a CRL may not have.
func dayOf(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return day(t)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
