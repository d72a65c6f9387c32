package filter

import (
	"errors"
	"fmt"
	"slices"
)

// Option says what happens to bytes that are in the way of a switch.
type Option uint8

// KeepLeftover keeps the bytes that have arrived before the switch and that are
// in no record, instead of refusing the switch with a LeftoverError. A filter
// that is put on top gets them as its first input, so that a command injected
// behind STARTTLS is taken for TLS, and fails as such; where a filter is taken
// off they stay in front of what comes behind its end.
const KeepLeftover Option = 1

// Push puts f on top of the filters, under the codec, and starts it. The stack
// owns it from then on. What was sent before leaves before the first byte of
// f, and does not go through it.
//
// For STARTTLS it is the whole switch. Bytes that have arrived and are in no
// record are a *LeftoverError, and nothing has changed; see KeepLeftover. They
// are never records afterwards: no plaintext from before the switch passes for
// something that came through f.
//
// Corresponds to POE::Filter::Stackable push.
func (s *Stack) Push(f Filter, opts ...Option) error {
	return s.insert("Push", len(s.layers), f, opts)
}

// Insert puts f under the filter at index i; 0 is next to the network, and
// len(Filters()) is Push. Otherwise as Push, but KeepLeftover is only for the
// top: what has been through the filters above cannot go back.
//
// Corresponds to POE::Filter::Stackable unshift, for index 0.
func (s *Stack) Insert(i int, f Filter, opts ...Option) error {
	return s.insert("Insert", i, f, opts)
}

func (s *Stack) insert(op string, i int, f Filter, opts []Option) error {
	switch {
	case s.usable() != nil:
		return s.usable()
	case i < 0 || i > len(s.layers):
		return fmt.Errorf("filter: %s: no index %d among %d filters", op, i, len(s.layers))
	case s.closing:
		return fmt.Errorf("filter: %s after CloseWrite", op)
	}
	if isNil(f) {
		return errNil(op, "filter")
	}
	top := i == len(s.layers)
	if n := s.Unread(); n > 0 && !(top && s.dec.Partial() == 0 && slices.Contains(opts, KeepLeftover)) {
		return &LeftoverError{Op: op, N: n}
	}
	s.drain()
	if n := s.waitingAbove(i - 1); n > 0 {
		return fmt.Errorf("filter: %s: %d bytes that were sent before wait for a handshake below", op, n)
	}
	if err := f.Send(nil); err != nil {
		return err
	}
	s.put(i, f, top)
	s.feed(i, s.leftover())
	s.afterSwitch(i)
	return s.err
}

// put makes f layer i. The other half of a newline goes with what it precedes.
func (s *Stack) put(i int, f Filter, top bool) {
	l := layer{Filter: f}
	switch {
	case !top:
		l.skip, s.layers[i].skip = s.layers[i].skip, 0
	case s.skip != 0:
		l.skip, s.skip = s.skip, 0
	default:
		l.skip = s.behind()
	}
	s.layers = slices.Insert(s.layers, i, l)
}

// behind takes the byte that may still come and belongs to the last record.
func (s *Stack) behind() byte {
	if line, ok := s.dec.(interface{ takeBehind() byte }); ok {
		return line.takeBehind()
	}
	return 0
}

// leftover takes what is in no record.
func (s *Stack) leftover() []byte {
	b := s.plain[s.off:]
	s.plain, s.off, s.seen, s.cuts = nil, 0, 0, cuts{}
	return b
}

// afterSwitch tells the new layer i that the transport has ended before it came.
func (s *Stack) afterSwitch(i int) {
	if s.ended && i < len(s.layers) {
		s.layers[i].endInput()
	}
}

// Pop takes the top filter off, and gives it back: its state can still be asked
// for, and the caller closes it.
//
// A Detacher, as TLS is, is detached: that is possible once its input has
// ended, which Next reports with io.EOF. The bytes behind its end go on to what
// is there now: the codec, or in Remove and Replace the filter in its place.
// Its last bytes, our close_notify, go out before what is sent next. Any other
// filter must be Flushed.
//
// Bytes that came through the filter and are in no record are a
// *LeftoverError, since a record must not begin in TLS and end outside; see
// KeepLeftover. With an error nothing has changed.
//
// Corresponds to POE::Filter::Stackable pop.
func (s *Stack) Pop(opts ...Option) (Filter, error) {
	return s.remove("Pop", len(s.layers)-1, opts)
}

