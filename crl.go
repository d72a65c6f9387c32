package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
)

// CRLCheck selects the certificates of a chain that OpenSSL looks up in CRLs.
type CRLCheck int

const (
	// CRLCheckOff makes OpenSSL ignore CRLs.
	CRLCheckOff CRLCheck = iota
	// CRLCheckLeaf looks up the peer's own certificate in a CRL of its issuer
	// (X509_V_FLAG_CRL_CHECK).
	CRLCheckLeaf
	// CRLCheckChain looks up every certificate of the chain, each in a CRL of
	// its own issuer (X509_V_FLAG_CRL_CHECK_ALL). There must be a CRL of every
	// CA in the chain, the root included.
	CRLCheckChain
)

func (c CRLCheck) String() string {
	switch c {
	case CRLCheckOff:
		return "off"
	case CRLCheckLeaf:
		return "leaf"
	case CRLCheckChain:
		return "chain"
	}
	return fmt.Sprintf("CRLCheck(%d)", int(c))
}

// CRLStatus is the result of a CRL check: of the comparison of serials for
// CACRL and ClientCertCRL ("by serial" below), or of OpenSSL's check for
// CRLCheck.
type CRLStatus int

const (
	CRLNotAsked      CRLStatus = iota // no CRL is configured; does not block
	CRLNotListed                      // no certificate of the chain is on a CRL; does not block
	CRLListed                         // a certificate of the chain is on a CRL
	CRLEmpty                          // by serial: the CRLs have no entries at all, which blocks, as in the original
	CRLUnusable                       // a file is missing, or cannot be read or parsed, which blocks
	CRLNoCertificate                  // the peer sent no certificate, which never counts as "not listed"
	CRLMissing                        // CRLCheck: there is no CRL of a certificate's issuer (X509_V_ERR_UNABLE_TO_GET_CRL)
	CRLExpired                        // CRLCheck: the CRL has expired (X509_V_ERR_CRL_HAS_EXPIRED)
	CRLInvalid                        // CRLCheck: the CRL cannot be used because of its signature, issuer, date, scope or an extension
	CRLNotReached                     // CRLCheck: the handshake ended before the CRLs were checked
)

func (s CRLStatus) String() string {
	switch s {
	case CRLNotAsked:
		return "not asked"
	case CRLNotListed:
		return "not listed"
	case CRLListed:
		return "listed"
	case CRLEmpty:
		return "the CRL has no entries"
	case CRLUnusable:
		return "the CRL cannot be used"
	case CRLNoCertificate:
		return "no certificate"
	case CRLMissing:
		return "there is no CRL of the issuer"
	case CRLExpired:
		return "the CRL has expired"
	case CRLInvalid:
		return "the CRL is not valid"
	case CRLNotReached:
		return "the handshake is not complete"
	}
	return fmt.Sprintf("CRLStatus(%d)", int(s))
}

// CRLResult is a CRLStatus with its details.
type CRLResult struct {
	Status CRLStatus
	File   string // by serial: the file; CRLCheck: the file that cannot be used
	// Subject is the subject of a certificate: for CRLListed of the first
	// listed certificate in the chain, for CRLMissing, CRLExpired and
	// CRLInvalid of the certificate that was looked up.
	Subject string
	Serial  []byte // of the same certificate, as in CertID
	// Err is the reason for CRLUnusable, and for CRLCheck the *VerifyError.
	Err error
	// Ignored is true if an option accepts the certificate nevertheless:
	// AllowMissingCRL, AllowExpiredCRL or IgnoreVerifyErrors.
	Ignored bool
}

// OK reports whether the certificate is not blocked: it is not listed, no CRL
// is configured, or the result is ignored.
func (r CRLResult) OK() bool {
	return r.Status == CRLNotListed || r.Status == CRLNotAsked || r.Ignored
}

func (r CRLResult) String() string {
	text := r.Status.String()
	switch r.Status {
	case CRLListed:
		text = fmt.Sprintf("serial %s of %s is listed", bounded.Text(Hexdump(r.Serial)), bounded.Text(r.Subject))
	case CRLUnusable:
		text = fmt.Sprintf("%v: %v", r.Status, bare(r.Err))
	case CRLMissing, CRLExpired, CRLInvalid:
		text = fmt.Sprintf("%v: %v", r.Status, bare(r.Err))
	case CRLNotAsked:
		return text
	}
	if r.File != "" {
		text = r.File + ": " + text
	}
	if r.Ignored {
		text += ", which is ignored"
	}
	return text
}

// crlSerials owns the sorted serials of every CRL in a file.
type crlSerials struct {
	handle[*C.fssl_serials]
	entries int // revoked serials in all CRLs
}

func freeSerials(p *C.fssl_serials) { C.fssl_serials_free(p) }

func (h *crlSerials) close() { h.handle.close(freeSerials) }

