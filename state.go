//go:build cgo

package sslfilter

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
)

// State describes a connection: what the two sides have negotiated. It is a
// copy. Fields that are not known yet are zero.
type State struct {
	// HandshakeDone is true if the handshake has completed successfully. It
	// stays true after a later error.
	HandshakeDone bool
	Client        bool // true if this side is the client
	// Version is zero until a cipher suite is negotiated.
	Version Version
	// Cipher is OpenSSL's name of the cipher suite, "TLS_AES_256_GCM_SHA384",
	// and CipherSuite is its number (RFC 8446 appendix B.4), as in crypto/tls.
	Cipher      string
	CipherSuite uint16
	Bits        int // the strength of the cipher, in bits
	// Group is the number of the key exchange group (RFC 8446 section 4.2.7),
	// as in crypto/tls: 29 is X25519. It is zero for DHE with the server's own
	// parameters, and always with OpenSSL 1.1.1, which does not report it.
	Group uint16
	// GroupName is OpenSSL's name of the group, "x25519". It has a name for
	// every group that it has negotiated, except with OpenSSL 1.1.1.
	GroupName string
	// DHBits is the size of the prime that the server has chosen for DHE, in
	// bits. It is zero on a server, and with other key exchanges.
	DHBits int
	// Signature is the algorithm with which this side has signed the handshake,
	// "rsa_pss_rsae_sha256" (RFC 8446 section 4.2.3), and SignatureScheme is its
	// number, as in crypto/tls. They are empty and zero if this side has signed
	// nothing, in a resumed session, and before TLS 1.2. In TLS 1.2 the names of
	// the ECDSA algorithms say nothing about the curve of the key.
	Signature       string
	SignatureScheme uint16
	// PeerSignature and PeerSignatureScheme are the same for the peer.
	PeerSignature       string
	PeerSignatureScheme uint16
	ALPN                string // the negotiated application protocol, or ""
	// ServerName is the host name in the ClientHello (SNI): on a server the
	// name that the client sent, on a client the name that it sends. A server
	// must not trust it. If a server resumes a session of TLS 1.2, OpenSSL does
	// not report the name, and ServerName is "", except in a Filter of
	// NewServerFilter.
	ServerName string
	Resumed    bool // true if the handshake resumed an earlier session
	// NotResumed is the reason why a server has not resumed the last session that
	// the client asked for.
	NotResumed NotResumed
	// ExtendedMasterSecret is true if the master secret is bound to this
	// handshake (RFC 7627). In TLS 1.3 it is always true.
	ExtendedMasterSecret bool
	// SecureRenegotiation is true if both sides support secure renegotiation
	// (RFC 5746). In TLS 1.3, which has no renegotiation, it is always true.
	SecureRenegotiation bool
	// Renegotiations is the number of renegotiations that have begun (TLS 1.2).
	// On a server it is zero, because a server refuses all of them.
	Renegotiations int
	// ClientCertRequested is true if the server has asked the client for a
	// certificate in the last handshake.
	ClientCertRequested bool
	// Ticket is true if this side is a client and has a ticket of the server
	// with which the session can be resumed. In TLS 1.3 the tickets arrive after
	// the handshake. TicketLifetime is the lifetime that the server has given to
	// the last one, or 0.
	Ticket         bool
	TicketLifetime time.Duration
	// SessionTimeout is the time after which OpenSSL does not resume the session
	// any more, counted from its beginning.
	SessionTimeout time.Duration
	// FIPS is true if only the FIPS provider serves the connection: Options.FIPS
	// is set, or the process was in FIPS mode when the Ctx was made.
	FIPS bool
	// BytesReceived and BytesSent count the bytes of TLS that OpenSSL has read
	// and made, with the headers of the records. Bytes that wait for Outgoing
	// are counted; bytes after the peer's close_notify are not.
	BytesReceived, BytesSent uint64
	// Shown is the certificate that this side has shown to the peer in the last
	// handshake. It is nil before the handshake is done, and if this side has
	// shown no certificate: it has no certificate, the server did not ask the
	// client for one, no identity of the client fits, the suite is anonymous,
	// or the session was resumed. The program must not change it.
	Shown *ShownIdentity
}

