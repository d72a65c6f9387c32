package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// status is how a crossing ended. What is less than statusOK is a failure.
type status int

const (
	statusOK     = status(C.FSSL_OK)      // done, or nothing more without more input
	statusClosed = status(C.FSSL_CLOSED)  // the peer's close_notify was read
	statusAgain  = status(C.FSSL_AGAIN)   // not now: a handshake is under way
	statusFatal  = status(C.FSSL_FATAL)   // OpenSSL failed; failure has the error
	statusNoCert = status(C.FSSL_NO_CERT) // the peer that we must verify showed no certificate
	statusRounds = status(C.FSSL_ROUNDS)  // the server asked for too many renegotiations
	statusFull   = status(C.FSSL_FULL)    // more than FSSL_MAX_HELD bytes wait, or FSSL_MAX_ANSWERS for the network
	statusMemory = status(C.FSSL_NO_MEMORY)
)

// receive feeds wire to OpenSSL and reads plaintext into plain, in one
// crossing: the handshake's steps and the records. taken counts bytes of wire,
// got bytes in plain; more says that plain was too small for the rest.
//
// The memory BIO reads wire in place. OpenSSL takes whole records and keeps a
// part of one itself, so wire is used up unless the end came or plain is full.
//
// Calls SSL_do_handshake(3), SSL_read_ex(3).
func (h *sslHandle) receive(plain, wire []byte) (got, taken int, more bool, st status) {
	C.fssl_receive(h.number(), bytesPtr(plain), C.size_t(len(plain)), bytesPtr(wire), C.size_t(len(wire)))
	st = status(h.ptr.status)
	got, taken, more = int(h.ptr.plain_len), len(wire)-int(h.ptr.in_rest), h.ptr.more != 0
	runtime.KeepAlive(h)
	return got, taken, more, st
}

// number is the C pointer in a form that cgo does not check. It is C memory, and
// the caller keeps the handle alive.
func (h *sslHandle) number() C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(h.ptr))) }

// overlap reports whether two slices share memory.
func overlap(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	p, q := uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return p < q+uintptr(len(b)) && q < p+uintptr(len(a))
}

// send writes what C holds and then the records of plain into wire, in one
// crossing. taken counts bytes of plain, which is all of it unless a
// renegotiation is under way; what finds no room in wire is held.
//
// Calls SSL_write_ex(3).
func (h *sslHandle) send(wire, plain []byte) (got, taken int, st status) {
	C.fssl_send(h.number(), bytesPtr(wire), C.size_t(len(wire)), bytesPtr(plain), C.size_t(len(plain)))
	st = status(h.ptr.status)
	got, taken = int(h.ptr.wire_len), int(h.ptr.plain_len)
	runtime.KeepAlive(h)
	return got, taken, st
}

// held counts the bytes for the network that wait in C memory.
func (h *sslHandle) held() int {
	n := int(h.ptr.wire.held_len)
	runtime.KeepAlive(h)
	return n
}

// fetch writes what C holds into wire, without a word from OpenSSL.
func (h *sslHandle) fetch(wire []byte) int {
	n := int(C.fssl_fetch(h.ptr, bytesPtr(wire), C.size_t(len(wire))))
	runtime.KeepAlive(h)
	return n
}
