package protocol

import (
	"encoding/base64"
	"strings"
)

// Login is what a client logs in with.
type Login struct {
	User     string // chooses the backend
	name     string // authentication identity, often the same
	authz    string // authorization identity of SASL PLAIN
	password string
	sasl     bool   // the client used AUTHENTICATE or AUTH; the dialog uses PLAIN
	tag      string // IMAP
	hello    string // SMTP: the name that the client gave in EHLO
	mail     string // SMTP: the command of a client that does not log in
}

// Unauthenticated reports whether the client does not log in.
func (l *Login) Unauthenticated() bool { return l.mail != "" }

// String keeps secrets out of every log.
func (*Login) String() string { return "login" }

// GoString keeps secrets out of every log.
func (*Login) GoString() string { return "login" }

// initialResponse returns the login as SASL PLAIN (RFC 4616) in base64.
func (l *Login) initialResponse() string {
	return base64.StdEncoding.EncodeToString([]byte(l.authz + "\x00" + l.name + "\x00" + l.password))
}

// decodePlain reads a response of SASL PLAIN (RFC 4616) in base64.
func decodePlain(s string) (*Login, bool) {
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
	l := &Login{authz: parts[0], name: parts[1], password: parts[2], User: parts[1], sasl: true}
	if l.authz != "" {
		l.User = l.authz // the owner of the mailbox
	}
	return l, true
}
