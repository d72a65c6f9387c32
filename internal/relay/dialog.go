package relay

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// dialog is the client side of a protocol, from the backend's greeting to the
// answer to the login: lines of the backend in, bytes for it and for the
// client out. It has no socket.
type dialog interface {
	// line takes a line of the backend, without its end.
	line(s string) turn
	// secured says that TLS with the backend has begun.
	secured() turn
}

// turn is what comes of a line.
type turn struct {
	send string     // for the backend
	pass string     // for the client
	do   turnAction //
	why  string     // dialogFailed: for the log
}

type turnAction uint8

const (
	dialogMore   turnAction = iota // another line is to come
	dialogTLS                      // begin TLS as the client; nothing of the backend waits
	dialogOpen                     // everything is forwarded from now on
	dialogDenied                   // the backend does not take the login; the client knows
	dialogFailed                   // the backend cannot be used; the client knows nothing
)

const (
	// maxResponse bounds a line of a backend before the forwarding, in bytes.
	maxResponse = 16 << 10
	// maxResponses bounds the lines of a backend before the forwarding.
	maxResponses = 200
)

// dialogConfig says what a dialog is for.
type dialogConfig struct {
	login    *login // nil: the client has not logged in, and does so itself
	startTLS bool
	greet    bool   // the client is to see a greeting
	hostname string // SMTP: of the relay, for a client that said none
	ready    string // text of a greeting that stands in for the backend's
}

func newDialog(mode string, c dialogConfig) dialog {
	switch mode {
	case modeIMAP:
		return &imapDialog{dialogConfig: c}
	case modePOP3:
		return &pop3Dialog{dialogConfig: c}
	case modeSMTP:
		return &smtpDialog{dialogConfig: c}
	}
	return nil
}

func failed(format string, args ...any) turn {
	return turn{do: dialogFailed, why: fmt.Sprintf(format, args...)}
}

