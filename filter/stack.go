package filter

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// MaxUnread bounds what Receive decodes and Next has not handed out, in
	// bytes. It is as much as an engine accepts in one Send.
	MaxUnread = 16 << 20
	// MaxWaiting bounds what Send accepts before Outgoing has handed it out, in
	// bytes: Send refuses when as much waits, for a handshake or for Outgoing.
	// The last record that is accepted may exceed it by its own length.
	MaxWaiting = 8 << 20

	maxGrowth = 1 << 20  // what filters may add to MaxUnread in one Receive
	piece     = 1 << 20  // bytes that are given to a filter's Send at once
	maxIdle   = 64 << 10 // largest buffer that an idle stack keeps
)

// Stack is any number of filters, from the network inward, with a record
// codec on top. See the package documentation for the loop.
//
// A Stack can only be used by one goroutine at a time, and the same goes for
// the filters in it, whose own methods may be called between calls of the
// stack. No method blocks.
//
// After a fatal error a Stack is frozen: input is dropped, Receive and Send
// return the same error every time, Next does so behind the records that had
// arrived, and Outgoing still hands out what was made before, the alert for the
// peer among it.
//
// The zero Stack is a stack without filters, with Stream as its codec.
//
// Corresponds to POE::Filter::Stackable.
type Stack struct {
	dec    Decoder
	enc    Encoder
	layers []layer

	plain []byte // through all filters and in no record yet
	off   int    // where it begins
	seen  int    // how much of it the decoder has looked at
	skip  byte   // the other half of a newline, if it comes next; 0 is none
	cuts  cuts   // the records in plain, if dec keeps records

	encoded []byte // reused: the record that Send encodes
	held    []byte // sent, and not accepted by the top filter
	apart   apart  // sent after held, record by record; see Records
	out     []byte // for the network
	waiting int    // bytes that Send accepted since everything was handed out

	closing bool  // CloseWrite was called
	ended   bool  // the transport ended
	broken  error // the decoder's
	err     error // a filter's; fatal
	closed  bool
}

// layer is a filter and what lies between it and the next one.
type layer struct {
	Filter
	decoded []byte    // reused: what the next filter gets
	held    []byte    // for the filter below, which has not accepted it
	skip    byte      // the other half of a newline, if it comes next; 0 is none
	cut     recordCut // where the records of its input end, if it speaks TLS
	end     error     // how its input ended: io.EOF, io.ErrUnexpectedEOF; nil is not
	closing bool      // CloseWrite was called
}

// NewStack makes a stack without filters, which passes everything on. If codec
// is nil, the stack uses Stream.
//
// Corresponds to POE::Filter::Stackable new.
func NewStack(codec Codec) *Stack {
	if isNil(codec) {
		codec = Stream{}
	}
	return &Stack{dec: codec, enc: codec}
}

// Receive takes all of wire, bytes from the network however they are cut, and
// sends them through the filters. Next hands out what came of it; take
// Outgoing too after every call, after an error as well. The stack keeps no
// part of wire.
//
// ErrBufferFull means that MaxUnread would be exceeded: nothing was taken, and
// Next has to be called first. Any other error is fatal.
//
// Corresponds to POE::Filter::Stackable get_one_start.
func (s *Stack) Receive(wire []byte) error {
	if err := s.usable(); err != nil {
		return err
	}
	if n := len(s.plain) - s.off; n+len(wire) > MaxUnread {
		return fmt.Errorf("%w: %d bytes wait for Next, and %d more exceed MaxUnread", ErrBufferFull, n, len(wire))
	}
	s.feed(0, wire)
	if s.broken != nil {
		s.take(len(s.plain) - s.off)
	}
	return s.err
}

// usable returns the error of a stack that takes no more calls, or nil. It
// gives the zero Stack its codec.
func (s *Stack) usable() error {
	if s.closed {
		return ErrClosed
	}
	if s.dec == nil {
		s.dec = Stream{}
	}
	if s.enc == nil {
		s.enc = Stream{}
	}
	return s.err
}

