package sslredis_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// delay returns the address of a proxy that passes on each request to addr after a time.
func delay(t testing.TB, addr string, by time.Duration) string {
	return testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
		to, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer to.Close()
		var wait sync.WaitGroup
		wait.Go(func() {
			io.Copy(conn, to)
			conn.Close()
		})
		defer wait.Wait()
		defer to.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			time.Sleep(by) // the slowness that the test is about
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	})
}

// silent returns the port of a server that accepts connections and never answers.
func silent(t testing.TB) string {
	return peers.Port(t, testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) { io.Copy(io.Discard, conn) }))
}
