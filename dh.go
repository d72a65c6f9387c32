package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"crypto/sha256"
	"fmt"
	"sync"
)

// maxCheckedDH bounds the number of digests in checkedDH.
const maxCheckedDH = 64

// checkedDH has the digests of parameters that have passed the check: checking
// a prime takes 20 to 100 ms, and New makes a context for each connection.
var checkedDH struct {
	sync.Mutex
	sums map[checkedSum]bool
}

type checkedSum struct {
	sum  [sha256.Size]byte
	fips bool // checked by the FIPS provider, which accepts less
}

// setDH loads DH parameters in PEM form. The security level decides whether
// they are large enough, and DH_check whether they are valid.
//
// Corresponds to POE_FILTER_SSL_CTX_set_tmp_dh.
func (h *ctxHandle) setDH(pem []byte) error {
	var errs C.fssl_errors
	params := C.fssl_pem_dh(h.lib.lib, bytesPtr(pem), C.size_t(len(pem)), &errs)
	if params == nil {
		in := input{data: pem}
		return in.notPEM(pemDH, newError("PEM_read_bio_Parameters", 0, records(&errs)))
	}
	defer C.EVP_PKEY_free(params)
	if err := h.try("SSL_CTX_set0_tmp_dh_pkey", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_set_dh(ctx, params, errs)
	}); err != nil {
		return fmt.Errorf("%d bit parameters are refused at this security level: %w", int(C.EVP_PKEY_bits(params)), bare(err))
	}
	sum := checkedSum{sha256.Sum256(pem), h.lib.made()}
	checkedDH.Lock()
	known := checkedDH.sums[sum]
	checkedDH.Unlock()
	if known {
		return nil
	}
	if C.fssl_dh_check(h.lib.lib, params, &errs) != 1 {
		return fmt.Errorf("broken parameters: %w", bare(newError("DH_check", 0, records(&errs))))
	}
	checkedDH.Lock()
	defer checkedDH.Unlock()
	if checkedDH.sums == nil || len(checkedDH.sums) >= maxCheckedDH {
		checkedDH.sums = make(map[checkedSum]bool)
	}
	checkedDH.sums[sum] = true
	return nil
}
