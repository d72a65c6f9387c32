package protocol

import (
	"encoding/base64"
	"strings"
)

// smtpFront is the server side of SMTP (RFC 5321) before the login: EHLO,
// HELO, NOOP, RSET, STARTTLS (RFC 3207), AUTH PLAIN and LOGIN (RFC 4954) and
// QUIT. Mail without a login is forwarded if the configuration allows it.
type smtpFront struct {
	lineFront
	hello string // the name that the client gave
	wait  string // the meaning of the next line: "PLAIN", "USER" or "PASS"
	user  string // of AUTH LOGIN
}

func newSMTPFront(c FrontConfig) Front {
	return &smtpFront{lineFront: lineFront{FrontConfig: c}}
}

func (f *smtpFront) Greeting() string {
	return "220 " + f.Hostname + " ESMTP " + f.FrontConfig.Greeting + "\r\n"
}

func (f *smtpFront) Farewell(why string) string { return smtpFarewell(why) }

func (f *smtpFront) Secured() {
	f.TLS, f.hello, f.wait, f.user = true, "", "", "" // RFC 3207 section 4.2
	f.Rest()
}

func (f *smtpFront) bad(line string) Step {
	if f.mistake() {
		return end("421 4.7.0 Error: "+textTooManyMistakes, textTooManyMistakes)
	}
	return reply(Again, line)
}

func (f *smtpFront) Refused() Step {
	if f.failed() {
		return end("421 4.7.0 Error: "+textTooManyLogins, textTooManyLogins)
	}
	return Step{}
}

func (f *smtpFront) Unknown(*Login) Step {
	if f.failed() {
		return end("421 4.7.0 Error: "+textTooManyLogins, textTooManyLogins)
	}
	return reply(Again, "535 5.7.8 Authentication credentials invalid")
}

func (f *smtpFront) Unavailable(l *Login) Step {
	if l == nil || l.mail != "" || f.failed() {
		return end("421 4.3.0 "+textUnavailable, textUnavailable)
	}
	return reply(Again, "454 4.7.0 "+textUnavailable)
}

func (f *smtpFront) Next() Step {
	line, ok := f.line()
	switch {
	case !ok && f.tooLong():
		return end("421 4.5.2 Error: "+textTooLong, textTooLong)
	case !ok:
		return Step{Do: More}
	case f.wait != "":
		return f.answer(line)
	}
	name, args := cutWord(line)
	name = strings.ToUpper(name)
	switch name {
	case "EHLO", "HELO":
		return f.greet(name, args)
	case "NOOP":
		return reply(Again, "250 2.0.0 OK")
	case "RSET":
		return reply(Again, "250 2.0.0 OK")
	case "QUIT":
		return end("221 2.0.0 Bye", "quit")
	case "STARTTLS":
		if args != "" {
			return f.bad("501 5.5.4 Syntax: STARTTLS") // RFC 3207 section 4
		}
		return f.startTLS()
	case "AUTH":
		return f.auth(args)
	case "MAIL":
		return f.mail(line)
	case "RCPT", "DATA", "BDAT":
		return f.bad("503 5.5.1 Error: need MAIL command")
	}
	return f.bad("502 5.5.2 Error: command not recognized")
}

func (f *smtpFront) greet(name, args string) Step {
	if args == "" || len(args) > 255 || strings.Contains(args, " ") || !Printable(args) {
		return f.bad("501 5.5.4 Syntax: " + name + " hostname")
	}
	f.hello = args
	if name == "HELO" {
		return reply(Again, "250 "+f.Hostname)
	}
	words := append([]string{f.Hostname}, f.Capabilities...)
	if f.CanTLS && !f.TLS {
		words = append(words, "STARTTLS")
	}
	if f.loginAllowed() {
		words = append(words, "AUTH PLAIN LOGIN")
	}
	lines := make([]string, len(words))
	for i, word := range words {
		lines[i] = "250-" + word
	}
	lines[len(lines)-1] = "250 " + words[len(words)-1]
	return reply(Again, lines...)
}

func (f *smtpFront) startTLS() Step {
	switch {
	case f.TLS:
		return f.bad("554 5.5.1 Error: TLS already active")
	case !f.CanTLS:
		return f.bad("502 5.5.1 Error: command not implemented")
	case len(f.buf) > 0:
		s := end("421 4.7.0 Error: "+textPipelined, Injected(len(f.buf)))
		s.Injected = len(f.buf)
		return s
	}
	return reply(StartTLS, "220 2.0.0 Ready to start TLS")
}

func (f *smtpFront) auth(args string) Step {
	mechanism, initial := cutWord(args)
	switch mechanism = strings.ToUpper(mechanism); {
	case f.hello == "":
		return f.bad("503 5.5.1 Error: send HELO/EHLO first")
	case !f.loginAllowed():
		return f.bad("530 5.7.0 Must issue a STARTTLS command first")
	case mechanism == "PLAIN" && initial != "":
		return f.plain(initial)
	case mechanism == "PLAIN":
		f.wait = "PLAIN"
		return reply(Again, "334 ")
	case mechanism == "LOGIN" && initial != "":
		f.wait = "USER"
		return f.answer(initial)
	case mechanism == "LOGIN":
		f.wait = "USER"
		return reply(Again, "334 VXNlcm5hbWU6") // "Username:"
	}
	return f.bad("504 5.5.4 " + textMechanism)
}

// answer handles a line of an AUTH dialog.
func (f *smtpFront) answer(line string) Step {
	wait := f.wait
	f.wait = ""
	if line == "*" {
		return f.bad("501 5.7.0 Authentication aborted")
	}
	if wait == "PLAIN" {
		return f.plain(line)
	}
	data, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || len(data) == 0 || strings.IndexByte(string(data), 0) >= 0 {
		return f.bad("501 5.5.2 " + textLogin)
	}
	if wait == "USER" {
		f.user, f.wait = string(data), "PASS"
		return reply(Again, "334 UGFzc3dvcmQ6") // "Password:"
	}
	l := &Login{User: f.user, name: f.user, password: string(data), sasl: true, hello: f.hello}
	f.user = ""
	return Step{Do: Connect, Login: l}
}

func (f *smtpFront) plain(answer string) Step {
	l, ok := decodePlain(answer)
	if !ok {
		return f.bad("501 5.5.2 " + textPlain)
	}
	l.hello = f.hello
	return Step{Do: Connect, Login: l}
}

// mail forwards a client that does not log in, if that is allowed.
func (f *smtpFront) mail(line string) Step {
	switch {
	case f.hello == "":
		return f.bad("503 5.5.1 Error: send HELO/EHLO first")
	case !f.loginAllowed():
		return f.bad("530 5.7.0 Must issue a STARTTLS command first")
	case !f.Anonymous:
		return f.bad("530 5.7.0 Authentication required")
	case !clean(line):
		return f.bad("501 5.5.2 Error: bad syntax")
	}
	return Step{Do: Connect, Login: &Login{mail: line, hello: f.hello}}
}
