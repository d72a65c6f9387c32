//go:build cgo

package sslfilter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
)

// ErrClosed is returned by the methods of a Filter or Ctx after Close, and by those
// of a value that no constructor made. The exceptions are Close, which can be called
// again, and Err, which still returns the error that ended the connection. After
// Close, a method without an error result returns what it returned before the
// handshake; such methods of a Ctx still describe its options.
var ErrClosed = errors.New("sslfilter: closed")

// ErrBufferFull is returned if a bound would be exceeded: MaxPlaintext for
// plaintext that waits for the handshake or for Outgoing, MaxTrailing for bytes
// after a close_notify. The input is not accepted, and the connection
// continues. In one case it is fatal, and Err returns it: the peer makes
// OpenSSL produce ever more answers and the program never calls Outgoing.
var ErrBufferFull = errors.New("sslfilter: buffer full")

// Error is a failure of OpenSSL. Its text has the reason of the oldest record.
//
// errors.As finds a *VerifyError in it if the peer's certificate was rejected,
// and an AlertError if the peer sent a fatal alert.
type Error struct {
	Op      string        // the OpenSSL call: "SSL_do_handshake"
	Code    int           // SSL_get_error(3), or 0 if the call does not have one
	Records []ErrorRecord // OpenSSL's whole error queue, oldest first
	Hint    string        // the meaning of the error here, or a remedy; often empty
	// If a handshake fails after the peer has sent a certificate, Peer describes
	// that certificate. It is nil if the peer sent none that OpenSSL can read, and
	// after the handshake. It has at most about 100 KiB of certificates, the size that
	// OpenSSL accepts, and their names.
	//
	// WARNING: The peer has not proved that it has the key of the certificate,
	// which anyone may have sent. Peer.KeyProved is false.
	Peer *Peer

	cause error
}

// ErrorRecord is one entry of OpenSSL's error queue.
type ErrorRecord struct {
	Code    uint64 // library and reason, as ERR_get_error(3) packs them; OpenSSL 3.0 and 1.1.1 differ
	Library string // "SSL routines"
	Reason  string // "no shared cipher"; may be empty
	Func    string // may be empty; always empty with OpenSSL 1.1.1
	File    string // OpenSSL's source file
	Line    int
	Data    string // additional text, for some errors

	alert int
}

// String formats the record as ERR_error_string(3) does: "error:0A0000C1:SSL
// routines::no shared cipher".
func (r ErrorRecord) String() string {
	return fmt.Sprintf("error:%08X:%s::%s", r.Code, r.Library, r.reason())
}

func (r ErrorRecord) reason() string {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.Data != "":
		return r.Data
	}
	return fmt.Sprintf("error %08X", r.Code)
}

func (e *Error) Error() string {
	text := "sslfilter: " + e.Op
	if alert, ok := e.cause.(AlertError); ok { // OpenSSL's text differs between versions
		text += ": " + bare(alert).Error()
	}
	switch {
	case len(e.Records) > 0:
		text += ": " + e.Records[0].reason()
	case e.Hint == "" && e.Code == 0:
		text += ": failed"
	case e.Hint == "":
		text += fmt.Sprintf(": failed (SSL_get_error %d)", e.Code)
	}
	var verify *VerifyError
	if errors.As(e.cause, &verify) {
		text += ": " + bare(verify).Error()
	}
	if e.Hint != "" {
		text += ": " + bounded.Text(e.Hint)
	}
	return text
}

// PlainHTTP reports whether the handshake failed because the client sent a
// plain HTTP request, which may be CONNECT, instead of TLS.
func (e *Error) PlainHTTP() bool {
	return e.has("http request") || e.has("https proxy request")
}

// Unwrap returns the *VerifyError or AlertError that caused the failure, or
// nil.
func (e *Error) Unwrap() error { return e.cause }

// AlertError is a fatal alert sent by the peer. Its value is the number of RFC
// 8446 section 6.
type AlertError uint8

func (a AlertError) Error() string { return "sslfilter: the peer sent the alert " + a.name() }

// name returns the alert's name and number: "bad_certificate (42)".
func (a AlertError) name() string {
	name := alertNames[a]
	if name == "" {
		name = "unknown"
	}
	return fmt.Sprintf("%s (%d)", name, uint8(a))
}

// alertNames has the names of RFC 8446 section 6 and of IANA's registry.
// OpenSSL does not know all of them.
var alertNames = map[AlertError]string{
	0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed", 22: "record_overflow", 30: "decompression_failure",
	40: "handshake_failure", 41: "no_certificate", 42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked",
	45: "certificate_expired", 46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied",
	50: "decode_error", 51: "decrypt_error", 60: "export_restriction", 70: "protocol_version", 71: "insufficient_security",
	80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
	110: "unsupported_extension", 111: "certificate_unobtainable", 112: "unrecognized_name", 113: "bad_certificate_status_response",
	114: "bad_certificate_hash_value", 115: "unknown_psk_identity", 116: "certificate_required", 120: "no_application_protocol",
	121: "ech_required",
}

