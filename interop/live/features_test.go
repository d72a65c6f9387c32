package live_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// extras are the rows of the third table: feature and peer.
var extras = [][2]string{
	{helloRetry, "OpenSSL 3.5"}, {helloRetry, "GnuTLS"}, {helloRetry, "Go crypto/tls"},
	{resumption, "OpenSSL 3.5"}, {noResumption, "OpenSSL 3.5"},
	{keyUpdates, "OpenSSL 3.5"},
	{javaCloses, "Java JSSE"},
	{browser + " in TLS 1.2", "Chromium"}, {browser + " in TLS 1.3", "Chromium"}, {browserNone, "Chromium"},
	{browserAgain + " in TLS 1.2", "Chromium"}, {browserAgain + " in TLS 1.3", "Chromium"}, {browserNames, "Chromium"},
	{scan + " (default, RSA)", "sslscan"}, {scan + " (default, ECDSA)", "sslscan"}, {scan + " (TLS12)", "sslscan"}, {scan + " (Cipher)", "sslscan"},
	{weak + " (default, RSA)", "testssl.sh"},
	{keyLog, "Wireshark"},
}

// extraPeers are the peers that have rows only in the third table.
var extraPeers = []string{"Chromium", "sslscan", "testssl.sh", "Wireshark"}

const (
	helloRetry   = "HelloRetryRequest, both directions"
	resumption   = "a second connection resumes the session of the first"
	noResumption = "no session is resumed where certificates are asked for"
	javaCloses   = "its close() is an orderly end, in both directions"
	keyUpdates   = "key updates asked for by its client and its server"
	browser      = "a page, 100 KB each way, shows the verdict on the certificate of the browser"
	browserNone  = "a browser without a certificate is told so"
	browserAgain = "a resumed connection has the verdict on the certificate of the browser, which is verified again,"
	browserNames = "the name of a page chooses the context"
	keyLog       = "`tshark` decrypts a recorded connection with `KeyLog` of our server or our client"
	scan         = "it finds the suites of `Ctx.Ciphers` that the key can serve, and no others"
	weak         = "it calls nothing weak"
)

// echoServer starts our server, which returns the data that it receives.
func echoServer(t *testing.T, o sslfilter.Options) (addr string, conns <-chan *sslnet.Conn) {
	t.Helper()
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, o))
	require.NoError(t, err)
	all := make(chan *sslnet.Conn, 100)
	testkit.Serve(t, l, func(c net.Conn) {
		all <- c.(*sslnet.Conn)
		testkit.Echo(c)
	})
	return l.Addr().String(), all
}

func nextConn(t *testing.T, conns <-chan *sslnet.Conn) *sslnet.Conn {
	t.Helper()
	select {
	case c := <-conns:
		return c
	case <-time.After(peers.Patience):
		require.FailNow(t, "no connection")
		return nil
	}
}

// hellos counts the ClientHellos that pass. A handshake record begins with 22, and
// the message in it with 1. Both sides send a ClientHello in a segment of its own.
func hellos(wire []byte) (n int) {
	for len(wire) > 5 {
		if wire[0] == 22 && wire[5] == 1 {
			n++
		}
		size := 5 + int(wire[3])<<8 + int(wire[4])
		wire = wire[min(size, len(wire)):]
	}
	return n
}

// recorded keeps all input and output.
type recorded struct {
	net.Conn
	in, out []byte
}

func (c *recorded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in = append(c.in, b[:n]...)
	return n, err
}

func (c *recorded) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return c.Conn.Write(b)
}

const secp384r1 = 24

// requireSecp384r1 checks the group, which OpenSSL 1.1.1 does not report.
func requireSecp384r1(t *testing.T, c *sslnet.Conn) {
	t.Helper()
	if !strings.HasPrefix(sslfilter.OpenSSLVersion(), "OpenSSL 1.1.1") {
		require.Equal(t, tls.CurveID(secp384r1), c.ConnectionState().CurveID)
	}
}

