package filter

import (
	"errors"
	"fmt"
	"reflect"
)

// Filter is one layer of a Stack. It decodes the bytes that come from the
// network and encodes the bytes that go there. It has no socket, no goroutine
// and no clock, and it never blocks. *sslfilter.Filter and *sslfilter.Cipher
// implement it.
//
// Output is appended to slices that the caller owns. A Filter keeps no input
// after the call.
type Filter interface {
	// Receive consumes all of wire, appends the decoded bytes to dst and returns
	// the extended slice. If it appends nothing, it needs more input. The error is
	// io.EOF after the peer has ended its stream in this layer. Every other error
	// is fatal. Data may accompany an error.
	Receive(dst, wire []byte) ([]byte, error)
	// ReceiveEOF tells the filter that no more input will come. It returns io.EOF
	// if the peer had ended its stream, and io.ErrUnexpectedEOF if the stream was
	// truncated.
	ReceiveEOF() error
	// Send accepts bytes for the peer: all of them or, with an error, none. An
	// empty Send starts a layer that speaks first, such as a TLS client. If Err
	// does not return the error afterwards, nothing has changed.
	Send(plain []byte) error
	// Outgoing appends the bytes that are ready for the network to dst and returns
	// the extended slice. It also works after an error, for the alert.
	Outgoing(dst []byte) []byte
	// CloseWrite ends the outgoing direction of this layer, after the data that was
	// sent.
	CloseWrite() error
	// Flushed reports whether Outgoing has returned everything that was sent.
	Flushed() bool
	// Err returns the fatal error that stopped the filter, or nil.
	Err() error
	// Close frees the filter. It sends nothing.
	Close() error
}

// Detacher is a Filter that can be removed from a connection that continues.
// *sslfilter.Filter can be removed after the peer's close_notify.
type Detacher interface {
	// Detach ends the layer in both directions and returns the bytes that arrived
	// after its end. Outgoing then returns the last bytes of the layer. If Detach
	// returns an error, nothing has changed.
	Detach() ([]byte, error)
}

// Finisher is a Filter whose stream ends only with the transport, so that the end
// can complete data, as the last block of a block cipher. *sslfilter.Cipher is one.
type Finisher interface {
	// Finish is called after ReceiveEOF has returned io.EOF. It appends the data
	// that the end has completed to dst and returns the extended slice.
	Finish(dst []byte) ([]byte, error)
}

// Decoder turns bytes into records. A Decoder belongs to one Stack.
type Decoder interface {
	// Decode looks for the next record in data, which begins with the first byte
	// that no earlier call has consumed. The first seen bytes were already in data
	// in the last call, so Decode need not search them again; 0 means a fresh
	// start. Decode returns the number of bytes that it consumed, and the record
	// if one is complete. If it needs more input, rec is nil and n is 0. It may
	// consume bytes without completing a record. It must not keep data. After an
	// error the stream cannot be decoded any further.
	Decode(data []byte, seen int) (rec any, n int, err error)
	// Partial returns the number of bytes that Decode has consumed for a record
	// that is not complete yet.
	Partial() int
}

// Encoder turns records into bytes.
type Encoder interface {
	// Encode appends rec to dst and returns the extended slice. If rec cannot be
	// encoded, it returns an error and nothing has changed.
	Encode(dst []byte, rec any) ([]byte, error)
}

// Codec is the top of a Stack: Stream, Records, Line or HTTPD.
type Codec interface {
	Decoder
	Encoder
}

// Replier is a Decoder that answers the peer by itself, as HTTPD does with
// "100 Continue". The Stack calls Reply after each Decode, and Reply appends the
// answer to dst, if there is one.
type Replier interface {
	Reply(dst []byte) []byte
}

// ErrBufferFull is returned by a call that would exceed MaxUnread or MaxWaiting.
// The call has no effect, and the stack can still be used.
var ErrBufferFull = errors.New("filter: buffer full")

// ErrClosed is returned by every method of a Stack after its Close.
var ErrClosed = errors.New("filter: closed")

// LeftoverError says that a filter cannot be added or removed now, because
// bytes have arrived that do not belong to a record yet. After a STARTTLS
// command or a proxy's answer to CONNECT, an attacker may have injected them
// (CVE-2011-0411). Nothing has changed.
type LeftoverError struct {
	Op string // the method: "Push"
	N  int    // number of bytes
}

func (e *LeftoverError) Error() string {
	return fmt.Sprintf("filter: %s: %d bytes were received before the switch and do not belong to a record yet", e.Op, e.N)
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
