package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/accept"
	"github.com/seed-014b8713/sslfilter/internal/admission"
	"github.com/seed-014b8713/sslfilter/internal/refcount"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// Server runs the relays of a Config. Its methods are safe for concurrent use.
type Server struct {
	log        *slog.Logger
	listeners  []*listener
	gate       *gate
	handshakes *admission.Queue
	keys       keyring
	process    process

	stop    context.Context // ends with Close
	stopNow context.CancelFunc
	ending  atomic.Bool
	serial  atomic.Uint64

	mu       sync.Mutex
	sessions map[*session]struct{}
	wait     sync.WaitGroup // sessions and accept loops
	relays   []*relay       // with those that a reload has removed and that still have connections

	reloading sync.Mutex
	conf      config.Config // in use
	refusals  atomic.Int64  // Unix time of the last refusal that was logged
}

// relay is one running [[relay]]. It lives as long as a configuration has its name,
// and then until its last connection ends.
type relay struct {
	name    string
	count   *counters
	current atomic.Pointer[state]
	http    *http.Server // mode http
	handoff *handoff
	tls     *sslsession.Cache      // sessions of the backends
	keys    sslfilter.TicketKeys   // of its clients, without [sessions]
	stored  *sslnet.ServerSessions // of its clients, with sessions.stateful; otherwise nil

	removed bool           // by a reload
	users   refcount.Count // its states, and the configuration
}

// New loads the certificates and opens all listeners. Serve accepts connections. An
// error names the relay and the key.
func New(c *config.Config, log *slog.Logger) (*Server, error) { return NewWith(c, log, nil) }

// NewWith is New for a program that can open the store of [sessions].
func NewWith(c *config.Config, log *slog.Logger, sessions OpenSessions) (*Server, error) {
	s := &Server{
		log: log, handshakes: admission.New(c.MaxHandshakes),
		gate:     &gate{max: c.MaxConnections, maxPerClient: c.MaxConnsPerClient},
		sessions: make(map[*session]struct{}),
	}
	s.publish()
	s.stop, s.stopNow = context.WithCancel(context.Background())
	err := s.openSessions(&c.Sessions, sessions)
	if err == nil {
		err = s.open(c)
	}
	if err != nil {
		s.stopNow()
		s.closeSessions()
		return nil, fmt.Errorf("sslrelay: %w", err)
	}
	for _, l := range s.listeners {
		var names, modes []string
		for _, st := range l.current.Load().all {
			names, modes = append(names, st.conf.Name), append(modes, st.conf.Mode)
		}
		log.Info("listening", "relay", strings.Join(names, ", "), "mode", strings.Join(slices.Compact(modes), ", "),
			"address", string(l.endpoint.Security)+":"+l.Addr().String())
	}
	return s, nil
}

// open makes the relays and opens their listeners.
func (s *Server) open(c *config.Config) error {
	if err := c.CheckAddresses(); err != nil {
		return err
	}
	p, err := s.plan(c)
	if err != nil {
		return err
	}
	for i, conf := range c.Listeners() {
		l, err := net.Listen("tcp", conf.Address)
		if err != nil {
			for _, l := range s.listeners {
				l.Close()
			}
			p.discard()
			return fmt.Errorf("relay %q: listen: %w%s", c.Relays[conf.Relays[0]].Name, err, lowPortHint(err))
		}
		s.listeners = append(s.listeners, newListener(l, conf, p.sections[i]))
	}
	s.apply(p)
	return nil
}

func lowPortHint(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return " (ports below 1024 need CAP_NET_BIND_SERVICE, which the systemd unit gives)"
	}
	return ""
}

func (s *Server) relayLog(name string) *slog.Logger { return s.log.With("relay", name) }

// all returns the relays, with those that a reload has removed and that still have
// connections.
func (s *Server) all() []*relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.relays)
}