// imapDialog logs in to an IMAP server with the client's tag.
type imapDialog struct {
	dialogConfig
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

func (d *imapDialog) line(s string) turn {
	switch d.state {
	case imapGreeting:
		return d.greeting(s)
	case imapStartTLS:
		switch tag, rest := cutWord(s); {
		case tag == "*":
			if word, _ := cutWord(rest); strings.EqualFold(word, "BYE") {
				return failed("BYE before TLS")
			}
			return turn{} // what an untagged response says before TLS, anybody may have said
		case tag == startTLSTag && hasStatus(rest, "OK"):
			return turn{do: dialogTLS}
		}
		return failed("STARTTLS was refused")
	}
	return d.answer(s)
}

func (d *imapDialog) greeting(s string) turn {
	star, rest := cutWord(s)
	preauth := hasStatus(rest, "PREAUTH")
	switch {
	case star != "*" || !preauth && !hasStatus(rest, "OK"):
		return failed("the greeting is not OK")
	case preauth && (d.startTLS || d.login != nil):
		return failed("the greeting is PREAUTH, after which neither STARTTLS nor a login is possible")
	case d.startTLS:
		d.state = imapStartTLS
		return turn{send: startTLSTag + " STARTTLS\r\n"}
	case d.greet:
		return turn{do: dialogOpen, pass: s + "\r\n"}
	}
	return d.begin()
}

func (d *imapDialog) secured() turn {
	if d.greet { // of the backend's own, capabilities hold without TLS only
		return turn{do: dialogOpen, pass: "* OK " + d.ready + "\r\n"}
	}
	return d.begin()
}

// begin sends the first piece of the login.
func (d *imapDialog) begin() turn {
	if d.login == nil {
		return turn{do: dialogOpen}
	}
	d.state = imapLogin
	d.pieces = imapPieces(d.login)
	return d.piece()
}

func (d *imapDialog) piece() turn {
	send := d.pieces[0]
	d.pieces = d.pieces[1:]
	return turn{send: send}
}

// imapPieces is the login as the client made it, in the form that every server
// takes: quoted strings where they can hold the values, literals otherwise.
func imapPieces(l *login) []string {
	if l.sasl {
		return []string{l.tag + " AUTHENTICATE PLAIN\r\n", l.initialResponse() + "\r\n"}
	}
	pieces := []string{l.tag + " LOGIN"}
	for _, value := range []string{l.name, l.password} {
		last := &pieces[len(pieces)-1]
		if printable(value) {
			*last += ` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
			continue
		}
		*last += " {" + strconv.Itoa(len(value)) + "}\r\n"
		pieces = append(pieces, value)
	}
	pieces[len(pieces)-1] += "\r\n"
	return pieces
}

// answer reads a line behind the login.
func (d *imapDialog) answer(s string) turn {
	tag, rest := cutWord(s)
	switch {
	case tag == "+" && len(d.pieces) > 0:
		return d.piece()
	case tag == "+":
		return failed("the server asks for more than the login")
	case tag == "*":
		return turn{pass: withoutTLS(s) + "\r\n"}
	case tag != d.login.tag:
		return failed("an answer to another command")
	case hasStatus(rest, "OK") && len(d.pieces) == 0:
		return turn{do: dialogOpen, pass: s + "\r\n"}
	case hasStatus(rest, "NO") || hasStatus(rest, "BAD"):
		return turn{do: dialogDenied, pass: withoutTLS(s) + "\r\n"}
	}
	return failed("the answer to the login is none")
}

func hasStatus(s, status string) bool {
	word, _ := cutWord(s)
	return strings.EqualFold(word, status)
}

// pop3Dialog logs in to a POP3 server.
type pop3Dialog struct {
	dialogConfig
	state pop3State
}

type pop3State uint8

const (
	pop3Greeting pop3State = iota
	pop3StartTLS
	pop3User
	pop3Auth
	pop3Login
)

func (d *pop3Dialog) line(s string) turn {
	ok := s == "+OK" || strings.HasPrefix(s, "+OK ")
	no := s == "-ERR" || strings.HasPrefix(s, "-ERR ")
	switch {
	case d.state == pop3Greeting && !ok:
		return failed("the greeting is not +OK")
	case d.state == pop3Greeting && d.startTLS:
		d.state = pop3StartTLS
		return turn{send: "STLS\r\n"}
	case d.state == pop3Greeting && d.greet:
		return turn{do: dialogOpen, pass: s + "\r\n"}
	case d.state == pop3Greeting:
		return d.begin()
	case d.state == pop3StartTLS && ok:
		return turn{do: dialogTLS}
	case d.state == pop3StartTLS:
		return failed("STLS was refused")
	case no:
		return turn{do: dialogDenied, pass: s + "\r\n"}
	case d.state == pop3User && ok:
		d.state = pop3Login
		return turn{send: "PASS " + d.login.password + "\r\n"}
	case d.state == pop3Auth && (s == "+" || strings.HasPrefix(s, "+ ")):
		d.state = pop3Login
		return turn{send: d.login.initialResponse() + "\r\n"}
	case d.state == pop3Login && ok:
		return turn{do: dialogOpen, pass: s + "\r\n"}
	}
	return failed("the answer to the login is none")
}

func (d *pop3Dialog) secured() turn {
	if d.greet { // the greeting's timestamp for APOP came in plain text
		return turn{do: dialogOpen, pass: "+OK " + d.ready + "\r\n"}
	}
	return d.begin()
}

func (d *pop3Dialog) begin() turn {
	switch {
	case d.login == nil:
		return turn{do: dialogOpen}
	case d.login.sasl:
		d.state = pop3Auth
		return turn{send: "AUTH PLAIN\r\n"}
	}
	d.state = pop3User
	return turn{send: "USER " + d.login.name + "\r\n"}
}

// smtpDialog logs in to an SMTP server, or repeats the first command of a mail.
type smtpDialog struct {
	dialogConfig
	state smtpState
	tls   bool // the second EHLO, behind STARTTLS
	plain bool // AUTH PLAIN was in the answer to EHLO
	greet string
}

type smtpState uint8

const (
	smtpGreeting smtpState = iota
	smtpHello
	smtpStartTLS
	smtpAuth
)

func (d *smtpDialog) line(s string) turn {
	code, text, last, ok := smtpLine(s)
	if !ok {
		return failed("no reply of SMTP")
	}
	switch d.state {
	case smtpGreeting:
		return d.greeting(s, code, last)
	case smtpHello:
		words := strings.Fields(strings.ToUpper(text))
		if len(words) > 1 && words[0] == "AUTH" {
			d.plain = d.plain || slices.Contains(words[1:], "PLAIN")
		}
		switch {
		case code[0] != '2':
			return failed("EHLO was refused with %s", code)
		case !last:
			return turn{}
		}
		return d.helloDone()
	case smtpStartTLS:
		switch {
		case code != "220":
			return failed("STARTTLS was refused with %s", code)
		case !last:
			return turn{}
		}
		return turn{do: dialogTLS}
	}
	switch {
	case code == "235" && last:
		return turn{do: dialogOpen, pass: s + "\r\n"}
	case code[0] == '2' || code[0] == '4' || code[0] == '5':
		t := turn{pass: s + "\r\n"}
		if last {
			t.do = dialogDenied
		}
		return t
	}
	return failed("AUTH was answered with %s", code)
}

func (d *smtpDialog) greeting(s, code string, last bool) turn {
	if code != "220" {
		return failed("the greeting is %s", code)
	}
	if d.dialogConfig.greet {
		d.greet += s + "\r\n"
	}
	switch {
	case !last:
		return turn{}
	case d.startTLS || d.login != nil:
		return d.hello()
	}
	return turn{do: dialogOpen, pass: d.greet}
}

func (d *smtpDialog) hello() turn {
	name := d.hostname
	if d.login != nil && d.login.hello != "" {
		name = d.login.hello
	}
	d.state, d.plain = smtpHello, false
	return turn{send: "EHLO " + name + "\r\n"}
}

func (d *smtpDialog) helloDone() turn {
	switch {
	case d.startTLS && !d.tls:
		d.state = smtpStartTLS
		return turn{send: "STARTTLS\r\n"}
	case d.login.mail != "":
		return turn{do: dialogOpen, send: d.login.mail + "\r\n"}
	case !d.plain:
		return failed("the server offers no AUTH PLAIN")
	}
	d.state = smtpAuth
	return turn{send: "AUTH PLAIN " + d.login.initialResponse() + "\r\n"}
}

func (d *smtpDialog) secured() turn {
	d.tls = true
	switch {
	case d.login != nil:
		return d.hello()
	case d.dialogConfig.greet: // what the backend said came in plain text
		return turn{do: dialogOpen, pass: "220 " + d.hostname + " ESMTP " + d.ready + "\r\n"}
	}
	return turn{do: dialogOpen}
}

// smtpLine reads "250-text" or "250 text" (RFC 5321 section 4.2).
func smtpLine(s string) (code, text string, last, ok bool) {
	if len(s) < 3 || !allDigits(s[:3]) || s[0] < '2' || s[0] > '5' {
		return "", "", false, false
	}
	if len(s) == 3 {
		return s, "", true, true
	}
	return s[:3], s[4:], s[3] == ' ', s[3] == ' ' || s[3] == '-'
}
