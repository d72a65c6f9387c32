// Package cend does the work of the benchmark in C, without this library: over
// BIO_s_mem, and over plain buffers, which is the lower limit. It also has the
// clocks and counters that all programs of the benchmark share.
package cend

/*
#cgo pkg-config: libssl libcrypto
#cgo CFLAGS: -O2 -Wall
#include <stdlib.h>
#include <openssl/crypto.h>
#include "cend.h"
#include "cipher.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"unsafe"
)

// ProcessTime returns the processor time of this process in seconds.
func ProcessTime() float64 { return float64(C.cend_process_time()) }

// OpenSSL returns the version of the linked OpenSSL.
func OpenSSL() string { return C.GoString(C.OpenSSL_version(C.OPENSSL_VERSION)) }

// Pin binds the calling thread, and the threads and processes that it starts,
// to one processor; -1 unbinds it.
func Pin(cpu int) error {
	if C.cend_pin(C.int(cpu)) != 0 {
		return fmt.Errorf("processor %d cannot be had", cpu)
	}
	return nil
}

// Memory is the memory that the process uses, in bytes.
type Memory struct{ C, Go, Resident float64 } // allocated by malloc, on Go's heap, and resident

// Held runs the garbage collector and returns the memory in use.
func Held() Memory {
	for range 3 { // finalizers and cleanups run between two collections
		runtime.GC()
		runtime.Gosched()
	}
	debug.FreeOSMemory()
	C.cend_trim()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var pages, resident float64
	statm, _ := os.ReadFile("/proc/self/statm")
	fmt.Sscan(string(statm), &pages, &resident)
	return Memory{float64(C.cend_heap()), float64(m.HeapAlloc), resident * float64(os.Getpagesize())}
}

// Since returns the increase since before, divided by n.
func (m Memory) Since(before Memory, n int) []float64 {
	per := func(a, b float64) float64 { return (a - b) / float64(n) }
	return []float64{per(m.C, before.C) + per(m.Go, before.Go), per(m.C, before.C), per(m.Go, before.Go), per(m.Resident, before.Resident)}
}

// Flags of New.
const (
	Flat        = C.CEND_FLAT
	ClientCert  = C.CEND_CLIENT_CERT
	KeepBuffers = C.CEND_KEEP_BUFFERS
	AutoChain   = C.CEND_AUTO_CHAIN
	NoTickets   = C.CEND_NO_TICKETS
	NoOCSP      = C.CEND_NO_OCSP
	NoVerify    = C.CEND_NO_VERIFY
	NoClean     = C.CEND_NO_CLEAN
	CertTickets = C.CEND_CERT_TICKETS
)

// Ends has the contexts of both sides.
type Ends struct{ c *C.cend }

// New makes both contexts with the certificate NAME.crt and NAME.key in dir,
// root.crt as CA, and client-ec as the client's certificate if the server asks
// for one.
func New(dir, name string, flags int) (*Ends, error) {
	file := func(name string) *C.char { return C.CString(filepath.Join(dir, name)) }
	args := []*C.char{file(name + ".crt"), file(name + ".key"), file("root.crt"), file("client-ec.crt"), file("client-ec.key")}
	for _, a := range args {
		defer C.free(unsafe.Pointer(a))
	}
	c := C.cend_new(args[0], args[1], args[2], args[3], args[4], C.int(flags))
	if c == nil {
		return nil, fmt.Errorf("cannot load in C: %s in %s", name, dir)
	}
	return &Ends{c}, nil
}

// Close frees the contexts.
func (e *Ends) Close() { C.cend_free(e.c) }

func seconds(s C.double) (float64, error) {
	if s < 0 {
		return 0, errors.New("failed in C")
	}
	return float64(s), nil
}

// Handshakes makes n connections. Like the other methods that do something n
// times, it returns the processor time in seconds.
func (e *Ends) Handshakes(n int) (float64, error) { return seconds(C.cend_handshakes(e.c, C.int(n))) }

// Resumed makes n connections that resume a session.
func (e *Ends) Resumed(n int) (float64, error) { return seconds(C.cend_resumed(e.c, C.int(n))) }

// Messages sends n times burst messages of size bytes and reads them.
func (e *Ends) Messages(size, burst, n int) (float64, error) {
	return seconds(C.cend_messages(e.c, C.size_t(size), C.int(burst), C.int(n)))
}

// Contexts makes n server contexts from files.
func (e *Ends) Contexts(n int) (float64, error) { return seconds(C.cend_contexts(e.c, C.int(n))) }

// News makes n server connections without a handshake.
func (e *Ends) News(n int) (float64, error) { return seconds(C.cend_ends(e.c, C.int(n))) }

// Pairs has connections that are held open.
type Pairs struct{ p *C.cend_pairs }

// Pairs makes n connections and moves bytes both ways on each. Without clients
// only the server ends are kept.
func (e *Ends) Pairs(n, moved int, clients bool) (*Pairs, error) {
	keep := C.int(0)
	if clients {
		keep = 1
	}
	p := C.cend_pairs_new(e.c, C.int(n), C.size_t(moved), keep)
	if p == nil {
		return nil, errors.New("failed in C")
	}
	return &Pairs{p}, nil
}

// Messages sends n messages of size bytes, each on the next connection.
func (p *Pairs) Messages(size, n int) (float64, error) {
	return seconds(C.cend_pairs_messages(p.p, C.size_t(size), C.int(n)))
}

// Close frees the connections.
func (p *Pairs) Close() { C.cend_pairs_free(p.p) }

// Peer is one end of a connection, whose steps the caller makes: a client for the
// servers of other subjects, which can resume sessions, or a server.
type Peer struct{ p *C.cend_peer }

// Peer makes a client. With resume it offers the session that Keep has stored.
func (e *Ends) Peer(resume bool) *Peer {
	r := C.int(0)
	if resume {
		r = 1
	}
	return &Peer{C.cend_peer_new(e.c, r)}
}

// Accept makes a server.
func (e *Ends) Accept() *Peer { return &Peer{C.cend_peer_accept(e.c)} }

// Step reads the output of the other end, and appends that of this end to out, up
// to its capacity.
func (p *Peer) Step(out, in []byte) []byte {
	n := C.cend_peer_step(p.p, (*C.uchar)(unsafe.SliceData(out[len(out):cap(out)])), C.size_t(cap(out)-len(out)),
		(*C.uchar)(unsafe.SliceData(in)), C.size_t(len(in)))
	return out[:len(out)+int(n)]
}

// Done reports whether the handshake is complete.
func (p *Peer) Done() bool { return C.cend_peer_done(p.p) != 0 }

// Resumed reports whether the handshake resumed a session.
func (p *Peer) Resumed() bool { return C.cend_peer_resumed(p.p) != 0 }

// Keep stores the session of p for later clients.
func (e *Ends) Keep(p *Peer) error {
	if C.cend_peer_keep(e.c, p.p) == 0 {
		return errors.New("the server gave no session")
	}
	return nil
}

// Close ends the connection.
func (p *Peer) Close() { C.cend_peer_free(p.p) }

// CRLLookups parses the CRL in file and then looks up the certificate crt n
// times. crt is not on the CRL.
func CRLLookups(file, crt string, n int) (float64, error) {
	f, c := C.CString(file), C.CString(crt)
	defer C.free(unsafe.Pointer(f))
	defer C.free(unsafe.Pointer(c))
	crl := C.cend_crl_load(f)
	if crl == nil {
		return 0, errors.New("cannot parse in C: " + file)
	}
	defer C.cend_crl_free(crl)
	return seconds(C.cend_crl_lookups(crl, c, C.int(n)))
}

// Sealed seals n records of size bytes with calls of EVP, and opens them.
func Sealed(cipher string, size, n int) (float64, error) {
	name := C.CString(cipher)
	defer C.free(unsafe.Pointer(name))
	return seconds(C.cend_sealed(name, C.size_t(size), C.int(n)))
}

// CipherPair has both ends of a direct cipher in C.
type CipherPair struct {
	p      *C.cend_pair
	size   C.size_t
	number C.uint64_t
}

// NewCipherPair makes both ends, for records of size bytes.
func NewCipherPair(cipher string, size int) (*CipherPair, error) {
	name := C.CString(cipher)
	defer C.free(unsafe.Pointer(name))
	p := C.cend_pair_new(name, C.size_t(size))
	if p == nil {
		return nil, errors.New("failed in C")
	}
	return &CipherPair{p: p, size: C.size_t(size)}, nil
}

// Record seals a record and opens it, in two calls into C.
func (p *CipherPair) Record() error {
	p.number++
	if C.cend_pair_seal(p.p, p.size, p.number) != 1 || C.cend_pair_open(p.p, p.size, p.number) != 1 {
		return errors.New("failed in C")
	}
	return nil
}

// Close frees both ends.
func (p *CipherPair) Close() { C.cend_pair_free(p.p) }

// Enc encrypts n pieces of a stream with calls of EVP, and decrypts them.
func Enc(cipher string, size, n int) (float64, error) {
	name := C.CString(cipher)
	defer C.free(unsafe.Pointer(name))
	return seconds(C.cend_enc(name, C.size_t(size), C.int(n)))
}

// Short returns the number of a version: "3.0.19" for "OpenSSL 3.0.19 27 Jan
// 2026".
func Short(version string) string {
	fields := strings.Fields(version)
	if len(fields) < 2 {
		return version
	}
	return fields[1]
}
