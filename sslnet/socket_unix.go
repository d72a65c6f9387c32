//go:build unix

package sslnet

import (
	"io"
	"net"
	"os"
	"syscall"
)

// socket reads a TCP or Unix connection. It gets a buffer only when there is
// something to read, so that a waiting connection holds no buffer. net.Conn has no
// call for that: its Read holds the caller's buffer while it waits.
type socket struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // s.readOnce, allocated once

	wire *wireBuffer // the result of one read
	n    int
	err  error
}

// newSocket returns nil for other connections. These include wrappers of TCP and
// Unix connections, whose Read must not be bypassed.
func newSocket(conn net.Conn) *socket {
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
	s := &socket{raw: raw}
	s.try = s.readOnce
	return s
}

// read waits for data and reads it, like Read of a net.Conn. The caller returns
// the buffer with putWire.
func (s *socket) read() (wire *wireBuffer, n int, err error) {
	s.n, s.err = 0, nil
	if err = s.raw.Read(s.try); err == nil {
		err = s.err
	}
	wire, s.wire = s.wire, nil
	if wire == nil {
		wire = getWire()
	}
	return wire, s.n, err
}

// readOnce reads without waiting, and reports whether there is a result.
func (s *socket) readOnce(fd uintptr) bool {
	s.wire = getWire()
	for {
		n, err := syscall.Read(int(fd), s.wire[:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			putWire(s.wire)
			s.wire = nil
			return false
		case err != nil:
			s.err = os.NewSyscallError("read", err)
		case n == 0:
			s.err = io.EOF
		default:
			s.n = n
		}
		return true
	}
}

// discard reads and drops what has arrived, up to one buffer, without waiting.
func (s *socket) discard() {
	s.raw.Read(func(fd uintptr) bool {
		s.readOnce(fd)
		return true
	})
	if s.wire != nil {
		putWire(s.wire)
		s.wire = nil
	}
}
