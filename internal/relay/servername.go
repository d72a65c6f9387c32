package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/bounded"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// enter moves the session to the relay that serves a server name, if names choose the
// relay. It returns false if no relay serves the name. It looks in the current
// configuration, which may be newer than the one with which the session began.
func (s *session) enter(name string) bool {
	if !s.named {
		return true
	}
	sec, st := s.listen.acquire(func(sec *sections) *state { return sec.find(name) }, &s.server.ending)
	if st == nil {
		return false
	}
	before, old := s.relay, s.state
	s.mu.Lock()
	s.relay, s.state, s.sections = st.relay, st, sec
	s.mu.Unlock()
	s.watch()
	before.count.active.Add(-1)
	st.relay.count.accepted.Add(1)
	st.relay.count.active.Add(1)
	old.release()
	s.log = s.logAs("relay", st.relay.name)
	if name != "" {
		s.log = s.log.With("servername", bounded.Text(name))
	}
	return true
}

// serverConn returns the TLS connection with the client, before its handshake.
func (s *session) serverConn() *sslnet.Conn {
	if !s.named {
		conn := sslnet.Server(s.raw, s.state.server)
		conn.SetServerSessions(s.state.relay.stored) // cannot fail: the handshake has not begun
		return conn
	}
	conn := sslnet.Server(s.raw, nil)
	conn.SetChoose(func(ctx context.Context, below net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) { // likewise
		chosen, err := s.choose(ctx, below, hello)
		if chosen != nil {
			conn.SetServerSessions(s.state.relay.stored)
		}
		return chosen, err
	})
	return conn
}

// choose returns the context for a ClientHello, or nil if no relay serves its name.
func (s *session) choose(_ context.Context, _ net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
	if s.enter(hello.ServerName) {
		return s.state.server, nil
	}
	s.relay.count.namesRefused.Add(1)
	return nil, nil
}

// noRelay replaces the error of a handshake whose server name is refused.
func noRelay(e *sslfilter.ServerNameError) error {
	if e.ServerName == "" {
		return errNoDefault
	}
	return fmt.Errorf("no relay has the server name %q", bounded.Text(e.ServerName))
}

// errNoDefault is the error if a client without a server name is refused.
var errNoDefault = errors.New("the client has no server name, and no relay has default-server")

// misdirected returns a status and a reason if a request must not be forwarded, because
// its host belongs to a different relay from the one that the server name has chosen.
// The other relay may require a client certificate (RFC 9110 sections 7.4 and 15.5.20).
// A host that belongs to no relay is not rejected.
func (s *session) misdirected(host string) (status int, why string) {
	if s.sections == nil {
		return 0, ""
	}
	for _, c := range []byte(host) {
		if c >= utf8.RuneSelf { // net/http sends the ASCII form to the backend, which may be the name of another relay
			return http.StatusBadRequest, "host is not ASCII"
		}
	}
	name, _, _ := strings.Cut(host, ":") // at the first colon, because a backend might do so too
	if st := s.sections.named(name); st != nil && st.relay != s.relay {
		return http.StatusMisdirectedRequest, "host of relay " + strconv.Quote(st.conf.Name)
	}
	return 0, ""
}