// The first group of the client does not suit the server, which asks for another
// ClientHello.
func TestHelloRetryRequest(t *testing.T) {
	if sslfilter.FIPSEnabled() {
		t.Skip("the first group is X25519, which not every FIPS provider serves")
	}
	server, client := testkit.Server(), testkit.Client()
	server.Groups, client.Groups = "P-384", "X25519:P-384"
	// accept accepts a client of the peer.
	accept := func(t *testing.T, start func(port string)) {
		l := testkit.Listen(t)
		start(peers.Port(t, l.Addr().String()))
		require.NoError(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(peers.Patience)))
		conn, err := l.Accept()
		require.NoError(t, err)
		wire := &recorded{Conn: conn}
		c := sslnet.Server(wire, testkit.Ctx(t, server))
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(peers.Patience)))
		require.NoError(t, c.Handshake())
		require.Equal(t, "TLSv1.3", c.Version())
		requireSecp384r1(t, c)
		require.Equal(t, 2, hellos(wire.in))
	}
	// visit connects to a server of the peer.
	visit := func(t *testing.T, addr string) {
		conn, err := net.DialTimeout("tcp", addr, peers.Patience)
		require.NoError(t, err)
		wire := &recorded{Conn: conn}
		c := sslnet.Client(wire, testkit.Ctx(t, client))
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(peers.Patience)))
		require.NoError(t, c.Handshake())
		requireSecp384r1(t, c)
		require.Equal(t, 2, hellos(wire.out))
	}
	t.Run("OpenSSL 3.5", func(t *testing.T) {
		openssl := peers.FindOpenSSL(t, "3.5")
		accept(t, func(port string) {
			peers.StartForeign(t, nil, openssl, "s_client", "-connect", "127.0.0.1:"+port, "-groups", "X25519:P-384", "-tls1_3")
		})
		p := peers.StartForeign(t, nil, openssl, "s_server", "-accept", "127.0.0.1:0", "-cert", testkit.AbsPKI("server.crt"), "-key", testkit.AbsPKI("server.key"), "-groups", "P-384")
		visit(t, p.Await("ACCEPT "))
		document.extra(helloRetry, "OpenSSL 3.5", "yes")
	})
	t.Run("GnuTLS", func(t *testing.T) {
		accept(t, func(port string) {
			peers.StartForeign(t, nil, peers.Find(t, "gnutls-bin", "gnutls-cli"), "--insecure", "--single-key-share", "--port", port,
				"--priority", "NORMAL:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP384R1:-VERS-ALL:+VERS-TLS1.3", "127.0.0.1")
		})
		port := peers.FreePort(t)
		p := peers.StartForeign(t, nil, peers.Find(t, "gnutls-bin", "gnutls-serv"), "--echo", "--port", port, "--x509certfile", testkit.AbsPKI("server.crt"),
			"--x509keyfile", testkit.AbsPKI("server.key"), "--priority", "NORMAL:-GROUP-ALL:+GROUP-SECP384R1")
		p.Await("listening on IPv4")
		visit(t, "127.0.0.1:"+port)
		document.extra(helloRetry, "GnuTLS", "yes")
	})
	t.Run("Go crypto-tls", func(t *testing.T) {
		accept(t, func(port string) {
			config := &tls.Config{RootCAs: goPool(t, testkit.AbsPKI("root.crt")), ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}}
			go func() {
				if c, err := tls.Dial("tcp", "127.0.0.1:"+port, config); err == nil {
					io.Copy(io.Discard, c)
					c.Close()
				}
			}()
		})
		cert, err := tls.LoadX509KeyPair(testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"))
		require.NoError(t, err)
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, CurvePreferences: []tls.CurveID{tls.CurveP384}})
		require.NoError(t, err)
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				io.Copy(c, c)
				c.Close()
			}
		}()
		visit(t, l.Addr().String())
		document.extra(helloRetry, "Go crypto/tls", "yes")
	})
}

// Sessions are resumed with tickets, unless client certificates are requested.
func TestResumption(t *testing.T) {
	openssl := peers.FindOpenSSL(t, "3.5")
	for _, ask := range []bool{false, true} {
		o := testkit.Server()
		o.ClientCert, o.CACrt = ask, testkit.AbsPKI("root.crt")
		for _, version := range tlsVersions {
			t.Run(fmt.Sprintf("ask %t/%s", ask, version), func(t *testing.T) {
				addr, conns := echoServer(t, o)
				session := filepath.Join(t.TempDir(), "session")
				for i, flag := range []string{"-sess_out", "-sess_in"} {
					if ask && flag == "-sess_in" && !exists(session) {
						break // there was no session to keep
					}
					p := peers.StartForeign(t, nil, openssl, "s_client", "-connect", addr, opensslVersion(version), flag, session,
						"-cert", testkit.AbsPKI("client.crt"), "-key", testkit.AbsPKI("client.key"), "-CAfile", testkit.AbsPKI("root.crt"))
					p.Say("dear echo\n")
					p.Await("dear echo") // the tickets came before it
					require.Equal(t, !ask && i == 1, nextConn(t, conns).ConnectionState().DidResume)
					p.CloseInput()
					require.Zero(t, p.Wait())
					require.Equal(t, !ask && i == 1, strings.Contains(p.Output(), "\nReused, "+version.String()), p.Output())
				}
			})
		}
	}
	document.extra(resumption, "OpenSSL 3.5", "yes")
	document.extra(noResumption, "OpenSSL 3.5", "yes")
}

