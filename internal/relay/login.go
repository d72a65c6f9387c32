package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// readSize is how much of a client's input is read at a time before the
// forwarding, in bytes.
const readSize = 4096

// transparent reports whether the client's login is between it and the backend:
// there is no choice to make, and TLS is on or not wanted.
func (s *session) transparent() bool {
	return !s.state.conf.byUser() && (s.tls != nil || s.listen.security == plain)
}

// serveFront speaks the protocol with the client until a backend takes over.
func (s *session) serveFront() error {
	conf := s.state.conf
	f := newFront(s.relay.mode, frontConfig{
		greeting: conf.Greeting, hostname: conf.hostname(), capabilities: conf.Capabilities,
		canTLS: s.listen.security == startTLS, tls: s.tls != nil,
		plainLogin: conf.AllowPlaintext || s.listen.security == plain,
		anonymous:  conf.AllowUnauthenticated, maxLine: conf.MaxLine,
	})
	deadline := time.Now().Add(conf.CommandTimeout.Std())
	s.client.SetDeadline(deadline)
	if s.transparent() {
		return s.hand(f, nil, true)
	}
	if err := s.say(f.greeting()); err != nil {
		return err
	}
	buf := make([]byte, readSize)
	next := f.next()
	for {
		if err := s.say(next.reply); err != nil {
			return err
		}
		switch next.do {
		case more:
			n, err := s.client.Read(buf)
			switch {
			case n > 0:
				f.feed(buf[:n])
				clear(buf[:n])
				s.touch()
			case timedOut(err):
				s.linger(s.client, string(f.farewell(textTimeout)))
				return errors.New("command-timeout")
			case err != nil:
				return &sideError{side: "client", doing: "reading from", err: err}
			}
		case beginTLS:
			if err := s.secure(); err != nil {
				return err
			}
			s.client.SetDeadline(deadline)
			f.secured()
			if s.transparent() {
				return s.hand(f, nil, false)
			}
		case hangUp:
			return s.hangUp(next)
		case forward:
			answer, err := s.try(f, next.login)
			if answer == nil {
				return err
			}
			next = *answer
			continue
		}
		next = f.next()
	}
}

// hangUp ends a connection that the front end has said goodbye to.
func (s *session) hangUp(last step) error {
	s.linger(s.client, "")
	if last.injected > 0 {
		s.relay.count.injected.Add(1)
		return fmt.Errorf("refused: %s", last.why)
	}
	return ended(last.why)
}

// hand connects a backend for a client that has not logged in; it does so itself.
func (s *session) hand(f front, l *login, greet bool) error {
	answer, err := s.attempt(f, l, *s.state.backend, greet)
	if answer == nil {
		return err
	}
	s.say(answer.reply)
	s.linger(s.client, "")
	return ended("the backend failed") // the log has why
}

// try forwards a login. A step that is not nil is how it goes on with the
// client; otherwise the connection is over.
func (s *session) try(f front, l *login) (*step, error) {
	e, known, ok := s.state.route(l.user)
	if !ok {
		s.relay.count.loginsRefused.Add(1)
		s.log.Info("login refused", "why", "the user has no backend")
		answer := f.unknown(l)
		return &answer, nil
	}
	s.user = known
	return s.attempt(f, l, e, false)
}

// attempt runs the dialog with a backend and, if that takes the client, joins
// both.
func (s *session) attempt(f front, l *login, e endpoint, greet bool) (*step, error) {
	ctx, cancel := context.WithTimeout(s.server.stop, s.state.conf.BackendTimeout.Std())
	defer cancel()
	backend, err := s.dial(ctx, e)
	if err != nil {
		return s.noBackend(f, l, err)
	}
	d := newDialog(s.relay.mode, dialogConfig{
		login: l, startTLS: e.security == startTLS, greet: greet,
		hostname: s.state.conf.hostname(), ready: s.state.conf.Greeting,
	})
	t := talk{session: s, ctx: ctx, dialog: d, endpoint: e, conn: backend}
	if l == nil && (s.tls != nil || e.security != plain) {
		t.guard = newGuard(s.relay.mode, s.tls != nil)
	}
	how, err := t.run()
	switch {
	case how == dialogOpen:
		if l != nil && l.mail == "" {
			s.relay.count.logins.Add(1)
			s.log.Info("login", s.where()...)
		}
		if t.guard != nil && !t.guard.open {
			return nil, s.joinGuarded(t.conn, t.guard, f.rest(), t.rest())
		}
		return nil, s.join(t.conn, f.rest(), t.rest())
	case how == dialogDenied:
		t.conn.Close()
		s.relay.count.loginsRefused.Add(1)
		s.log.Info("login refused", append(s.where(), "why", "the backend says no")...)
		answer := f.refused()
		return &answer, nil
	}
	t.conn.Close()
	return s.noBackend(f, l, err)
}

