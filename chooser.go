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
// Before the choice the ClientHello is read and nothing is answered. Afterwards
// the Filter behaves like one of the chosen Ctx. If choose returns an error or a
// nil Ctx, the client gets the alert unrecognized_name, and the error of Receive
// is a *ServerNameError. If the Ctx is a client's or is closed, or if choose
// panics, the client gets internal_error. A refusal calls no ErrorHandler, and
// nothing is logged to Debug, because both are options of a Ctx. choose must not
// close the Ctx that it returns; after the call of Receive it may be closed.
//
// If the client has to send a second ClientHello (HelloRetryRequest) and changes
// its server name or its protocols, the handshake fails with illegal_parameter.
//
// Until the choice the connection has no options. Input that is not TLS, or that
// ends before the ClientHello is complete, causes the same errors as on other
// servers, but calls no ErrorHandler. If choose is nil or memory is short, the
// Filter has failed; Err returns the error. Clone makes a Filter that calls the
// same choose. The caller closes the Filter after use.
//
// Calls SSL_CTX_set_client_hello_cb(3).
func NewServerFilter(choose func(*ClientHello) (*Ctx, error)) *Filter {
	f, err := newChooser(choose)
	if err != nil {
		return &Filter{ctx: noContext, phase: phaseFailed, err: err}
	}
	return f
}

// ServerNameError reports that a server refuses a ClientHello because no context
// has its server name, or for another reason of the function that chooses.
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
	name   string // the server name in the ClientHello
	busy   bool   // choose is running
}

// noContext takes the place of the context in a Filter that has none.
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
	ctx, err := acquireReading()
	if err != nil {
		return nil, err
	}
	f, err := newFilter(ctx)
	if err != nil {
		return nil, err
	}
	f.phase, f.chooser = phaseHello, &chooser{choose: choose}
	return f, nil
}

// acquireReading returns a reference to what Filters share before the choice.
func acquireReading() (*sharedCtx, error) {
	reading.Lock()
	defer reading.Unlock()
	if reading.ctx == nil {
		ctx, err := helloContext()
		if err != nil {
			return nil, err
		}
		reading.ctx = &sharedCtx{ctxHandle: ctx, fips: FIPSEnabled()}
	}
	reading.ctx.users.Acquire()
	return reading.ctx, nil
}

// receiveHello is Receive until the context is chosen. Afterwards OpenSSL gets
// the same bytes again, with the chosen context.
func (f *Filter) receiveHello(dst, wire []byte) ([]byte, error) {
	c := f.chooser
	if c.busy {
		return dst, &UsageError{"Receive", "the function that chooses the context is running"}
	}
	hello, taken, err := f.readHello(len(c.wire), wire)
	if err == nil && hello == nil {
		c.wire = append(c.wire, wire[:taken]...)
		return dst, nil
	}
	before := c.wire
	c.wire = nil
	if err == nil {
		err = f.useChosen(hello)
	}
	if err != nil {
		return dst, err
	}
	if len(before) > 0 {
		wire = slices.Concat(before, wire)
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
	c, returned := f.chooser, false
	c.name, c.busy = hello.ServerName, true
	defer func() {
		c.busy = false
		if !returned && f.ssl != nil { // choose panicked
			f.refuse(alertInternalError, &ServerNameError{hello.ServerName, errors.New("the function that chooses has panicked")})
		}
	}()
	ctx, err := c.choose(hello)
	returned = true
	alert := alertUnrecognizedName
	switch {
	case f.phase != phaseHello: // choose has closed f or called ReceiveEOF, which it should not
		return f.usable()
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