// feed gives data to layer i, what it makes of them to the next, and so on.
func (s *Stack) feed(i int, data []byte) {
	for ; i < len(s.layers) && len(data) > 0; i++ {
		l := &s.layers[i]
		data = skip(&l.skip, data)
		if _, ok := l.Filter.(handshaker); ok {
			if i == len(s.layers)-1 && keepsRecords(s.dec) {
				s.feedRecords(l, data)
				return
			}
			l.cut.skip(data)
		}
		to := &l.decoded
		before := 0
		if i == len(s.layers)-1 && s.skip == 0 {
			to = s.room()
			before = len(*to)
		} else {
			*to = (*to)[:0]
		}
		var err error
		*to, err = l.Receive(*to, data)
		s.note(l, err)
		if to != &l.decoded {
			s.grown(len(*to) - before)
			s.cutHere()
			return
		}
		data = *to
		if cap(*to) > maxIdle {
			*to = nil
		}
	}
	s.arrived(data)
	s.cutHere()
}

// note keeps how a Receive of l ended.
func (s *Stack) note(l *layer, err error) {
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		l.end = io.EOF
	default:
		s.fail(err)
	}
}

// arrived adds what has passed all filters to plain.
func (s *Stack) arrived(data []byte) {
	data = skip(&s.skip, data)
	to := s.room()
	*to = append(*to, data...)
	s.grown(len(data))
}

// skip drops the byte that ends a newline, if it comes first.
func skip(b *byte, data []byte) []byte {
	if *b == 0 || len(data) == 0 {
		return data
	}
	if data[0] == *b {
		data = data[1:]
	}
	*b = 0
	return data
}

// room makes the front of plain free again.
func (s *Stack) room() *[]byte {
	if s.off > 0 {
		s.plain = s.plain[:copy(s.plain, s.plain[s.off:])]
		s.off = 0
	}
	return &s.plain
}

// grown is the bound for filters that make much of little.
func (s *Stack) grown(n int) {
	if n > 0 && len(s.plain) > MaxUnread+maxGrowth {
		s.fail(fmt.Errorf("%w: the filters made more than %d bytes", ErrBufferFull, MaxUnread+maxGrowth))
	}
}

// Next hands out the next record. nil without an error means that more input
// is needed. Behind the last record the error is io.EOF when the peer has
// ended its stream, io.ErrUnexpectedEOF when the connection or the last record
// was cut off, and otherwise what is fatal. The end of the top filter counts:
// a connection that is cut behind a close_notify ended well.
//
// io.EOF is no longer true after the filter that ended is taken off.
//
// Corresponds to POE::Filter::Stackable get_one.
func (s *Stack) Next() (any, error) {
	for !s.closed && s.broken == nil && len(s.plain)-s.off > s.seen {
		rec, n, err := s.dec.Decode(s.undecoded(), s.seen)
		s.seen = 0
		s.take(n)
		s.reply()
		switch {
		case err != nil:
			s.broken = err
			s.take(len(s.plain) - s.off)
		case rec != nil:
			return rec, nil
		case n == 0:
			s.seen = len(s.plain) - s.off
		}
	}
	return nil, s.end()
}

// take drops the first n bytes of plain.
func (s *Stack) take(n int) {
	s.cuts.took(n)
	if s.off += n; s.off < len(s.plain) {
		return
	}
	s.plain, s.off = s.plain[:0], 0
	if cap(s.plain) > maxIdle {
		s.plain = nil
	}
}

// reply sends what the decoder says by itself.
func (s *Stack) reply() {
	r, ok := s.dec.(Replier)
	if !ok || s.closing || s.err != nil {
		return
	}
	if answer := r.Reply(nil); len(answer) > 0 {
		s.send(answer)
	}
}

// end says why there is no record.
func (s *Stack) end() error {
	switch {
	case s.closed:
		return ErrClosed
	case s.broken != nil:
		return s.broken
	case s.err != nil:
		return s.err
	}
	err := s.inputEnd()
	if n := s.Unread(); errors.Is(err, io.EOF) && n > 0 {
		return fmt.Errorf("filter: %d bytes of an incomplete record at the end: %w", n, io.ErrUnexpectedEOF)
	}
	return err
}