// where is the backend and, if the table of users has it, the user.
func (s *session) where() []any {
	attrs := []any{"backend", s.dest}
	if s.user != "" {
		attrs = append(attrs, "user", s.user)
	}
	return attrs
}

// noBackend tells the log and the client that the backend cannot be used.
func (s *session) noBackend(f front, l *login, err error) (*step, error) {
	if s.server.stop.Err() != nil {
		return nil, errStopped
	}
	var side *sideError
	if errors.As(err, &side) && side.side == "client" {
		return nil, err
	}
	s.relay.count.backendFailed.Add(1)
	s.log.Warn("backend failed", "error", err)
	answer := f.unavailable(l)
	return &answer, nil
}

// say sends a reply to the client.
func (s *session) say(reply []byte) error {
	if len(reply) == 0 {
		return nil
	}
	if _, err := s.client.Write(reply); err != nil {
		return &sideError{side: "client", doing: "writing to", err: err}
	}
	return nil
}

// talk runs a dialog over a connection.
type talk struct {
	*session
	ctx      context.Context
	dialog   dialog
	endpoint endpoint
	conn     duplex
	in       *bufio.Reader
	guard    *guard // if the client logs in at the backend itself
}

// run ends with the dialog's last action; the error is that of dialogFailed.
func (t *talk) run() (turnAction, error) {
	deadline, _ := t.ctx.Deadline()
	t.conn.SetDeadline(deadline)
	t.in = bufio.NewReaderSize(t.conn, maxResponse)
	for range maxResponses {
		line, err := t.in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return dialogFailed, fmt.Errorf("backend %v: a response of more than %d bytes", t.endpoint, maxResponse)
		case timedOut(err):
			return dialogFailed, fmt.Errorf("backend %v: backend-timeout", t.endpoint)
		case err != nil:
			return dialogFailed, fmt.Errorf("backend %v: %w", t.endpoint, err)
		}
		t.touch()
		next := t.dialog.line(trimEnd(string(line)))
		if how, err, over := t.do(next); over {
			return how, err
		}
	}
	return dialogFailed, fmt.Errorf("backend %v: more than %d lines before the login was answered", t.endpoint, maxResponses)
}

// do carries one turn out. It is over when the dialog is.
func (t *talk) do(next turn) (how turnAction, err error, over bool) {
	if next.pass != "" {
		pass := []byte(next.pass)
		if t.guard != nil {
			pass, _ = t.guard.responses(pass) // talk.run bounds a line
		}
		if err := t.say(pass); err != nil {
			return dialogFailed, err, true
		}
	}
	if next.send != "" {
		if _, err := t.conn.Write([]byte(next.send)); err != nil {
			return dialogFailed, fmt.Errorf("backend %v: %w", t.endpoint, err), true
		}
	}
	switch next.do {
	case dialogMore:
		return 0, nil, false
	case dialogFailed:
		return next.do, fmt.Errorf("backend %v: %s", t.endpoint, next.why), true
	case dialogTLS:
		if n := t.in.Buffered(); n > 0 { // it would be taken for the backend's own words (CVE-2011-0411, CVE-2020-16117)
			t.relay.count.injected.Add(1)
			return dialogFailed, fmt.Errorf("backend %v: %s", t.endpoint, injected(n)), true
		}
		tls, err := t.state.secureBackend(t.ctx, t.conn, t.endpoint)
		if err != nil {
			return dialogFailed, err, true
		}
		t.conn = tls
		t.in.Reset(tls)
		return t.do(t.dialog.secured())
	}
	return next.do, nil, true
}

// rest takes what the backend has sent behind the dialog.
func (t *talk) rest() []byte {
	rest, _ := t.in.Peek(t.in.Buffered())
	return bytes.Clone(rest) // the buffer is not kept
}

// hostname is what the relay calls itself.
func (r *Relay) hostname() string {
	if r.Hostname != "" {
		return r.Hostname
	}
	if name, err := os.Hostname(); err == nil && name != "" && printable(name) {
		return name
	}
	return "localhost"
}
