package sslfilter

/*
#include <stdlib.h>
#include "cgo_helpers.h"
*/
import "C"

import (
	"runtime"
	"strings"
	"time"
	"unsafe"
)

// sslHandle owns one connection: the SSL, its memory BIO and its records.
type sslHandle struct{ handle[*C.fssl_conn] }

func freeConn(p *C.fssl_conn) { C.fssl_conn_free(p) }

// connConfig has the settings of a connection that are not in the SSL_CTX.
type connConfig struct {
	client bool
	// asks is true if a server asks for a certificate, and needs if it rejects
	// a client without one. A client always asks.
	asks, needs bool
	// enforce makes the verify callback reject a certificate that is not valid.
	// A peer without a certificate is accepted, except by a client and by a
	// server with needs.
	enforce bool
	ignore  []VerifyCode
}

// newSSL makes a connection of ctx. The SSL takes its own reference to the
// SSL_CTX.
func newSSL(ctx *ctxHandle, conf *connConfig) (*sslHandle, error) {
	defer runtime.KeepAlive(ctx)
	verify, mode := C.SSL_VERIFY_NONE, C.FSSL_RECORD
	switch {
	case conf.client:
		verify = C.SSL_VERIFY_PEER
	case conf.asks:
		verify = C.SSL_VERIFY_PEER | C.SSL_VERIFY_CLIENT_ONCE
		if conf.needs {
			verify |= C.SSL_VERIFY_FAIL_IF_NO_PEER_CERT
		}
	}
	switch {
	case conf.enforce && (conf.client || conf.needs):
		mode = C.FSSL_ENFORCE
	case conf.enforce:
		mode = C.FSSL_ENFORCE_SHOWN
	}
	var ignore []C.int
	for _, code := range conf.ignore {
		ignore = append(ignore, C.int(code))
	}
	errs := errorRooms.Get().(*C.fssl_errors)
	defer errorRooms.Put(errs)
	errs.n = 0
	p := C.fssl_conn_new(ctx.ptr, ctx.lib.lib, cBool(conf.client), C.int(verify), C.int(mode), unsafe.SliceData(ignore), C.int(len(ignore)), errs)
	if p == nil {
		return nil, newError("SSL_new", 0, records(errs))
	}
	h := new(sslHandle)
	h.own(p, freeConn)
	return h, nil
}

func (h *sslHandle) close() { h.handle.close(freeConn) }

// renegotiationsFollowed is the maximum number of renegotiations that a client
// accepts.
const renegotiationsFollowed = C.FSSL_MAX_ROUNDS

// zeroReturn is the SSL_get_error code for the peer's close_notify.
const zeroReturn = C.SSL_ERROR_ZERO_RETURN

// setALPN sets the protocols that this client offers, in the form of the
// extension.
func (h *sslHandle) setALPN(protos []byte) error {
	defer runtime.KeepAlive(h)
	errs := errorRooms.Get().(*C.fssl_errors)
	defer errorRooms.Put(errs)
	errs.n = 0
	if C.fssl_conn_set_alpn(h.ptr, bytesPtr(protos), C.size_t(len(protos)), errs) != 1 {
		return newError("SSL_set_alpn_protos", 0, records(errs))
	}
	return nil
}

// setName sets the name that is sent as SNI and the name that is verified. An
// empty name is not sent or not verified.
func (h *sslHandle) setName(sni string, verify serverName) error {
	defer runtime.KeepAlive(h)
	errs := errorRooms.Get().(*C.fssl_errors)
	defer errorRooms.Put(errs)
	errs.n = 0
	ok := withCString(sni, func(sni *C.char) C.int {
		return withCString(verify.host, func(host *C.char) C.int {
			return withCString(verify.ip, func(ip *C.char) C.int {
				return C.fssl_conn_set_name(h.ptr, sni, host, ip, errs)
			})
		})
	})
	if ok != 1 {
		return newError("SSL_set_tlsext_host_name", 0, records(errs))
	}
	return nil
}

// shutdown queues our close_notify.
func (h *sslHandle) shutdown() status {
	defer runtime.KeepAlive(h)
	return status(C.fssl_shutdown(h.ptr))
}

func (h *sslHandle) keyUpdate(requestPeer bool) status {
	defer runtime.KeepAlive(h)
	return status(C.fssl_key_update(h.ptr, cBool(requestPeer)))
}

// handshaken reports whether the first handshake has completed.
func (h *sslHandle) handshaken() bool {
	defer runtime.KeepAlive(h)
	return h.ptr.handshaken != 0
}

