package sslnet_test

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// TestNettest runs the tests that every net.Conn must pass, on connections after
// the handshake and on those that do the handshake in the first Read or Write.
func TestNettest(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
			for name, prepare := range map[string]func(*testing.T) (c, s net.Conn){
				"ready": func(t *testing.T) (net.Conn, net.Conn) {
					return connect(t, join, testkit.Server(), nameless(testkit.UpTo(highest)))
				},
				"not yet": func(t *testing.T) (net.Conn, net.Conn) {
					return pair(t, join, testkit.Server(), nameless(testkit.UpTo(highest)))
				},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
						c1, c2 = prepare(t)
						return c1, c2, func() {
							c2.(interface{ NetConn() net.Conn }).NetConn().Close() // so that c1 does not wait for it
							c1.Close()
							c2.Close()
						}, nil
					})
				})
			}
		})
	})
}
