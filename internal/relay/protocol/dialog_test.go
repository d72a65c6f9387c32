package protocol

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// heard gives a dialog a line of the backend.
func heard(d Dialog, line string) Step {
	d.Feed([]byte(line + "\n"))
	return d.Next()
}

// talkTo gives a dialog the lines of a backend; "TLS" stands for the handshake. It
// returns the lines for the backend (">") and for the client ("<").
func talkTo(d Dialog, lines ...string) (log []string, last Step) {
	for _, line := range lines {
		if line == "TLS" {
			last = d.Secured()
		} else {
			last = heard(d, line)
		}
		for s := range strings.SplitAfterSeq(last.ToBackend, "\r\n") {
			if s != "" {
				log = append(log, "> "+strings.TrimSuffix(s, "\r\n"))
			}
		}
		for s := range strings.SplitAfterSeq(last.ToClient, "\r\n") {
			if s != "" {
				log = append(log, "< "+strings.TrimSuffix(s, "\r\n"))
			}
		}
		if last.Do != Again && last.Do != StartTLS {
			return log, last
		}
	}
	return log, last
}

func TestDialogs(t *testing.T) {
	anna := &Login{tag: "A1", User: "anna", name: "anna", password: `se"c\ret`}
	sasl := &Login{tag: "A1", name: "anna", password: "secret", sasl: true, hello: "me"}
	for _, c := range []struct {
		name, mode string
		conf       DialogConfig
		lines      []string
		want       []string
		do         Action
		why        string
	}{
		{name: "IMAP login", mode: modeIMAP, conf: DialogConfig{Login: anna},
			lines: []string{"* OK hello", "* CAPABILITY IMAP4rev1", "A1 OK [CAPABILITY X] welcome"}, do: Open,
			want: []string{`> A1 LOGIN "anna" "se\"c\\ret"`, "< * CAPABILITY IMAP4rev1", "< A1 OK [CAPABILITY X] welcome"}},
		{name: "IMAP login refused", mode: modeIMAP, conf: DialogConfig{Login: anna}, lines: []string{"* OK", "A1 NO no"}, do: Denied,
			want: []string{`> A1 LOGIN "anna" "se\"c\\ret"`, "< A1 NO no"}},
		{name: "IMAP, the client does not get what the backend announces about TLS", mode: modeIMAP, conf: DialogConfig{Login: anna}, do: Denied,
			lines: []string{"* OK", "* CAPABILITY A STARTTLS LOGINDISABLED", "A1 NO [CAPABILITY A STARTTLS] no"},
			want:  []string{`> A1 LOGIN "anna" "se\"c\\ret"`, "< * CAPABILITY A", "< A1 NO [CAPABILITY A] no"}},
		{name: "IMAP literals for text that a quoted string cannot contain", mode: modeIMAP, do: Open,
			conf:  DialogConfig{Login: &Login{tag: "x", name: "ann\xc3\xa4", password: "a\r\nb"}},
			lines: []string{"* OK", "+ go", "+", "x OK"}, want: []string{"> x LOGIN {5}", "> ann\xc3\xa4 {4}", "> a", "> b", "< x OK"}},
		{name: "IMAP authenticate", mode: modeIMAP, conf: DialogConfig{Login: sasl}, lines: []string{"* OK", "+ ", "A1 OK"}, do: Open,
			want: []string{"> A1 AUTHENTICATE PLAIN", "> " + b64("\x00anna\x00secret"), "< A1 OK"}},
		{name: "IMAP STARTTLS", mode: modeIMAP, conf: DialogConfig{Login: sasl, StartTLS: true}, do: Open,
			lines: []string{"* OK [CAPABILITY LOGINDISABLED]", "* note", "relay0 OK", "TLS", "+ ", "A1 OK"},
			want:  []string{"> relay0 STARTTLS", "> A1 AUTHENTICATE PLAIN", "> " + b64("\x00anna\x00secret"), "< A1 OK"}},
		{name: "IMAP STARTTLS refused", mode: modeIMAP, conf: DialogConfig{Login: sasl, StartTLS: true}, lines: []string{"* OK", "relay0 NO"}, do: Failed,
			want: []string{"> relay0 STARTTLS"}, why: "STARTTLS was refused"},
		{name: "IMAP PREAUTH ends STARTTLS", mode: modeIMAP, conf: DialogConfig{StartTLS: true}, lines: []string{"* PREAUTH"}, do: Failed,
			why: "the greeting is PREAUTH, after which neither STARTTLS nor a login is possible"},
		{name: "IMAP BYE", mode: modeIMAP, conf: DialogConfig{Login: anna}, lines: []string{"* BYE full"}, do: Failed, why: "the greeting is not OK"},
		{name: "IMAP asks for more", mode: modeIMAP, conf: DialogConfig{Login: anna}, lines: []string{"* OK", "+ more"}, do: Failed,
			want: []string{`> A1 LOGIN "anna" "se\"c\\ret"`}, why: "unexpected continuation request"},
		{name: "IMAP OK to half a login", mode: modeIMAP, conf: DialogConfig{Login: sasl}, lines: []string{"* OK", "A1 OK"}, do: Failed,
			want: []string{"> A1 AUTHENTICATE PLAIN"}, why: "unexpected response to the login"},
		{name: "IMAP, the client logs in itself and has been greeted", mode: modeIMAP, lines: []string{"* OK"}, do: Open},
		{name: "IMAP, the client logs in itself and has not been greeted", mode: modeIMAP, conf: DialogConfig{Greet: true}, lines: []string{"* PREAUTH hi"}, do: Open, want: []string{"< * PREAUTH hi"}},
		{name: "IMAP, a greeting from before TLS is not passed", mode: modeIMAP, conf: DialogConfig{Greet: true, StartTLS: true, Ready: "ready"},
			lines: []string{"* OK [CAPABILITY EVIL] hi", "relay0 OK", "TLS"}, do: Open, want: []string{"> relay0 STARTTLS", "< * OK ready"}},

		{name: "POP3 login", mode: modePOP3, conf: DialogConfig{Login: &Login{name: "anna", password: " p w"}}, lines: []string{"+OK", "+OK", "+OK in"}, do: Open,
			want: []string{"> USER anna", "> PASS  p w", "< +OK in"}},
		{name: "POP3 refused at once", mode: modePOP3, conf: DialogConfig{Login: anna}, lines: []string{"+OK", "-ERR who"}, do: Denied, want: []string{"> USER anna", "< -ERR who"}},
		{name: "POP3 AUTH and STLS", mode: modePOP3, conf: DialogConfig{Login: sasl, StartTLS: true}, lines: []string{"+OK <1@apop>", "+OK", "TLS", "+ ", "-ERR no"}, do: Denied,
			want: []string{"> STLS", "> AUTH PLAIN", "> " + b64("\x00anna\x00secret"), "< -ERR no"}},
		{name: "POP3 no STLS", mode: modePOP3, conf: DialogConfig{StartTLS: true}, lines: []string{"+OK", "-ERR"}, do: Failed, want: []string{"> STLS"}, why: "STLS was refused"},
		{name: "POP3 timestamp for APOP", mode: modePOP3, conf: DialogConfig{Greet: true}, lines: []string{"+OK <1@apop>"}, do: Open, want: []string{"< +OK <1@apop>"}},

		{name: "SMTP login", mode: modeSMTP, conf: DialogConfig{Login: sasl}, do: Open,
			lines: []string{"220-hello", "220 ESMTP", "250-me", "250-AUTH LOGIN PLAIN", "250 X", "235-2.7.0", "235 ok"},
			want:  []string{"> EHLO me", "> AUTH PLAIN " + b64("\x00anna\x00secret"), "< 235-2.7.0", "< 235 ok"}},
		{name: "SMTP STARTTLS", mode: modeSMTP, conf: DialogConfig{Login: sasl, StartTLS: true}, do: Denied,
			lines: []string{"220 x", "250-me", "250 AUTH PLAIN", "220 go", "TLS", "250-me", "250 AUTH PLAIN", "535 no"},
			want:  []string{"> EHLO me", "> STARTTLS", "> EHLO me", "> AUTH PLAIN " + b64("\x00anna\x00secret"), "< 535 no"}},
		{name: "SMTP, what was announced before TLS is forgotten", mode: modeSMTP, conf: DialogConfig{Login: sasl, StartTLS: true}, do: Failed,
			lines: []string{"220 x", "250 AUTH PLAIN", "220 go", "TLS", "250 me"}, want: []string{"> EHLO me", "> STARTTLS", "> EHLO me"}, why: "the server does not offer AUTH PLAIN"},
		{name: "SMTP mail", mode: modeSMTP, conf: DialogConfig{Login: &Login{mail: "MAIL FROM:<>", hello: "me"}}, lines: []string{"220 x", "250 me"}, do: Open,
			want: []string{"> EHLO me", "> MAIL FROM:<>"}},
		{name: "SMTP not ready", mode: modeSMTP, lines: []string{"554 go away"}, do: Failed, why: "the greeting is 554"},
		{name: "SMTP, the client logs in itself", mode: modeSMTP, conf: DialogConfig{Greet: true}, lines: []string{"220-a", "220 b"}, do: Open, want: []string{"< 220-a", "< 220 b"}},
		{name: "SMTP, a greeting from before TLS is not passed", mode: modeSMTP, conf: DialogConfig{Greet: true, StartTLS: true, Hostname: "relay.test", Ready: "ready"},
			lines: []string{"220-a", "220 b", "250 me", "220 go", "TLS"}, do: Open, want: []string{"> EHLO relay.test", "> STARTTLS", "< 220 relay.test ESMTP ready"}},
		{name: "no SMTP", mode: modeSMTP, lines: []string{"+OK"}, do: Failed, why: "invalid SMTP reply"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, last := talkTo(Find(c.mode).Dialog(c.conf), c.lines...)
			require.Equal(t, c.want, log)
			require.Equal(t, c.do, last.Do)
			require.Equal(t, c.why, last.Why)
		})
	}
}

