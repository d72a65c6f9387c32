package sslnet

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cut"
)

// CipherConn is a net.Conn that encrypts with a static key instead of TLS. Any number
// of goroutines may call its methods at the same time.
//
// WARNING: A static key gives less than TLS. See the warning of sslfilter.Cipher.
//
// Read returns io.EOF only after the end of the peer's stream. If the connection
// ends without it, the error is an *sslfilter.TruncatedError, which matches
// io.ErrUnexpectedEOF. After a reset, it is the error of the network. With
// sslfilter.CipherSealed, a server sends nothing until the client's first record has
// arrived: its first Write waits for this record, until the read deadline. A client
// sends its header with its first Write or Read.
type CipherConn struct {
	conn net.Conn

	reading chan struct{} // a lock for reading: full while it is held; guards plain and readErr
	plain   []byte        // decrypted, and not returned by Read yet
	readErr error         // permanent

	writing  sync.Mutex   // held by the call that writes; guards wire
	wire     []byte       // encrypted, and not taken by the network yet
	deadline atomic.Int64 // of Write, in nanoseconds since 1970; 0: no deadline

	mu      sync.Mutex // guards the following fields; never held during I/O
	cipher  *sslfilter.Cipher
	moved   chan struct{} // closed and replaced when a Read has received something that a Write may wait for
	flushed chan struct{} // closed at the end of the last flush; nil before the first one
}

// NewCipherConn returns a connection over conn that uses cipher. From then on, conn
// and cipher belong to the CipherConn, whose Close closes both.
func NewCipherConn(conn net.Conn, cipher *sslfilter.Cipher) *CipherConn {
	return &CipherConn{conn: conn, cipher: cipher, reading: make(chan struct{}, 1), moved: make(chan struct{})}
}

const (
	cipherRead  = 32 << 10 // bytes that are read from the network at once
	cipherChunk = 64 << 10 // plaintext that is encrypted at once

	// cipherFarewell bounds the time in which Close sends the end of the stream.
	cipherFarewell = 5 * time.Second
)

// NetConn returns the underlying connection.
func (c *CipherConn) NetConn() net.Conn { return c.conn }

