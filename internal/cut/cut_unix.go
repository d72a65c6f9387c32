//go:build unix

package cut

import (
	"math"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is the socket of a connection that is closed for the rest of the program
// but still open for the peer. Reset or Finish must be called on it. A nil Socket
// stands for a connection that has ended already, and its methods do nothing.
type Socket struct{ fd int }

// Take closes conn: pending calls of Read and Write return net.ErrClosed. The
// underlying socket stays open, so the peer notices nothing yet.
//
// Take returns nil if conn was closed before or is not a TCP connection. In the
// latter case the kernel still delivers, after the close, the data that was written
// before it, and the peer sees an ordinary end.
func Take(conn net.Conn) *Socket {
	defer conn.Close()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(open uintptr) { fd, dupErr = unix.FcntlInt(open, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil
	}
	if dupErr != nil { // the process has no file descriptor left; a reset at least is not an orderly end
		tcp.SetLinger(0)
		return nil
	}
	return &Socket{fd}
}

// Reset waits until the peer's system has acknowledged everything that was
// written, and then resets the connection. Meanwhile it discards input. It stops
// waiting after Stall without progress, or a second after stop is closed. Reset
// calls moved, which may be nil, each time there is progress.
func (s *Socket) Reset(stop <-chan struct{}, moved func()) {
	if s == nil {
		return
	}
	s.deliver(false, nil, stop, moved)
	unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(s.fd)
}

// Finish sends last and a FIN after everything that was written. It closes the
// socket when the peer's system has acknowledged all of it and the peer has sent
// its FIN too; it waits for that FIN for at most a second. The other limits and
// moved are as for Reset.
func (s *Socket) Finish(last []byte, stop <-chan struct{}, moved func()) {
	if s == nil {
		return
	}
	s.deliver(true, last, stop, moved)
	unix.Close(s.fd)
}

var buffers = sync.Pool{New: func() any { return new([discardSize]byte) }}

// deliver does the waiting that Reset and Finish describe.
func (s *Socket) deliver(fin bool, last []byte, stop <-chan struct{}, moved func()) {
	buf := buffers.Get().(*[discardSize]byte)
	defer buffers.Put(buf)
	least, progress, finSent := math.MaxInt, time.Now(), false
	var end time.Time // when to give up, once stop is closed
	for pause := shortPause; ; pause = min(2*pause, longPause) {
		if fin && !finSent {
			finSent = s.sendLast(&last)
		}
		ended, broken := s.discard(buf[:])
		waiting, known := unsent(s.fd)
		if waiting < least {
			least, progress = waiting, time.Now()
			if moved != nil {
				moved()
			}
		}
		limit := Stall
		switch {
		case broken:
			return
		case !known:
			limit = unknown
		case waiting == 0 && !fin, waiting == 0 && finSent && ended:
			return
		case waiting == 0 && finSent:
			limit = afterLast
		}
		now := time.Now()
		if now.Sub(progress) >= limit || !end.IsZero() && now.After(end) {
			return
		}
		select {
		case <-stop:
			stop, end = nil, now.Add(afterStop)
		case <-time.After(pause):
		}
	}
}

// sendLast writes last and then a FIN. It reports whether both are done.
func (s *Socket) sendLast(last *[]byte) bool {
	for len(*last) > 0 {
		n, err := unix.Write(s.fd, *last)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err != nil:
			return true // discard reports the error
		}
		*last = (*last)[n:]
	}
	unix.Shutdown(s.fd, unix.SHUT_WR)
	return true
}

// discard reads and drops input that has arrived, with at most 16 reads. Unread
// input would make the kernel reset the connection on close. It would also block
// a peer that finishes writing before it reads.
func (s *Socket) discard(buf []byte) (ended, broken bool) {
	for range 16 {
		n, err := unix.Read(s.fd, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false, false
		case err != nil:
			return false, true
		case n == 0:
			return true, false
		}
	}
	return false, false
}

// Unread reports whether the kernel holds input of conn that nobody has read.
func Unread(conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	raw.Control(func(fd uintptr) { n = unread(int(fd)) })
	return n > 0
}
