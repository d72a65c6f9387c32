package cut

import (
	"io"
	"net"
	"time"
)

const (
	// LingerTime bounds the time for which Discard reads from a peer that has been
	// rejected.
	LingerTime = time.Second
	// LingerBytes bounds the bytes that Discard reads from a rejected peer.
	LingerBytes = 256 << 10
)

// HalfClose ends the outgoing direction of conn. It reports whether that was possible.
func HalfClose(conn net.Conn) bool {
	half, ok := conn.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

// Discard reads and drops the data that the peer still sends after HalfClose, until
// the peer ends the connection too. The caller then closes conn. If it closed conn while the
// peer was still sending, TCP would reset the connection, and the peer could lose the
// last data that was sent to it: an alert, or an answer.
//
// Discard gives up at the time end, when the peer sends nothing for the time pause, and
// after limit bytes. If pause or limit is 0, there is no such bound.
func Discard(conn net.Conn, end time.Time, pause time.Duration, limit int64) {
	var in io.Reader = conn
	if pause > 0 {
		in = pausing{conn, end, pause}
	} else {
		conn.SetReadDeadline(end)
	}
	if limit > 0 {
		in = io.LimitReader(in, limit)
	}
	io.Copy(io.Discard, struct{ io.Reader }{in})
}

// pausing is a connection on which each Read waits for at most pause, and not beyond end.
type pausing struct {
	conn  net.Conn
	end   time.Time
	pause time.Duration
}

func (p pausing) Read(b []byte) (int, error) {
	limit := time.Now().Add(p.pause)
	if limit.After(p.end) {
		limit = p.end
	}
	p.conn.SetReadDeadline(limit)
	return p.conn.Read(b)
}
