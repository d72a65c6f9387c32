package relay

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
	"github.com/seed-014b8713/sslfilter/internal/cut"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// serveHTTP passes the connection to the relay's HTTP server and waits for its end.
func (s *session) serveHTTP() error {
	conn := newHTTPConn(s)
	s.http.Store(conn)
	select {
	case s.relay.handoff.conns <- conn:
	case <-s.relay.handoff.closed:
		return errStopped
	}
	<-conn.closed
	if conn.forwarded.Load() {
		s.dest = s.state.backend.String()
	}
	return nil
}

// handoff is a listener for connections that have already been accepted.
type handoff struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handoff) Addr() net.Addr { return &net.TCPAddr{} }

// httpConn is a client's connection for net/http. It hides the TLS connection, since
// net/http treats connections with a method ConnectionState differently.
//
// A client has one request at a time. The data of that request is in a roundTrip.
type httpConn struct {
	duplex
	session *session
	backend *http.Transport // connections for the requests of this client alone
	client  string          // IP address
	from    []string        // X-Forwarded-For
	proto   []string        // X-Forwarded-Proto

	verdict *verdict     // of the last request
	told    []toldHeader // the relay's headers for this verdict

	current atomic.Pointer[roundTrip]
	tunnel  atomic.Bool // after an upgrade

	forwarded atomic.Bool // a request has gone to the backend
	broken    atomic.Bool // a response was not completed
	unread    atomic.Bool // the client may still send data that is not read

	once   sync.Once
	closed chan struct{}

	killed context.Context // canceled by cancel, which ends the current request or tunnel
	cancel context.CancelFunc
}

func newHTTPConn(s *session) *httpConn {
	c := &httpConn{duplex: s.client, session: s, closed: make(chan struct{})}
	c.killed, c.cancel = context.WithCancel(context.Background())
	c.client, _, _ = net.SplitHostPort(s.raw.RemoteAddr().String())
	c.from, c.proto = []string{c.client}, []string{"http"}
	if s.tls != nil {
		c.proto = []string{"https"}
	}
	c.backend = c.newTransport()
	return c
}

// awaitsAnswer reports whether the backend has the client's whole request and has not
// begun its answer.
func (c *httpConn) awaitsAnswer() bool {
	x := c.current.Load()
	return x != nil && x.awaited()
}

func (c *httpConn) Read(b []byte) (int, error) {
	n, err := c.duplex.Read(b)
	if n > 0 {
		c.session.fromClient.Add(int64(n))
		c.session.touch()
	}
	return n, err
}

func (c *httpConn) Write(b []byte) (int, error) {
	n, err := c.duplex.Write(b)
	if n > 0 {
		c.session.fromBackend.Add(int64(n))
		c.session.touch()
	}
	return n, err
}

// CloseWrite is called by net/http when it closes a connection whose input it has
// not read to the end.
func (c *httpConn) CloseWrite() error {
	c.unread.Store(true)
	return c.duplex.CloseWrite()
}

// Close ends the client's connection and the connections to the backend. If a
// response was not completed, the end is not orderly, because a response without a
// length and without chunks would look complete.
func (c *httpConn) Close() error {
	var err error
	c.once.Do(func() {
		c.backend.CloseIdleConnections()
		if c.broken.Load() {
			c.session.cutClient()
		} else if c.unread.Load() {
			c.duplex.CloseWrite()
			cut.Discard(c.duplex, time.Now().Add(lingerTime), lingerPause, 0)
		}
		err = c.duplex.Close()
		close(c.closed)
	})
	return err
}

// These bound how long the relay reads after its last response to a client that is
// still sending. The values are those of nginx's lingering_timeout and
// lingering_time.
const (
	lingerPause = 5 * time.Second
	lingerTime  = 30 * time.Second
)

type httpConnKey struct{}

// connOf returns the client's connection of a request.
func connOf(ctx context.Context) *httpConn { return ctx.Value(httpConnKey{}).(*httpConn) }

