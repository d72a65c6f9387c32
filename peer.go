//go:build cgo

package sslfilter

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
)

// CertID is one call of OpenSSL's verify callback, as the original records it.
type CertID struct {
	Subject string // X509_NAME_oneline of the linked OpenSSL
	Issuer  string
	Serial  []byte     // magnitude, big endian, without sign and leading zeros; see Hexdump
	Err     VerifyCode // VerifyOK, or the error of this call
	Depth   int        // 0 is the peer's own certificate
	Ignored bool       // Err is one of IgnoreVerifyErrors
}

// Peer is what is known of the other side's certificate. It is a copy.
type Peer struct {
	// Exists says that the peer showed a certificate.
	Exists bool
	// Valid is ClientCertValid: the handshake is complete, every error was
	// ignored or there was none, and neither CRL nor CRLCheck blocks.
	Valid bool
	// Chain is the chain that OpenSSL built, the peer's own certificate
	// first. Where the peer is not valid it ends where OpenSSL found nothing
	// more.
	Chain []Certificate
	// Sent are the certificates that the peer sent, its own first, in DER
	// form and unverified.
	Sent [][]byte
	// Errors are the errors of the verification, by depth.
	Errors []VerifyIssue
	// CRL is the outcome of Options.CACRL, asked now.
	CRL CRLResult
	// CRLCheck is the outcome of Options.CRLCheck in the handshake.
	CRLCheck CRLResult

	noCA bool // this side trusts nobody
}

// Certificate is one certificate of a chain.
type Certificate struct {
	Subject string // X509_NAME_oneline of the linked OpenSSL
	Issuer  string
	Serial  []byte // magnitude, big endian, without sign and leading zeros; see Hexdump
	// NotBefore and NotAfter are the dates between which it is valid, or zero if
	// OpenSSL cannot read them.
	NotBefore, NotAfter time.Time
	DER                 []byte
}

// Parse gives the certificate as crypto/x509 sees it. It is stricter than
// OpenSSL: an error here does not mean that the certificate is not valid.
func (c *Certificate) Parse() (*x509.Certificate, error) { return x509.ParseCertificate(c.DER) }

// VerifyIssue is one error of a verification.
type VerifyIssue struct {
	Depth   int
	Code    VerifyCode
	Subject string
	Ignored bool
}

