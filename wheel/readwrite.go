// Package wheel drives a filter.Stack over a connection and calls event handlers.
// The events are those of POE::Wheel::ReadWrite: a record has arrived, reading or
// writing has failed or ended, all output has been written, and the output has
// reached the high or the low watermark.
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
// A single goroutine calls the handlers, one at a time and in order. A handler may
// call every method of the wheel except Wait. It should not block: the next event
// waits for it, although output is still written. For STARTTLS, call Push in the
// handler of the record that asks for it.
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
	// MaxOutput bounds the output that the connection has not taken yet, in bytes:
	// Put fails if this much is waiting. The last record that Put accepts may exceed
	// the bound by its own length. Input is bounded by filter.MaxUnread. While output
	// is at its bound, nothing is read, because input may cause more output.
	// Therefore two wheels wait for each other forever if both put this much before
	// either has read, like two programs that both write first and then read. If the
	// peer may do the same, use High and Low to pace the output.
	MaxOutput = filter.MaxWaiting

	readSize = 32 << 10 // bytes of a Read; two TLS records
	maxIdle  = 64 << 10 // largest output buffer that an idle wheel keeps
)

// The values of op in Events.Error.
const (
	OpRead  = "read"
	OpWrite = "write"
)

var (
	// ErrClosed is returned by the methods of a wheel after its Close, and by those
	// of a wheel that was not made by New.
	ErrClosed = errors.New("wheel: closed")
	// ErrBufferFull is returned by Put if MaxOutput bytes or more are waiting.
	ErrBufferFull = errors.New("wheel: buffer full")
)

// Events are the handlers of a wheel. Input and Error must be set: without Error,
// nothing would close the connection after a failure.
type Events struct {
	// Input is called with each record.
	//
	// Corresponds to InputEvent.
	Input func(w *ReadWrite, rec any)
	// Error is called when reading or writing has ended, once for each op. It is
	// called again for OpRead only after a change of filters has made reading
	// possible again. For OpRead, io.EOF is a clean end: the peer's close_notify, or
	// the end of a connection without TLS. io.ErrUnexpectedEOF is a connection or a
	// record that was truncated. Writing continues after an error of reading, so that
	// an answer or an alert can be sent. The wheel does not close itself.
	//
	// Corresponds to ErrorEvent.
	Error func(w *ReadWrite, op string, err error)
	// Flushed is called when all output has been written, including output that was
	// put before a handshake was done, and after ShutdownOutput when the output has
	// ended. It is not called if only bytes of a handshake were written. May be nil.
	//
	// Corresponds to FlushedEvent.
	Flushed func(w *ReadWrite)
	// High is called when OutOctets has reached HighMark, and Low when it has fallen
	// to LowMark after that. Both may be nil.
	//
	// Corresponds to HighEvent and LowEvent.
	High, Low func(w *ReadWrite)

	// HighMark and LowMark are in bytes. If HighMark is 0, High and Low are not
	// called.
	//
	// Corresponds to HighMark and LowMark.
	HighMark, LowMark int
}

// ReadWrite drives a stack over a connection. Its methods may be called from any
// goroutine. It has three goroutines: one reads, one writes and one calls the
// handlers. They end after Close. None of them polls.
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
	write    sync.Cond // signaled when there is output to write, and by Close
	stack    *filter.Stack
	unread   []byte // read from conn, but the stack cannot take it yet
	dirty    bool   // the stack may have output for the writer
	writing  int    // bytes that the writer is writing to conn
	unsaid   bool   // Flushed is due after the output is written
	high     bool   // above the high watermark
	sayHigh  bool   // High is due
	sayLow   bool   // Low is due
	paused   bool   // by PauseInput
	noInput  bool   // ShutdownInput was called
	last     bool   // ShutdownOutput was called: the output ends after what is waiting
	lastDone bool   // the output has ended
	writeErr error  // what stopped writing
	sayWrite bool   // Error is due for writeErr
	readErr  error  // what ended reading, until the filters are changed
	connErr  error  // error of the last Read of conn
	shut     bool   // Close was called
}

// read is the result of a Read of conn.
type read struct {
	data []byte
	err  error
}

// New starts a wheel, which takes ownership of conn and stack. If the stack has a
// TLS client, the handshake starts. A nil stack means a new stack with a
// filter.Line, as in the original. Close of conn must end its Read and Write, as it
// does in a net.Conn.
//
// Corresponds to POE::Wheel::ReadWrite new.
func New(conn io.ReadWriteCloser, stack *filter.Stack, events Events) (*ReadWrite, error) {
	switch {
	case conn == nil:
		return nil, errors.New("wheel: no connection")
	case events.Input == nil || events.Error == nil:
		return nil, errors.New("wheel: Events must have Input and Error")
	case events.HighMark < 0 || events.LowMark < 0 || events.HighMark > 0 && events.LowMark >= events.HighMark:
		return nil, fmt.Errorf("wheel: want 0 <= LowMark < HighMark, got HighMark %d and LowMark %d", events.HighMark, events.LowMark)
	}
	if stack == nil {
		stack = filter.NewStack(new(filter.Line))
	}
	w := &ReadWrite{
		conn: conn, stack: stack, events: events,
		input: make(chan read), more: make(chan struct{}), wake: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	w.write.L = &w.mu
	w.dirty = true // a TLS client sends first
	w.ended.Go(w.reader)
	w.ended.Go(w.writer)
	w.ended.Go(w.loop)
	return w, nil
}

// Put sends records, which must be of a type that the codec encodes. It never
// blocks. Records that are put before a handshake is done are sent after it. An
// error names the record that failed. The records before it were accepted.
//
// Corresponds to POE::Wheel::ReadWrite put, which returns the value of
// AboveHighMark.
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
		return fmt.Errorf("%w: %d bytes are waiting and MaxOutput is %d", ErrBufferFull, w.octets(), MaxOutput)
	}
	if err := w.stack.Send(rec); err != nil {
		return err
	}
	w.unsaid = true
	w.send()
	w.poke() // the codec may have been waiting for an answer
	return nil
}

