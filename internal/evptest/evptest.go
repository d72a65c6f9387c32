//go:build cgo

// Package evptest has ciphers of OpenSSL for tests: a call that opens one record with a
// context of its own, the list of all ciphers, and ciphers with defects.
package evptest

/*
#cgo pkg-config: libcrypto
#cgo CFLAGS: -std=gnu11 -Wall -Wextra -DOPENSSL_NO_DEPRECATED -DOPENSSL_API_COMPAT=30000
#include <stdlib.h>
#include "evptest.h"
*/
import "C"

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// Open opens text, which an AEAD with a nonce of 12 bytes has sealed.
func Open(name string, key, nonce, extra, text, tag []byte) ([]byte, error) {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	plain := make([]byte, len(text)+1)
	if len(nonce) != 12 || len(tag) != 16 || C.evptest_open(ptr(plain), c, ptr(key), C.size_t(len(key)), ptr(nonce), ptr(extra), C.size_t(len(extra)), ptr(text), C.size_t(len(text)), ptr(tag)) != 1 {
		return nil, fmt.Errorf("evptest: %s opens nothing with this key, nonce and tag", name)
	}
	return plain[:len(text)], nil
}

// Names returns the names of all ciphers, in uppercase.
func Names() []string {
	text := C.evptest_names()
	defer C.free(unsafe.Pointer(text))
	names := strings.Fields(strings.ToUpper(C.GoString(text)))
	slices.Sort(names)
	return slices.Compact(names)
}

// LoadToys loads a provider with the cipher TOY and ciphers that begin with "TOY-", each
// with a defect. These ciphers protect nothing. unload must be called at the end. Before
// OpenSSL 3.0 there are no providers, and ok is false.
func LoadToys() (unload func(), ok bool) {
	return func() { C.evptest_unload() }, C.evptest_load() == 1
}

func ptr(b []byte) *C.uchar { return (*C.uchar)(unsafe.SliceData(b)) }
