//go:build cgo

package sslfilter

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
)

// CertID describes one call of OpenSSL's verify callback, as the original
// records it.
type CertID struct {
	Subject string // X509_NAME_oneline of the linked OpenSSL
	Issuer  string
	Serial  []byte     // the serial number's magnitude, big endian, without leading zeros; see Hexdump
	Err     VerifyCode // VerifyOK, or the error reported by this call
	Depth   int        // 0 is the peer's own certificate
	Ignored bool       // Err is in IgnoreVerifyErrors, or allowed by another option
}

// Peer describes the certificate of the other side, and the verdict on it. It
// is a copy.
type Peer struct {
	// Exists is true if the peer sent a certificate.
	Exists bool
	// KeyProved is true if the peer has proved that it has the private key of
	// its certificate, which is the case once the handshake is complete. It is
	// always false in Error.Peer.
	//
	// WARNING: Certificates are public. If KeyProved is false, anyone may have
	// sent this certificate: it does not say who the peer is.
	KeyProved bool
	// Valid is the result of ClientCertValid: the handshake is complete, there is
	// no error that is not ignored, and none of CACRL, CRLCheck and OCSPCheck
	// blocks the certificate.
	Valid bool
	// Chain is the chain that OpenSSL built, the peer's own certificate first.
	// If the peer is not valid, the chain ends at the last certificate that
	// OpenSSL found.
	Chain []Certificate
	// Sent has the certificates that the peer sent, its own first, in DER form.
	// They are not verified.
	Sent [][]byte
	// Errors has the errors of the verification, ordered by depth.
	Errors []VerifyIssue
	// IDs has the result of ClientCertIDs.
	IDs []CertID
	// CRL is the result of Options.CACRL. The file is checked when Peer is
	// called.
	CRL CRLResult
	// CRLCheck is the result of Options.CRLCheck in the handshake.
	CRLCheck CRLResult
	// OCSP is the result of Options.OCSPCheck in the last handshake. If it is
	// not OK, the peer is not valid.
	OCSP OCSPResult

	noCA bool // this side trusts no CA
}

// Certificate is one certificate of a chain.
type Certificate struct {
	Subject string // X509_NAME_oneline of the linked OpenSSL
	Issuer  string
	Serial  []byte // the serial number's magnitude, big endian, without leading zeros; see Hexdump
	// NotBefore and NotAfter are the first and last moment at which the
	// certificate is valid. They are zero if OpenSSL cannot read them.
	NotBefore, NotAfter time.Time
	DER                 []byte
}

// ParseCertificate parses a certificate in DER form, such as one of Peer.Sent or of
// Ctx.Chains, as OpenSSL does. It does not verify the certificate. The error is
// that of OpenSSL if it cannot parse der, or has no memory.
//
// Calls d2i_X509(3).
func ParseCertificate(der []byte) (*Certificate, error) {
	info, err := infoOf(der)
	if err != nil {
		return nil, err
	}
	c := info.certificate(bytes.Clone(der))
	return &c, nil
}

// certificate returns the certificate with these properties.
func (i *certInfo) certificate(der []byte) Certificate {
	return Certificate{Subject: i.subject, Issuer: i.issuer, Serial: i.serial, NotBefore: i.notBefore, NotAfter: i.notAfter, DER: der}
}

// Parse parses the certificate with crypto/x509, which is stricter than
// OpenSSL: an error does not mean that the certificate is not valid.
func (c *Certificate) Parse() (*x509.Certificate, error) { return x509.ParseCertificate(c.DER) }

// VerifyIssue is one error of a verification.
type VerifyIssue struct {
	Depth   int
	Code    VerifyCode
	Subject string
	Ignored bool
}

// Hexdump formats bytes in hexadecimal, separated by ':': "74:65:73:74".
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

// ClientCertExists reports whether the peer sent a certificate, trusted or not.
// On a client, the peer is the server.
//
// WARNING: The certificate may be revoked or invalid. Use ClientCertValid.
//
// Corresponds to POE::Filter::SSL clientCertExists.
func (f *Filter) ClientCertExists() bool {
	f.calls++
	return f.ssl != nil && f.ssl.verdict().recorded() > 0
}

