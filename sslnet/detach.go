package sslnet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Detach ends TLS and returns the underlying connection for plain text in both
// directions, the reverse of STARTTLS. It sends pending data and close_notify,
// and waits for the peer's close_notify. Bytes that arrived after the peer's
// close_notify are the first that the returned connection reads. The caller owns
// that connection, which keeps the deadlines that were set on the Conn. The Conn
// is closed.
//
// If there is plaintext from TLS that was not read, Detach returns an error with
// its length. Read until io.EOF and call Detach again. Detach can also be called
// again after a timeout.
func (c *Conn) Detach() (net.Conn, error) {
	if err := c.CloseWrite(); err != nil {
		return nil, err
	}
	c.in.Lock()
	defer c.in.Unlock()
	for c.in.err != io.EOF || len(c.in.plain) > 0 {
		if n := len(c.in.plain); n > 0 {
			return nil, fmt.Errorf("sslnet: Detach: %d bytes of plaintext have not been read", n)
		}
		if c.in.err != nil {
			return nil, c.in.err
		}
		if _, err := c.fill(nil); err != nil {
			return nil, err
		}
	}
	c.out.Lock() // waits for a flush in progress
	defer c.out.Unlock()
	if err := c.send(); err != nil {
		return nil, err
	}
	if !c.closed.CompareAndSwap(false, true) {
		return nil, net.ErrClosed
	}
	defer close(c.said)
	first, err := c.release()
	if err != nil { // Close of the Conn would not close it
		c.conn.Close()
		return nil, err
	}
	c.detached.Store(true)
	c.limits.leave()
	if len(first) == 0 {
		return c.conn, nil
	}
	return &resumed{Conn: c.conn, first: first}, nil
}

// release returns what arrived after the peer's close_notify and frees the filter.
func (c *Conn) release() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.filter.Close()
	return c.filter.Detach()
}

// resumed is a connection whose first bytes were already read from the network.
type resumed struct {
	net.Conn
	mu    sync.Mutex // guards first; not held during socket I/O
	first []byte
}

// Read returns the bytes in first, and then reads from the connection.
func (r *resumed) Read(b []byte) (int, error) {
	r.mu.Lock()
	n := copy(b, r.first)
	r.first = r.first[n:]
	r.mu.Unlock()
	if n > 0 || len(b) == 0 {
		return n, nil
	}
	return r.Conn.Read(b)
}

// CloseWrite calls CloseWrite of the underlying connection, if it has that method.
func (r *resumed) CloseWrite() error {
	if c, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return fmt.Errorf("sslnet: CloseWrite of a %T: %w", r.Conn, errors.ErrUnsupported)
}

// NetConn returns the underlying connection, which does not return the bytes in
// first.
func (r *resumed) NetConn() net.Conn { return r.Conn }
