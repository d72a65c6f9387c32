package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/accept"
	"github.com/seed-014b8713/sslfilter/internal/admission"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
)

// Server runs the relays of a Config. Its methods are safe for concurrent use.
type Server struct {
	log        *slog.Logger
	conf       config.Config // as at the start; a reload does not change it
	relays     []*relay
	gate       *gate
	handshakes *admission.Queue
	process    process

	stop    context.Context // ends with Close
	stopNow context.CancelFunc
	ending  atomic.Bool
	serial  atomic.Uint64

	mu       sync.Mutex
	sessions map[*session]struct{}
	wait     sync.WaitGroup // sessions and accept loops

	reloading sync.Mutex
	refusals  atomic.Int64 // Unix time of the last refusal that was logged
}

// relay is one running [[relay]].
type relay struct {
	name      string
	mode      string
	protocol  *protocol.Protocol // nil in modes tcp and http
	listeners []listener
	count     *counters
	current   atomic.Pointer[state]
	http      *http.Server // mode http
	handoff   *handoff
}

type listener struct {
	net.Listener
	endpoint config.Endpoint
}

// New loads the certificates and opens all listeners. Serve accepts connections. An
// error names the relay and the key.
func New(c *config.Config, log *slog.Logger) (*Server, error) {
	s := &Server{
		log: log, conf: *c, handshakes: admission.New(c.MaxHandshakes),
		gate:     &gate{max: c.MaxConnections, maxPerClient: c.MaxConnsPerClient},
		sessions: make(map[*session]struct{}),
	}
	if err := c.CheckAddresses(); err != nil {
		return nil, fmt.Errorf("sslrelay: %w", err)
	}
	s.stop, s.stopNow = context.WithCancel(context.Background())
	for i := range c.Relays {
		if err := s.add(&c.Relays[i]); err != nil {
			s.abandon()
			return nil, fmt.Errorf("sslrelay: relay %q: %w", c.Relays[i].Name, err)
		}
	}
	s.publish()
	for _, r := range s.relays {
		for _, l := range r.listeners {
			log.Info("listening", "relay", r.name, "mode", r.mode, "address", string(l.endpoint.Security)+":"+l.Addr().String())
		}
	}
	return s, nil
}

func (s *Server) add(conf *config.Relay) error {
	r := &relay{name: conf.Name, mode: conf.Mode, protocol: conf.Protocol(), count: newCounters(), handoff: newHandoff()}
	s.relays = append(s.relays, r)
	st, err := newState(conf, s.relayLog(r))
	if err != nil {
		return err
	}
	r.current.Store(st)
	r.count.notAfter.Set(st.notAfter())
	for _, address := range conf.Listen {
		e, err := config.ParseEndpoint(address, config.DirectTLS)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		l, err := net.Listen("tcp", e.Address)
		if err != nil {
			return fmt.Errorf("listen: %w%s", err, lowPortHint(err))
		}
		r.listeners = append(r.listeners, listener{l, e})
	}
	if r.mode == config.ModeHTTP {
		r.http = s.newHTTPServer(r)
	}
	return nil
}

func lowPortHint(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return " (ports below 1024 need CAP_NET_BIND_SERVICE, which the systemd unit gives)"
	}
	return ""
}

func (s *Server) relayLog(r *relay) *slog.Logger { return s.log.With("relay", r.name) }

// abandon closes everything that New has opened.
func (s *Server) abandon() {
	for _, r := range s.relays {
		for _, l := range r.listeners {
			l.Close()
		}
		if st := r.current.Load(); st != nil {
			st.retire()
		}
	}
	s.stopNow()
}

