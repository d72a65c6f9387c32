package sslnet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Detach takes TLS off and keeps the connection, the reverse of STARTTLS: it
// sends what waits and close_notify, waits for the peer's, and returns the
// connection below, for plain text in both directions. Bytes that came behind
// the peer's close_notify are the first that it reads. The caller owns it from
// then on, with the deadlines that were set here, and this Conn is closed.
//
// Plaintext that came over TLS and is not read yet is an error that says how
// much it is; read until io.EOF and call Detach again. After a timeout too it
// can be called again.
func (c *Conn) Detach() (net.Conn, error) {
	if err := c.CloseWrite(); err != nil {
		return nil, err
	}
	c.in.Lock()
	defer c.in.Unlock()
	for c.in.err != io.EOF || len(c.in.plain) > 0 {
		if n := len(c.in.plain); n > 0 {
			return nil, fmt.Errorf("sslnet: Detach: %d bytes of plaintext are not read yet", n)
		}
		if c.in.err != nil {
			return nil, c.in.err
		}
		if _, err := c.fill(nil); err != nil {
			return nil, err
		}
	}
	c.out.Lock() // a flush under way is over
	defer c.out.Unlock()
	if err := c.send(); err != nil {
		return nil, err
	}
	if !c.closed.CompareAndSwap(false, true) {
		return nil, net.ErrClosed
	}
	defer close(c.said)
	first, err := c.release()
	if err != nil { // nobody else can close it any more
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

// release takes what came behind the peer's close_notify and frees the filter.
func (c *Conn) release() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.filter.Close()
	return c.filter.Detach()
}

// resumed is a connection of which some was read before.
type resumed struct {
	net.Conn
	mu    sync.Mutex // of first; not held during socket I/O
	first []byte
}

// Read gives what was read before, and then what comes.
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

// CloseWrite is that of the connection below, if it has one.
func (r *resumed) CloseWrite() error {
	if c, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return fmt.Errorf("sslnet: CloseWrite of a %T: %w", r.Conn, errors.ErrUnsupported)
}

// NetConn is the connection below, without what was read of it.
func (r *resumed) NetConn() net.Conn { return r.Conn }
