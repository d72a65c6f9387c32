package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// OCSPCheck selects what a client does with the OCSP response that a server
// staples to its certificate.
type OCSPCheck int

const (
	// OCSPOff ignores the response. Filter.OCSPResponse returns it.
	OCSPOff OCSPCheck = iota
	// OCSPIfStapled verifies a response if the server staples one. A server
	// that staples none is accepted, unless its certificate demands a response
	// (the TLS feature extension of RFC 7633, "must-staple").
	OCSPIfStapled
	// OCSPRequire also rejects a server that staples no response.
	OCSPRequire
)

func (c OCSPCheck) String() string {
	switch c {
	case OCSPOff:
		return "off"
	case OCSPIfStapled:
		return "if-stapled"
	case OCSPRequire:
		return "require"
	}
	return fmt.Sprintf("OCSPCheck(%d)", int(c))
}

// OCSPStatus is the status of a certificate in an OCSP response, or the reason
// why no status is accepted.
type OCSPStatus int

const (
	OCSPNotAsked     OCSPStatus = C.FSSL_OCSP_NONE         // not checked: OCSPCheck is off, this is a server, or the handshake has not reached the check
	OCSPGood         OCSPStatus = C.FSSL_OCSP_GOOD         // the certificate is not revoked
	OCSPRevoked      OCSPStatus = C.FSSL_OCSP_REVOKED      // the certificate is revoked
	OCSPUnknown      OCSPStatus = C.FSSL_OCSP_UNKNOWN      // the responder does not know the certificate
	OCSPMissing      OCSPStatus = C.FSSL_OCSP_MISSING      // the server stapled no response, or the Staple has none
	OCSPMalformed    OCSPStatus = C.FSSL_OCSP_MALFORMED    // OpenSSL cannot parse the response
	OCSPUnsuccessful OCSPStatus = C.FSSL_OCSP_UNSUCCESSFUL // the responder reports an error, such as tryLater
	OCSPUnverified   OCSPStatus = C.FSSL_OCSP_UNVERIFIED   // the signature is wrong, or the signer may not sign for the issuer of the certificate
	OCSPOtherCert    OCSPStatus = C.FSSL_OCSP_OTHER_CERT   // the response is for another certificate
	OCSPExpired      OCSPStatus = C.FSSL_OCSP_EXPIRED      // the response has expired
	OCSPNotYetValid  OCSPStatus = C.FSSL_OCSP_NOT_YET      // the response is not valid yet
	OCSPNoIssuer     OCSPStatus = C.FSSL_OCSP_NO_ISSUER    // the issuer of the certificate is not known, so nothing can be verified
	OCSPBadResponder OCSPStatus = C.FSSL_OCSP_RESPONDER    // a CRL revokes the certificate of the responder, or CRLCheck has no CRL for it
)

func (s OCSPStatus) String() string {
	switch s {
	case OCSPNotAsked:
		return "not asked"
	case OCSPGood:
		return "good"
	case OCSPRevoked:
		return "the certificate is revoked"
	case OCSPUnknown:
		return "the OCSP responder does not know the certificate"
	case OCSPMissing:
		return "there is no OCSP response"
	case OCSPMalformed:
		return "the OCSP response is malformed"
	case OCSPUnsuccessful:
		return "the OCSP responder reports an error"
	case OCSPUnverified:
		return "the OCSP response is not signed by the issuer of the certificate, or by a responder of this issuer"
	case OCSPOtherCert:
		return "the OCSP response is for another certificate"
	case OCSPExpired:
		return "the OCSP response has expired"
	case OCSPNotYetValid:
		return "the OCSP response is not valid yet"
	case OCSPNoIssuer:
		return "the issuer of the certificate is not known"
	case OCSPBadResponder:
		return "the certificate of the OCSP responder is revoked, or there is no valid CRL for it"
	case C.FSSL_OCSP_OLDER:
		return "the OCSP response is older than the current one"
	case C.FSSL_OCSP_BOUND:
		return "the Staple is already used for another certificate"
	case C.FSSL_OCSP_NO_MEMORY:
		return "out of memory"
	}
	return fmt.Sprintf("OCSPStatus(%d)", int(s))
}

