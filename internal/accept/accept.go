// Package accept accepts connections, and retries after temporary errors.
package accept

import (
	"net"
	"time"
)

// The pauses are those of net/http.
const (
	// least is the first pause.
	least = 5 * time.Millisecond
	// most bounds the pauses, which become longer.
	most = time.Second
)

// Next returns the next connection of l. After an error, it calls again with the
// error and the length of a pause. If again returns true, Next tries again after the
// pause, and otherwise it returns the error. It also returns the error if stop is
// closed during the pause. Each further error in a row doubles the pause, up to a second.
func Next(l net.Listener, stop <-chan struct{}, again func(err error, pause time.Duration) bool) (net.Conn, error) {
	for pause := least; ; pause = min(2*pause, most) {
		conn, err := l.Accept()
		if err == nil {
			return conn, nil
		}
		if !again(err, pause) {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-stop:
			return nil, err
		}
	}
}
