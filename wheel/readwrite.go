// Package wheel drives a filter.Stack over a connection, with the events of
// POE::Wheel::ReadWrite: a record came, something failed or ended, everything
// that was put has been written, too much waits, and no longer.
//
//	w, err := wheel.New(conn, filter.NewStack(&filter.Line{}), wheel.Events{
//		Input: func(w *wheel.ReadWrite, rec any) {
//			w.Put("you said " + rec.(string))
//		},
//		Error: func(w *wheel.ReadWrite, op string, err error) {
//			w.Close() // io.EOF: the peer has ended its stream
//		},
//	})
//
// Events come one at a time and in order, all from one goroutine. A handler
// may call every method of the wheel but Wait, and should not block: the next
// event waits for it, while what was put is still written. STARTTLS is Push,
// called in the handler of the record that asks for it.
package wheel

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"

	"github.com/seed-014b8713/sslfilter/filter"
)

const (
	// MaxOutput bounds what was put and the connection has not taken, in bytes:
	// Put refuses when as much waits. The last record that is accepted may
	// exceed it by its own length. What comes in is bounded by filter.MaxUnread,
	// and nothing is read while output is at its bound: what is read may cause
	// more. So two wheels that both put as much before either has read wait for
	// each other, as two programs do that both write first and read then. Pace
	// what is put by High and Low where the peer may do the same.
	MaxOutput = filter.MaxWaiting

	readSize = 32 << 10 // bytes of a Read; two TLS records
	maxIdle  = 64 << 10 // largest buffer for output that an idle wheel keeps
)

// The operations that Events.Error names.
const (
	OpRead  = "read"
	OpWrite = "write"
)

var (
	// ErrClosed is returned by methods of a wheel after its Close, and by those of
	// a wheel that New has not made.
	ErrClosed = errors.New("wheel: closed")
	// ErrBufferFull is returned by Put where MaxOutput would be exceeded.
	ErrBufferFull = errors.New("wheel: buffer full")
)

// Events are the handlers of a wheel. Input and Error must be there: without
// Error nobody would learn that the connection is to be closed.
type Events struct {
	// Input gets each record.
	//
	// Corresponds to InputEvent.
	Input func(w *ReadWrite, rec any)
	// Error is told what stopped reading or writing, once for each op; again for
	// OpRead only when a change of filters has made reading possible again. For OpRead, io.EOF is a clean end: the
	// peer's close_notify, or the end of a connection without TLS;
	// io.ErrUnexpectedEOF is a connection or a record that was cut off. Writing
	// goes on after an error of reading, so that an answer or an alert can leave.
	// The wheel does not close itself.
	//
	// Corresponds to ErrorEvent.
	Error func(w *ReadWrite, op string, err error)
	// Flushed is told that all that was put has been written, also what was put
	// before a handshake was done, and after ShutdownOutput that the output has
	// ended. Bytes of a handshake alone are not reported. May be nil.
	//
	// Corresponds to FlushedEvent.
	Flushed func(w *ReadWrite)
	// High is told that OutOctets has reached HighMark, Low that it has come down
	// to LowMark after that. May be nil.
	//
	// Corresponds to HighEvent and LowEvent.
	High, Low func(w *ReadWrite)

	// HighMark and LowMark are in bytes; 0 is no mark.
	//
	// Corresponds to HighMark and LowMark.
	HighMark, LowMark int
}

// ReadWrite drives a stack over a connection. Its methods may be called from
// any goroutine. It has three goroutines, one that reads, one that writes and
// one for the events, which end after Close; none of them polls.
//
// Corresponds to POE::Wheel::ReadWrite.
type ReadWrite struct {
	conn   io.ReadWriteCloser
	events Events
	input  chan read     // from the reader to the event loop
	more   chan struct{} // to the reader: read on
	wake   chan struct{} // to the event loop: look again
	closed chan struct{}
	ended  sync.WaitGroup

	mu       sync.Mutex
	write    sync.Cond // something is to be written, or closed
	stack    *filter.Stack
	unread   []byte // read, and more than the stack takes now
	dirty    bool   // the stack may have something for the writer
	writing  int    // bytes that the writer has taken
	unsaid   bool   // there was a Put since Flushed was told
	high     bool   // above the high mark
	sayHigh  bool
	sayLow   bool
	paused   bool
	noInput  bool  // ShutdownInput
	last     bool  // ShutdownOutput: the output ends behind what waits
	lastDone bool  // it has
	writeErr error // what stopped writing
	sayWrite bool
	readErr  error // how reading ended, until the filters are changed
	connErr  error // what Read said, other than io.EOF
	shut     bool
}

