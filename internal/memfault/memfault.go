// Package memfault is the allocator that OpenSSL and cgo_helpers.c get in any
// program that links it: it counts, and it fails when it is told to. Only the
// tests of this folder import it, so no other binary has it.
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

// Installed reports whether OpenSSL took the functions.
func Installed() bool { return C.memfault_installed() != 0 }

// Arm makes the at-th allocation from now on fail, counted from 1, and those
// behind it up to times in all; a negative times is all that follow.
func Arm(at, times int) { C.memfault_arm(C.long(at), C.long(times)) }

// Disarm ends Arm, and tells how many allocations there were since then and how
// many of them failed.
func Disarm() (made, failed int) {
	var f C.long
	made = int(C.memfault_disarm(&f))
	return made, int(f)
}

// Exempt runs f, whose allocations on this thread neither count nor fail. The
// goroutine is locked to its thread.
func Exempt(f func()) {
	C.memfault_pause(1)
	defer C.memfault_pause(-1)
	f()
}

// Live tells how many blocks there are, and their bytes.
func Live() (blocks, bytes int) {
	var n C.size_t
	blocks = int(C.memfault_live(&n))
	return blocks, int(n)
}

// EndThread frees what OpenSSL keeps for this thread: the error queue, whose
// texts stay until others take their place, and the random generators.
func EndThread() { C.memfault_end_thread() }

// Mark is a point in time for Left.
func Mark() int { return int(C.memfault_mark()) }

// Trace keeps the callers of each allocation from now on, which is slow.
func Trace(on bool) {
	n := C.int(0)
	if on {
		n = 1
	}
	C.memfault_trace(n)
}

// Left lists the blocks that were made since mark and live: bytes, OpenSSL's
// file and line, and with Trace the exported functions that led there.
func Left(mark int) []string {
	text := C.memfault_left(C.long(mark))
	if text == nil {
		return nil
	}
	defer C.memfault_free_text(text)
	return strings.FieldsFunc(C.GoString(text), func(r rune) bool { return r == '\n' })
}
