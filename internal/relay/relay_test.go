package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// fixture is a running relay.
type fixture struct {
	*Server
	t   *testing.T
	log *testkit.Log
}

// crt returns the lines of a relay with TLS for clients.
func crt() string {
	return fmt.Sprintf("crt = %q\nkey = %q\n", testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"))
}

// trust returns the lines of a relay that verifies a backend of the test PKI.
func trust() string {
	return fmt.Sprintf("backend-cacrt = %q\nbackend-servername = \"localhost\"\n", testkit.AbsPKI("root.crt"))
}

// start runs a relay named "r" whose [[relay]] table has these lines.
func start(t *testing.T, lines ...string) *fixture {
	t.Helper()
	return startAll(t, relayTable(lines...))
}

func relayTable(lines ...string) string {
	return "[[relay]]\nname = \"r\"\n" + strings.Join(lines, "\n") + "\n"
}

// startAll runs a whole configuration.
func startAll(t *testing.T, text string) *fixture {
	t.Helper()
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	f := &fixture{t: t, log: new(testkit.Log)}
	f.Server, err = New(c, slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	go f.Serve()
	t.Cleanup(func() {
		f.Close()
		if t.Failed() {
			t.Log(f.log.String())
		}
	})
	return f
}

func (f *fixture) addr() string { return f.Addrs("r")[0].String() }

// logs waits until the relay has logged text.
func (f *fixture) logs(text string) {
	f.t.Helper()
	testkit.Eventually(f.t, func() bool { return strings.Contains(f.log.String(), text) }, "the log has no %q", text)
}

// count returns a counter of relay "r".
func (f *fixture) count(c func(*counters) value64) int64 {
	return c(f.relays[0].count).Value()
}

// backend starts a server in plain text that calls serve for every connection.
func backend(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	return testkit.Serve(t, testkit.Listen(t), serve)
}

// script serves a backend that sends and expects lines, and then is an echo.
func script(t *testing.T, lines ...string) func(net.Conn) {
	return func(conn net.Conn) {
		if speak(t, conn, lines...) {
			testkit.Echo(conn)
		}
	}
}

// speak sends the lines with "S: " and expects those with "C: ". It reads byte by
// byte, so it reads nothing after them.
func speak(t *testing.T, conn net.Conn, lines ...string) bool {
	for _, line := range lines {
		if said, ok := strings.CutPrefix(line, "S: "); ok {
			io.WriteString(conn, said+"\r\n")
			continue
		}
		var got []byte
		for b := make([]byte, 1); !bytes.HasSuffix(got, []byte("\r\n")); got = append(got, b[0]) {
			if _, err := conn.Read(b); err != nil {
				return false
			}
		}
		if want := strings.TrimPrefix(line, "C: ") + "\r\n"; string(got) != want {
			t.Errorf("the backend got %q, not %q", got, want)
			return false
		}
	}
	return true
}

func clientConfig(t *testing.T, names ...string) *tls.Config {
	t.Helper()
	return testkit.GoClient(t, func(c *tls.Config) {
		for _, name := range names {
			c.Certificates = append(c.Certificates, testkit.KeyPair(t, name+".crt", name+".key"))
		}
	})
}

func dialTLS(t *testing.T, addr string, names ...string) *tls.Conn {
	t.Helper()
	conn := tls.Client(testkit.Dial(t, addr), clientConfig(t, names...))
	require.NoError(t, conn.Handshake())
	return conn
}

// lines is a client of a protocol with lines.
type lines struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func newLines(t *testing.T, conn net.Conn) *lines { return &lines{t, conn, bufio.NewReader(conn)} }

func (l *lines) say(text string) {
	l.t.Helper()
	_, err := io.WriteString(l.Conn, text)
	require.NoError(l.t, err)
}

func (l *lines) expect(want string) string {
	l.t.Helper()
	got, err := l.in.ReadString('\n')
	require.NoError(l.t, err, "%q", got)
	require.Contains(l.t, got, want)
	return got
}

// end expects the end of the connection, without more data.
func (l *lines) end() {
	l.t.Helper()
	rest, err := io.ReadAll(l.in)
	require.NoError(l.t, err)
	require.Empty(l.t, rest)
}

// starttls begins TLS on the connection.
func (l *lines) starttls() *lines {
	l.t.Helper()
	require.Zero(l.t, l.in.Buffered())
	conn := tls.Client(l.Conn, clientConfig(l.t))
	require.NoError(l.t, conn.Handshake())
	return newLines(l.t, conn)
}

func TestTLSToPlain(t *testing.T) {
	f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
	conn := dialTLS(t, f.addr())
	testkit.Exchange(t, conn, "hello\x00\xff")
	require.NoError(t, conn.CloseWrite())
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Empty(t, rest)
	f.logs(`msg="connection ended"`)
	f.logs("from_client=7 from_backend=7")
	f.logs("protocol=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 certificate=none")
}

// With fips, the log names the providers of a connection, and the backend can be
// reached.
func TestFIPS(t *testing.T) {
	conf := testkit.FIPSConfig(t)
	second := start(t, `listen = ["tls:127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
	first := start(t, `listen = ["tls:127.0.0.1:0"]`, crt(), trust(), fmt.Sprintf("backend = \"tls:%s\"", second.addr()),
		fmt.Sprintf("fips = true\nfips-config = %q\nbackend-fips = true\nbackend-fips-config = %[1]q", conf))
	conn := dialTLS(t, first.addr())
	testkit.Exchange(t, conn, "by the module")
	require.NoError(t, conn.CloseWrite())
	_, err := io.ReadAll(conn)
	require.NoError(t, err)
	first.logs("cipher=TLS_AES_256_GCM_SHA384 certificate=none providers=fips")
	second.logs("cipher=TLS_AES_256_GCM_SHA384 certificate=none")
}

// A chain of relays: plain to TLS, TLS to TLS, over a unix socket, with the PROXY
// protocol.
func TestChainOfRelays(t *testing.T) {
	addresses := make(chan string, 1)
	last := backend(t, func(conn net.Conn) {
		header := make([]byte, 28)
		io.ReadFull(conn, header)
		addresses <- fmt.Sprintf("%q %v:%d", header[:16], net.IP(header[16:20]), int(header[24])<<8|int(header[25]))
		testkit.Echo(conn)
	})
	third := start(t, `listen = ["tls:127.0.0.1:0"]`, crt(), "proxy-protocol = true", fmt.Sprintf("backend = %q", last))
	second := start(t, `listen = ["tls:127.0.0.1:0"]`, crt(), trust(), fmt.Sprintf("backend = \"tls:%s\"", third.addr()))
	first := start(t, `listen = ["plain:127.0.0.1:0"]`, trust(), fmt.Sprintf("backend = \"tls:%s\"", second.addr()))
	conn := testkit.Dial(t, first.addr())
	testkit.Exchange(t, conn, "through all of them")
	require.Contains(t, <-addresses, `"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\f" 127.0.0.1:`)
	require.NoError(t, conn.CloseWrite())
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Empty(t, rest)
}

// A relay resumes its sessions with a backend, even after a reload.
func TestBackendSessionsAreResumed(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		ctx, resumed := testkit.Ctx(t, testkit.Server(testkit.UpTo(highest))), make(chan bool, 1)
		secret := backend(t, func(conn net.Conn) {
			c := sslnet.Server(conn, ctx)
			defer c.Close()
			if c.Handshake() == nil {
				resumed <- c.State().Resumed
				testkit.Echo(c)
			}
		})
		text := relayTable(`listen = ["plain:127.0.0.1:0"]`, trust(), fmt.Sprintf("backend = \"tls:%s\"", secret))
		f := startAll(t, text)
		for i := range 4 {
			conn := testkit.Dial(t, f.addr())
			testkit.Exchange(t, conn, "hello")
			require.Equal(t, i > 0, <-resumed)
			require.NoError(t, conn.Close())
			if i == 1 {
				c, err := config.Parse([]byte(text))
				require.NoError(t, err)
				require.NoError(t, f.Reload(c))
			}
		}
	})
}

func TestABackendOfAnotherNameOrCAIsRefused(t *testing.T) {
	secret := start(t, `listen = ["tls:127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
	for name, lines := range map[string]string{
		"other name": fmt.Sprintf("backend-cacrt = %q\nbackend-servername = \"other.test\"\n", testkit.AbsPKI("root.crt")),
		"other CA":   fmt.Sprintf("backend-cacrt = %q\nbackend-servername = \"localhost\"\n", testkit.AbsPKI("other.crt")),
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, `listen = ["plain:127.0.0.1:0"]`, lines, fmt.Sprintf("backend = \"tls:%s\"", secret.addr()))
			conn, err := net.Dial("tcp", f.addr())
			if err == nil { // an error means that the connection has already been reset
				defer conn.Close()
				_, err = io.ReadAll(conn)
			}
			require.Error(t, err) // a reset, because the backend has not ended a connection in an orderly way
			f.logs("verify")
			require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.backendFailed }))
		})
	}
}