// Addrs returns the addresses that a relay listens on, in the order of its
// configuration.
func (s *Server) Addrs(name string) (addrs []net.Addr) {
	for _, r := range s.relays {
		if r.name == name {
			for _, l := range r.listeners {
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
	for _, r := range s.relays {
		if r.http != nil {
			go r.http.Serve(r.handoff)
		}
		for _, l := range r.listeners {
			accepting.Go(func() { s.accept(r, l) })
		}
	}
	accepting.Wait()
	return nil
}

// accept runs one listener.
func (s *Server) accept(r *relay, l listener) {
	retry := func(err error, pause time.Duration) bool { // too many open files, for example; the client waits in the kernel's queue
		if s.ending.Load() {
			return false
		}
		s.log.Error("accept", "relay", r.name, "error", err, "retry", pause)
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
		r.count.accepted.Add(1)
		why := s.gate.enter(conn.RemoteAddr(), false)
		if why == limitAll && s.makeRoom(conn.RemoteAddr()) {
			why = s.gate.enter(conn.RemoteAddr(), true)
		}
		if why != "" {
			r.count.refused.Add(1)
			s.refuse(r, conn, why)
			continue
		}
		s.begin(r, l, conn)
	}
}

// refuse closes a connection that exceeds a limit. It logs at most once a second.
func (s *Server) refuse(r *relay, conn net.Conn, why string) {
	if now := time.Now().Unix(); s.refusals.Swap(now) != now {
		s.log.Warn("connection refused", "relay", r.name, "client", conn.RemoteAddr().String(), "limit", why)
	}
	conn.Close()
}

// begin starts the session of a connection.
func (s *Server) begin(r *relay, l listener, conn net.Conn) {
	st := r.current.Load()
	for !st.refs.Acquire() { // a reload has just replaced it
		if s.ending.Load() { // the state has been retired, and no other state follows
			conn.Close()
			s.gate.leave(conn.RemoteAddr())
			return
		}
		st = r.current.Load()
	}
	ses := newSession(s, r, st, l.endpoint, conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.Load() {
		conn.Close()
		s.gate.leave(conn.RemoteAddr())
		st.release()
		return
	}
	s.sessions[ses] = struct{}{}
	s.wait.Add(1)
	r.count.active.Add(1)
	go ses.serve()
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
	for _, r := range s.relays {
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
	for _, r := range s.relays {
		for _, l := range r.listeners {
			l.Close()
		}
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
	for _, r := range s.relays {
		if r.http != nil {
			r.http.Close()
			r.handoff.Close()
		}
	}
	s.wait.Wait()
	for _, r := range s.relays {
		if st := r.current.Load(); st != nil {
			st.retire()
		}
	}
}

// Reload applies a new configuration to new connections: certificates, CAs, CRLs,
// backends, users and timeouts. If it contains an error or a change that needs a
// restart, Reload changes nothing and returns an error.
func (s *Server) Reload(c *config.Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	fresh, err := s.prepare(c)
	if err != nil {
		s.process.reloadsFailed.Add(1)
		return fmt.Errorf("sslrelay: reload: %w", err)
	}
	for i, r := range s.relays {
		r.count.notAfter.Set(fresh[i].notAfter())
		if old := r.current.Swap(fresh[i]); old != nil {
			old.retire()
		}
		if s.ending.Load() { // Close may have retired the old state and missed this one
			fresh[i].retire()
		}
	}
	s.process.reloads.Add(1)
	s.process.reloaded.Set(time.Now().Unix())
	return nil
}

// ReloadFailed counts a reload whose configuration could not be read.
func (s *Server) ReloadFailed() { s.process.reloadsFailed.Add(1) }

// prepare makes new states for all relays.
func (s *Server) prepare(c *config.Config) (fresh []*state, err error) {
	if s.ending.Load() {
		return nil, errors.New("the relay is shutting down")
	}
	if what := config.NeedsRestart(&s.conf, c); what != "" {
		return nil, fmt.Errorf("a change of %s needs a restart", what)
	}
	for i, r := range s.relays {
		st, err := newState(&c.Relays[i], s.relayLog(r))
		if err != nil {
			for _, st := range fresh {
				st.retire()
			}
			return nil, fmt.Errorf("relay %q: %w", r.name, err)
		}
		fresh = append(fresh, st)
	}
	return fresh, nil
}
