package sslnet_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// A client that rejects its server delivers its alert even while the server is
// writing: data that the client has not read would make TCP discard the alert.
func TestRefusedServerGetsTheAlert(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		l := testkit.Listen(t)
		alert := make(chan error, 1)
		server := testkit.Ctx(t, testkit.Server(testkit.UpTo(highest)))
		go func() {
			conn, err := l.Accept()
			if err != nil {
				alert <- err
				return
			}
			defer conn.Close()
			f, err := server.NewFilter()
			if err != nil {
				alert <- err
				return
			}
			defer f.Close()
			buf := make([]byte, 1<<16)
			n, err := conn.Read(buf)
			if err == nil {
				_, err = f.Receive(nil, buf[:n])
			}
			if err != nil {
				alert <- err
				return
			}
			conn.Write(f.Outgoing(nil))
			waitReadable(t, conn) // the alert has come, and nobody reads it yet
			for range 200 {
				if _, err := conn.Write(make([]byte, 1000)); err != nil {
					alert <- err
					return
				}
			}
			conn.(*net.TCPConn).CloseWrite()
			n, err = conn.Read(buf)
			if err == nil {
				_, err = f.Receive(nil, buf[:n])
			}
			alert <- err
		}()
		_, err := sslnet.Dial("tcp", l.Addr().String(), testkit.Ctx(t, nameless(func(o *sslfilter.Options) { o.CACrt = testkit.PKI("ecroot.crt") })))
		require.ErrorAs(t, err, new(*sslfilter.VerifyError))
		var code sslfilter.AlertError
		require.ErrorAs(t, <-alert, &code)
	})
}
