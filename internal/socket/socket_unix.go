//go:build unix

package socket

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Reader reads a TCP connection or a Unix stream connection. One goroutine at a time
// may use it.
type Reader struct {
	raw  syscall.RawConn
	try  func(fd uintptr) bool // r.readOnce, allocated once
	pool Pool

	buf []byte // the result of one read
	err error
}

// New returns a Reader of conn that takes its buffers from pool. It returns nil for
// all other connections. These include wrappers of TCP and Unix connections, whose
// Read must not be bypassed.
func New(conn net.Conn, pool Pool) *Reader {
	var raw syscall.RawConn
	var err error
	switch conn := conn.(type) {
	case *net.TCPConn:
		raw, err = conn.SyscallConn()
	case *net.UnixConn:
		if addr, ok := conn.LocalAddr().(*net.UnixAddr); !ok || addr.Net != "unix" { // datagrams
			return nil
		}
		raw, err = conn.SyscallConn()
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	r := &Reader{raw: raw, pool: pool}
	r.try = r.readOnce
	return r
}

// Read waits for data and reads it. It obeys the read deadline of the connection.
// If data is not nil, the caller returns it to the pool.
func (r *Reader) Read() (data []byte, err error) {
	r.err = nil
	if err = r.raw.Read(r.try); err == nil {
		err = r.err
	}
	data, r.buf = r.buf, nil
	return data, err
}

// readOnce reads without waiting, and reports whether there is a result.
func (r *Reader) readOnce(fd uintptr) bool {
	buf := r.pool.Get()
	n, err := syscall.Read(int(fd), buf)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), buf)
	}
	if n > 0 {
		r.buf = buf[:n]
		return true
	}
	r.pool.Put(buf)
	switch {
	case err == syscall.EAGAIN:
		return false
	case err != nil:
		r.err = os.NewSyscallError("read", err)
	default:
		r.err = io.EOF
	}
	return true
}

// Discard reads and drops what has arrived, up to one buffer, without waiting.
func (r *Reader) Discard() {
	r.raw.Read(func(fd uintptr) bool {
		r.readOnce(fd)
		return true
	})
	if r.buf != nil {
		r.pool.Put(r.buf)
		r.buf = nil
	}
}
