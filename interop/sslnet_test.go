package interop_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// echo starts a listener whose connections get back each line that they send. The
// channel reports the properties of each connection.
func echo(t testing.TB, o sslfilter.Options) (net.Listener, <-chan *sslnet.Conn) {
	t.Helper()
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, o))
	require.NoError(t, err)
	conns := make(chan *sslnet.Conn, 10)
	testkit.Serve(t, l, func(c net.Conn) {
		conns <- c.(*sslnet.Conn)
		testkit.Echo(c)
	})
	return l, conns
}

var echoOptions = sslfilter.Options{Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server.key"), CACrt: testkit.PKI("root.crt"), ClientCert: true, ALPN: []string{"echo"}}

func next(t testing.TB, conns <-chan *sslnet.Conn) *sslnet.Conn {
	t.Helper()
	select {
	case c := <-conns:
		return c
	case <-time.After(testkit.Patience):
		require.FailNow(t, "no connection")
		return nil
	}
}

// openssl s_client talks to a listener, changes keys in both directions and ends.
func TestConnOpenSSLClient(t *testing.T) {
	for flag, version := range map[string]uint16{"-tls1_2": tls.VersionTLS12, "-tls1_3": tls.VersionTLS13} {
		t.Run(flag, func(t *testing.T) {
			l, conns := echo(t, echoOptions)
			client := start(t, "openssl", "openssl", "s_client", "-connect", l.Addr().String(), flag, "-CAfile", testkit.PKI("root.crt"),
				"-cert", testkit.PKI("client.crt"), "-key", testkit.PKI("client.key"), "-alpn", "echo", "-servername", "localhost")
			client.say("hello\n")
			client.await("hello", 1)
			c := next(t, conns)
			state := c.ConnectionState()
			require.Equal(t, version, state.Version)
			require.Equal(t, "echo", state.NegotiatedProtocol)
			require.Equal(t, "localhost", state.ServerName)
			require.True(t, c.ClientCertValid())
			if flag == "-tls1_3" {
				client.say("K\n") // it changes its keys and asks us to change ours
				client.await("KEYUPDATE", 1)
				client.say("with new keys\n")
				client.await("with new keys", 1)
			}
			client.stdin.Close() // it sends close_notify and ends
			require.NoError(t, client.wait())
		})
	}
}

// A listener that refuses the certificate of openssl s_client reports the certificate.
func TestConnRefusesOpenSSLClient(t *testing.T) {
	for _, flag := range []string{"-tls1_2", "-tls1_3"} {
		for crt, code := range map[string]sslfilter.VerifyCode{"client-expired": 10, "client-unknown": 20, "client-srvonly": 26} {
			failed := make(chan error, 1)
			l := &sslnet.Listener{
				Listener: testkit.Listen(t), Ctx: testkit.Ctx(t, testkit.Requiring()),
				HandshakeError: func(_ net.Conn, err error) { failed <- err },
			}
			defer l.Close()
			go l.Accept()
			start(t, "openssl", "openssl", "s_client", "-connect", l.Addr().String(), flag, "-CAfile", testkit.PKI("root.crt"),
				"-cert", testkit.PKI(crt+".crt"), "-key", testkit.PKI(crt+".key"))
			select {
			case err := <-failed:
				require.Equal(t, code, testkit.As[*sslfilter.VerifyError](t, err).Code)
				peer := testkit.As[*sslfilter.Error](t, err).Peer
				require.True(t, bytes.Equal(testkit.Cert(t, crt+".crt").Raw, peer.Sent[0]), "%s %s", flag, crt)
				require.False(t, peer.KeyProved)
			case <-time.After(testkit.Patience):
				require.FailNow(t, "the client is not refused")
			}
		}
	}
}

// gnutls-cli talks to a listener.
func TestConnGnuTLSClient(t *testing.T) {
	l, conns := echo(t, echoOptions)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	client := start(t, "gnutls-bin", "gnutls-cli", "--x509cafile", testkit.PKI("root.crt"), "--x509certfile", testkit.PKI("client.crt"),
		"--x509keyfile", testkit.PKI("client.key"), "--alpn", "echo", "--port", port, "localhost")
	client.await("Simple Client Mode", 1)
	client.say("hello\n")
	client.await("hello", 1)
	c := next(t, conns)
	require.Equal(t, "echo", c.ALPN())
	require.True(t, c.ClientCertValid())
	client.stdin.Close()
	require.NoError(t, client.wait())
}

// A Dialer talks to openssl s_server, which sends a file back.
func TestConnOpenSSLServer(t *testing.T) {
	for flag, version := range map[string]string{"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"} {
		t.Run(flag, func(t *testing.T) {
			server := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", flag, "-cert", testkit.PKI("server.crt"),
				"-key", testkit.PKI("server.key"), "-CAfile", testkit.PKI("root.crt"), "-Verify", "1", "-alpn", "one,two", "-rev")
			addr := server.await("ACCEPT ", 1)
			c, err := sslnet.Dial("tcp", addr, testkit.Ctx(t, sslfilter.Options{
				Client: true, CACrt: testkit.PKI("root.crt"), Crt: testkit.PKI("client.crt"), Key: testkit.PKI("client.key"), ALPN: []string{"two"},
			}))
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, c.SetDeadline(time.Now().Add(testkit.Patience)))
			require.Equal(t, version, c.Version())
			require.Equal(t, "two", c.ALPN())
			_, err = io.WriteString(c, "hello\n")
			require.NoError(t, err)
			line, err := bufio.NewReader(c).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "olleh\n", line)
		})
	}
}