// OCSPResult is an OCSPStatus with its details.
type OCSPResult struct {
	Status OCSPStatus
	// ThisUpdate and NextUpdate are the dates of the response. NextUpdate is
	// zero if the response has none; such a response is accepted for a day.
	ThisUpdate, NextUpdate time.Time
	// RevokedAt and Reason are about a revoked certificate. Reason is a number
	// of RFC 5280 section 5.3.1, or -1 if the response has none.
	RevokedAt time.Time
	Reason    int
	// MustStaple is true if the certificate demands a stapled response (RFC
	// 7633).
	MustStaple bool
	// Err is the *VerifyError because of which the peer is not valid, or nil.
	Err error
	// Ignored is true if IgnoreVerifyErrors accepts the peer nevertheless.
	Ignored bool

	responder int // OCSPResponseStatus
}

// OK reports whether the result does not make the peer invalid.
func (r OCSPResult) OK() bool { return r.Err == nil || r.Ignored }

// responderErrors has the names of RFC 6960 section 4.2.1.
var responderErrors = map[int]string{1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired", 6: "unauthorized"}

// reasons has the names of RFC 5280 section 5.3.1.
var reasons = map[int]string{
	0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded", 5: "cessationOfOperation", 6: "certificateHold",
	8: "removeFromCRL", 9: "privilegeWithdrawn", 10: "aACompromise",
}

func (r OCSPResult) String() string {
	const layout = "2006-01-02 15:04:05 UTC"
	text := r.Status.String()
	switch {
	case r.Status == OCSPRevoked:
		text += " since " + r.RevokedAt.Format(layout)
		if name := reasons[r.Reason]; name != "" {
			text += " (" + name + ")"
		}
	case r.Status == OCSPUnsuccessful:
		name := responderErrors[r.responder]
		if name == "" {
			name = fmt.Sprint(r.responder)
		}
		text += ": " + name
	case r.Status == OCSPExpired && !r.NextUpdate.IsZero():
		text += ": it was valid until " + r.NextUpdate.Format(layout)
	case r.Status == OCSPExpired:
		text += ": it is from " + r.ThisUpdate.Format(layout) + " and has no date of expiry"
	case r.Status == OCSPNotYetValid:
		text += ": it is valid from " + r.ThisUpdate.Format(layout)
	case r.Status == C.FSSL_OCSP_OLDER:
		text += ": it is from " + r.ThisUpdate.Format(layout)
	case r.Status == OCSPMissing && r.MustStaple:
		text += ", and the certificate demands one"
	}
	if r.Ignored {
		text += ", which is ignored"
	}
	return text
}

// ocspResult converts o.
func ocspResult(o *C.fssl_ocsp) OCSPResult {
	return OCSPResult{
		Status: OCSPStatus(o.outcome), ThisUpdate: unixTime(o.this_update), NextUpdate: unixTime(o.next_update), RevokedAt: unixTime(o.revoked_at),
		Reason: int(o.reason), MustStaple: o.must_staple != 0, Ignored: o.ignored != 0, responder: int(o.responder_status),
	}
}

func unixTime(seconds C.int64_t) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

// ocsp returns the result of OCSPCheck in the last handshake.
func (h *sslHandle) ocsp() OCSPResult {
	defer runtime.KeepAlive(h)
	o := &h.ptr.ocsp
	r := ocspResult(o)
	if o.error == 0 {
		return r
	}
	e := &VerifyError{Code: VerifyCode(o.error), ocsp: r.String()}
	var stack *C.struct_stack_st_X509
	if C.fssl_conn_chain(h.ptr, &stack) > 0 {
		leaf := C.fssl_chain_cert(stack, 0)
		info, _ := describe(leaf)
		e.Subject = info.subject
		e.NotBefore, e.NotAfter = dates(leaf)
	}
	r.Err = e
	return r
}

// ocspUnparsed records that OpenSSL could not parse the stapled response, and
// ended the handshake without the check. OpenSSL 3.6 was the first to parse it
// itself.
func (h *sslHandle) ocspUnparsed() {
	defer runtime.KeepAlive(h)
	C.fssl_ocsp_unparsed(h.ptr)
}

// ocspAcceptable reports whether the check of the stapled response does not make
// the peer invalid.
func (h *sslHandle) ocspAcceptable() bool {
	defer runtime.KeepAlive(h)
	return h.ptr.ocsp.error == 0 || h.ptr.ocsp.ignored != 0
}

// checkOCSP makes connections verify the response that the server staples. With
// require they also reject a server that staples none.
func (h *ctxHandle) checkOCSP(require bool) {
	defer runtime.KeepAlive(h)
	C.fssl_ctx_check_ocsp(h.ptr, cBool(require))
}

var errNoOCSP = errors.New("this OpenSSL is built without OCSP")

func ocspSupported() bool { return C.fssl_ocsp_supported() != 0 }

// Staple is an OCSP response that a server staples to its certificate. A program
// replaces the response with Set, and every Ctx that uses the Staple staples the
// new one from then on. A Staple is safe for concurrent use. Several contexts
// can share one, as long as they have the same certificate. It starts without a
// response, and the zero value can be used.
type Staple struct {
	mu  sync.Mutex // held while the response or the certificate is changed or read, except by handshakes
	h   *stapleHandle
	der []byte // the current response
}

// stapleHandle owns a reference to a C staple.
type stapleHandle struct{ handle[*C.fssl_staple] }

func freeStaple(p *C.fssl_staple) { C.fssl_staple_free(p) }

// maxStaple bounds a response that is stapled, in bytes: a client with OpenSSL
// accepts no longer CertificateStatus message in TLS 1.2
// (SSL3_RT_MAX_PLAIN_LENGTH).
const maxStaple = 16<<10 - 4

// NewStaple returns a Staple with a response in DER form, as Set does. If der is
// empty, the Staple starts without a response.
func NewStaple(der []byte) (*Staple, error) {
	s := new(Staple)
	if err := s.Set(der); err != nil {
		return nil, err
	}
	return s, nil
}

// Set replaces the response. If der is empty, nothing is stapled any more. der is
// copied.
//
// The response must be successful and valid at this moment, and it has at most
// 16 KiB. If the Staple is used by a Ctx, the response must be for the
// certificate of that Ctx, and signed by its issuer or by a responder of that
// issuer. Set finds the issuer in the chain that is sent or in the CAs of the
// Ctx; if it is in neither, only the serial number is compared. A response that
// says "revoked" is accepted, and one that says "unknown" is refused. A response
// that is older than the current one (thisUpdate) is refused, because an attacker
// can replay it to hide a revocation. After an error the Staple keeps its earlier
// response.
//
// A response that has expired is not stapled.
//
// Calls OCSP_basic_verify(3).
func (s *Staple) Set(der []byte) error {
	if len(der) > maxStaple {
		return &Error{Op: "d2i_OCSP_RESPONSE", Hint: fmt.Sprintf("the response has %d bytes; %d are possible", len(der), maxStaple)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.handle()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(h)
	var out C.fssl_ocsp
	if C.fssl_staple_set(h.ptr, &out, bytesPtr(der), C.size_t(len(der))) == 1 {
		s.der = bytes.Clone(der)
		return nil
	}
	if out.outcome == C.FSSL_OCSP_NO_MEMORY {
		return outOfMemory("d2i_OCSP_RESPONSE", nil)
	}
	return &Error{Op: "OCSP_basic_verify", Hint: ocspResult(&out).String()}
}

// Status returns what the current response says. It is OCSPMissing if there is
// none. Err is always nil.
func (s *Staple) Status() OCSPResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.h == nil {
		return OCSPResult{Status: OCSPMissing}
	}
	defer runtime.KeepAlive(s.h)
	var out C.fssl_ocsp
	C.fssl_staple_state(s.h.ptr, &out)
	return ocspResult(&out)
}

// Response returns a copy of the current response in DER form, or nil.
func (s *Staple) Response() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.der)
}