// negotiating reports whether a handshake is in progress, the first one or a
// renegotiation.
func (h *sslHandle) negotiating() bool {
	defer runtime.KeepAlive(h)
	return C.SSL_in_init(h.ptr.ssl) != 0
}

// truncated reports whether the end of the transport cuts off a record or a
// handshake that is in progress.
func (h *sslHandle) truncated() (record, handshake bool) {
	defer runtime.KeepAlive(h)
	cut := C.fssl_conn_truncated(h.ptr)
	return cut&C.FSSL_IN_RECORD != 0, cut&C.FSSL_IN_HANDSHAKE != 0
}

// failure returns the error of the call that just failed.
func (h *sslHandle) failure(op string) *Error {
	defer runtime.KeepAlive(h)
	return newError(op, int(h.ptr.ssl_error), records(h.ptr.errs))
}

// offered returns the suites that the client offered, as far as a server knows
// them.
func (h *sslHandle) offered() string {
	defer runtime.KeepAlive(h)
	return takeString(C.fssl_conn_offered(h.ptr))
}

// facts returns what is known about the connection, except HandshakeDone, Shown and
// FIPS. Until a cipher suite is negotiated, Version and the fields that depend on it
// are zero. shown is the index of the identity that this side showed in the last
// handshake, or -1.
func (h *sslHandle) facts() (s State, shown int) {
	defer runtime.KeepAlive(h)
	var facts C.fssl_facts
	C.fssl_conn_facts(h.ptr, &facts)
	s.Client = h.ptr.client != 0
	s.ServerName = C.GoString(facts.server_name)
	s.ALPN = string(C.GoBytes(unsafe.Pointer(facts.alpn), C.int(facts.alpn_len)))
	s.Resumed, s.NotResumed = facts.resumed != 0, NotResumed(facts.not_resumed)
	s.Group, s.GroupName = uint16(facts.group), C.GoString(facts.group_name)
	s.BytesReceived, s.BytesSent = uint64(facts.received), uint64(facts.sent)
	if facts.cipher != nil {
		s.Version = Version(facts.version)
		s.Cipher, s.CipherSuite, s.Bits = C.GoString(facts.cipher), uint16(facts.suite), int(facts.bits)
		s.ExtendedMasterSecret, s.SecureRenegotiation = facts.extended_secret != 0, facts.secure_renegotiation != 0
	}
	s.DHBits = int(facts.dh_bits)
	own, peer := &facts.signature[0], &facts.signature[1]
	s.Signature, s.SignatureScheme = C.GoString(own.name), uint16(own.scheme)
	s.PeerSignature, s.PeerSignatureScheme = C.GoString(peer.name), uint16(peer.scheme)
	s.ClientCertRequested, s.Renegotiations = facts.requested != 0, int(facts.renegotiations)
	s.Ticket, s.TicketLifetime = facts.ticket != 0, time.Duration(facts.ticket_lifetime)*time.Second
	s.SessionTimeout = time.Duration(facts.session_timeout) * time.Second
	return s, int(facts.shown)
}

// resumed is the fact State.Resumed alone.
func (h *sslHandle) resumed() bool {
	defer runtime.KeepAlive(h)
	return C.SSL_session_reused(h.ptr.ssl) != 0
}

// protocol returns the version that the handshake uses so far, even before a
// cipher suite is negotiated.
func (h *sslHandle) protocol() Version {
	defer runtime.KeepAlive(h)
	return Version(C.SSL_version(h.ptr.ssl))
}

func (h *sslHandle) ocspResponse() []byte {
	defer runtime.KeepAlive(h)
	var p *C.uchar
	n := C.fssl_conn_ocsp(h.ptr, &p)
	if n == 0 {
		return nil
	}
	return C.GoBytes(unsafe.Pointer(p), C.int(n))
}

// finished returns the Finished message of one side.
func (h *sslHandle) finished(ofPeer bool) []byte {
	defer runtime.KeepAlive(h)
	buf := make([]byte, C.EVP_MAX_MD_SIZE)
	n := int(C.fssl_conn_finished(h.ptr, cBool(ofPeer), bytesPtr(buf), C.size_t(len(buf))))
	return buf[:min(n, len(buf))]
}

