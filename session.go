package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"
)

// ticketKeysHandle owns a reference to the C object of TicketKeys.
type ticketKeysHandle struct {
	handle[*C.fssl_ticket_keys]
}

func freeTicketKeys(p *C.fssl_ticket_keys) { C.fssl_ticket_keys_free(p) }

// maxTicketKeys bounds the keys of TicketKeys.
const maxTicketKeys = C.FSSL_MAX_TICKET_KEYS

func newTicketKeys() (*ticketKeysHandle, error) {
	var errs C.fssl_errors
	p := C.fssl_ticket_keys_new(&errs)
	if p == nil {
		return nil, outOfMemory("CRYPTO_THREAD_lock_new", records(&errs))
	}
	h := new(ticketKeysHandle)
	h.own(p, freeTicketKeys)
	return h, nil
}

// set replaces all keys. There is at least one, and at most maxTicketKeys.
func (h *ticketKeysHandle) set(keys [][TicketKeySize]byte) {
	defer runtime.KeepAlive(h)
	C.fssl_ticket_keys_set(h.ptr, (*C.uchar)(unsafe.Pointer(unsafe.SliceData(keys))), C.size_t(len(keys)))
}

// age makes random keys older, for tests.
func (h *ticketKeysHandle) age(by time.Duration) {
	defer runtime.KeepAlive(h)
	C.fssl_ticket_keys_age(h.ptr, C.int64_t(by/time.Second))
}

// count returns the number of keys, for tests. It returns -1 if something is left of
// the keys that were removed.
func (h *ticketKeysHandle) count() int {
	defer runtime.KeepAlive(h)
	return int(C.fssl_ticket_keys_count(h.ptr))
}

// useTicketKeys makes the context encrypt its tickets with keys. If clients is true,
// a ticket also contains the certificates of the client.
func (h *ctxHandle) useTicketKeys(keys *ticketKeysHandle, clients bool) error {
	defer runtime.KeepAlive(keys)
	return h.try("SSL_CTX_set_tlsext_ticket_key_evp_cb", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_use_ticket_keys(ctx, keys.ptr, h.lib.lib, cBool(clients), errs)
	})
}

// bindSessions sets the session id context. A session is resumed only by contexts
// with the same session id context. If context is empty, it is made from the
// certificates.
func (h *ctxHandle) bindSessions(context []byte) error {
	return h.try("SSL_CTX_set_session_id_context", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_bind_sessions(ctx, bytesPtr(context), C.size_t(len(context)), errs)
	})
}

// cachedCerts returns the number of parsed certificates that the context keeps, for tests.
func (h *ctxHandle) cachedCerts() int {
	defer runtime.KeepAlive(h)
	return int(C.fssl_ctx_cached_certs(h.ptr))
}

// storeSessions makes the context give tickets that are only ids. The sessions are
// stored by the program.
func (h *ctxHandle) storeSessions() {
	defer runtime.KeepAlive(h)
	C.fssl_ctx_store_sessions(h.ptr)
}

// maxOffered bounds the stored sessions that are offered to a handshake, and
// maxSessionID the bytes of their ids.
const (
	maxOffered   = C.FSSL_MAX_OFFERED
	maxSessionID = C.SSL_MAX_SSL_SESSION_ID_LENGTH
)

// offerStored offers a stored session to the handshake. It returns false after a
// lack of memory.
func (h *sslHandle) offerStored(s StoredSession) bool {
	defer runtime.KeepAlive(h)
	return C.fssl_conn_offer_stored(h.ptr, bytesPtr(s.ID), C.size_t(len(s.ID)), bytesPtr(s.Data), C.size_t(len(s.Data))) == 1
}

// takeGiven returns the sessions to be stored that were given to the client since
// the last call.
func (h *sslHandle) takeGiven() (list []StoredSession) {
	defer runtime.KeepAlive(h)
	if h.ptr.store == nil {
		return nil
	}
	for i := range h.ptr.store.given[:h.ptr.store.n_given] {
		s := &h.ptr.store.given[i]
		list = append(list, StoredSession{
			ID:      C.GoBytes(unsafe.Pointer(&s.id[0]), C.int(s.id_len)),
			Data:    C.GoBytes(unsafe.Pointer(s.data), C.int(s.len)),
			Expires: time.Unix(int64(s.expires), 0).UTC(),
		})
	}
	C.fssl_conn_forget_stored(h.ptr)
	return list
}

// maxSession bounds the size of a session, in bytes.
const maxSession = C.FSSL_MAX_SESSION

// bindingSize is the size in bytes of a client's binding (see sessionState).
const bindingSize = C.FSSL_BINDING

// takeSessions returns the sessions that the server has given since the last
// call, oldest first, and binds them.
func (h *sslHandle) takeSessions(bind func() [bindingSize]byte) (list []*Session) {
	defer runtime.KeepAlive(h)
	for h.ptr.client_sessions.n > 0 {
		var der *C.uchar
		var n C.int
		var facts C.fssl_session_facts
		binding := bind()
		if C.fssl_conn_take_session(h.ptr, &der, &n, &facts, bytesPtr(binding[:])) == 1 {
			s := newSession(&facts)
			s.der = C.GoBytes(unsafe.Pointer(der), n)
			C.OPENSSL_cleanse(unsafe.Pointer(der), C.size_t(n))
			list = append(list, &Session{s})
		}
		C.CRYPTO_free(unsafe.Pointer(der), nil, 0)
	}
	return list
}

// readSession parses the bytes of a session, or returns nil.
func readSession(der []byte) *sessionState {
	var facts C.fssl_session_facts
	if C.fssl_session_read(&facts, bytesPtr(der), C.size_t(len(der))) != 1 {
		return nil
	}
	s := newSession(&facts)
	s.der = der
	return s
}

func newSession(facts *C.fssl_session_facts) *sessionState {
	s := &sessionState{version: Version(facts.version), made: time.Unix(int64(facts.made), 0).UTC(), expires: time.Unix(int64(facts.expires), 0).UTC()}
	for i, b := range facts.binding {
		s.binding[i] = byte(b)
	}
	return s
}

// offer verifies the certificates of a session as a handshake that begins now
// would, and offers it to the server if they are acceptable. The error is the
// reason why it is not offered.
func (h *sslHandle) offer(s *sessionState) error {
	defer runtime.KeepAlive(h)
	var errs C.fssl_errors
	result := C.fssl_conn_offer(h.ptr, bytesPtr(s.der), C.size_t(len(s.der)), &errs)
	switch result {
	case C.FSSL_OFFERED:
		return nil
	case C.FSSL_SESSION_CIPHER:
		return errors.New("its cipher suite is not offered")
	case C.FSSL_SESSION_OCSP:
		o := ocspResult(&h.ptr.resume.checked)
		return fmt.Errorf("the OCSP response that came with it: %s", o.String())
	case C.FSSL_SESSION_REFUSED:
		if refusal := (verdict{&h.ptr.resume.verdict, h}).refusal(); refusal != nil {
			return refusal
		}
	}
	if errs.n == 0 {
		return errors.New("OpenSSL does not accept it")
	}
	return newError("SSL_set_session", 0, records(&errs))
}
