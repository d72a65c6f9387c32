package sslnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/seed-014b8713/sslfilter"
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
// arrived: its first Write waits for this record, until a deadline. A client
// sends its header with its first Write or Read.
//
// While a server with a passphrase waits for its turn to derive the client's key, a
// deadline ends Read and Write as usual, and Close ends the wait. With sslfilter.CipherEnc
// and a passphrase, the first Write, CloseWrite or Close derives a key. No deadline ends
// that, and all other methods that use the cipher wait for it.
type CipherConn struct {
	conn   net.Conn
	limits deadlines
	closed chan struct{} // closed by Close
	close  func()        // closes it

	reading turn            // for the call that reads; guards plain, readErr, met and late
	plain   []byte          // decrypted, and not returned by Read yet
	readErr error           // permanent
	met     bool            // the peer has sent a record: no key is derived any more
	late    <-chan received // has a value when the work is done for which a Read did not wait

	writing turn   // for the call that writes, which ends with release; guards wire
	wire    []byte // encrypted, and not taken by the network yet

	// mu guards the following fields. It is never held during I/O, nor while Receive derives a
	// key. With CipherEnc and a passphrase, the first output derives a key while it is held.
	mu       sync.Mutex
	cipher   *sslfilter.Cipher
	deriving bool          // the cipher belongs to the goroutine of receiveLate
	spoke    bool          // this side has made output, so that its stream needs an end
	gone     bool          // Close wants the cipher to be closed
	unsent   bool          // a flush was due while another call was writing
	moved    chan struct{} // closed and replaced when a Read has received something that a Write may wait for
	flushed  chan struct{} // closed at the end of the last flush; nil before the first one
}

// NewCipherConn returns a connection over conn that uses cipher. From then on, conn
// and cipher belong to the CipherConn, whose Close closes both.
func NewCipherConn(conn net.Conn, cipher *sslfilter.Cipher) *CipherConn {
	c := &CipherConn{conn: conn, cipher: cipher, closed: make(chan struct{}), reading: newTurn(), writing: newTurn(), moved: make(chan struct{})}
	c.close = sync.OnceFunc(func() { close(c.closed) })
	return c
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
func (c *CipherConn) SetDeadline(t time.Time) error { return c.limits.set(c.conn, &t, &t) }

// SetReadDeadline sets the deadline of Read, and of a Write or CloseWrite that waits for the
// client's first record.
func (c *CipherConn) SetReadDeadline(t time.Time) error { return c.limits.set(c.conn, &t, nil) }

// SetWriteDeadline sets the deadline of Write and CloseWrite, also while they wait for the
// client's first record.
func (c *CipherConn) SetWriteDeadline(t time.Time) error { return c.limits.set(c.conn, nil, &t) }

// timeout returns the error of a call whose deadline has passed.
func (c *CipherConn) timeout(op string) error {
	return &net.OpError{Op: op, Net: "cipher", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.ErrDeadlineExceeded}
}

// Fresh reports whether the peer has answered the random salt of this side, so that
// what it sends is not a recording. See [sslfilter.Cipher.Fresh].
func (c *CipherConn) Fresh() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.deriving && c.cipher.Fresh()
}

