package filter

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// MaxUnread bounds the data that Receive has decoded and Next has not
	// returned, in bytes. It is as much as sslfilter.Filter accepts in one Send.
	MaxUnread = 16 << 20
	// MaxWaiting bounds the data that Send has accepted and Outgoing has not
	// returned, in bytes. Send returns ErrBufferFull if as much waits for a
	// handshake or for Outgoing. The last record that Send accepts may exceed the
	// bound by its own length.
	MaxWaiting = 8 << 20

	maxGrowth = 1 << 20  // bytes that filters may add to MaxUnread in one Receive
	piece     = 1 << 20  // bytes passed to a filter's Send at once
	maxIdle   = 64 << 10 // bytes of the largest buffer that an idle stack keeps
)

// Stack is any number of filters, ordered from the network inward, with a
// codec on top. See the package documentation for the loop.
//
// A Stack can only be used by one goroutine at a time. The same goroutine may
// call methods of the filters in it between calls of the Stack. No method
// blocks.
//
// After a fatal error a Stack is frozen. It drops input. Receive and Send
// return the same error every time, and Next does so after the records that had
// already arrived. Outgoing still returns the bytes that were made before the
// error, such as the alert for the peer.
//
// The zero Stack is a stack without filters, with Stream as its codec.
//
// Corresponds to POE::Filter::Stackable.
type Stack struct {
	dec    Decoder
	enc    Encoder
	layers []layer

	plain []byte // decoded by all filters, not consumed by the codec
	off   int    // where the unconsumed part of plain begins
	seen  int    // how many unconsumed bytes the decoder has searched
	skip  byte   // second byte of a newline, dropped if it comes next; 0: none
	cuts  cuts   // the records in plain, if dec keeps records

	encoded []byte // reused: the record that Send encodes
	held    []byte // sent, not accepted by the top filter yet
	apart   apart  // sent after held, record by record; see Records
	out     []byte // for the network
	waiting int    // bytes that Send has accepted since the last time that all was flushed

	closing bool  // CloseWrite was called
	ended   bool  // the transport ended
	broken  error // of the decoder
	err     error // of a filter; fatal
	closed  bool
}

// layer is a filter and the data between it and its neighbours.
type layer struct {
	Filter
	decoded []byte    // reused: what the next filter gets
	held    []byte    // output that the filter below has not accepted yet
	skip    byte      // second byte of a newline, dropped if it comes next; 0: none
	cut     recordCut // where the records of its input end, if it speaks TLS
	end     error     // how its input ended: io.EOF or io.ErrUnexpectedEOF; nil before
	closing bool      // CloseWrite was called
}

// NewStack makes a stack without filters. If codec is nil, the stack uses Stream.
//
// Corresponds to POE::Filter::Stackable new.
func NewStack(codec Codec) *Stack {
	if isNil(codec) {
		codec = Stream{}
	}
	return &Stack{dec: codec, enc: codec}
}

// Receive passes wire, bytes from the network in pieces of any size, through
// the filters. Next then returns the records. Call Outgoing after every call of
// Receive, even after an error. The stack keeps no part of wire.
//
// ErrBufferFull means that MaxUnread would be exceeded: nothing was consumed, and
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

// feed passes data through the layers from index i inward.
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

// note records the error of a Receive of l.
func (s *Stack) note(l *layer, err error) {
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		l.end = io.EOF
	default:
		s.fail(err)
	}
}

// arrived adds data that has passed all filters to plain.
func (s *Stack) arrived(data []byte) {
	data = skip(&s.skip, data)
	to := s.room()
	*to = append(*to, data...)
	s.grown(len(data))
}

// skip drops the first byte of data if it is *b, and clears *b.
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

// room drops the consumed front of plain and returns plain for appending.
func (s *Stack) room() *[]byte {
	if s.off > 0 {
		s.plain = s.plain[:copy(s.plain, s.plain[s.off:])]
		s.off = 0
	}
	return &s.plain
}

// grown bounds the output of filters that produce much output from little input. n
// is the number of bytes that were added to plain.
func (s *Stack) grown(n int) {
	if n > 0 && len(s.plain) > MaxUnread+maxGrowth {
		s.fail(fmt.Errorf("%w: the filters produced more than %d bytes", ErrBufferFull, MaxUnread+maxGrowth))
	}
}

// Next returns the next record. It returns nil without an error if it needs more
// input. After the last record it returns io.EOF if the peer has ended its
// stream, io.ErrUnexpectedEOF if the connection or the last record was
// truncated, or the fatal error. The end of the top filter decides: a connection
// that is truncated after a close_notify has ended well.
//
// After the filter that ended is removed, Next no longer returns io.EOF.
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

