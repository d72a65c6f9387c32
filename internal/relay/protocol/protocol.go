// Package protocol has the protocols that begin in plain text and can change to
// TLS: IMAP, POP3 and SMTP. [Table] has one row for each.
//
// A protocol is up to three state machines. A [Front] is the server that a client
// speaks to, a [Dialog] is the client that logs in at a backend, and a [Guard]
// follows a client that logs in at the backend itself. All of them take bytes and
// return a [Step]: bytes to send, and one decision, such as "begin TLS now".
// None of them has a socket or a clock, and each bounds what it holds. The interfaces
// also fit a protocol without lines, logins or a greeting.
//
// A new protocol is a file with these machines, a row in Table and a row in the
// table of docs/relay.md.
package protocol

import (
	"fmt"
	"slices"
	"strings"
)

// Protocol is one row of Table.
type Protocol struct {
	// Name is the value of the configuration's key mode.
	Name string
	// Front makes the server side. It is a LoginFront if Login is set.
	Front func(FrontConfig) Front
	// Dialog makes the client side.
	Dialog func(DialogConfig) Dialog
	// Guard makes the guard. It is nil if neither side announces TLS before the
	// login.
	Guard func(GuardConfig) Guard

	// Login says that the front reads logins, so that the user can choose the
	// backend.
	Login bool
	// Unauthenticated says that clients can use the protocol without a login.
	Unauthenticated bool
	// Hostname says that the relay sends its own host name in this protocol.
	Hostname bool
	// Capabilities are announced before the login unless the configuration has
	// others. It is nil if the protocol announces none.
	Capabilities func(maxLine int) []string
	// OneWord says that a capability may not contain a space.
	OneWord bool
}

// Table has the protocols, in the order in which -help and error messages list them.
var Table = []Protocol{
	{Name: "imap", Front: newIMAPFront, Dialog: newIMAPDialog, Guard: newIMAPGuard, Login: true, Capabilities: imapCapabilities, OneWord: true},
	{Name: "pop3", Front: newPOP3Front, Dialog: newPOP3Dialog, Guard: newPOP3Guard, Login: true, Capabilities: pop3Capabilities},
	{Name: "smtp", Front: newSMTPFront, Dialog: newSMTPDialog, Guard: newSMTPGuard, Login: true, Capabilities: smtpCapabilities, Unauthenticated: true, Hostname: true},
}

// Find returns the row with a name, or nil.
func Find(name string) *Protocol {
	if i := slices.IndexFunc(Table, func(p Protocol) bool { return p.Name == name }); i >= 0 {
		return &Table[i]
	}
	return nil
}

// Names lists the names of the protocols for which has is true, or all if has is
// nil.
func Names(has func(*Protocol) bool) (names []string) {
	for i := range Table {
		if has == nil || has(&Table[i]) {
			names = append(names, Table[i].Name)
		}
	}
	return names
}

// Step is what a machine wants done. The bytes are sent before anything else.
type Step struct {
	// ToClient goes to the client. It contains nothing that the client chose,
	// except the tag of an IMAP command, which has been checked.
	ToClient string
	// ToBackend goes to the backend.
	ToBackend string
	Do        Action
	// Login is the login for Connect. It is nil if the client has not logged in.
	Login *Login
	// Why is the reason of HangUp and Failed, for the log. It contains no byte
	// that a client chose.
	Why string
	// Injected is the number of bytes that came in plain text after STARTTLS, if
	// that is the reason. Anyone on the network can insert such bytes, which would
	// then be treated as if the client had sent them with TLS (CVE-2011-0411).
	Injected int
}

// Action is the decision of a step.
type Action uint8

const (
	// Again asks for another call of Next.
	Again Action = iota
	// More asks for more input.
	More
	// Wait asks for a call of Next after the backend's next answer (Guard).
	Wait
	// StartTLS begins TLS with the side that the machine speaks to. Input that
	// came before it is refused.
	StartTLS
	// Connect connects the backend for Login (Front).
	Connect
	// Open ends the machine: everything is forwarded from now on, beginning with
	// the bytes of Rest (Dialog).
	Open
	// Denied says that the backend has rejected the login. ToClient has the
	// backend's answer (Dialog).
	Denied
	// Failed says that the backend cannot be used (Dialog).
	Failed
	// HangUp ends the connection (Front, Guard).
	HangUp
)

