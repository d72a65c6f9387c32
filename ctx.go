package sslfilter

/*
#include <stdlib.h>
#include "cgo_helpers.h"
*/
import "C"

import (
	"runtime"
	"strings"
	"sync"
)

// ctxHandle owns an SSL_CTX. What is parsed for it has to be in its library context.
type ctxHandle struct {
	handle[*C.SSL_CTX]
	lib library
}

func freeCtx(p *C.SSL_CTX) { C.SSL_CTX_free(p) }

func newCtxHandle(lib library, client bool) (*ctxHandle, error) {
	var errs C.fssl_errors
	p := C.fssl_ctx_new(lib.lib, cBool(client), &errs)
	if p == nil {
		return nil, newError("SSL_CTX_new", 0, records(&errs))
	}
	h := &ctxHandle{lib: lib}
	h.own(p, freeCtx)
	return h, nil
}

func (h *ctxHandle) close() { h.handle.close(freeCtx) }

func cBool(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// try runs one helper and turns its failure into an *Error of op.
func (h *ctxHandle) try(op string, f func(*C.SSL_CTX, *C.fssl_errors) C.int) error {
	defer runtime.KeepAlive(h)
	var errs C.fssl_errors
	if f(h.ptr, &errs) == 1 {
		return nil
	}
	return newError(op, 0, records(&errs))
}

func (h *ctxHandle) tryString(op, s string, f func(*C.SSL_CTX, *C.char, *C.fssl_errors) C.int) error {
	return h.try(op, func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return withCString(s, func(c *C.char) C.int { return f(ctx, c, errs) })
	})
}

// versions gives the limits that openssl.cnf set; 0 is none.
func (h *ctxHandle) versions() (low, high Version) {
	defer runtime.KeepAlive(h)
	return Version(C.fssl_ctx_min_version(h.ptr)), Version(C.fssl_ctx_max_version(h.ptr))
}

// securityLevel returns the security level, which Cipher or openssl.cnf may have set.
func (h *ctxHandle) securityLevel() int {
	defer runtime.KeepAlive(h)
	return int(C.SSL_CTX_get_security_level(h.ptr))
}

func (h *ctxHandle) setVersions(low, high Version) error {
	return h.try("SSL_CTX_set_min_proto_version", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_set_versions(ctx, C.int(low), C.int(high), errs)
	})
}

func (h *ctxHandle) setCiphers(list string) error {
	return h.tryString("SSL_CTX_set_cipher_list", list, func(ctx *C.SSL_CTX, s *C.char, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_set_ciphers(ctx, s, errs)
	})
}

func (h *ctxHandle) setSuites(list string) error {
	return h.tryString("SSL_CTX_set_ciphersuites", list, func(ctx *C.SSL_CTX, s *C.char, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_set_suites(ctx, s, errs)
	})
}

func (h *ctxHandle) setGroups(list string) error {
	return h.tryString("SSL_CTX_set1_groups_list", list, func(ctx *C.SSL_CTX, s *C.char, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_set_groups(ctx, s, errs)
	})
}

// setALPN sets protocols in the form of the extension: each behind its length.
func (h *ctxHandle) setALPN(client bool, protos []byte) error {
	return h.try("SSL_CTX_set_alpn_protos", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_set_alpn(ctx, cBool(client), bytesPtr(protos), C.size_t(len(protos)), errs)
	})
}

func (h *ctxHandle) setServerPreference() {
	defer runtime.KeepAlive(h)
	C.fssl_ctx_set_server_preference(h.ptr)
}

func (h *ctxHandle) setTickets(n int) {
	defer runtime.KeepAlive(h)
	C.fssl_ctx_set_tickets(h.ptr, C.size_t(n))
}

func (h *ctxHandle) noRenegotiation() {
	defer runtime.KeepAlive(h)
	C.fssl_ctx_no_renegotiation(h.ptr)
}

func (h *ctxHandle) setVerifyDepth(n int) {
	defer runtime.KeepAlive(h)
	C.SSL_CTX_set_verify_depth(h.ptr, C.int(n))
}