// State returns the State of the connection. After Close it is the zero value.
//
// Calls SSL_version(3), SSL_get_current_cipher(3), SSL_get_negotiated_group(3),
// SSL_get0_alpn_selected(3), SSL_get_servername(3), SSL_session_reused(3),
// SSL_get_signature_type_nid(3), SSL_group_to_name(3), SSL_get_peer_tmp_key(3),
// SSL_total_renegotiations(3), SSL_get_secure_renegotiation_support(3),
// SSL_SESSION_has_ticket(3), SSL_SESSION_get_timeout(3), BIO_number_read(3).
func (f *Filter) State() State {
	f.calls++
	if f.ssl == nil {
		return State{}
	}
	s, shown := f.ssl.facts()
	s.HandshakeDone, s.FIPS = f.proved(), f.ctx.fips
	if f.chooser != nil {
		s.ServerName = f.chooser.name
	}
	if shown >= 0 {
		s.Shown = f.ctx.identities[shown].shown
	}
	return s
}

// String describes the connection in one line for a log:
//
//	TLSv1.3 TLS_AES_256_GCM_SHA384 x25519 server peer-signature=ed25519 sni=localhost alpn=h2 received=1873 sent=2954
//
// The line begins with the version, the cipher suite, the group and the role, each
// "-" if it is not known. Then it has, in this order, the words and values that
// apply: handshaking (the handshake is not done), resumed, not-resumed= (the
// reason), fips, no-ems and no-secure-renegotiation (the extensions of RFC 7627 and
// RFC 5746 are missing), client-cert-requested, ticket, renegotiations=, dh-bits=,
// signature=, peer-signature=, shown= (the serial number of the certificate that
// this side has shown), sni=, alpn=, received= and sent=. Later versions of this
// package may add words.
//
// The line is printable ASCII without secrets. Names that the peer chooses are
// quoted if they have characters other than letters, digits and ".:_/*-", so that
// each is one word, and cut if they are long.
func (s State) String() string {
	group := s.GroupName
	if group == "" && s.Group != 0 {
		group = fmt.Sprintf("0x%04x", s.Group)
	}
	version, role := "", "server"
	if s.Version != 0 {
		version = s.Version.String()
	}
	if s.Client {
		role = "client"
	}
	words := []string{cmp.Or(version, "-"), cmp.Or(s.Cipher, "-"), cmp.Or(group, "-"), role}
	word := func(is bool, word string) {
		if is {
			words = append(words, word)
		}
	}
	word(!s.HandshakeDone, "handshaking")
	word(s.Resumed, "resumed")
	word(s.NotResumed != 0, "not-resumed="+s.NotResumed.String())
	word(s.FIPS, "fips")
	word(s.HandshakeDone && !s.ExtendedMasterSecret, "no-ems")
	word(s.HandshakeDone && !s.SecureRenegotiation, "no-secure-renegotiation")
	word(s.ClientCertRequested, "client-cert-requested")
	word(s.Ticket, "ticket")
	word(s.Renegotiations > 0, fmt.Sprintf("renegotiations=%d", s.Renegotiations))
	word(s.DHBits > 0, fmt.Sprintf("dh-bits=%d", s.DHBits))
	word(s.Signature != "", "signature="+s.Signature)
	word(s.PeerSignature != "", "peer-signature="+s.PeerSignature)
	if s.Shown != nil {
		word(true, "shown="+bounded.Text(Hexdump(s.Shown.Serial)))
	}
	word(s.ServerName != "", "sni="+plainWord(s.ServerName))
	word(s.ALPN != "", "alpn="+plainWord(s.ALPN))
	word(true, fmt.Sprintf("received=%d", s.BytesReceived))
	word(true, fmt.Sprintf("sent=%d", s.BytesSent))
	return strings.Join(words, " ")
}

