// Package memconn makes pairs of connected net.Conns in memory, without
// deadlines. Unlike net.Pipe it buffers written data, so that one goroutine can
// write at one end and then read at the other.
package memconn

import (
	"io"
	"net"
	"sync"
	"time"
)

// Conn is one end of a connection.
type Conn struct {
	in, out *queue
}

// queue is one direction of a connection.
type queue struct {
	mu     sync.Mutex
	filled sync.Cond
	data   []byte
	off    int
	closed bool
}

// Pipe returns both ends of a new connection.
func Pipe() (*Conn, *Conn) {
	up, down := new(queue), new(queue)
	up.filled.L, down.filled.L = &up.mu, &down.mu
	return &Conn{in: down, out: up}, &Conn{in: up, out: down}
}

// Drop frees the buffers of both directions, if they are empty.
func (c *Conn) Drop() {
	for _, q := range []*queue{c.in, c.out} {
		q.mu.Lock()
		if q.off == len(q.data) {
			q.data, q.off = nil, 0
		}
		q.mu.Unlock()
	}
}

// Pending returns the number of bytes that wait for Read.
func (c *Conn) Pending() int {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.data) - c.in.off
}

// Read reads buffered bytes. If the buffer is empty, it waits for input.
func (c *Conn) Read(p []byte) (int, error) {
	q := c.in
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.off == len(q.data) {
		if q.closed {
			return 0, io.EOF
		}
		q.filled.Wait()
	}
	n := copy(p, q.data[q.off:])
	if q.off += n; q.off == len(q.data) {
		q.data, q.off = q.data[:0], 0
	}
	return n, nil
}

// Write appends p to the buffer and never waits.
func (c *Conn) Write(p []byte) (int, error) {
	q := c.out
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, io.ErrClosedPipe
	}
	q.data = append(q.data, p...)
	q.filled.Signal()
	return len(p), nil
}

// Close ends both directions.
func (c *Conn) Close() error {
	for _, q := range []*queue{c.in, c.out} {
		q.mu.Lock()
		q.closed = true
		q.filled.Broadcast()
		q.mu.Unlock()
	}
	return nil
}

type addr struct{}

func (addr) Network() string { return "memory" }
func (addr) String() string  { return "memory" }

// LocalAddr returns the address "memory".
func (*Conn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr returns the address "memory".
func (*Conn) RemoteAddr() net.Addr { return addr{} }

// SetDeadline does nothing.
func (*Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (*Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (*Conn) SetWriteDeadline(time.Time) error { return nil }