// Read reads plaintext.
func (c *CipherConn) Read(b []byte) (int, error) {
	if err := c.lock(c.reading, readCall); err != nil {
		return 0, err
	}
	defer c.reading.unlock()
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

// lock takes a turn. It gives up at the deadline for calls of the kind by.
func (c *CipherConn) lock(t turn, by call) error {
	if t.wait(context.Background(), &c.limits, by) != nil {
		return c.timeout(by.op())
	}
	return nil
}

// begin sends the header of a client that has not written anything.
func (c *CipherConn) begin() {
	c.mu.Lock()
	owes := false
	if !c.deriving {
		c.cipher.Send(nil) // Receive returns the same error
		owes = !c.cipher.Flushed()
	}
	c.mu.Unlock()
	if owes {
		c.flush()
	}
}

// flush sends the output of the cipher in a goroutine of its own, so that a Read never
// waits for the peer to read. If another call is writing, its release calls flush.
func (c *CipherConn) flush() {
	c.mu.Lock()
	c.unsent = true // before try, so that release sees it
	c.mu.Unlock()
	if !c.writing.try() {
		return
	}
	flushed := make(chan struct{})
	c.mu.Lock()
	c.flushed, c.unsent = flushed, false
	c.mu.Unlock()
	go func() {
		defer close(flushed)
		defer c.release()
		c.fetch()
		c.drain()
	}()
}

// release unlocks c.writing, and makes up for a flush that was due in the meantime: the
// call may have looked for output before a Read made some.
func (c *CipherConn) release() {
	c.writing.unlock()
	c.mu.Lock()
	due := c.unsent
	c.mu.Unlock()
	if due {
		c.flush()
	}
}

// received is what the cipher has made of bytes from the network.
type received struct {
	plain  []byte
	err    error
	netErr error
	owes   bool // the cipher has output
	met    bool // the peer has sent a record
}

// take passes wire to the cipher. The caller holds mu, or is the goroutine of receiveLate.
func (c *CipherConn) take(plain, wire []byte, netErr error) received {
	r := received{netErr: netErr}
	flushed := c.cipher.Flushed() // if not, a server holds plaintext until the client's first record
	r.plain, r.err = c.cipher.Receive(plain, wire)
	if r.err == nil && netErr == io.EOF {
		if r.err = c.cipher.ReceiveEOF(); r.err == io.EOF {
			if r.plain, r.err = c.cipher.Finish(r.plain); r.err == nil {
				r.err = io.EOF
			}
		}
	}
	r.owes = !c.cipher.Flushed()
	r.met = len(r.plain) > 0 || flushed && r.owes
	return r
}

// advance wakes the calls that wait until a Read has received something. The caller
// holds mu.
func (c *CipherConn) advance() {
	close(c.moved)
	c.moved = make(chan struct{})
}

// receiveLate passes wire to the cipher in a goroutine of its own, because the cipher may
// have to derive a key, and may have to wait for its turn to do so.
func (c *CipherConn) receiveLate(wire []byte, netErr error) <-chan received {
	c.mu.Lock()
	c.deriving = true
	c.mu.Unlock()
	done := make(chan received, 1)
	go func() {
		r := c.take(nil, wire, netErr)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.deriving = false
		if c.gone {
			c.cipher.Close()
		}
		c.advance()
		done <- r
	}()
	return done
}

// receive reads from the network once and passes the bytes to the cipher. Before the
// peer's first record it returns an error if the read deadline passes or the connection
// is closed before the cipher is done; the next call continues.
func (c *CipherConn) receive() (received, error) {
	if c.late == nil {
		buf := make([]byte, cipherRead)
		n, netErr := c.conn.Read(buf)
		if c.met {
			c.mu.Lock()
			defer c.mu.Unlock()
			r := c.take(c.plain, buf[:n], netErr)
			if r.owes || r.err != nil || netErr != nil {
				c.advance()
			}
			c.plain = r.plain
			return r, nil
		}
		if n == 0 && isTimeout(netErr) {
			return received{}, netErr
		}
		c.late = c.receiveLate(buf[:n], netErr)
	}
	for {
		over, changed := c.alarm(readCall)
		select {
		case r := <-c.late:
			c.late = nil
			c.met = r.met
			c.plain = append(c.plain, r.plain...)
			return r, nil
		case <-changed:
		case <-c.closed:
			return received{}, net.ErrClosed
		case <-over:
			return received{}, c.timeout("read")
		}
	}
}

// alarm returns a channel that receives at the deadline for calls of the kind by, and
// one that is closed when the program sets another deadline.
func (c *CipherConn) alarm(by call) (over <-chan time.Time, changed <-chan struct{}) {
	deadline, changed := c.limits.watch(by)
	if !deadline.IsZero() {
		over = time.After(time.Until(deadline))
	}
	return over, changed
}

// fill reads from the network once. The caller holds c.reading.
func (c *CipherConn) fill() error {
	if c.readErr != nil {
		return c.readErr
	}
	r, err := c.receive()
	if err != nil {
		return err
	}
	if r.owes {
		c.flush()
	}
	switch {
	case errors.Is(r.err, sslfilter.ErrClosed):
		c.readErr = net.ErrClosed
	case r.err != nil:
		c.readErr = r.err
	case r.netErr != nil && !isTimeout(r.netErr):
		c.readErr = r.netErr
	case r.netErr != nil && len(c.plain) == 0:
		return r.netErr
	}
	if len(c.plain) > 0 {
		return nil
	}
	return c.readErr
}

// Write encrypts and sends b. It returns the number of bytes that were accepted,
// even with an error. If a deadline ends the call, the next Write first sends what
// was accepted before, even if its b is empty. If the connection fails before the client's
// first record, what was accepted is never sent, and Write returns an error.
func (c *CipherConn) Write(b []byte) (n int, err error) {
	if err := c.lock(c.writing, writeCall); err != nil {
		return 0, err
	}
	defer c.release()
	for first := true; first || n < len(b); {
		if err := c.drain(); err != nil {
			return n, err
		}
		if c.limits.expired(writeCall) {
			return n, c.timeout("write")
		}
		chunk := b[n:min(n+cipherChunk, len(b))]
		taken, waits, err := c.encrypt(chunk)
		if err != nil {
			return n, err
		}
		if taken {
			n += len(chunk) // the cipher has it, even if the next wait ends early
			first = false
		}
		if waits {
			if err := c.settle(); err != nil {
				return n, err
			}
		}
	}
	return n, c.drain()
}

// own waits until receiveLate has released the cipher, and then calls f with mu locked. The
// caller holds c.writing.
func (c *CipherConn) own(f func() error) error {
	var ended error
	for {
		c.mu.Lock()
		if !c.deriving { // even if the wait has ended with an error, such as the end of the peer's stream
			err := f()
			c.mu.Unlock()
			if errors.Is(err, sslfilter.ErrClosed) {
				return net.ErrClosed
			}
			return err
		}
		moved := c.moved
		c.mu.Unlock()
		if ended != nil {
			return ended
		}
		ended = c.wait(moved)
	}
}

// encrypt gives chunk to the cipher, and moves what it returns to wire. It takes nothing
// while earlier output waits for the peer, so that at most one chunk ever waits. waits
// reports whether output waits afterwards. The caller holds c.writing.
func (c *CipherConn) encrypt(chunk []byte) (taken, waits bool, err error) {
	err = c.own(func() error {
		err := c.cipher.Send(nil)
		if err != nil {
			return err
		}
		if waits, err = c.collect(); waits || err != nil {
			return err
		}
		c.wire, err = c.cipher.SendOutgoing(c.wire, chunk)
		c.spoke = c.spoke || len(c.wire) > 0
		taken, waits = err == nil, !c.cipher.Flushed()
		return err
	})
	return taken, waits, err
}

// settle moves all output of the cipher to wire. On a server it waits for the client's
// first record. It returns an error if some of the output is never sent. The caller holds
// c.writing, and knows that output waits.
func (c *CipherConn) settle() error {
	var ended error
	for {
		c.mu.Lock()
		moved := c.moved
		waits, err := c.collect()
		c.mu.Unlock()
		switch {
		case err != nil || !waits: // even if the wait has ended with an error, such as the end of the peer's stream
			return err
		case ended != nil:
			return ended
		}
		ended = c.wait(moved)
	}
}

// collect moves the output that is ready to wire, and reports whether more output waits for
// the peer. It returns an error if the cipher cannot send any more; the cipher has then
// dropped the output that it held. The caller holds mu and c.writing.
func (c *CipherConn) collect() (waits bool, err error) {
	if c.deriving {
		return true, nil
	}
	c.wire = c.cipher.Outgoing(c.wire)
	c.spoke = c.spoke || len(c.wire) > 0
	err = c.cipher.Err()
	if c.gone || errors.Is(err, sslfilter.ErrClosed) {
		return false, net.ErrClosed
	}
	flushed := c.cipher.Flushed()
	var truncated *sslfilter.TruncatedError
	if flushed && errors.As(err, &truncated) { // this side can still send
		return false, nil
	}
	return !flushed, err
}

// fetch moves the output that is ready to wire. The caller holds c.writing.
func (c *CipherConn) fetch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collect()
}

// wait waits until another call has read, or reads from the network once. The write
// deadline and Close end it. The caller holds c.writing, and has taken moved before it
// looked for what it waits for.
func (c *CipherConn) wait(moved <-chan struct{}) error {
	reading := c.reading
	var read chan error
	for {
		over, changed := c.alarm(writeCall)
		select {
		case <-moved:
			return nil
		case reading <- struct{}{}:
			select {
			case <-moved:
				c.reading.unlock()
				return nil
			default:
			}
			// In a goroutine, because only the read deadline ends a read of the network.
			// After the write deadline it goes on for the next Read.
			reading, read = nil, make(chan error, 1)
			go func() {
				err := c.fill()
				c.reading.unlock()
				read <- err
			}()
		case err := <-read:
			return err
		case <-changed:
		case <-c.closed:
			return net.ErrClosed
		case <-over:
			return c.timeout("write")
		}
	}
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
		c.fetch() // an answer that a Read has made in the meantime
		if len(c.wire) == 0 {
			return nil
		}
	}
}