// ciphers lists what a connection offers or accepts, in order.
func (h *ctxHandle) ciphers() (list []string, anonymous bool, err error) {
	defer runtime.KeepAlive(h)
	var errs C.fssl_errors
	var anon C.int
	s := C.fssl_ctx_ciphers(h.ptr, &anon, &errs)
	if s == nil {
		return nil, false, newError("SSL_get1_supported_ciphers", 0, records(&errs))
	}
	if text := takeString(s); text != "" {
		list = strings.Split(text, ":")
	}
	return list, anon != 0, nil
}

// cipherName is OpenSSL's name of the suite that TLS calls name, or "". A suite of
// TLS 1.3 has one name.
func cipherName(name string) string {
	known := withCString(name, func(s *C.char) string { return C.GoString(C.OPENSSL_cipher_name(s)) })
	if known == "(NONE)" {
		return ""
	}
	return known
}

// usable lists what a server can really choose of ciphers, and names the type of
// its key. dhe and ecdhe tell that there are parameters and groups for them.
func (h *ctxHandle) usable(dhe, ecdhe bool) (list []string, key string, err error) {
	defer runtime.KeepAlive(h)
	var errs C.fssl_errors
	var nid C.int
	s := C.fssl_ctx_usable(h.ptr, &nid, cBool(dhe), cBool(ecdhe), &errs)
	if s == nil {
		return nil, "", newError("SSL_get1_supported_ciphers", 0, records(&errs))
	}
	if text := takeString(s); text != "" {
		list = strings.Split(text, ":")
	}
	switch nid {
	case C.NID_undef:
		return list, "", nil
	case C.EVP_PKEY_RSA:
		key = "RSA"
	case C.EVP_PKEY_EC:
		key = "EC"
	case -1: // OpenSSL has no number for it
		key = "another kind"
	default:
		key = C.GoString(C.OBJ_nid2sn(nid))
	}
	return list, key, nil
}

// sizes counts the bytes of the CAs' names in a CertificateRequest, and of the
// certificates in a Certificate message.
func (h *ctxHandle) sizes() (names, chain int) {
	defer runtime.KeepAlive(h)
	var n, c C.size_t
	C.fssl_ctx_sizes(h.ptr, &n, &c)
	return int(n), int(c)
}

// certList is a STACK_OF(X509) that is freed by hand.
type certList struct{ stack *C.struct_stack_st_X509 }

// parseCerts reads every certificate of pem. blocks counts PEM blocks of any kind.
func (l library) parseCerts(pem []byte) (list certList, blocks int, err error) {
	var errs C.fssl_errors
	var n C.int
	stack := C.fssl_pem_certs(&n, l.lib, bytesPtr(pem), C.size_t(len(pem)), &errs)
	if stack == nil && n < 0 {
		return certList{}, 0, outOfMemory("PEM_read_bio_X509", records(&errs))
	}
	if stack == nil {
		return certList{}, int(n), newError("PEM_read_bio_X509", 0, records(&errs))
	}
	return certList{stack}, int(n), nil
}

// made reports whether there is a list at all.
func (l certList) made() bool { return l.stack != nil }

func (l certList) len() int { return int(C.fssl_certs_num(l.stack)) }

func (l certList) sameLeaf(other certList) bool {
	return C.fssl_certs_same_leaf(l.stack, other.stack) != 0
}

func (l certList) free() { C.fssl_certs_free(l.stack) }

// useChain makes the first certificate this side's own and sends all of them.
func (h *ctxHandle) useChain(chain certList) error {
	return h.try("SSL_CTX_use_certificate", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_use_chain(ctx, chain.stack, errs)
	})
}

// buildChain takes the intermediates of this side's certificate out of the trust store.
func (h *ctxHandle) buildChain() error {
	return h.try("SSL_CTX_build_cert_chain", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_build_chain(ctx, errs)
	})
}

// sent gives the certificates that this side sends, its own first, as DER.
func (h *ctxHandle) sent() (list [][]byte) {
	defer runtime.KeepAlive(h)
	for i := 0; ; i++ {
		cert := C.fssl_ctx_sent_cert(h.ptr, C.int(i))
		if cert == nil {
			return list
		}
		list = append(list, der(cert))
	}
}

