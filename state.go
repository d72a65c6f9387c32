//go:build cgo

package sslfilter

import (
	"cmp"
	"fmt"
)

// State is what is known of a connection: what the two sides agreed on, and with
// what. It is a copy. Fields that are not known yet are zero.
type State struct {
	// HandshakeDone says that the handshake is complete and succeeded. It stays
	// true after a later error.
	HandshakeDone bool
	Client        bool // this side is the client
	// Version is zero before there is a cipher suite.
	Version Version
	// Cipher is OpenSSL's name of the cipher suite, "TLS_AES_256_GCM_SHA384", and
	// CipherSuite its number (RFC 8446 appendix B.4), as in crypto/tls.
	Cipher      string
	CipherSuite uint16
	Bits        int // the strength of the cipher
	// Group is the number of the key exchange group (RFC 8446 section 4.2.7), as
	// in crypto/tls: 29 is X25519. It is zero for DHE with the server's own
	// parameters, and always with OpenSSL 1.1.1, which does not tell.
	Group uint16
	ALPN  string // the application protocol that was agreed on
	// ServerName is the host name in the ClientHello (SNI): on a server the name
	// that the client sent, on a client the name that it sends. A server must not
	// trust it.
	ServerName string
	Resumed    bool // the handshake resumed an earlier session
	// ExtendedMasterSecret says that the secret belongs to this handshake alone
	// (RFC 7627). In TLS 1.3 it always does.
	ExtendedMasterSecret bool
}

// State returns what is known of the connection. After Close it is the zero value.
//
// Calls SSL_version(3), SSL_get_current_cipher(3), SSL_get_negotiated_group(3),
// SSL_get0_alpn_selected(3), SSL_get_servername(3), SSL_session_reused(3).
func (f *Filter) State() State {
	f.calls++
	if f.ssl == nil {
		return State{}
	}
	s := f.ssl.facts()
	s.HandshakeDone = f.proved()
	return s
}

// Cipher is OpenSSL's name of the cipher suite, or "(NONE)" before there is
// one: "TLS_AES_256_GCM_SHA384".
//
// Corresponds to POE::Filter::SSL getCipher.
// Calls SSL_CIPHER_get_name(3).
func (f *Filter) Cipher() string { return cmp.Or(f.State().Cipher, noCipher) }

const noCipher = "(NONE)" // OpenSSL's word

// Version is OpenSSL's name of the protocol version, or "(NONE)" before there
// is a cipher suite: "TLSv1.3".
//
// Calls SSL_version(3).
func (f *Filter) Version() string {
	if v := f.State().Version; v != 0 {
		return v.String()
	}
	return noCipher
}

// Bits is the strength of the cipher in bits, or 0 before there is one.
//
// Calls SSL_CIPHER_get_bits(3).
func (f *Filter) Bits() int { return f.State().Bits }

// CipherSuite is the number of the cipher suite (RFC 8446 appendix B.4), as
// crypto/tls uses it, or 0 before there is one.
//
// Calls SSL_CIPHER_get_protocol_id(3).
func (f *Filter) CipherSuite() uint16 { return f.State().CipherSuite }

// Group is the number of the key exchange group, or 0; see State.Group.
//
// Calls SSL_get_negotiated_group(3).
func (f *Filter) Group() uint16 { return f.State().Group }

// ALPN is the application protocol that was agreed on, or "".
//
// Calls SSL_get0_alpn_selected(3).
func (f *Filter) ALPN() string { return f.State().ALPN }

// ServerName is the host name in the ClientHello (SNI), or ""; see
// State.ServerName. A server must not trust it.
//
// Calls SSL_get_servername(3).
func (f *Filter) ServerName() string { return f.State().ServerName }

// Resumed reports whether the handshake resumed an earlier session.
//
// Calls SSL_session_reused(3).
func (f *Filter) Resumed() bool { return f.State().Resumed }

// OCSPResponse is the OCSP response (DER) that the server stapled to its
// certificate, or nil. Nobody has verified it. A client always asks for one.
//
// Calls SSL_get_tlsext_status_ocsp_resp(3).
func (f *Filter) OCSPResponse() []byte {
	f.calls++
	if f.ssl == nil || !f.ctx.opts.Client {
		return nil
	}
	return f.ssl.ocspResponse()
}

// ExportKeyingMaterial gives length bytes that only the two ends of this
// connection know, for label and context (RFC 5705, RFC 8446 section 7.5). A
// nil context is none, which in TLS 1.2 is not the same as an empty one. The
// handshake must be done; length is at most MaxKeyingMaterial. In TLS 1.2 it is
// an error where the peer lacks the extended master secret (RFC 7627).
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
	if !f.ssl.facts().ExtendedMasterSecret {
		return nil, &Error{Op: "SSL_export_keying_material", Hint: "TLS 1.2 without the extended master secret (RFC 7627): another connection could have the same keys"}
	}
	out := make([]byte, length)
	if err := f.ssl.export(out, label, context); err != nil {
		return nil, err
	}
	return out, nil
}

// MaxKeyingMaterial bounds ExportKeyingMaterial, in bytes: 255 blocks of
// SHA-256, which is what HKDF gives (RFC 5869).
const MaxKeyingMaterial = 255 * 32

// TLSUnique is the channel binding tls-unique (RFC 5929) of a TLS 1.2
// connection that was not resumed and has the extended master secret (RFC
// 7627), and nil for every other connection: TLS 1.3 does not define it, and
// elsewhere it is not safe. After a renegotiation it is that of the last handshake.
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