// s_client and s_server ask us to change our keys, and we ask them.
func TestKeyUpdates(t *testing.T) {
	openssl := peers.FindOpenSSL(t, "3.5")
	addr, _ := echoServer(t, testkit.Server())
	client := peers.StartForeign(t, nil, openssl, "s_client", "-connect", addr, "-tls1_3", "-CAfile", testkit.AbsPKI("root.crt"))
	server := peers.StartForeign(t, nil, openssl, "s_server", "-accept", "127.0.0.1:0", "-tls1_3", "-cert", testkit.AbsPKI("server.crt"), "-key", testkit.AbsPKI("server.key"))
	conn, err := net.DialTimeout("tcp", server.Await("ACCEPT "), peers.Patience)
	require.NoError(t, err)
	tap := &tapped{Conn: conn, came: make(chan struct{}, 100)}
	c := sslnet.Client(tap, testkit.Ctx(t, testkit.Client()))
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(peers.Patience)))
	require.NoError(t, c.Handshake())
	lines := make(chan string, 10)
	go func() {
		defer close(lines)
		for r := bufio.NewScanner(c); r.Scan(); {
			lines <- r.Text()
		}
	}()
	_, err = io.WriteString(c, "the tickets are read\n")
	require.NoError(t, err)
	server.Await("the tickets are read")
	server.Say("so are they\n")
	require.Equal(t, "so are they", <-lines)
	for i := range 3 {
		word := fmt.Sprintf("word %d\n", i)
		client.Say("K\n") // which requests an answer
		awaitTimes(client, "KEYUPDATE", i+1)
		client.Say(word)
		client.Await(strings.TrimSpace(word))
		for len(tap.came) > 0 {
			<-tap.came
		}
		server.Say("K\n")
		<-tap.came // what it asks
		server.Say(word)
		require.Equal(t, strings.TrimSpace(word), <-lines)
		require.NoError(t, c.KeyUpdate(true))
		_, err = io.WriteString(c, "our "+word)
		require.NoError(t, err)
		server.Await("our " + strings.TrimSpace(word))
	}
	document.extra(keyUpdates, "OpenSSL 3.5", "yes")
}

// The key log of each side of ours decrypts a recorded connection with crypto/tls.
func TestKeyLog(t *testing.T) {
	out, _ := run(t, peers.Find(t, "tshark", "tshark"), "--version")
	const text = "the secret text"
	decrypted := func(t *testing.T, side func(log testkit.Change) (addr string, talk func(addr string))) {
		keys := filepath.Join(t.TempDir(), "keys")
		log, err := sslfilter.OpenKeyLog(keys)
		require.NoError(t, err)
		defer log.Close()
		addr, talk := side(func(o *sslfilter.Options) { o.KeyLog = log })
		record := testkit.NewCapture()
		talk(record.Proxy(t, addr))
		require.Contains(t, record.Decrypt(t, keys), text)
		require.NotContains(t, record.Decrypt(t, keys+"-none"), text)
	}
	say := func(t *testing.T, c net.Conn, err error) {
		t.Helper()
		require.NoError(t, err)
		defer c.Close()
		testkit.Exchange(t, c, text)
	}
	for _, version := range tlsVersions {
		t.Run("server/"+version.String(), func(t *testing.T) {
			decrypted(t, func(log testkit.Change) (string, func(string)) {
				addr, _ := echoServer(t, testkit.Server(log))
				return addr, func(addr string) {
					c, err := tls.Dial("tcp", addr, testkit.GoClient(t, func(c *tls.Config) { c.MaxVersion = uint16(version) }))
					say(t, c, err)
				}
			})
		})
		t.Run("client/"+version.String(), func(t *testing.T) {
			decrypted(t, func(log testkit.Change) (string, func(string)) {
				l := tls.NewListener(testkit.Listen(t), testkit.GoServer(t))
				return testkit.Serve(t, l, testkit.Echo), func(addr string) {
					c, err := sslnet.Dial("tcp", addr, testkit.Ctx(t, testkit.Client(log, testkit.UpTo(version))))
					say(t, c, err)
				}
			})
		})
	}
	document.peer("Wireshark", "tshark", firstMatch(`TShark \D*(\d\S*\d)`, out))
	document.extra(keyLog, "Wireshark", "yes")
}

// awaitTimes waits until the program has written text n times. OpenSSL's programs
// look for a command only at the start of each read from their input.
func awaitTimes(p *peers.Program, text string, n int) {
	p.AwaitOutput(text, func(out string, ended bool) bool { return ended || strings.Count(out, text) >= n })
}

// tapped signals when data has arrived.
type tapped struct {
	net.Conn
	came chan struct{}
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.came <- struct{}{}
	return n, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
