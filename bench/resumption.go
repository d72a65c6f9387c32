package main

import (
	"errors"
	"fmt"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
)

// stepName is C over BIO_s_mem again, but Go calls each step of both ends. For the
// servers in Go, it calls each step of the client in the same way, so none of them can be
// faster than this.
const stepName = "C, called from Go"

// said is the capacity of a client's output. No flight of a handshake is larger.
const said = 16384

// visit makes one connection of a client in C. The buffers are used again: a new one
// for each connection would measure page faults and the garbage collector.
func (e *engine) visit(ends *cend.Ends, b *buffers, resume, keep bool) error {
	s, err := e.server.NewFilter()
	if err != nil {
		return err
	}
	defer s.Close()
	peer := ends.Peer(resume)
	defer peer.Close()
	for range 10 {
		b.said = peer.Step(b.said[:0], b.wire)
		if b.plain, err = s.Receive(b.plain[:0], b.said); err != nil {
			return err
		}
		b.wire = s.Outgoing(b.wire[:0])
		if peer.Done() && s.HandshakeDone() {
			break
		}
	}
	b.said = peer.Step(b.said[:0], b.wire) // the tickets
	b.wire = b.wire[:0]
	if peer.Resumed() != resume || s.Resumed() != resume || e.cert == "cert" && !s.ClientCertValid() {
		return fmt.Errorf("resumed: client %t, server %t; want %t", peer.Resumed(), s.Resumed(), resume)
	}
	if keep {
		return ends.Keep(peer)
	}
	return nil
}

// visits makes n connections of a client in C, which resume the session of one connection that is
// made before them.
func (e *engine) visits(n, flags int, resume bool) ([]float64, error) {
	ends, err := cend.New(e.pki, subject.File(e.cert), flags)
	if err != nil {
		return nil, err
	}
	defer ends.Close()
	b := buffers{said: make([]byte, 0, said)}
	if err := e.visit(ends, &b, false, true); err != nil {
		return nil, err
	}
	return subject.Repeat(n, func() error { return e.visit(ends, &b, resume, false) })
}

// judged makes n connections of a client with a certificate: full handshakes, or
// resumed ones in which the server verifies the certificate again.
func judged(pki string) func(arg string, n int) ([]float64, error) {
	return func(arg string, n int) ([]float64, error) {
		e, err := openEngine(pki, "cert", func(server, _ *sslfilter.Options) { verifiedAgain(server) })
		if err != nil {
			return nil, err
		}
		defer e.server.Close()
		defer e.user.Close()
		return e.visits(n, cend.ClientCert, arg == "resumed")
	}
}

// visitInC makes the same connection with a server in C.
func visitInC(ends *cend.Ends, b *buffers, resume bool) error {
	s := ends.Accept()
	defer s.Close()
	peer := ends.Peer(resume)
	defer peer.Close()
	for range 10 {
		b.said = peer.Step(b.said[:0], b.wire)
		b.wire = s.Step(b.wire[:0], b.said)
		if peer.Done() && s.Done() {
			break
		}
	}
	b.said = peer.Step(b.said[:0], b.wire) // the tickets
	b.wire = b.wire[:0]
	if !resume {
		return ends.Keep(peer)
	}
	if !peer.Resumed() || !s.Resumed() {
		return errors.New("the session was not resumed")
	}
	return nil
}

// resumedInC returns the work of n visits to a server in C.
func resumedInC(pki string) func(arg string, n int) ([]float64, error) {
	return func(arg string, n int) ([]float64, error) {
		ends, err := cend.New(pki, subject.File(arg), 0)
		if err != nil {
			return nil, err
		}
		defer ends.Close()
		b := buffers{said: make([]byte, 0, said), wire: make([]byte, 0, said)}
		if err := visitInC(ends, &b, false); err != nil {
			return nil, err
		}
		return subject.Repeat(n, func() error { return visitInC(ends, &b, true) })
	}
}