// served lists the algorithms that the connection uses, and their providers.
func (h *sslHandle) served() []AlgorithmProvider {
	defer runtime.KeepAlive(h)
	var lines [C.FSSL_MAX_SERVED]C.fssl_served
	list := make([]AlgorithmProvider, int(C.fssl_conn_served(h.ptr, &lines[0])))
	for i := range list {
		list[i] = AlgorithmProvider{AlgorithmUse(lines[i].use), C.GoString(&lines[i].algorithm[0]), C.GoString(&lines[i].provider[0])}
	}
	return list
}

// export fills out with keying material. A nil context and an empty one are not
// the same.
func (h *sslHandle) export(out []byte, label string, context []byte) error {
	defer runtime.KeepAlive(h)
	var errs C.fssl_errors
	name := []byte(label)
	if C.fssl_conn_export(h.ptr, bytesPtr(out), C.size_t(len(out)), (*C.char)(unsafe.Pointer(bytesPtr(name))), C.size_t(len(name)),
		bytesPtr(context), C.size_t(len(context)), cBool(context != nil), &errs) != 1 {
		return newError("SSL_export_keying_material", 0, records(&errs))
	}
	return nil
}

// takeKeys returns the lines of the key log that OpenSSL has produced since the
// last call, and wipes them in C. lost reports that a line is missing.
func (h *sslHandle) takeKeys() (text []byte, lost bool) {
	defer runtime.KeepAlive(h)
	lost = h.ptr.keys.lost != 0
	if h.ptr.keys.len == 0 {
		h.ptr.keys.lost = 0
		return nil, lost
	}
	text = make([]byte, h.ptr.keys.len)
	C.fssl_conn_take_keys(h.ptr, bytesPtr(text), C.size_t(len(text)))
	return text, lost
}

// state returns OpenSSL's description of the handshake's state.
func (h *sslHandle) state() string {
	defer runtime.KeepAlive(h)
	return strings.TrimSpace(C.GoString(C.SSL_state_string_long(h.ptr.ssl)))
}

// helloContext returns the context of the connections that read a ClientHello.
// The process has one, which is never freed.
func helloContext() (*ctxHandle, error) {
	var errs C.fssl_errors
	p := C.fssl_hello_ctx(&errs)
	if p == nil {
		return nil, newError("SSL_CTX_new", 0, records(&errs))
	}
	return &ctxHandle{handle: handle[*C.SSL_CTX]{ptr: p}}, nil
}

// hello returns the ClientHello that has paused the handshake.
func (h *sslHandle) hello() *ClientHello {
	defer runtime.KeepAlive(h)
	c := h.ptr.hello
	part := func(i int) []byte { return C.GoBytes(unsafe.Pointer(c.part[i].data), C.int(c.part[i].len)) }
	parts := helloParts{
		version: Version(c.version), v2: c.v2 != 0, message: part(C.FSSL_HELLO_MESSAGE),
		session: part(C.FSSL_HELLO_SESSION), ciphers: part(C.FSSL_HELLO_CIPHERS),
		name: part(C.FSSL_HELLO_NAME), alpn: part(C.FSSL_HELLO_ALPN), versions: part(C.FSSL_HELLO_VERSIONS),
		groups: part(C.FSSL_HELLO_GROUPS), points: part(C.FSSL_HELLO_POINTS), signatures: part(C.FSSL_HELLO_SIGNATURES),
		ticket: part(C.FSSL_HELLO_TICKET), psk: part(C.FSSL_HELLO_PSK),
	}
	return parts.parse()
}

// The alerts with which a ClientHello is refused.
const (
	alertUnrecognizedName = C.SSL_AD_UNRECOGNIZED_NAME
	alertInternalError    = C.SSL_AD_INTERNAL_ERROR
)

// refuseHello ends the paused handshake with an alert.
func (h *sslHandle) refuseHello(alert int) {
	defer runtime.KeepAlive(h)
	C.fssl_hello_refuse(h.ptr, C.int(alert))
}

// giveHello gives the server name and the protocols of the ClientHello to the
// connection of the chosen context, which compares a second ClientHello with
// them.
func (h *sslHandle) giveHello(to *sslHandle) {
	defer runtime.KeepAlive(h)
	defer runtime.KeepAlive(to)
	C.fssl_hello_give(to.ptr, h.ptr)
}

// helloChanged reports whether giveHello made the handshake fail.
func (h *sslHandle) helloChanged() bool {
	defer runtime.KeepAlive(h)
	return h.ptr.hello != nil && h.ptr.hello.alert != 0
}

// helloTooLong makes the alert for a ClientHello that is too long.
func (h *sslHandle) helloTooLong() {
	defer runtime.KeepAlive(h)
	C.fssl_hello_too_long(h.ptr)
}
