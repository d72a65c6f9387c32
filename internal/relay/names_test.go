package relay

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"errors"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// named returns the lines of a relay on the shared address with a certificate for
// these names. The address is written as ADDR.
func named(t *testing.T, name string, dnsNames []string, lines ...string) string {
	t.Helper()
	crt := testkit.TempFile(t, name+".crt", testkit.Mint(t, x509.Certificate{DNSNames: dnsNames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}))
	text := fmt.Sprintf("[[relay]]\nname = %q\ncrt = %q\nkey = %q\n", name, crt, testkit.AbsPKI("client.key"))
	if all := strings.Join(lines, "\n"); strings.Contains(all, "listen = ") {
		text += all + "\n"
	} else {
		text += "listen = [\"tls:ADDR\"]\n" + all + "\n"
	}
	return text
}

// sharing is a fixture whose relays share an address.
type sharing struct {
	*fixture
	at string
}

// share starts relays on a port that is free.
func share(t *testing.T, tables ...string) *sharing {
	t.Helper()
	for try := 0; ; try++ {
		addr := testkit.ClosedPort(t)
		c := parseShared(t, addr, tables...)
		log := new(testkit.Log)
		s, err := New(c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		if errors.Is(err, syscall.EADDRINUSE) && try < 20 { // another program has taken the port
			continue
		}
		require.NoError(t, err)
		f := &sharing{&fixture{Server: s, t: t, log: log}, addr}
		go f.Serve()
		t.Cleanup(func() {
			f.Close()
			if t.Failed() {
				t.Log(log.String())
			}
		})
		return f
	}
}

func parseShared(t *testing.T, addr string, tables ...string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(strings.ReplaceAll(strings.Join(tables, ""), "ADDR", addr)))
	require.NoError(t, err)
	return c
}

func (f *sharing) reload(tables ...string) error {
	f.t.Helper()
	return f.Reload(parseShared(f.t, f.at, tables...))
}

// relay returns the running relay with a name.
func (f *sharing) relay(name string) *relay {
	f.t.Helper()
	r := f.running(name)
	require.NotNil(f.t, r, name)
	return r
}

func (f *sharing) lobby() *counters { return f.listeners[0].lobby.count }

// dial connects a client that asks for a name, with a certificate of the test PKI.
// An empty name is not sent.
func (f *sharing) dial(name string, changes ...func(*tls.Config)) (*tls.Conn, error) {
	f.t.Helper()
	c := clientConfig(f.t)
	c.ServerName = name
	if name == "" {
		c.InsecureSkipVerify = true
	}
	for _, change := range changes {
		change(c)
	}
	conn := tls.Client(testkit.Dial(f.t, f.at), c)
	return conn, conn.Handshake()
}

// greeter is a backend that greets and is then an echo.
func greeter(t *testing.T, text string) string {
	t.Helper()
	return fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
		io.WriteString(conn, text+"\n")
		testkit.Echo(conn)
	}))
}

// reaches expects that a client with a name gets to a backend, and returns the
// connection.
func (f *sharing) reaches(name, greeting string, changes ...func(*tls.Config)) *tls.Conn {
	f.t.Helper()
	conn, err := f.dial(name, changes...)
	require.NoError(f.t, err, name)
	testkit.Hear(f.t, conn, greeting+"\n")
	testkit.Exchange(f.t, conn, "hello")
	return conn
}

// refuses expects the alert unrecognized_name.
func (f *sharing) refuses(name string, changes ...func(*tls.Config)) {
	f.t.Helper()
	_, err := f.dial(name, changes...)
	require.ErrorContains(f.t, err, "tls: unrecognized name", name)
}

func anyName(c *tls.Config)   { c.InsecureSkipVerify = true }
func withTLS12(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }

