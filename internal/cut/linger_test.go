package cut_test

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/cut"
)

// Discard returns when the peer ends the connection, at the time end, when the peer
// sends nothing for the time pause, and after limit bytes.
func TestDiscardEnds(t *testing.T) {
	const end, forever = 30 * time.Second, time.Hour
	for name, test := range map[string]struct {
		pause time.Duration
		limit int64
		send  func(peer net.Conn)
		want  time.Duration
	}{
		"the peer ends": {5 * time.Second, 0, func(peer net.Conn) {
			peer.Write(make([]byte, 100))
			time.Sleep(2 * time.Second)
			peer.Close()
		}, 2 * time.Second},
		"a silent peer": {0, 1000, func(net.Conn) { time.Sleep(forever) }, end},
		"a silent peer and a pause": {5 * time.Second, 0, func(peer net.Conn) {
			time.Sleep(4 * time.Second)
			peer.Write([]byte("x"))
			time.Sleep(forever)
		}, 9 * time.Second},
		"a peer that never stops": {5 * time.Second, 0, func(peer net.Conn) {
			for {
				time.Sleep(time.Second)
				if _, err := peer.Write([]byte("x")); err != nil {
					return
				}
			}
		}, end},
		"too many bytes": {0, 5, func(peer net.Conn) {
			for {
				time.Sleep(time.Second)
				if _, err := peer.Write([]byte("x")); err != nil {
					return
				}
			}
		}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, peer := net.Pipe()
				var sender sync.WaitGroup
				sender.Go(func() { test.send(peer) })
				start := time.Now()
				cut.Discard(conn, start.Add(end), test.pause, test.limit)
				require.Equal(t, test.want, time.Since(start))
				conn.Close()
				peer.Close()
				sender.Wait()
			})
		})
	}
}
