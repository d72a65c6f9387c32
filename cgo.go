package sslfilter

/*
#cgo pkg-config: libssl libcrypto
#cgo CFLAGS: -std=gnu11 -Wall -Wextra -DOPENSSL_NO_DEPRECATED -DOPENSSL_API_COMPAT=30000

// No helper calls Go. fssl_receive and fssl_send are not marked nocallback,
// because the check that cgo adds costs 1 % of a small message.
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
#cgo noescape fssl_seal
#cgo nocallback fssl_seal
#cgo noescape fssl_open
#cgo nocallback fssl_open
#cgo noescape fssl_enc_update
#cgo nocallback fssl_enc_update

#include <stdlib.h>
#include "cgo_helpers.h"
*/
import "C"

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

// OpenSSLVersion returns the version of the linked OpenSSL, as "openssl
// version" does: "OpenSSL 3.0.19 27 Jan 2026".
//
// Calls OpenSSL_version(3).
func OpenSSLVersion() string {
	return C.GoString(C.OpenSSL_version(C.OPENSSL_VERSION))
}

// opensslNumber returns OPENSSL_VERSION_NUMBER of the library at run time.
func opensslNumber() uint64 { return uint64(C.OpenSSL_version_num()) }

// FIPSEnabled reports whether the whole process runs in FIPS mode: OpenSSL's
// default properties have fips=yes, and the FIPS provider is active. It never
// loads a provider. With OpenSSL 1.1.1 it is FIPS_mode(3).
//
// Calls EVP_default_properties_is_fips_enabled(3).
func FIPSEnabled() bool { return C.fssl_fips_enabled() != 0 }

// library is an OpenSSL library context with the FIPS provider. It exists until
// the process ends. The zero value is OpenSSL's default context.
type library struct {
	lib       *C.fssl_lib
	providers string // active ones, with their versions
}

func (l library) made() bool { return l.lib != nil }

// newLibrary makes a library context from conf, the text of a configuration, of
// which it uses only the modules providers, alg_section and random. If there is
// no error and the result is not made, no provider has fips=yes.
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

// defaultConfig returns the configuration file that OpenSSL uses by default.
//
// Calls CONF_get1_default_config_file(3).
func defaultConfig() string { return takeString(C.CONF_get1_default_config_file()) }

// handle owns one C object. free runs once: in close, or when the handle is
// garbage. A function that uses ptr keeps the handle alive until the call is
// over.
type handle[P comparable] struct {
	ptr     P // a C pointer; nil after close
	cleanup runtime.Cleanup
}

// liveHandles counts C objects that are not freed; tests check it.
var liveHandles atomic.Int64

// errorQueued reports whether OpenSSL's error queue of this thread has an
// entry, which no call into C may leave there; tests check it.
func errorQueued() bool { return C.ERR_peek_error() != 0 }

// own makes h the owner of ptr. The cleanup gets the C pointer and not h, which
// would keep h alive.
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

// bytesPtr returns a C pointer to b for the time of one call, or nil for a nil
// slice. It is not an unsafe.Pointer, and no helper takes a void *: for those,
// cgo checks the whole allocation that b is part of, and panics if it contains
// Go pointers.
func bytesPtr(b []byte) *C.uchar { return (*C.uchar)(unsafe.SliceData(b)) }

// withCString calls f with a C copy of s, or with nil if s is empty.
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

// errorRooms has memory for the errors of a failed call. It is 5 KB, which most
// calls do not need, and which would be garbage after each connection.
var errorRooms = sync.Pool{New: func() any { return new(C.fssl_errors) }}

// records converts errs, oldest first.
func records(errs *C.fssl_errors) []ErrorRecord {
	if errs == nil || errs.n == 0 {
		return nil
	}
	list := make([]ErrorRecord, errs.n)
	for i := range list {
		e := &errs.e[i]
		data := C.GoString(&e.data[0])
		list[i] = ErrorRecord{
			Code:    uint64(e.code),
			Library: errorLibrary(e.code),
			Reason:  errorReason(e.code),
			Func:    C.GoString(&e._func[0]),
			File:    C.GoString(&e.file[0]),
			Line:    int(e.line),
			Data:    data,
			alert:   errorAlert(e.code, data),
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

// errorAlert returns the number of the peer's fatal alert that a record stands
// for, or -1. OpenSSL reports alert n as reason 1000+n of the SSL library, with
// the data "SSL alert number n", which are missing if memory is short. OpenSSL
// 3.6 and later use the reason of alert 113 for an error of their own.
func errorAlert(code C.ulong, data string) int {
	const offset = C.SSL_AD_REASON_OFFSET
	if C.fssl_err_lib(code) != C.ERR_LIB_SSL {
		return -1
	}
	alert := int(C.fssl_err_reason(code)) - offset
	switch {
	case alert <= 0, alert > 255, alert == 113 && !strings.HasPrefix(data, "SSL alert number "):
		return -1
	}
	return alert
}
