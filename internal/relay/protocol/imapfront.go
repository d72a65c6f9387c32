package protocol

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// imapFront is the server side of IMAP (RFC 9051, RFC 3501) before the login:
// CAPABILITY, NOOP, ID, STARTTLS, LOGIN, AUTHENTICATE PLAIN and LOGOUT.
// Every command may contain synchronizing and non-synchronizing literals.
type imapFront struct {
	lineFront
	continued int    // start of the literal that a continuation was sent for
	scanned   int    // end of the last complete literal of the command in buf
	authTag   string // tag of an AUTHENTICATE that waits for the client's response
}

func newIMAPFront(c FrontConfig) Front {
	return &imapFront{lineFront: lineFront{FrontConfig: c}}
}

func (f *imapFront) capability() string {
	words := append([]string(nil), f.Capabilities...)
	if f.CanTLS && !f.TLS {
		words = append(words, "STARTTLS")
	}
	if f.loginAllowed() {
		words = append(words, "AUTH=PLAIN")
	} else {
		words = append(words, "LOGINDISABLED")
	}
	return "CAPABILITY " + strings.Join(words, " ")
}

func (f *imapFront) Greeting() string {
	return "* OK [" + f.capability() + "] " + f.FrontConfig.Greeting + "\r\n"
}

func (f *imapFront) Farewell(why string) string { return imapBye(why) }

func (f *imapFront) Secured() {
	f.TLS, f.authTag, f.continued, f.scanned = true, "", 0, 0
	f.Rest()
}

func (f *imapFront) bye(why string, lines ...string) Step {
	s := reply(HangUp, append(lines, "* BYE "+why)...)
	s.Why = why
	return s
}

// bad answers an invalid command.
func (f *imapFront) bad(tag, why string) Step {
	if f.mistake() {
		return f.bye(textTooManyMistakes, tag+" BAD "+why)
	}
	return reply(Again, tag+" BAD "+why)
}

func (f *imapFront) Refused() Step {
	if f.failed() {
		return f.bye(textTooManyLogins)
	}
	return Step{}
}

func (f *imapFront) Unknown(l *Login) Step {
	const no = " NO [AUTHENTICATIONFAILED] Authentication failed."
	if f.failed() {
		return f.bye(textTooManyLogins, l.tag+no)
	}
	return reply(Again, l.tag+no)
}

func (f *imapFront) Unavailable(l *Login) Step {
	if l == nil {
		return f.bye("[UNAVAILABLE] " + textUnavailable)
	}
	const no = " NO [UNAVAILABLE] " + textUnavailable
	if f.failed() {
		return f.bye(textUnavailable, l.tag+no)
	}
	return reply(Again, l.tag+no)
}

func (f *imapFront) Next() Step {
	if f.authTag != "" {
		return f.authenticateAnswer()
	}
	last, end, s, ok := f.command()
	if !ok {
		return s
	}
	text := string(f.buf[:last]) + trimBlanks(trimEnd(string(f.buf[last:end])))
	f.dropCommand(end)
	return f.run(text)
}

// dropCommand removes a command that ends at end.
func (f *imapFront) dropCommand(end int) {
	f.drop(end)
	f.continued, f.scanned = 0, 0
}

// command finds the end of a command with its literals, and the beginning of the part
// after the last literal. If the command is not complete, ok is false and the step
// says what to do.
//
// A line that ends with the syntax of a literal is always followed by a literal, even
// in a command that the relay does not know. So the bytes of a literal are never
// treated as a command.
//
// The search continues where it ended, and the first line is parsed only for a reply.
// Otherwise a client could cause much work by sending thousands of literals in one
// command, and then single bytes.
func (f *imapFront) command() (last, end int, s Step, ok bool) {
	for {
		end = f.scanned
		line := f.lineEnd(end)
		if line < 0 || line > f.MaxLine {
			if f.tooLong() {
				return 0, 0, f.bye(textTooLong), false
			}
			return 0, 0, Step{Do: More}, false
		}
		size, sync, is := literal(trimEnd(string(f.buf[end:line])))
		if !is {
			return end, line, Step{}, true
		}
		switch {
		case !sync && (size > f.maxNonSync() || size > f.MaxLine-line):
			tag, _ := f.head(line)
			return 0, 0, f.bye("literal too big", tag+" BAD literal too big"), false // the client sends the literal without waiting: RFC 7888 section 4
		case sync && f.continued < line:
			return 0, 0, f.proceed(line, size), false
		case len(f.buf) < line+size:
			return 0, 0, Step{Do: More}, false
		}
		f.scanned = line + size
	}
}

// proceed answers a client that waits before it sends the literal after line.
func (f *imapFront) proceed(line, size int) Step {
	tag, name := f.head(line)
	switch {
	case size > f.MaxLine-line:
		f.dropCommand(line)
		return f.bad(tag, "literal too big")
	case (name == "LOGIN" || name == "AUTHENTICATE") && !f.loginAllowed(): // so that the client does not send the password
		f.dropCommand(line)
		return f.loginDisabled(tag)
	}
	f.continued = line
	return reply(Again, "+ OK")
}

