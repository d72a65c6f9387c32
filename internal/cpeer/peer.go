// Package cpeer is a TLS 1.2 server in C, over OpenSSL's own memory BIOs, for
// tests alone. It does what neither a Filter nor crypto/tls does as a server: it asks
// for renegotiations.
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
	"unsafe"
)

// Server is one connection. Close it after use.
type Server struct{ p *C.cpeer }

// New makes a server of PEM files. With askClient it asks for a certificate,
// and takes any and none.
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

// Close frees the server.
func (s *Server) Close() {
	C.cpeer_free(s.p)
	s.p = nil
}

// Receive takes bytes from the network and gives the plaintext in them, of
// which there may be at most 64 kB.
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

// Rounds counts the renegotiations that were begun.
func (s *Server) Rounds() int { return int(C.cpeer_rounds(s.p)) }

// Outgoing gives what waits for the network, at most 64 kB at a time.
func (s *Server) Outgoing() []byte {
	wire := make([]byte, 64<<10)
	return wire[:C.cpeer_outgoing(s.p, ptr(wire), C.int(len(wire)))]
}

func ptr(b []byte) *C.uchar { return (*C.uchar)(unsafe.SliceData(b)) }
