package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// status is the result of a call into C. A value below statusOK is a failure.
type status int

const (
	statusOK     = status(C.FSSL_OK)        // done, or more input is needed
	statusClosed = status(C.FSSL_CLOSED)    // the peer's close_notify was read
	statusAgain  = status(C.FSSL_AGAIN)     // not possible now: a handshake is in progress
	statusHello  = status(C.FSSL_HELLO)     // the ClientHello has been read, and the handshake is paused
	statusFatal  = status(C.FSSL_FATAL)     // OpenSSL failed; failure returns the error
	statusNoCert = status(C.FSSL_NO_CERT)   // the peer must be verified, but sent no certificate
	statusRounds = status(C.FSSL_ROUNDS)    // the server requested too many renegotiations
	statusFull   = status(C.FSSL_FULL)      // more than FSSL_MAX_HELD bytes are held, or more than FSSL_MAX_ANSWERS bytes of answers
	statusMemory = status(C.FSSL_NO_MEMORY) // C has no memory left
)

// receive gives wire to OpenSSL and reads plaintext into plain, in one call
// into C: both steps of the handshake and records. taken counts bytes of wire,
// and got bytes in plain. more reports that plain was too small.
//
// The memory BIO reads wire in place. OpenSSL takes whole records and itself
// keeps a partial one, so all of wire is used unless the peer's close_notify
// has come or plain is full.
//
// Calls SSL_do_handshake(3), SSL_read_ex(3).
func (h *sslHandle) receive(plain, wire []byte) (got, taken int, more bool, st status) {
	C.fssl_receive(h.number(), bytesPtr(plain), C.size_t(len(plain)), bytesPtr(wire), C.size_t(len(wire)))
	st = status(h.ptr.status)
	got, taken, more = int(h.ptr.plain_len), len(wire)-int(h.ptr.in_rest), h.ptr.more != 0
	runtime.KeepAlive(h)
	return got, taken, more, st
}

// number returns the C pointer as a number, which cgo does not check. It points
// to C memory, and the caller keeps the handle alive.
func (h *sslHandle) number() C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(h.ptr))) }

// overlap reports whether two slices share memory.
func overlap(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	p, q := uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return p < q+uintptr(len(b)) && q < p+uintptr(len(a))
}

// send writes the bytes that C holds and then the records of plain into wire,
// in one call into C. taken counts bytes of plain: all of it, unless a
// renegotiation is in progress. C holds the output that does not fit into wire.
//
// Calls SSL_write_ex(3).
func (h *sslHandle) send(wire, plain []byte) (got, taken int, st status) {
	C.fssl_send(h.number(), bytesPtr(wire), C.size_t(len(wire)), bytesPtr(plain), C.size_t(len(plain)))
	st = status(h.ptr.status)
	got, taken = int(h.ptr.wire_len), int(h.ptr.plain_len)
	runtime.KeepAlive(h)
	return got, taken, st
}

// held returns the number of bytes for the network that C holds.
func (h *sslHandle) held() int {
	n := int(h.ptr.wire.held_len)
	runtime.KeepAlive(h)
	return n
}

// fetch writes the bytes that C holds into wire, without calling OpenSSL.
func (h *sslHandle) fetch(wire []byte) int {
	n := int(C.fssl_fetch(h.ptr, bytesPtr(wire), C.size_t(len(wire))))
	runtime.KeepAlive(h)
	return n
}