// Remove takes the filter at index i off; 0 is next to the network. Otherwise
// as Pop.
//
// Corresponds to POE::Filter::Stackable shift, for index 0.
func (s *Stack) Remove(i int, opts ...Option) (Filter, error) {
	return s.remove("Remove", i, opts)
}

func (s *Stack) remove(op string, i int, opts []Option) (Filter, error) {
	f, rest, err := s.detach(op, i, opts)
	if err != nil {
		return nil, err
	}
	s.feed(i, rest)
	return f, s.err
}

// Replace puts f in the place of the filter at index i, which it gives back.
// Bytes behind the end of the old one, as Pop finds them, are the first input
// of f: TLS may follow on TLS.
func (s *Stack) Replace(i int, f Filter, opts ...Option) (Filter, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	if isNil(f) {
		return nil, errNil("Replace", "filter")
	}
	if err := f.Send(nil); err != nil {
		return nil, err
	}
	old, rest, err := s.detach("Replace", i, opts)
	if err != nil {
		return nil, err
	}
	s.put(i, f, i == len(s.layers))
	s.feed(i, rest)
	s.afterSwitch(i)
	return old, s.err
}

// detach takes layer i out and gives what came behind its end.
func (s *Stack) detach(op string, i int, opts []Option) (f Filter, rest []byte, err error) {
	switch {
	case s.usable() != nil:
		return nil, nil, s.usable()
	case i < 0 || i >= len(s.layers):
		return nil, nil, fmt.Errorf("filter: %s: no filter at index %d among %d", op, i, len(s.layers))
	case s.closing:
		return nil, nil, fmt.Errorf("filter: %s after CloseWrite", op)
	}
	if n := s.Unread(); n > 0 && !(s.dec.Partial() == 0 && slices.Contains(opts, KeepLeftover)) {
		return nil, nil, &LeftoverError{Op: op, N: n}
	}
	s.drain()
	l := &s.layers[i]
	if n := s.waitingAbove(i); n > 0 {
		return nil, nil, fmt.Errorf("filter: %s: %d bytes that were sent before wait for a handshake", op, n)
	}
	if d, ok := l.Filter.(Detacher); ok {
		if rest, err = d.Detach(); err != nil {
			return nil, nil, err
		}
	} else if !l.Flushed() {
		return nil, nil, errors.New("filter: " + op + ": the filter has not handed out all that was sent")
	}
	last := l.Outgoing(l.held)
	f = l.Filter
	s.layers = slices.Delete(s.layers, i, i+1)
	s.seen = 0
	if i == 0 {
		s.out = append(s.out, last...)
	} else {
		below := s.above(i - 1)
		*below = append(last, *below...)
	}
	return f, rest, nil
}

// SetCodec changes how bytes become records, and back, from the next record
// on. What is in no record goes to the new codec, however it has been
// encrypted; a record that the old one has taken in part is a *LeftoverError.
//
// Corresponds to POE::Wheel::ReadWrite set_filter, for a filter without TLS.
func (s *Stack) SetCodec(codec Codec) error {
	if isNil(codec) {
		return errNil("SetCodec", "codec")
	}
	if err := s.SetDecoder(codec); err != nil {
		return err
	}
	return s.SetEncoder(codec)
}

// SetDecoder is SetCodec for the way in alone.
//
// Corresponds to POE::Wheel::ReadWrite set_input_filter.
func (s *Stack) SetDecoder(d Decoder) error {
	if err := s.usable(); err != nil {
		return err
	}
	if isNil(d) {
		return errNil("SetDecoder", "decoder")
	}
	if s.broken != nil {
		return s.broken
	}
	if n := s.dec.Partial(); n > 0 {
		return &LeftoverError{Op: "SetDecoder", N: n}
	}
	if s.skip == 0 {
		s.skip = s.behind()
	}
	s.dec, s.seen, s.cuts = d, 0, cuts{}
	s.take(len(s.plain) - s.off - len(skip(&s.skip, s.plain[s.off:])))
	s.cutHere()
	return nil
}

// SetEncoder is SetCodec for the way out alone.
//
// Corresponds to POE::Wheel::ReadWrite set_output_filter.
func (s *Stack) SetEncoder(e Encoder) error {
	if err := s.usable(); err != nil {
		return err
	}
	if isNil(e) {
		return errNil("SetEncoder", "encoder")
	}
	s.enc = e
	return nil
}

// Filters lists the filters, from the network inward.
//
// Corresponds to POE::Filter::Stackable filters.
func (s *Stack) Filters() []Filter {
	list := make([]Filter, len(s.layers))
	for i := range s.layers {
		list[i] = s.layers[i].Filter
	}
	return list
}