func (s *Server) newHTTPServer(r *relay, conf *config.Relay) *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(r.serveRequest),
		ReadHeaderTimeout: conf.CommandTimeout.Std(),
		IdleTimeout:       min(conf.KeepaliveTimeout.Std(), conf.IdleTimeout.Std()),
		ConnState: func(c net.Conn, state http.ConnState) {
			c.(*httpConn).session.betweenRequests.Store(state == http.StateIdle)
		},
		MaxHeaderBytes: conf.MaxHeader,
		ErrorLog:       slog.NewLogLogger(s.relayLog(r.name).Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			ctx, cancel := context.WithCancel(context.WithValue(ctx, httpConnKey{}, c))
			context.AfterFunc(c.(*httpConn).killed, cancel)
			return ctx
		},
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is for the backend
	}
}

// serveRequest forwards one request.
func (r *relay) serveRequest(w http.ResponseWriter, req *http.Request) {
	c := connOf(req.Context())
	s := c.session
	r.count.requests.Add(1)
	status, why := refusal(req)
	if why == "" {
		status, why = s.misdirected(req.Host)
	}
	if why != "" {
		c.refuse(w, req, status, why)
		return
	}
	v := c.currentVerdict()
	t := &s.state.conf.Server
	switch {
	case s.tls == nil:
	case t.RequireValidClientCert && v.Verdict != verdictValid, t.BlockInvalidClientCert && v.Verdict == verdictInvalid:
		why = "The client certificate is no longer valid."
	case v.Denied:
		why = "The client certificate is not allowed."
	}
	if why != "" {
		s.log.Warn("request refused", v.attrs()...)
		c.unread.Store(true)
		w.Header().Set("Connection", "close")
		http.Error(w, why, http.StatusForbidden)
		return
	}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { // the header of the response was sent
				http.NewResponseController(w).Flush() // the part of the body that has arrived
			}
			c.broken.Store(true)
			panic(p)
		}
	}()
	c.forwarded.Store(true)
	c.newRoundTrip(req).serve(w, req)
}

// refusal returns why a request is not forwarded, or an empty reason. It refuses
// methods after which the connection is not HTTP/1.1 any more, and targets that a
// backend could interpret differently than the relay.
func refusal(req *http.Request) (status int, why string) {
	u := req.URL
	switch {
	case strings.EqualFold(req.Method, http.MethodConnect):
		return http.StatusMethodNotAllowed, "CONNECT is not supported"
	case req.ProtoMajor != 1 || strings.EqualFold(req.Method, "PRI"):
		return http.StatusBadRequest, "not HTTP/1"
	case req.RequestURI == "*":
		if req.Method != http.MethodOptions {
			return http.StatusBadRequest, "target * without OPTIONS"
		}
	case u.Opaque != "":
		return http.StatusBadRequest, "opaque target"
	case u.User != nil:
		return http.StatusBadRequest, "user name in the target"
	case u.Scheme != "" && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https"):
		return http.StatusBadRequest, "target is not an HTTP URL"
	case !strings.HasPrefix(u.Path, "/") && (u.Scheme == "" || u.Path != ""):
		return http.StatusBadRequest, "path does not begin with /"
	}
	return 0, ""
}

// refuse answers a request that is not forwarded, and ends the connection.
func (c *httpConn) refuse(w http.ResponseWriter, req *http.Request, status int, why string) {
	c.session.relay.count.httpRefused.Add(1)
	target, _, _ := strings.Cut(req.RequestURI, "?") // a query may contain secrets
	c.session.log.Info("request refused", "reason", why, "method", bounded.Text(req.Method), "target", bounded.Text(target), "status", status)
	c.unread.Store(true)
	w.Header().Set("Connection", "close")
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	http.Error(w, http.StatusText(status), status)
}

// currentVerdict checks the client's certificate again, because the certificate may
// have been revoked since the handshake. It formats the headers only if the verdict
// has changed. The certificate itself cannot change, because a TLS server of the
// library rejects renegotiation.
func (c *httpConn) currentVerdict() *verdict {
	s := c.session
	switch {
	case s.tls == nil:
		if c.verdict == nil {
			c.setVerdict(verdict{Verdict: verdictNone})
		}
	case c.verdict == nil:
		c.setVerdict(s.state.verdict(s.tls))
	case c.verdict.Verdict == verdictNone: // without a certificate the verdict cannot change
	case (c.verdict.Verdict == verdictValid) != s.tls.ClientCertValid():
		c.setVerdict(s.state.verdict(s.tls))
	}
	return c.verdict
}

func (c *httpConn) setVerdict(v verdict) {
	c.verdict = &v
	c.told = c.session.state.headers.tell(c.verdict)
}
