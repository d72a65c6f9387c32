//go:build cgo

package sslfilter

import "fmt"

// Cipher is OpenSSL's name of the cipher suite, or "(NONE)" before there is
// one: "TLS_AES_256_GCM_SHA384".
//
// Corresponds to POE::Filter::SSL getCipher.
// Calls SSL_CIPHER_get_name(3).
func (f *Filter) Cipher() string {
	f.calls++
	if f.ssl == nil {
		return noCipher
	}
	return f.ssl.cipher()
}

const noCipher = "(NONE)" // OpenSSL's word

// Version is OpenSSL's name of the protocol version, or "(NONE)" before there
// is a cipher suite: "TLSv1.3".
//
// Calls SSL_get_version(3).
func (f *Filter) Version() string {
	f.calls++
	if f.ssl == nil || f.ssl.cipher() == noCipher {
		return noCipher
	}
	return f.ssl.version()
}

// Bits is the strength of the cipher in bits, or 0 before there is one.
//
// Calls SSL_CIPHER_get_bits(3).
func (f *Filter) Bits() int {
	f.calls++
	if f.ssl == nil {
		return 0
	}
	return f.ssl.bits()
}

// CipherSuite is the number of the cipher suite (RFC 8446 appendix B.4), as
// crypto/tls uses it, or 0 before there is one.
//
// Calls SSL_CIPHER_get_protocol_id(3).
func (f *Filter) CipherSuite() uint16 {
	f.calls++
	if f.ssl == nil {
		return 0
	}
	return f.ssl.suite()
}

// Group is the number of the key exchange group (RFC 8446 section 4.2.7), as
// crypto/tls uses it: 29 is X25519. It is 0 before there is one, for DHE with
// parameters of the server's own, and always with OpenSSL 1.1.1, which does
// not tell.
//
// Calls SSL_get_negotiated_group(3).
func (f *Filter) Group() uint16 {
	f.calls++
	if f.ssl == nil {
		return 0
	}
	return f.ssl.group()
}

// ALPN is the application protocol that was agreed on, or "".
//
// Calls SSL_get0_alpn_selected(3).
func (f *Filter) ALPN() string {
	f.calls++
	if f.ssl == nil {
		return ""
	}
	return f.ssl.alpn()
}

// ServerName is the host name in the ClientHello (SNI), or "": on a server the
// one that came, on a client the one that is sent. A server must not trust it.
//
// Calls SSL_get_servername(3).
func (f *Filter) ServerName() string {
	f.calls++
	if f.ssl == nil {
		return ""
	}
	return f.ssl.serverName()
}

// Resumed reports whether the handshake resumed an earlier session.
//
// Calls SSL_session_reused(3).
func (f *Filter) Resumed() bool {
	f.calls++
	return f.ssl != nil && f.ssl.resumed()
}

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
	if !f.ssl.extendedSecret() {
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
// 7627), and nil for every other: TLS 1.3 has none, and elsewhere it is not
// safe. After a renegotiation it is that
// of the last handshake.
//
// Calls SSL_get_finished(3), SSL_get_peer_finished(3).
func (f *Filter) TLSUnique() []byte {
	f.calls++
	if !f.proved() || f.ssl.version() != VersionTLS12.String() || f.ssl.resumed() || !f.ssl.extendedSecret() {
		return nil
	}
	return f.ssl.finished(!f.ctx.opts.Client) // the client's Finished is the first
}
