package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// crlHandle owns the sorted serials of every CRL in a file.
type crlHandle struct {
	handle[*C.fssl_crl]
	entries int // revoked serials in all lists
}

func freeCRL(p *C.fssl_crl) { C.fssl_crl_free(p) }

func (h *crlHandle) close() { h.handle.close(freeCRL) }

// parseCRL reads every CRL of pem; there is at least one, and none is broken.
func parseCRL(pem []byte) (*crlHandle, error) {
	var errs C.fssl_errors
	var blocks C.int
	p := C.fssl_crl_parse(&blocks, bytesPtr(pem), C.size_t(len(pem)), &errs)
	if p == nil && blocks < 0 {
		return nil, outOfMemory("PEM_read_bio_X509_CRL", records(&errs))
	}
	if p == nil {
		in := input{data: pem}
		return nil, in.notPEM(pemCRL, newError("PEM_read_bio_X509_CRL", 0, records(&errs)))
	}
	h := &crlHandle{entries: int(p.n)}
	lists := int(p.lists)
	h.own(p, freeCRL)
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

// listed gives the index of the first recorded certificate whose serial is on
// the list, or -1.
func (h *sslHandle) listed(crl *crlHandle) int {
	defer runtime.KeepAlive(h)
	defer runtime.KeepAlive(crl)
	return int(C.fssl_conn_on_crl(h.ptr, crl.ptr))
}

// setCRL is what the verify callback of an enforcing side tests; nil blocks
// everybody. The caller keeps crl alive as long as h.
func (h *sslHandle) setCRL(crl *crlHandle) {
	defer runtime.KeepAlive(h)
	if crl == nil {
		h.ptr.crl, h.ptr.crl_mode = nil, C.FSSL_CRL_BLOCK
		return
	}
	h.ptr.crl, h.ptr.crl_mode = crl.ptr, C.FSSL_CRL_CHECK
}

// crlList owns references to whole CRLs, for OpenSSL's own check.
type crlList struct {
	handle[*C.struct_stack_st_X509_CRL]
}

func freeCRLList(p *C.struct_stack_st_X509_CRL) { C.fssl_crls_free(p) }

func (h *crlList) close() { h.handle.close(freeCRLList) }

func newCRLList(p *C.struct_stack_st_X509_CRL) *crlList {
	h := new(crlList)
	h.own(p, freeCRLList)
	return h
}

// parseCRLList reads every CRL of pem; there is at least one, none is broken,
// and each is complete.
func parseCRLList(pem []byte) (*crlList, error) {
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
	h := newCRLList(p)
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

// joinCRLs makes one list of several, for the library context of l. The cache
// is that of the default one.
func (l library) joinCRLs(lists []*crlList) (all *crlList, own bool, err error) {
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
	return newCRLList(p), true, nil
}

// checkCRLs makes OpenSSL check the CRLs that each connection is given.
func (h *ctxHandle) checkCRLs(wholeChain bool) error {
	return h.try("X509_VERIFY_PARAM_set_flags", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_check_crls(ctx, cBool(wholeChain), errs)
	})
}

// setCRLs is what OpenSSL checks on this connection; nil blocks everybody. The
// caller keeps list alive as long as h.
func (h *sslHandle) setCRLs(list *crlList) {
	defer runtime.KeepAlive(h)
	if list == nil {
		h.ptr.crls, h.ptr.crls_block = nil, 1
		return
	}
	h.ptr.crls, h.ptr.crls_block = list.ptr, 0
}
