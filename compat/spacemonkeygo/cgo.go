//go:build cgo

package openssl

/*
#cgo pkg-config: libssl libcrypto
#cgo CFLAGS: -std=gnu11 -Wall -Wextra
#cgo noescape compat_digest
#cgo nocallback compat_digest
#cgo noescape compat_digest_update
#cgo nocallback compat_digest_update
#cgo noescape compat_digest_final
#cgo nocallback compat_digest_final
#cgo noescape compat_digest_reset
#cgo nocallback compat_digest_reset
#cgo noescape compat_hmac_update
#cgo nocallback compat_hmac_update
#cgo noescape compat_hmac_final
#cgo nocallback compat_hmac_final
#cgo noescape compat_cipher_update
#cgo nocallback compat_cipher_update
#cgo noescape compat_cipher_new
#cgo nocallback compat_cipher_new
#cgo noescape compat_cipher_aad
#cgo nocallback compat_cipher_aad
#cgo noescape compat_cipher_final
#cgo nocallback compat_cipher_final
#cgo noescape compat_cipher_get_tag
#cgo nocallback compat_cipher_get_tag
#cgo noescape compat_cipher_set_tag
#cgo nocallback compat_cipher_set_tag
#include "cgo_compat.h"
*/
import "C"

import (
	"bytes"
	"errors"
	"unsafe"
)

// failure returns the error of the operation op, with OpenSSL's reasons.
func failure(op string, e *C.compat_err) error {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&e.text[0])), len(e.text)) // C.GoString would move each e to the heap
	text, _, _ := bytes.Cut(b, []byte{0})
	if len(text) == 0 {
		text = []byte("failed")
	}
	return errors.New("openssl: " + op + ": " + string(text))
}

// ptr returns a pointer to b for a C function that does not keep it. It is not an
// unsafe.Pointer, and no such function takes a void *: for those, cgo checks the whole
// allocation that b is part of, and panics if it contains Go pointers.
func ptr(b []byte) *C.uchar { return (*C.uchar)(unsafe.SliceData(b)) }

// take copies out of buf, and frees it.
func take(buf *C.compat_buf) []byte {
	b := C.GoBytes(unsafe.Pointer(buf.data), C.int(buf.len))
	C.compat_buf_free(buf)
	return b
}

// withString calls f with a C string that exists during the call.
func withString(s string, f func(*C.char)) {
	c := append([]byte(s), 0)
	f((*C.char)(unsafe.Pointer(unsafe.SliceData(c))))
}
