package protocol

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	modeIMAP = "imap"
	modePOP3 = "pop3"
	modeSMTP = "smtp"
)

// testFront makes a front with the usual configuration.
func testFront(mode string, change func(*FrontConfig)) LoginFront {
	c := FrontConfig{Greeting: "ready", Hostname: "relay.test", Capabilities: []string{"IMAP4rev1"}, CanTLS: true, MaxLine: 400}
	switch mode {
	case modePOP3:
		c.Capabilities = []string{"USER"}
	case modeSMTP:
		c.Capabilities = []string{"8BITMIME"}
	}
	if change != nil {
		change(&c)
	}
	return Find(mode).Front(c).(LoginFront)
}

// buffered returns the common part of a front.
func buffered(f Front) *lineFront {
	switch f := f.(type) {
	case *imapFront:
		return &f.lineFront
	case *pop3Front:
		return &f.lineFront
	case *smtpFront:
		return &f.lineFront
	}
	panic("no front")
}

// trace has the replies to some input, and the decisions between them.
type trace struct {
	out    string
	logins []Login
	tls    bool // ended with STARTTLS
	end    *Step
}

// play gives a front input in pieces of size, and refuses every login.
func play(f LoginFront, input string, size int) (tr trace) {
	step := f.Next()
	for {
		tr.out += step.ToClient
		switch step.Do {
		case More:
			if input == "" {
				return tr
			}
			n := min(size, len(input))
			f.Feed([]byte(input[:n]))
			input = input[n:]
		case StartTLS:
			tr.tls = true
			return tr
		case HangUp:
			tr.end = &step
			return tr
		case Connect:
			tr.logins = append(tr.logins, *step.Login)
			tr.out += "<login>\r\n"
			step = f.Refused()
			continue
		}
		step = f.Next()
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Input of a client and replies of the front in each protocol.
func TestFronts(t *testing.T) {
	secure := func(c *FrontConfig) { c.TLS = true }
	lax := func(c *FrontConfig) { c.PlainLogin = true }
	anna := []Login{{tag: "a", User: "anna", name: "anna", password: "secret"}}
	plainAnna := b64("\x00anna\x00secret")
	for _, c := range []struct {
		name, mode string
		change     func(*FrontConfig)
		input      string
		want       string
		logins     []Login
		tls        bool
		ends       string
	}{
		{name: "IMAP capability before TLS", mode: modeIMAP, input: "a CAPABILITY\r\n",
			want: "* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\na OK CAPABILITY completed\r\n"},
		{name: "IMAP capability where plaintext is allowed", mode: modeIMAP, change: lax, input: "a capability\r\n",
			want: "* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN\r\na OK CAPABILITY completed\r\n"},
		{name: "IMAP capability in TLS", mode: modeIMAP, change: secure, input: "a CAPABILITY\r\n",
			want: "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\na OK CAPABILITY completed\r\n"},
		{name: "IMAP accepts any tag", mode: modeIMAP, input: ". NOOP\r\nA001]x NOOP\r\n1 NOOP\r\n",
			want: ". OK NOOP completed\r\nA001]x OK NOOP completed\r\n1 OK NOOP completed\r\n"},
		{name: "IMAP STARTTLS", mode: modeIMAP, input: ". STARTTLS\r\n", tls: true, want: ". OK Begin TLS negotiation now.\r\n"},
		{name: "IMAP STARTTLS twice", mode: modeIMAP, change: secure, input: "a STARTTLS\r\n", want: "a BAD TLS is already active\r\n"},
		{name: "IMAP login before TLS", mode: modeIMAP, input: "a LOGIN anna secret\r\n",
			want: "a NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections\r\n"},
		{name: "IMAP literal before TLS is not asked for", mode: modeIMAP, input: "a LOGIN {4}\r\n",
			want: "a NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections\r\n"},
		{name: "IMAP authenticate before TLS", mode: modeIMAP, input: "a AUTHENTICATE PLAIN " + plainAnna + "\r\n",
			want: "a NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections\r\n"},
		{name: "IMAP login with atoms", mode: modeIMAP, change: secure, input: "a LOGIN anna secret\r\n", logins: anna, want: "<login>\r\n"},
		{name: "IMAP login with quoted strings", mode: modeIMAP, change: secure, input: "a login \"anna\" \"secret\"\r\n", logins: anna, want: "<login>\r\n"},
		{name: "IMAP escapes in quoted strings", mode: modeIMAP, change: secure, input: `a LOGIN "an\\na" "s\"e{5} c\\"` + "\r\n", want: "<login>\r\n",
			logins: []Login{{tag: "a", User: `an\na`, name: `an\na`, password: `s"e{5} c\`}}},
		{name: "IMAP login with literals", mode: modeIMAP, change: secure, input: "a LOGIN {4}\r\nanna {6}\r\nsecret\r\n", logins: anna, want: "+ OK\r\n+ OK\r\n<login>\r\n"},
		{name: "IMAP login with non-synchronizing literals", mode: modeIMAP, change: secure, input: "a LOGIN {4+}\r\nanna {6+}\r\nsecret\r\n", logins: anna, want: "<login>\r\n"},
		{name: "IMAP literal with a line end in it", mode: modeIMAP, change: secure, input: "a LOGIN anna {8}\r\nse\r\ncret\r\n", want: "+ OK\r\n<login>\r\n",
			logins: []Login{{tag: "a", User: "anna", name: "anna", password: "se\r\ncret"}}},
		{name: "IMAP literal of zero bytes", mode: modeIMAP, change: secure, input: "a LOGIN anna {0}\r\n\r\n", want: "+ OK\r\n<login>\r\n",
			logins: []Login{{tag: "a", User: "anna", name: "anna"}}},
		{name: "IMAP literal that is too long", mode: modeIMAP, change: secure, input: "a LOGIN {99999999999999999999}\r\n", want: "a BAD literal too big\r\n"},
		{name: "IMAP non-synchronizing literal that is too long", mode: modeIMAP, change: secure, input: "a LOGIN {4000+}\r\n",
			want: "a BAD literal too big\r\n* BYE literal too big\r\n", ends: "literal too big"},
		{name: "IMAP Outlook's ID and LOGIN", mode: modeIMAP, change: secure, logins: []Login{{tag: "A2", User: "joe", name: "joe", password: "pw"}},
			input: "A1 ID (\"name\" {23+}\r\nMicrosoft.Exchange.Imap \"version\" \"15.20\")\r\nA2 LOGIN joe pw\r\n", want: "* ID NIL\r\nA1 OK ID completed\r\n<login>\r\n"},
		{name: "IMAP synchronizing literal in ID", mode: modeIMAP, change: secure, logins: []Login{{tag: "A2", User: "joe", name: "joe", password: "pw"}},
			input: "A1 ID (\"name\" {5}\r\nab\r\nc)\r\nA2 LOGIN joe pw\r\n", want: "+ OK\r\n* ID NIL\r\nA1 OK ID completed\r\n<login>\r\n"},
		{name: "IMAP literals in ID before TLS", mode: modeIMAP, input: "a ID (\"name\" {1+}\r\nx)\r\nb NOOP\r\n", want: "* ID NIL\r\na OK ID completed\r\nb OK NOOP completed\r\n"},
		{name: "IMAP unknown command with literals", mode: modeIMAP, change: secure, input: "a XYZ {2}\r\nab {3+}\r\ncde\r\nb NOOP\r\n", want: "+ OK\r\na BAD Unknown command\r\nb OK NOOP completed\r\n"},
		{name: "IMAP commands in a literal are not run", mode: modeIMAP, change: secure, logins: []Login{{tag: "z", User: "joe", name: "joe", password: "pw"}},
			input: "a XYZ {24+}\r\nx LOGIN eve evil\r\ny NOO\r\nb ID {18}\r\nx LOGIN eve evil\r\n\r\nz LOGIN joe pw\r\n",
			want:  "a BAD Unknown command\r\n+ OK\r\n* ID NIL\r\nb OK ID completed\r\n<login>\r\n"},
		{name: "IMAP literal as tag or name", mode: modeIMAP, change: secure, input: "{4+}\r\na ST\r\na {8+}\r\nSTARTTLS\r\nb STARTTLS {1+}\r\nx\r\n",
			want: "* BAD Invalid tag\r\na BAD Unknown command\r\nb BAD Invalid arguments\r\n"},
		{name: "IMAP literals of a LOGIN before TLS", mode: modeIMAP, input: "a LOGIN {4+}\r\nanna {6+}\r\nsecret\r\nb NOOP\r\n",
			want: "a NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections\r\nb OK NOOP completed\r\n"},
		{name: "IMAP second literal that is too long", mode: modeIMAP, change: secure, input: "a LOGIN {4}\r\nanna {400}\r\nb NOOP\r\n",
			want: "+ OK\r\na BAD literal too big\r\nb OK NOOP completed\r\n"},
		{name: "IMAP literal above the bound of LITERAL-", mode: modeIMAP, change: func(c *FrontConfig) { c.TLS, c.MaxLine = true, 12<<10 },
			input: "a ID (\"x\" {4096+}\r\n" + strings.Repeat("x", 4096) + ")\r\nb ID {5000}\r\n" + strings.Repeat("y", 5000) + "\r\nc ID {4097+}\r\n", ends: "literal too big",
			want: "* ID NIL\r\na OK ID completed\r\n+ OK\r\n* ID NIL\r\nb OK ID completed\r\nc BAD literal too big\r\n* BYE literal too big\r\n"},
		{name: "IMAP literal of LITERAL+", mode: modeIMAP, change: func(c *FrontConfig) { c.TLS, c.MaxLine, c.Capabilities = true, 12<<10, []string{"LITERAL+"} },
			input: "a ID {5000+}\r\n" + strings.Repeat("y", 5000) + "\r\nb ID {12288+}\r\n", ends: "literal too big",
			want: "* ID NIL\r\na OK ID completed\r\nb BAD literal too big\r\n* BYE literal too big\r\n"},
		{name: "IMAP blanks at the end", mode: modeIMAP, change: secure, input: "a NOOP \r\nb LOGIN anna secret \t\r\nc LOGIN anna {7}\r\nsecret \r\nd AUTHENTICATE PLAIN " + plainAnna + " \r\ne CAPABILITY  \r\n",
			want: "a OK NOOP completed\r\n<login>\r\n+ OK\r\n<login>\r\n<login>\r\n* BYE too many failed logins\r\n", ends: "too many failed logins",
			logins: []Login{{tag: "b", User: "anna", name: "anna", password: "secret"}, {tag: "c", User: "anna", name: "anna", password: "secret "}, {tag: "d", User: "anna", name: "anna", password: "secret", sasl: true}}},
		{name: "IMAP blanks after STARTTLS", mode: modeIMAP, input: "a STARTTLS \r\n", tls: true, want: "a OK Begin TLS negotiation now.\r\n"},
		{name: "IMAP blanks after a response", mode: modeIMAP, change: secure, input: "a AUTHENTICATE PLAIN\r\n" + plainAnna + " \r\nb AUTHENTICATE PLAIN\r\n* \r\n",
			want: "+ \r\n<login>\r\n+ \r\nb BAD Authentication aborted by client\r\n", logins: []Login{{tag: "a", User: "anna", name: "anna", password: "secret", sasl: true}}},
		{name: "IMAP authenticate with an initial response", mode: modeIMAP, change: secure, input: "a AUTHENTICATE plain " + plainAnna + "\r\n", want: "<login>\r\n",
			logins: []Login{{tag: "a", User: "anna", name: "anna", password: "secret", sasl: true}}},
		{name: "IMAP authenticate without an initial response", mode: modeIMAP, change: secure, input: "a AUTHENTICATE PLAIN\r\n" + b64("boss\x00anna\x00secret") + "\r\n", want: "+ \r\n<login>\r\n",
			logins: []Login{{tag: "a", User: "boss", authz: "boss", name: "anna", password: "secret", sasl: true}}},
		{name: "IMAP authenticate cancelled", mode: modeIMAP, change: secure, input: "a AUTHENTICATE PLAIN\r\n*\r\n", want: "+ \r\na BAD Authentication aborted by client\r\n"},
		{name: "IMAP authenticate with something else", mode: modeIMAP, change: secure, input: "a AUTHENTICATE XOAUTH2\r\n", want: "a NO [CANNOT] Unsupported authentication mechanism\r\n"},
		{name: "IMAP nonsense in PLAIN", mode: modeIMAP, change: secure, input: "a AUTHENTICATE PLAIN " + b64("anna\x00secret") + "\r\nb AUTHENTICATE PLAIN =\r\nc AUTHENTICATE PLAIN !\r\n",
			want: "a BAD invalid AUTH PLAIN response\r\nb BAD invalid AUTH PLAIN response\r\nc BAD invalid AUTH PLAIN response\r\n"},
		{name: "IMAP wrong arguments", mode: modeIMAP, change: secure, input: "a LOGIN anna\r\nb LOGIN\r\nc LOGIN \"anna secret\r\nd LOGIN anna secret more\r\ne LOGIN \"\" secret\r\nf LOGIN \"a\\na\" x\r\n",
			want: eachTag("abcdef", " BAD Invalid arguments\r\n")},
		{name: "IMAP no tag", mode: modeIMAP, input: "\r\n* NOOP\r\n\"a NOOP\r\n", want: strings.Repeat("* BAD Invalid tag\r\n", 3)},
		{name: "IMAP unknown command", mode: modeIMAP, input: "a SELECT INBOX\r\n", want: "a BAD Unknown command\r\n"},
		{name: "IMAP ID and logout", mode: modeIMAP, input: "a ID (\"name\" \"x\")\r\nb LOGOUT\r\n", ends: "logout",
			want: "* ID NIL\r\na OK ID completed\r\n* BYE logging out\r\nb OK LOGOUT completed\r\n"},
		{name: "IMAP three logins", mode: modeIMAP, change: secure, input: strings.Repeat("a LOGIN anna secret\r\n", 4), ends: "too many failed logins",
			logins: slices.Repeat(anna, 3), want: strings.Repeat("<login>\r\n", 3) + "* BYE too many failed logins\r\n"},

		{name: "POP3 before TLS", mode: modePOP3, input: "CAPA\r\nUSER anna\r\nPASS secret\r\n",
			want: "+OK\r\nSTLS\r\n.\r\n-ERR Plaintext authentication disallowed on non-secure (SSL/TLS) connections\r\n-ERR Plaintext authentication disallowed on non-secure (SSL/TLS) connections\r\n"},
		{name: "POP3 in TLS", mode: modePOP3, change: secure, input: "CAPA\r\n", want: "+OK\r\nUSER\r\nSASL PLAIN\r\n.\r\n"},
		{name: "POP3 login", mode: modePOP3, change: secure, input: "user anna\r\npass  two words \r\n", want: "+OK\r\n<login>\r\n",
			logins: []Login{{User: "anna", name: "anna", password: " two words "}}},
		{name: "POP3 PASS first", mode: modePOP3, change: secure, input: "PASS secret\r\n", want: "-ERR No username given\r\n"},
		{name: "POP3 AUTH", mode: modePOP3, change: secure, input: "AUTH\r\nAUTH PLAIN\r\n" + plainAnna + "\r\nAUTH PLAIN " + plainAnna + "\r\nAUTH PLAIN\r\n*\r\n",
			want:   "+OK\r\nPLAIN\r\n.\r\n+ \r\n<login>\r\n<login>\r\n+ \r\n-ERR Authentication aborted by client\r\n",
			logins: slices.Repeat([]Login{{User: "anna", name: "anna", password: "secret", sasl: true}}, 2)},
		{name: "POP3 STLS", mode: modePOP3, input: "STLS\r\n", tls: true, want: "+OK Begin TLS negotiation now.\r\n"},
		{name: "POP3 blanks at the end", mode: modePOP3, change: secure, input: "CAPA \r\nUSER anna \r\nPASS secret\r\nAUTH PLAIN \r\n" + plainAnna + " \r\nNOOP\t\r\n",
			want:   "+OK\r\nUSER\r\nSASL PLAIN\r\n.\r\n+OK\r\n<login>\r\n+ \r\n<login>\r\n+OK\r\n",
			logins: []Login{{User: "anna", name: "anna", password: "secret"}, {User: "anna", name: "anna", password: "secret", sasl: true}}},
		{name: "POP3 blanks after STLS", mode: modePOP3, input: "STLS \r\n", tls: true, want: "+OK Begin TLS negotiation now.\r\n"},
		{name: "POP3 STLS with arguments", mode: modePOP3, input: "STLS now\r\n", want: "-ERR Invalid arguments\r\n"},
		{name: "POP3 quit", mode: modePOP3, input: "NOOP\r\nLIST\r\nQUIT\r\n", ends: "quit", want: "+OK\r\n-ERR Unknown command\r\n+OK\r\n"},

		{name: "SMTP before TLS", mode: modeSMTP, input: "EHLO me\r\nAUTH PLAIN " + plainAnna + "\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n",
			want: "250-relay.test\r\n250-8BITMIME\r\n250 STARTTLS\r\n530 5.7.0 Must issue a STARTTLS command first\r\n530 5.7.0 Must issue a STARTTLS command first\r\n503 5.5.1 Error: need MAIL command\r\n"},
		{name: "SMTP in TLS", mode: modeSMTP, change: secure, input: "EHLO me\r\nMAIL FROM:<a@b>\r\n",
			want: "250-relay.test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n530 5.7.0 Authentication required\r\n"},
		{name: "SMTP blanks at the end", mode: modeSMTP, change: secure, input: "EHLO me \r\nHELO me\t \r\nNOOP \r\nAUTH LOGIN \r\n" + b64("anna") + " \r\n" + b64("secret") + "\t\r\nAUTH PLAIN " + plainAnna + " \r\n",
			want:   "250-relay.test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n250 relay.test\r\n250 2.0.0 OK\r\n334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n<login>\r\n<login>\r\n",
			logins: slices.Repeat([]Login{{User: "anna", name: "anna", password: "secret", sasl: true, hello: "me"}}, 2)},
		{name: "SMTP blanks after STARTTLS", mode: modeSMTP, input: "STARTTLS \r\n", tls: true, want: "220 2.0.0 Ready to start TLS\r\n"},
		{name: "SMTP STARTTLS with arguments", mode: modeSMTP, input: "STARTTLS now\r\n", want: "501 5.5.4 Syntax: STARTTLS\r\n"},
		{name: "SMTP AUTH without EHLO", mode: modeSMTP, change: secure, input: "AUTH PLAIN " + plainAnna + "\r\n", want: "503 5.5.1 Error: send HELO/EHLO first\r\n"},
		{name: "SMTP AUTH PLAIN", mode: modeSMTP, change: secure, input: "HELO me\r\nAUTH PLAIN " + plainAnna + "\r\nAUTH PLAIN\r\n" + plainAnna + "\r\n",
			want:   "250 relay.test\r\n<login>\r\n334 \r\n<login>\r\n",
			logins: slices.Repeat([]Login{{User: "anna", name: "anna", password: "secret", sasl: true, hello: "me"}}, 2)},
		{name: "SMTP AUTH LOGIN", mode: modeSMTP, change: secure, input: "EHLO me\r\nAUTH LOGIN\r\n" + b64("anna") + "\r\n" + b64("secret") + "\r\nauth login " + b64("anna") + "\r\n" + b64("secret") + "\r\n",
			want:   "250-relay.test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n<login>\r\n334 UGFzc3dvcmQ6\r\n<login>\r\n",
			logins: slices.Repeat([]Login{{User: "anna", name: "anna", password: "secret", sasl: true, hello: "me"}}, 2)},
		{name: "SMTP mail without a login", mode: modeSMTP, change: func(c *FrontConfig) { c.TLS, c.Anonymous = true, true }, input: "EHLO me\r\nMAIL FROM:<a@b> SIZE=1\r\n",
			want: "250-relay.test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n<login>\r\n", logins: []Login{{mail: "MAIL FROM:<a@b> SIZE=1", hello: "me"}}},
		{name: "SMTP STARTTLS", mode: modeSMTP, input: "STARTTLS\r\n", tls: true, want: "220 2.0.0 Ready to start TLS\r\n"},
		{name: "SMTP hello with nonsense", mode: modeSMTP, input: "EHLO\r\nEHLO a b\r\nEHLO \x01\r\nHELP\r\nRSET\r\nQUIT\r\n", ends: "quit",
			want: strings.Repeat("501 5.5.4 Syntax: EHLO hostname\r\n", 3) + "502 5.5.2 Error: command not recognized\r\n250 2.0.0 OK\r\n221 2.0.0 Bye\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{1, 7, len(c.input)} {
				tr := play(testFront(c.mode, c.change), c.input, size)
				require.Equal(t, c.want, tr.out, "in pieces of %d", size)
				require.Equal(t, c.logins, tr.logins)
				require.Equal(t, c.tls, tr.tls)
				if c.ends == "" {
					require.Nil(t, tr.end)
				} else {
					require.Equal(t, c.ends, tr.end.Why)
				}
			}
		})
	}
}

func eachTag(tags, text string) (all string) {
	for _, tag := range tags {
		all += string(tag) + text
	}
	return all
}

// Bytes after STARTTLS arrive in plain text: CVE-2011-0411.
func TestFrontsRefuseInjectionAfterSTARTTLS(t *testing.T) {
	for _, c := range []struct{ mode, input, injected, answer string }{
		{modeIMAP, "a STARTTLS\r\n", "b LOGIN eve evil\r\n", "a BAD improper command pipelining after STARTTLS\r\n* BYE"},
		{modePOP3, "STLS\r\n", "USER eve\r\n", "-ERR improper command pipelining after STLS"},
		{modeSMTP, "STARTTLS\r\n", "MAIL FROM:<eve@evil>\r\n", "421 4.7.0 Error: improper command pipelining after STARTTLS"},
	} {
		for _, n := range []int{1, len(c.injected)} {
			tr := play(testFront(c.mode, nil), c.input+c.injected[:n], 4096)
			require.False(t, tr.tls)
			require.NotNil(t, tr.end)
			require.Equal(t, n, tr.end.Injected)
			require.Equal(t, fmt.Sprintf("%d bytes of plaintext after STARTTLS", n), tr.end.Why)
			require.Contains(t, tr.out, c.answer)
		}
	}
}

// A front forgets everything that the client said before TLS (RFC 3207 section 4.2).
func TestFrontsForgetWhatCameBeforeTLS(t *testing.T) {
	for _, c := range []struct{ mode, before, after, want string }{
		{modePOP3, "USER eve\r\nSTLS\r\n", "PASS secret\r\n", "-ERR No username given\r\n"},
		{modeSMTP, "EHLO eve\r\nSTARTTLS\r\n", "AUTH PLAIN\r\n", "503 5.5.1 Error: send HELO/EHLO first\r\n"},
	} {
		f := testFront(c.mode, func(o *FrontConfig) { o.PlainLogin = true })
		require.True(t, play(f, c.before, 4096).tls)
		f.Secured()
		require.Equal(t, c.want, play(f, c.after, 4096).out)
	}
}

func TestFrontsEndAClientThatOnlyMakesMistakes(t *testing.T) {
	for _, mode := range []string{modeIMAP, modePOP3, modeSMTP} {
		tr := play(testFront(mode, nil), strings.Repeat("x NONSENSE\r\n", MaxMistakes+1), 4096)
		require.NotNil(t, tr.end, mode)
		require.Equal(t, "too many invalid commands", tr.end.Why)
		require.Equal(t, MaxMistakes, strings.Count(tr.out, "\r\n")-strings.Count(tr.out, "* BYE"))
	}
}

func TestFrontsBoundALine(t *testing.T) {
	for _, mode := range []string{modeIMAP, modePOP3, modeSMTP} {
		f := testFront(mode, func(c *FrontConfig) { c.TLS = true })
		tr := play(f, "a "+strings.Repeat("x", 1<<20), 100)
		require.NotNil(t, tr.end, mode)
		require.LessOrEqual(t, len(buffered(f).buf), 400+100)
	}
}

// The cost of a byte does not depend on the literals before it in the same command: a
// client may send thousands of literals, and then single bytes.
func TestLiteralsAreReadOnce(t *testing.T) {
	for kind, literal := range map[string]string{"LITERAL+": "{0+}\r\n", "synchronizing": "{0}\r\n"} {
		t.Run(kind, func(t *testing.T) {
			f := testFront(modeIMAP, func(c *FrontConfig) { c.TLS, c.MaxLine = true, 12<<10 })
			play(f, "a "+strings.Repeat("x", 3000)+" "+strings.Repeat(literal, 1000), 4096)
			require.LessOrEqual(t, testing.AllocsPerRun(20, func() {
				f.Feed([]byte("x"))
				require.Equal(t, More, f.Next().Do)
			}), 10.0)
		})
	}
}

// Invariant: with any input, split into any pieces, a front answers with complete lines
// of printable text, holds at most one line and one piece, accepts no login without
// TLS unless that is allowed, and makes the same decisions for the same bytes. Bytes
// after STARTTLS are never used.
func FuzzFronts(f *testing.F) {
	plainAnna := b64("\x00anna\x00secret")
	for i, mode := range []string{modeIMAP, modePOP3, modeSMTP} {
		for _, input := range []string{
			"a CAPABILITY\r\nb STARTTLS\r\n", "a LOGIN {4}\r\nanna {6+}\r\nsecret\r\n", `a LOGIN "a\"b" "c\\d"` + "\r\n",
			"a AUTHENTICATE PLAIN\r\n" + plainAnna + "\r\n", "a LOGIN x {0}\r\n\r\n", "a LOGIN {3}\n\x00\x01\x02 y\n", "a LOGIN \"x{5}\r\nabcde\r\n",
			"CAPA\r\nUSER anna\r\nPASS secret\r\n", "AUTH PLAIN\r\n*\r\nSTLS\r\nUSER eve\r\n",
			"EHLO me\r\nAUTH LOGIN\r\n" + b64("anna") + "\r\n" + b64("secret") + "\r\nMAIL FROM:<a@b>\r\n", "STARTTLS\r\nMAIL FROM:<eve@evil>\r\n",
			strings.Repeat("x", 500), strings.Repeat("\r\n", 30),
		} {
			f.Add(uint8(i), false, false, false, []byte(input))
			f.Add(uint8(i), true, false, true, []byte(input))
			_ = mode
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, tls, lax, anonymous bool, input []byte) {
		if len(input) > 1<<14 {
			return
		}
		mode := []string{modeIMAP, modePOP3, modeSMTP}[which%3]
		change := func(c *FrontConfig) { c.TLS, c.PlainLogin, c.Anonymous = tls, lax, anonymous }
		var traces []trace
		for _, size := range []int{1, 5, 4096} {
			front := testFront(mode, change)
			tr := play(front, string(input), size)
			require.LessOrEqual(t, len(buffered(front).buf), 400+size)
			require.True(t, tr.out == "" || strings.HasSuffix(tr.out, "\r\n"))
			for line := range strings.SplitSeq(tr.out, "\r\n") {
				require.True(t, Printable(line), "%q", line)
			}
			if !tls && !lax {
				require.Empty(t, tr.logins)
			}
			if tr.tls {
				require.False(t, tls)
				require.Empty(t, buffered(front).buf)
			}
			traces = append(traces, tr)
		}
		for _, tr := range traces[:2] {
			if last := traces[2]; !tr.tls && (last.end == nil || last.end.Injected == 0) {
				require.Equal(t, last.out, tr.out)
				require.Equal(t, last.logins, tr.logins)
			}
		}
	})
}

func TestLoginsAreNotPrinted(t *testing.T) {
	l := &Login{tag: "a", User: "anna", name: "anna", password: "secret"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(format, l), "secret")
		require.NotContains(t, fmt.Sprintf(format, l), "anna")
	}
}

func TestTheBufferForgetsPasswords(t *testing.T) {
	front := testFront(modeIMAP, func(c *FrontConfig) { c.TLS = true })
	front.Feed([]byte("a LOGIN anna secret\r\n"))
	require.Equal(t, Connect, front.Next().Do)
	buf := buffered(front).buf
	require.False(t, bytes.Contains(buf[:cap(buf)], []byte("secret")))
}
