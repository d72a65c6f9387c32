package sslnet

import (
	"bufio"
	"errors"
	"fmt"
	"net"

	"github.com/seed-014b8713/sslfilter"
)

// Leftover says what becomes of bytes that a bufio.Reader has read beyond the
// STARTTLS command or its answer.
type Leftover int

const (
	// RefuseLeftover makes them a *LeftoverError. They came in plain text, so
	// anybody may have put them there; a program that keeps them, and takes them
	// for the first that came over TLS, executes injected commands (CVE-2011-0411).
	RefuseLeftover Leftover = iota
	// KeepLeftover takes them for the beginning of the TLS handshake. It is for
	// protocols in which the peer may send its ClientHello without waiting for
	// an answer. Injected commands fail the handshake.
	KeepLeftover
)

// LeftoverError says that plaintext arrived after the command that switches to
// TLS, or after its answer, and before TLS began: STARTTLS, STLS or the CONNECT
// of a proxy. Close the connection.
type LeftoverError struct {
	N int // how many
}

func (e *LeftoverError) Error() string {
	return fmt.Sprintf("sslnet: %d bytes of plaintext arrived before TLS began, as in a command injection (CVE-2011-0411)", e.N)
}

// ClientBuffered is Client for a connection whose plaintext was read through r
// until now, as in STARTTLS: the answer to the command is the last that was
// read. What r has buffered behind it is treated as leftover says. r may not be
// used afterwards.
func ClientBuffered(conn net.Conn, r *bufio.Reader, ctx *sslfilter.Ctx, leftover Leftover) (*Conn, error) {
	return newBuffered(conn, r, ctx, leftover, true)
}

// ServerBuffered is Server for a connection whose plaintext was read through r
// until now, as in STARTTLS: the command is the last that was read. Call it
// before the answer is sent: a client that waits for that, as it must in SMTP,
// IMAP and POP3, can have sent nothing more. What r has buffered behind the
// command is treated as leftover says. r may not be used afterwards.
func ServerBuffered(conn net.Conn, r *bufio.Reader, ctx *sslfilter.Ctx, leftover Leftover) (*Conn, error) {
	return newBuffered(conn, r, ctx, leftover, false)
}

func newBuffered(conn net.Conn, r *bufio.Reader, ctx *sslfilter.Ctx, leftover Leftover, client bool) (*Conn, error) {
	switch {
	case conn == nil:
		return nil, errNoConn
	case r == nil:
		return nil, errors.New("sslnet: STARTTLS: no bufio.Reader; Client and Server make connections without one")
	}
	c := newConn(conn, ctx, client)
	n := r.Buffered()
	if n == 0 {
		return c, nil
	}
	if leftover != KeepLeftover {
		return nil, &LeftoverError{N: n}
	}
	buffered, err := r.Peek(n)
	if err != nil {
		return nil, fmt.Errorf("sslnet: plaintext before TLS: %w", err)
	}
	c.handshake.first = append([]byte(nil), buffered...)
	return c, nil
}
