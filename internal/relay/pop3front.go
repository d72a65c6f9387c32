package relay

import (
	"strings"
)

// pop3Front is the server side of POP3 (RFC 1939) before the login: CAPA,
// NOOP, STLS (RFC 2595), USER and PASS, AUTH PLAIN (RFC 5034) and QUIT.
type pop3Front struct {
	lineFront
	user string // of USER
	auth bool   // the answer of AUTH PLAIN is to come
}

func pop3Reply(do action, lines ...string) step {
	return step{do: do, reply: []byte(strings.Join(lines, "\r\n") + "\r\n")}
}

func (f *pop3Front) greeting() []byte { return []byte("+OK " + f.frontConfig.greeting + "\r\n") }

func (f *pop3Front) farewell(why string) []byte { return []byte("-ERR " + why + "\r\n") }

func (f *pop3Front) secured() {
	f.tls, f.user, f.auth = true, "", false
	f.rest()
}

func (f *pop3Front) end(line, why string) step {
	s := pop3Reply(hangUp, line)
	s.why = why
	return s
}

func (f *pop3Front) bad(why string) step {
	if f.mistake() {
		return f.end("-ERR "+textTooManyMistakes, textTooManyMistakes)
	}
	return pop3Reply(again, "-ERR "+why)
}

func (f *pop3Front) refused() step {
	f.user = ""
	if f.failed() {
		return step{do: hangUp, why: textTooManyLogins} // the client has the backend's -ERR
	}
	return step{do: again}
}

func (f *pop3Front) unknown(*login) step {
	f.user = ""
	if f.failed() {
		return f.end("-ERR [AUTH] Authentication failed.", textTooManyLogins)
	}
	return pop3Reply(again, "-ERR [AUTH] Authentication failed.")
}

func (f *pop3Front) unavailable(l *login) step {
	f.user = ""
	const line = "-ERR [SYS/TEMP] " + textUnavailable
	if l == nil || f.failed() {
		return f.end(line, textUnavailable)
	}
	return pop3Reply(again, line)
}

func (f *pop3Front) next() step {
	line, ok := f.exactLine()
	name, args, _ := strings.Cut(line, " ") // a password may begin and end with a blank
	name = strings.ToUpper(trimBlanks(name))
	if f.auth || name != "PASS" {
		line, args = trimBlanks(line), trimBlanks(args)
	}
	switch {
	case !ok && f.tooLong():
		return f.end("-ERR "+textTooLong, textTooLong)
	case !ok:
		return step{do: more}
	case f.auth:
		f.auth = false
		if line == "*" {
			return f.bad(textAborted)
		}
		return f.plain(line)
	}
	switch name {
	case "CAPA":
		return f.capabilities()
	case "NOOP":
		return pop3Reply(again, "+OK")
	case "QUIT":
		return f.end("+OK", "quit")
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

func (f *pop3Front) capabilities() step {
	lines := append([]string{"+OK"}, f.frontConfig.capabilities...)
	if f.canTLS && !f.tls {
		lines = append(lines, "STLS")
	}
	if f.loginAllowed() {
		lines = append(lines, "SASL PLAIN")
	} else {
		lines = remove(lines, "USER")
	}
	return pop3Reply(again, append(lines, ".")...)
}

// remove takes word out of list.
func remove(list []string, word string) (left []string) {
	for _, s := range list {
		if !strings.EqualFold(s, word) {
			left = append(left, s)
		}
	}
	return left
}

func (f *pop3Front) startTLS() step {
	switch {
	case f.tls:
		return f.bad(textTLSActive)
	case !f.canTLS:
		return f.bad(textNoTLS)
	case len(f.buf) > 0:
		s := f.end("-ERR improper command pipelining after STLS", injected(len(f.buf)))
		s.injected = len(f.buf)
		return s
	}
	return pop3Reply(beginTLS, "+OK Begin TLS negotiation now.")
}

func (f *pop3Front) login(name, args string) step {
	switch name {
	case "USER":
		if args == "" || !clean(args) {
			return f.bad(textArguments)
		}
		f.user = args
		return pop3Reply(again, "+OK")
	case "PASS":
		if f.user == "" {
			return f.bad("No username given")
		}
		if args == "" || strings.ContainsAny(args, "\r\x00") {
			return f.bad(textArguments)
		}
		return step{do: forward, login: &login{user: f.user, name: f.user, password: args}}
	}
	mechanism, initial := cutWord(args)
	switch {
	case mechanism == "":
		return pop3Reply(again, "+OK", "PLAIN", ".")
	case !strings.EqualFold(mechanism, "PLAIN"):
		return f.bad(textMechanism)
	case initial == "":
		f.auth = true
		return pop3Reply(again, "+ ")
	}
	return f.plain(initial)
}

func (f *pop3Front) plain(answer string) step {
	l, ok := decodePlain(answer)
	if !ok {
		return f.bad(textPlain)
	}
	return step{do: forward, login: l}
}
