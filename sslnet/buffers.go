package sslnet

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

const (
	maxRecord     = 16384           // plaintext of a full record (RFC 8446 section 5.1)
	leastOverhead = 5 + 1 + 16      // smallest overhead of a record: header, content type and tag of TLS 1.3
	wireSize      = maxRecord + 512 // one read from the network: a full record with the overhead of any version
	maxChunk      = 4 * maxRecord   // plaintext that Write encrypts at a time, before it sends
	maxPooled     = 2 * maxChunk    // largest buffer that is returned to the pool
)

var (
	wires     = sync.Pool{New: func() any { return new([wireSize]byte) }}
	bytesPool = sync.Pool{New: func() any { return new([]byte) }}
)

// wirePool has the buffers for reads from the network.
type wirePool struct{}

func (wirePool) Get() []byte  { return wires.Get().(*[wireSize]byte)[:] }
func (wirePool) Put(b []byte) { wires.Put((*[wireSize]byte)(b[:wireSize])) }

// putWire puts the buffer that readWire returned back into the pool. wire may be nil.
func putWire(wire []byte) {
	if wire != nil {
		wirePool{}.Put(wire)
	}
}

// readWire reads from the network once. The caller holds the turn to read,
// and passes the result to putWire when it is used up.
func (c *Conn) readWire() (wire []byte, err error) {
	if c.socket == nil {
		wire = wirePool{}.Get()
		n, err := c.conn.Read(wire)
		return wire[:n], err
	}
	wire, err = c.socket.Read()
	if err != nil && err != io.EOF {
		if op, ok := err.(*net.OpError); ok { // added by the RawConn
			err = op.Err
		}
		err = c.opError("read", err)
	}
	return wire, err
}

// pooled is a buffer from the pool. It is held only while there is data in it,
// so that idle connections need no buffer.
type pooled struct{ buf *[]byte }

// room returns an empty slice to append to.
func (p *pooled) room() []byte {
	if p.buf == nil {
		p.buf = bytesPool.Get().(*[]byte)
	}
	return (*p.buf)[:0]
}

// grown keeps the slice that the caller got by appending to room, if it was
// reallocated.
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

// readSide is the state of the calls that read. The call that holds the turn uses
// it.
type readSide struct {
	turn
	pooled
	plain []byte // decrypted and not yet read
	err   error  // returned by every Read after plain is used up
}

// take moves plaintext to b and returns its length.
func (r *readSide) take(b []byte) int {
	n := copy(b, r.plain)
	r.keep(r.plain[n:])
	return n
}

// keep stores plaintext for the next Read.
func (r *readSide) keep(plain []byte) {
	r.plain = plain
	if len(plain) == 0 {
		r.plain = nil
		r.release()
	}
}

// writeSide is the state of the calls that send. The call that holds the turn uses
// it.
type writeSide struct {
	turn
	pooled
	wire  []byte      // encrypted and not yet sent
	waits atomic.Bool // a deadline passed before all of wire was sent
	part  bool        // the last Write that accepted any data accepted only a part of it
	err   error       // the network failed; every later call returns it
}

// send sends what is left in c.out.wire, and then what the filter has produced.
// It does not pick up what a Read produces in the meantime: that Read calls
// flushLater. The caller holds the turn to send.
func (c *Conn) send() error {
	if err := c.drain(); err != nil {
		return err
	}
	c.fetch()
	return c.drain()
}

// drain sends c.out.wire. The caller holds the turn to send.
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

// fetch moves what the filter has for the network to c.out.wire, which must be
// empty.
func (c *Conn) fetch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.filter.Flushed() {
		c.out.wire = c.filter.Outgoing(c.out.room())
		c.out.grown(c.out.wire)
	}
}

// flush sends everything that is ready for the network.
func (c *Conn) flush() error {
	c.out.lock()
	defer c.out.unlock()
	return c.send()
}

// flushLater sends everything that is ready for the network, in a goroutine. The
// caller does not wait for it, because the peer may not read before this end
// does, over net.Pipe for example. At most one such goroutine per connection
// waits for its turn to send. It ends when everything is sent.
func (c *Conn) flushLater() {
	if c.flushing.CompareAndSwap(false, true) {
		go func() {
			c.out.lock()
			defer c.out.unlock()
			c.flushing.Store(false) // the next call covers what is produced from now on
			c.send()                // the next Write returns its error
		}()
	}
}