// ClientCertValid reports whether the peer has a valid certificate and has
// proved that it owns the key. That means that the handshake is complete, that
// OpenSSL found no error, apart from those in IgnoreVerifyErrors (a revocation
// found by CRLCheck is such an error), and that neither CACRL nor OCSPCheck blocks the
// certificate. CACRL is checked in every call.
//
// On a client, the peer is the server. If a renegotiation brings a new
// certificate, the result is false until the server has proved that it owns the
// new key.
//
// Corresponds to POE::Filter::SSL clientCertValid.
func (f *Filter) ClientCertValid() bool {
	f.calls++
	return f.proved() && f.verified() && f.checkSerials().OK()
}

// proved reports whether the handshake is complete, and with it the proof of
// the peer's key.
func (f *Filter) proved() bool { return f.ssl != nil && f.ssl.handshaken() }

// ClientCertIDs lists all calls of OpenSSL's verify callback in order, as the
// original does: from the root to the peer's own certificate, with an
// additional entry for each error. It is empty if the peer sent no certificate.
// Peer has the same information as a chain. If OpenSSL runs out of memory for a
// name, the result is empty and the connection fails.
//
// Corresponds to POE::Filter::SSL clientCertIds.
func (f *Filter) ClientCertIDs() []CertID {
	f.calls++
	if f.ssl == nil {
		return nil
	}
	records, ok := f.ssl.verdict().records()
	if !ok {
		f.fail(outOfMemory("X509_NAME_oneline", nil))
		return nil
	}
	return certIDs(records)
}

// certIDs returns the records in the form of the original.
func certIDs(records []verifyRecord) (ids []CertID) {
	for _, r := range records {
		ids = append(ids, CertID{
			Subject: r.cert.subject, Issuer: r.cert.issuer, Serial: r.cert.serial,
			Err: r.code, Depth: r.depth, Ignored: r.ignored,
		})
	}
	return ids
}

// Peer describes the other side's certificate and the verdict on it, or returns
// nil after Close. If OpenSSL runs out of memory, the result is not valid and
// the connection fails.
func (f *Filter) Peer() *Peer {
	f.calls++
	if f.ssl == nil {
		return nil
	}
	p, ok := f.peer()
	if !ok {
		f.fail(outOfMemory("i2d_X509", nil))
	}
	return p
}

// refusedPeer describes the peer of a handshake that has failed. It returns nil
// if the peer has sent no certificate, and after the handshake.
func (f *Filter) refusedPeer() *Peer {
	if f.keyProved() || f.ssl.verdict().recorded() == 0 {
		return nil
	}
	p, _ := f.peer() // if memory is short, without the certificates
	return p
}

// keyProved reports whether the peer has proved the key of the certificate that
// it has sent last.
func (f *Filter) keyProved() bool { return f.proved() && !f.ssl.verdict().unproved() }

// peer does Peer. If OpenSSL runs out of memory, ok is false and the result has
// no certificates.
func (f *Filter) peer() (p *Peer, ok bool) {
	p = &Peer{Exists: f.ssl.verdict().recorded() > 0, CRL: f.checkSerials(), CRLCheck: f.crlChecked(), OCSP: f.ssl.ocsp()}
	p.KeyProved = p.Exists && f.keyProved()
	p.Valid = f.proved() && f.verified() && p.CRL.OK()
	p.noCA = !f.ctx.trusts
	infos, ders, whole := f.ssl.chain()
	for i, info := range infos {
		p.Chain = append(p.Chain, info.certificate(ders[i]))
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
	p.IDs = certIDs(records)
	if !whole || !copied || !named {
		p.Valid, p.Chain, p.Sent, p.IDs = false, nil, nil, nil
		return p, false
	}
	return p, true
}

// String describes the verdict in one line, for logs. Text that the peer has
// chosen is cut to about 1 KiB.
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
	if p.CRLCheck.Status == CRLUnusable { // all other results are in Errors
		why = append(why, p.CRLCheck.String())
	}
	if !p.OCSP.OK() {
		why = append(why, p.OCSP.String())
	}
	if !p.KeyProved {
		why = append(why, "the peer has not proved that it has the key")
	}
	if len(why) == 0 {
		return "invalid"
	}
	return "invalid: " + bounded.Text(strings.Join(why, "; "))
}

// verified reports whether there is a certificate and every error that OpenSSL
// found is ignored.
func (f *Filter) verified() bool {
	return f.listsErr == nil && f.ssl.verdict().acceptable() && f.ssl.ocspAcceptable()
}

// ClientCertNotOnCRL reports whether no serial of the peer's chain is on any
// CRL in file (PEM). Every call checks the file, and parses it again if it has
// changed.
//
// WARNING: If the file is missing, cannot be read or parsed, or has no entries,
// the result is false for every peer. It is also false for a peer without a
// certificate.
//
// Corresponds to POE::Filter::SSL clientCertNotOnCRL.
func (f *Filter) ClientCertNotOnCRL(file string) bool {
	return f.ClientCertCRL(file).Status == CRLNotListed
}