// read is what a Read gave.
type read struct {
	data []byte
	err  error
}

// New starts a wheel. It owns conn and stack from then on, and starts the
// handshake of a client. A nil stack is one with a filter.Line, as in the
// original. Close of conn must end its Read and Write, as that of a net.Conn does.
//
// Corresponds to POE::Wheel::ReadWrite new.
func New(conn io.ReadWriteCloser, stack *filter.Stack, events Events) (*ReadWrite, error) {
	switch {
	case conn == nil:
		return nil, errors.New("wheel: no connection")
	case events.Input == nil || events.Error == nil:
		return nil, errors.New("wheel: Events needs Input and Error")
	case events.HighMark < 0 || events.LowMark < 0 || events.HighMark > 0 && events.LowMark >= events.HighMark:
		return nil, fmt.Errorf("wheel: HighMark %d and LowMark %d; LowMark must be the lower one", events.HighMark, events.LowMark)
	}
	if stack == nil {
		stack = filter.NewStack(new(filter.Line))
	}
	w := &ReadWrite{
		conn: conn, stack: stack, events: events,
		input: make(chan read), more: make(chan struct{}), wake: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	w.write.L = &w.mu
	w.dirty = true // a client speaks first
	w.ended.Go(w.reader)
	w.ended.Go(w.writer)
	w.ended.Go(w.loop)
	return w, nil
}

// Put sends records, each of a type that the codec takes. It never blocks. What
// is put before a handshake is done is sent behind it. An error names the
// record it stopped at; those in front of it were accepted.
//
// Corresponds to POE::Wheel::ReadWrite put; what that returns is AboveHighMark.
func (w *ReadWrite) Put(records ...any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, rec := range records {
		if err := w.put(rec); err != nil {
			return fmt.Errorf("wheel: Put: record %d of %d: %w", i+1, len(records), err)
		}
	}
	return nil
}

func (w *ReadWrite) put(rec any) error {
	switch {
	case w.shut || w.stack == nil:
		return ErrClosed
	case w.writeErr != nil:
		return w.writeErr
	case w.last:
		return errors.New("the output was shut down")
	case w.octets() >= MaxOutput:
		return fmt.Errorf("%w: %d bytes wait, which is MaxOutput or more", ErrBufferFull, w.octets())
	}
	if err := w.stack.Send(rec); err != nil {
		return err
	}
	w.unsaid = true
	w.send()
	w.poke() // a codec may have waited for the answer
	return nil
}

// send makes the writer look into the stack.
func (w *ReadWrite) send() {
	w.dirty = true
	w.marks()
	w.write.Signal()
}

// octets counts what waits.
func (w *ReadWrite) octets() int {
	if w.stack == nil { // a zero wheel
		return 0
	}
	return w.writing + w.stack.Waiting()
}

// marks looks whether a water mark was crossed.
func (w *ReadWrite) marks() {
	n := w.octets()
	switch {
	case w.events.HighMark == 0:
	case !w.high && n >= w.events.HighMark:
		w.high, w.sayHigh = true, true
	case w.high && n <= w.events.LowMark:
		w.high, w.sayLow = false, true
	}
}

// poke makes the event loop look again.
func (w *ReadWrite) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// OutOctets counts the bytes that were put and not written: encrypted ones, and
// those that wait for a handshake.
//
// Corresponds to POE::Wheel::ReadWrite get_driver_out_octets.
func (w *ReadWrite) OutOctets() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.octets()
}

// AboveHighMark reports whether OutOctets has reached HighMark and not come
// down to LowMark since.
func (w *ReadWrite) AboveHighMark() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.high
}

// Do calls f with the stack, which no other goroutine uses meanwhile. f may
// change it, or ask its filters. What it sends is written, and what its
// changes have made readable comes as Input. f must not call the wheel.
func (w *ReadWrite) Do(f func(*filter.Stack) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.shut || w.stack == nil:
		return ErrClosed
	case f == nil:
		return errors.New("wheel: Do without a function")
	}
	before := w.stack.Filters()
	err := f(w.stack)
	if !slices.EqualFunc(before, w.stack.Filters(), same) {
		w.readErr = nil // a filter that had ended may be gone
	}
	w.send()
	w.poke()
	return err
}

func same(a, b filter.Filter) bool { return reflect.TypeOf(a).Comparable() && a == b }

