package relay

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

// front is the server side of a protocol, from the greeting to the login: bytes
// of the client in, answers and one decision at a time out. It has no socket
// and no clock, and it holds at most maxLine bytes and what one feed brings.
//
// The reply of a step goes to the client before anything else happens. No
// reply has a byte that the client chose, the tag of IMAP apart, which is
// checked.
type front interface {
	// greeting is what the client is told first.
	greeting() []byte
	// feed takes bytes of the client, after next has said more.
	feed(in []byte)
	// next answers at most one command.
	next() step
	// rest takes the bytes that came behind the last command.
	rest() []byte
	// secured says that TLS has begun. What was said before is forgotten.
	secured()
	// refused says that the backend did not take the login; the client knows.
	refused() step
	// unknown says that there is no backend for the user.
	unknown(*login) step
	// unavailable says that the backend cannot be reached. Without a login the
	// connection ends.
	unavailable(*login) step
	// farewell is the line for a connection that the relay ends.
	farewell(why string) []byte
}

// action is what a step asks for.
type action uint8

const (
	more     action = iota // nothing can be done before more bytes come
	again                  // look for the next command
	beginTLS               // begin TLS as the server; nothing of the client waits
	forward                // connect the backend of step.login
	hangUp                 // end the connection
)

// step is one decision of a front.
type step struct {
	reply []byte
	do    action
	login *login // forward
	why   string // hangUp: for the log; it has no byte of the client
	// injected is how many bytes came in plaintext after STARTTLS, if that
	// is why: from anybody, and they would be taken for the client's own
	// (CVE-2011-0411).
	injected int
}

// login is what a client wants to be forwarded with.
type login struct {
	tag      string // IMAP
	user     string // chooses the backend
	name     string // authentication identity, often the same
	authz    string // authorization identity of SASL PLAIN
	password string
	sasl     bool   // AUTHENTICATE, AUTH: to be repeated as PLAIN
	hello    string // SMTP: what the client called itself
	mail     string // SMTP: the command of a client that does not log in
}

// String keeps what is secret out of every log.
func (*login) String() string { return "login" }

// GoString keeps what is secret out of every log.
func (*login) GoString() string { return "login" }

// initialResponse is the login as SASL PLAIN (RFC 4616) in base64.
func (l *login) initialResponse() string {
	return base64.StdEncoding.EncodeToString([]byte(l.authz + "\x00" + l.name + "\x00" + l.password))
}

// What the fronts say in all protocols, in the words of dovecot and postfix.
const (
	textUnavailable     = "backend server unavailable"
	textTooManyMistakes = "too many invalid commands"
	textTooManyLogins   = "too many failed logins"
	textTooLong         = "line too long"
	textTLSActive       = "TLS is already active"
	textNoTLS           = "TLS support isn't enabled"
	textPlaintext       = "Plaintext authentication disallowed on non-secure (SSL/TLS) connections"
	textPipelined       = "improper command pipelining after STARTTLS"
	textMechanism       = "Unsupported authentication mechanism"
	textAborted         = "Authentication aborted by client"
	textPlain           = "invalid AUTH PLAIN response"
	textLogin           = "invalid AUTH LOGIN response"
	textTimeout         = "timeout exceeded"
	textArguments       = "Invalid arguments"
	textUnknown         = "Unknown command"
)

const (
	// maxLogins is how many logins may fail on one connection.
	maxLogins = 3
	// maxMistakes is how many commands may be invalid on one connection.
	maxMistakes = 20
)

// frontConfig is what a front announces and allows.
type frontConfig struct {
	greeting     string
	hostname     string // SMTP
	capabilities []string
	canTLS       bool // STARTTLS is offered
	tls          bool // TLS is on
	plainLogin   bool // a login without TLS is allowed
	anonymous    bool // SMTP: mail without a login is allowed
	maxLine      int
}