// parseSerials reads all CRLs of pem. It returns an error if pem has no CRL, or if
// one is broken.
func parseSerials(pem []byte) (*crlSerials, error) {
	var errs C.fssl_errors
	var blocks C.int
	p := C.fssl_serials_parse(&blocks, bytesPtr(pem), C.size_t(len(pem)), &errs)
	if p == nil && blocks < 0 {
		return nil, outOfMemory("PEM_read_bio_X509_CRL", records(&errs))
	}
	if p == nil {
		in := input{data: pem}
		return nil, in.notPEM(pemCRL, newError("PEM_read_bio_X509_CRL", 0, records(&errs)))
	}
	h := &crlSerials{entries: int(p.n)}
	lists := int(p.lists)
	h.own(p, freeSerials)
	err := checkBlocks(pem, int(blocks))
	if err == nil && lists == 0 {
		in := input{data: pem}
		err = in.notPEM(pemCRL, errors.New("no CRL in it"))
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// describeCRLs describes all CRLs of pem, which is the content of file if that is not "".
//
// Calls d2i_X509_CRL(3), X509_NAME_print_ex(3), X509_CRL_get0_nextUpdate(3).
func describeCRLs(option, file string, pem []byte) (list []CRL, err error) {
	var errs C.fssl_errors
	var blocks C.int
	infos := new(C.fssl_crl_infos)
	defer C.fssl_crl_infos_free(infos)
	if C.fssl_crls_describe(infos, &blocks, bytesPtr(pem), C.size_t(len(pem)), &errs) != 1 {
		if blocks < 0 {
			return nil, outOfMemory("PEM_read_bio_X509_CRL", records(&errs))
		}
		in := input{data: pem}
		return nil, in.notPEM(pemCRL, newError("PEM_read_bio_X509_CRL", 0, records(&errs)))
	}
	for _, info := range unsafe.Slice(infos.list, infos.n) {
		c := CRL{Option: option, File: file, Issuer: C.GoString(info.issuer), Serials: int(info.serials)}
		if info.has_this_update == 1 {
			c.ThisUpdate = time.Unix(int64(info.this_update), 0).UTC()
		}
		if info.has_next_update == 1 {
			c.NextUpdate = time.Unix(int64(info.next_update), 0).UTC()
		}
		list = append(list, c)
	}
	return list, nil
}

// setSerials sets the serials that the verify callback checks on a side that
// enforces validity; nil blocks every peer. The caller keeps crl alive as long
// as h.
func (h *sslHandle) setSerials(crl *crlSerials) {
	defer runtime.KeepAlive(h)
	if crl == nil {
		h.ptr.policy.serials, h.ptr.policy.serials_mode = nil, C.FSSL_CRL_BLOCK
		return
	}
	h.ptr.policy.serials, h.ptr.policy.serials_mode = crl.ptr, C.FSSL_CRL_CHECK
}

// crlLists owns references to whole CRLs, for OpenSSL's own check.
type crlLists struct {
	handle[*C.struct_stack_st_X509_CRL]
}

func freeLists(p *C.struct_stack_st_X509_CRL) { C.fssl_crls_free(p) }

func (h *crlLists) close() { h.handle.close(freeLists) }

func newLists(p *C.struct_stack_st_X509_CRL) *crlLists {
	h := new(crlLists)
	h.own(p, freeLists)
	return h
}

// parseLists reads all CRLs of pem. It returns an error if pem has no CRL, or if one
// is broken or not complete.
func parseLists(pem []byte) (*crlLists, error) {
	var errs C.fssl_errors
	var blocks, lists, unfit C.int
	in := input{data: pem}
	p := C.fssl_crls_parse(&blocks, &lists, &unfit, bytesPtr(pem), C.size_t(len(pem)), &errs)
	if p == nil && blocks < 0 {
		return nil, outOfMemory("PEM_read_bio_X509_CRL", records(&errs))
	}
	if p == nil {
		switch unfit {
		case C.FSSL_CRL_DELTA:
			return nil, fmt.Errorf("CRL %d in it is a delta CRL, which CRLCheck cannot use: a complete one is needed", lists)
		case C.FSSL_CRL_INDIRECT:
			return nil, fmt.Errorf("CRL %d in it is an indirect CRL, which CRLCheck cannot use", lists)
		case C.FSSL_CRL_REASONS:
			return nil, fmt.Errorf("CRL %d in it is for some reasons of revocation only, which CRLCheck cannot use", lists)
		}
		return nil, in.notPEM(pemCRL, newError("PEM_read_bio_X509_CRL", 0, records(&errs)))
	}
	h := newLists(p)
	err := checkBlocks(pem, int(blocks))
	if err == nil && lists == 0 {
		err = in.notPEM(pemCRL, errors.New("no CRL in it"))
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// joinLists makes one list of several, for the library context of l. The CRLs
// in the cache belong to the default library context.
func (l library) joinLists(lists []*crlLists) (all *crlLists, own bool, err error) {
	if len(lists) == 1 && l.lib == nil {
		return lists[0], false, nil
	}
	defer runtime.KeepAlive(lists)
	stacks := make([]*C.struct_stack_st_X509_CRL, len(lists))
	for i, list := range lists {
		stacks[i] = list.ptr
	}
	var errs C.fssl_errors
	p := C.fssl_crls_join(l.lib, unsafe.SliceData(stacks), C.int(len(stacks)), &errs)
	if p == nil {
		return nil, false, newError("sk_X509_CRL_push", 0, records(&errs))
	}
	return newLists(p), true, nil
}

// checkLists makes OpenSSL check the CRLs that setLists gives to each
// connection.
func (h *ctxHandle) checkLists(wholeChain bool) error {
	return h.try("X509_VERIFY_PARAM_set_flags", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_check_crls(ctx, cBool(wholeChain), errs)
	})
}

// setLists sets the CRLs that OpenSSL checks on this connection; nil blocks
// every peer. The caller keeps list alive as long as h.
func (h *sslHandle) setLists(list *crlLists) {
	defer runtime.KeepAlive(h)
	if list == nil {
		h.ptr.policy.lists, h.ptr.policy.lists_unusable = nil, 1
		return
	}
	h.ptr.policy.lists, h.ptr.policy.lists_unusable = list.ptr, 0
}
