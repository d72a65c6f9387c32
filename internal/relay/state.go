package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httputil"
	"sync/atomic"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/refcount"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/sslstaple"
)

// state is the configuration of a relay with the contexts and the table of users that
// were made from it. A reload replaces it. A connection keeps the state that it
// began with, and the last connection that uses a state frees it.
type state struct {
	conf    *config.Relay
	server  *sslfilter.Ctx   // nil if no listener uses TLS
	client  *sslfilter.Ctx   // nil if no backend uses TLS
	backend *config.Endpoint // of all other users, or nil
	users   config.Users
	own     []certificate          // what server presents to clients
	names   []string               // server names of the clients that it serves
	staples []*sslfilter.Staple    // of server, with stapling: one for each certificate
	allowed config.AllowList       // nil if all clients with a valid certificate are served
	proxy   *httputil.ReverseProxy // mode http
	headers *headerRules           // mode http

	relay *relay // nil until the state is in use
	left  func() // called when the state is freed; nil until it is in use

	refs    refcount.Count
	retired atomic.Bool
	stop    context.CancelFunc // ends the refresh of staples; nil without stapling
}

// newState loads all files of a configuration. keys encrypt the session tickets of
// clients; nil stands for random ones.
func newState(conf *config.Relay, log *slog.Logger, keys *sslfilter.TicketKeys) (*state, error) {
	st := &state{conf: conf}
	st.conf.Server.SharedTicketKeys = keys
	if err := st.load(log); err != nil {
		st.release()
		return nil, err
	}
	return st, nil
}

func (st *state) load(log *slog.Logger) (err error) {
	if st.users, st.backend, err = st.conf.Backends(); err != nil {
		return err
	}
	if st.conf.Server.AllowClients != nil {
		if st.allowed, err = st.conf.Server.AllowClients.Parse(); err != nil {
			return err
		}
	}
	if st.listensTLS() {
		if st.conf.Server.Stapling {
			if err := (&sslstaple.Options{URL: st.conf.Server.StaplingResponder}).Validate(); err != nil {
				return fmt.Errorf("stapling-responder: %w", err)
			}
			st.server, st.staples, err = st.conf.Server.NewStapledCtx(log)
		} else {
			st.server, err = st.conf.Server.NewCtx(log)
		}
		if err == nil {
			st.own, err = st.ownCertificates()
		}
		if err != nil {
			return err
		}
		st.names = st.serverNames()
	}
	if st.dialsTLS() {
		if st.client, err = st.conf.Upstream.NewCtx(log); err != nil {
			return err
		}
	}
	if st.conf.Mode == config.ModeHTTP {
		st.makeProxy(log)
	}
	return nil
}

// listensTLS reports whether a listener uses TLS.
func (st *state) listensTLS() bool {
	for _, s := range st.conf.Listen {
		if e, err := config.ParseEndpoint(s, config.DirectTLS); err == nil && e.Security != config.Plain {
			return true
		}
	}
	return false
}

func (st *state) dialsTLS() bool {
	if st.backend != nil && st.backend.Security != config.Plain {
		return true
	}
	for _, e := range st.users {
		if e.Security != config.Plain {
			return true
		}
	}
	return false
}

// route returns the backend of a user, and the name of the entry in the table of
// users. The name is empty if the user has the backend of all other users.
func (st *state) route(user string) (e config.Endpoint, known string, ok bool) {
	if entry, ok := st.users.Find(user); ok {
		return entry.Endpoint, entry.Name, true
	}
	if st.backend == nil {
		return config.Endpoint{}, "", false
	}
	return *st.backend, "", true
}

// release removes a reference. The last release frees the contexts.
func (st *state) release() {
	if !st.refs.Release() {
		return
	}
	if st.server != nil {
		st.server.Close()
	}
	if st.client != nil {
		st.client.Close()
	}
	if st.left != nil {
		st.left()
	}
}

// retire removes the reference of the relay, once.
func (st *state) retire() {
	if !st.retired.CompareAndSwap(false, true) {
		return // Close and a reload at the same time
	}
	if st.stop != nil {
		st.stop()
	}
	st.release()
}
