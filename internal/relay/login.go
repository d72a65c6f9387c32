package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
)

// readSize is the size of a read until the login, in bytes.
const readSize = 4096

// transparent reports whether the client logs in at the backend itself: the login
// does not choose the backend, and TLS is active or not wanted.
func (s *session) transparent() bool {
	return !s.state.conf.ByUser() && (s.tls != nil || s.listen.endpoint.Security == config.Plain)
}

// serveFront speaks the protocol with the client until a backend takes over.
func (s *session) serveFront() error {
	conf := s.state.conf
	f := conf.Protocol().Front(protocol.FrontConfig{
		Greeting: conf.Greeting, Hostname: conf.Hostname, Capabilities: conf.Capabilities,
		CanTLS: s.listen.endpoint.Security == config.StartTLS, TLS: s.tls != nil,
		PlainLogin: conf.AllowPlaintext || s.listen.endpoint.Security == config.Plain,
		Anonymous:  conf.AllowUnauthenticated, MaxLine: conf.MaxLine,
	})
	deadline := time.Now().Add(conf.CommandTimeout.Std())
	s.client.SetDeadline(deadline)
	if s.transparent() {
		return s.hand(f, true)
	}
	if err := s.say(f.Greeting()); err != nil {
		return err
	}
	buf := make([]byte, readSize)
	next := f.Next()
	for {
		if err := s.say(next.ToClient); err != nil {
			return err
		}
		switch next.Do {
		case protocol.More:
			n, err := s.client.Read(buf)
			switch {
			case n > 0:
				f.Feed(buf[:n])
				clear(buf[:n])
				s.touch()
			case timedOut(err):
				s.linger(s.client, f.Farewell(textTimeout))
				return errors.New("command-timeout")
			case err != nil:
				return &sideError{side: "client", doing: "reading from", err: err}
			}
		case protocol.StartTLS:
			if n := len(f.Rest()); n > 0 { // the front should have refused it
				return s.hangUp(protocol.Step{Injected: n, Why: protocol.Injected(n)})
			}
			if err := s.secure(); err != nil {
				return err
			}
			s.client.SetDeadline(deadline)
			f.Secured()
			if s.transparent() {
				return s.hand(f, false)
			}
		case protocol.HangUp:
			return s.hangUp(next)
		case protocol.Connect:
			if s.tls == nil && !s.enter("") { // without TLS, the client has no server name
				s.linger(s.client, "")
				return errNoDefault
			}
			if next.Login == nil {
				return s.hand(f, false)
			}
			answer, err := s.try(f, next.Login)
			if answer == nil {
				return err
			}
			next = *answer
			continue
		}
		next = f.Next()
	}
}

// textTimeout is the reason that a client is told when command-timeout has passed.
const textTimeout = "timeout exceeded"

// hangUp ends a connection after the last words of the front.
func (s *session) hangUp(last protocol.Step) error {
	s.linger(s.client, "")
	if last.Injected > 0 {
		s.relay.count.injected.Add(1)
		return fmt.Errorf("refused: %s", last.Why)
	}
	return ended(last.Why)
}

// hand connects the backend for a client that logs in at the backend itself.
func (s *session) hand(f protocol.Front, greet bool) error {
	answer, err := s.attempt(f, nil, *s.state.backend, greet)
	if answer == nil {
		return err
	}
	s.say(answer.ToClient)
	s.linger(s.client, "")
	return ended("the backend failed") // the log has the reason
}

// try connects the backend of a login. If it returns a step, the relay carries out
// that step and goes on with the client; otherwise the connection has ended.
func (s *session) try(f protocol.Front, l *protocol.Login) (*protocol.Step, error) {
	e, known, ok := s.state.route(l.User)
	if !ok {
		s.relay.count.loginsRefused.Add(1)
		s.log.Info("login refused", "why", "no backend for this user")
		answer := f.(protocol.LoginFront).Unknown(l)
		return &answer, nil
	}
	s.user = known
	return s.attempt(f, l, e, false)
}