// plainWord returns a text of the peer as one word of a line.
func plainWord(s string) string {
	s = bounded.Text(s)
	if strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:_/*-", r)
	}) {
		return strings.ReplaceAll(strconv.QuoteToASCII(s), " ", `\x20`)
	}
	return s
}

// Cipher returns OpenSSL's name of the cipher suite, "TLS_AES_256_GCM_SHA384",
// or "(NONE)" until one is negotiated.
//
// Corresponds to POE::Filter::SSL getCipher.
// Calls SSL_CIPHER_get_name(3).
func (f *Filter) Cipher() string { return cmp.Or(f.State().Cipher, noCipher) }

const noCipher = "(NONE)" // OpenSSL's name for it

// Version returns OpenSSL's name of the protocol version, "TLSv1.3", or
// "(NONE)" until a cipher suite is negotiated.
//
// Calls SSL_version(3).
func (f *Filter) Version() string {
	if v := f.State().Version; v != 0 {
		return v.String()
	}
	return noCipher
}

// Bits returns the strength of the cipher in bits, or 0 until one is
// negotiated.
//
// Calls SSL_CIPHER_get_bits(3).
func (f *Filter) Bits() int { return f.State().Bits }

// CipherSuite returns the number of the cipher suite (RFC 8446 appendix B.4),
// as in crypto/tls, or 0 until one is negotiated.
//
// Calls SSL_CIPHER_get_protocol_id(3).
func (f *Filter) CipherSuite() uint16 { return f.State().CipherSuite }

// Group returns the number of the key exchange group, or 0; see State.Group.
//
// Calls SSL_get_negotiated_group(3).
func (f *Filter) Group() uint16 { return f.State().Group }

// ALPN returns the negotiated application protocol, or "".
//
// Calls SSL_get0_alpn_selected(3).
func (f *Filter) ALPN() string { return f.State().ALPN }

// ServerName returns the host name in the ClientHello (SNI), or ""; see
// State.ServerName. A server must not trust it.
//
// Calls SSL_get_servername(3).
func (f *Filter) ServerName() string { return f.State().ServerName }

// Resumed reports whether the handshake resumed an earlier session.
//
// Calls SSL_session_reused(3).
func (f *Filter) Resumed() bool {
	f.calls++
	return f.ssl != nil && f.ssl.resumed()
}

// OCSPResponse returns the OCSP response (DER) that the server stapled to its
// certificate, or nil. It is not verified. A client always asks for one; on a
// server it is nil.
//
// Calls SSL_get_tlsext_status_ocsp_resp(3).
func (f *Filter) OCSPResponse() []byte {
	f.calls++
	if f.ssl == nil || !f.ctx.opts.Client {
		return nil
	}
	return f.ssl.ocspResponse()
}

// ExportKeyingMaterial derives length bytes that only the two ends of this
// connection know, from label and context (RFC 5705, RFC 8446 section 7.5). A
// nil context means no context, which in TLS 1.2 is not the same as an empty
// one. length is at most MaxKeyingMaterial.
//
// It returns a *UsageError before the handshake is done, and an *Error in TLS
// 1.2 if the peer does not support the extended master secret (RFC 7627).
//
// Calls SSL_export_keying_material(3).
func (f *Filter) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	f.calls++
	const op = "ExportKeyingMaterial"
	switch {
	case f.ssl == nil:
		return nil, ErrClosed
	case !f.proved():
		return nil, &UsageError{op, "the handshake is not done"}
	case length < 1 || length > MaxKeyingMaterial:
		return nil, &UsageError{op, fmt.Sprintf("length %d; 1 to %d are possible", length, MaxKeyingMaterial)}
	}
	if s, _ := f.ssl.facts(); !s.ExtendedMasterSecret {
		return nil, &Error{Op: "SSL_export_keying_material", Hint: "TLS 1.2 without the extended master secret (RFC 7627): another connection could have the same keys"}
	}
	out := make([]byte, length)
	if err := f.ssl.export(out, label, context); err != nil {
		return nil, err
	}
	return out, nil
}

// MaxKeyingMaterial bounds the length of ExportKeyingMaterial, in bytes: 255
// blocks of SHA-256, which is the limit of HKDF (RFC 5869).
const MaxKeyingMaterial = 255 * 32

// TLSUnique returns the channel binding tls-unique (RFC 5929), or nil. It is
// nil in TLS 1.3, which does not define it. It is also nil if the connection was
// resumed or has no extended master secret (RFC 7627), because it is not safe
// then. After a renegotiation it is the value of the last handshake.
//
// Calls SSL_get_finished(3), SSL_get_peer_finished(3).
func (f *Filter) TLSUnique() []byte {
	f.calls++
	s := f.State()
	if !s.HandshakeDone || s.Version != VersionTLS12 || s.Resumed || !s.ExtendedMasterSecret {
		return nil
	}
	return f.ssl.finished(!f.ctx.opts.Client) // the client's Finished is the first
}
