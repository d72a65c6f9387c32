//go:build cgo

package sslfilter

import (
	"fmt"
	"io"
)

// TruncatedError reports that the transport ended without the peer's
// close_notify, so that data which the peer sent may be missing. ReceiveEOF
// returns it. errors.Is matches it with io.ErrUnexpectedEOF.
type TruncatedError struct {
	// InsideRecord is true if the transport ended inside a record, so that a
	// part of the record is missing, and false if it ended between two records.
	// A peer that closes its connection without a close_notify ends it between
	// two records; a crash, or a network that fails, can end it anywhere.
	InsideRecord bool
	// InHandshake is true if a handshake was in progress: the first one or, in
	// TLS 1.2, a renegotiation.
	InHandshake bool

	cipher bool // of a Cipher
}

func (e *TruncatedError) Error() string {
	where := "without close_notify"
	switch {
	case e.cipher && e.InHandshake:
		where = "before its first record (do both sides have the same key, cipher and format?)"
	case e.cipher && !e.InsideRecord:
		where = "without the record that ends its stream"
	case e.InHandshake:
		where = "during the handshake"
	case e.InsideRecord:
		where = "inside a record"
	}
	return "sslfilter: the peer ended the connection " + where + ": " + io.ErrUnexpectedEOF.Error()
}

// Unwrap returns io.ErrUnexpectedEOF.
func (e *TruncatedError) Unwrap() error { return io.ErrUnexpectedEOF }

// ReceiveEOF tells the filter that the transport ended. It returns io.EOF if
// the peer had sent its close_notify, and otherwise a *TruncatedError. After a
// *TruncatedError the filter accepts no more input, as after a fatal error, but
// Outgoing still returns what Send accepted before.
//
// With AllowMissingCloseNotify, ReceiveEOF also returns io.EOF if the transport
// ends between two records after the handshake. Sending is then possible as after
// a close_notify, but Detach returns a *UsageError.
//
// Calls SSL_has_pending(3), SSL_rstate_string(3).
func (f *Filter) ReceiveEOF() error {
	f.calls++
	switch {
	case f.phase == phaseShut:
		return ErrClosed
	case f.readEnd:
		return io.EOF
	case f.err != nil:
		return f.err
	}
	cut := &TruncatedError{InHandshake: f.phase != phaseOpen}
	if f.phase != phaseIdle {
		cut.InsideRecord, cut.InHandshake = f.ssl.truncated()
	}
	if f.ctx.opts.AllowMissingCloseNotify && f.phase == phaseOpen && *cut == (TruncatedError{}) {
		f.readEnd, f.ended, f.aside = true, true, true
		f.debug("the transport ended between two records, without close_notify")
		return io.EOF
	}
	open := f.phase == phaseOpen
	f.fail(cut)
	if open {
		f.phase = phaseCut
	}
	return f.err
}

// keepTrailing keeps bytes that came after the peer's close_notify. It normally
// returns io.EOF.
func (f *Filter) keepTrailing(wire []byte) error {
	if len(f.trailing)+len(wire) > MaxTrailing {
		return fmt.Errorf("%w: more than %d bytes after the peer's close_notify; Detach returns them", ErrBufferFull, MaxTrailing)
	}
	f.trailing = append(f.trailing, wire...)
	return io.EOF
}

// CloseWrite ends this side's direction: Outgoing returns the records of what was
// sent and then this side's close_notify. Reading is possible until the peer's
// close_notify. If the handshake is not done, CloseWrite takes effect after it.
//
// Calls SSL_shutdown(3).
func (f *Filter) CloseWrite() error {
	f.calls++
	if f.phase == phaseDetached {
		return nil
	}
	if err := f.usable(); err != nil {
		return err
	}
	f.closing = true
	return nil
}

// Detach ends TLS and keeps the connection, the reverse of STARTTLS. It can be
// called once the peer's close_notify has come, which is when Receive returns
// io.EOF. It returns the plain bytes that came after the close_notify, which
// belong to the caller. Outgoing then returns the records of what was sent and
// this side's close_notify. The caller must transmit them before any plain byte.
//
// Before that, Detach returns a *UsageError and changes nothing. After Close and
// after a fatal error it returns the same error as every method.
func (f *Filter) Detach() ([]byte, error) {
	f.calls++
	switch {
	case f.phase == phaseDetached:
		return nil, &UsageError{"Detach", "TLS was taken off before"}
	case f.usable() != nil:
		return nil, f.usable()
	case f.ended:
		return nil, &UsageError{"Detach", "the transport ended without the peer's close_notify"}
	case !f.readEnd:
		return nil, &UsageError{"Detach", "the peer's close_notify has not come; call CloseWrite and receive until io.EOF"}
	case !f.closed && f.ssl.negotiating():
		return nil, f.fail(f.endless("SSL_shutdown"))
	}
	f.phase, f.closing = phaseDetached, true
	plain := f.trailing
	f.trailing = nil
	return plain, nil
}
