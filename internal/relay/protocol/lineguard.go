package protocol

import (
	"bytes"
	"fmt"
)

// lineGuard is the part that the guards have in common. It forwards one command
// at a time: the next command waits until the backend has answered the one
// before. So it always knows whether a line of the client is a command, a part of
// a login or the rest of a literal.
type lineGuard struct {
	GuardConfig
	// command takes a line of the client, with its end. If reply is not empty, it
	// goes to the client and the line is not forwarded.
	command func(line string) (reply string)
	// response takes a line of the backend, with its end, and returns what the
	// client gets.
	response func(line string) string
	farewell func(why string) string

	open   bool // the login is done or the first mail has begun
	hangUp bool // further input of the client cannot be parsed
	busy   bool // a command waits for its answer
	login  bool // the current command is a login
	sasl   bool // the next line of the client is a SASL response

	client    []byte // input of the client that is not forwarded
	backend   []byte // input of the backend without a complete line
	held      string // lines of the backend that are kept until its next line arrives
	clientRaw int    // bytes of the client's literal that have not come yet
	serverRaw int    // bytes of the backend's literal that have not come yet
}

// refusal is the text of the reply to STARTTLS and STLS.
func (g *lineGuard) refusal() string {
	if g.TLS {
		return textTLSActive
	}
	return textNoTLS
}

// Feed is part of Guard.
func (g *lineGuard) Feed(in []byte) { g.client = append(g.client, in...) }

// Open is part of Guard.
func (g *lineGuard) Open() bool { return g.open }

// Rest is part of Guard.
func (g *lineGuard) Rest() (toBackend, toClient []byte) {
	toBackend, g.client = g.client, nil
	return toBackend, g.restOfBackend()
}

func (g *lineGuard) restOfBackend() []byte {
	rest := append([]byte(g.held), g.backend...)
	g.held, g.backend = "", nil
	return rest
}

// Next is part of Guard.
func (g *lineGuard) Next() Step {
	if g.busy && !g.open {
		return Step{Do: Wait}
	}
	n := min(g.clientRaw, len(g.client))
	if g.clientRaw == 0 {
		n = bytes.IndexByte(g.client, '\n') + 1
		if n > g.MaxLine || n == 0 && len(g.client) > g.MaxLine {
			return Step{Do: HangUp, ToClient: g.farewell(textTooLong), Why: textTooLong}
		}
	}
	if n == 0 {
		return Step{Do: More}
	}
	line := string(g.client[:n])
	g.client = g.client[n:]
	if g.clientRaw > 0 {
		g.clientRaw -= n
		return Step{ToBackend: line}
	}
	if g.sasl {
		g.sasl, g.busy = false, true
		return Step{ToBackend: line}
	}
	answer := g.command(line)
	switch {
	case answer == "":
		return Step{ToBackend: line}
	case g.hangUp:
		return Step{Do: HangUp, ToClient: answer, Why: "STARTTLS with a literal"}
	}
	return Step{ToClient: answer}
}

// Responses is part of Guard.
func (g *lineGuard) Responses(in []byte) (out []byte, err error) {
	g.backend = append(g.backend, in...)
	for !g.open {
		if n := min(g.serverRaw, len(g.backend)); n > 0 {
			out, g.backend, g.serverRaw = append(out, g.backend[:n]...), g.backend[n:], g.serverRaw-n
			continue
		}
		end := bytes.IndexByte(g.backend, '\n') + 1
		if end > MaxResponse || end == 0 && len(g.backend) > MaxResponse {
			return out, fmt.Errorf("a response of more than %d bytes", MaxResponse)
		}
		if end == 0 {
			g.backend = bytes.Clone(g.backend)
			return out, nil
		}
		line := string(g.backend[:end])
		g.backend = g.backend[end:]
		out = append(out, g.response(line)...)
	}
	return append(out, g.restOfBackend()...), nil
}