// Request returns a request for the status of the certificate, in DER form, which
// a program sends to an OCSP responder. The Staple must be used by a Ctx, and the
// issuer of the certificate must be known; see Set.
//
// Calls OCSP_cert_to_id(3).
func (s *Staple) Request() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.handle()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(h)
	var n C.size_t
	var unknown C.int
	var errs C.fssl_errors
	p := C.fssl_staple_request(h.ptr, &n, &unknown, &errs)
	switch {
	case p == nil && unknown == 0 && errs.n == 0: // OpenSSL has no memory for an error either
		return nil, outOfMemory("OCSP_cert_to_id", nil)
	case p == nil && unknown == 0:
		return nil, newError("OCSP_cert_to_id", 0, records(&errs))
	case p == nil:
		return nil, &UsageError{"Request", "the issuer of the certificate is not known: the Staple is not used by a Ctx, or neither the chain nor CACrt has the issuer"}
	}
	defer C.CRYPTO_free(unsafe.Pointer(p), nil, 0)
	return C.GoBytes(unsafe.Pointer(p), C.int(n)), nil
}

// Responders returns the URLs of the OCSP responders that the certificate names
// (authority information access), or nil.
//
// Calls X509_get1_ocsp(3).
func (s *Staple) Responders() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.h == nil {
		return nil
	}
	defer runtime.KeepAlive(s.h)
	if text := C.GoString(C.fssl_staple_responders(s.h.ptr)); text != "" {
		return strings.Fields(text)
	}
	return nil
}

