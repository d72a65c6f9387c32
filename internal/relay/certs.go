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

// certificate is one certificate as crypto/x509 sees it. OpenSSL serves and
// verifies; this is for display alone.
type certificate struct {
	*x509.Certificate       // nil with err
	err               error // what crypto/x509 does not like
}

// parseCertificates parses what a context has loaded.
func parseCertificates(ders [][]byte) []certificate {
	list := make([]certificate, len(ders))
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		list[i] = certificate{c, err}
	}
	return list
}

// notAfter is when the certificate ends that the relay serves, in Unix time, or
// 0 if that cannot be told.
func (st *state) notAfter() int64 {
	if st.server == nil {
		return 0
	}
	list := parseCertificates(st.server.Chain())
	if len(list) == 0 || list[0].err != nil {
		return 0
	}
	return list[0].NotAfter.Unix()
}

// keyOf describes a public key, and how strong it is in bits of its own kind.
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

// weakSignature names a signature that is not safe any more. That of a root is
// never looked at.
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

// soon is how long before its end a certificate is reported.
const soon = 30 * 24 * time.Hour

// dates describes what is wrong with the dates of a certificate, now.
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

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
