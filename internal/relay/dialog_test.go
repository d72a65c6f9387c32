package relay

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// talkTo gives a dialog the lines of a backend, "TLS" standing for its
// handshake. It writes down what is sent (">") and passed to the client ("<").
func talkTo(d dialog, lines ...string) (log []string, last turn) {
	for _, line := range lines {
		if line == "TLS" {
			last = d.secured()
		} else {
			last = d.line(line)
		}
		for s := range strings.SplitAfterSeq(last.send, "\r\n") {
			if s != "" {
				log = append(log, "> "+strings.TrimSuffix(s, "\r\n"))
			}
		}
		for s := range strings.SplitAfterSeq(last.pass, "\r\n") {
			if s != "" {
				log = append(log, "< "+strings.TrimSuffix(s, "\r\n"))
			}
		}
		if last.do != dialogMore && last.do != dialogTLS {
			return log, last
		}
	}
	return log, last
}

func TestDialogs(t *testing.T) {
	anna := &login{tag: "A1", user: "anna", name: "anna", password: `se"c\ret`}
	sasl := &login{tag: "A1", name: "anna", password: "secret", sasl: true, hello: "me"}
	for _, c := range []struct {
		name, mode string
		conf       dialogConfig
		lines      []string
		want       []string
		do         turnAction
		why        string
	}{
		{name: "IMAP login", mode: modeIMAP, conf: dialogConfig{login: anna},
			lines: []string{"* OK hello", "* CAPABILITY IMAP4rev1", "A1 OK [CAPABILITY X] welcome"}, do: dialogOpen,
			want: []string{`> A1 LOGIN "anna" "se\"c\\ret"`, "< * CAPABILITY IMAP4rev1", "< A1 OK [CAPABILITY X] welcome"}},
		{name: "IMAP login refused", mode: modeIMAP, conf: dialogConfig{login: anna}, lines: []string{"* OK", "A1 NO no"}, do: dialogDenied,
			want: []string{`> A1 LOGIN "anna" "se\"c\\ret"`, "< A1 NO no"}},
		{name: "IMAP, what the backend announces about TLS is not the client's", mode: modeIMAP, conf: dialogConfig{login: anna}, do: dialogDenied,
			lines: []string{"* OK", "* CAPABILITY A STARTTLS LOGINDISABLED", "A1 NO [CAPABILITY A STARTTLS] no"},
			want:  []string{`> A1 LOGIN "anna" "se\"c\\ret"`, "< * CAPABILITY A", "< A1 NO [CAPABILITY A] no"}},
		{name: "IMAP literals for what no quoted string can hold", mode: modeIMAP, do: dialogOpen,
			conf:  dialogConfig{login: &login{tag: "x", name: "ann\xc3\xa4", password: "a\r\nb"}},
			lines: []string{"* OK", "+ go", "+", "x OK"}, want: []string{"> x LOGIN {5}", "> ann\xc3\xa4 {4}", "> a", "> b", "< x OK"}},
		{name: "IMAP authenticate", mode: modeIMAP, conf: dialogConfig{login: sasl}, lines: []string{"* OK", "+ ", "A1 OK"}, do: dialogOpen,
			want: []string{"> A1 AUTHENTICATE PLAIN", "> " + b64("\x00anna\x00secret"), "< A1 OK"}},
		{name: "IMAP STARTTLS", mode: modeIMAP, conf: dialogConfig{login: sasl, startTLS: true}, do: dialogOpen,
			lines: []string{"* OK [CAPABILITY LOGINDISABLED]", "* note", "relay0 OK", "TLS", "+ ", "A1 OK"},
			want:  []string{"> relay0 STARTTLS", "> A1 AUTHENTICATE PLAIN", "> " + b64("\x00anna\x00secret"), "< A1 OK"}},
		{name: "IMAP STARTTLS refused", mode: modeIMAP, conf: dialogConfig{login: sasl, startTLS: true}, lines: []string{"* OK", "relay0 NO"}, do: dialogFailed,
			want: []string{"> relay0 STARTTLS"}, why: "STARTTLS was refused"},
		{name: "IMAP PREAUTH ends STARTTLS", mode: modeIMAP, conf: dialogConfig{startTLS: true}, lines: []string{"* PREAUTH"}, do: dialogFailed,
			why: "the greeting is PREAUTH, after which neither STARTTLS nor a login is possible"},
		{name: "IMAP BYE", mode: modeIMAP, conf: dialogConfig{login: anna}, lines: []string{"* BYE full"}, do: dialogFailed, why: "the greeting is not OK"},
		{name: "IMAP asks for more", mode: modeIMAP, conf: dialogConfig{login: anna}, lines: []string{"* OK", "+ more"}, do: dialogFailed,
			want: []string{`> A1 LOGIN "anna" "se\"c\\ret"`}, why: "the server asks for more than the login"},
		{name: "IMAP OK to half a login", mode: modeIMAP, conf: dialogConfig{login: sasl}, lines: []string{"* OK", "A1 OK"}, do: dialogFailed,
			want: []string{"> A1 AUTHENTICATE PLAIN"}, why: "the answer to the login is none"},
		{name: "IMAP, the client logs in itself and was greeted", mode: modeIMAP, lines: []string{"* OK"}, do: dialogOpen},
		{name: "IMAP, the client logs in itself and was not", mode: modeIMAP, conf: dialogConfig{greet: true}, lines: []string{"* PREAUTH hi"}, do: dialogOpen, want: []string{"< * PREAUTH hi"}},
		{name: "IMAP, a greeting from before TLS is not passed", mode: modeIMAP, conf: dialogConfig{greet: true, startTLS: true, ready: "ready"},
			lines: []string{"* OK [CAPABILITY EVIL] hi", "relay0 OK", "TLS"}, do: dialogOpen, want: []string{"> relay0 STARTTLS", "< * OK ready"}},

		{name: "POP3 login", mode: modePOP3, conf: dialogConfig{login: &login{name: "anna", password: " p w"}}, lines: []string{"+OK", "+OK", "+OK in"}, do: dialogOpen,
			want: []string{"> USER anna", "> PASS  p w", "< +OK in"}},
		{name: "POP3 refused at once", mode: modePOP3, conf: dialogConfig{login: anna}, lines: []string{"+OK", "-ERR who"}, do: dialogDenied, want: []string{"> USER anna", "< -ERR who"}},
		{name: "POP3 AUTH and STLS", mode: modePOP3, conf: dialogConfig{login: sasl, startTLS: true}, lines: []string{"+OK <1@apop>", "+OK", "TLS", "+ ", "-ERR no"}, do: dialogDenied,
			want: []string{"> STLS", "> AUTH PLAIN", "> " + b64("\x00anna\x00secret"), "< -ERR no"}},
		{name: "POP3 no STLS", mode: modePOP3, conf: dialogConfig{startTLS: true}, lines: []string{"+OK", "-ERR"}, do: dialogFailed, want: []string{"> STLS"}, why: "STLS was refused"},
		{name: "POP3 timestamp for APOP", mode: modePOP3, conf: dialogConfig{greet: true}, lines: []string{"+OK <1@apop>"}, do: dialogOpen, want: []string{"< +OK <1@apop>"}},

		{name: "SMTP login", mode: modeSMTP, conf: dialogConfig{login: sasl}, do: dialogOpen,
			lines: []string{"220-hello", "220 ESMTP", "250-me", "250-AUTH LOGIN PLAIN", "250 X", "235-2.7.0", "235 ok"},
			want:  []string{"> EHLO me", "> AUTH PLAIN " + b64("\x00anna\x00secret"), "< 235-2.7.0", "< 235 ok"}},
		{name: "SMTP STARTTLS", mode: modeSMTP, conf: dialogConfig{login: sasl, startTLS: true}, do: dialogDenied,
			lines: []string{"220 x", "250-me", "250 AUTH PLAIN", "220 go", "TLS", "250-me", "250 AUTH PLAIN", "535 no"},
			want:  []string{"> EHLO me", "> STARTTLS", "> EHLO me", "> AUTH PLAIN " + b64("\x00anna\x00secret"), "< 535 no"}},
		{name: "SMTP, what was announced before TLS is forgotten", mode: modeSMTP, conf: dialogConfig{login: sasl, startTLS: true}, do: dialogFailed,
			lines: []string{"220 x", "250 AUTH PLAIN", "220 go", "TLS", "250 me"}, want: []string{"> EHLO me", "> STARTTLS", "> EHLO me"}, why: "the server offers no AUTH PLAIN"},
		{name: "SMTP mail", mode: modeSMTP, conf: dialogConfig{login: &login{mail: "MAIL FROM:<>", hello: "me"}}, lines: []string{"220 x", "250 me"}, do: dialogOpen,
			want: []string{"> EHLO me", "> MAIL FROM:<>"}},
		{name: "SMTP not ready", mode: modeSMTP, lines: []string{"554 go away"}, do: dialogFailed, why: "the greeting is 554"},
		{name: "SMTP, the client logs in itself", mode: modeSMTP, conf: dialogConfig{greet: true}, lines: []string{"220-a", "220 b"}, do: dialogOpen, want: []string{"< 220-a", "< 220 b"}},
		{name: "SMTP, a greeting from before TLS is not passed", mode: modeSMTP, conf: dialogConfig{greet: true, startTLS: true, hostname: "relay.test", ready: "ready"},
			lines: []string{"220-a", "220 b", "250 me", "220 go", "TLS"}, do: dialogOpen, want: []string{"> EHLO relay.test", "> STARTTLS", "< 220 relay.test ESMTP ready"}},
		{name: "no SMTP", mode: modeSMTP, lines: []string{"+OK"}, do: dialogFailed, why: "no reply of SMTP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, last := talkTo(newDialog(c.mode, c.conf), c.lines...)
			require.Equal(t, c.want, log)
			require.Equal(t, c.do, last.do)
			require.Equal(t, c.why, last.why)
		})
	}
}