// Hexdump writes bytes in hexadecimal with ':' between them: "74:65:73:74".
//
// Corresponds to POE::Filter::SSL hexdump.
func Hexdump(b []byte) string {
	const digits = "0123456789ABCDEF"
	var s strings.Builder
	s.Grow(3 * len(b))
	for i, c := range b {
		if i > 0 {
			s.WriteByte(':')
		}
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// ClientCertExists reports whether the peer showed a certificate, trusted or
// not. On a client it is about the server's.
//
// WARNING: It may be revoked or invalid. Ask ClientCertValid.
//
// Corresponds to POE::Filter::SSL clientCertExists.
func (f *Filter) ClientCertExists() bool {
	f.calls++
	return f.ssl != nil && f.ssl.verdict().recorded() > 0
}

// ClientCertValid reports whether the peer proved to own a certificate that is
// valid: the handshake is complete, OpenSSL found no error that
// IgnoreVerifyErrors does not name, revocation by CRLCheck among them, and
// CACRL, which is looked at now, does not block it. On a client it is about the server's certificate; it is false from
// the moment that a renegotiation brings a new one until that is proved.
//
// Corresponds to POE::Filter::SSL clientCertValid.
func (f *Filter) ClientCertValid() bool {
	f.calls++
	return f.proved() && f.verified() && f.checkSerials().OK()
}

// proved reports whether the handshake, and with it the proof of the peer's key, is complete.
func (f *Filter) proved() bool { return f.ssl != nil && f.ssl.handshaken() }

// ClientCertIDs lists every call of OpenSSL's verify callback in its order, as
// the original does: from the root to the peer's own certificate, with one
// entry more for each error. It is empty where there is no certificate. Peer
// has the same as a chain. If OpenSSL has no memory for a name, the answer is
// empty and the connection has failed.
//
// Corresponds to POE::Filter::SSL clientCertIds.
func (f *Filter) ClientCertIDs() []CertID {
	f.calls++
	if f.ssl == nil {
		return nil
	}
	ids, ok := f.ssl.verdict().certIDs()
	if !ok {
		f.fail(outOfMemory("X509_NAME_oneline", nil))
		return nil
	}
	return ids
}

// certIDs gives the records in the form of the original. It is not ok if C has no
// memory for a name.
func (v verdict) certIDs() (ids []CertID, ok bool) {
	records, ok := v.records()
	for _, r := range records {
		ids = append(ids, CertID{
			Subject: r.cert.subject, Issuer: r.cert.issuer, Serial: r.cert.serial,
			Err: r.code, Depth: r.depth, Ignored: r.ignored,
		})
	}
	return ids, ok
}

// Peer tells all that is known of the other side's certificate, or nil after
// Close. If OpenSSL has no memory for it, the answer is not valid and the
// connection has failed.
func (f *Filter) Peer() *Peer {
	f.calls++
	if f.ssl == nil {
		return nil
	}
	p := &Peer{Exists: f.ssl.verdict().recorded() > 0, CRL: f.checkSerials(), CRLCheck: f.crlChecked()}
	p.Valid = f.proved() && f.verified() && p.CRL.OK()
	p.noCA = !f.ctx.trusts
	infos, ders, whole := f.ssl.chain()
	for i, info := range infos {
		p.Chain = append(p.Chain, Certificate{Subject: info.subject, Issuer: info.issuer, Serial: info.serial, NotBefore: info.notBefore, NotAfter: info.notAfter, DER: ders[i]})
	}
	sent, copied := f.ssl.sent()
	p.Sent = sent
	records, named := f.ssl.verdict().records()
	for _, r := range records {
		if r.code != VerifyOK {
			p.Errors = append(p.Errors, VerifyIssue{Depth: r.depth, Code: r.code, Subject: r.cert.subject, Ignored: r.ignored})
		}
	}
	slices.SortStableFunc(p.Errors, func(a, b VerifyIssue) int { return cmp.Compare(a.Depth, b.Depth) })
	if !whole || !copied || !named {
		f.fail(outOfMemory("i2d_X509", nil))
		p.Valid, p.Chain, p.Sent = false, nil, nil
	}
	return p
}

// String describes the verdict in one line, for logs. What the peer chooses in it
// is cut to about 1 KiB.
func (p *Peer) String() string {
	switch {
	case p == nil || !p.Exists:
		return "no certificate"
	case p.Valid:
		return "valid"
	}
	var why []string
	for _, e := range p.Errors {
		if !e.Ignored {
			text := fmt.Sprintf("%v (%d) at depth %d", e.Code, int(e.Code), e.Depth)
			if e.Depth >= 0 && e.Depth < len(p.Chain) {
				text += validity(e.Code, p.Chain[e.Depth].NotBefore, p.Chain[e.Depth].NotAfter)
			}
			why = append(why, text)
		}
	}
	if len(why) > 0 && p.noCA {
		why = append(why, "this side trusts no CA, since CACrt is not given")
	}
	if !p.CRL.OK() {
		why = append(why, p.CRL.String())
	}
	if p.CRLCheck.Status == CRLUnusable { // what else there is stands in Errors
		why = append(why, p.CRLCheck.String())
	}
	if len(why) == 0 {
		return "invalid: the handshake is not complete"
	}
	return "invalid: " + bounded.Text(strings.Join(why, "; "))
}

// verified reports whether every error that OpenSSL found is ignored, and there
// is a certificate at all.
func (f *Filter) verified() bool { return f.listsErr == nil && f.ssl.verdict().acceptable() }