// LocalAddr returns the local address of the underlying connection.
func (c *CipherConn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the remote address of the underlying connection.
func (c *CipherConn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline sets the deadlines of the underlying connection. After a timeout,
// Read and Write can be called again, and no data is lost.
func (c *CipherConn) SetDeadline(t time.Time) error {
	c.setDeadline(t)
	return c.conn.SetDeadline(t)
}

// SetReadDeadline sets the deadline of Read, and of a Write that waits for the client's
// first record.
func (c *CipherConn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of Write and CloseWrite.
func (c *CipherConn) SetWriteDeadline(t time.Time) error {
	c.setDeadline(t)
	return c.conn.SetWriteDeadline(t)
}

func (c *CipherConn) setDeadline(t time.Time) {
	if t.IsZero() {
		c.deadline.Store(0)
	} else {
		c.deadline.Store(t.UnixNano())
	}
}

// late reports whether the write deadline has passed.
func (c *CipherConn) late() bool {
	limit := c.deadline.Load()
	return limit != 0 && time.Now().UnixNano() >= limit
}

// Fresh reports whether the peer has answered the random salt of this side, so that
// what it sends is not a recording. See [sslfilter.Cipher.Fresh].
func (c *CipherConn) Fresh() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cipher.Fresh()
}

// Read reads plaintext.
func (c *CipherConn) Read(b []byte) (int, error) {
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	c.begin()
	for len(b) > 0 && len(c.plain) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

// begin sends the header of a client that has not written anything.
func (c *CipherConn) begin() {
	c.mu.Lock()
	c.cipher.Send(nil) // Receive returns the same error
	owes := !c.cipher.Flushed()
	c.mu.Unlock()
	if owes {
		c.flush()
	}
}

// flush sends the output of the cipher in a goroutine of its own, so that a Read never
// waits for the peer to read. If a Write is in progress, this Write sends it.
func (c *CipherConn) flush() {
	if !c.writing.TryLock() {
		return
	}
	flushed := make(chan struct{})
	c.mu.Lock()
	c.flushed = flushed
	c.mu.Unlock()
	go func() {
		defer close(flushed)
		defer c.writing.Unlock()
		c.fetch()
		c.drain()
	}()
}

// fill reads from the network once. The caller holds c.reading.
func (c *CipherConn) fill() error {
	if c.readErr != nil {
		return c.readErr
	}
	buf := make([]byte, cipherRead)
	n, netErr := c.conn.Read(buf)
	c.mu.Lock()
	plain, err := c.cipher.Receive(c.plain, buf[:n])
	if err == nil && netErr == io.EOF {
		if err = c.cipher.ReceiveEOF(); err == io.EOF {
			if plain, err = c.cipher.Finish(plain); err == nil {
				err = io.EOF
			}
		}
	}
	owes := !c.cipher.Flushed()
	if owes || err != nil || netErr != nil {
		close(c.moved)
		c.moved = make(chan struct{})
	}
	c.mu.Unlock()
	c.plain = plain
	if owes {
		c.flush()
	}
	switch {
	case errors.Is(err, sslfilter.ErrClosed):
		c.readErr = net.ErrClosed
	case err != nil:
		c.readErr = err
	case netErr != nil && !isTimeout(netErr):
		c.readErr = netErr
	case netErr != nil && n == 0:
		return netErr
	}
	if len(c.plain) > 0 {
		return nil
	}
	return c.readErr
}

// Write encrypts and sends b. It returns the number of bytes that were accepted,
// also with an error. If a deadline ends the call, the next Write first sends what
// the network has not taken yet, even if its b is empty.
func (c *CipherConn) Write(b []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for first := true; first || n < len(b); first = false {
		if err := c.drain(); err != nil {
			return n, err
		}
		if c.late() {
			return n, &net.OpError{Op: "write", Net: "cipher", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.ErrDeadlineExceeded}
		}
		chunk := b[n:min(n+cipherChunk, len(b))]
		if err := c.encrypt(chunk); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, c.drain()
}

// encrypt makes the records of chunk. On a server it first waits for the client's
// first record. The caller holds c.writing.
func (c *CipherConn) encrypt(chunk []byte) error {
	c.mu.Lock()
	err := c.cipher.Send(chunk)
	c.mu.Unlock()
	if errors.Is(err, sslfilter.ErrClosed) {
		return net.ErrClosed
	}
	if err != nil {
		return err
	}
	return c.settle()
}

// settle moves all output of the cipher to wire. On a server it waits for the client's
// first record. The caller holds c.writing.
func (c *CipherConn) settle() error {
	for {
		c.mu.Lock()
		moved := c.moved // before fetch, so that no change is missed
		c.mu.Unlock()
		if !c.fetch() {
			return nil
		}
		select {
		case <-moved: // another call has read
		case c.reading <- struct{}{}:
			err := c.await()
			<-c.reading
			if err != nil {
				return err
			}
		}
	}
}

// fetch moves the output that is ready to wire, and reports whether more output waits
// for the peer. The caller holds c.writing.
func (c *CipherConn) fetch() (waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wire = c.cipher.Outgoing(c.wire)
	return c.cipher.Err() == nil && !c.cipher.Flushed()
}

// await reads from the network, unless the record that settle waits for has arrived
// meanwhile. The caller holds c.reading and c.writing.
func (c *CipherConn) await() error {
	if !c.fetch() {
		return nil
	}
	return c.fill()
}

// drain sends wire. The caller holds c.writing.
func (c *CipherConn) drain() error {
	for {
		for len(c.wire) > 0 {
			n, err := c.conn.Write(c.wire)
			c.wire = c.wire[:copy(c.wire, c.wire[n:])]
			if err != nil {
				return err
			}
		}
		c.fetch() // an answer that a Read has made meanwhile
		if len(c.wire) == 0 {
			return nil
		}
	}
}

// CloseWrite sends the end of this side's stream, and ends the outgoing direction
// of the underlying connection if that is possible. Read can still be called. On a
// server, CloseWrite waits for the client's first record, as Write does.
func (c *CipherConn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.end(); err != nil {
		return err
	}
	if err := c.settle(); err != nil {
		return err
	}
	if err := c.drain(); err != nil {
		return err
	}
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		// If the connection has already ended, and too early, Read reports that.
		if err := half.CloseWrite(); !errors.Is(err, syscall.ENOTCONN) {
			return err
		}
	}
	return nil
}

// end ends this side's stream and sends the output that is ready. The caller holds
// c.writing.
func (c *CipherConn) end() error {
	c.mu.Lock()
	err := c.cipher.CloseWrite()
	c.mu.Unlock()
	if errors.Is(err, sslfilter.ErrClosed) {
		return net.ErrClosed
	}
	if err != nil {
		return err
	}
	c.fetch()
	return c.drain()
}

// Close sends the end of the stream, unless a Write is in progress, and closes the
// underlying connection. If the peer does not read, Close stops sending after 5 seconds.
func (c *CipherConn) Close() error {
	c.conn.SetWriteDeadline(time.Now().Add(cipherFarewell))
	c.mu.Lock()
	flushed := c.flushed
	c.mu.Unlock()
	if flushed != nil {
		<-flushed
	}
	if c.writing.TryLock() {
		c.end()
		c.writing.Unlock()
	}
	var err error
	if cut.Unread(c.conn) { // TCP would reset the connection, and discard what was sent
		cut.Take(c.conn).Finish(nil, atOnce, nil)
	} else {
		err = c.conn.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cipher.Close()
	return err
}
