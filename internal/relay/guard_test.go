package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// The announcements of a plain-text backend about TLS do not reach a client that uses
// TLS, and the client's commands for TLS do not reach the backend (RFC 3207 section
// 4.2).
func TestGuardHidesTheBackendsTLS(t *testing.T) {
	secret := b64("\x00anna\x00secret")
	for _, c := range []struct {
		mode, name string
		backend    []string
		client     []string // "C: " is sent by the client, and "S: " must reach the client
	}{
		{modeIMAP, "login", []string{
			"S: * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED AUTH=PLAIN] hello", "C: a CAPABILITY",
			"S: * CAPABILITY IMAP4rev1 starttls AUTH=PLAIN LOGINDISABLED", "S: a OK [CAPABILITY STARTTLS X] done",
			"C: b LOGIN anna wrong", "S: b NO [CAPABILITY X LOGINDISABLED] no",
			"C: c LOGIN {4}", "S: + go", "C: anna {6+}", "C: secret", "S: * CAPABILITY Y STARTTLS", "S: c OK in"},
			[]string{
				"S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hello", "C: a CAPABILITY", "S: * CAPABILITY IMAP4rev1 AUTH=PLAIN", "S: a OK [CAPABILITY X] done",
				"C: s STARTTLS", "S: s BAD TLS is already active", "C: b LOGIN anna wrong", "S: b NO [CAPABILITY X] no",
				"C: c LOGIN {4}", "S: + go", "C: anna {6+}", "C: secret", "S: * CAPABILITY Y", "S: c OK in", "C: d STARTTLS", "S: d STARTTLS"}},
		{modeIMAP, "literals are not parsed", []string{
			"S: * OK hi", "C: a ID (\"name\" {13+}", "C: b STARTTLS", "C: )", "S: * ID (\"x\" {21}", "S: * CAPABILITY STARTTLS", "S: [CAPABILITY STARTTLS])", "S: a OK",
			"C: c LOGIN {9}", "S: c BAD no", "C: d AUTHENTICATE X", "S: +", "C: x STARTTLS", "S: + more", "C: y STARTTLS", "S: d OK"},
			[]string{
				"S: * OK hi", "C: a ID (\"name\" {13+}", "C: b STARTTLS", "C: )", "S: * ID (\"x\" {21}", "S: * CAPABILITY STARTTLS", "S: [CAPABILITY STARTTLS])", "S: a OK",
				"C: c LOGIN {9}", "S: c BAD no", "C: s starttls ", "S: s BAD TLS is already active", "C: d AUTHENTICATE X", "S: +", "C: x STARTTLS", "S: + more", "C: y STARTTLS", "S: d OK",
				"C: e STARTTLS", "S: e STARTTLS"}},
		{modeIMAP, "preauth", []string{"S: * PREAUTH [CAPABILITY X STARTTLS] hi"}, []string{"S: * PREAUTH [CAPABILITY X] hi", "C: a STARTTLS", "S: a STARTTLS"}},
		{modePOP3, "login", []string{"S: +OK <1@x>", "C: CAPA", "S: +OK", "S: STLS", "S: USER", "S: .", "C: AUTH", "S: +OK", "S: PLAIN", "S: .",
			"C: USER anna", "S: +OK", "C: PASS wrong", "S: -ERR no", "C: AUTH PLAIN", "S: + ", "C: " + secret, "S: +OK in"},
			[]string{"S: +OK <1@x>", "C: CAPA", "S: +OK", "S: USER", "S: .", "C: AUTH", "S: +OK", "S: PLAIN", "S: .", "C: stls", "S: -ERR TLS is already active",
				"C: USER anna", "S: +OK", "C: PASS wrong", "S: -ERR no", "C: STLS ", "S: -ERR TLS is already active", "C: AUTH PLAIN", "S: + ", "C: " + secret, "S: +OK in", "C: STLS", "S: STLS"}},
		{modeSMTP, "login", []string{"S: 220-hi", "S: 220 you", "C: EHLO me", "S: 250-STARTTLS", "S: 250-STARTTLS", "S: 250-SIZE 1", "S: 250 STARTTLS", "C: EHLO me", "S: 250-x", "S: 250-starttls ", "S: 250 SIZE",
			"C: AUTH LOGIN", "S: 334 VXNlcm5hbWU6", "C: STARTTLS", "S: 535 no", "C: AUTH PLAIN " + secret, "S: 235 in"},
			[]string{"S: 220-hi", "S: 220 you", "C: EHLO me", "S: 250-STARTTLS", "S: 250 SIZE 1", "C: STARTTLS", "S: 554 5.5.1 Error: TLS already active", "C: EHLO me", "S: 250-x", "S: 250 SIZE",
				"C: AUTH LOGIN", "S: 334 VXNlcm5hbWU6", "C: STARTTLS", "S: 535 no", "C: STARTTLS", "S: 554 5.5.1 Error: TLS already active", "C: AUTH PLAIN " + secret, "S: 235 in", "C: STARTTLS", "S: STARTTLS"}},
		{modeSMTP, "mail without a login", []string{"S: 220 x", "C: HELO me", "S: 250 x", "C: MAIL FROM:<>", "S: 250 fine"},
			[]string{"S: 220 x", "C: HELO me", "S: 250 x", "C: MAIL FROM:<>", "S: 250 fine", "C: STARTTLS", "S: STARTTLS"}},
	} {
		t.Run(c.mode+"/"+c.name, func(t *testing.T) {
			for _, pipelined := range []bool{false, true} {
				f := mailRelay(t, c.mode, fmt.Sprintf("backend = %q", backend(t, script(t, c.backend...))))
				client := f.direct()
				var all, waits string
				for _, line := range c.client {
					if said, ok := strings.CutPrefix(line, "C: "); ok {
						all += said + "\r\n"
						continue
					}
					waits += strings.TrimPrefix(line, "S: ") + "\r\n"
					if !pipelined {
						client.say(all)
						all = ""
						client.expect(strings.TrimPrefix(line, "S: ") + "\r\n")
					}
				}
				if pipelined && c.name != "literals are not parsed" { // in this case the client must wait, because the backend refuses a literal
					client.say(all)
					got := make([]byte, len(waits))
					_, err := io.ReadFull(client.in, got)
					require.NoError(t, err, "%q", got)
					require.Equal(t, waits, string(got))
				}
				client.Close()
			}
		})
	}
}

