//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"errors"
	"runtime"
)

// HMAC is a running HMAC.
type HMAC struct {
	h       *C.compat_hmac
	size    int
	cleanup runtime.Cleanup
}

var errHMACClosed = errors.New("openssl: the HMAC is closed")

// NewHMAC starts an HMAC with this key and digest.
func NewHMAC(key []byte, digestAlgorithm EVP_MD) (*HMAC, error) {
	return NewHMACWithEngine(key, digestAlgorithm, nil)
}

// NewHMACWithEngine is NewHMAC with a digest that the engine e computes.
//
// Calls EVP_DigestSignInit(3).
func NewHMACWithEngine(key []byte, digestAlgorithm EVP_MD, e *Engine) (*HMAC, error) {
	var errs C.compat_err
	p := C.compat_hmac_new(C.int(digestAlgorithm), e.ptr(), ptr(key), C.size_t(len(key)), &errs)
	runtime.KeepAlive(e)
	if p == nil {
		return nil, failure("HMAC", &errs)
	}
	h := &HMAC{h: p, size: int(p.size)}
	h.cleanup = runtime.AddCleanup(h, func(p *C.compat_hmac) { C.compat_hmac_free(p) }, p)
	return h, nil
}

// Close frees the memory in C. Without a call it is freed when h is garbage.
func (h *HMAC) Close() {
	if h.h != nil {
		h.cleanup.Stop()
		C.compat_hmac_free(h.h)
		h.h = nil
	}
}

// Write adds data.
func (h *HMAC) Write(data []byte) (n int, err error) {
	if h.h == nil {
		return 0, errHMACClosed
	}
	if len(data) == 0 {
		return 0, nil
	}
	var errs C.compat_err
	ok := C.compat_hmac_update(h.h, ptr(data), C.size_t(len(data)), &errs)
	runtime.KeepAlive(h)
	if ok == 0 {
		return 0, failure("HMAC", &errs)
	}
	return len(data), nil
}

// Reset starts a new HMAC with the same key.
func (h *HMAC) Reset() error {
	if h.h == nil {
		return errHMACClosed
	}
	var errs C.compat_err
	ok := C.compat_hmac_reset(h.h, &errs)
	runtime.KeepAlive(h)
	if ok == 0 {
		return failure("HMAC", &errs)
	}
	return nil
}

// Final returns the HMAC of all data since the last Final or Reset, and starts a
// new one with the same key.
func (h *HMAC) Final() (result []byte, err error) {
	if h.h == nil {
		return nil, errHMACClosed
	}
	var errs C.compat_err
	result = make([]byte, h.size)
	ok := C.compat_hmac_final(h.h, ptr(result), &errs)
	runtime.KeepAlive(h)
	if ok == 0 {
		return nil, failure("HMAC", &errs)
	}
	return result, nil
}