// inputEnd is how the input of the top filter ended, or nil.
func (s *Stack) inputEnd() error {
	if len(s.layers) == 0 {
		if s.ended {
			return io.EOF
		}
		return nil
	}
	if top := s.layers[len(s.layers)-1].end; top != nil {
		return top
	}
	for _, l := range s.layers {
		if l.end != nil { // nothing comes any more, and the top did not say so
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// ReceiveEOF says that the transport ended. Next then gives the records that
// had arrived and the end behind them; the answer here is that end: io.EOF if
// the peer ended its stream, io.ErrUnexpectedEOF if the connection was cut.
// A stack without filters cannot tell.
func (s *Stack) ReceiveEOF() error {
	if err := s.usable(); err != nil {
		return err
	}
	if !s.ended {
		s.ended = true
		for i := range s.layers {
			s.layers[i].endInput()
		}
	}
	return s.end()
}

// endInput tells the filter that its input ended.
func (l *layer) endInput() {
	if err := l.ReceiveEOF(); l.end == nil {
		l.end = err
	}
}

// Unread counts the bytes that have arrived and that are in no record.
func (s *Stack) Unread() int {
	n := len(s.plain) - s.off
	if s.dec != nil {
		n += s.dec.Partial()
	}
	return n
}

// Send accepts a record for the peer; which types it can have depends on the
// codec. Outgoing hands out the bytes. What is sent before a handshake is done
// is kept in order.
//
// With an error that is not fatal nothing was sent: a record that cannot be
// encoded, ErrBufferFull where MaxWaiting bytes wait already, or what the top
// filter says.
//
// Corresponds to POE::Filter::Stackable put.
func (s *Stack) Send(rec any) error {
	switch {
	case s.usable() != nil:
		return s.usable()
	case s.closing:
		return errors.New("filter: Send after CloseWrite")
	case s.waiting >= MaxWaiting:
		return fmt.Errorf("%w: %d bytes wait for Outgoing or for a handshake, which is MaxWaiting or more", ErrBufferFull, s.waiting)
	}
	b, err := s.enc.Encode(s.encoded[:0], rec)
	if err != nil {
		return err
	}
	if s.encoded = b; cap(b) > maxIdle {
		s.encoded = nil
	}
	s.seen = 0 // HTTPD may have waited for the answer
	if keepsRecords(s.enc) || s.apart.len() > 0 {
		return s.sendApart(b)
	}
	return s.send(b)
}

// send gives b to the top filter.
func (s *Stack) send(b []byte) error {
	s.waiting += len(b)
	if len(s.layers) == 0 {
		s.out = append(s.out, b...)
		return nil
	}
	if len(s.held) > 0 {
		s.held = append(s.held, b...)
		return nil
	}
	n, err := s.layers[len(s.layers)-1].accept(b)
	switch {
	case err == nil:
	case s.layers[len(s.layers)-1].Err() != nil:
		s.fail(err)
	case n > 0:
		s.held, err = append(s.held, b[n:]...), nil
	default:
		s.waiting -= len(b)
	}
	return err
}

// accept sends b in pieces and returns how much was accepted.
func (l *layer) accept(b []byte) (n int, err error) {
	for n < len(b) {
		end := min(n+piece, len(b))
		if err := l.Send(b[n:end]); err != nil {
			return n, err
		}
		n = end
	}
	return n, nil
}

// Outgoing appends all bytes that wait for the network to dst, which it
// returns as append does. The caller owns them and must transmit them in order.
// It also works after an error.
//
// Corresponds to POE::Filter::Stackable put.
func (s *Stack) Outgoing(dst []byte) []byte {
	if s.closed {
		return dst
	}
	for more := true; more; {
		dst = append(dst, s.out...)
		if s.out = s.out[:0]; cap(s.out) > maxIdle {
			s.out = nil
		}
		dst = s.pull(dst)
		more = s.giveApart()
	}
	if s.waiting > 0 && s.flushed() {
		s.waiting = 0
	}
	return dst
}

// drain moves what was sent into out, as far as the filters accept it.
func (s *Stack) drain() {
	for more := true; more; more = s.giveApart() {
		s.out = s.pull(s.out)
	}
}

// pull moves what was sent down through the filters and appends what comes out
// at the bottom.
func (s *Stack) pull(dst []byte) []byte {
	for len(s.layers) > 0 {
		before, stuck := len(dst), s.give(len(s.layers)-1)
		for i := len(s.layers) - 1; i > 0; i-- {
			l := &s.layers[i]
			l.held = l.Outgoing(l.held)
			s.check(l)
			stuck = s.give(i-1) || stuck
		}
		dst = s.layers[0].Outgoing(dst)
		s.check(&s.layers[0])
		if !stuck || len(dst) == before {
			break
		}
	}
	return dst
}

// check finds an error of Outgoing. That the input was cut is none: what was
// sent before can still leave.
func (s *Stack) check(l *layer) {
	if err := l.Err(); err != nil && err != l.end {
		s.fail(err)
	}
}

// above is what has to go into layer i.
func (s *Stack) above(i int) *[]byte {
	if i+1 < len(s.layers) {
		return &s.layers[i+1].held
	}
	return &s.held
}

// waitingAbove counts the bytes that layer i has not accepted.
func (s *Stack) waitingAbove(i int) int {
	n := len(*s.above(i))
	if i+1 >= len(s.layers) {
		n += s.apart.len()
	}
	return n
}

// give hands what lies above layer i to it, and reports whether some is left.
// Behind the end of what is above it ends the layer's direction too.
func (s *Stack) give(i int) (stuck bool) {
	l, held := &s.layers[i], s.above(i)
	n, err := l.accept(*held)
	if err != nil && (l.Err() != nil || l.closing) {
		n = len(*held) // nobody will ever take it
		s.check(l)
	}
	*held = slices.Delete(*held, 0, n)
	if len(*held) > 0 {
		return true
	}
	if cap(*held) > maxIdle {
		*held = nil
	}
	if s.closing && !l.closing && (i+1 == len(s.layers) && s.apart.len() == 0 || i+1 < len(s.layers) && s.layers[i+1].closing && s.layers[i+1].Flushed()) {
		l.closing = true
		if err := l.CloseWrite(); err != nil {
			s.check(l)
		}
	}
	return false
}

// CloseWrite ends our direction: Outgoing hands out what was sent and then the
// end of each filter, close_notify for TLS. Reading goes on. In a handshake it
// takes effect afterwards.
//
// To end TLS alone, and go on in plain text, call CloseWrite of that filter
// instead, and Pop once the peer has answered.
func (s *Stack) CloseWrite() error {
	if err := s.usable(); err != nil {
		return err
	}
	s.closing = true
	return nil
}

// Flushed reports whether everything that was sent has gone through the filters
// and Outgoing has handed it out.
func (s *Stack) Flushed() bool { return s.closed || s.flushed() }

func (s *Stack) flushed() bool {
	if len(s.held)+s.apart.len()+len(s.out) > 0 {
		return false
	}
	for i := range s.layers {
		l := &s.layers[i]
		if len(l.held) > 0 || s.closing && !l.closing || !l.Flushed() {
			return false
		}
	}
	return true
}

// Waiting counts the bytes of records that Send has accepted since everything
// was handed out last; 0 if nothing waits. Until a handshake is done that is
// all that was sent.
func (s *Stack) Waiting() int { return s.waiting }

// Err is the fatal error that froze the stack, or nil. An error of the decoder
// is none: it ends reading, and an answer can still be sent.
func (s *Stack) Err() error { return s.err }

// Close closes every filter in the stack. It sends nothing: CloseWrite and
// Outgoing come first where the peer shall see an orderly end. It is
// idempotent.
func (s *Stack) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for i := range s.layers {
		errs = append(errs, s.layers[i].Close())
	}
	s.layers, s.plain, s.off, s.encoded, s.held, s.out = nil, nil, 0, nil, nil, nil
	s.cuts, s.apart = cuts{}, apart{}
	return errors.Join(errs...)
}

// fail freezes the stack.
func (s *Stack) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}
