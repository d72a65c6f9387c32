package sslnet

import (
	"bufio"
	"errors"
	"fmt"
	"net"

	"github.com/seed-014b8713/sslfilter"
)

// Leftover says how to treat bytes that a bufio.Reader has read after the STARTTLS
// command or its answer.
type Leftover int

const (
	// RefuseLeftover returns a *LeftoverError if there are such bytes. They arrived
	// in plain text, so an attacker may have inserted them. A program that keeps
	// them and treats them as the first bytes that arrived over TLS executes
	// injected commands (CVE-2011-0411).
	RefuseLeftover Leftover = iota
	// KeepLeftover uses the bytes as the beginning of the TLS handshake. It is for
	// protocols in which the peer may send its ClientHello without waiting for an
	// answer. Injected commands make the handshake fail.
	KeepLeftover
)

// LeftoverError reports plaintext that arrived before TLS began, but after the
// command that switches to TLS or after its answer: STARTTLS, STLS or the CONNECT
// of a proxy. Close the connection.
type LeftoverError struct {
	N int // number of bytes
}

func (e *LeftoverError) Error() string {
	return fmt.Sprintf("sslnet: %d bytes of plaintext arrived before TLS began, as in a command injection (CVE-2011-0411)", e.N)
}

// ClientBuffered is Client for a connection that began in plain text, read through
// r, as in STARTTLS. Call it after reading the answer to the command. Bytes that r
// has buffered after the answer are treated as leftover says. r must not be used
// afterwards.
func ClientBuffered(conn net.Conn, r *bufio.Reader, ctx *sslfilter.Ctx, leftover Leftover) (*Conn, error) {
	return newBuffered(conn, r, ctx, leftover, true)
}

// ServerBuffered is Server for a connection that began in plain text, read through
// r, as in STARTTLS. Call it after reading the command and before sending the
// answer: a client that waits for the answer, as it must in SMTP, IMAP and POP3,
// cannot have sent anything else by then. Bytes that r has buffered after the
// command are treated as leftover says. r must not be used afterwards.
func ServerBuffered(conn net.Conn, r *bufio.Reader, ctx *sslfilter.Ctx, leftover Leftover) (*Conn, error) {
	return newBuffered(conn, r, ctx, leftover, false)
}

func newBuffered(conn net.Conn, r *bufio.Reader, ctx *sslfilter.Ctx, leftover Leftover, client bool) (*Conn, error) {
	switch {
	case conn == nil:
		return nil, errNoConn
	case r == nil:
		return nil, errors.New("sslnet: STARTTLS: no bufio.Reader; use Client or Server without one")
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
