package relay

import (
	"encoding/base64"
	"strings"
)

// smtpFront is the server side of SMTP (RFC 5321) before the login: EHLO,
// HELO, NOOP, RSET, STARTTLS (RFC 3207), AUTH PLAIN and LOGIN (RFC 4954) and
// QUIT. Mail without a login is forwarded where the configuration allows it.
type smtpFront struct {
	lineFront
	hello string // what the client called itself
	wait  string // for the next line: "PLAIN", "USER" or "PASS"
	user  string // of AUTH LOGIN
}

func smtpReply(do action, lines ...string) step {
	return step{do: do, reply: []byte(strings.Join(lines, "\r\n") + "\r\n")}
}

func (f *smtpFront) greeting() []byte {
	return []byte("220 " + f.hostname + " ESMTP " + f.frontConfig.greeting + "\r\n")
}

func (f *smtpFront) farewell(why string) []byte { return []byte("421 4.3.2 " + why + "\r\n") }

func (f *smtpFront) secured() {
	f.tls, f.hello, f.wait, f.user = true, "", "", "" // RFC 3207 section 4.2
	f.rest()
}

func (f *smtpFront) end(line, why string) step {
	s := smtpReply(hangUp, line)
	s.why = why
	return s
}

func (f *smtpFront) bad(line string) step {
	if f.mistake() {
		return f.end("421 4.7.0 Error: "+textTooManyMistakes, textTooManyMistakes)
	}
	return smtpReply(again, line)
}

func (f *smtpFront) refused() step {
	if f.failed() {
		return f.end("421 4.7.0 Error: "+textTooManyLogins, textTooManyLogins)
	}
	return step{do: again}
}

func (f *smtpFront) unknown(*login) step {
	if f.failed() {
		return f.end("421 4.7.0 Error: "+textTooManyLogins, textTooManyLogins)
	}
	return smtpReply(again, "535 5.7.8 Authentication credentials invalid")
}

func (f *smtpFront) unavailable(l *login) step {
	if l == nil || l.mail != "" || f.failed() {
		return f.end("421 4.3.0 "+textUnavailable, textUnavailable)
	}
	return smtpReply(again, "454 4.7.0 "+textUnavailable)
}

func (f *smtpFront) next() step {
	line, ok := f.line()
	switch {
	case !ok && f.tooLong():
		return f.end("421 4.5.2 Error: "+textTooLong, textTooLong)
	case !ok:
		return step{do: more}
	case f.wait != "":
		return f.answer(line)
	}
	name, args := cutWord(line)
	name = strings.ToUpper(name)
	switch name {
	case "EHLO", "HELO":
		return f.greet(name, args)
	case "NOOP":
		return smtpReply(again, "250 2.0.0 OK")
	case "RSET":
		return smtpReply(again, "250 2.0.0 OK")
	case "QUIT":
		return f.end("221 2.0.0 Bye", "quit")
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

func (f *smtpFront) greet(name, args string) step {
	if args == "" || len(args) > 255 || strings.Contains(args, " ") || !printable(args) {
		return f.bad("501 5.5.4 Syntax: " + name + " hostname")
	}
	f.hello = args
	if name == "HELO" {
		return smtpReply(again, "250 "+f.hostname)
	}
	words := append([]string{f.hostname}, f.capabilities...)
	if f.canTLS && !f.tls {
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
	return smtpReply(again, lines...)
}

func (f *smtpFront) startTLS() step {
	switch {
	case f.tls:
		return f.bad("554 5.5.1 Error: TLS already active")
	case !f.canTLS:
		return f.bad("502 5.5.1 Error: command not implemented")
	case len(f.buf) > 0:
		s := f.end("421 4.7.0 Error: "+textPipelined, injected(len(f.buf)))
		s.injected = len(f.buf)
		return s
	}
	return smtpReply(beginTLS, "220 2.0.0 Ready to start TLS")
}

func (f *smtpFront) auth(args string) step {
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
		return smtpReply(again, "334 ")
	case mechanism == "LOGIN" && initial != "":
		f.wait = "USER"
		return f.answer(initial)
	case mechanism == "LOGIN":
		f.wait = "USER"
		return smtpReply(again, "334 VXNlcm5hbWU6") // "Username:"
	}
	return f.bad("504 5.5.4 " + textMechanism)
}

// answer reads a line of an AUTH dialog.
func (f *smtpFront) answer(line string) step {
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
		return smtpReply(again, "334 UGFzc3dvcmQ6") // "Password:"
	}
	l := &login{user: f.user, name: f.user, password: string(data), sasl: true, hello: f.hello}
	f.user = ""
	return step{do: forward, login: l}
}

func (f *smtpFront) plain(answer string) step {
	l, ok := decodePlain(answer)
	if !ok {
		return f.bad("501 5.5.2 " + textPlain)
	}
	l.hello = f.hello
	return step{do: forward, login: l}
}

// mail forwards a client that does not log in, where that is allowed.
func (f *smtpFront) mail(line string) step {
	switch {
	case f.hello == "":
		return f.bad("503 5.5.1 Error: send HELO/EHLO first")
	case !f.loginAllowed():
		return f.bad("530 5.7.0 Must issue a STARTTLS command first")
	case !f.anonymous:
		return f.bad("530 5.7.0 Authentication required")
	case !clean(line):
		return f.bad("501 5.5.2 Error: bad syntax")
	}
	return step{do: forward, login: &login{mail: line, hello: f.hello}}
}