// trusted gives the certificates in the trust store, as DER.
func (h *ctxHandle) trusted() (list [][]byte) {
	defer runtime.KeepAlive(h)
	stack := C.fssl_ctx_cas(h.ptr)
	if stack == nil {
		return nil
	}
	defer C.fssl_certs_free(stack)
	for i := range int(C.fssl_certs_num(stack)) {
		list = append(list, der(C.fssl_chain_cert(stack, C.int(i))))
	}
	return list
}

// privateKey is an EVP_PKEY that is freed by hand.
type privateKey struct{ pkey *C.EVP_PKEY }

// parseKey reads the first private key of pem. encrypted tells that a
// passphrase was needed, whether or not it fitted.
func (l library) parseKey(pem, passphrase []byte) (key privateKey, encrypted bool, err error) {
	var errs C.fssl_errors
	var asked C.int
	pkey := C.fssl_pem_key(&asked, l.lib, bytesPtr(pem), C.size_t(len(pem)), bytesPtr(passphrase), C.size_t(len(passphrase)), &errs)
	if pkey == nil && errs.n == 0 { // whatever is wrong with a key, OpenSSL says it
		return privateKey{}, asked != 0, outOfMemory("PEM_read_bio_PrivateKey", nil)
	}
	if pkey == nil {
		return privateKey{}, asked != 0, newError("PEM_read_bio_PrivateKey", 0, records(&errs))
	}
	return privateKey{pkey}, asked != 0, nil
}

func (k privateKey) free() { C.EVP_PKEY_free(k.pkey) }

// useKey sets the key of the certificate that useChain set.
func (h *ctxHandle) useKey(key privateKey) (mismatch bool, err error) {
	var not C.int
	err = h.try("SSL_CTX_use_PrivateKey", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_use_key(ctx, &not, key.pkey, errs)
	})
	return not != 0, err
}

// trust makes cas the only trusted certificates; announce sends their names to clients.
func (h *ctxHandle) trust(cas certList, announce bool) error {
	return h.try("X509_STORE_add_cert", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_trust(ctx, cas.stack, cBool(announce), errs)
	})
}

// join moves the certificates of other behind those of l.
func (l certList) join(other certList) error {
	if C.fssl_certs_move(l.stack, other.stack) != 1 {
		return outOfMemory("sk_X509_push", nil)
	}
	return nil
}

// systemStore is read once in the life of the process: that costs 5 to 24 ms. A
// failure is not remembered: memory may have been short.
var systemStore struct {
	sync.Mutex
	store *C.X509_STORE
}

// systemStore is that of a library context, which keeps it.
func (l library) systemStore() (*C.X509_STORE, error) {
	var errs C.fssl_errors
	if l.made() {
		store := C.fssl_lib_system_store(l.lib, &errs)
		if store == nil {
			return nil, newError("X509_STORE_set_default_paths_ex", 0, records(&errs))
		}
		return store, nil
	}
	systemStore.Lock()
	defer systemStore.Unlock()
	if systemStore.store == nil {
		systemStore.store = C.fssl_system_store(&errs)
		if systemStore.store == nil {
			return nil, newError("X509_STORE_set_default_paths", 0, records(&errs))
		}
	}
	return systemStore.store, nil
}

func (h *ctxHandle) trustSystem() error {
	store, err := h.lib.systemStore()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(h)
	C.fssl_ctx_trust_store(h.ptr, store)
	return nil
}

// tryHandshake makes a handshake in memory, at the highest version that h admits, with a
// peer that takes all that the library context of h serves.
func (h *ctxHandle) tryHandshake(client bool, suites, groups string) error {
	return h.tryString("SSL_do_handshake", suites, func(ctx *C.SSL_CTX, suites *C.char, errs *C.fssl_errors) C.int {
		return withCString(groups, func(groups *C.char) C.int {
			return C.fssl_ctx_try(ctx, h.lib.lib, cBool(client), suites, groups, errs)
		})
	})
}

// unservedCert describes the first certificate that is sent and whose signature
// the library context cannot verify, or is empty.
func (h *ctxHandle) unservedCert() string {
	defer runtime.KeepAlive(h)
	return takeString(C.fssl_ctx_unserved_cert(h.ptr, h.lib.lib))
}
