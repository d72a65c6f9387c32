package protocol

import (
	"slices"
	"strconv"
	"strings"
)

// IMAP (RFC 9051, RFC 3501): the dialog with a backend, the guard, and the syntax
// that they share with the front in imapfront.go.

func imapCapabilities(maxLine int) []string {
	words := []string{"IMAP4rev1", "SASL-IR", "LITERAL-", "ID"}
	if maxLine < 2*maxLiteralMinus { // no room for such a literal and the rest of its command
		words = remove(words, "LITERAL-")
	}
	return words
}

// imapDialog logs in to an IMAP server with the client's tag.
type imapDialog struct {
	lineDialog
	state  imapState
	pieces []string // of the login, one for each continuation
}

type imapState uint8

const (
	imapGreeting imapState = iota
	imapStartTLS
	imapLogin
)

const startTLSTag = "relay0"

func newIMAPDialog(c DialogConfig) Dialog {
	return &imapDialog{lineDialog: lineDialog{DialogConfig: c}}
}

func (d *imapDialog) Next() Step {
	s, missing, ok := d.response()
	if !ok {
		return missing
	}
	switch d.state {
	case imapGreeting:
		return d.greeting(s)
	case imapStartTLS:
		switch tag, rest := cutWord(s); {
		case tag == "*":
			if word, _ := cutWord(rest); strings.EqualFold(word, "BYE") {
				return failed("BYE before TLS")
			}
			return Step{} // anyone on the network may have sent an untagged response before TLS
		case tag == startTLSTag && hasStatus(rest, "OK"):
			return Step{Do: StartTLS}
		}
		return failed("STARTTLS was refused")
	}
	return d.answer(s)
}

func (d *imapDialog) greeting(s string) Step {
	star, rest := cutWord(s)
	preauth := hasStatus(rest, "PREAUTH")
	switch {
	case star != "*" || !preauth && !hasStatus(rest, "OK"):
		return failed("the greeting is not OK")
	case preauth && (d.StartTLS || d.Login != nil):
		return failed("the greeting is PREAUTH, after which neither STARTTLS nor a login is possible")
	case d.StartTLS:
		d.state = imapStartTLS
		return Step{ToBackend: startTLSTag + " STARTTLS\r\n"}
	case d.Greet:
		return Step{Do: Open, ToClient: s + "\r\n"}
	}
	return d.begin()
}

func (d *imapDialog) Secured() Step {
	if d.Greet { // the capabilities in the backend's own greeting apply without TLS only
		return Step{Do: Open, ToClient: "* OK " + d.Ready + "\r\n"}
	}
	return d.begin()
}

// begin sends the first piece of the login.
func (d *imapDialog) begin() Step {
	if d.Login == nil {
		return Step{Do: Open}
	}
	d.state = imapLogin
	d.pieces = imapPieces(d.Login)
	return d.piece()
}

func (d *imapDialog) piece() Step {
	send := d.pieces[0]
	d.pieces = d.pieces[1:]
	return Step{ToBackend: send}
}

