package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/cut"
	"github.com/seed-014b8713/sslfilter/sslnet"
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
// time: the end of one side (close_notify or FIN) becomes that of the other. An
// end without close_notify, a reset or any other error is not an orderly end and
// does not become one. What both sides sent before it is forwarded; then the
// caller has to cut both connections.
type pipe struct {
	client, backend duplex
	touch           func() // called for every movement of bytes
	fromClient      *atomic.Int64
	fromBackend     *atomic.Int64
	broken          atomic.Bool // a direction has failed; the other forwards what has come
}

// run forwards first what was read before. It returns when nothing moves any
// more; the error is that of the side which broke.
func (p *pipe) run(toBackend, toClient []byte) error {
	var first sync.Once
	var err error
	half := func(dst, src duplex, data []byte, count *atomic.Int64, side string) {
		if e := p.half(dst, src, data, count, side); e != nil {
			first.Do(func() {
				err = e
				p.broken.Store(true)
				p.hurry(src, dst)
			})
		}
	}
	var wait sync.WaitGroup
	wait.Go(func() { half(p.backend, p.client, toBackend, p.fromClient, "client") })
	half(p.client, p.backend, toClient, p.fromBackend, "backend")
	wait.Wait()
	return err
}

// hurry makes the direction from src to dst end once it has forwarded what has
// come: src is not waited for any more, and dst only for a bounded time.
func (p *pipe) hurry(dst, src duplex) {
	dst.SetWriteDeadline(time.Now().Add(cut.Stall))
	src.SetReadDeadline(time.Unix(1, 0))
}

// lastRead is how long a read may take of input that has come already. If it is
// not enough, another read follows.
const lastRead = 10 * time.Millisecond

// unread reports whether src still has input to be forwarded, after the other
// direction has failed and a read has timed out for that reason. The next read
// gets it. What follows may be a part of a record, so that read is not to wait.
func (p *pipe) unread(src duplex, err error) bool {
	if !p.broken.Load() || !timedOut(err) || !cut.Unread(below(src)) {
		return false
	}
	return src.SetReadDeadline(time.Now().Add(lastRead)) == nil
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
			if p.broken.Load() {
				p.hurry(dst, src)
			}
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
		case err != nil && !p.unread(src, err):
			return &sideError{side, "reading from", err}
		}
	}
}

// below is the connection under TLS, or conn itself.
func below(conn net.Conn) net.Conn {
	if tls, ok := conn.(*sslnet.Conn); ok {
		return tls.NetConn()
	}
	return conn
}

// cutRecord begins a record that does not follow. Some programs take the end of
// a TLS connection between two records for an orderly one, without close_notify
// too (crypto/tls does). None can take an end inside a record for one.
var cutRecord = []byte{23} // application_data, RFC 8446 section 5.1

// cutOff ends a connection after everything that was written to it, so that the
// peer does not take it for an orderly end: TLS without close_notify and inside
// a record, and a plain connection with a reset. A peer that is slow but reads is
// waited for; moved is called as it does. Nobody may write to conn meanwhile.
func cutOff(conn net.Conn, stop <-chan struct{}, moved func()) {
	socket := cut.Take(below(conn))
	if _, ok := conn.(*sslnet.Conn); ok {
		socket.Finish(cutRecord, stop, moved)
	} else {
		socket.Reset(stop, moved)
	}
	conn.Close() // what TLS holds in memory
}
