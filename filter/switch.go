package filter

import (
	"errors"
	"fmt"
	"slices"
)

// Option changes what a switch does with leftover bytes.
type Option uint8

// KeepLeftover makes a switch keep the bytes that have arrived and do not belong
// to a record yet. Without it the switch returns a LeftoverError. A filter that
// is pushed gets the bytes as its first input, so a command that was injected
// after STARTTLS makes the handshake fail. If a filter is removed, the bytes stay
// before the bytes that arrived after its end.
const KeepLeftover Option = 1

// Push adds f on top of the filters, below the codec, and starts it. The stack
// owns f from then on. Data that was sent before leaves before the first byte
// of f and does not pass through f.
//
// Push is all that STARTTLS needs. If bytes have arrived that do not belong to a
// record yet, Push returns a *LeftoverError and changes nothing; see
// KeepLeftover. Such bytes never become records, so plaintext from before the
// switch cannot be mistaken for data that came through f.
//
// Corresponds to POE::Filter::Stackable push.
func (s *Stack) Push(f Filter, opts ...Option) error {
	return s.insert("Push", len(s.layers), f, opts)
}

// Insert adds f at index i, below the filter that is there now. Index 0 is next
// to the network, and len(Filters()) is the same as Push. Otherwise Insert works
// as Push, but KeepLeftover works at the top only: bytes that have passed the
// filters above cannot go back.
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

// put makes f layer i. The pending second byte of a newline moves to the layer
// that gets the next input.
func (s *Stack) put(i int, f Filter, top bool) {
	l := layer{Filter: f}
	switch {
	case !top:
		l.skip, s.layers[i].skip = s.layers[i].skip, 0
	case s.skip != 0:
		l.skip, s.skip = s.skip, 0
	default:
		l.skip = s.secondByte()
	}
	s.layers = slices.Insert(s.layers, i, l)
}

// secondByte returns and forgets the second byte of the newline after the last
// record, if that byte may still arrive.
func (s *Stack) secondByte() byte {
	if line, ok := s.dec.(interface{ takeSecond() byte }); ok {
		return line.takeSecond()
	}
	return 0
}

// leftover removes and returns the bytes that do not belong to a record.
func (s *Stack) leftover() []byte {
	b := s.plain[s.off:]
	s.plain, s.off, s.seen, s.cuts = nil, 0, 0, cuts{}
	return b
}

// afterSwitch tells the new layer i if the transport has already ended.
func (s *Stack) afterSwitch(i int) {
	if s.ended && i < len(s.layers) {
		s.endInput(i)
	}
}

// Pop removes the top filter and returns it. Its state can still be queried, and
// the caller closes it.
//
// If the filter is a Detacher, as TLS is, Pop detaches it. That is possible after
// its input has ended, which Next reports with io.EOF. The bytes that arrived
// after its end go to the codec, or, in Remove and Replace, to the filter that
// takes its place. Its last bytes, such as our close_notify, leave before data
// that is sent afterwards. Any other filter must be Flushed.
//
// If bytes have passed the filter that do not belong to a record yet, Pop returns
// a *LeftoverError, because a record must not begin inside TLS and end outside;
// see KeepLeftover. If Pop returns an error, nothing has changed.
//
// Corresponds to POE::Filter::Stackable pop.
func (s *Stack) Pop(opts ...Option) (Filter, error) {
	return s.remove("Pop", len(s.layers)-1, opts)
}

// Remove removes the filter at index i, as Pop does. Index 0 is next to the
// network.
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

// Replace removes the filter at index i as Pop does, adds f in its place and
// returns the old filter. The bytes that arrived after the end of the old filter
// are the first input of f, so TLS may follow TLS.
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

// detach removes layer i and returns the bytes that arrived after its end.
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
		return nil, nil, errors.New("filter: " + op + ": Outgoing of the filter has not returned everything that was sent")
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

// SetCodec changes the codec from the next record on. Bytes that do not belong
// to a record yet go to the new codec, whether or not they came through TLS. If
// the old codec has consumed a part of a record, SetCodec returns a
// *LeftoverError.
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

// SetDecoder is SetCodec for incoming records only.
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
		s.skip = s.secondByte()
	}
	s.dec, s.seen, s.cuts = d, 0, cuts{}
	s.take(len(s.plain) - s.off - len(skip(&s.skip, s.plain[s.off:])))
	s.cutHere()
	return nil
}

// SetEncoder is SetCodec for outgoing records only.
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

// Filters returns the filters, ordered from the network inward.
//
// Corresponds to POE::Filter::Stackable filters.
func (s *Stack) Filters() []Filter {
	list := make([]Filter, len(s.layers))
	for i := range s.layers {
		list[i] = s.layers[i].Filter
	}
	return list
}