// The server name chooses the relay with its certificate and its backend: the exact
// name first, then the wildcard, then the default.
func TestNamesChooseTheRelay(t *testing.T) {
	f := share(t,
		named(t, "first", []string{"a.test", "*.wild.test"}, greeter(t, "first")),
		named(t, "second", []string{"other.test"}, greeter(t, "second"), `servernames = ["b.test", "exact.wild.test", "*.Sub.wild.test."]`),
		named(t, "third", []string{"third.test"}, greeter(t, "third"), `servernames = []`, `default-server = true`))
	for name, want := range map[string]string{
		"a.test": "first", "A.tEST": "first", "x.wild.test": "first", "X.WILD.test": "first",
		"b.test": "second", "exact.wild.test": "second", "y.sub.wild.test": "second",
		"third.test": "third", "other.test": "third", "wild.test": "third", "sub.wild.test": "first", "x.y.wild.test": "third", "": "third", "a.test.evil.test": "third",
	} {
		for _, version := range []func(*tls.Config){withTLS12, func(*tls.Config) {}} {
			conn := f.reaches(name, want, anyName, version)
			own := conn.ConnectionState().PeerCertificates[0].DNSNames[0]
			require.Equal(t, map[string]string{"first": "a.test", "second": "other.test", "third": "third.test"}[want], own, name)
			require.NoError(t, conn.CloseWrite())
			io.ReadAll(conn)
			conn.Close()
		}
	}
	require.EqualValues(t, 2*14, f.lobby().accepted.Value())
	require.EqualValues(t, 2*5, f.relay("first").count.accepted.Value())
	require.EqualValues(t, 2*3, f.relay("second").count.handshakes.Value())
	require.EqualValues(t, 2*6, f.relay("third").count.forwarded.Value())
	testkit.Eventually(t, func() bool {
		active := f.lobby().active.Value()
		for _, name := range []string{"first", "second", "third"} {
			active += f.relay(name).count.active.Value()
		}
		return active == 0
	}, "connections are counted as active after their end")
	f.logs(`msg="connection ended" relay=second connection=`)
	require.Regexp(t, `msg="connection ended" relay=second connection=\d+ client=127.0.0.1:\d+ servername=exact.wild.test `, f.log.String())
	require.Contains(t, f.log.String(), "msg=listening relay=\"first, second, third\" mode=tcp address=tls:")
}

// A name that a client chose cannot forge log lines or make them long, and does not
// match the name of a relay by accident.
func TestNamesOfHostileClients(t *testing.T) {
	f := share(t, named(t, "a", []string{"a.test"}, greeter(t, "a")), named(t, "b", []string{"*.b.test", "k.test"}, greeter(t, "b")))
	refused := []string{"c.test", "x\" relay=a msg=\"y", "a.test\nlevel=WARN", "\u212a.test", ".b.test", strings.Repeat("x", 255), "*", "a", "test", "a.test/", "a.test:443", "\x1b[31m"}
	for _, name := range refused {
		f.refuses(name)
	}
	f.refuses("", anyName)
	for range 2 {
		f.reaches("a.test.", "a", func(c *tls.Config) { c.InsecureSkipVerify = true })
	}
	testkit.Eventually(t, func() bool { return f.lobby().handshakesFailed.Value() == int64(len(refused)+1) }, "not all were refused")
	require.EqualValues(t, len(refused)+1, f.lobby().namesRefused.Value())
	require.Zero(t, f.relay("b").count.accepted.Value())
	f.logs("the client has no server name, and no relay has default-server")
	f.logs(`no relay has the server name \"c.test\"`)
	f.logs(`level=INFO msg="connection failed" listener=tls:` + f.at)
	for line := range strings.Lines(f.log.String()) {
		require.True(t, strings.HasPrefix(line, "time="), line)
		require.Less(t, len(line), 1000)
		require.NotContains(t, line, "\x1b")
	}
	require.Contains(t, string(f.countersJSON()), `"names_refused": 13`)
}

func (f *sharing) countersJSON() string { return f.process.vars.String() }

