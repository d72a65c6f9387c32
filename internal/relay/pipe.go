package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cut"
	"github.com/seed-014b8713/sslfilter/internal/socket"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// duplex is a connection whose directions can be closed separately.
type duplex interface {
	net.Conn
	CloseWrite() error
}

// pipeSize is the size of the buffer of one direction, in bytes. A direction has a
// buffer only while the buffer contains data. For a peer that reads slowly, the relay
// holds at most one such buffer, the socket buffers and four TLS records in the
// library, because a full buffer becomes four records.
const pipeSize = 64 << 10

var pipeBuffers = sync.Pool{New: func() any { return new([pipeSize]byte) }}

// pipePool has the buffers of pipes, as a socket.Pool.
type pipePool struct{}

func (pipePool) Get() []byte  { return pipeBuffers.Get().(*[pipeSize]byte)[:] }
func (pipePool) Put(b []byte) { pipeBuffers.Put((*[pipeSize]byte)(b[:pipeSize])) }

// pipe joins two connections until both directions have ended. Each direction ends
// separately: a close_notify or FIN of one side is passed on to the other. An end
// without close_notify, a reset or any other error is not an orderly end, and pipe
// does not turn it into one. The data that both sides sent before it is forwarded;
// after that the caller has to cut both connections.
type pipe struct {
	client, backend duplex
	touch           func() // called whenever data is transferred
	fromClient      *atomic.Int64
	fromBackend     *atomic.Int64
	clientEnded     atomic.Bool // orderly
	broken          atomic.Bool // a direction has failed; the other forwards the data that has arrived
}

// run forwards toBackend and toClient, which have already been read, and then
// everything else. It returns when both directions have ended. The error is that of the
// direction that failed first.
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

// hurry makes the direction from src to dst end after it has forwarded the data that
// has arrived: it no longer waits for src, and waits for dst for a limited time.
func (p *pipe) hurry(dst, src duplex) {
	dst.SetWriteDeadline(time.Now().Add(cut.Stall))
	src.SetReadDeadline(time.Unix(1, 0))
}

// lastRead is how long a read of data that has arrived may take. If it takes longer,
// another read follows.
const lastRead = 10 * time.Millisecond

// unread reports whether src still has data to be forwarded after the other direction
// has failed and a read has therefore timed out. The next read gets that data. It has
// a deadline, because the data may end with an incomplete record.
func (p *pipe) unread(src duplex, err error) bool {
	if !p.broken.Load() || !timedOut(err) || !cut.Unread(below(src)) {
		return false
	}
	return src.SetReadDeadline(time.Now().Add(lastRead)) == nil
}

// sideError is a failure of one side of a connection.
type sideError struct {
	side, doing string
	err         error
	late        bool // the other side had already ended its connection, so it misses nothing
}

func (e *sideError) Error() string {
	var cut *sslfilter.TruncatedError
	switch {
	case errors.As(e.err, &cut) && cut.InsideRecord:
		return "the " + e.side + " closed the connection inside a TLS record"
	case errors.Is(e.err, io.ErrUnexpectedEOF):
		return "the " + e.side + " closed the connection without close_notify"
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
	out := &counted{pipe: p, dst: dst, src: src, count: count}
	if len(first) > 0 {
		if _, err := out.Write(first); err != nil {
			return &sideError{side: other, doing: "writing to", err: err}
		}
	}
	from := source(src)
	for {
		_, err := from.WriteTo(out)
		switch {
		case out.err != nil:
			return &sideError{side: other, doing: "writing to", err: out.err}
		case err != nil && p.unread(src, err):
		case err != nil:
			late := side == "backend" && p.clientEnded.Load() && errors.Is(err, io.ErrUnexpectedEOF)
			return &sideError{side: side, doing: "reading from", err: err, late: late}
		default:
			if side == "client" {
				p.clientEnded.Store(true)
			}
			if err := dst.CloseWrite(); err != nil {
				return &sideError{side: other, doing: "closing", err: err}
			}
			return nil
		}
	}
}

// source reads a connection without holding a buffer while it waits.
func source(conn net.Conn) io.WriterTo {
	if tls, ok := conn.(*sslnet.Conn); ok {
		return tls
	}
	if r := socket.New(conn, pipePool{}); r != nil {
		return socketSource{r}
	}
	return plainSource{conn}
}

// socketSource reads a socket. WriteTo can be called again after a timeout.
type socketSource struct{ *socket.Reader }

func (s socketSource) WriteTo(w io.Writer) (sum int64, err error) {
	for {
		data, err := s.Read()
		if len(data) > 0 {
			var n int
			n, err = w.Write(data)
			sum += int64(n)
			pipePool{}.Put(data)
		}
		switch {
		case err == io.EOF:
			return sum, nil
		case err != nil:
			return sum, err
		}
	}
}

// plainSource reads a connection that is not a socket.
type plainSource struct{ net.Conn }

func (s plainSource) WriteTo(w io.Writer) (int64, error) {
	buf := pipePool{}.Get()
	defer pipePool{}.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{s.Conn}, buf)
}

// counted writes to one side of a pipe. It counts the bytes and keeps the error of a
// write, because the error of WriteTo may be that of a read or of a write.
type counted struct {
	pipe     *pipe
	dst, src duplex
	count    *atomic.Int64
	err      error
}

func (c *counted) Write(b []byte) (int, error) {
	c.pipe.touch()
	if c.pipe.broken.Load() {
		c.pipe.hurry(c.dst, c.src)
	}
	n, err := c.dst.Write(b)
	c.err = err
	c.count.Add(int64(n))
	c.pipe.touch()
	return n, err
}

// below returns the connection that carries TLS, or conn itself.
func below(conn net.Conn) net.Conn {
	if tls, ok := conn.(*sslnet.Conn); ok {
		return tls.NetConn()
	}
	return conn
}

// cutAlert is a fatal alert, internal_error, that is not encrypted. In an
// encrypted connection every TLS implementation reports it as an error. Some do not
// report a missing close_notify: crypto/tls accepts it between two records, and a
// program that sets SSL_OP_IGNORE_UNEXPECTED_EOF, as curl does, accepts even an end
// inside a record.
var cutAlert = []byte{21, 3, 3, 0, 2, 2, 80} // RFC 8446 section 5.1

// cutOff ends a connection after all data that was written to it, in a way that the
// peer cannot mistake for an orderly end: TLS with cutAlert in place of a
// close_notify, and a plain connection with a reset. It waits for a slow peer as long
// as the peer reads, and calls moved each time that the peer has read something.
// Nothing may write to conn at the same time.
func cutOff(conn net.Conn, stop <-chan struct{}, moved func()) {
	socket := cut.Take(below(conn))
	if _, ok := conn.(*sslnet.Conn); ok {
		socket.Finish(cutAlert, stop, moved)
	} else {
		socket.Reset(stop, moved)
	}
	conn.Close() // releases the memory of TLS
}