// Addrs returns the addresses that a relay listens on, in the order of its
// configuration.
func (s *Server) Addrs(name string) (addrs []net.Addr) {
	for _, l := range s.listeners {
		for _, st := range l.current.Load().all {
			if st.conf.Name == name {
				addrs = append(addrs, l.Addr())
			}
		}
	}
	return addrs
}

// Serve accepts connections until Shutdown or Close is called. It returns when the
// listeners are closed; connections may still be open.
func (s *Server) Serve() error {
	var accepting sync.WaitGroup
	for _, l := range s.listeners {
		accepting.Go(func() { s.accept(l) })
	}
	accepting.Wait()
	return nil
}

// accept runs one listener.
func (s *Server) accept(l *listener) {
	retry := func(err error, pause time.Duration) bool { // too many open files, for example; the client waits in the kernel's queue
		if s.ending.Load() {
			return false
		}
		s.log.Error("accept", "listener", l.String(), "error", err, "retry", pause)
		return true
	}
	for {
		conn, err := accept.Next(l, s.stop.Done(), retry)
		switch {
		case err != nil:
			return
		case s.ending.Load():
			conn.Close()
			return
		}
		r := l.entrance()
		r.count.accepted.Add(1)
		why := s.gate.enter(conn.RemoteAddr(), false)
		if why == limitAll && s.makeRoom(conn.RemoteAddr()) {
			why = s.gate.enter(conn.RemoteAddr(), true)
		}
		if why != "" {
			r.count.refused.Add(1)
			s.refuse(l, conn, why)
			continue
		}
		s.begin(l, conn)
	}
}

// refuse closes a connection that exceeds a limit. It logs at most once a second.
func (s *Server) refuse(l *listener, conn net.Conn, why string) {
	if now := time.Now().Unix(); s.refusals.Swap(now) != now {
		s.log.With(l.attr()...).Warn("connection refused", "client", conn.RemoteAddr().String(), "limit", why)
	}
	conn.Close()
}

// begin starts the session of a connection.
func (s *Server) begin(l *listener, conn net.Conn) {
	sec, st := l.acquire((*sections).begin, &s.ending)
	if st == nil {
		conn.Close()
		s.gate.leave(conn.RemoteAddr())
		return
	}
	ses := newSession(s, l, sec, st, conn)
	if !s.register(ses) {
		conn.Close()
		s.gate.leave(conn.RemoteAddr())
		st.release()
		return
	}
	go ses.serve()
}

// register adds a session, unless the server ends.
func (s *Server) register(ses *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.Load() {
		return false
	}
	s.sessions[ses] = struct{}{}
	s.wait.Add(1)
	ses.relay.count.active.Add(1)
	return true
}

// end removes a session.
func (s *Server) end(ses *session) {
	s.mu.Lock()
	delete(s.sessions, ses)
	s.mu.Unlock()
	ses.relay.count.active.Add(-1)
	s.gate.leave(ses.raw.RemoteAddr())
	ses.state.release()
	s.wait.Done()
}

// Shutdown closes the listeners and waits for the connections to end. When ctx ends,
// it closes the remaining connections.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closeListeners()
	for _, r := range s.all() {
		if r.http != nil {
			go r.http.Shutdown(ctx) // idle connections end at once
		}
	}
	done := make(chan struct{})
	go func() {
		s.wait.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.Close()
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		left := len(s.sessions)
		s.mu.Unlock()
		s.Close()
		return fmt.Errorf("sslrelay: %d connections had to be closed: %w", left, ctx.Err())
	}
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	s.ending.Store(true) // no more sessions begin
	s.mu.Unlock()
	for _, l := range s.listeners {
		l.Close()
	}
}

// Close closes all listeners and connections.
func (s *Server) Close() {
	s.closeListeners()
	s.stopNow()
	s.mu.Lock()
	for ses := range s.sessions {
		ses.kill()
	}
	s.mu.Unlock()
	relays := s.all()
	for _, r := range relays {
		r.closeHTTP()
	}
	s.wait.Wait()
	for _, r := range relays {
		if st := r.current.Load(); st != nil {
			st.retire()
		}
	}
	s.closeSessions()
}