// maxNonSync returns the maximum size of a non-synchronizing literal.
// Only LITERAL+ allows more than 4096 bytes (RFC 7888 section 5).
func (f *imapFront) maxNonSync() int {
	if slices.ContainsFunc(f.Capabilities, func(s string) bool { return strings.EqualFold(s, "LITERAL+") }) {
		return f.MaxLine
	}
	return maxLiteralMinus
}

// head returns the tag and the name of the command whose first line ends at end or
// earlier.
func (f *imapFront) head(end int) (tag, name string) {
	first, _, _ := bytes.Cut(f.buf[:end], []byte("\n"))
	tag, rest := cutWord(trimEnd(string(first)))
	name, _ = cutWord(rest)
	if !imapTag(tag) {
		tag = "*"
	}
	return tag, strings.ToUpper(name)
}

func (f *imapFront) loginDisabled(tag string) Step {
	if f.mistake() {
		return f.bye(textTooManyMistakes)
	}
	return reply(Again, tag+" NO [PRIVACYREQUIRED] "+textPlaintext)
}

// run handles a complete command.
func (f *imapFront) run(line string) Step {
	tag, rest := cutWord(line)
	if !imapTag(tag) {
		return f.bad("*", "Invalid tag")
	}
	name, args := cutWord(rest)
	name = strings.ToUpper(name)
	switch name {
	case "CAPABILITY":
		return reply(Again, "* "+f.capability(), tag+" OK CAPABILITY completed")
	case "NOOP":
		return reply(Again, tag+" OK NOOP completed")
	case "ID":
		return reply(Again, "* ID NIL", tag+" OK ID completed")
	case "LOGOUT":
		s := reply(HangUp, "* BYE logging out", tag+" OK LOGOUT completed")
		s.Why = "logout"
		return s
	case "STARTTLS":
		if args != "" {
			return f.bad(tag, textArguments)
		}
		return f.startTLS(tag)
	case "LOGIN":
		if !f.loginAllowed() {
			return f.loginDisabled(tag)
		}
		user, password, ok := loginArguments(args)
		if !ok {
			return f.bad(tag, textArguments)
		}
		return Step{Do: Connect, Login: &Login{tag: tag, User: user, name: user, password: password}}
	case "AUTHENTICATE":
		return f.authenticate(tag, args)
	}
	return f.bad(tag, textUnknown)
}

func (f *imapFront) startTLS(tag string) Step {
	switch {
	case f.TLS:
		return f.bad(tag, textTLSActive)
	case !f.CanTLS:
		return f.bad(tag, textNoTLS)
	case len(f.buf) > 0:
		s := f.bye(textPipelined, tag+" BAD "+textPipelined)
		s.Why, s.Injected = Injected(len(f.buf)), len(f.buf)
		return s
	}
	return reply(StartTLS, tag+" OK Begin TLS negotiation now.")
}

func (f *imapFront) authenticate(tag, args string) Step {
	mechanism, initial := cutWord(args)
	switch {
	case !f.loginAllowed():
		return f.loginDisabled(tag)
	case !strings.EqualFold(mechanism, "PLAIN"):
		if f.mistake() {
			return f.bye(textTooManyMistakes)
		}
		return reply(Again, tag+" NO [CANNOT] "+textMechanism)
	case initial == "":
		f.authTag = tag
		return reply(Again, "+ ")
	}
	return f.plain(tag, initial)
}

// authenticateAnswer reads the line after the continuation.
func (f *imapFront) authenticateAnswer() Step {
	answer, ok := f.line()
	if !ok {
		if f.tooLong() {
			return f.bye(textTooLong)
		}
		return Step{Do: More}
	}
	tag := f.authTag
	f.authTag = ""
	if answer == "*" {
		return f.bad(tag, textAborted)
	}
	return f.plain(tag, answer)
}

func (f *imapFront) plain(tag, answer string) Step {
	l, ok := decodePlain(answer)
	if !ok {
		return f.bad(tag, textPlain)
	}
	l.tag = tag
	return Step{Do: Connect, Login: l}
}

// loginArguments parses two astrings (RFC 9051 section 9).
func loginArguments(s string) (user, password string, ok bool) {
	user, s, ok = astring(s)
	if !ok || !strings.HasPrefix(s, " ") {
		return "", "", false
	}
	password, s, ok = astring(strings.TrimLeft(s, " "))
	return user, password, ok && strings.Trim(s, " ") == "" && user != ""
}

// astring cuts an atom, a quoted string or a literal off s.
func astring(s string) (value, rest string, ok bool) {
	switch {
	case s == "":
		return "", "", false
	case s[0] == '"':
		return quoted(s[1:])
	case s[0] == '{':
		spec, rest, found := strings.Cut(s, "\n")
		size, _, is := literal(trimEnd(spec))
		if !found || !is || !strings.HasPrefix(trimEnd(spec), "{"+strconv.Itoa(size)) || size > len(rest) || strings.IndexByte(rest[:size], 0) >= 0 {
			return "", "", false
		}
		return rest[:size], rest[size:], true
	}
	end := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`(){"\`, r) })
	switch {
	case end < 0:
		return s, "", true
	case end == 0 || s[end] != ' ':
		return "", "", false
	}
	return s[:end], s[end:], true
}

// quoted parses a quoted string after its first quote.
func quoted(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\r' || c == '\n' || c == 0:
			return "", "", false
		case c == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", "", false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}
