package examples_test

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// opensslServer starts an s_server and returns its address.
func opensslServer(t *testing.T, args ...string) (*peers.Program, string) {
	t.Helper()
	s := peers.Start(t, peers.Find(t, "openssl", "openssl"), append([]string{"s_server", "-accept", "127.0.0.1:0"}, args...)...)
	return s, "localhost:" + peers.Port(t, s.Await("ACCEPT "))
}

func TestTCPClientWithOpenSSL(t *testing.T) {
	file := pki(t)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			server, addr := opensslServer(t, "-www", "-cert", file("server.crt"), "-key", file("server.key"), "-CAfile", file("ca.crt"), "-Verify", "1", version)
			out, status := peers.Run(t, filepath.Join(programs, "tcpclient"), "-connect", addr, "-cacrt", file("ca.crt"),
				"-crt", file("client-valid.crt"), "-key", file("client-valid.key"), "-put", "GET / HTTP/1.0\r\n\r\n")
			require.Zero(t, status, out)
			require.Contains(t, out, "from server: HTTP/1.0 200 ok")
			require.Contains(t, out, "CN=valid client")
			server.Await("ACCEPT") // for the next one
		})
	}
}

// The client rejects a server that it cannot verify. The original continues with any
// server.
func TestTCPClientRefuses(t *testing.T) {
	file := pki(t)
	server, addr := opensslServer(t, "-cert", file("server.crt"), "-key", file("server.key"))
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"an unknown CA", nil, "unable to get local issuer certificate"},
		{"another name", []string{"-cacrt", file("ca.crt"), "-sni", "elsewhere.test"}, "ostname mismatch"},
	} {
		out, status := peers.Run(t, filepath.Join(programs, "tcpclient"), append([]string{"-connect", addr}, c.args...)...)
		require.Equal(t, 1, status, c.name)
		require.Contains(t, out, c.says, c.name)
	}
	server.Await("alert unknown ca") // the alert arrived before the connection was closed
	require.NotContains(t, server.Output(), "HEAD")

	client := example(t, "tcpclient", "-connect", addr, "-insecureskipverify", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")
	server.Await("HEAD / HTTP/1.0")
	server.Say("hello\n")
	require.Equal(t, "hello", client.Await("from server: "))
	server.Say("Q\n") // s_server ends without close_notify
	require.Equal(t, 1, client.Wait())
	require.Contains(t, client.Output(), "unexpected EOF")
	require.Contains(t, server.Output(), "CIPHER is ECDHE-ECDSA-AES128-GCM-SHA256")
}

func TestTCPClientTimeout(t *testing.T) {
	l := testkit.Listen(t)
	out, status := peers.Run(t, filepath.Join(programs, "tcpclient"), "-connect", l.Addr().String(), "-timeout", "100ms")
	require.Equal(t, 1, status)
	require.Contains(t, out, "deadline exceeded")
}

// startTCPServer starts tcpserver and returns its address and its CA.
func startTCPServer(t *testing.T, args ...string) (p *peers.Program, addr, ca string) {
	t.Helper()
	p = example(t, "tcpserver", append([]string{"-listen", "127.0.0.1:0"}, args...)...)
	addr = p.Await("tcpserver listens on ")
	return p, addr, p.Await("throw-away certificates: ")
}

func TestTCPServer(t *testing.T) {
	server, addr, ca := startTCPServer(t)
	for _, c := range []struct {
		debianPackage string
		argv          []string
		done          string
	}{
		{"openssl", []string{"openssl", "s_client", "-connect", addr, "-CAfile", ca, "-verify_return_error", "-tls1_2"}, "closed"},
		{"openssl", []string{"openssl", "s_client", "-connect", addr, "-CAfile", ca, "-verify_return_error", "-tls1_3"}, "closed"},
		{"gnutls-bin", []string{"gnutls-cli", "--x509cafile=" + ca, "--port=" + peers.Port(t, addr), "localhost"}, "Peer has closed the GnuTLS connection"},
		{"gnutls-bin", []string{"gnutls-cli", "--priority=NORMAL:-VERS-TLS1.3", "--x509cafile=" + ca, "--port=" + peers.Port(t, addr), "localhost"}, "Peer has closed the GnuTLS connection"},
	} {
		t.Run(strings.Join(c.argv[:2], " "), func(t *testing.T) {
			client := peers.Start(t, peers.Find(t, c.debianPackage, c.argv[0]), c.argv[1:]...)
			client.Await("Smile from the server!")
			client.Say("hello\n")
			client.Await("You sent:")
			client.Await("hello\n")
			client.Await(c.done)
			require.Zero(t, client.Wait(), client.Output())
			require.NotContains(t, client.Output(), "unexpected eof") // as with the original
			require.NotContains(t, client.Output(), "non-properly terminated")
		})
	}
	server.Await("got a connection from 127.0.0.1:")
	end(t, server, ca)
}

// Peers that are silent, are slow or do not speak TLS delay no other peer, and the
// server closes their connections.
func TestTCPServerEndsBadConnections(t *testing.T) {
	server, addr, ca := startTCPServer(t, "-timeout", "1s")
	silent := testkit.Dial(t, addr)
	http := testkit.Dial(t, addr)
	_, err := io.WriteString(http, "GET / HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	garbage := testkit.Dial(t, addr)
	_, err = io.WriteString(garbage, strings.Repeat("\xff\x00garbage", 9000))
	require.NoError(t, err)

	idle := peers.Start(t, peers.Find(t, "openssl", "openssl"), "s_client", "-connect", addr, "-CAfile", ca)
	idle.Await("Smile from the server!")
	idle.Await("closed") // because it sent nothing
	for _, conn := range []net.Conn{silent, http, garbage} {
		io.Copy(io.Discard, conn)
		require.NoError(t, conn.SetReadDeadline(time.Now())) // the connection has ended, in order or not
	}
	server.Await("plain HTTP")
	server.Await("handshake timeout")
	end(t, server, ca)

	server, addr, ca = startTCPServer(t)
	late := peers.Start(t, peers.Find(t, "openssl", "openssl"), "s_client", "-connect", addr, "-CAfile", ca)
	late.Await("Smile from the server!")
	end(t, server, ca) // while a client is connected, which gets a close_notify
	late.Await("closed")
	require.NotContains(t, late.Output(), "unexpected eof")
}