// Each relay has its own policy about client certificates.
func TestNamesHaveTheirOwnPolicy(t *testing.T) {
	cas := fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true", testkit.AbsPKI("root.crt"))
	f := share(t,
		named(t, "open", []string{"open.test"}, greeter(t, "open"), `minversion = "1.3"`),
		named(t, "closed", []string{"closed.test"}, greeter(t, "closed"), cas))
	f.reaches("open.test", "open")
	_, err := f.dial("open.test", withTLS12)
	require.Error(t, err)
	for _, version := range []func(*tls.Config){withTLS12, func(*tls.Config) {}} {
		f.reaches("closed.test", "closed", version, func(c *tls.Config) {
			c.Certificates = []tls.Certificate{testkit.KeyPair(t, "client.crt", "client.key")}
		})
		conn, err := f.dial("closed.test", version)
		if err == nil { // in TLS 1.3 the refusal comes later
			_, err = conn.Read(make([]byte, 1))
		}
		require.Error(t, err)
	}
	for name, failed := range map[string]int64{"open": 1, "closed": 2} {
		testkit.Eventually(t, func() bool { return f.relay(name).count.handshakesFailed.Value() == failed }, "not %d failures of %s", failed, name)
	}
	require.EqualValues(t, 2, f.relay("closed").count.certValid.Value())
}

// FIPS mode is a policy of one relay.
func TestNamesAndFIPS(t *testing.T) {
	conf := testkit.FIPSConfig(t)
	f := share(t,
		named(t, "open", []string{"open.test"}, greeter(t, "open")),
		named(t, "strict", []string{"strict.test"}, greeter(t, "strict"), fmt.Sprintf("fips = true\nfips-config = %q", conf)))
	for _, name := range []string{"open", "strict"} {
		conn := f.reaches(name+".test", name)
		require.NoError(t, conn.CloseWrite())
		io.ReadAll(conn)
	}
	f.logs("cipher=TLS_AES_256_GCM_SHA384 certificate=none providers=fips")
	require.NotRegexp(t, "relay=open .*providers=", f.log.String())
}

// A session of one relay is not resumed with another: that relay may ask for a
// certificate. The same client resumes it with the same relay.
func TestNamesDoNotShareSessions(t *testing.T) {
	cas := fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true", testkit.AbsPKI("root.crt"))
	f := share(t,
		named(t, "open", []string{"open.test", "too.test"}, greeter(t, "open")),
		named(t, "other", []string{"other.test"}, greeter(t, "other")),
		named(t, "closed", []string{"closed.test"}, greeter(t, "closed"), cas))
	for _, version := range []func(*tls.Config){withTLS12, func(*tls.Config) {}} {
		cache := tls.NewLRUClientSessionCache(10)
		oneSession := func(c *tls.Config) { c.ClientSessionCache = alwaysSame{cache} }
		conn := f.reaches("open.test", "open", anyName, version, oneSession)
		require.False(t, conn.ConnectionState().DidResume)
		for _, name := range []string{"open.test", "too.test"} { // the same relay
			conn = f.reaches(name, "open", anyName, version, oneSession)
			require.True(t, conn.ConnectionState().DidResume, name)
		}
		conn = f.reaches("other.test", "other", anyName, version, func(c *tls.Config) { c.ClientSessionCache = alwaysSame{cache} })
		require.False(t, conn.ConnectionState().DidResume)
		require.Equal(t, []string{"other.test"}, conn.ConnectionState().PeerCertificates[0].DNSNames)

		cache = tls.NewLRUClientSessionCache(10)
		f.reaches("open.test", "open", anyName, version, oneSession)
		conn, err := f.dial("closed.test", anyName, version, oneSession)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		require.ErrorContains(t, err, "tls: ")
		require.False(t, conn.ConnectionState().DidResume)
	}
	require.Zero(t, f.relay("closed").count.handshakes.Value())
}

// alwaysSame offers the same session to every server.
type alwaysSame struct{ tls.ClientSessionCache }

func (c alwaysSame) Get(string) (*tls.ClientSessionState, bool) { return c.ClientSessionCache.Get("x") }
func (c alwaysSame) Put(_ string, s *tls.ClientSessionState)    { c.ClientSessionCache.Put("x", s) }

