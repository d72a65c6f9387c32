//go:build cgo

package sslfilter

import (
	"fmt"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
)

// CRLCheck says which certificates of a chain OpenSSL looks up in CRLs.
type CRLCheck int

const (
	// CRLCheckOff leaves CRLs alone.
	CRLCheckOff CRLCheck = iota
	// CRLCheckLeaf looks up the peer's own certificate, in a CRL of its
	// issuer (X509_V_FLAG_CRL_CHECK).
	CRLCheckLeaf
	// CRLCheckChain looks up every certificate of the chain, each in a CRL of
	// its own issuer (X509_V_FLAG_CRL_CHECK_ALL): there must be one of every
	// CA in it, the root's included.
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

// crlSet is what the files of a context held when they were looked at last. It
// does not change: what is new makes a new one.
type crlSet struct {
	list  *crlList // of all files and of CRLMem
	own   bool     // list is no other's: neither a file's nor CRLMem's
	files []*cachedCRL[*crlList]
}

// maxCRLFiles bounds Options.CRLFiles: every handshake looks at all of them.
const maxCRLFiles = 256

// applyCRLs reads everything that OpenSSL shall check.
func (s *sharedCtx) applyCRLs() error {
	o := &s.opts
	if o.CRLCheck == CRLCheckOff {
		return nil
	}
	for i, pem := range o.CRLMem {
		in := input{option: fmt.Sprintf("CRLMem[%d]", i), data: pem}
		if err := in.checkSize(); err != nil {
			return err
		}
		list, err := parseCRLList(pem)
		if err != nil {
			return in.wrap(err)
		}
		s.memCRLs = append(s.memCRLs, list)
	}
	if _, err := s.currentCRLs(); err != nil {
		return err
	}
	return s.checkCRLs(o.CRLCheck == CRLCheckChain)
}

// currentCRLs gives the lists as they are now: a file that has changed is read
// again. The error names the file that cannot be used.
func (s *sharedCtx) currentCRLs() (*crlList, error) {
	have := s.crls.Load()
	next := &crlSet{files: make([]*cachedCRL[*crlList], len(s.opts.CRLFiles))}
	known := have != nil
	lists := s.memCRLs[:len(s.memCRLs):len(s.memCRLs)]
	for i, file := range s.opts.CRLFiles {
		var last *cachedCRL[*crlList]
		if have != nil {
			last = have.files[i]
		}
		c, err := crlFiles.load(file, last)
		if err != nil {
			return nil, &OptionError{Option: "CRLFiles", File: file, Err: unwrapPath(err)}
		}
		known = known && c.crl == last.crl
		next.files[i] = c
		lists = append(lists, c.crl)
	}
	if known {
		next.list, next.own = have.list, have.own
	} else {
		list, own, err := s.lib.joinCRLs(lists)
		if err != nil {
			return nil, &OptionError{Option: "CRLFiles", Err: err}
		}
		next.list, next.own = list, own
	}
	s.crls.Store(next)
	return next.list, nil
}

// closeCRLs frees what no other context and, as the last one is gone, no filter
// uses.
func (s *sharedCtx) closeCRLs() {
	if set := s.crls.Load(); set != nil && set.own {
		set.list.close()
	}
	for _, list := range s.memCRLs {
		list.close()
	}
	if s.memSerials != nil {
		s.memSerials.close()
	}
}

// takeCRLs gives the connection the lists as they are when its handshake
// begins. Where they cannot be used, nobody is acceptable.
func (f *Filter) takeCRLs() {
	if f.ctx.opts.CRLCheck == CRLCheckOff {
		return
	}
	f.lists, f.listsErr = f.ctx.currentCRLs()
	if f.listsErr != nil {
		f.debug("CRLs cannot be used, so that no peer is valid", "error", f.listsErr)
	}
	f.ssl.setCRLs(f.lists)
}

// verified reports whether every error that OpenSSL found is ignored, and there
// is a certificate at all.
func (f *Filter) verified() bool { return f.listsErr == nil && f.ssl.acceptable() }

// CRLStatus is the outcome of a look into CRLs: by serial for CACRL and
// CheckCRL, or OpenSSL's own for CRLCheck.
type CRLStatus int

const (
	CRLNotAsked      CRLStatus = iota // no file was named
	CRLNotListed                      // nothing of the chain is on a list; this and CRLNotAsked do not block
	CRLListed                         // a certificate of the chain is on a list
	CRLEmpty                          // by serial: the lists have no entry at all, which blocks, as in the original
	CRLUnusable                       // a file is missing or cannot be read or parsed, which blocks
	CRLNoCertificate                  // the peer showed no certificate, which is never "not on the CRL"
	CRLMissing                        // CRLCheck: there is no list of a certificate's issuer (X509_V_ERR_UNABLE_TO_GET_CRL)
	CRLExpired                        // CRLCheck: the list has expired (X509_V_ERR_CRL_HAS_EXPIRED)
	CRLInvalid                        // CRLCheck: the list does not count: its signature, issuer, date, scope or an extension
	CRLNotReached                     // CRLCheck: the handshake ended before the lists were asked
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

// CRLResult is a CRLStatus with its reason.
type CRLResult struct {
	Status CRLStatus
	File   string // by serial: the file; CRLCheck: the one that cannot be used
	// Subject is, for CRLListed, that of the first listed certificate of the
	// chain, and for CRLMissing, CRLExpired and CRLInvalid that of the
	// certificate that was looked up.
	Subject string
	Serial  []byte // of that certificate, as in CertID
	// Err says why: for CRLUnusable, and for CRLCheck the *VerifyError.
	Err error
	// Ignored says that an option lets this pass: AllowMissingCRL,
	// AllowExpiredCRL or IgnoreVerifyErrors.
	Ignored bool
}

// OK reports whether the certificate is not blocked: it is not listed, nobody
// asked, or what was found is ignored.
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

// crlCodes are the verify errors that are about a CRL.
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

// crlChecked is the outcome of CRLCheck. What counts stands in front of what is
// ignored, and a revoked certificate in front of everything else.
func (f *Filter) crlChecked() (r CRLResult) {
	switch {
	case f.ctx == nil || f.ctx.opts.CRLCheck == CRLCheckOff:
		return r
	case f.ssl == nil || f.ssl.recorded() == 0:
		r.Status = CRLNoCertificate
		return r
	case f.listsErr != nil:
		return unusableCRL(f.listsErr)
	}
	best := 0
	found, _ := f.ssl.verifyRecords() // without the names where memory is short; Peer tells
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
	case !f.proved() || f.ssl.unproved():
		r.Status = CRLNotReached
	default:
		r.Status = CRLNotListed
	}
	return r
}

// unusableCRL is the result for a file of CRLFiles.
func unusableCRL(err error) CRLResult {
	r := CRLResult{Status: CRLUnusable, Err: err}
	if option, ok := err.(*OptionError); ok {
		r.File, r.Err = option.File, option.Err
	}
	return r
}