// Invariant: with any input, a dialog does not panic; with STARTTLS, nothing of the
// login is sent before TLS; the dialog ends with Open only after a positive response;
// and the client gets complete lines.
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
		conf := DialogConfig{StartTLS: flags&1 != 0, Greet: flags&2 != 0, Hostname: "relay.test", Ready: "ready"}
		if flags&4 != 0 {
			conf.Greet = false // a client that has logged in has already been greeted
			conf.Login = &Login{tag: "A1", User: "anna", name: "anna", password: "secret", sasl: flags&8 != 0, hello: "me"}
		}
		d, tls := Find(mode).Dialog(conf), !conf.StartTLS
		for line := range strings.SplitSeq(lines, "\n") {
			next := heard(d, line)
			for {
				if !tls {
					for _, part := range []string{"secret", "anna", b64("\x00anna\x00secret"), "LOGIN", "AUTH", "USER"} {
						require.NotContains(t, next.ToBackend, part)
					}
				}
				require.True(t, next.ToClient == "" || strings.HasSuffix(next.ToClient, "\r\n"))
				if next.Do != StartTLS {
					break
				}
				require.False(t, tls, "TLS twice")
				tls = true
				next = d.Secured()
			}
			switch next.Do {
			case Open:
				require.True(t, tls)
				if conf.Login != nil {
					require.True(t, strings.HasPrefix(line, "A1 ") || strings.HasPrefix(line, "+OK") || strings.HasPrefix(line, "235"), "%q", line)
				}
				return
			case Denied, Failed:
				return
			}
		}
	})
}