// The name that is sent has no effect on the verification: the certificate of each
// backend must have the host of its own address. Otherwise one name would be accepted
// for all backends.
func TestTheSentNameIsNotTheVerifiedName(t *testing.T) {
	cert := testkit.KeyPair(t, "server.crt", "server.key")
	names := make(chan string, 10)
	serve := func(address string) string {
		config := &tls.Config{Certificates: []tls.Certificate{cert}, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			names <- hello.ServerName
			return nil, nil
		}}
		l, err := tls.Listen("tcp", address, config)
		if err != nil {
			peers.SkipUnless(t, "loopback-net", fmt.Sprintf("a listener on %s (%v)", address, err), "this needs the whole network 127.0.0.0/8")
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					speak(t, conn, "S: * OK ready", `C: t LOGIN "in" "secret"`, "S: t OK done")
				}()
			}
		}()
		return l.Addr().String()
	}
	in, out := serve("127.0.0.1:0"), serve("127.0.0.2:0") // the certificate is for localhost and 127.0.0.1
	for sni, sent := range map[string]string{"localhost": "localhost", "elsewhere.test": "elsewhere.test"} {
		f := mailRelay(t, modeIMAP, fmt.Sprintf("backend-cacrt = %q\nbackend-sni = %q", testkit.AbsPKI("root.crt"), sni), "[relay.users]",
			fmt.Sprintf("in = \"tls:%s\"\nout = \"tls:%s\"", in, out))
		for user, want := range map[string]string{"in": "t OK", "out": "t NO [UNAVAILABLE]"} {
			c := f.direct()
			c.expect("* OK")
			c.say("t LOGIN " + user + " secret\r\n")
			c.expect(want)
			require.Equal(t, sent, <-names)
		}
		f.logs("127.0.0.2")
	}
}

