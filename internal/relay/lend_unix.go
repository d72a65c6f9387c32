//go:build unix

package relay

import (
	"io"
	"net"
	"os"
	"syscall"
)

// lender reads a socket with a buffer that it takes from the pool only once there
// is something to read, so that a connection that is waited for holds none.
// package sslnet reads the same way.
type lender struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // l.readOnce, made once

	buf *pipeBuffer // the result of one read
	n   int
	err error
}

// newLender is nil if conn is not a socket.
func newLender(conn net.Conn) *lender {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	l := &lender{raw: raw}
	l.try = l.readOnce
	return l
}

// readOnce reports whether there is a result.
func (l *lender) readOnce(fd uintptr) bool {
	l.buf = pipeBuffers.Get().(*pipeBuffer)
	for {
		n, err := syscall.Read(int(fd), l.buf[:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			l.release()
			return false
		case err != nil:
			l.err = os.NewSyscallError("read", err)
		case n == 0:
			l.err = io.EOF
		default:
			l.n = n
		}
		return true
	}
}

func (l *lender) release() {
	if l.buf != nil {
		pipeBuffers.Put(l.buf)
		l.buf = nil
	}
}

// WriteTo writes to w what comes, until its end. It can be called again after a
// timeout.
func (l *lender) WriteTo(w io.Writer) (sum int64, err error) {
	for {
		l.n, l.err = 0, nil
		if err = l.raw.Read(l.try); err == nil {
			err = l.err
		}
		if l.n > 0 {
			var n int
			n, err = w.Write(l.buf[:l.n])
			sum += int64(n)
		}
		l.release()
		switch {
		case err == io.EOF:
			return sum, nil
		case err != nil:
			return sum, err
		}
	}
}
