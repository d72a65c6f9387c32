package protocol

import "strings"

// POP3 (RFC 1939): the dialog with a backend and the guard. The front is in
// pop3front.go.

func pop3Capabilities(int) []string { return []string{"USER"} }

// pop3Dialog logs in to a POP3 server.
type pop3Dialog struct {
	lineDialog
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

func newPOP3Dialog(c DialogConfig) Dialog {
	return &pop3Dialog{lineDialog: lineDialog{DialogConfig: c}}
}

func (d *pop3Dialog) Next() Step {
	s, missing, complete := d.response()
	if !complete {
		return missing
	}
	ok := s == "+OK" || strings.HasPrefix(s, "+OK ")
	no := s == "-ERR" || strings.HasPrefix(s, "-ERR ")
	switch {
	case d.state == pop3Greeting && !ok:
		return failed("the greeting is not +OK")
	case d.state == pop3Greeting && d.StartTLS:
		d.state = pop3StartTLS
		return Step{ToBackend: "STLS\r\n"}
	case d.state == pop3Greeting && d.Greet:
		return Step{Do: Open, ToClient: s + "\r\n"}
	case d.state == pop3Greeting:
		return d.begin()
	case d.state == pop3StartTLS && ok:
		return Step{Do: StartTLS}
	case d.state == pop3StartTLS:
		return failed("STLS was refused")
	case no:
		return Step{Do: Denied, ToClient: s + "\r\n"}
	case d.state == pop3User && ok:
		d.state = pop3Login
		return Step{ToBackend: "PASS " + d.Login.password + "\r\n"}
	case d.state == pop3Auth && (s == "+" || strings.HasPrefix(s, "+ ")):
		d.state = pop3Login
		return Step{ToBackend: d.Login.initialResponse() + "\r\n"}
	case d.state == pop3Login && ok:
		return Step{Do: Open, ToClient: s + "\r\n"}
	}
	return failed("unexpected response to the login")
}

func (d *pop3Dialog) Secured() Step {
	if d.Greet { // not the backend's own greeting, which arrived in plain text with its timestamp for APOP
		return Step{Do: Open, ToClient: "+OK " + d.Ready + "\r\n"}
	}
	return d.begin()
}

func (d *pop3Dialog) begin() Step {
	switch {
	case d.Login == nil:
		return Step{Do: Open}
	case d.Login.sasl:
		d.state = pop3Auth
		return Step{ToBackend: "AUTH PLAIN\r\n"}
	}
	d.state = pop3User
	return Step{ToBackend: "USER " + d.Login.name + "\r\n"}
}

// pop3Guard is the guard of POP3.
type pop3Guard struct {
	lineGuard
	list   bool // a positive answer to the command is a list that ends with "."
	inList bool // the next line of the backend belongs to a list
}

func newPOP3Guard(c GuardConfig) Guard {
	g := &pop3Guard{lineGuard: lineGuard{GuardConfig: c, farewell: pop3Error}}
	g.command, g.response = g.pop3Command, g.pop3Response
	return g
}

func (g *pop3Guard) pop3Command(line string) (reply string) {
	words := strings.Fields(strings.ToUpper(line))
	name := ""
	if len(words) > 0 {
		name = words[0]
	}
	if name == "STLS" {
		return pop3Error(g.refusal())
	}
	g.login = name == "PASS" || name == "APOP" || name == "AUTH" && len(words) > 1
	g.list = name == "CAPA" || (name == "AUTH" || name == "LANG") && len(words) == 1
	g.busy = true
	return ""
}

func (g *pop3Guard) pop3Response(line string) string {
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

func pop3Error(why string) string { return "-ERR " + why + "\r\n" }