// Each direction ends separately: a close_notify becomes a FIN, and a FIN a
// close_notify.
func TestHalfClosedConnectionsPassThrough(t *testing.T) {
	t.Run("the client ends first", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
			all, err := io.ReadAll(conn) // needs the FIN
			if err == nil {
				fmt.Fprintf(conn, "got %s", all)
			}
		})))
		conn := dialTLS(t, f.addr())
		io.WriteString(conn, "everything")
		require.NoError(t, conn.CloseWrite())
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, "got everything", string(answer))
	})
	t.Run("the backend ends first", func(t *testing.T) {
		rest := make(chan string, 1)
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
			io.WriteString(conn, "goodbye")
			conn.(*net.TCPConn).CloseWrite()
			all, err := io.ReadAll(conn)
			rest <- fmt.Sprint(string(all), err)
		})))
		conn := dialTLS(t, f.addr())
		answer, err := io.ReadAll(conn) // needs close_notify
		require.NoError(t, err)
		require.Equal(t, "goodbye", string(answer))
		io.WriteString(conn, "still here")
		require.NoError(t, conn.CloseWrite())
		require.Equal(t, "still here<nil>", <-rest)
	})
}

// A reset and a TLS connection that is cut are not orderly ends, and do not become
// orderly ends.
func TestResetsAndCutsPassThrough(t *testing.T) {
	ended := make(chan error, 1)
	wait := func(conn net.Conn) {
		_, err := io.ReadAll(conn)
		ended <- err
	}
	t.Run("the client resets", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, wait)))
		conn := dialTLS(t, f.addr())
		io.WriteString(conn, "x")
		f.logs("TLS")
		conn.NetConn().(*net.TCPConn).SetLinger(0)
		conn.NetConn().Close()
		require.Error(t, <-ended)
		f.logs("reading from the client")
	})
	t.Run("the client is cut", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, wait)))
		conn := dialTLS(t, f.addr())
		conn.NetConn().(*net.TCPConn).CloseWrite()
		require.Error(t, <-ended)
		f.logs("the client closed the connection without close_notify")
	})
	t.Run("the backend resets", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
			io.ReadFull(conn, make([]byte, 1))
			conn.(*net.TCPConn).SetLinger(0)
		})))
		conn := dialTLS(t, f.addr())
		io.WriteString(conn, "x")
		_, err := io.ReadAll(conn)
		require.Error(t, err)
		f.logs("reading from the backend")
	})
}

