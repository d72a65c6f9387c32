package relay

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
)

// guarded runs a guard between the client and the backend.
type guarded struct {
	*session
	backend duplex

	mu    sync.Mutex // protects guard, and serializes writes to the client
	wake  sync.Cond
	guard protocol.Guard
	done  bool  // backendHalf has ended
	err   error // of backendHalf
}

// joinGuarded forwards through g until the login, and then as join does.
func (s *session) joinGuarded(backend duplex, g protocol.Guard, toBackend, toClient []byte) error {
	s.client.SetDeadline(time.Time{})
	backend.SetDeadline(time.Time{})
	g.Feed(toBackend)
	w := &guarded{session: s, backend: backend, guard: g}
	w.wake.L = &w.mu
	var half sync.WaitGroup
	half.Go(func() { w.backendHalf(toClient) })
	err := w.clientHalf()
	backend.SetReadDeadline(time.Unix(1, 0)) // the client has logged in or ended
	half.Wait()
	err = errors.Join(err, w.err)
	var end ended
	switch {
	case err == nil:
		toBackend, toClient := g.Rest()
		return s.join(backend, toBackend, toClient)
	case errors.As(err, &end):
		backend.Close()
	default:
		cutOff(backend, s.server.stop.Done(), s.touch)
		s.cutClient()
	}
	return err
}

// clientHalf forwards commands. It returns nil when the login is done or one side
// has ended.
func (w *guarded) clientHalf() error {
	in := make([]byte, readSize)
	for {
		next, err := w.next()
		if err != nil || next.Do == protocol.Open {
			return err
		}
		if next.ToBackend != "" {
			if _, err := io.WriteString(w.backend, next.ToBackend); err != nil {
				return &sideError{side: "backend", doing: "writing to", err: err}
			}
			w.fromClient.Add(int64(len(next.ToBackend)))
			w.touch()
		}
		if next.Do == protocol.More {
			n, err := w.client.Read(in)
			w.mu.Lock()
			w.guard.Feed(in[:n])
			w.mu.Unlock()
			switch {
			case n > 0:
				w.touch()
			case timedOut(err) || err == io.EOF: // backendHalf has ended, or the client has, and join will read that end again
				return nil
			case err != nil:
				return &sideError{side: "client", doing: "reading from", err: err}
			}
		}
	}
}

// next waits until the client's next command may be handled, and replies to the
// client if the guard does not forward the command. protocol.Open means that
// there is nothing more to guard.
func (w *guarded) next() (protocol.Step, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.guard.Open() && !w.done {
		next := w.guard.Next()
		switch next.Do {
		case protocol.Wait:
			w.wake.Wait()
			continue
		case protocol.HangUp:
			w.linger(w.client, next.ToClient)
			return next, ended(next.Why)
		}
		return next, w.say(next.ToClient)
	}
	return protocol.Step{Do: protocol.Open}, nil
}

// backendHalf forwards responses until the login or the end of the backend.
func (w *guarded) backendHalf(first []byte) {
	in := make([]byte, readSize)
	n := copy(in, first)
	first = first[n:]
	var err error
	for {
		over := w.pass(in[:n], err)
		if over {
			return
		}
		if n = copy(in, first); n > 0 {
			first = first[n:]
			continue
		}
		n, err = w.backend.Read(in)
	}
}

// pass sends the client what came from the backend; err is the error of that read.
func (w *guarded) pass(in []byte, err error) (over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.wake.Broadcast()
	out, bad := w.guard.Responses(in)
	if bad != nil {
		bad = fmt.Errorf("backend %s: %w", w.dest, bad)
	}
	if len(out) > 0 {
		w.touch()
		if err := w.say(string(out)); err != nil {
			bad = err
		}
		w.fromBackend.Add(int64(len(out)))
	}
	if bad == nil && err != nil && err != io.EOF && !timedOut(err) {
		bad = &sideError{side: "backend", doing: "reading from", err: err}
	}
	if bad == nil && err == nil && !w.guard.Open() {
		return false
	}
	w.done, w.err = true, bad
	w.client.SetReadDeadline(time.Unix(1, 0)) // wakes clientHalf if it is reading
	if bad != nil {
		w.backend.SetWriteDeadline(time.Unix(1, 0)) // wakes clientHalf if it is writing
	}
	return true
}