// send wakes the writer, which takes the output of the stack.
func (w *ReadWrite) send() {
	w.dirty = true
	w.marks()
	w.write.Signal()
}

// octets returns the number of bytes of output that are waiting.
func (w *ReadWrite) octets() int {
	if w.stack == nil { // not made by New
		return 0
	}
	return w.writing + w.stack.Waiting()
}

// marks checks whether the output has crossed a watermark.
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

// poke wakes the event loop.
func (w *ReadWrite) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// OutOctets returns the number of bytes of output that have not been written:
// encrypted bytes, and plaintext that waits for a handshake.
//
// Corresponds to POE::Wheel::ReadWrite get_driver_out_octets.
func (w *ReadWrite) OutOctets() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.octets()
}

// AboveHighMark reports whether OutOctets has reached HighMark and has not fallen to
// LowMark since.
func (w *ReadWrite) AboveHighMark() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.high
}

// Do calls f with the stack, which no other goroutine uses in the meantime. f may
// change the stack and call its filters. Data that f sends is written, and records
// that its changes made readable are passed to Input. f must not call methods of
// the wheel.
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
		w.readErr = nil // the filter that had ended may have been removed
	}
	w.send()
	w.poke()
	return err
}

func same(a, b filter.Filter) bool { return reflect.TypeOf(a).Comparable() && a == b }

// Push puts a filter on top of the others, as for STARTTLS. See filter.Stack.Push.
//
// Corresponds to POE::Wheel::ReadWrite set_filter with a POE::Filter::SSL.
func (w *ReadWrite) Push(f filter.Filter, opts ...filter.Option) error {
	return w.Do(func(s *filter.Stack) error { return s.Push(f, opts...) })
}

// Pop removes the top filter. TLS can be removed after the peer has ended it, which
// Error reports as io.EOF of OpRead. Reading continues. See filter.Stack.Pop.
func (w *ReadWrite) Pop(opts ...filter.Option) (f filter.Filter, err error) {
	err = w.Do(func(s *filter.Stack) (err error) {
		f, err = s.Pop(opts...)
		return err
	})
	return f, err
}

// SetFilter replaces the codec, starting with the next record. See
// filter.Stack.SetCodec.
//
// Corresponds to POE::Wheel::ReadWrite set_filter.
func (w *ReadWrite) SetFilter(c filter.Codec) error {
	return w.setDecoder(func(s *filter.Stack) error { return s.SetCodec(c) })
}

// SetInputFilter replaces the codec for input only. The filters below the codec
// serve both directions and cannot be replaced for one of them.
//
// Corresponds to POE::Wheel::ReadWrite set_input_filter.
func (w *ReadWrite) SetInputFilter(d filter.Decoder) error {
	return w.setDecoder(func(s *filter.Stack) error { return s.SetDecoder(d) })
}

// setDecoder calls set. If reading had ended with an incomplete record in the
// input, the new codec gets the bytes of that record.
func (w *ReadWrite) setDecoder(set func(*filter.Stack) error) error {
	return w.Do(func(s *filter.Stack) error {
		err := set(s)
		if err == nil && s.Unread() > 0 {
			w.readErr = nil
		}
		return err
	})
}

// SetOutputFilter replaces the codec for output only.
//
// Corresponds to POE::Wheel::ReadWrite set_output_filter.
func (w *ReadWrite) SetOutputFilter(e filter.Encoder) error {
	return w.Do(func(s *filter.Stack) error { return s.SetEncoder(e) })
}

// PauseInput stops reading and calls of Input until ResumeInput, so that the peer
// has to wait. A call of Input that is in progress is the last one.
//
// Corresponds to POE::Wheel::ReadWrite pause_input.
func (w *ReadWrite) PauseInput() { w.setPaused(true) }

// ResumeInput continues reading after PauseInput.
//
// Corresponds to POE::Wheel::ReadWrite resume_input.
func (w *ReadWrite) ResumeInput() { w.setPaused(false) }

func (w *ReadWrite) setPaused(paused bool) {
	w.mu.Lock()
	w.paused = paused
	w.mu.Unlock()
	w.poke()
}

// ShutdownInput ends reading: Input is not called any more, nor is Error for OpRead.
// If the connection has a method CloseRead, as a TCP connection does, ShutdownInput
// calls it.
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

// ShutdownOutput ends the output after all records that were put. It sends
// close_notify if there is TLS, and calls CloseWrite of the connection if it has
// that method, as a TCP connection does. After that, Flushed is called. If a
// handshake is not done yet, all this happens after the handshake.
//
// Corresponds to POE::Wheel::ReadWrite shutdown_output, which drops output that is
// waiting.
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

// Close closes the connection and the filters immediately, dropping output that is
// waiting, and ends the goroutines. Use Wait to wait for them. If a handler calls
// Close, no event follows. Otherwise an event in progress may still follow. Close
// may be called more than once. For an orderly end, call ShutdownOutput first and
// Close in Flushed.
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

// Wait waits until the wheel's goroutines have ended after Close. A handler must not
// call it.
func (w *ReadWrite) Wait() { w.ended.Wait() }
