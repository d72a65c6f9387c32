//go:build cgo

package sslfilter

import (
	"slices"
	"sync"
)

// backlog is plaintext that was sent and is not encrypted yet. It consists of
// pieces, so that a large backlog is not moved when it grows and does not need
// one large buffer.
type backlog struct {
	pieces [][]byte  // at least one; new plaintext is added to the last one
	n      int       // bytes in all pieces
	first  [1][]byte // memory for pieces
}

func newBacklog() any {
	b := new(backlog)
	b.pieces = b.first[:]
	return b
}

// backlogs and spare hold unused memory, so that idle connections hold none.
var (
	backlogs = sync.Pool{New: newBacklog}
	spare    = sync.Pool{New: func() any { return new([pieceSize]byte) }}
)

// add appends plain.
func (b *backlog) add(plain []byte) {
	last := &b.pieces[len(b.pieces)-1]
	n := len(*last)
	if len(plain) > min(cap(*last), pieceSize)-n {
		b.extend(plain)
		return
	}
	*last = (*last)[:n+len(plain)]
	copy((*last)[n:], plain)
	b.n += len(plain)
}

// extend appends plain, which does not fit into the memory of the last piece.
func (b *backlog) extend(plain []byte) {
	b.n += len(plain)
	for {
		last := &b.pieces[len(b.pieces)-1]
		n := min(len(plain), pieceSize-len(*last))
		*last = append(*last, plain[:n]...)
		if plain = plain[n:]; len(plain) == 0 {
			return
		}
		b.pieces = append(b.pieces, spare.Get().(*[pieceSize]byte)[:0])
	}
}

// clear removes all plaintext.
func (b *backlog) clear() {
	for len(b.pieces) > 1 {
		b.drop(len(b.pieces[0]))
	}
	b.pieces[0] = b.pieces[0][:0]
	b.n = 0
}

// drop removes the first n bytes. n is at most the length of the first piece.
func (b *backlog) drop(n int) {
	b.n -= n
	first := b.pieces[0]
	if n < len(first) || len(b.pieces) == 1 {
		b.pieces[0] = first[:copy(first, first[n:])]
		return
	}
	b.pieces = slices.Delete(b.pieces, 0, 1)
	if cap(first) == pieceSize {
		spare.Put((*[pieceSize]byte)(first[:pieceSize]))
	}
}