// A Dialer talks to gnutls-serv.
func TestConnGnuTLSServer(t *testing.T) {
	port := freePort(t)
	server := start(t, "gnutls-bin", "gnutls-serv", "--echo", "--port", port, "--x509cafile", testkit.PKI("root.crt"),
		"--x509certfile", testkit.PKI("server.crt"), "--x509keyfile", testkit.PKI("server.key"), "--require-client-cert")
	server.await("listening on IPv4", 1)
	c, err := sslnet.Dial("tcp", "127.0.0.1:"+port, testkit.Ctx(t, sslfilter.Options{
		Client: true, CACrt: testkit.PKI("root.crt"), Crt: testkit.PKI("client.crt"), Key: testkit.PKI("client.key"),
	}))
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(testkit.Patience)))
	_, err = io.WriteString(c, "hello\n")
	require.NoError(t, err)
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
}

// openssl s_client does STARTTLS with our server, and our client does STARTTLS with
// openssl s_server.
func TestConnSTARTTLS(t *testing.T) {
	l := testkit.Listen(t)
	client := start(t, "openssl", "openssl", "s_client", "-connect", l.Addr().String(), "-starttls", "smtp", "-CAfile", testkit.PKI("root.crt"), "-quiet")
	conn := accept(t, l)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testkit.Patience)))
	_, err := io.WriteString(conn, "220 here\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	for done := false; !done; {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		switch {
		case strings.HasPrefix(line, "EHLO"):
			_, err = io.WriteString(conn, "250-here\r\n250 STARTTLS\r\n")
		case line == "STARTTLS\r\n":
			done = true
		}
		require.NoError(t, err)
	}
	c, err := sslnet.ServerBuffered(conn, r, testkit.Ctx(t, echoOptions), sslnet.RefuseLeftover)
	require.NoError(t, err)
	_, err = io.WriteString(conn, "220 go ahead\r\n")
	require.NoError(t, err)
	client.say("hello\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
	_, err = io.WriteString(c, "250 over TLS\r\n")
	require.NoError(t, err)
	client.await("250 over TLS", 1)
}

// A server asks for a new handshake. Read does it, and data that Write accepts
// meanwhile arrives.
func TestConnRenegotiation(t *testing.T) {
	server := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2", "-msg",
		"-cert", testkit.PKI("server.crt"), "-key", testkit.PKI("server.key"))
	below := &gated{Conn: testkit.Dial(t, server.await("ACCEPT ", 1))}
	c := sslnet.Client(below, testkit.Ctx(t, testkit.Client()))
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(testkit.Patience)))
	require.NoError(t, c.Handshake())
	lines := make(chan string)
	go func() {
		defer close(lines)
		for r := bufio.NewScanner(c); r.Scan(); {
			lines <- r.Text()
		}
	}()
	for i, word := range []string{"one", "two", "three"} {
		below.closing.Store(true)
		server.say("R\n")
		// Once the client has sent its second, third or fourth ClientHello, s_server has
		// read the command, and does not take the next line for a part of it. The gate
		// keeps the server's answer from the client, so that Write is called in the
		// middle of the handshake.
		server.await("ClientHello", i+2)
		_, err := io.WriteString(c, word+" from the client\n")
		require.NoError(t, err)
		server.say(word + " from the server\n")
		below.gate.Unlock()
		require.Equal(t, word+" from the server", <-lines)
		server.await(word+" from the client", 1)
	}
	require.True(t, c.ClientCertValid())
}

// gated is a connection with a gate that input passes. After closing is set, the
// next Read closes the gate once it has data, and the Read after that one waits
// until the gate is unlocked.
type gated struct {
	net.Conn
	closing atomic.Bool
	gate    sync.Mutex
}

func (c *gated) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.Lock()
	if !c.closing.CompareAndSwap(true, false) {
		c.gate.Unlock()
	}
	return n, err
}