// take drops the first n unconsumed bytes of plain.
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

// reply sends the answer that the decoder makes by itself, if there is one.
func (s *Stack) reply() {
	r, ok := s.dec.(Replier)
	if !ok || s.closing || s.err != nil {
		return
	}
	if answer := r.Reply(nil); len(answer) > 0 {
		s.send(answer)
	}
}

// end returns the reason why there is no record, or nil if more input is needed.
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

// inputEnd returns how the input of the top filter ended, or nil if it has not.
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
		if l.end != nil { // no more input will come, and the top filter was not ended
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// ReceiveEOF tells the stack that the transport has ended. Next then returns
// the records that had arrived, and the end after them. ReceiveEOF returns that
// end: io.EOF if the peer ended its stream, io.ErrUnexpectedEOF if the connection
// was truncated. A stack without filters cannot detect truncation.
func (s *Stack) ReceiveEOF() error {
	if err := s.usable(); err != nil {
		return err
	}
	if !s.ended {
		s.ended = true
		for i := range s.layers {
			s.endInput(i)
		}
	}
	return s.end()
}

// endInput tells filter i that its input ended, and passes on the data that this
// completes.
func (s *Stack) endInput(i int) {
	l := &s.layers[i]
	err := l.ReceiveEOF()
	if l.end != nil {
		return
	}
	l.end = err
	if f, ok := l.Filter.(Finisher); ok && err == io.EOF {
		rest, err := f.Finish(nil)
		if err != nil {
			s.fail(err)
		}
		if len(rest) > 0 {
			s.feed(i+1, rest)
		}
	}
}

// Unread returns the number of bytes that have arrived and do not belong to a
// record yet.
func (s *Stack) Unread() int {
	n := len(s.plain) - s.off
	if s.dec != nil {
		n += s.dec.Partial()
	}
	return n
}

// Send accepts a record for the peer. The codec determines the types of records.
// Outgoing returns the bytes. Records that are sent before the handshake is
// done wait in order.
//
// If the error is not fatal, nothing was sent: the record cannot be encoded,
// MaxWaiting bytes already wait (ErrBufferFull), or the top filter refused it.
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
	s.seen = 0 // HTTPD may have waited for this answer
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

// accept passes b to the filter in pieces and returns how many bytes it accepted.
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

// Outgoing appends all bytes that are ready for the network to dst and returns
// the extended slice. The caller owns it and must transmit the bytes in order.
// Outgoing also works after an error.
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

// drain moves data that was sent to out, as far as the filters accept it.
func (s *Stack) drain() {
	for more := true; more; more = s.giveApart() {
		s.out = s.pull(s.out)
	}
}

// pull moves the data that was sent down through the filters and appends the
// output of the lowest one to dst.
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

// check fails the stack with an error of Outgoing. Truncated input does not
// count: data that was sent before can still leave.
func (s *Stack) check(l *layer) {
	if err := l.Err(); err != nil && err != l.end {
		s.fail(err)
	}
}

// above returns the buffer of data that waits to enter layer i.
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

// give passes the data above layer i to it, and reports whether some is left.
// If everything above has ended, it ends the layer's direction too.
func (s *Stack) give(i int) (stuck bool) {
	l, held := &s.layers[i], s.above(i)
	n, err := l.accept(*held)
	if err != nil && (l.Err() != nil || l.closing) {
		n = len(*held) // the layer will never accept it
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

// CloseWrite ends the outgoing direction: Outgoing returns the data that was sent,
// and then the end of each filter, which is close_notify for TLS. Reading continues.
// During a handshake, CloseWrite takes effect after the handshake.
//
// To end only TLS and continue in plain text, call CloseWrite of that filter
// instead, and Pop after the peer has answered.
func (s *Stack) CloseWrite() error {
	if err := s.usable(); err != nil {
		return err
	}
	s.closing = true
	return nil
}

// Flushed reports whether everything that was sent has passed the filters and
// was returned by Outgoing.
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

// Waiting returns the number of bytes that Send has accepted since the stack was
// Flushed last, or 0 if nothing waits. Until the handshake is done that is
// everything that was sent.
func (s *Stack) Waiting() int { return s.waiting }

// Err returns the fatal error that froze the stack, or nil. An error of the
// decoder is not fatal: it ends reading, and an answer can still be sent.
func (s *Stack) Err() error { return s.err }

// Close closes every filter in the stack. It sends nothing: for an orderly end,
// call CloseWrite and send what Outgoing returns first. Close is idempotent.
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
