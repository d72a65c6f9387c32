package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/admission"
	"github.com/seed-014b8713/sslfilter/internal/cut"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// session is one client connection, from Accept to its end.
type session struct {
	server *Server
	listen *listener
	number uint64
	raw    duplex
	log    *slog.Logger

	relay    *relay    // written under mu, by enter
	state    *state    // written under mu, by enter
	named    bool      // the server name chooses the relay
	sections *sections // the relay was chosen from them; nil before the choice

	client duplex       // raw, or TLS on it
	tls    *sslnet.Conn // nil without TLS
	peer   verdict      // about the client's certificate, after the handshake
	user   string       // as written in the table of users; no other name is logged
	dest   string       // the backend

	opened  time.Time
	moved   atomic.Int64 // time of the last transfer of data, in nanoseconds since opened
	expired atomic.Bool
	evicted atomic.Bool // makeRoom has ended the session

	betweenRequests atomic.Bool // mode http: the client has its response and has not sent the next request
	fromClient      atomic.Int64
	fromBackend     atomic.Int64

	http atomic.Pointer[httpConn] // mode http

	mu      sync.Mutex
	killed  bool
	taken   []*cut.Socket // taken by kill, ended by close
	backend net.Conn      // without TLS
	timer   *time.Timer
	idle    time.Duration // idle-timeout
}

func newSession(s *Server, l *listener, sec *sections, st *state, conn net.Conn) *session {
	raw, ok := conn.(duplex)
	if !ok {
		panic("sslrelay: a listener without TCP connections")
	}
	ses := &session{
		server: s, listen: l, number: s.serial.Add(1), raw: raw, client: raw, opened: time.Now(),
		relay: st.relay, state: st, named: sec.names != nil,
	}
	if ses.named {
		ses.relay = l.lobby
		ses.log = ses.logAs("listener", l.String())
	} else {
		ses.log = ses.logAs("relay", st.relay.name)
	}
	return ses
}

// logAs returns a log whose lines begin with an attribute and name the connection.
func (s *session) logAs(what, name string) *slog.Logger {
	return s.server.log.With(what, name, "connection", s.number, "client", s.raw.RemoteAddr().String())
}

// serve runs the session and logs its end.
func (s *session) serve() {
	defer s.server.end(s)
	defer s.close()
	defer func() {
		if r := recover(); r != nil && r != http.ErrAbortHandler {
			s.log.Error("panic", "error", fmt.Sprint(r), "stack", string(debug.Stack()))
			s.cutClient()
		}
	}()
	if s.named {
		s.log.Debug("accepted")
	} else {
		s.log.Debug("accepted", "listener", s.listen.String())
	}
	err := s.run()
	switch {
	case s.expired.Load():
		s.relay.count.idle.Add(1)
		err = errIdle
	case s.evicted.Load():
		s.relay.count.idle.Add(1)
		err = errEvicted
	case s.server.stop.Err() != nil && errors.Is(err, net.ErrClosed):
		err = errStopped
	}
	s.logEnd(err)
}

var (
	errIdle    = errors.New("idle-timeout")
	errEvicted = errors.New("idle connection closed to make room for another client (max-connections)")
	errStopped = errors.New("the relay was stopped")
	// errEmpty is the end of a connection on which the client sent nothing, such as
	// a port check.
	errEmpty = errors.New("the client sent nothing")
)

// clientError is a failure of the client, about which the operator of the relay can
// do nothing.
type clientError struct{ error }

func (e clientError) Unwrap() error { return e.error }

// ended is the reason of an end that is not a failure.
type ended string

func (e ended) Error() string { return string(e) }

// logEnd writes the log line of the connection. The level is warn only if the
// operator has to look at it.
func (s *session) logEnd(err error) {
	attrs := []any{"seconds", seconds(time.Since(s.opened)), "from_client", s.fromClient.Load(), "from_backend", s.fromBackend.Load()}
	if s.dest != "" {
		attrs = append(attrs, "backend", s.dest)
	}
	if s.user != "" {
		attrs = append(attrs, "user", s.user)
	}
	attrs = append(attrs, s.peer.attrs()...)
	s.relay.count.bytesFromClients.Add(s.fromClient.Load())
	s.relay.count.bytesFromBackend.Add(s.fromBackend.Load())
	var end ended
	var side *sideError
	switch {
	case s.empty(err):
		s.relay.count.empty.Add(1)
		s.log.Debug("connection ended", append(attrs, "why", errEmpty.Error())...)
	case err == nil:
		s.log.Info("connection ended", attrs...)
	case errors.As(err, &end):
		s.log.Info("connection ended", append(attrs, "why", string(end))...)
	case errors.As(err, &side) && (side.side == "client" || side.late): // many programs end without close_notify
		s.log.Info("connection ended", append(attrs, "why", side.Error())...)
	case errors.As(err, new(clientError)), err == errIdle, err == errEvicted, err == errStopped:
		s.log.Info("connection failed", append(attrs, "error", err)...)
	default:
		s.log.Warn("connection failed", append(attrs, "error", err)...)
	}
}

