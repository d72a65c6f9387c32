package sslfilter

/*
#include <stdlib.h>
#include "cgo_helpers.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"strings"
)

// ctxHandle owns an SSL_CTX. Everything that is parsed for it must be parsed in
// its library context.
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

// versions returns the limits that openssl.cnf sets; 0 means no limit.
func (h *ctxHandle) versions() (low, high Version) {
	defer runtime.KeepAlive(h)
	return Version(C.fssl_ctx_min_version(h.ptr)), Version(C.fssl_ctx_max_version(h.ptr))
}

// securityLevel returns the security level, which Cipher or openssl.cnf may have set.
func (h *ctxHandle) securityLevel() int {
	defer runtime.KeepAlive(h)
	return int(C.SSL_CTX_get_security_level(h.ptr))
}

// suiteB reports which curves the rules of Suite B (RFC 6460) admit. Neither is
// admitted if the rules are off.
func (h *ctxHandle) suiteB() (p256, p384 bool) {
	defer runtime.KeepAlive(h)
	flags := C.SSL_CTX_ctrl(h.ptr, C.SSL_CTRL_CERT_FLAGS, 0, nil) // adds no flag, and returns all
	return flags&C.SSL_CERT_FLAG_SUITEB_128_LOS_ONLY != 0, flags&C.SSL_CERT_FLAG_SUITEB_192_LOS != 0
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

func (h *ctxHandle) setSignatures(client bool, list string) error {
	return h.tryString("SSL_CTX_set1_sigalgs_list", list, func(ctx *C.SSL_CTX, s *C.char, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_set_sigalgs(ctx, cBool(client), s, errs)
	})
}

// conf runs a configuration command of OpenSSL.
func (h *ctxHandle) conf(client bool, name, value string) error {
	var result C.int
	err := h.tryString("SSL_CONF_cmd", name, func(ctx *C.SSL_CTX, name *C.char, errs *C.fssl_errors) C.int {
		return withCString(value, func(value *C.char) C.int {
			return C.fssl_ctx_conf(ctx, cBool(client), &result, name, value, errs)
		})
	})
	if err != nil && result == -2 {
		return fmt.Errorf("%s does not have this command", OpenSSLVersion())
	}
	return err
}

// setALPN sets protocols in the form of the extension: each after its length.
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

// logKeys makes connections collect the lines of their key log.
func (h *ctxHandle) logKeys() {
	defer runtime.KeepAlive(h)
	C.fssl_ctx_log_keys(h.ptr)
}

func (h *ctxHandle) noRenegotiation() {
	defer runtime.KeepAlive(h)
	C.fssl_ctx_no_renegotiation(h.ptr)
}

func (h *ctxHandle) setVerifyDepth(n int) {
	defer runtime.KeepAlive(h)
	C.SSL_CTX_set_verify_depth(h.ptr, C.int(n))
}

// ciphers lists the suites that a connection offers or accepts, in order.
// anonymous reports whether one of them needs no certificate.
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

// cipherName returns OpenSSL's name of the suite with the given IANA name, or
// "". A TLS 1.3 suite has the same name in both.
func cipherName(name string) string {
	known := withCString(name, func(s *C.char) string { return C.GoString(C.OPENSSL_cipher_name(s)) })
	if known == "(NONE)" {
		return ""
	}
	return known
}

// usable lists the suites of ciphers that a server can really choose with any of
// its identities. dhe and ecdhe say whether there are parameters and groups for
// them, and algorithms and algorithms13 which keys have a signature algorithm, up
// to TLS 1.2 and in TLS 1.3.
func (h *ctxHandle) usable(dhe, ecdhe bool, algorithms, algorithms13 signs) (list []string, err error) {
	defer runtime.KeepAlive(h)
	var errs C.fssl_errors
	s := C.fssl_ctx_usable(h.ptr, cBool(dhe), cBool(ecdhe), C.int(algorithms), C.int(algorithms13), &errs)
	if s == nil {
		return nil, newError("SSL_get1_supported_ciphers", 0, records(&errs))
	}
	if text := takeString(s); text != "" {
		list = strings.Split(text, ":")
	}
	return list, nil
}

// keyType names the type of the key of identity i.
func (h *ctxHandle) keyType(i int) string {
	defer runtime.KeepAlive(h)
	switch nid := C.fssl_ctx_key_type(h.ptr, C.int(i)); nid {
	case C.EVP_PKEY_RSA:
		return "RSA"
	case C.EVP_PKEY_EC:
		return "EC"
	case -1: // OpenSSL has no number for the type
		return "another kind"
	default:
		return C.GoString(C.OBJ_nid2sn(nid))
	}
}

// namesSize returns the size in bytes of the CAs' names in a
// CertificateRequest.
func (h *ctxHandle) namesSize() int {
	defer runtime.KeepAlive(h)
	return int(C.fssl_ctx_names_size(h.ptr))
}

// chainSize returns the size in bytes of a Certificate message with the
// certificates of identity i.
func (h *ctxHandle) chainSize(i int) int {
	defer runtime.KeepAlive(h)
	return int(C.fssl_ctx_chain_size(h.ptr, C.int(i)))
}

// maxIdentities bounds the certificates of one context. A server can have one
// for each type of key.
const maxIdentities = C.FSSL_MAX_IDENTITIES

// useChain makes the first certificate of chain this side's own, and sends all
// of them.
func (h *ctxHandle) useChain(chain certList) error {
	return h.try("SSL_CTX_use_certificate", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_use_chain(ctx, chain.stack, errs)
	})
}

// buildChain adds the intermediates of this side's certificate from the trust
// store.
func (h *ctxHandle) buildChain() error {
	return h.try("SSL_CTX_build_cert_chain", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_build_chain(ctx, errs)
	})
}

// addIdentity adds what useChain and useKey have set to the identities. On a
// server, clash is the index of the identity that it replaces, or -1.
func (h *ctxHandle) addIdentity(client bool) (clash int, err error) {
	var lost C.int
	err = h.try("SSL_CTX_select_current_cert", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_add_identity(ctx, &lost, cBool(client), errs)
	})
	return int(lost), err
}

// setIdentities is called after the last addIdentity, of which there is at least one. It
// makes the first identity the current certificate of h.
func (h *ctxHandle) setIdentities(client bool) error {
	return h.try("SSL_CTX_use_cert_and_key", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_set_identities(ctx, cBool(client), errs)
	})
}

// ownCert describes the certificate of identity i.
func (h *ctxHandle) ownCert(i int) (c Certificate, ok bool) {
	defer runtime.KeepAlive(h)
	cert := C.fssl_ctx_sent_cert(h.ptr, C.int(i), 0)
	info, ok := describe(cert)
	c = Certificate{Subject: info.subject, Issuer: info.issuer, Serial: info.serial, DER: der(cert)}
	c.NotBefore, c.NotAfter = dates(cert)
	return c, ok && c.DER != nil
}

// sent returns the certificates that this side sends with one identity, its own
// first, in DER form.
func (h *ctxHandle) sent(identity int) (list [][]byte) {
	defer runtime.KeepAlive(h)
	for i := 0; ; i++ {
		cert := C.fssl_ctx_sent_cert(h.ptr, C.int(identity), C.int(i))
		if cert == nil {
			return list
		}
		list = append(list, der(cert))
	}
}

// useKey sets the key of the certificate that useChain set.
func (h *ctxHandle) useKey(key privateKey) (mismatch bool, err error) {
	var not C.int
	err = h.try("SSL_CTX_use_PrivateKey", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_use_key(ctx, &not, key.pkey, errs)
	})
	return not != 0, err
}

// tryHandshake makes a handshake in memory with one identity, at the highest
// version that h allows, with a peer that accepts everything that the library
// context of h supports.
func (h *ctxHandle) tryHandshake(client bool, identity int, suites, groups string) error {
	return h.tryString("SSL_do_handshake", suites, func(ctx *C.SSL_CTX, suites *C.char, errs *C.fssl_errors) C.int {
		return withCString(groups, func(groups *C.char) C.int {
			return C.fssl_ctx_try(ctx, h.lib.lib, cBool(client), C.int(identity), suites, groups, errs)
		})
	})
}

// unservedCert describes the first certificate of an identity whose signature
// the library context cannot verify, or returns "".
func (h *ctxHandle) unservedCert(identity int) (string, error) {
	defer runtime.KeepAlive(h)
	errs := errorRooms.Get().(*C.fssl_errors)
	defer errorRooms.Put(errs)
	errs.n = 0
	var text *C.char
	if C.fssl_ctx_unserved_cert(h.ptr, &text, h.lib.lib, C.int(identity), errs) != 1 {
		return "", outOfMemory("EVP_MD_fetch", records(errs))
	}
	return takeString(text), nil
}