// VerifyError is the reason why a peer's certificate was rejected. Its fields
// are exact; in its text, strings that the peer has chosen are cut to about 1
// KiB.
type VerifyError struct {
	Code    VerifyCode
	Depth   int    // 0 is the peer's own certificate
	Subject string // of the certificate at that depth, in X509_NAME_oneline form
	// NotBefore and NotAfter are the first and last moment at which that
	// certificate is valid. They are zero if there is no certificate, or if
	// OpenSSL cannot read them.
	NotBefore, NotAfter time.Time
	// ServerName is, for VerifyHostnameMismatch and VerifyIPAddressMismatch,
	// the name or IP address that the certificate should have.
	ServerName string
	// Names has, for the same codes, the DNS names and IP addresses in the
	// certificate's subjectAltName. The common name does not count (RFC 9525).
	Names []string

	altNames altNames
	ocsp     string // what is wrong with the OCSP response, or ""
}

func (e *VerifyError) Error() string {
	if e.Subject == "" {
		return fmt.Sprintf("sslfilter: verify: %s (%d)%s", e.Code, int(e.Code), e.detail())
	}
	return fmt.Sprintf("sslfilter: verify: %s (%d) at depth %d: %s%s", e.Code, int(e.Code), e.Depth, bounded.Text(e.Subject), e.detail())
}

// detail returns what is known in addition to the code and the certificate, or
// "".
func (e *VerifyError) detail() string {
	if e.ocsp != "" {
		return ": " + e.ocsp
	}
	if e.ServerName == "" {
		return validity(e.Code, e.NotBefore, e.NotAfter)
	}
	wanted := bounded.Text(printable(e.ServerName))
	switch {
	case len(e.Names) > 0:
		return fmt.Sprintf(": the certificate is for %s, not for %s", bounded.Text(printable(strings.Join(e.Names, ", "))), wanted)
	case e.altNames == altNamesMissing:
		return fmt.Sprintf(": the certificate has no subjectAltName, and its common name does not count; wanted %s", wanted)
	case e.altNames == altNamesBad:
		return fmt.Sprintf(": the certificate's subjectAltName cannot be read; wanted %s", wanted)
	case e.altNames == altNamesRead:
		return fmt.Sprintf(": the certificate's subjectAltName has no DNS name and no IP address; wanted %s", wanted)
	}
	return ": wanted " + wanted
}

// validity returns the date that an error is about, or "".
func validity(code VerifyCode, notBefore, notAfter time.Time) string {
	const layout = "2006-01-02 15:04:05 UTC"
	switch {
	case code == VerifyCertHasExpired && !notAfter.IsZero():
		return ": it was valid until " + notAfter.UTC().Format(layout)
	case code == VerifyCertNotYetValid && !notBefore.IsZero():
		return ": it is valid from " + notBefore.UTC().Format(layout)
	}
	return ""
}

// printable returns s, or s quoted with escapes if it has a character that is
// not printable ASCII: the peer has chosen it, and it is written to logs.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// OptionError is a wrong value in Options. It names the option and, if the
// value is a file, the file.
type OptionError struct {
	Option string // the field's name: "Crt"
	File   string // empty if the option does not name a file
	Err    error
	Hint   string // another remedy, for the calling program only; often empty
}

func (e *OptionError) Error() string {
	text := "sslfilter: option " + e.Option
	if e.File != "" {
		text += " (" + e.File + ")"
	}
	text += ": " + bare(e.Err).Error()
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Unwrap returns the cause, for example an *Error of OpenSSL or an error that
// matches fs.ErrNotExist.
func (e *OptionError) Unwrap() error { return e.Err }

// UsageError is a mistake of the calling program, never of the peer. The call
// that returned it has not changed the Filter.
type UsageError struct {
	Op  string // the method: "SetServerName"
	Msg string
}

func (e *UsageError) Error() string { return "sslfilter: " + e.Op + ": " + e.Msg }

// bare returns err without the package's prefix, for use within another text.
func bare(err error) error { return bareError{err} }

type bareError struct{ error }

func (e bareError) Error() string { return strings.TrimPrefix(e.error.Error(), "sslfilter: ") }

func (e bareError) Unwrap() error { return e.error }

// newError returns the Error of op, with the peer's alert as its cause if
// records has one.
func newError(op string, code int, records []ErrorRecord) *Error {
	e := &Error{Op: op, Code: code, Records: records}
	for _, r := range records {
		if r.alert >= 0 {
			e.cause = AlertError(r.alert)
			break
		}
	}
	return e
}

// errNoMemory is the cause of an Error if C has no memory left: nothing was
// judged, and the next attempt may succeed.
var errNoMemory = errors.New("sslfilter: out of memory")

// outOfMemory returns the error of op if memory has run out.
func outOfMemory(op string, records []ErrorRecord) *Error {
	return &Error{Op: op, Records: records, Hint: "out of memory", cause: errNoMemory}
}

// has reports whether any record has this reason.
func (e *Error) has(reason string) bool {
	for _, r := range e.Records {
		if r.Reason == reason {
			return true
		}
	}
	return false
}