// Invariant: whatever a backend says, a dialog does not panic; with STARTTLS
// nothing of the login is sent before TLS; a login is open only after an answer
// that says so, and what goes to the client is whole lines.
func FuzzDialogs(f *testing.F) {
	for i, lines := range []string{
		"* OK hi\nrelay0 OK\n+ \n+ \nA1 OK", "* PREAUTH", "* OK\nA1 NO", "+OK\n+OK\n+OK", "+OK\n+ \n-ERR", "220-a\n220 b\n250-AUTH PLAIN\n250 x\n220 go\n250 AUTH PLAIN\n235 ok",
		"220\n250\n454", "2\n22x\n220",
	} {
		for flags := range uint8(8) {
			f.Add(uint8(i), flags, lines)
		}
	}
	f.Fuzz(func(t *testing.T, which, flags uint8, lines string) {
		mode := []string{modeIMAP, modePOP3, modeSMTP}[which%3]
		conf := dialogConfig{startTLS: flags&1 != 0, greet: flags&2 != 0, hostname: "relay.test", ready: "ready"}
		if flags&4 != 0 {
			conf.greet = false // who has logged in was greeted
			conf.login = &login{tag: "A1", user: "anna", name: "anna", password: "secret", sasl: flags&8 != 0, hello: "me"}
		}
		d, tls := newDialog(mode, conf), !conf.startTLS
		for line := range strings.SplitSeq(lines, "\n") {
			next := d.line(line)
			for {
				if !tls {
					for _, part := range []string{"secret", "anna", b64("\x00anna\x00secret"), "LOGIN", "AUTH", "USER"} {
						require.NotContains(t, next.send, part)
					}
				}
				require.True(t, next.pass == "" || strings.HasSuffix(next.pass, "\r\n"))
				if next.do != dialogTLS {
					break
				}
				require.False(t, tls, "TLS twice")
				tls = true
				next = d.secured()
			}
			switch next.do {
			case dialogOpen:
				require.True(t, tls)
				if conf.login != nil {
					require.True(t, strings.HasPrefix(line, "A1 ") || strings.HasPrefix(line, "+OK") || strings.HasPrefix(line, "235"), "%q", line)
				}
				return
			case dialogDenied, dialogFailed:
				return
			}
		}
	})
}
