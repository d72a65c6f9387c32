//go:build !unix

package cut

import (
	"net"
	"time"
)

// Socket is a connection that nobody in this program waits for any more.
type Socket struct{ conn net.Conn }

// Take ends calls of Read and Write that are under way.
func Take(conn net.Conn) *Socket {
	conn.SetDeadline(time.Unix(1, 0))
	return &Socket{conn}
}

// Reset waits a moment, since it cannot know what is still on its way, and resets
// the connection.
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

// Finish sends last and a FIN, and waits a moment before it closes.
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

// Unread cannot be known here.
func Unread(net.Conn) bool { return false }
