//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// Engine is an engine of OpenSSL 1.1.1 or 3. OpenSSL 4.0 has no engines.
type Engine struct {
	e unsafe.Pointer
}

// EngineById returns the engine with this id, ready for use. It returns an error
// if the linked OpenSSL has no engines.
//
// Calls ENGINE_by_id(3), ENGINE_init(3).
func EngineById(name string) (*Engine, error) {
	var errs C.compat_err
	var p unsafe.Pointer
	withString(name, func(s *C.char) { p = C.compat_engine(s, &errs) })
	if p == nil {
		return nil, failure("engine "+name, &errs)
	}
	e := &Engine{p}
	runtime.AddCleanup(e, func(p unsafe.Pointer) { C.compat_engine_free(p) }, p)
	return e, nil
}

// ptr returns the ENGINE, or nil for OpenSSL's own implementation.
func (e *Engine) ptr() unsafe.Pointer {
	if e == nil {
		return nil
	}
	return e.e
}

// FIPSModeSet makes the process use only algorithms of a FIPS provider, or ends
// that. Before OpenSSL 3 it is an error unless OpenSSL was built with a FIPS
// module. With OpenSSL 3 the FIPS provider must be installed and configured with
// "openssl fipsinstall". It should be called before any other function: a digest
// or cipher that exists does not change its provider.
//
// Calls EVP_default_properties_enable_fips(3), or FIPS_mode_set(3) with 1.1.1.
func FIPSModeSet(mode bool) error {
	var errs C.compat_err
	var on C.int
	if mode {
		on = 1
	}
	if C.compat_fips_set(on, &errs) == 0 {
		return failure("FIPS mode", &errs)
	}
	return nil
}