// A request for the host of another relay is refused, however the host is written.
func TestNamesAndHosts(t *testing.T) {
	cas := fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true", testkit.AbsPKI("root.crt"))
	where := fmt.Sprintf("mode = \"http\"\nbackend = %q", mirror(t)) // one backend for all hosts
	f := share(t,
		named(t, "open", []string{"open.test", "too.test"}, where),
		named(t, "closed", []string{"closed.test", "*.closed.test", "k.closed2.test"}, where, cas),
		named(t, "raw", []string{"raw.test"}, greeter(t, "raw")),
		named(t, "any", []string{"any.test"}, where, "default-server = true"))
	ask := func(sni, request string) (int, string) {
		conn, err := f.dial(sni, anyName)
		require.NoError(t, err)
		defer conn.Close()
		return newLines(t, conn).ask(request)
	}
	get := func(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	for _, host := range []string{"open.test", "OPEN.test:443", "too.test", "unknown.test", "192.0.2.1", "[2001:db8::1]:443", "", "x.open.test", "closed.test.unknown.test"} {
		status, body := ask("open.test", get(host))
		require.Equal(t, 200, status, host)
		if host != "" { // net/http then sends the backend's address
			require.Contains(t, body, "Host: "+host+"\n")
		}
	}
	for _, host := range []string{
		"closed.test", "Closed.TEST", "closed.test.", "closed.test:443", "closed.test:", "x.closed.test", "closed.test.:80", "closed.test:80:80", "raw.test", "any.test",
	} {
		status, body := ask("open.test", get(host))
		require.Equal(t, http.StatusMisdirectedRequest, status, host)
		require.Equal(t, "Misdirected Request\n", body)
	}
	for sni, host := range map[string]string{"": "open.test", "unknown.test": "closed.test"} { // the default is a relay as any other
		status, _ := ask(sni, get(host))
		require.Equal(t, http.StatusMisdirectedRequest, status)
	}
	for sni, host := range map[string]string{"": "any.test", "unknown.test": "elsewhere.test"} {
		status, _ := ask(sni, get(host))
		require.Equal(t, 200, status)
	}
	// The target counts, and not the Host that contradicts it.
	status, _ := ask("open.test", "GET http://closed.test/ HTTP/1.1\r\nHost: open.test\r\n\r\n")
	require.Equal(t, http.StatusMisdirectedRequest, status)
	status, body := ask("open.test", "GET http://open.test/ HTTP/1.1\r\nHost: closed.test\r\n\r\n")
	require.Equal(t, 200, status)
	require.Contains(t, body, "Host: open.test\n")
	// net/http would send these to the backend as k.closed2.test and closed.test.
	for _, host := range []string{"%E2%84%AA.closed2.test", "%EF%BD%83losed.test"} {
		status, _ = ask("open.test", "GET http://"+host+"/ HTTP/1.1\r\nHost: open.test\r\n\r\n")
		require.Equal(t, http.StatusBadRequest, status, host)
	}
	f.logs(`msg="request refused" relay=open`)
	f.logs(`reason="host of relay \"closed\""`)
	conn, err := f.dial("open.test", anyName)
	require.NoError(t, err)
	c := newLines(t, conn)
	c.say(get("closed.test") + get("open.test"))
	answer, err := io.ReadAll(c.in)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(answer), "HTTP/1.1 "), "the connection ends with the first answer")
	require.Contains(t, string(answer), "Connection: close")
	require.Zero(t, f.relay("closed").count.requests.Value())
}