func newFront(mode string, c frontConfig) front {
	switch mode {
	case modeIMAP:
		return &imapFront{lineFront: lineFront{frontConfig: c}}
	case modePOP3:
		return &pop3Front{lineFront: lineFront{frontConfig: c}}
	case modeSMTP:
		return &smtpFront{lineFront: lineFront{frontConfig: c}}
	}
	return nil
}

// lineFront is what the fronts have in common.
type lineFront struct {
	frontConfig
	buf      []byte
	searched [2]int // between these places of buf no line ends
	logins   int    // that failed
	mistakes int
}

func (f *lineFront) feed(in []byte) {
	f.buf = append(f.buf, in...)
}

func (f *lineFront) rest() []byte {
	rest := f.buf
	f.buf, f.searched = nil, [2]int{}
	return rest
}

// loginAllowed reports whether a password may come now.
func (f *lineFront) loginAllowed() bool { return f.tls || f.plainLogin }

// lineEnd finds the end of a line at or behind from. It is -1 if there is none yet.
func (f *lineFront) lineEnd(from int) int {
	start := from
	if from >= f.searched[0] {
		start = max(from, f.searched[1])
	}
	i := bytes.IndexByte(f.buf[start:], '\n')
	if i < 0 {
		f.searched = [2]int{from, len(f.buf)}
		return -1
	}
	return start + i + 1
}

// drop takes the first n bytes out of the buffer and overwrites them, since
// they may hold a password.
func (f *lineFront) drop(n int) {
	left := copy(f.buf, f.buf[n:])
	clear(f.buf[left:])
	f.buf, f.searched = f.buf[:left], [2]int{}
}

// line takes one line without its end, and without the blanks there: RFC 5321
// section 4.1.1 asks servers to tolerate them, and clients of all protocols
// send them. It is false if no line is complete; tooLong then reports whether
// the line exceeds max-line.
func (f *lineFront) line() (s string, ok bool) {
	s, ok = f.exactLine()
	return trimBlanks(s), ok
}

// exactLine is line with the blanks at the end of the line.
func (f *lineFront) exactLine() (s string, ok bool) {
	end := f.lineEnd(0)
	if end < 0 || end > f.maxLine {
		return "", false
	}
	s = string(f.buf[:end])
	f.drop(end)
	return trimEnd(s), true
}

func (f *lineFront) tooLong() bool { return len(f.buf) > f.maxLine }

// trimEnd cuts the end of a line.
func trimEnd(s string) string { return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r") }

// trimBlanks cuts spaces and tabs off the end of a command.
func trimBlanks(s string) string { return strings.TrimRight(s, " \t") }

// mistake counts invalid commands; true ends the connection.
func (f *lineFront) mistake() bool {
	f.mistakes++
	return f.mistakes >= maxMistakes
}

// failed counts failed logins; true ends the connection.
func (f *lineFront) failed() bool {
	f.logins++
	return f.logins >= maxLogins
}

// injected says why a connection with bytes after STARTTLS ends.
func injected(n int) string {
	return fmt.Sprintf("%d bytes of plaintext after STARTTLS", n)
}

// clean reports whether s has no control character.
func clean(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// decodePlain reads an answer of SASL PLAIN (RFC 4616), in base64.
func decodePlain(s string) (*login, bool) {
	if s == "=" {
		s = ""
	}
	data, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, false
	}
	parts := strings.Split(string(data), "\x00")
	if len(parts) != 3 || parts[1] == "" || parts[2] == "" {
		return nil, false
	}
	l := &login{authz: parts[0], name: parts[1], password: parts[2], user: parts[1], sasl: true}
	if l.authz != "" {
		l.user = l.authz // whose mailbox it is
	}
	return l, true
}

// cutWord cuts the first word off a line.
func cutWord(s string) (word, rest string) {
	word, rest, _ = strings.Cut(s, " ")
	return word, strings.TrimLeft(rest, " ")
}