// Without TLS on either side the relay changes nothing: the client can begin TLS with
// the backend.
func TestRelayWithoutTLSChangesNothing(t *testing.T) {
	f := start(t, `mode = "imap"`, `listen = ["plain:127.0.0.1:0"]`, fmt.Sprintf("backend = %q", backend(t, script(t, "S: * OK [CAPABILITY STARTTLS] hi", "C: a STARTTLS", "S: a OK"))))
	c := newLines(t, testkit.Dial(t, f.addr()))
	c.expect("* OK [CAPABILITY STARTTLS] hi")
	c.say("a STARTTLS\r\n")
	c.expect("a OK")
}

// Even before the login, the end of one side reaches the other side, and unsolicited
// responses of the backend reach the client.
func TestEndsBeforeTheLogin(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		f := mailRelay(t, modeSMTP, fmt.Sprintf("backend = %q", backend(t, func(c net.Conn) {
			io.WriteString(c, "220 x\r\n")
			rest, _ := io.ReadAll(c)
			fmt.Fprintf(c, "%q\r\n", rest)
		})))
		conn := dialTLS(t, f.Addrs("r")[1].String())
		c := newLines(t, conn)
		c.expect("220 x")
		c.say("half")
		require.NoError(t, conn.CloseWrite())
		c.expect(`"half"`)
		c.end()
	})
	t.Run("backend", func(t *testing.T) {
		f := mailRelay(t, modeIMAP, fmt.Sprintf("backend = %q", backend(t, func(c net.Conn) {
			io.WriteString(c, "* OK\r\n* BYE Disconnected for inactivity.\r\n")
		})))
		c := f.direct()
		c.expect("* OK")
		c.expect("* BYE Disconnected for inactivity.")
		c.end()
		c.Close()
		f.logs("connection ended")
	})
	t.Run("a line that is too long", func(t *testing.T) {
		for _, mode := range []string{modeIMAP, modePOP3, modeSMTP} {
			greeting := map[string]string{modeIMAP: "* OK\r\n", modePOP3: "+OK\r\n", modeSMTP: "220 x\r\n"}[mode]
			f := mailRelay(t, mode, "max-line = 1000", fmt.Sprintf("backend = %q", backend(t, func(c net.Conn) {
				io.WriteString(c, greeting)
				io.Copy(io.Discard, c)
			})))
			c := f.direct()
			c.expect(strings.TrimSpace(greeting))
			c.say(strings.Repeat("x", 1001))
			c.expect("line too long")
			c.end()
		}
	})
	t.Run("a response that is too long", func(t *testing.T) {
		f := mailRelay(t, modePOP3, fmt.Sprintf("backend = %q", backend(t, func(c net.Conn) {
			io.WriteString(c, "+OK\r\n")
			bufio.NewReader(c).ReadString('\n')
			io.WriteString(c, "+OK "+strings.Repeat("x", protocol.MaxResponse)+"\r\n")
			io.Copy(io.Discard, c)
		})))
		c := f.direct()
		c.expect("+OK")
		c.say("CAPA\r\n")
		_, err := io.ReadAll(c.in)
		require.Error(t, err)
		f.logs("a response of more than 16384 bytes")
	})
	t.Run("a literal in STARTTLS", func(t *testing.T) {
		f := mailRelay(t, modeIMAP, fmt.Sprintf("backend = %q", backend(t, script(t, "S: * OK"))))
		c := f.direct()
		c.expect("* OK")
		c.say("a STARTTLS {12+}\r\nb STARTTLS\r\n\r\n")
		c.expect("a BAD TLS is already active")
		c.end()
	})
}
