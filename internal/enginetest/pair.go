// Package enginetest joins two Filters without sockets, for tests.
package enginetest

import (
	"errors"
	"io"
	"math/rand/v2"

	"github.com/seed-014b8713/sslfilter"
)

// Chunker cuts the bytes of one direction into deliveries.
type Chunker func(wire []byte) [][]byte

// Whole delivers everything at once.
func Whole(wire []byte) [][]byte { return [][]byte{wire} }

// Size gives a Chunker that delivers n bytes at a time.
func Size(n int) Chunker {
	return func(wire []byte) (cut [][]byte) {
		for len(wire) > n {
			cut, wire = append(cut, wire[:n]), wire[n:]
		}
		return append(cut, wire)
	}
}

// Random gives a Chunker that cuts anywhere. The seed repeats it.
func Random(seed uint64) Chunker {
	r := rand.New(rand.NewPCG(seed, seed))
	return func(wire []byte) (cut [][]byte) {
		for len(wire) > 0 {
			n := 1 + r.IntN(min(len(wire), 1+r.IntN(4096)))
			cut, wire = append(cut, wire[:n]), wire[n:]
		}
		return cut
	}
}

// Side is one end of a Pair.
type Side struct {
	*sslfilter.Filter
	Got []byte // plaintext received
	Err error  // of the last Receive that failed, io.EOF among them
	Raw []byte // what has left this side, all of it, if Record is set
}

// Pair is two Filters and the network between them.
type Pair struct {
	Client, Server Side
	Chunk          Chunker                                // nil is Whole
	Alter          func(fromClient bool, b []byte) []byte // changes what travels, if set
	Record         bool
}

// New joins client and server.
func New(client, server *sslfilter.Filter) *Pair {
	return &Pair{Client: Side{Filter: client}, Server: Side{Filter: server}}
}

// Close closes both sides.
func (p *Pair) Close() {
	p.Client.Close()
	p.Server.Close()
}

// Handshake starts the client and moves bytes until nothing moves.
func (p *Pair) Handshake() error {
	if err := p.Client.Handshake(); err != nil {
		return err
	}
	p.Transfer()
	return errors.Join(p.Client.Filter.Err(), p.Server.Filter.Err())
}

// Transfer moves bytes between the sides until nothing moves.
func (p *Pair) Transfer() {
	for p.move(&p.Client, &p.Server, true) || p.move(&p.Server, &p.Client, false) {
	}
}

// move takes what from has to say to the other side, once.
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
	chunk := p.Chunk
	if chunk == nil {
		chunk = Whole
	}
	for _, piece := range chunk(wire) {
		to.Deliver(piece)
	}
	return true
}

// Deliver gives wire to the side and keeps what comes of it.
func (s *Side) Deliver(wire []byte) {
	var err error
	s.Got, err = s.Receive(s.Got, wire)
	if err != nil {
		s.Err = err
	}
}

// EOF reports whether the peer's close_notify has come.
func (s *Side) EOF() bool { return errors.Is(s.Err, io.EOF) }
