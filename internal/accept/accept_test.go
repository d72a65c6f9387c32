package accept_test

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/accept"
)

// failing is a listener that returns an error a number of times.
type failing struct {
	net.Listener
	times int
}

var errAccept = errors.New("accept failed")

func (f *failing) Accept() (net.Conn, error) {
	if f.times--; f.times >= 0 {
		return nil, errAccept
	}
	conn, other := net.Pipe()
	other.Close()
	return conn, nil
}

func TestPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pauses []time.Duration
		start := time.Now()
		conn, err := accept.Next(&failing{times: 10}, nil, func(err error, pause time.Duration) bool {
			require.Equal(t, errAccept, err)
			pauses = append(pauses, pause/time.Millisecond)
			return true
		})
		require.NoError(t, err)
		conn.Close()
		require.Equal(t, []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000}, pauses)
		require.Equal(t, 3275*time.Millisecond, time.Since(start))
	})
}

func TestPermanentErrorIsReturned(t *testing.T) {
	l := &failing{times: 3}
	_, err := accept.Next(l, nil, func(error, time.Duration) bool { return false })
	require.Equal(t, errAccept, err)
	require.Equal(t, 2, l.times)
}

func TestStopEndsThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		time.AfterFunc(100*time.Millisecond, func() { close(stop) })
		start := time.Now()
		_, err := accept.Next(&failing{times: 1000}, stop, func(error, time.Duration) bool { return true })
		require.Equal(t, errAccept, err)
		require.Equal(t, 100*time.Millisecond, time.Since(start))
	})
}
