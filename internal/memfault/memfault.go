// Package memfault has an allocator that counts allocations and can make them fail.
// OpenSSL and the C files of the root package use it in every program that links this
// package. Only the tests in this folder do so.
//
// OpenSSL takes other functions (CRYPTO_set_mem_functions(3)) only before its
// first allocation, so a constructor of the binary sets them.
package memfault

/*
#cgo pkg-config: libcrypto
#cgo CFLAGS: -std=gnu11 -Wall -Wextra -DOPENSSL_NO_DEPRECATED -DOPENSSL_API_COMPAT=30000
#include "memfault.h"
*/
import "C"

import "strings"

// Installed reports whether OpenSSL accepted the functions.
func Installed() bool { return C.memfault_installed() != 0 }

// Arm makes allocations fail: times of them in a row, from the at-th allocation on,
// counted from 1. If times is negative, all later allocations fail.
func Arm(at, times int) { C.memfault_arm(C.long(at), C.long(times)) }

// Disarm ends Arm. It returns the number of allocations since Arm, and how many of them
// failed.
func Disarm() (made, failed int) {
	var f C.long
	made = int(C.memfault_disarm(&f))
	return made, int(f)
}

// Exempt runs f. Allocations of f on this thread are not counted and do not fail. The
// goroutine must be locked to its thread.
func Exempt(f func()) {
	C.memfault_pause(1)
	defer C.memfault_pause(-1)
	f()
}

// Live returns the number of live blocks and their size in bytes.
func Live() (blocks, bytes int) {
	var n C.size_t
	blocks = int(C.memfault_live(&n))
	return blocks, int(n)
}

// EndThread frees the data that OpenSSL keeps for this thread: the random generators,
// and the error queue, whose texts stay until others replace them.
func EndThread() { C.memfault_end_thread() }

// Mark returns a point in time for Left.
func Mark() int { return int(C.memfault_mark()) }

// Trace turns recording of the callers of each allocation on or off. It is slow.
func Trace(on bool) {
	n := C.int(0)
	if on {
		n = 1
	}
	C.memfault_trace(n)
}

// Left lists the live blocks that were allocated since mark: their size, OpenSSL's file
// and line, and with Trace the exported functions in the call stack.
func Left(mark int) []string {
	text := C.memfault_left(C.long(mark))
	if text == nil {
		return nil
	}
	defer C.memfault_free_text(text)
	return strings.FieldsFunc(C.GoString(text), func(r rune) bool { return r == '\n' })
}