// Front is the server side of a protocol until a backend takes over.
type Front interface {
	// Greeting returns what the client is sent first. It is empty in a protocol
	// in which the client speaks first.
	Greeting() string
	// Feed takes input of the client. It is called after Next has returned More.
	Feed(in []byte)
	// Next handles at most one command.
	Next() Step
	// Rest returns the input after the last command, and forgets it.
	Rest() []byte
	// Secured is called after the TLS handshake. The front forgets everything
	// that was said before.
	Secured()
	// Unavailable is called if the backend cannot be reached. Without a login the
	// connection must end.
	Unavailable(*Login) Step
	// Farewell returns the last words on a connection that the relay ends. It may
	// be empty.
	Farewell(why string) string
}

// LoginFront is a Front that reads logins.
type LoginFront interface {
	Front
	// Refused is called after the backend has rejected the login. The client has
	// the backend's answer.
	Refused() Step
	// Unknown is called if there is no backend for the user.
	Unknown(*Login) Step
}

// FrontConfig is what a front announces and allows.
type FrontConfig struct {
	Greeting     string // text of the greeting
	Hostname     string // name of the relay
	Capabilities []string
	CanTLS       bool // STARTTLS is offered
	TLS          bool // TLS is active
	PlainLogin   bool // a login without TLS is allowed
	Anonymous    bool // use without a login is allowed
	MaxLine      int  // bound of one command, in bytes
}

// Dialog is the client side of a protocol, from the connection to the answer to
// the login.
type Dialog interface {
	// Feed takes input of the backend. It is called after Next has returned More.
	Feed(in []byte)
	// Next handles at most one message of the backend. It is called first before
	// the backend has sent anything.
	Next() Step
	// Rest returns the input after the last message, and forgets it.
	Rest() []byte
	// Secured is called after the TLS handshake.
	Secured() Step
}

// DialogConfig says what a dialog is for.
type DialogConfig struct {
	Login    *Login // nil: the client logs in at the backend itself
	StartTLS bool
	Greet    bool   // the client has not had a greeting yet
	Hostname string // name of the relay
	Ready    string // text of a greeting in place of the backend's
}

// Guard follows a client that logs in at the backend itself. It is used if the
// relay uses TLS with the client, the backend or both. The backend's announcements about TLS
// apply to the backend's connection and not to the client's, so the guard removes
// them, and refuses the client's commands that begin TLS (RFC 3207 section 4.2).
type Guard interface {
	// Feed takes input of the client. It is called after Next has returned More.
	Feed(in []byte)
	// Next handles at most one command of the client.
	Next() Step
	// Responses takes input of the backend and returns what the client gets. Once
	// Open reports true, Responses returns everything.
	Responses(in []byte) (out []byte, err error)
	// Open reports whether the login is done. Everything is forwarded from then
	// on, beginning with the bytes of Rest.
	Open() bool
	// Rest returns the bytes that were held back, and forgets them.
	Rest() (toBackend, toClient []byte)
}

// GuardConfig says what a guard is for.
type GuardConfig struct {
	TLS     bool // the client has TLS
	MaxLine int  // bound of one line of the client, in bytes
}

const (
	// MaxLogins is the number of failed logins after which a connection ends.
	MaxLogins = 3
	// MaxMistakes is the number of invalid commands after which a connection ends.
	MaxMistakes = 20
	// MaxResponse bounds a line of a backend until the login, in bytes.
	MaxResponse = 16 << 10
	// MaxResponses bounds the number of lines of a backend until the login.
	MaxResponses = 200
)

// Texts of replies in all protocols, in the words of dovecot and postfix.
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
	textArguments       = "Invalid arguments"
	textUnknown         = "Unknown command"
)

// Injected describes plain text after STARTTLS, for the log.
func Injected(n int) string { return fmt.Sprintf("%d bytes of plaintext after STARTTLS", n) }

func failed(format string, args ...any) Step {
	return Step{Do: Failed, Why: fmt.Sprintf(format, args...)}
}

// Printable reports whether s has only printable ASCII characters.
func Printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}