func TestPlainHTTPToTheTLSPort(t *testing.T) {
	f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
	conn := newLines(t, testkit.Dial(t, f.addr()))
	conn.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	conn.expect("HTTP/1.1 400 Bad Request")
	rest, err := io.ReadAll(conn.in)
	require.NoError(t, err)
	require.Contains(t, string(rest), "This port speaks HTTPS.")
	conn.Close()
	f.logs("the client sent a plain HTTP request to a TLS port")
	require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.plainHTTP }))
}

func TestClientCertificates(t *testing.T) {
	where := fmt.Sprintf("backend = %q", backend(t, testkit.Echo))
	cas := fmt.Sprintf("cacrt = %q\ncacrl = %q\n", testkit.AbsPKI("root.crt"), testkit.AbsPKI("crl.pem"))
	t.Run("required", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), cas, where, "requirevalidclientcert = true")
		testkit.Exchange(t, dialTLS(t, f.addr(), "client"), "hello")
		f.logs(`subject="/C=DE/O=Oracle Test/CN=client valid"`)
		for _, who := range []string{"client-revoked", "client-expired", "client-unknown", ""} {
			config := clientConfig(t)
			if who != "" {
				config = clientConfig(t, who)
			}
			conn := tls.Client(testkit.Dial(t, f.addr()), config)
			conn.Handshake() // in TLS 1.3 the refusal comes later
			_, err := conn.Read(make([]byte, 1))
			require.Error(t, err, who)
			conn.Close()
		}
		testkit.Eventually(t, func() bool { return f.count(func(c *counters) value64 { return &c.handshakesFailed }) == 4 }, "not 4 failures")
	})
	t.Run("required, and not revoked", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), where, "requirevalidclientcert = true",
			fmt.Sprintf("cacrt = %q\ncrlcheck = \"leaf\"\ncrlfiles = [%q, %q]", testkit.AbsPKI("root.crt"), testkit.AbsPKI("crl-other.pem"), testkit.AbsPKI("crl.pem")))
		testkit.Exchange(t, dialTLS(t, f.addr(), "client"), "hello")
		conn := tls.Client(testkit.Dial(t, f.addr()), clientConfig(t, "client-revoked"))
		conn.Handshake()
		_, err := conn.Read(make([]byte, 1))
		require.ErrorContains(t, err, "revoked certificate")
		conn.Close()
		f.logs("certificate revoked (23)")
	})
	t.Run("only valid ones", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), cas, where, "blockinvalidclientcert = true")
		testkit.Exchange(t, dialTLS(t, f.addr(), "client"), "hello")
		testkit.Exchange(t, dialTLS(t, f.addr()), "hello")
		f.logs("certificate=none")
		for _, name := range []string{"client-revoked", "client-expired"} { // crypto/tls does not send a certificate of a CA that the relay does not name
			conn := tls.Client(testkit.Dial(t, f.addr()), clientConfig(t, name))
			conn.Handshake() // in TLS 1.3 the refusal comes later
			_, err := conn.Read(make([]byte, 1))
			require.Error(t, err, name)
			conn.Close()
		}
		testkit.Eventually(t, func() bool { return f.count(func(c *counters) value64 { return &c.handshakesFailed }) == 2 }, "not 2 failures")
		require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.certNone }))
		require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.certValid }))
	})
	t.Run("asked for", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), cas, where, "clientcert = true")
		testkit.Exchange(t, dialTLS(t, f.addr(), "client-revoked"), "hello")
		f.logs("certificate=invalid")
		f.logs(testkit.AbsPKI("crl.pem") + ": serial") // the file of the configuration, not the library's copy
		testkit.Exchange(t, dialTLS(t, f.addr()), "hello")
		f.logs("certificate=none")
	})
}

func TestShutdown(t *testing.T) {
	t.Run("connections finish", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
		conn := dialTLS(t, f.addr())
		testkit.Exchange(t, conn, "one")
		done := make(chan error, 1)
		go func() { done <- f.Shutdown(t.Context()) }()
		testkit.Eventually(t, func() bool {
			c, err := net.Dial("tcp", f.addr())
			if err == nil {
				c.Close()
			}
			return err != nil
		}, "the port is still open")
		testkit.Exchange(t, conn, "two")
		require.NoError(t, conn.CloseWrite())
		io.ReadAll(conn)
		conn.Close()
		require.NoError(t, <-done)
	})
	t.Run("bounded", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
		conn := dialTLS(t, f.addr())
		testkit.Exchange(t, conn, "one")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorContains(t, f.Shutdown(ctx), "1 connections had to be closed")
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		f.logs("the relay was stopped")
	})
}