// Input that is not a ClientHello, or comes slowly, is treated as on a listener without
// server names.
func TestNamesAndOtherInput(t *testing.T) {
	f := share(t, named(t, "a", []string{"a.test"}, greeter(t, "a")), named(t, "b", []string{"b.test"}, greeter(t, "b")))
	t.Run("plain HTTP", func(t *testing.T) {
		conn := newLines(t, testkit.Dial(t, f.at))
		conn.say("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		conn.expect("HTTP/1.1 400 Bad Request")
		rest, err := io.ReadAll(conn.in)
		require.NoError(t, err)
		require.Contains(t, string(rest), "This port speaks HTTPS.")
		conn.Close()
		testkit.Eventually(t, func() bool { return f.lobby().plainHTTP.Value() == 1 }, "not counted")
	})
	t.Run("junk", func(t *testing.T) {
		conn := testkit.Dial(t, f.at)
		testkit.Say(t, conn, "\x00\x01\x02junk junk junk")
		_, err := io.ReadAll(conn)
		require.NoError(t, err)
		testkit.Eventually(t, func() bool { return f.lobby().handshakesFailed.Value() == 2 }, "not counted")
	})
	t.Run("nothing", func(t *testing.T) {
		testkit.Dial(t, f.at).Close()
		testkit.Eventually(t, func() bool { return f.lobby().empty.Value() == 1 }, "not counted")
	})
	t.Run("a byte at a time", func(t *testing.T) {
		c := clientConfig(t)
		c.ServerName = "b.test"
		conn := tls.Client(&dribble{testkit.Dial(t, f.at)}, c)
		testkit.Hear(t, conn, "b\n")
	})
	require.Zero(t, f.relay("a").count.accepted.Value())
	require.EqualValues(t, 4, f.lobby().accepted.Value())
}

// dribble writes a byte at a time.
type dribble struct{ *net.TCPConn }

func (d *dribble) Write(b []byte) (n int, err error) {
	for ; n < len(b) && err == nil; n++ {
		_, err = d.TCPConn.Write(b[n : n+1])
	}
	return n, err
}

func TestNamesAndSlowClients(t *testing.T) {
	tables := func(more string) string {
		return named(t, "a", []string{"a.test"}, greeter(t, "a"), more, `idle-timeout = "20ms"`) + named(t, "b", []string{"b.test"}, greeter(t, "b"), more)
	}
	stall := func(f *sharing) (silent, slow net.Conn) {
		silent, slow = testkit.Dial(t, f.at), testkit.Dial(t, f.at)
		slow.Write([]byte("\x16\x03\x01\x02\x00\x01"))
		return silent, slow
	}
	t.Run("max-handshakes", func(t *testing.T) {
		f := share(t, "max-handshakes = 2\n", tables(""))
		stall(f)
		testkit.Eventually(t, func() bool { return f.lobby().active.Value() == 2 }, "the connections were not accepted")
		f.reaches("b.test", "b") // after a second
		f.logs(`msg="connection failed" listener=tls:`)
		f.logs(`the client was too slow, and max-handshakes was reached`)
	})
	t.Run("handshake-timeout", func(t *testing.T) {
		f := share(t, tables(`handshake-timeout = "100ms"`))
		silent, slow := stall(f)
		io.Copy(io.Discard, silent)
		io.Copy(io.Discard, slow)
		testkit.Eventually(t, func() bool { return f.lobby().handshakesFailed.Value() == 1 && f.lobby().empty.Value() == 1 }, "not counted")
		f.logs(`handshake-timeout`)
		require.NotContains(t, f.log.String(), "idle-timeout", "that of a relay which is not chosen yet")
	})
	t.Run("idle-timeout", func(t *testing.T) {
		f := share(t, tables(""))
		f.dial("a.test")
		f.logs("error=idle-timeout")
		require.EqualValues(t, 1, f.relay("a").count.idle.Value())
		f.reaches("b.test", "b")
	})
}

// The modes of one address can differ.
func TestNamesOfSeveralModes(t *testing.T) {
	f := share(t,
		named(t, "web", []string{"web.test"}, `mode = "http"`, fmt.Sprintf("backend = %q", mirror(t))),
		named(t, "mail", []string{"mail.test"}, `mode = "imap"`, `greeting = "hello"`, "[relay.users]", fmt.Sprintf("anna = %q", backend(t, script(t, "S: * OK", `C: a LOGIN "anna" "x"`, "S: a OK in")))),
		named(t, "raw", []string{"raw.test"}, greeter(t, "raw")))
	f.reaches("raw.test", "raw")
	conn, err := f.dial("web.test")
	require.NoError(t, err)
	status, body := newLines(t, conn).ask(getRoot)
	require.Equal(t, 200, status)
	require.Equal(t, []string{"https"}, header(body, "X-Forwarded-Proto"))
	conn, err = f.dial("mail.test")
	require.NoError(t, err)
	c := newLines(t, conn)
	c.expect("hello")
	c.say("a LOGIN anna x\r\n")
	c.expect("a OK in")
	require.Contains(t, f.log.String(), `mode="http, imap, tcp"`)
}

// With STARTTLS, the client speaks to the listener until its name has chosen the relay.
// A login without TLS uses the default relay.
func TestNamesWithSTARTTLS(t *testing.T) {
	account := func(greeting, tag string) string {
		return fmt.Sprintf("mode = \"imap\"\nlisten = [\"starttls:ADDR\"]\nallow-plaintext = true\nDEFAULT\n[relay.users]\nanna = %q",
			backend(t, script(t, "S: * OK", `C: `+tag+` LOGIN "anna" "x"`, "S: "+tag+" OK "+greeting)))
	}
	f := share(t,
		named(t, "one", []string{"one.test"}, strings.Replace(account("one", "a"), "DEFAULT", "", 1)),
		named(t, "two", []string{"two.test"}, strings.Replace(account("two", "b"), "DEFAULT", "default-server = true\nservernames = []", 1)))
	upgrade := func(name string) (*lines, error) {
		c := newLines(t, testkit.Dial(t, f.at))
		c.expect("STARTTLS AUTH=PLAIN] sslrelay ready")
		c.say("s STARTTLS\r\n")
		c.expect("s OK")
		config := clientConfig(t)
		config.ServerName, config.InsecureSkipVerify = name, true
		conn := tls.Client(c.Conn, config)
		return newLines(t, conn), conn.Handshake()
	}
	c, err := upgrade("one.test")
	require.NoError(t, err)
	c.say("a LOGIN anna x\r\n")
	c.expect("a OK one")
	c, err = upgrade("else.test")
	require.NoError(t, err)
	c.say("b LOGIN anna x\r\n")
	c.expect("b OK two")
	c = newLines(t, testkit.Dial(t, f.at))
	c.expect("* OK")
	c.say("b LOGIN anna x\r\n")
	c.expect("b OK two")
	for name, logins := range map[string]int64{"one": 1, "two": 2} {
		testkit.Eventually(t, func() bool { return f.relay(name).count.logins.Value() == logins }, "not %d logins of %s", logins, name)
	}

	plain := strings.NewReplacer("allow-plaintext = true\n", "")
	require.NoError(t, f.reload(plain.Replace(named(t, "one", []string{"one.test"}, strings.Replace(account("one", "a"), "DEFAULT", "", 1))),
		plain.Replace(named(t, "two", []string{"two.test"}, strings.Replace(account("two", "b"), "DEFAULT", "", 1)))))
	c = newLines(t, testkit.Dial(t, f.at))
	c.expect("LOGINDISABLED")
	c.say("b LOGIN anna x\r\n")
	c.expect("b NO ")
	c.say("s STARTTLS\r\n")
	c.expect("s OK")
	config := clientConfig(t)
	config.ServerName = "else.test"
	require.ErrorContains(t, tls.Client(c.Conn, config).Handshake(), "unrecognized name")
}

// A relay that does not share its address needs no server name, unless the
// configuration asks for one.
func TestNamesOfOneRelay(t *testing.T) {
	f := share(t, named(t, "a", []string{"a.test"}, greeter(t, "a")))
	require.Nil(t, f.listeners[0].current.Load().names)
	f.reaches("b.test", "a", anyName)
	f.reaches("", "a")
	require.EqualValues(t, 2, f.relay("a").count.accepted.Value())
	require.Zero(t, f.lobby().accepted.Value())
	require.NotContains(t, f.countersJSON(), "names_refused")
	require.NotContains(t, f.log.String(), "servername")

	f = share(t, named(t, "a", []string{"a.test"}, greeter(t, "a"), `servernames = ["b.test"]`, `default-server = true`))
	require.Nil(t, f.listeners[0].current.Load().names)

	f = share(t, named(t, "a", []string{"a.test"}, greeter(t, "a"), `servernames = ["b.test"]`))
	f.reaches("b.test", "a", anyName)
	f.refuses("a.test")
	f.refuses("")
}

// -check shows the relay of each name.
func TestNamesCheck(t *testing.T) {
	cas := fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true", testkit.AbsPKI("root.crt"))
	run := func(tables ...string) (Findings, string) {
		var out strings.Builder
		found := Check(&out, parseShared(t, "127.0.0.1:443", tables...), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
		return found, out.String()
	}
	web := named(t, "web", []string{"web.test", "*.web.test", "localhost"}, `backend = "127.0.0.1:80"`)
	closed := named(t, "closed", []string{"a.test", "*.c.test"}, `backend = "127.0.0.1:81"`, cas, `servernames = ["a.test", "x.c.test", "*.c.test", "b.test", "*.d.test"]`)
	_, out := run(web, closed)
	_, table, ok := strings.Cut(out, "\nlistener tls:127.0.0.1:443, by server name\n")
	require.True(t, ok, out)
	var rows []string
	for line := range strings.Lines(table) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	require.Equal(t, []string{
		"name relay mode certificate serial expires client certs backend",
		"web.test web tcp 47:11 2049-01-01 not requested plain:127.0.0.1:80",
		"*.web.test web tcp 47:11 2049-01-01 not requested plain:127.0.0.1:80",
		"localhost web tcp 47:11 2049-01-01 not requested plain:127.0.0.1:80",
		"a.test closed tcp 47:11 2049-01-01 valid one required plain:127.0.0.1:81",
	}, rows[:5])
	require.Contains(t, table, "all others, or none  rejected with the alert unrecognized_name")
	require.Contains(t, table, `WEAK: servernames: b.test is not in the certificate of relay "closed"`)
	require.Contains(t, table, `WEAK: servernames: *.d.test is not in the certificate of relay "closed"`)
	require.NotContains(t, table, "x.c.test is not")
	require.NotContains(t, table, "*.c.test is not")
	_, out = run(web, closed+"default-server = true\n")
	require.Regexp(t, `all others, or none +closed `, out)
	_, out = run(web)
	require.NotContains(t, out, "by server name")
	found, out := run(web, named(t, "two", []string{"x.test", "web.test"}, `backend = "127.0.0.1:80"`))
	require.Equal(t, 1, found.Errors)
	require.Contains(t, out, `ERROR: relay "two": servernames: "web.test" belongs to relay "web" already, which shares tls:127.0.0.1:443`)
	found, _ = run(web, named(t, "two", []string{"x.test"}, `backend = "127.0.0.1:80"`, `cacrt = "nowhere"`))
	require.Equal(t, 1, found.Errors)
}

// withEC adds a certificate with an EC key to a relay.
func withEC(t *testing.T, names ...string) string {
	t.Helper()
	crt := testkit.MintFrom(t, testkit.CA(t, "root"), x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, testkit.Key(t, "client-ec.key").Public())
	return fmt.Sprintf("identities = {%q = %q}", testkit.TempFile(t, "ec.crt", crt), testkit.AbsPKI("client-ec.key"))
}

// A client may get any of a relay's certificates, so a relay has only the names that are
// in all of them, as in a NameMap.
func TestNamesOfSeveralCertificates(t *testing.T) {
	f := share(t,
		named(t, "two", []string{"A.test", "*.w.test", "rsa.test"}, greeter(t, "two"), withEC(t, "a.test", "x.w.test", "ec.test")),
		named(t, "one", []string{"one.test"}, greeter(t, "one")))
	for _, suite := range []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256} {
		only := func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite} }
		f.reaches("a.test", "two", only)
		f.reaches("x.w.test", "two", only)
		for _, name := range []string{"rsa.test", "ec.test", "y.w.test"} {
			_, err := f.dial(name, only, anyName)
			require.ErrorContains(t, err, "unrecognized name", name)
		}
	}
	f.reaches("one.test", "one")
}

