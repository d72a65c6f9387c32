//go:build !unix

package cut

import (
	"net"
	"time"
)

// Socket is a connection that the rest of the program no longer uses. Reset or
// Finish must be called on it.
type Socket struct{ conn net.Conn }

// Take makes pending calls of Read and Write return with an error.
func Take(conn net.Conn) *Socket {
	conn.SetDeadline(time.Unix(1, 0))
	return &Socket{conn}
}

// Reset waits a moment and then resets the connection. It cannot know how much
// data the peer's system has not acknowledged.
func (s *Socket) Reset(stop <-chan struct{}, moved func()) {
	if s == nil {
		return
	}
	select {
	case <-stop:
	case <-time.After(unknown):
	}
	if tcp, ok := s.conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	s.conn.Close()
}

// Finish sends last and a FIN, waits a moment, and closes the connection.
func (s *Socket) Finish(last []byte, stop <-chan struct{}, moved func()) {
	if s == nil {
		return
	}
	s.conn.SetWriteDeadline(time.Now().Add(afterLast))
	s.conn.Write(last)
	if half, ok := s.conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	select {
	case <-stop:
	case <-time.After(afterLast):
	}
	s.conn.Close()
}

// Unread returns false, since this system does not report unread input.
func Unread(net.Conn) bool { return false }
