package filter

import (
	"errors"
	"fmt"
	"reflect"
)

// Filter is one layer of a Stack: bytes from the network's side go in and
// decoded bytes come out, and back. It owns no socket, no goroutine and no
// clock, and never blocks. *sslfilter.Filter is one, by its methods alone.
//
// Output is appended to slices that the caller owns, and no input is kept
// beyond the call.
type Filter interface {
	// Receive takes all of wire and appends what came of it to dst, which it
	// returns as append does. Nothing new means that more input is needed. The
	// error is io.EOF once the peer has ended its stream in this layer, possibly
	// together with data; every other error is fatal, and data may come with it.
	Receive(dst, wire []byte) ([]byte, error)
	// ReceiveEOF says that no more input will come. The answer is io.EOF if the
	// peer had ended its stream, and io.ErrUnexpectedEOF if it was cut.
	ReceiveEOF() error
	// Send accepts bytes for the peer, all or, with an error, none of them. With
	// nothing to send it starts a layer that speaks first, a TLS client. An
	// error that is not in Err afterwards has changed nothing.
	Send(plain []byte) error
	// Outgoing appends what waits for the network's side to dst, and returns it.
	// It also works after an error, for the alert.
	Outgoing(dst []byte) []byte
	// CloseWrite ends our direction in this layer, behind what was sent.
	CloseWrite() error
	// Flushed reports whether Outgoing has handed out everything that was sent.
	Flushed() bool
	// Err is the fatal error that stopped the filter, or nil.
	Err() error
	// Close frees the filter. It sends nothing.
	Close() error
}

// Detacher is a Filter that can be taken off a connection that goes on, as
// *sslfilter.Filter can once the peer's close_notify has come.
type Detacher interface {
	// Detach ends the layer in both directions and gives the bytes that came
	// behind its end. Outgoing then hands out the last bytes of the layer. With
	// an error nothing has changed.
	Detach() ([]byte, error)
}

// Decoder makes records of bytes. A Decoder belongs to one Stack.
type Decoder interface {
	// Decode looks for the next record in data, which begins with the first
	// byte that no earlier call has taken. The first seen bytes were already in
	// data in the last call, so that it need not look at them again; 0 means a
	// fresh start. It returns how many bytes it took, and the record if one is
	// complete; rec is nil and n is 0 if more input is needed. It may take bytes
	// without completing a record. It must not keep data. An error stays: the
	// stream cannot be decoded any further.
	Decode(data []byte, seen int) (rec any, n int, err error)
	// Partial counts the bytes that Decode has taken and that are in no record yet.
	Partial() int
}

// Encoder makes bytes of records.
type Encoder interface {
	// Encode appends rec to dst, and returns it as append does. A record that
	// cannot be encoded is an error, and then nothing has changed.
	Encode(dst []byte, rec any) ([]byte, error)
}

// Codec is what stands on top of a Stack: Stream, Records, Line or HTTPD.
type Codec interface {
	Decoder
	Encoder
}

// Replier is a Decoder that answers the peer by itself, as HTTPD does with
// "100 Continue". Reply appends the answer to dst; it is asked after each Decode.
type Replier interface {
	Reply(dst []byte) []byte
}

// ErrBufferFull is returned where a named bound would be exceeded: MaxUnread
// or MaxWaiting. Nothing was taken, and the stack goes on.
var ErrBufferFull = errors.New("filter: buffer full")

// ErrClosed is returned by every method of a Stack after its Close.
var ErrClosed = errors.New("filter: closed")

// LeftoverError says that a filter cannot be put in or taken off now, because
// bytes have come that no record has taken. Behind a STARTTLS command they are
// what an attacker may have injected (CVE-2011-0411). Nothing has changed.
type LeftoverError struct {
	Op string // the method: "Push"
	N  int    // how many bytes are in the way
}

func (e *LeftoverError) Error() string {
	return fmt.Sprintf("filter: %s: %d bytes were received before the switch and are in no record", e.Op, e.N)
}

// isNil reports whether v is nil, or an interface that holds a nil pointer.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	p := reflect.ValueOf(v)
	return p.Kind() == reflect.Pointer && p.IsNil()
}

// errNil is the error of a call that was given a nil filter or codec.
func errNil(op, what string) error { return fmt.Errorf("filter: %s: the %s is nil", op, what) }

// recordType is the error of an Encode that cannot encode rec.
func recordType(codec string, rec any, want string) error {
	return fmt.Errorf("filter: %s: cannot send a %T, only %s", codec, rec, want)
}
