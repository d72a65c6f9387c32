package protocol

import (
	"slices"
	"strings"
)

// SMTP (RFC 5321): the dialog with a backend and the guard. The front is in
// smtpfront.go.

func smtpCapabilities(int) []string { return []string{"8BITMIME"} }

// smtpDialog logs in to an SMTP server, or repeats the first command of a mail.
type smtpDialog struct {
	lineDialog
	state  smtpState
	tls    bool   // the EHLO after STARTTLS
	plain  bool   // AUTH PLAIN was in the answer to EHLO
	banner string // the backend's greeting
}

type smtpState uint8

const (
	smtpGreeting smtpState = iota
	smtpHello
	smtpStartTLS
	smtpAuth
)

func newSMTPDialog(c DialogConfig) Dialog {
	return &smtpDialog{lineDialog: lineDialog{DialogConfig: c}}
}

func (d *smtpDialog) Next() Step {
	s, missing, complete := d.response()
	if !complete {
		return missing
	}
	code, text, last, ok := smtpLine(s)
	if !ok {
		return failed("invalid SMTP reply")
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
			return Step{}
		}
		return d.helloDone()
	case smtpStartTLS:
		switch {
		case code != "220":
			return failed("STARTTLS was refused with %s", code)
		case !last:
			return Step{}
		}
		return Step{Do: StartTLS}
	}
	switch {
	case code == "235" && last:
		return Step{Do: Open, ToClient: s + "\r\n"}
	case code[0] == '2' || code[0] == '4' || code[0] == '5':
		t := Step{ToClient: s + "\r\n"}
		if last {
			t.Do = Denied
		}
		return t
	}
	return failed("AUTH was answered with %s", code)
}

func (d *smtpDialog) greeting(s, code string, last bool) Step {
	if code != "220" {
		return failed("the greeting is %s", code)
	}
	if d.Greet {
		d.banner += s + "\r\n"
	}
	switch {
	case !last:
		return Step{}
	case d.StartTLS || d.Login != nil:
		return d.hello()
	}
	return Step{Do: Open, ToClient: d.banner}
}

func (d *smtpDialog) hello() Step {
	name := d.Hostname
	if d.Login != nil && d.Login.hello != "" {
		name = d.Login.hello
	}
	d.state, d.plain = smtpHello, false
	return Step{ToBackend: "EHLO " + name + "\r\n"}
}

func (d *smtpDialog) helloDone() Step {
	switch {
	case d.StartTLS && !d.tls:
		d.state = smtpStartTLS
		return Step{ToBackend: "STARTTLS\r\n"}
	case d.Login.mail != "":
		return Step{Do: Open, ToBackend: d.Login.mail + "\r\n"}
	case !d.plain:
		return failed("the server does not offer AUTH PLAIN")
	}
	d.state = smtpAuth
	return Step{ToBackend: "AUTH PLAIN " + d.Login.initialResponse() + "\r\n"}
}

func (d *smtpDialog) Secured() Step {
	d.tls = true
	switch {
	case d.Login != nil:
		return d.hello()
	case d.Greet: // the backend's own greeting came in plain text
		return Step{Do: Open, ToClient: "220 " + d.Hostname + " ESMTP " + d.Ready + "\r\n"}
	}
	return Step{Do: Open}
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

// smtpGuard is the guard of SMTP.
type smtpGuard struct {
	lineGuard
	first bool // the next line of the backend is the first of a reply
}

func newSMTPGuard(c GuardConfig) Guard {
	g := &smtpGuard{lineGuard: lineGuard{GuardConfig: c, farewell: smtpFarewell}, first: true}
	g.command, g.response = g.smtpCommand, g.smtpResponse
	return g
}

func (g *smtpGuard) smtpCommand(line string) (reply string) {
	words := strings.Fields(strings.ToUpper(line))
	name := ""
	if len(words) > 0 {
		name = words[0]
	}
	switch name {
	case "STARTTLS":
		if g.TLS {
			return "554 5.5.1 Error: TLS already active\r\n"
		}
		return "502 5.5.1 Error: command not implemented\r\n"
	case "MAIL", "DATA", "BDAT": // the lines that follow need not be commands
		g.open = true
	}
	g.login = name == "AUTH"
	g.busy = true
	return ""
}

// smtpResponse holds back every line of a reply but the last, because removing
// the next line may make it the last.
func (g *smtpGuard) smtpResponse(line string) (out string) {
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

func smtpFarewell(why string) string { return "421 4.3.2 " + why + "\r\n" }
