package relay

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/seed-014b8713/sslfilter"
)

// certificate is a certificate as OpenSSL has parsed it.
type certificate struct {
	*sslfilter.Certificate
	names *sslfilter.Names

	// shown is the same certificate as crypto/x509 has parsed it, which is only used to
	// show its key and its signature. It is nil if unreadable is set.
	shown      *x509.Certificate
	unreadable error
}

// parseCertificates parses the certificates that a context has loaded.
func parseCertificates(ders [][]byte) (list []certificate, err error) {
	for _, der := range ders {
		var c certificate
		if c.Certificate, err = sslfilter.ParseCertificate(der); err != nil {
			return nil, err
		}
		if c.names, err = c.Names(); err != nil {
			return nil, err
		}
		c.shown, c.unreadable = c.Parse()
		list = append(list, c)
	}
	return list, nil
}

// ownCertificates returns the certificates that the relay presents to clients.
func (st *state) ownCertificates() ([]certificate, error) {
	var leaves [][]byte
	for _, chain := range st.server.Chains() {
		leaves = append(leaves, chain[0])
	}
	return parseCertificates(leaves)
}

// dnsNames returns the DNS names in each of the relay's certificates.
func (st *state) dnsNames() (all [][]string) {
	for _, own := range st.own {
		all = append(all, own.names.DNSNames)
	}
	return all
}

// notAfter returns when the first of the relay's certificates expires, in Unix time, or
// 0 if the relay has none.
func (st *state) notAfter() (first int64) {
	for i, own := range st.own {
		if end := own.NotAfter.Unix(); i == 0 || end < first {
			first = end
		}
	}
	return first
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
func weakSignature(c certificate) string {
	if c.selfSigned() {
		return ""
	}
	switch c.shown.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return "a signature with " + c.shown.SignatureAlgorithm.String()
	}
	return ""
}

func (c certificate) selfSigned() bool { return c.names.Subject == c.names.Issuer }

// issuedBy returns an error if another certificate is not the issuer of c.
func (c certificate) issuedBy(issuer certificate) error {
	switch {
	case c.names.Issuer != issuer.names.Subject:
		return fmt.Errorf("that is %s", c.names.Issuer)
	case c.shown == nil || issuer.shown == nil:
		return nil
	}
	return c.shown.CheckSignatureFrom(issuer.shown)
}

// soon is how long before its expiry a certificate is reported.
const soon = 30 * 24 * time.Hour

// dates describes a problem with the validity period of a certificate.
func dates(c certificate, now time.Time) string {
	switch {
	case c.NotAfter.IsZero():
		return "OpenSSL cannot read its dates"
	case now.After(c.NotAfter):
		return "expired on " + day(c.NotAfter)
	case now.Before(c.NotBefore):
		return "not valid before " + day(c.NotBefore)
	case now.Add(soon).After(c.NotAfter):
		return fmt.Sprintf("expires in %d days, on %s", int(c.NotAfter.Sub(now).Hours()/24), day(c.NotAfter))
	}
	return ""
}

// day formats a date, which a CRL may not have.
func day(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.UTC().Format(time.DateOnly)
}
