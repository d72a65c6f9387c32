package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// guarded runs a guard between the client and the backend.
type guarded struct {
	*session
	backend duplex
	buf     []byte // of the client

	mu    sync.Mutex // of guard; held while the client is written to
	wake  sync.Cond
	guard *guard
	done  bool  // the backend's half is over
	err   error // of the backend's half
}

// joinGuarded forwards under the eyes of g until the login, and then as join does.
func (s *session) joinGuarded(backend duplex, g *guard, toBackend, toClient []byte) error {
	s.client.SetDeadline(time.Time{})
	backend.SetDeadline(time.Time{})
	w := &guarded{session: s, backend: backend, buf: toBackend, guard: g}
	w.wake.L = &w.mu
	var half sync.WaitGroup
	half.Go(func() { w.backendHalf(toClient) })
	err := w.clientHalf()
	backend.SetReadDeadline(time.Unix(1, 0)) // the login has come by the client, or the client has ended
	half.Wait()
	err = errors.Join(err, w.err)
	var end ended
	switch {
	case err == nil:
		return s.join(backend, w.buf, g.rest())
	case errors.As(err, &end):
		backend.Close()
	default:
		cutOff(backend, s.server.stop.Done(), s.touch)
		s.cutClient()
	}
	return err
}

// clientHalf forwards commands. It ends without an error when there is nothing
// more to guard.
func (w *guarded) clientHalf() error {
	in := make([]byte, readSize)
	for {
		send, do, err := w.next()
		switch {
		case err != nil || do == hangUp:
			return err
		case do == forward:
			if _, err := w.backend.Write(send); err != nil {
				return &sideError{side: "backend", doing: "writing to", err: err}
			}
			w.fromClient.Add(int64(len(send)))
			w.touch()
		case do == more:
			n, err := w.client.Read(in)
			w.buf = append(w.buf, in[:n]...)
			switch {
			case n > 0:
				w.touch()
			case timedOut(err) || err == io.EOF: // the backend's half is over, or join sees the end again
				return nil
			case err != nil:
				return &sideError{side: "client", doing: "reading from", err: err}
			}
		}
	}
}

// next waits until the client may go on, and says what to do then: forward
// bytes, read more of the client, look again, or end.
func (w *guarded) next() (send []byte, do action, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.guard
	for g.busy && !g.open && !w.done {
		w.wake.Wait()
	}
	if g.open || w.done {
		return nil, hangUp, nil
	}
	n := min(g.raw, len(w.buf))
	if g.raw == 0 {
		n = bytes.IndexByte(w.buf, '\n') + 1
		if max := w.state.conf.MaxLine; n > max || n == 0 && len(w.buf) > max {
			w.linger(w.client, string(newFront(w.relay.mode, frontConfig{}).farewell(textTooLong)))
			return nil, hangUp, ended(textTooLong)
		}
	}
	if n == 0 {
		return nil, more, nil
	}
	line := w.buf[:n:n]
	w.buf = w.buf[n:]
	if g.raw > 0 {
		g.raw -= n
		return line, forward, nil
	}
	reply := g.command(string(line))
	if reply == "" {
		return line, forward, nil
	}
	if err := w.say([]byte(reply)); err != nil {
		return nil, hangUp, err
	}
	if g.hangUp {
		w.linger(w.client, "")
		return nil, hangUp, ended("a literal in STARTTLS")
	}
	return nil, again, nil
}

// backendHalf passes responses on until the login or the end of the backend.
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

// pass gives the client what came from the backend; err is that of the read.
func (w *guarded) pass(in []byte, err error) (over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.wake.Broadcast()
	out, bad := w.guard.responses(in)
	if bad != nil {
		bad = fmt.Errorf("backend %s: %w", w.dest, bad)
	}
	if len(out) > 0 {
		w.touch()
		if err := w.say(out); err != nil {
			bad = err
		}
		w.fromBackend.Add(int64(len(out)))
	}
	if bad == nil && err != nil && err != io.EOF && !timedOut(err) {
		bad = &sideError{side: "backend", doing: "reading from", err: err}
	}
	if bad == nil && err == nil && !w.guard.open {
		return false
	}
	w.done, w.err = true, bad
	w.client.SetReadDeadline(time.Unix(1, 0)) // clientHalf may wait there,
	if bad != nil {
		w.backend.SetWriteDeadline(time.Unix(1, 0)) // or here
	}
	return true
}