// attempt runs the dialog with a backend and joins the client and the backend if
// the backend accepts the client.
func (s *session) attempt(f protocol.Front, l *protocol.Login, e config.Endpoint, greet bool) (*protocol.Step, error) {
	ctx, cancel := context.WithTimeout(s.server.stop, s.state.conf.BackendTimeout.Std())
	defer cancel()
	backend, err := s.dial(ctx, e)
	if err != nil {
		return s.noBackend(f, l, err)
	}
	p := s.state.conf.Protocol()
	t := talk{session: s, ctx: ctx, endpoint: e, conn: backend, dialog: p.Dialog(protocol.DialogConfig{
		Login: l, StartTLS: e.Security == config.StartTLS, Greet: greet,
		Hostname: s.state.conf.Hostname, Ready: s.state.conf.Greeting,
	})}
	if l == nil && p.Guard != nil && (s.tls != nil || e.Security != config.Plain) {
		t.guard = p.Guard(protocol.GuardConfig{TLS: s.tls != nil, MaxLine: s.state.conf.MaxLine})
	}
	how, err := t.run()
	switch how {
	case protocol.Open:
		if l != nil && !l.Unauthenticated() {
			s.relay.count.logins.Add(1)
			s.log.Info("login", s.where()...)
		}
		if t.guard != nil && !t.guard.Open() {
			return nil, s.joinGuarded(t.conn, t.guard, f.Rest(), t.dialog.Rest())
		}
		return nil, s.join(t.conn, f.Rest(), t.dialog.Rest())
	case protocol.Denied:
		t.conn.Close()
		s.relay.count.loginsRefused.Add(1)
		s.log.Info("login refused", append(s.where(), "why", "rejected by the backend")...)
		answer := f.(protocol.LoginFront).Refused()
		return &answer, nil
	}
	t.conn.Close()
	return s.noBackend(f, l, err)
}

// where returns the backend and, if the table of users contains it, the user.
func (s *session) where() []any {
	attrs := []any{"backend", s.dest}
	if s.user != "" {
		attrs = append(attrs, "user", s.user)
	}
	return attrs
}

// noBackend tells the log and the client that the backend cannot be used.
func (s *session) noBackend(f protocol.Front, l *protocol.Login, err error) (*protocol.Step, error) {
	if s.server.stop.Err() != nil {
		return nil, errStopped
	}
	var side *sideError
	if errors.As(err, &side) && side.side == "client" {
		return nil, err
	}
	s.relay.count.backendFailed.Add(1)
	s.log.Warn("backend failed", "error", err)
	answer := f.Unavailable(l)
	return &answer, nil
}

// say sends a reply to the client.
func (s *session) say(reply string) error {
	if reply == "" {
		return nil
	}
	if _, err := io.WriteString(s.client, reply); err != nil {
		return &sideError{side: "client", doing: "writing to", err: err}
	}
	return nil
}

// talk runs a dialog over a connection.
type talk struct {
	*session
	ctx      context.Context
	dialog   protocol.Dialog
	endpoint config.Endpoint
	conn     duplex
	guard    protocol.Guard // nil if there is nothing to guard
}

// run returns the dialog's last action. The error is that of protocol.Failed.
func (t *talk) run() (protocol.Action, error) {
	deadline, _ := t.ctx.Deadline()
	t.conn.SetDeadline(deadline)
	buf := make([]byte, readSize)
	next := t.dialog.Next()
	for {
		if err := t.send(next); err != nil {
			return protocol.Failed, err
		}
		switch next.Do {
		case protocol.Open, protocol.Denied:
			return next.Do, nil
		case protocol.More:
			n, err := t.conn.Read(buf)
			switch {
			case n > 0:
				t.dialog.Feed(buf[:n])
				t.touch()
			case timedOut(err):
				return protocol.Failed, fmt.Errorf("backend %v: backend-timeout", t.endpoint)
			case err != nil:
				return protocol.Failed, fmt.Errorf("backend %v: %w", t.endpoint, err)
			}
		case protocol.StartTLS:
			if n := len(t.dialog.Rest()); n > 0 { // anyone on the network may have sent it (CVE-2011-0411, CVE-2020-16117)
				t.relay.count.injected.Add(1)
				return protocol.Failed, fmt.Errorf("backend %v: %s", t.endpoint, protocol.Injected(n))
			}
			tls, err := t.state.secureBackend(t.ctx, t.conn, t.endpoint)
			if err != nil {
				return protocol.Failed, err
			}
			t.conn = tls
			next = t.dialog.Secured()
			continue
		case protocol.Failed:
			return protocol.Failed, fmt.Errorf("backend %v: %s", t.endpoint, next.Why)
		}
		next = t.dialog.Next()
	}
}

// send sends the bytes of a step.
func (t *talk) send(next protocol.Step) error {
	pass := next.ToClient
	if pass != "" && t.guard != nil {
		guarded, _ := t.guard.Responses([]byte(pass)) // cannot fail: the dialog has checked the length of the line
		pass = string(guarded)
	}
	if err := t.say(pass); err != nil {
		return err
	}
	if next.ToBackend == "" {
		return nil
	}
	if _, err := io.WriteString(t.conn, next.ToBackend); err != nil {
		return fmt.Errorf("backend %v: %w", t.endpoint, err)
	}
	return nil
}
