package relay

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// guard follows the dialog of a client and a backend until the login. It is used
// if the relay has TLS with at least one of them. STARTTLS, STLS and LOGINDISABLED
// apply to the backend's connection and not to the client's. So guard removes
// these words from the backend's responses, and refuses the commands STARTTLS and
// STLS (RFC 3207 section 4.2). guard does not use a socket.
//
// It forwards one command at a time: the next command waits until the backend has
// answered the one before. So guard always knows whether a line of the client is
// a command, a part of a login or the rest of a literal.
type guard struct {
	mode string
	tls  bool // the client has TLS

	open    bool // the login is done or the first mail has begun: everything is forwarded unchanged
	hangUp  bool // further input of the client cannot be parsed
	busy    bool // a command waits for its answer
	login   bool // the current command is a login
	sasl    bool // the next line of the client is a SASL response
	raw     int  // bytes of the client's literal that have not come yet
	tag     string
	part    bool // IMAP: the next line of the client continues a command
	early   bool // IMAP: the answer came before the whole command
	literal int  // IMAP: size of a literal that waits for the backend's "+", or -1
	list    bool // POP3: a positive answer to the command is a list that ends with "."

	in     []byte // input of the backend without a complete line
	rawIn  int    // bytes of the backend's literal that have not come yet
	partIn bool   // IMAP: the next line of the backend continues a response
	inList bool   // POP3: the backend's next line belongs to a list
	held   string // SMTP: a line of a reply, held back because the next line may be removed
	first  bool   // SMTP: the next line is the first of a reply
}

func newGuard(mode string, tls bool) *guard {
	return &guard{mode: mode, tls: tls, literal: -1, first: true}
}

// refusal is the text of the reply to STARTTLS and STLS.
func (g *guard) refusal() string {
	if g.tls {
		return textTLSActive
	}
	return textNoTLS
}

// command takes a line of the client, including the line ending. If reply is not
// empty, the caller sends it to the client and does not forward the line.
func (g *guard) command(line string) (reply string) {
	if g.sasl {
		g.sasl, g.busy = false, true
		return ""
	}
	words := strings.Fields(line)
	word := func(i int) string {
		if i < len(words) {
			return strings.ToUpper(words[i])
		}
		return ""
	}
	switch g.mode {
	case modeIMAP:
		return g.imapCommand(trimEnd(line), words, word(1))
	case modePOP3:
		if word(0) == "STLS" {
			return "-ERR " + g.refusal() + "\r\n"
		}
		g.login = word(0) == "PASS" || word(0) == "APOP" || word(0) == "AUTH" && len(words) > 1
		g.list = word(0) == "CAPA" || (word(0) == "AUTH" || word(0) == "LANG") && len(words) == 1
	case modeSMTP:
		switch word(0) {
		case "STARTTLS":
			if g.tls {
				return "554 5.5.1 Error: TLS already active\r\n"
			}
			return "502 5.5.1 Error: command not implemented\r\n"
		case "MAIL", "DATA", "BDAT": // the lines that follow need not be commands
			g.open = true
		}
		g.login = word(0) == "AUTH"
	}
	g.busy = true
	return ""
}

func (g *guard) imapCommand(line string, words []string, name string) (reply string) {
	size, sync, is := literal(line)
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
		g.raw = size
	default:
		g.busy = g.tag != "" && !g.early // a line without a tag need not be answered
	}
	return ""
}

// responses takes bytes of the backend and returns the bytes for the client. Once
// g.open is set, it returns everything, and the caller forwards what rest returns.
func (g *guard) responses(in []byte) (out []byte, err error) {
	g.in = append(g.in, in...)
	for !g.open {
		if n := min(g.rawIn, len(g.in)); n > 0 {
			out, g.in, g.rawIn = append(out, g.in[:n]...), g.in[n:], g.rawIn-n
			continue
		}
		end := bytes.IndexByte(g.in, '\n') + 1
		if end > maxResponse || end == 0 && len(g.in) > maxResponse {
			return out, fmt.Errorf("a response of more than %d bytes", maxResponse)
		}
		if end == 0 {
			g.in = bytes.Clone(g.in)
			return out, nil
		}
		line := string(g.in[:end])
		g.in = g.in[end:]
		out = append(out, g.response(line)...)
	}
	return append(out, g.rest()...), nil
}

// rest returns the bytes that were held back, and forgets them.
func (g *guard) rest() []byte {
	rest := append([]byte(g.held), g.in...)
	g.held, g.in = "", nil
	return rest
}

// response takes a line of the backend and returns what the client gets.
func (g *guard) response(line string) string {
	switch g.mode {
	case modeIMAP:
		return g.imapResponse(line)
	case modePOP3:
		return g.pop3Response(line)
	}
	return g.smtpResponse(line)
}

func (g *guard) imapResponse(line string) string {
	text := trimEnd(line)
	goesOn := g.partIn
	size, _, is := literal(text)
	if g.partIn = is; is {
		g.rawIn = size
	}
	if goesOn {
		return line
	}
	tag, rest := cutWord(text)
	switch {
	case tag == "+" && g.literal >= 0:
		g.raw, g.literal, g.busy = g.literal, -1, false
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

func (g *guard) pop3Response(line string) string {
	text := trimBlanks(trimEnd(line))
	status, _ := cutWord(text)
	switch {
	case g.inList && text == ".":
		g.inList, g.busy = false, false
	case g.inList && strings.EqualFold(text, "STLS"):
		return ""
	case g.inList:
	case status == "+" && g.busy && g.login:
		g.sasl, g.busy = true, false
	case status == "+OK" && g.busy && g.list:
		g.inList = true
	default:
		g.open = g.busy && g.login && status == "+OK"
		g.busy = false
	}
	return line
}

func (g *guard) smtpResponse(line string) (out string) {
	code, text, last, ok := smtpLine(trimEnd(line))
	if !ok {
		out, g.held, g.first, g.busy = g.held+line, "", true, false
		return out
	}
	name, _ := cutWord(text)
	announced := !g.first && code[0] == '2' && strings.EqualFold(trimBlanks(name), "STARTTLS")
	switch {
	case announced && last: // the line before becomes the last line of the reply
		out, g.held = g.held[:3]+" "+g.held[4:], ""
	case announced:
	case last:
		out, g.held = g.held+line, ""
	default:
		out, g.held = g.held, line
	}
	g.first = last
	if !last {
		return out
	}
	g.sasl = g.busy && g.login && code == "334"
	g.open = g.open || g.busy && g.login && code == "235"
	g.busy = false
	return out
}