// Push puts a filter on top of the others: STARTTLS. See filter.Stack.Push.
//
// Corresponds to POE::Wheel::ReadWrite set_filter with a POE::Filter::SSL.
func (w *ReadWrite) Push(f filter.Filter, opts ...filter.Option) error {
	return w.Do(func(s *filter.Stack) error { return s.Push(f, opts...) })
}

// Pop takes the top filter off, TLS once the peer has ended it, which Error
// reports as io.EOF of OpRead. Reading goes on. See filter.Stack.Pop.
func (w *ReadWrite) Pop(opts ...filter.Option) (f filter.Filter, err error) {
	err = w.Do(func(s *filter.Stack) (err error) {
		f, err = s.Pop(opts...)
		return err
	})
	return f, err
}

// SetFilter changes the codec, from the next record on. See
// filter.Stack.SetCodec.
//
// Corresponds to POE::Wheel::ReadWrite set_filter.
func (w *ReadWrite) SetFilter(c filter.Codec) error {
	return w.setDecoder(func(s *filter.Stack) error { return s.SetCodec(c) })
}

// SetInputFilter changes the codec of what comes in. The filters under it serve
// both directions and cannot be halved.
//
// Corresponds to POE::Wheel::ReadWrite set_input_filter.
func (w *ReadWrite) SetInputFilter(d filter.Decoder) error {
	return w.setDecoder(func(s *filter.Stack) error { return s.SetDecoder(d) })
}

// setDecoder hands the part of a record at the end of the input to the new
// codec.
func (w *ReadWrite) setDecoder(set func(*filter.Stack) error) error {
	return w.Do(func(s *filter.Stack) error {
		err := set(s)
		if err == nil && s.Unread() > 0 {
			w.readErr = nil
		}
		return err
	})
}

// SetOutputFilter changes the codec of what is put.
//
// Corresponds to POE::Wheel::ReadWrite set_output_filter.
func (w *ReadWrite) SetOutputFilter(e filter.Encoder) error {
	return w.Do(func(s *filter.Stack) error { return s.SetEncoder(e) })
}

// PauseInput stops Input and reading, so that the peer has to wait, until
// ResumeInput. A record that is being handed out is the last.
//
// Corresponds to POE::Wheel::ReadWrite pause_input.
func (w *ReadWrite) PauseInput() { w.setPaused(true) }

// ResumeInput goes on reading.
//
// Corresponds to POE::Wheel::ReadWrite resume_input.
func (w *ReadWrite) ResumeInput() { w.setPaused(false) }

func (w *ReadWrite) setPaused(paused bool) {
	w.mu.Lock()
	w.paused = paused
	w.mu.Unlock()
	w.poke()
}

// ShutdownInput ends reading: no Input and no error of OpRead comes any more. A
// connection that has CloseRead, as a TCP connection does, is told.
//
// Corresponds to POE::Wheel::ReadWrite shutdown_input.
func (w *ReadWrite) ShutdownInput() error {
	w.mu.Lock()
	w.noInput = true
	w.mu.Unlock()
	w.poke()
	if c, ok := w.conn.(interface{ CloseRead() error }); ok {
		return c.CloseRead()
	}
	return nil
}

// ShutdownOutput ends the output behind what was put: with close_notify where
// there is TLS, and CloseWrite of a connection that has it, as a TCP connection
// does. Then Flushed is told. Before a handshake is done it waits for that.
//
// Corresponds to POE::Wheel::ReadWrite shutdown_output, which drops what waits.
func (w *ReadWrite) ShutdownOutput() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.shut || w.stack == nil:
		return ErrClosed
	case w.writeErr != nil:
		return w.writeErr
	}
	w.last, w.unsaid = true, true
	err := w.stack.CloseWrite()
	w.send()
	return err
}

// Close closes the connection and the filters at once, whatever waits, and
// ends the goroutines; Wait waits for them. If a handler calls it, no event
// follows; otherwise the one that is under way does. It is idempotent. For an
// orderly end call ShutdownOutput first and Close in Flushed.
//
// Corresponds to the end of the last reference to a POE::Wheel::ReadWrite.
func (w *ReadWrite) Close() error {
	w.mu.Lock()
	if w.shut || w.stack == nil {
		w.mu.Unlock()
		return nil
	}
	w.shut = true
	w.unread = nil
	close(w.closed)
	w.write.Signal()
	err := w.stack.Close()
	w.mu.Unlock()
	return errors.Join(w.conn.Close(), err)
}

// Wait returns when the wheel's goroutines have ended after Close. A handler
// must not call it.
func (w *ReadWrite) Wait() { w.ended.Wait() }
