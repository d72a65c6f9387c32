package protocol

import (
	"strings"
)

// pop3Front is the server side of POP3 (RFC 1939) before the login: CAPA,
// NOOP, STLS (RFC 2595), USER and PASS, AUTH PLAIN (RFC 5034) and QUIT.
type pop3Front struct {
	lineFront
	user string // of USER
	auth bool   // the next line is the response of AUTH PLAIN
}

func newPOP3Front(c FrontConfig) Front {
	return &pop3Front{lineFront: lineFront{FrontConfig: c}}
}

func (f *pop3Front) Greeting() string { return "+OK " + f.FrontConfig.Greeting + "\r\n" }

func (f *pop3Front) Farewell(why string) string { return pop3Error(why) }

func (f *pop3Front) Secured() {
	f.TLS, f.user, f.auth = true, "", false
	f.Rest()
}

func (f *pop3Front) bad(why string) Step {
	if f.mistake() {
		return end("-ERR "+textTooManyMistakes, textTooManyMistakes)
	}
	return reply(Again, "-ERR "+why)
}

func (f *pop3Front) Refused() Step {
	f.user = ""
	if f.failed() {
		return Step{Do: HangUp, Why: textTooManyLogins} // the client already has the backend's -ERR
	}
	return Step{}
}

func (f *pop3Front) Unknown(*Login) Step {
	f.user = ""
	if f.failed() {
		return end("-ERR [AUTH] Authentication failed.", textTooManyLogins)
	}
	return reply(Again, "-ERR [AUTH] Authentication failed.")
}

func (f *pop3Front) Unavailable(l *Login) Step {
	f.user = ""
	const line = "-ERR [SYS/TEMP] " + textUnavailable
	if l == nil || f.failed() {
		return end(line, textUnavailable)
	}
	return reply(Again, line)
}

func (f *pop3Front) Next() Step {
	line, ok := f.exactLine()
	name, args, _ := strings.Cut(line, " ") // a password may begin and end with a blank
	name = strings.ToUpper(trimBlanks(name))
	if f.auth || name != "PASS" {
		line, args = trimBlanks(line), trimBlanks(args)
	}
	switch {
	case !ok && f.tooLong():
		return end("-ERR "+textTooLong, textTooLong)
	case !ok:
		return Step{Do: More}
	case f.auth:
		f.auth = false
		if line == "*" {
			return f.bad(textAborted)
		}
		return f.plain(line)
	}
	switch name {
	case "CAPA":
		return f.capa()
	case "NOOP":
		return reply(Again, "+OK")
	case "QUIT":
		return end("+OK", "quit")
	case "STLS":
		if args != "" {
			return f.bad(textArguments)
		}
		return f.startTLS()
	case "USER", "PASS", "AUTH":
		if !f.loginAllowed() {
			return f.bad(textPlaintext)
		}
		return f.login(name, args)
	}
	return f.bad(textUnknown)
}

func (f *pop3Front) capa() Step {
	lines := append([]string{"+OK"}, f.Capabilities...)
	if f.CanTLS && !f.TLS {
		lines = append(lines, "STLS")
	}
	if f.loginAllowed() {
		lines = append(lines, "SASL PLAIN")
	} else {
		lines = remove(lines, "USER")
	}
	return reply(Again, append(lines, ".")...)
}

func (f *pop3Front) startTLS() Step {
	switch {
	case f.TLS:
		return f.bad(textTLSActive)
	case !f.CanTLS:
		return f.bad(textNoTLS)
	case len(f.buf) > 0:
		s := end("-ERR improper command pipelining after STLS", Injected(len(f.buf)))
		s.Injected = len(f.buf)
		return s
	}
	return reply(StartTLS, "+OK Begin TLS negotiation now.")
}

func (f *pop3Front) login(name, args string) Step {
	switch name {
	case "USER":
		if args == "" || !clean(args) {
			return f.bad(textArguments)
		}
		f.user = args
		return reply(Again, "+OK")
	case "PASS":
		if f.user == "" {
			return f.bad("No username given")
		}
		if args == "" || strings.ContainsAny(args, "\r\x00") {
			return f.bad(textArguments)
		}
		return Step{Do: Connect, Login: &Login{User: f.user, name: f.user, password: args}}
	}
	mechanism, initial := cutWord(args)
	switch {
	case mechanism == "":
		return reply(Again, "+OK", "PLAIN", ".")
	case !strings.EqualFold(mechanism, "PLAIN"):
		return f.bad(textMechanism)
	case initial == "":
		f.auth = true
		return reply(Again, "+ ")
	}
	return f.plain(initial)
}

func (f *pop3Front) plain(answer string) Step {
	l, ok := decodePlain(answer)
	if !ok {
		return f.bad(textPlain)
	}
	return Step{Do: Connect, Login: l}
}
