//go:build !unix

package socket

import "net"

// Reader is implemented on Unix only.
type Reader struct{}

// New returns nil.
func New(net.Conn, Pool) *Reader { return nil }

// Read panics, because New returns no Reader.
func (*Reader) Read() ([]byte, error) { panic("socket: not implemented") }

// Discard panics like Read.
func (*Reader) Discard() { panic("socket: not implemented") }
