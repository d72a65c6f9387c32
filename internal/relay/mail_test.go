package relay

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// mailRelay starts a relay of a mode with a STARTTLS and a TLS listener.
func mailRelay(t *testing.T, mode string, more ...string) *fixture {
	t.Helper()
	return start(t, append([]string{
		fmt.Sprintf("mode = %q", mode), `listen = ["starttls:127.0.0.1:0", "tls:127.0.0.1:0"]`, `hostname = "relay.test"`, crt(),
	}, more...)...)
}

func (f *fixture) direct() *lines { return newLines(f.t, dialTLS(f.t, f.Addrs("r")[1].String())) }
func (f *fixture) upgrade() *lines {
	return newLines(f.t, testkit.Dial(f.t, f.addr()))
}

// The deployment of the man page: port 143 with STARTTLS, port 993 with TLS, and a
// backend for each user. The first bytes of the backend are not lost.
func TestIMAPByUser(t *testing.T) {
	one := backend(t, func(conn net.Conn) { // POE::Filter::SSL's relay hangs if the greeting and a response arrive in one segment
		in := bufio.NewReader(conn)
		io.WriteString(conn, "* OK one ready\r\n")
		line, _ := in.ReadString('\n')
		tag, _, _ := strings.Cut(line, " ")
		fmt.Fprintf(conn, "%s OK one has %q\r\n* BYE early\r\n", tag, line)
		io.Copy(conn, in)
	})
	two := start(t, "mode = \"tcp\"", `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, script(t, "S: * OK two ready", `C: t LOGIN "user2" "p w"`, "S: t OK two"))))
	f := mailRelay(t, modeIMAP, trust(), "allow-plaintext = true", fmt.Sprintf("backend = %q", testkit.ClosedPort(t)),
		"[relay.users]", fmt.Sprintf("user1 = %q", one), fmt.Sprintf("\"@two.test\" = \"tls:%s\"", two.addr()), fmt.Sprintf("user2 = \"tls:%s\"", two.addr()))

	t.Run("direct", func(t *testing.T) {
		c := f.direct()
		c.expect("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=PLAIN] sslrelay ready")
		c.say("1 login \"user1\" \"secret\"\r\n2 PIPELINED\r\n")
		c.expect(`1 OK one has "1 LOGIN \"user1\" \"secret\"\r\n"`)
		c.expect("* BYE early")
		c.expect("2 PIPELINED") // the echo
	})
	t.Run("STARTTLS", func(t *testing.T) {
		c := f.upgrade()
		c.expect("STARTTLS AUTH=PLAIN] sslrelay ready")
		c.say(". STARTTLS\r\n")
		c.expect(". OK Begin TLS")
		c = c.starttls()
		c.say("t LOGIN user2 {3}\r\n")
		c.expect("+ OK")
		c.say("p w\r\n")
		c.expect("t OK two")
	})
	t.Run("plain text where it is allowed", func(t *testing.T) {
		c := f.upgrade()
		c.expect("* OK")
		c.say("t LOGIN user1 secret\r\n")
		c.expect("t OK one")
	})
	t.Run("the backend is down", func(t *testing.T) {
		c := f.direct()
		c.expect("* OK")
		for range protocol.MaxLogins - 1 {
			c.say("t LOGIN nobody secret\r\n")
			c.expect("t NO [UNAVAILABLE] backend server unavailable")
		}
		c.say("t LOGIN nobody secret\r\n")
		c.expect("t NO [UNAVAILABLE]")
		c.expect("* BYE")
		c.end()
	})
	f.logs("user=user1")
	require.NotContains(t, f.log.String(), "secret")
	require.NotContains(t, f.log.String(), "p w")
	require.NotContains(t, f.log.String(), "nobody") // names that are not in the table may be passwords
}

// After a failed login the client stays connected to the relay, and its next login can
// go to another backend.
func TestARefusedLoginCanBeRepeated(t *testing.T) {
	f := mailRelay(t, modeIMAP, "[relay.users]",
		fmt.Sprintf("eve = %q", backend(t, script(t, "S: * OK", `C: a LOGIN "eve" "x"`, "S: * note", "S: a NO never"))),
		fmt.Sprintf("anna = %q", backend(t, script(t, "S: * OK", "C: b AUTHENTICATE PLAIN", "S: + ", "C: "+b64("\x00anna\x00secret"), "S: b OK in"))))
	c := f.direct()
	c.expect("* OK")
	c.say("a LOGIN eve x\r\nb AUTHENTICATE PLAIN " + b64("\x00anna\x00secret") + "\r\nc ECHO\r\n")
	c.expect("* note")
	c.expect("a NO never")
	c.expect("b OK in")
	c.expect("c ECHO")
	require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.loginsRefused }))
	require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.logins }))
	require.NotContains(t, f.log.String(), "secret")
}

func TestPOP3AndSMTPByUser(t *testing.T) {
	t.Run("POP3", func(t *testing.T) {
		f := mailRelay(t, modePOP3, "[relay.users]", fmt.Sprintf("anna = %q", backend(t, script(t, "S: +OK", "C: USER anna", "S: +OK", "C: PASS secret", "S: +OK in"))))
		c := f.upgrade()
		c.expect("+OK sslrelay ready")
		c.say("STLS\r\n")
		c.expect("+OK")
		c = c.starttls()
		c.say("USER nobody\r\nPASS x\r\nUSER anna\r\nPASS secret\r\nECHO\r\n")
		c.expect("+OK")
		c.expect("-ERR [AUTH]")
		c.expect("+OK")
		c.expect("+OK in")
		c.expect("ECHO")
	})
	t.Run("SMTP", func(t *testing.T) {
		login := "C: AUTH PLAIN " + b64("\x00anna\x00secret")
		f := mailRelay(t, modeSMTP, "[relay.users]", fmt.Sprintf("anna = %q", backend(t, script(t, "S: 220 x", "C: EHLO me", "S: 250-x", "S: 250 AUTH PLAIN", login, "S: 235 in"))))
		c := f.upgrade()
		c.expect("220 relay.test ESMTP")
		c.say("STARTTLS\r\n")
		c.expect("220 ")
		c = c.starttls()
		c.say("EHLO me\r\n")
		c.expect("250-relay.test")
		c.expect("250-8BITMIME")
		c.expect("250 AUTH PLAIN LOGIN")
		c.say("AUTH LOGIN " + b64("anna") + "\r\n")
		c.expect("334 ")
		c.say(b64("secret") + "\r\n")
		c.expect("235 in")
		c.say("ECHO\r\n")
		c.expect("ECHO")
		require.NotContains(t, f.log.String(), "secret")
	})
	t.Run("SMTP without a login", func(t *testing.T) {
		f := mailRelay(t, modeSMTP, "allow-plaintext = true", "allow-unauthenticated = true",
			fmt.Sprintf("backend = %q\n[relay.users]\n\"x\" = \"127.0.0.1:1\"", backend(t, script(t, "S: 220 x", "C: EHLO me", "S: 250 x", "C: MAIL FROM:<a@b>", "S: 250 fine"))))
		c := f.upgrade()
		c.expect("220 ")
		c.say("EHLO me\r\nMAIL FROM:<a@b>\r\n")
		c.expect("250-")
		c.expect("250-")
		c.expect("250-")
		c.expect("250 AUTH")
		c.expect("250 fine")
	})
}

// If no users are configured, a client with TLS speaks to the backend directly.
func TestTransparentSTARTTLSOnBothSides(t *testing.T) {
	for _, c := range []struct {
		mode, greeting, starttls, go_ string
		backend                       []string
		direct                        string
	}{
		{modeIMAP, "* OK", "a STARTTLS", "a OK", []string{"S: * OK [CAPABILITY EVIL] hello", "C: relay0 STARTTLS", "S: relay0 OK"}, "* OK sslrelay ready"},
		{modePOP3, "+OK", "STLS", "+OK", []string{"S: +OK hello", "C: STLS", "S: +OK"}, "+OK sslrelay ready"},
		{modeSMTP, "220 ", "STARTTLS", "220 ", []string{"S: 220-hello", "S: 220 you", "C: EHLO relay.test", "S: 250-x", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go"}, "220 relay.test ESMTP sslrelay ready"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			addr := backend(t, func(conn net.Conn) {
				if !speak(t, conn, c.backend...) {
					return
				}
				cert, err := tls.LoadX509KeyPair(testkit.PKI("server.crt"), testkit.PKI("server.key"))
				if err != nil {
					t.Error(err)
				}
				secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
				testkit.Echo(secure)
			})
			f := mailRelay(t, c.mode, trust(), fmt.Sprintf("backend = \"starttls:%s\"", addr))
			client := f.upgrade()
			client.expect(c.greeting)
			client.say(c.starttls + "\r\n")
			client.expect(c.go_)
			client = client.starttls()
			client.say("ANY COMMAND\r\n")
			client.expect("ANY COMMAND") // the client has received nothing else before this line

			client = f.direct()
			client.expect(c.direct)
		})
	}
}

// CVE-2011-0411 from both sides.
func TestInjectionAfterSTARTTLS(t *testing.T) {
	t.Run("commands", func(t *testing.T) {
		for _, c := range []struct{ mode, hello, inject, answer string }{
			{modeIMAP, "* OK", "a STARTTLS\r\nb LOGIN eve evil\r\n", "a BAD"},
			{modePOP3, "+OK", "STLS\r\nUSER eve\r\n", "-ERR"},
			{modeSMTP, "220", "STARTTLS\r\nEHLO eve\r\n", "421"},
		} {
			f := mailRelay(t, c.mode, fmt.Sprintf("backend = %q", testkit.ClosedPort(t)))
			client := f.upgrade()
			client.expect(c.hello)
			client.say(c.inject)
			client.expect(c.answer)
			io.Copy(io.Discard, client)
			client.Close()
			f.logs("bytes of plaintext after STARTTLS")
			require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.injected }))
		}
	})
	t.Run("responses", func(t *testing.T) {
		for _, c := range []struct {
			mode, answer string
			lines        []string
		}{
			{modeIMAP, "* BYE", []string{"S: * OK", "C: relay0 STARTTLS", "S: relay0 OK\r\n* CAPABILITY EVIL"}},
			{modePOP3, "-ERR", []string{"S: +OK", "C: STLS", "S: +OK\r\n+OK evil"}},
			{modeSMTP, "421", []string{"S: 220 x", "C: EHLO relay.test", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go\r\n250 evil"}},
		} {
			f := mailRelay(t, c.mode, trust(), fmt.Sprintf("backend = \"starttls:%s\"", backend(t, script(t, c.lines...))))
			client := f.direct()
			client.expect(c.answer)
			client.end()
			client.Close()
			f.logs("bytes of plaintext after STARTTLS")
			require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.injected }))
		}
	})
}

func TestClientIsToldThatTheBackendIsDown(t *testing.T) {
	for _, c := range []struct{ mode, say, answer string }{
		{modeIMAP, "", "* BYE [UNAVAILABLE] backend server unavailable"},
		{modePOP3, "", "-ERR [SYS/TEMP] backend server unavailable"},
		{modeSMTP, "", "421 4.3.0 backend server unavailable"},
		{modePOP3, "USER anna\r\nPASS x\r\n", "-ERR [SYS/TEMP]"},
		{modeSMTP, "EHLO me\r\nAUTH PLAIN " + b64("\x00anna\x00secret") + "\r\n", "454 4.7.0"},
	} {
		where := fmt.Sprintf("backend = %q", testkit.ClosedPort(t))
		if c.say != "" {
			where += "\n[relay.users]\nx = \"127.0.0.1:1\""
		}
		client := mailRelay(t, c.mode, where).direct()
		if c.say == "" {
			client.expect(c.answer)
			client.end()
			continue
		}
		client.say(c.say)
		for !strings.HasPrefix(client.expect(""), c.answer) {
		}
	}
}

// The client is told that a backend with invalid responses is not available.
func TestClientIsToldOfInvalidResponses(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"ends at once": func(net.Conn) {},
		"speaks HTTP":  func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"never ends": func(c net.Conn) {
			io.WriteString(c, strings.Repeat("x", protocol.MaxResponse+1))
			io.Copy(io.Discard, c)
		},
		"speaks too much": func(c net.Conn) {
			io.WriteString(c, "* OK\r\n"+strings.Repeat("* X\r\n", protocol.MaxResponses))
			io.Copy(io.Discard, c)
		},
		"says nothing": func(c net.Conn) { io.Copy(io.Discard, c) },
	} {
		t.Run(name, func(t *testing.T) {
			timeout := `backend-timeout = "30s"`
			if name == "says nothing" {
				timeout = `backend-timeout = "50ms"`
			}
			f := mailRelay(t, modeIMAP, timeout, "[relay.users]", fmt.Sprintf("anna = %q", backend(t, serve)))
			c := f.direct()
			c.expect("* OK")
			c.say("a LOGIN anna secret\r\n")
			if name == "speaks too much" {
				for range protocol.MaxResponses - 1 {
					c.expect("* X")
				}
			}
			c.expect("a NO [UNAVAILABLE]")
		})
	}
}
