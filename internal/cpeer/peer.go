// Package cpeer has ends of connections in C, over OpenSSL's own memory BIOs, for
// tests only. Server asks for renegotiations, which neither a Filter nor crypto/tls
// does as a server. Tests compare a Filter with End.
package cpeer

/*
#cgo pkg-config: libssl libcrypto
#cgo CFLAGS: -std=gnu11 -Wall -Wextra -DOPENSSL_NO_DEPRECATED -DOPENSSL_API_COMPAT=30000
#include <stdlib.h>
#include "peer.h"
*/
import "C"

import (
	"errors"
	"io"
	"strings"
	"unsafe"
)

// Server is one connection. Close it after use.
type Server struct{ p *C.cpeer }

// New makes a server from PEM files. With askClient it requests a client certificate,
// and accepts any certificate and clients without one.
func New(crt, key string, askClient bool) (*Server, error) {
	c, k := C.CString(crt), C.CString(key)
	defer C.free(unsafe.Pointer(c))
	defer C.free(unsafe.Pointer(k))
	ask := C.int(0)
	if askClient {
		ask = 1
	}
	p := C.cpeer_new(c, k, ask)
	if p == nil {
		return nil, errors.New("cpeer: cannot make a server of " + crt)
	}
	return &Server{p}, nil
}

// NewTicketServer makes a TLS 1.3 server from PEM files, whose session tickets say that they
// are valid for lifetime seconds.
func NewTicketServer(crt, key string, lifetime int) (*Server, error) {
	c, k := C.CString(crt), C.CString(key)
	defer C.free(unsafe.Pointer(c))
	defer C.free(unsafe.Pointer(k))
	p := C.cpeer_ticket_server(c, k, C.long(lifetime))
	if p == nil {
		return nil, errors.New("cpeer: cannot make a server of " + crt)
	}
	return &Server{p}, nil
}

// Close frees the server.
func (s *Server) Close() {
	C.cpeer_free(s.p)
	s.p = nil
}

// Receive takes bytes from the network and returns the plaintext in them, at most
// 64 kB.
func (s *Server) Receive(wire []byte) ([]byte, error) {
	plain := make([]byte, 64<<10)
	n := C.cpeer_receive(s.p, ptr(plain), C.int(len(plain)), ptr(wire), C.int(len(wire)))
	if n < 0 {
		return nil, errors.New("cpeer: the server failed")
	}
	return plain[:n], nil
}

// Send encrypts plain for Outgoing.
func (s *Server) Send(plain []byte) error {
	if C.cpeer_send(s.p, ptr(plain), C.int(len(plain))) != 1 {
		return errors.New("cpeer: SSL_write failed")
	}
	return nil
}

// Renegotiate asks the client for a new handshake.
func (s *Server) Renegotiate() error {
	if C.cpeer_renegotiate(s.p) != 1 {
		return errors.New("cpeer: SSL_renegotiate failed")
	}
	return nil
}

// Rounds returns the number of renegotiations that have begun.
func (s *Server) Rounds() int { return int(C.cpeer_rounds(s.p)) }

// Outgoing returns the data that waits for the network, at most 64 kB at a time.
func (s *Server) Outgoing() []byte {
	wire := make([]byte, 64<<10)
	return wire[:C.cpeer_outgoing(s.p, ptr(wire), C.int(len(wire)))]
}

// End is one side of a connection, driven as OpenSSL's manual pages say. Close it
// after use.
type End struct {
	s       Server
	err     error
	waiting []byte // data that SSL_write has not accepted
}

// NewEnd makes an end that supports one version and one suite. It accepts any
// certificate of the other end, and does not resume sessions.
func NewEnd(client bool, version uint16, crt, key, ciphers, suites string) (*End, error) {
	var args [4]*C.char
	for i, s := range []string{crt, key, ciphers, suites} {
		args[i] = C.CString(s)
		defer C.free(unsafe.Pointer(args[i]))
	}
	role := C.int(0)
	if client {
		role = 1
	}
	p := C.cpeer_end_new(role, C.int(version), args[0], args[1], args[2], args[3])
	if p == nil {
		return nil, errors.New("cpeer: cannot make an end of " + crt)
	}
	return &End{s: Server{p}}, nil
}

// Close frees the end.
func (e *End) Close() { e.s.Close() }

// Handshake starts the handshake of a client.
func (e *End) Handshake() error {
	if C.cpeer_handshake(e.s.p) != 1 {
		return errors.New("cpeer: SSL_do_handshake failed")
	}
	return nil
}

// Receive takes bytes from the network and appends the plaintext in them to dst.
// The error is io.EOF after a close_notify, and otherwise an *EndError.
func (e *End) Receive(dst, wire []byte) ([]byte, error) {
	if e.err != nil {
		return dst, e.err
	}
	plain := make([]byte, 64<<10)
	var o C.cpeer_outcome
	n := C.cpeer_feed(e.s.p, &o, ptr(plain), C.int(len(plain)), ptr(wire), C.int(len(wire)))
	reasons := strings.Split(C.GoString(&o.reasons[0]), "\n")
	reasons = reasons[:len(reasons)-1] // without the empty string after the last line
	switch {
	case o.why == C.SSL_ERROR_WANT_READ:
	case o.why == C.SSL_ERROR_ZERO_RETURN, o.why == C.SSL_ERROR_SYSCALL && o.shutdown&C.SSL_RECEIVED_SHUTDOWN != 0 && len(reasons) == 0:
		e.err = io.EOF
	default:
		e.err = &EndError{Code: int(o.why), Reasons: reasons}
	}
	return append(dst, plain[:n]...), e.err
}

// EndError is an error of OpenSSL.
type EndError struct {
	Code    int      // SSL_get_error
	Reasons []string // of the error queue, oldest first
}

func (e *EndError) Error() string { return "cpeer: " + strings.Join(e.Reasons, ", ") }

// Err returns the error that ended the connection, or nil after io.EOF.
func (e *End) Err() error {
	if e.err == io.EOF {
		return nil
	}
	return e.err
}

// Send keeps plain for Outgoing.
func (e *End) Send(plain []byte) error {
	e.waiting = append(e.waiting, plain...)
	return nil
}

// Outgoing encrypts the data that was sent, unless a handshake is in progress, and
// appends the data that waits for the network to dst. After the peer's close_notify in
// the middle of a later handshake, nothing is encrypted any more.
func (e *End) Outgoing(dst []byte) []byte {
	endless := e.err == io.EOF && C.SSL_in_init(e.s.p.ssl) != 0
	if len(e.waiting) > 0 && !endless && e.Err() == nil && e.s.Send(e.waiting) == nil {
		e.waiting = nil
	}
	for {
		wire := e.s.Outgoing()
		if len(wire) == 0 {
			return dst
		}
		dst = append(dst, wire...)
	}
}

func ptr(b []byte) *C.uchar { return (*C.uchar)(unsafe.SliceData(b)) }