// -check reports the names that only some of the certificates have.
func TestNamesOfSeveralCertificatesCheck(t *testing.T) {
	run := func(tables ...string) (Findings, string) {
		var out strings.Builder
		found := Check(&out, parseShared(t, "127.0.0.1:443", tables...), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
		return found, out.String()
	}
	where := `backend = "127.0.0.1:80"`
	one := named(t, "one", []string{"one.test"}, where)
	two := func(more ...string) string {
		return named(t, "two", []string{"A.test", "*.w.test", "rsa.test"}, append(more, where, withEC(t, "a.test", "x.w.test", "ec.test"))...)
	}
	for _, tables := range [][]string{{two()}, {one, two()}} {
		found, out := run(tables...)
		require.Zero(t, found.Errors, out)
		for _, name := range []string{"*.w.test", "rsa.test", "ec.test"} {
			require.Contains(t, out, fmt.Sprintf("WEAK: identities: %s is not in all certificates of relay \"two\"\n", name))
		}
		require.Equal(t, 3, strings.Count(out, "is not in all certificates"), out)
	}
	_, out := run(one, two(`servernames = ["a.test", "ec.test"]`))
	require.Contains(t, out, `WEAK: servernames: ec.test is not in the certificate of relay "two"`)
	require.NotContains(t, out, "is not in all certificates")
	_, out = run(one, named(t, "two", []string{"a.test"}, where, withEC(t, "a.test")))
	require.NotContains(t, out, "is not in all certificates")
	found, out := run(one, named(t, "two", []string{"rsa.test"}, where, withEC(t, "ec.test")))
	require.Equal(t, 1, found.Errors)
	require.Contains(t, out, `ERROR: relay "two": servernames: is missing, and there is no DNS name for which all its certificates are valid, so no client of tls:127.0.0.1:443 can reach the relay`)
}

// A certificate that only OpenSSL can parse has its row in the table, its names count, and
// its end is the one in the counters.
func TestNamesOfACertificateOfOpenSSL(t *testing.T) {
	end := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	only := func(lines ...string) string {
		return fmt.Sprintf("[[relay]]\nname = \"odd\"\nlisten = [\"tls:ADDR\"]\ncrt = %q\nkey = %q\n%s\n", odd(t, end, "odd.test", "*.w.test"), testkit.AbsPKI("client.key"), strings.Join(lines, "\n"))
	}
	one := named(t, "one", []string{"one.test"}, greeter(t, "one"))
	f := share(t, one, only(greeter(t, "odd")))
	for _, name := range []string{"odd.test", "x.w.test"} { // crypto/tls would reject the certificate
		conn, err := dialWith(t, f.at, func(o *sslfilter.Options) { o.ServerName = name })
		require.NoError(t, err)
		testkit.Hear(t, conn, "odd\n")
		conn.Close()
	}
	require.Equal(t, end.Unix(), f.relay("odd").count.notAfter.Value())

	var out strings.Builder
	Check(&out, parseShared(t, "127.0.0.1:443", one, only(`backend = "127.0.0.1:80"`, `servernames = ["odd.test", "x.w.test", "b.test"]`)), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	require.Regexp(t, `\n  odd.test +odd +tcp +CN=odd +47:11 +2040-01-01 +not requested +plain:127.0.0.1:80\n`, out.String())
	require.Contains(t, out.String(), `WEAK: servernames: b.test is not in the certificate of relay "odd"`)
	require.NotContains(t, out.String(), `WEAK: servernames: odd.test`)
	require.NotContains(t, out.String(), `WEAK: servernames: x.w.test`)
}