// handle returns the C object, which the first call makes.
func (s *Staple) handle() (*stapleHandle, error) {
	if s.h != nil {
		return s.h, nil
	}
	if !ocspSupported() {
		return nil, &Error{Op: "OCSP_basic_verify", Hint: errNoOCSP.Error()}
	}
	var errs C.fssl_errors
	p := C.fssl_staple_new(&errs)
	if p == nil {
		return nil, outOfMemory("CRYPTO_THREAD_lock_new", records(&errs))
	}
	s.h = new(stapleHandle)
	s.h.own(p, freeStaple)
	return s.h, nil
}

// binding is held while a context gets its Staples, so that two contexts that share
// several of them do not wait for each other.
var binding sync.Mutex

// bindStaples gives the identities their Staples. It is the last step of NewCtx: if
// it fails for one of them, no Staple is bound to a certificate.
func (s *sharedCtx) bindStaples() error {
	binding.Lock()
	defer binding.Unlock()
	defer runtime.KeepAlive(s.ctxHandle)
	var bound []*Staple
	var commit []func()
	for i := range s.identities {
		id := &s.identities[i]
		staple := id.staple
		if staple == nil {
			continue
		}
		out := C.fssl_ocsp{outcome: C.FSSL_OCSP_BOUND}
		ok := false
		if !slices.Contains(bound, staple) {
			staple.mu.Lock()
			defer staple.mu.Unlock()
			bound = append(bound, staple)
			h, err := staple.handle()
			if err != nil {
				return &OptionError{Option: id.prefix + "Staple", Err: err}
			}
			ok = C.fssl_ctx_check_staple(s.ptr, &out, C.int(i), h.ptr, s.lib.lib) == 1
			commit = append(commit, func() { C.fssl_ctx_use_staple(s.ptr, C.int(i), h.ptr, s.lib.lib) })
		}
		if !ok && out.outcome == C.FSSL_OCSP_NO_MEMORY {
			return outOfMemory("OCSP_basic_verify", nil)
		}
		if !ok {
			return &OptionError{Option: id.prefix + "Staple", Err: errors.New(ocspResult(&out).String())}
		}
		id.staple = nil // the SSL_CTX gets its own reference
	}
	for _, use := range commit {
		use()
	}
	runtime.KeepAlive(bound)
	return nil
}
