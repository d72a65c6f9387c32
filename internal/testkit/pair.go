package testkit

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// Side is one end of a Pair.
type Side struct {
	*sslfilter.Filter
	Got []byte // the plaintext that was received
	Err error  // of the last Receive that failed, io.EOF included
	Raw []byte // everything that this side has sent, if Record is set
}

// Pair is two Filters and the network between them.
type Pair struct {
	Server, Client Side
	Cut            Cut                                    // divides what arrives; nil is Whole
	Alter          func(fromClient bool, b []byte) []byte // changes what is sent, if set
	Record         bool
}

// Join makes a Pair of two Filters.
func Join(server, client *sslfilter.Filter) *Pair {
	return &Pair{Server: Side{Filter: server}, Client: Side{Filter: client}}
}

// NewPair makes a Pair of two new Filters. Nothing has been sent yet.
func NewPair(t testing.TB, server, client sslfilter.Options) *Pair {
	t.Helper()
	return Join(Filter(t, server), Filter(t, client))
}

// PairOf makes a Pair of two new Filters of these contexts.
func PairOf(t testing.TB, server, client *sslfilter.Ctx) *Pair {
	t.Helper()
	return Join(FilterOf(t, server), FilterOf(t, client))
}

// Connect is NewPair and a handshake, which must succeed on both sides.
func Connect(t testing.TB, server, client sslfilter.Options) *Pair {
	t.Helper()
	p := NewPair(t, server, client)
	require.NoError(t, p.Handshake())
	require.True(t, p.Server.HandshakeDone())
	require.True(t, p.Client.HandshakeDone())
	return p
}

// Close closes both sides.
func (p *Pair) Close() {
	p.Client.Close()
	p.Server.Close()
}

// Handshake starts the client and transfers bytes until nothing is left to send.
func (p *Pair) Handshake() error {
	if err := p.Client.Handshake(); err != nil {
		return err
	}
	p.Transfer()
	return errors.Join(p.Client.Filter.Err(), p.Server.Filter.Err())
}

// Transfer sends bytes between the sides until nothing is left to send.
func (p *Pair) Transfer() {
	for p.move(&p.Client, &p.Server, true) || p.move(&p.Server, &p.Client, false) {
	}
}

// move sends what one side has for the other, once.
func (p *Pair) move(from, to *Side, fromClient bool) bool {
	wire := from.Outgoing(nil)
	if p.Record {
		from.Raw = append(from.Raw, wire...)
	}
	if p.Alter != nil {
		wire = p.Alter(fromClient, wire)
	}
	if len(wire) == 0 {
		return false
	}
	cut := p.Cut
	if cut == nil {
		cut = Whole
	}
	for _, piece := range cut(wire) {
		to.Deliver(piece)
	}
	return true
}

// Deliver passes wire to the side, and keeps the plaintext and the error.
func (s *Side) Deliver(wire []byte) {
	var err error
	s.Got, err = s.Receive(s.Got, wire)
	if err != nil {
		s.Err = err
	}
}

// EOF reports whether the peer's close_notify has arrived.
func (s *Side) EOF() bool { return errors.Is(s.Err, io.EOF) }
