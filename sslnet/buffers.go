package sslnet

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxRecord     = 16384           // plaintext of a full record (RFC 8446 section 5.1)
	leastOverhead = 5 + 1 + 16      // of a record: header, type and tag of TLS 1.3
	wireSize      = maxRecord + 512 // one read of the network: a full record with the overhead of any version
	maxChunk      = 4 * maxRecord   // plaintext that Write encrypts before it sends
	maxPooled     = 2 * maxChunk    // largest buffer that goes back into the pool
)

var (
	wirePool  = sync.Pool{New: func() any { return new(wireBuffer) }}
	bytesPool = sync.Pool{New: func() any { return new([]byte) }}
)

// wireBuffer is what one read of the network takes.
type wireBuffer [wireSize]byte

func getWire() *wireBuffer  { return wirePool.Get().(*wireBuffer) }
func putWire(b *wireBuffer) { wirePool.Put(b) }

// readWire reads the network once. The caller has the turn and gives the buffer
// back.
func (c *Conn) readWire() (*wireBuffer, int, error) {
	if c.socket == nil {
		wire := getWire()
		n, err := c.conn.Read(wire[:])
		return wire, n, err
	}
	wire, n, err := c.socket.read()
	if err != nil && err != io.EOF {
		if op, ok := err.(*net.OpError); ok { // of the RawConn
			err = op.Err
		}
		err = c.opError("read", err)
	}
	return wire, n, err
}

// pooled is a buffer that exists only while something is in it, so that idle
// connections hold none.
type pooled struct{ buf *[]byte }

// room is an empty slice to append to.
func (p *pooled) room() []byte {
	if p.buf == nil {
		p.buf = bytesPool.Get().(*[]byte)
	}
	return (*p.buf)[:0]
}

// grown notes what room has become by appending.
func (p *pooled) grown(grown []byte) {
	if p.buf != nil && cap(grown) > cap(*p.buf) {
		*p.buf = grown[:0]
	}
}

func (p *pooled) release() {
	if p.buf != nil && cap(*p.buf) <= maxPooled {
		bytesPool.Put(p.buf)
	}
	p.buf = nil
}

// readSide is what one Read at a time works on. The lock is its turn: a
// deadline and Close end the socket I/O of the holder, and so the wait for it.
type readSide struct {
	sync.Mutex
	pooled
	plain []byte // decrypted, not read yet
	err   error  // stays, behind plain
}

// take moves plaintext to b.
func (r *readSide) take(b []byte) int {
	n := copy(b, r.plain)
	r.keep(r.plain[n:])
	return n
}

// keep keeps plaintext for the next Read.
func (r *readSide) keep(plain []byte) {
	r.plain = plain
	if len(plain) == 0 {
		r.plain = nil
		r.release()
	}
}

// writeSide is what one call at a time works on that sends; the lock is its
// turn, as in readSide.
type writeSide struct {
	sync.Mutex
	pooled
	wire  []byte      // made, not sent yet
	waits atomic.Bool // a deadline left some of wire
	part  bool        // of the last Write some was accepted, and not all
	err   error       // stays: the network takes nothing more
}

// lockUntil is Lock for who cannot wait longer than to limit.
func (w *writeSide) lockUntil(limit time.Time) bool {
	for pause := 50 * time.Microsecond; !w.TryLock(); pause = min(2*pause, 10*time.Millisecond) {
		if passed(limit) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}

// send sends what waits, and then what the filter has made. What a Read makes
// meanwhile is not waited for: the Read sees to it. The caller has the turn.
func (c *Conn) send() error {
	if err := c.drain(); err != nil {
		return err
	}
	c.fetch()
	return c.drain()
}

// drain sends what waits. The caller has the turn.
func (c *Conn) drain() error {
	o := &c.out
	for len(o.wire) > 0 && o.err == nil {
		n, err := c.conn.Write(o.wire)
		o.wire = o.wire[n:]
		switch {
		case err == nil:
		case c.closed.Load():
			o.err = net.ErrClosed
		case isTimeout(err):
			o.waits.Store(true)
			return err
		default:
			o.err = err
		}
	}
	o.wire = nil
	o.waits.Store(false)
	o.release()
	return o.err
}

// fetch takes what the filter has for the network. Nothing waits in c.out.
func (c *Conn) fetch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.filter.Flushed() {
		c.out.wire = c.filter.Outgoing(c.out.room())
		c.out.grown(c.out.wire)
	}
}

// flush sends what is made, if anything is.
func (c *Conn) flush() error {
	c.out.Lock()
	defer c.out.Unlock()
	return c.send()
}

// flushLater has everything sent that is made, without waiting: the peer may
// read nothing before we do, over net.Pipe for example. At most one goroutine a
// connection does so, and ends.
func (c *Conn) flushLater() {
	if c.flushing.CompareAndSwap(false, true) {
		go func() {
			c.out.Lock()
			defer c.out.Unlock()
			c.flushing.Store(false) // what is made from now on is for the next
			c.send()                // a failure is found by the next Write
		}()
	}
}
