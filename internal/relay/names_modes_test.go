package relay

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

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
