package cut

import (
	"io"
	"net"
	"time"
)

const (
	// LingerTime is how long an end that has rejected its peer lingers.
	LingerTime = time.Second
	// LingerBytes is how many bytes of such a peer it reads, at most.
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
// Discard gives up at the time end. It also gives up after a pause of the peer that is
// longer than pause, and after limit bytes; 0 means that there is no such bound.
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

// pausing bounds each Read of a connection.
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