// ClientCertCRL is like ClientCertNotOnCRL, and returns the details. Serials
// are compared exactly, with their sign. The CRL's issuer, signature and dates
// are not checked.
func (f *Filter) ClientCertCRL(file string) CRLResult {
	f.calls++
	return f.lookUp(CRLResult{File: file}, func() (*crlSerials, error) { return loadSerials(file) })
}

// checkSerials is ClientCertCRL for CACRL or CACRLMem, if one of them is given.
func (f *Filter) checkSerials() CRLResult {
	if f.ctx == nil || !f.ctx.asksSerials() {
		return CRLResult{}
	}
	r := CRLResult{}
	if f.ctx.memSerials == nil {
		r.File = f.ctx.opts.CACRL
	}
	return f.lookUp(r, f.ctx.serials)
}

// lookUp looks the chain up in the serials that load returns.
func (f *Filter) lookUp(r CRLResult, load func() (*crlSerials, error)) CRLResult {
	if f.ssl == nil || f.ssl.verdict().recorded() == 0 {
		r.Status = CRLNoCertificate
		return r
	}
	crl, err := load()
	if err != nil {
		r.Status, r.Err = CRLUnusable, unwrapPath(err)
		return r
	}
	if crl.entries == 0 {
		r.Status = CRLEmpty
		return r
	}
	i := f.ssl.verdict().listed(crl)
	if i < 0 {
		r.Status = CRLNotListed
		return r
	}
	cert := f.ssl.verdict().record(i)
	r.Status, r.Subject, r.Serial = CRLListed, cert.subject, cert.serial
	return r
}

// crlChecked returns the result of CRLCheck. If there are several, errors that are
// not ignored take precedence over ignored ones; among equals, a revoked certificate
// does.
func (f *Filter) crlChecked() (r CRLResult) {
	switch {
	case f.ctx == nil || f.ctx.opts.CRLCheck == CRLCheckOff:
		return r
	case f.ssl == nil || f.ssl.verdict().recorded() == 0:
		r.Status = CRLNoCertificate
		return r
	case f.listsErr != nil:
		return unusableCRL(f.listsErr)
	}
	best := 0
	found, _ := f.ssl.verdict().records() // without the names if memory is short; Peer reports that
	for _, v := range found {
		status, ok := crlCodes[v.code]
		if !ok {
			continue
		}
		weight := 1
		if !v.ignored {
			weight += 2
		}
		if status == CRLListed {
			weight++
		}
		if weight > best {
			best = weight
			r = CRLResult{
				Status: status, Subject: v.cert.subject, Serial: v.cert.serial, Ignored: v.ignored,
				Err: &VerifyError{Code: v.code, Depth: v.depth, Subject: v.cert.subject},
			}
		}
	}
	switch {
	case best > 0:
	case !f.proved() || f.ssl.verdict().unproved():
		r.Status = CRLNotReached
	default:
		r.Status = CRLNotListed
	}
	return r
}

// crlCodes maps the verify errors that are about a CRL.
var crlCodes = map[VerifyCode]CRLStatus{
	VerifyUnableToGetCRL: CRLMissing,
	VerifyCRLHasExpired:  CRLExpired,
	VerifyCertRevoked:    CRLListed,
	5:                    CRLInvalid, // X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE
	8:                    CRLInvalid, // X509_V_ERR_CRL_SIGNATURE_FAILURE
	11:                   CRLInvalid, // X509_V_ERR_CRL_NOT_YET_VALID
	15:                   CRLInvalid, // X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD
	16:                   CRLInvalid, // X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD
	33:                   CRLInvalid, // X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER
	35:                   CRLInvalid, // X509_V_ERR_KEYUSAGE_NO_CRL_SIGN
	36:                   CRLInvalid, // X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION
	44:                   CRLInvalid, // X509_V_ERR_DIFFERENT_CRL_SCOPE
	54:                   CRLInvalid, // X509_V_ERR_CRL_PATH_VALIDATION_ERROR
}

// unusableCRL returns the result for a file of CRLFiles that cannot be used.
func unusableCRL(err error) CRLResult {
	r := CRLResult{Status: CRLUnusable, Err: err}
	if option, ok := err.(*OptionError); ok {
		r.File, r.Err = option.File, option.Err
	}
	return r
}
