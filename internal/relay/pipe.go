package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// duplex is a connection whose directions end one by one.
type duplex interface {
	net.Conn
	CloseWrite() error
}

// pipeSize is the buffer of one direction of a connection, in bytes: one
// record of TLS. It is all that a slow side makes the relay hold, besides the
// buffers of the sockets and one record of the library.
const pipeSize = 16 << 10

var pipeBuffers = sync.Pool{New: func() any { return new([pipeSize]byte) }}

// pipe joins two connections until both directions have ended, each in its own
// time: the end of one side (close_notify or FIN) becomes that of the other.
// An end without close_notify, a reset or any other error is no orderly end and
// does not become one: both connections are reset.
type pipe struct {
	client, backend duplex
	touch           func() // called for every movement of bytes
	fromClient      *atomic.Int64
	fromBackend     *atomic.Int64
}

// run forwards first what was read before. It returns when nothing moves any
// more; the error is that of the side which broke.
func (p *pipe) run(toBackend, toClient []byte) error {
	var breaking sync.Once
	var err error
	fail := func(e error) {
		if e == nil {
			return
		}
		breaking.Do(func() {
			err = e
			reset(p.client)
			reset(p.backend)
		})
	}
	var wait sync.WaitGroup
	wait.Go(func() { fail(p.half(p.backend, p.client, toBackend, p.fromClient, "client")) })
	fail(p.half(p.client, p.backend, toClient, p.fromBackend, "backend"))
	wait.Wait()
	return err
}

// sideError says which side broke, and in doing what.
type sideError struct {
	side, doing string
	err         error
}

func (e *sideError) Error() string {
	if errors.Is(e.err, io.ErrUnexpectedEOF) {
		return "the " + e.side + " ended without close_notify"
	}
	return e.doing + " the " + e.side + ": " + e.err.Error()
}

func (e *sideError) Unwrap() error { return e.err }

// half forwards one direction until src ends.
func (p *pipe) half(dst, src duplex, first []byte, count *atomic.Int64, side string) error {
	other := "backend"
	if side == "backend" {
		other = "client"
	}
	if len(first) > 0 {
		if _, err := dst.Write(first); err != nil {
			return &sideError{other, "writing to", err}
		}
		count.Add(int64(len(first)))
		p.touch()
	}
	buf := pipeBuffers.Get().(*[pipeSize]byte)
	defer pipeBuffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			p.touch()
			if _, err := dst.Write(buf[:n]); err != nil {
				return &sideError{other, "writing to", err}
			}
			count.Add(int64(n))
			p.touch()
		}
		switch {
		case err == io.EOF:
			if err := dst.CloseWrite(); err != nil {
				return &sideError{other, "ending", err}
			}
			return nil
		case err != nil:
			return &sideError{side, "reading from", err}
		}
	}
}

// reset ends a connection so that the peer does not take it for an orderly end:
// with RST, and without close_notify.
func reset(c net.Conn) {
	raw := c
	if tls, ok := c.(interface{ NetConn() net.Conn }); ok {
		raw = tls.NetConn()
	}
	if tcp, ok := raw.(interface{ SetLinger(int) error }); ok {
		tcp.SetLinger(0)
	}
	raw.Close()
}
