//go:build cgo

package sslfilter

import (
	"errors"
	"slices"
	"strconv"
	"sync"
)

// NewServerFilter makes one connection of a server whose context depends on the
// ClientHello: for example on the server name, as NameMap.Choose does. Receive
// calls choose once, as soon as the ClientHello has arrived. It runs inside
// Receive, may take its time, and must not call the Filter.
//
// After the choice the Filter is in every respect one of the chosen Ctx: nothing
// of the handshake is done before. If choose returns an error or a nil Ctx, the
// client gets the alert unrecognized_name, and the error of Receive is a
// *ServerNameError. If the Ctx is a client's or is closed, or if choose panics,
// the client gets internal_error. The Ctx may be closed when the call of Receive
// is over.
//
// Until the choice there are no options: what is not TLS and what ends before the
// ClientHello is complete makes the same errors as on other servers, but calls no
// ErrorHandler. If choose is nil or memory is short, the Filter has failed; Err
// returns the error. Clone makes a Filter that calls the same choose. The caller
// closes the Filter after use.
//
// Calls SSL_CTX_set_client_hello_cb(3).
func NewServerFilter(choose func(*ClientHello) (*Ctx, error)) *Filter {
	f, err := newChooser(choose)
	if err != nil {
		return &Filter{ctx: noContext, phase: phaseFailed, err: err}
	}
	return f
}

// ServerNameError reports that a server refuses a ClientHello because there is no
// context for its server name, or for another reason of the function that
// chooses.
type ServerNameError struct {
	ServerName string // as the client sent it; empty if it sent none
	Err        error  // of the function that chooses; nil if it returned none
}

func (e *ServerNameError) Error() string {
	client := "a client without a server name"
	if e.ServerName != "" {
		client = "the server name " + strconv.QuoteToASCII(e.ServerName)
	}
	if e.Err == nil {
		return "sslfilter: there is no context for " + client
	}
	return "sslfilter: no context is chosen for " + client + ": " + bare(e.Err).Error()
}

// Unwrap returns Err.
func (e *ServerNameError) Unwrap() error { return e.Err }

// chooser is the part of a Filter of NewServerFilter.
type chooser struct {
	choose func(*ClientHello) (*Ctx, error)
	wire   []byte // the bytes received before the choice; at most MaxClientHello
}

// noContext takes the place of a context if there is none.
var noContext = new(sharedCtx)

// reading is what Filters share before the choice. It is made when it is first
// needed.
var reading struct {
	sync.Mutex
	ctx *sharedCtx
}

func newChooser(choose func(*ClientHello) (*Ctx, error)) (*Filter, error) {
	if choose == nil {
		return nil, &UsageError{"NewServerFilter", "choose is nil"}
	}
	reading.Lock()
	defer reading.Unlock()
	if reading.ctx == nil {
		ctx, err := helloContext()
		if err != nil {
			return nil, err
		}
		reading.ctx = &sharedCtx{ctxHandle: ctx}
	}
	reading.ctx.users.Acquire()
	f, err := newFilter(reading.ctx)
	if err != nil {
		return nil, err
	}
	f.phase, f.chooser = phaseHello, &chooser{choose: choose}
	return f, nil
}

// receiveHello is Receive until the context is chosen. Afterwards OpenSSL gets
// the same bytes again, with the chosen context.
func (f *Filter) receiveHello(dst, wire []byte) ([]byte, error) {
	c := f.chooser
	hello, taken, err := f.readHello(len(c.wire), wire)
	switch {
	case err != nil:
		return dst, err
	case hello == nil:
		c.wire = append(c.wire, wire[:taken]...)
		return dst, nil
	}
	if err := f.useChosen(hello); err != nil {
		return dst, err
	}
	if len(c.wire) > 0 {
		wire = slices.Concat(c.wire, wire)
		c.wire = nil
	}
	return f.Receive(dst, wire)
}

// readHello gives wire to OpenSSL, after the first n bytes. The result is nil,
// nil if more bytes are needed. A ClientHello that is too long fails at the same
// byte however the input is cut.
func (f *Filter) readHello(n int, wire []byte) (hello *ClientHello, taken int, err error) {
	first := wire[:min(len(wire), MaxClientHello-n)]
	_, taken, _, st := f.ssl.receive(nil, first)
	switch {
	case st == statusHello:
		return f.ssl.hello(), taken, nil
	case st != statusOK:
		return nil, taken, f.failure("SSL_do_handshake", st)
	case len(first) < len(wire):
		f.ssl.helloTooLong()
		return nil, taken, f.fail(errLongHello)
	}
	return nil, taken, nil
}

// useChosen calls choose and makes f a Filter of the chosen context. An error
// freezes f.
func (f *Filter) useChosen(hello *ClientHello) error {
	returned := false
	defer func() {
		if !returned { // choose panicked
			f.refuse(alertInternalError, &ServerNameError{hello.ServerName, errors.New("the function that chooses has panicked")})
		}
	}()
	ctx, err := f.chooser.choose(hello)
	returned = true
	alert := alertUnrecognizedName
	switch {
	case f.ssl == nil: // choose has closed f, which it should not
		return ErrClosed
	case err != nil || ctx == nil:
	case ctx.Client():
		alert, err = alertInternalError, &UsageError{"NewServerFilter", "choose returned the context of a client"}
	case !ctx.acquire():
		alert, err = alertInternalError, &UsageError{"NewServerFilter", "choose returned a context that is closed"}
	default:
		return f.become(ctx.shared, hello.ServerName)
	}
	var refusal *ServerNameError
	if !errors.As(err, &refusal) {
		err = &ServerNameError{hello.ServerName, err}
	}
	return f.refuse(alert, err)
}

// refuse ends the handshake with an alert for the client.
func (f *Filter) refuse(alert int, err error) error {
	if f.ssl != nil {
		f.ssl.refuseHello(alert)
	}
	return f.fail(err)
}

// become makes f a Filter of s, as newFilter does, and takes over one of its
// references.
func (f *Filter) become(s *sharedCtx, name string) error {
	ssl, err := newSSL(s.ctxHandle, &s.conn)
	if err != nil {
		s.release()
		return f.refuse(alertInternalError, err)
	}
	f.ssl.giveHello(ssl)
	f.ssl.close()
	f.ctx.release()
	f.ctx, f.ssl = s, ssl
	f.logs = s.opts.KeyLog != nil
	f.aside = f.logs
	f.debug("context chosen", "name", name)
	return f.start("Receive")
}
