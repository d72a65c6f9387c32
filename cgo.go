package sslfilter

/*
#cgo pkg-config: libssl libcrypto
#cgo CFLAGS: -std=gnu11 -Wall -Wextra -DOPENSSL_NO_DEPRECATED -DOPENSSL_API_COMPAT=30000

// No helper calls Go. For these two it is not said: the guard behind it is 1 % of a small message.
#cgo noescape fssl_receive
#cgo noescape fssl_send
#cgo noescape fssl_fetch
#cgo nocallback fssl_fetch
#cgo noescape fssl_shutdown
#cgo nocallback fssl_shutdown
#cgo noescape fssl_key_update
#cgo nocallback fssl_key_update
#cgo noescape fssl_conn_new
#cgo nocallback fssl_conn_new
#cgo noescape fssl_verdict_listed
#cgo nocallback fssl_verdict_listed

#include <stdlib.h>
#include "cgo_helpers.h"
*/
import "C"

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// OpenSSLVersion names the OpenSSL that is linked in, as "openssl version"
// does: "OpenSSL 3.0.19 27 Jan 2026".
//
// Calls OpenSSL_version(3).
func OpenSSLVersion() string {
	return C.GoString(C.OpenSSL_version(C.OPENSSL_VERSION))
}

// opensslNumber is OPENSSL_VERSION_NUMBER of the library at run time.
func opensslNumber() uint64 { return uint64(C.OpenSSL_version_num()) }

// FIPSEnabled reports whether OpenSSL's default properties ask for fips=yes and
// the FIPS provider is active: whether the whole process runs in FIPS mode. It never loads a provider. With OpenSSL 1.1.1 it is
// FIPS_mode(3).
//
// Calls EVP_default_properties_is_fips_enabled(3).
func FIPSEnabled() bool { return C.fssl_fips_enabled() != 0 }

// library is a library context with the FIPS provider. It is there for the life
// of the process. The zero value is OpenSSL's default context.
type library struct {
	lib       *C.fssl_lib
	providers string // active ones, with their versions
}

func (l library) made() bool { return l.lib != nil }

// newLibrary makes a library context as conf describes it, the text of a
// configuration. Of conf, only providers, alg_section and random count. Without
// an error, a library that is not made has nothing that serves with fips=yes.
//
// Calls OSSL_LIB_CTX_new(3), CONF_modules_load(3).
func newLibrary(conf []byte) (l library, err error) {
	var errs C.fssl_errors
	var providers *C.char
	var unserved C.int
	ok := C.fssl_lib_new(&l.lib, &providers, &unserved, bytesPtr(conf), C.size_t(len(conf)), &errs)
	l.providers = takeString(providers)
	if ok == 0 && unserved == 0 {
		err = newError("CONF_modules_load", 0, records(&errs))
	}
	return l, err
}

// defaultConfig is the configuration that OpenSSL takes where none is named.
//
// Calls CONF_get1_default_config_file(3).
func defaultConfig() string { return takeString(C.CONF_get1_default_config_file()) }

// handle owns one C object. free runs once: in close, or when the handle was
// dropped without it. Whoever uses ptr keeps the handle alive until the call
// is over.
type handle[P comparable] struct {
	ptr     P // a C pointer; nil after close
	cleanup runtime.Cleanup
}

// liveHandles counts C objects that were made and not freed; tests look at it.
var liveHandles atomic.Int64

// errorQueued reports whether OpenSSL's error queue of this thread holds
// anything, which no crossing may leave there; tests look at it.
func errorQueued() bool { return C.ERR_peek_error() != 0 }

// own makes h the owner of ptr. The cleanup gets the C pointer, never h.
func (h *handle[P]) own(ptr P, free func(P)) {
	liveHandles.Add(1)
	h.ptr = ptr
	h.cleanup = runtime.AddCleanup(h, func(p P) {
		free(p)
		liveHandles.Add(-1)
	}, ptr)
}

func (h *handle[P]) close(free func(P)) {
	var none P
	if h.ptr == none {
		return
	}
	h.cleanup.Stop()
	free(h.ptr)
	h.ptr = none
	liveHandles.Add(-1)
}

// bytesPtr is the C view of b for the time of one call; nil for a nil slice. It
// is no unsafe.Pointer, and no helper takes a void *: for one, cgo looks at the
// whole allocation that b is a part of, and panics if that holds Go pointers.
func bytesPtr(b []byte) *C.uchar { return (*C.uchar)(unsafe.SliceData(b)) }

// withCString calls f with a C copy of s, or with nil where s is empty.
func withCString[R any](s string, f func(*C.char) R) R {
	if s == "" {
		return f(nil)
	}
	c := C.CString(s)
	defer C.free(unsafe.Pointer(c))
	return f(c)
}

// takeString copies a string that OpenSSL allocated and frees it.
func takeString(s *C.char) string {
	if s == nil {
		return ""
	}
	defer C.CRYPTO_free(unsafe.Pointer(s), nil, 0)
	return C.GoString(s)
}

// errorRooms has the room that a failed call copies its errors to: 5 KB, which
// most calls do not need, and which every connection would leave behind.
var errorRooms = sync.Pool{New: func() any { return new(C.fssl_errors) }}

// records copies errs, oldest first.
func records(errs *C.fssl_errors) []ErrorRecord {
	if errs == nil || errs.n == 0 {
		return nil
	}
	list := make([]ErrorRecord, errs.n)
	for i := range list {
		e := &errs.e[i]
		list[i] = ErrorRecord{
			Code:    uint64(e.code),
			Library: errorLibrary(e.code),
			Reason:  errorReason(e.code),
			Func:    C.GoString(&e._func[0]),
			File:    C.GoString(&e.file[0]),
			Line:    int(e.line),
			Data:    C.GoString(&e.data[0]),
			alert:   errorAlert(e.code),
		}
	}
	return list
}

func errorLibrary(code C.ulong) string {
	if s := C.ERR_lib_error_string(code); s != nil {
		return C.GoString(s)
	}
	return ""
}

func errorReason(code C.ulong) string {
	if s := C.ERR_reason_error_string(code); s != nil {
		return C.GoString(s)
	}
	return ""
}

// errorAlert is the number of the peer's fatal alert that code stands for, or
// -1: OpenSSL reports alert n as reason 1000+n of the SSL library.
func errorAlert(code C.ulong) int {
	const offset = C.SSL_AD_REASON_OFFSET
	if C.fssl_err_lib(code) != C.ERR_LIB_SSL {
		return -1
	}
	if reason := int(C.fssl_err_reason(code)); reason > offset && reason <= offset+255 {
		return reason - offset
	}
	return -1
}
