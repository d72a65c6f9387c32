//go:build cgo

package sslfilter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// after returns nil, or freezes the filter and returns the error of a failed
// call into C.
func (f *Filter) after(op string, st status) error {
	if st < statusOK {
		return f.failure(op, st)
	}
	return nil
}

// failure freezes the filter with the error of a failed call into C, and
// returns it.
func (f *Filter) failure(op string, st status) error {
	switch st {
	case statusFull:
		return f.fail(fmt.Errorf("%w: %s: Outgoing was not called, or the peer sent too many key updates at once", ErrBufferFull, op))
	case statusMemory:
		return f.fail(outOfMemory(op, nil))
	case statusRounds:
		return f.fail(&Error{Op: op, Hint: fmt.Sprintf("the server asked for more than %d renegotiations", renegotiationsFollowed)})
	case statusNoCert:
		hint := "the server showed no certificate, and this client verifies it"
		if !f.ctx.opts.Client {
			hint = "the client showed no certificate, and this server requires one"
		}
		return f.fail(&Error{
			Op: op, Hint: hint,
			cause: &VerifyError{Code: VerifyUnspecified},
		})
	}
	e := f.ssl.failure(op)
	if refusal := f.ssl.verdict().refusal(); refusal != nil && e.cause == nil {
		if refusal.Code == VerifyHostnameMismatch || refusal.Code == VerifyIPAddressMismatch {
			refusal.ServerName = f.wantedName()
		}
		e.cause = refusal
	}
	if e.cause == nil && f.ctx.opts.Client && opensslNumber() >= 0x30600000 && e.has("tlsv1 bad certificate status response") {
		f.ssl.ocspUnparsed()
		e.cause = f.ssl.ocsp().Err
	}
	if ocsp := f.ssl.ocsp(); e.cause == nil && !ocsp.OK() && e.has("invalid status response") {
		e.cause = ocsp.Err
	}
	e.Peer = f.refusedPeer()
	f.explain(e)
	return f.fail(e)
}

// fail freezes the filter and returns the error that froze it, which may be an
// earlier one.
func (f *Filter) fail(err error) error {
	if f.err != nil {
		return f.err
	}
	f.err = err
	if f.phase != phaseDetached {
		f.phase = phaseFailed
	}
	f.debug("failed", "error", err)
	if handler := f.ctx.opts.ErrorHandler; handler != nil {
		f.logKeys() // the handler may close f, which it should not
		handler(f, err)
	}
	return err
}

// explain adds a hint to the error of a common failure.
func (f *Filter) explain(e *Error) {
	var refused *VerifyError
	switch {
	case f.listsErr != nil && errors.As(e, &refused) && refused.Code == VerifyUnableToGetCRL:
		e.Hint = bare(f.listsErr).Error()
	case e.Code == zeroReturn && !f.proved():
		e.Hint = "the peer closed the connection in the handshake"
	case f.ssl.helloChanged():
		e.Hint = "after the HelloRetryRequest, the client changed its server name or its protocols"
	case len(e.Records) == 0:
		e.Hint = "OpenSSL gives no reason, as happens when memory is short"
	case e.has("no shared cipher"):
		offered := f.ssl.offered()
		e.Hint = "this side can negotiate " + strings.Join(f.ctx.usable, ":")
		if offered != "" { // OpenSSL does not know it in TLS 1.3
			e.Hint = fmt.Sprintf("the peer offered %s; %s", offered, e.Hint)
		}
	case e.PlainHTTP():
		e.Hint = "the peer speaks plain HTTP"
	case e.has("wrong version number"), e.has("packet length too long"), e.has("data length too long"), e.has("bad record type"):
		e.Hint = "the peer seems not to speak TLS"
		if f.proved() {
			e.Hint = "the peer sent something that is not TLS"
		}
	case (e.has("no suitable signature algorithm") || e.has("legacy sigalg disallowed or unsupported")) && f.ssl.protocol() < VersionTLS12:
		e.Hint = "with OpenSSL 3.0 and later, " + f.ssl.protocol().String() + " needs @SECLEVEL=0 in Cipher"
	case e.has("unsupported protocol"), e.has("wrong ssl version"):
		e.Hint = "this side does not allow the peer's protocol versions; see MinVersion, MaxVersion and TLS12"
	}
}

// unencrypted describes the record at which OpenSSL failed, if it is an
// unencrypted alert or ChangeCipherSpec of the peer; otherwise it returns "".
// OpenSSL stops after the header of such a record or after all of it. taken and
// rest are the input of Receive before and after that point. A record that came
// in several pieces is not recognized. Therefore the description is only for
// Debug and not part of the error, whose text must not depend on how the input
// was cut.
func unencrypted(taken, rest []byte) string {
	const header = 5
	ends := taken[max(0, len(taken)-header-2):]
	for i := range ends {
		record := slices.Concat(ends[i:], rest[:min(2, len(rest))])
		switch {
		case len(record) < header+1 || record[1] != 3 || record[2] > 4 || record[3] != 0:
		case record[0] == 21 && record[4] == 2 && len(record) >= header+2 && (record[5] == 1 || record[5] == 2):
			return "an alert without encryption, " + AlertError(record[6]).name()
		case record[0] == 20 && record[4] == 1 && record[5] == 1:
			return "a ChangeCipherSpec without encryption"
		}
	}
	return ""
}