// imapPieces returns the client's login in the form that every server accepts:
// with quoted strings if they can contain the values, and with literals otherwise.
func imapPieces(l *Login) []string {
	if l.sasl {
		return []string{l.tag + " AUTHENTICATE PLAIN\r\n", l.initialResponse() + "\r\n"}
	}
	pieces := []string{l.tag + " LOGIN"}
	for _, value := range []string{l.name, l.password} {
		last := &pieces[len(pieces)-1]
		if Printable(value) {
			*last += ` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
			continue
		}
		*last += " {" + strconv.Itoa(len(value)) + "}\r\n"
		pieces = append(pieces, value)
	}
	pieces[len(pieces)-1] += "\r\n"
	return pieces
}

// answer handles a line after the login has been sent.
func (d *imapDialog) answer(s string) Step {
	tag, rest := cutWord(s)
	switch {
	case tag == "+" && len(d.pieces) > 0:
		return d.piece()
	case tag == "+":
		return failed("unexpected continuation request")
	case tag == "*":
		return Step{ToClient: withoutTLS(s) + "\r\n"}
	case tag != d.Login.tag:
		return failed("the response has the tag of another command")
	case hasStatus(rest, "OK") && len(d.pieces) == 0:
		return Step{Do: Open, ToClient: s + "\r\n"}
	case hasStatus(rest, "NO") || hasStatus(rest, "BAD"):
		return Step{Do: Denied, ToClient: withoutTLS(s) + "\r\n"}
	}
	return failed("unexpected response to the login")
}

// imapGuard is the guard of IMAP.
type imapGuard struct {
	lineGuard
	tag     string // of the client's command
	part    bool   // the next line of the client continues a command
	early   bool   // the answer came before the whole command
	literal int    // size of a literal that waits for the backend's "+", or -1
	partIn  bool   // the next line of the backend continues a response
}

func newIMAPGuard(c GuardConfig) Guard {
	g := &imapGuard{lineGuard: lineGuard{GuardConfig: c, farewell: imapBye}, literal: -1}
	g.command, g.response = g.imapCommand, g.imapResponse
	return g
}

func (g *imapGuard) imapCommand(line string) (reply string) {
	words := strings.Fields(line)
	name := ""
	if len(words) > 1 {
		name = strings.ToUpper(words[1])
	}
	size, sync, is := literal(trimEnd(line))
	if !g.part {
		g.tag, g.early = "", false
		if len(words) > 0 && imapTag(words[0]) {
			g.tag = words[0]
		}
		if name == "STARTTLS" {
			tag := g.tag
			if tag == "" {
				tag = "*"
			}
			g.hangUp = is // the bytes of the literal would be taken for commands
			return tag + " BAD " + g.refusal() + "\r\n"
		}
		g.login = name == "LOGIN" || name == "AUTHENTICATE"
	}
	g.part = is
	switch {
	case is && sync:
		g.literal, g.busy = size, !g.early
	case is:
		g.clientRaw = size
	default:
		g.busy = g.tag != "" && !g.early // a line without a tag need not be answered
	}
	return ""
}

func (g *imapGuard) imapResponse(line string) string {
	text := trimEnd(line)
	continued := g.partIn
	size, _, is := literal(text)
	if g.partIn = is; is {
		g.serverRaw = size
	}
	if continued {
		return line
	}
	tag, rest := cutWord(text)
	switch {
	case tag == "+" && g.literal >= 0:
		g.clientRaw, g.literal, g.busy = g.literal, -1, false
	case tag == "+" && g.busy:
		g.sasl, g.busy = true, false
	case tag == "*" && hasStatus(rest, "PREAUTH"):
		g.open = true
	case tag == "*" && !hasStatus(rest, "BAD"):
	case tag == "*" || tag == g.tag && tag != "":
		g.open = g.open || tag != "*" && g.login && hasStatus(rest, "OK")
		if g.literal >= 0 { // after this answer the client does not send the literal
			g.literal, g.part = -1, false
		}
		g.early, g.busy = g.part, false
	}
	return withoutTLS(text) + line[len(text):]
}

// hasStatus reports whether status is the first word of s.
func hasStatus(s, status string) bool {
	word, _ := cutWord(s)
	return strings.EqualFold(word, status)
}

// withoutTLS removes STARTTLS and LOGINDISABLED from the capabilities in a line
// of an IMAP server.
func withoutTLS(line string) string {
	tag, rest := cutWord(line)
	begin := len(line) - len(rest)
	if word, _ := cutWord(rest); tag == "*" && strings.EqualFold(word, "CAPABILITY") {
		return line[:begin] + withoutWords(rest)
	}
	_, code, found := strings.Cut(rest, " ")
	code = strings.TrimLeft(code, " ")
	const open = "[CAPABILITY "
	if !found || len(code) < len(open) || !strings.EqualFold(code[:len(open)], open) {
		return line
	}
	list, after, closed := strings.Cut(code[1:], "]")
	if !closed {
		return line
	}
	return line[:len(line)-len(code)] + "[" + withoutWords(list) + "]" + after
}

func withoutWords(list string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(list), func(word string) bool {
		return strings.EqualFold(word, "STARTTLS") || strings.EqualFold(word, "LOGINDISABLED")
	}), " ")
}

// literal reads "{12}" or "{12+}" at the end of a line (RFC 9051 section 4.3).
func literal(line string) (size int, sync, ok bool) {
	open := strings.LastIndexByte(line, '{')
	if open < 0 || !strings.HasSuffix(line, "}") {
		return 0, false, false
	}
	digits, nonSync := strings.CutSuffix(line[open+1:len(line)-1], "+")
	if !allDigits(digits) {
		return 0, false, false
	}
	size, err := strconv.Atoi(digits)
	if err != nil || size > maxLiteral {
		size = maxLiteral + 1
	}
	return size, !nonSync, true
}

// imapTag reports whether s is a tag of RFC 9051: ASTRING-CHARs without "+".
func imapTag(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\+`, r)
	})
}

func imapBye(why string) string { return "* BYE " + why + "\r\n" }

const (
	// maxLiteralMinus is the bound of LITERAL- in bytes (RFC 7888 section 5).
	maxLiteralMinus = 4096
	// maxLiteral is the largest size of a literal that the relay parses, in
	// bytes. Larger sizes all count as maxLiteral+1, which exceeds max-line.
	maxLiteral = 1 << 30
)
