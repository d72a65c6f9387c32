package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http/httputil"
	"sync/atomic"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/refcount"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// state is what a relay serves with: its configuration, the contexts made of
// it and the table of users. SIGHUP replaces it whole; connections keep theirs
// until they end, and the last one frees it.
type state struct {
	conf    *config.Relay
	server  *sslfilter.Ctx   // nil if no listener speaks TLS
	client  *sslfilter.Ctx   // nil if no backend speaks TLS
	backend *config.Endpoint // for users that are not named
	users   config.Users
	proxy   *httputil.ReverseProxy // mode http
	headers *headerRules           // mode http

	show func(key, file string, data []byte) // of inspectState

	refs    refcount.Count
	retired atomic.Bool
}

// newState reads everything that conf names. It is not in use yet.
func newState(conf *config.Relay, log *slog.Logger) (*state, error) {
	return inspectState(conf, log, nil)
}

// inspectState is newState, and shows the revocation lists that it has read: the
// key, the file and the bytes that the library got.
func inspectState(conf *config.Relay, log *slog.Logger, show func(key, file string, data []byte)) (*state, error) {
	st := &state{conf: conf, show: show}
	if err := st.load(log); err != nil {
		st.release()
		return nil, err
	}
	return st, nil
}

func (st *state) load(log *slog.Logger) error {
	var err error
	if st.users, st.backend, err = st.conf.Backends(); err != nil {
		return err
	}
	if st.listensTLS() {
		o := st.conf.Server.LibraryOptions(log)
		if err := st.snapshot("", &o); err != nil {
			return err
		}
		if st.server, err = sslfilter.NewCtx(o); err != nil {
			return st.conf.Server.OptionError(crlError(err, st.conf.Server.CACRL, st.conf.Server.CRLFiles))
		}
	}
	if st.dialsTLS() {
		o := st.conf.Upstream.LibraryOptions(log)
		if err := st.snapshot("backend-", &o); err != nil {
			return err
		}
		if st.client, err = sslfilter.NewCtx(o); err != nil {
			return st.conf.Upstream.OptionError(crlError(err, st.conf.Upstream.CACRL, st.conf.Upstream.CRLFiles))
		}
	}
	if st.conf.Mode == config.ModeHTTP {
		st.makeProxy(log)
	}
	return nil
}

// listensTLS reports whether clients can speak TLS.
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

// route finds the backend of a user, and the name under which the table of
// users has it; known is empty for the default backend.
func (st *state) route(user string) (e config.Endpoint, known string, ok bool) {
	if entry, ok := st.users.Find(user); ok {
		return entry.Endpoint, entry.Name, true
	}
	if st.backend == nil {
		return config.Endpoint{}, "", false
	}
	return *st.backend, "", true
}

// maxCRL bounds a revocation list, in bytes.
const maxCRL = 256 << 20

// snapshot reads the CRLs that o names, so that the library does not look at
// the files again: one that is being written, or was removed, would block
// everybody. The relay changes lists with SIGHUP, and keeps the old ones if a
// new one is broken.
func (st *state) snapshot(prefix string, o *sslfilter.Options) error {
	if o.CACRL != "" && (o.Client || o.ClientCert || o.RequireValidClientCert) { // else it has no effect
		data, err := st.readCRL(prefix+"cacrl", o.CACRL)
		if err != nil {
			return err
		}
		o.CACRLMem = data
	}
	for _, file := range o.CRLFiles {
		data, err := st.readCRL(prefix+"crlfiles", file)
		if err != nil {
			return err
		}
		o.CRLMem = append(o.CRLMem, data)
	}
	o.CRLFiles = nil
	return nil
}

func (st *state) readCRL(key, file string) ([]byte, error) {
	data, err := config.ReadRegular(file, maxCRL)
	if err != nil {
		return nil, fmt.Errorf("%s (%s): %w", key, file, err)
	}
	if st.show != nil {
		st.show(key, file, data)
	}
	if data == nil {
		data = []byte{} // nil is "not given"
	}
	return data, nil
}

// crlError names the file that a snapshot is of.
func crlError(err error, cacrl string, crlFiles []string) error {
	var option *sslfilter.OptionError
	if !errors.As(err, &option) {
		return err
	}
	if option.Option == "CACRLMem" {
		return &sslfilter.OptionError{Option: "CACRL", File: cacrl, Err: option.Err}
	}
	if option.Option == "CRLMem" {
		return &sslfilter.OptionError{Option: "CRLFiles", Err: option.Err}
	}
	for i, file := range crlFiles {
		if option.Option == fmt.Sprintf("CRLMem[%d]", i) {
			return &sslfilter.OptionError{Option: "CRLFiles", File: file, Err: option.Err}
		}
	}
	return err
}

// release gives a reference back. The last one frees everything.
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
}

// retire gives the owner's reference back, once.
func (st *state) retire() {
	if !st.retired.CompareAndSwap(false, true) {
		return // by Close and by a reload that was under way
	}
	st.release()
}