// empty reports whether the client ended the connection without sending anything,
// and nothing was forwarded to it.
func (s *session) empty(err error) bool {
	if errors.Is(err, errEmpty) {
		return true
	}
	var side *sideError
	ended := err == nil || errors.As(err, &side) && (side.side == "client" || side.late)
	return ended && s.tls == nil && s.state.conf.Protocol() == nil && s.fromClient.Load() == 0 && s.fromBackend.Load() == 0
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// run serves the connection until it ends.
func (s *session) run() error {
	if !s.named { // otherwise enter calls it, and handshake-timeout and command-timeout apply before
		s.watch()
	}
	if s.listen.endpoint.Security == config.DirectTLS {
		if err := s.secure(); err != nil {
			return err
		}
	}
	switch {
	case s.state.conf.Mode == config.ModeHTTP:
		return s.serveHTTP()
	case s.state.conf.Protocol() != nil:
		return s.serveFront()
	}
	return s.forward()
}

// secure performs the TLS handshake with the client. Its error is the reason in the
// log.
func (s *session) secure() error {
	limit := s.state.conf.HandshakeTimeout.Std()
	slot := s.acquireSlot(limit)
	if slot == nil {
		s.relay.count.handshakesFailed.Add(1)
		return errors.New("handshake: max-handshakes was reached during the whole handshake-timeout")
	}
	ctx, cancel := context.WithTimeout(s.server.stop, limit) // the wait for the slot does not count
	defer cancel()
	conn := s.serverConn()
	err := conn.HandshakeContext(admission.WithSlot(ctx, slot))
	kept := slot.Keep()
	slot.Release()
	if !kept {
		s.relay.count.handshakesFailed.Add(1)
		conn.Close()
		return clientError{errors.New("handshake: the client was too slow, and max-handshakes was reached")}
	}
	if err != nil && conn.Peer() == nil && s.listen.endpoint.Security == config.DirectTLS && s.server.stop.Err() == nil { // no byte has come
		conn.Close()
		return fmt.Errorf("handshake: %w", errEmpty)
	}
	state := conn.State()
	if count := s.relay.count.notResumed[state.NotResumed]; count != nil {
		count.Add(1)
	}
	if err != nil {
		s.relay.count.handshakesFailed.Add(1)
		return s.handshakeError(conn, err)
	}
	s.tls, s.client = conn, conn
	s.touch()
	s.relay.count.handshakes.Add(1)
	if state.Resumed {
		s.relay.count.resumed.Add(1)
	}
	s.peer = s.state.verdict(conn)
	switch {
	case !s.state.server.AsksClientCert():
	case s.peer.Denied:
		s.relay.count.certDenied.Add(1)
	case s.peer.Verdict == verdictValid:
		s.relay.count.certValid.Add(1)
	case s.peer.Verdict == verdictNone:
		s.relay.count.certNone.Add(1)
	default:
		s.relay.count.certInvalid.Add(1)
	}
	s.log.Debug("TLS", s.peer.attrs()...)
	if s.peer.Denied && s.state.conf.Mode != config.ModeHTTP { // OpenSSL sends no alert access_denied after the handshake
		s.cutClient()
		return clientError{config.ErrNotAllowed}
	}
	return nil
}

// acquireSlot waits until max-handshakes allows another handshake. It returns nil
// after limit, and when the relay is stopped.
func (s *session) acquireSlot(limit time.Duration) *admission.Slot {
	ctx, cancel := context.WithTimeout(s.server.stop, limit)
	defer cancel()
	return s.server.handshakes.Acquire(ctx.Done(), s.raw.RemoteAddr(), func() { s.raw.Close() })
}

// handshakeError returns the reason of a failed handshake for the log. A client that
// speaks plain HTTP gets an HTTP response.
func (s *session) handshakeError(conn *sslnet.Conn, err error) error {
	var refused *sslfilter.ServerNameError
	switch {
	case errors.As(err, &refused) && refused.Err == nil:
		s.linger(s.raw, "")
		err = noRelay(refused)
	case errors.Is(err, context.DeadlineExceeded):
		err = errors.New("handshake-timeout")
	case isPlainHTTP(err):
		s.relay.count.plainHTTP.Add(1)
		if !s.state.conf.NoPlainHTTPReply && s.listen.endpoint.Security == config.DirectTLS {
			s.linger(s.raw, plainHTTPReply)
		}
		err = errors.New("the client sent a plain HTTP request to a TLS port")
	default:
		if s.peer = refusedVerdict(conn, err); s.peer.Verdict != verdictNone {
			s.relay.count.certRefused.Add(1)
		}
		s.linger(s.raw, "")
	}
	conn.Close()
	return clientError{fmt.Errorf("handshake: %w", err)}
}

const plainHTTPReply = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 51\r\nConnection: close\r\n\r\n" +
	"This port speaks HTTPS. Use https:// in the address"

// isPlainHTTP reports whether the client speaks HTTP without TLS.
func isPlainHTTP(err error) bool {
	var e *sslfilter.Error
	return errors.As(err, &e) && e.PlainHTTP()
}

// linger sends a last text and gives the client time to read it.
func (s *session) linger(conn duplex, text string) {
	end := time.Now().Add(cut.LingerTime)
	conn.SetDeadline(end)
	if text != "" {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
	if cut.HalfClose(conn) {
		cut.Discard(conn, end, 0, cut.LingerBytes)
	}
}

// watch closes the connection when no data has been transferred for idle-timeout.
func (s *session) watch() {
	s.touch()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = s.state.conf.IdleTimeout.Std()
	if s.timer != nil { // of another relay, before STARTTLS
		s.timer.Reset(s.idle)
		return
	}
	s.timer = time.AfterFunc(s.idle, func() {
		if c := s.http.Load(); c != nil && c.awaitsAnswer() {
			s.touch() // response-timeout applies, after which the client gets a response
		}
		s.mu.Lock()
		rest := s.idle - (time.Since(s.opened) - time.Duration(s.moved.Load()))
		if rest > 0 && !s.killed {
			s.timer.Reset(rest)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		s.expired.Store(true)
		s.kill()
	})
}

func (s *session) touch() { s.moved.Store(int64(time.Since(s.opened))) }

// kill ends the session from another goroutine: calls of Read and Write return at
// once, and close resets the connections.
func (s *session) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killed = true
	s.taken = append(s.taken, cut.Take(s.raw))
	if s.backend != nil {
		s.taken = append(s.taken, cut.Take(s.backend))
	}
	if c := s.http.Load(); c != nil {
		c.cancel() // the relay may be writing to a backend that does not read
	}
}

// setBackend makes the connection known to kill. It returns false if kill has been
// called before.
func (s *session) setBackend(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backend = conn
	return !s.killed
}

// close closes all connections. If the session has ended in an orderly way, both
// directions have ended before.
func (s *session) close() {
	s.mu.Lock()
	s.killed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	taken := s.taken
	s.mu.Unlock()
	var wait sync.WaitGroup
	for _, socket := range taken {
		wait.Go(func() { socket.Reset(s.server.stop.Done(), nil) })
	}
	wait.Wait()
	s.client.Close()
	s.raw.Close()
}

// cutClient ends the client's connection in a way that is not orderly.
func (s *session) cutClient() { cutOff(s.client, s.server.stop.Done(), s.touch) }

// forward connects to the backend and joins it with the client, in mode tcp.
func (s *session) forward() error {
	ctx, cancel := context.WithTimeout(s.server.stop, s.state.conf.BackendTimeout.Std())
	backend, err := s.dial(ctx, *s.state.backend)
	cancel() // not deferred, because its timer would exist as long as the connection
	if err != nil {
		s.relay.count.backendFailed.Add(1)
		s.cutClient() // without a protocol the client cannot be told
		return err
	}
	return s.join(backend, nil, nil)
}

// join forwards until both sides have ended.
func (s *session) join(backend duplex, toBackend, toClient []byte) error {
	defer backend.Close()
	s.relay.count.forwarded.Add(1)
	s.client.SetDeadline(time.Time{})
	backend.SetDeadline(time.Time{})
	p := pipe{client: s.client, backend: backend, touch: s.touch, fromClient: &s.fromClient, fromBackend: &s.fromBackend}
	err := p.run(toBackend, toClient)
	if err != nil {
		var wait sync.WaitGroup
		wait.Go(func() { cutOff(backend, s.server.stop.Done(), s.touch) })
		s.cutClient()
		wait.Wait()
	}
	return err
}

// timedOut reports whether a deadline ended a call.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
