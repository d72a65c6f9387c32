package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// serveHTTP hands the connection to the relay's HTTP server and waits for its end.
func (s *session) serveHTTP() error {
	conn := &httpConn{duplex: s.client, session: s, closed: make(chan struct{})}
	select {
	case s.relay.handoff.conns <- conn:
	case <-s.relay.handoff.closed:
		return errStopped
	}
	<-conn.closed
	return nil
}

// handoff is a listener of connections that are accepted already.
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

// httpConn is a client's connection for net/http, which may not see what is
// below: on a connection that has a ConnectionState it would begin other things.
type httpConn struct {
	duplex
	session *session
	once    sync.Once
	closed  chan struct{}
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

func (c *httpConn) Close() error {
	err := c.duplex.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}

type sessionKey struct{}

func (s *Server) newHTTPServer(r *relay) *http.Server {
	conf := r.current.Load().conf
	return &http.Server{
		Handler:           http.HandlerFunc(r.serveRequest),
		ReadHeaderTimeout: conf.CommandTimeout.Std(),
		IdleTimeout:       conf.IdleTimeout.Std(),
		MaxHeaderBytes:    conf.MaxHeader,
		ErrorLog:          slog.NewLogLogger(s.relayLog(r).Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, sessionKey{}, c.(*httpConn).session)
		},
	}
}

// serveRequest forwards one request.
func (r *relay) serveRequest(w http.ResponseWriter, req *http.Request) {
	s := req.Context().Value(sessionKey{}).(*session)
	r.count.requests.Add(1)
	v := verdict{Verdict: verdictNone}
	if s.tls != nil {
		v = s.state.verdict(s.tls) // per request: the list may have changed
	}
	if s.state.conf.RequireValidClientCert && s.tls != nil && v.Verdict != verdictValid {
		s.log.Warn("request refused", v.attrs()...)
		w.Header().Set("Connection", "close")
		http.Error(w, "The client certificate is not valid any more.", http.StatusForbidden)
		return
	}
	ctx := context.WithValue(req.Context(), verdictKey{}, &v)
	s.state.proxy.ServeHTTP(w, req.WithContext(ctx))
}

type verdictKey struct{}

// makeProxy makes what forwards the requests.
func (st *state) makeProxy(log *slog.Logger) {
	conf := st.conf
	st.pool = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, conf.BackendTimeout.Std())
			defer cancel()
			conn, err := st.dial(ctx, *st.backend)
			if err != nil || st.backend.security == plain {
				return conn, err
			}
			tls, err := st.secureBackend(ctx, conn, *st.backend)
			if err != nil {
				return nil, err
			}
			return &backendConn{tls}, nil
		},
		DisableCompression:    true,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: conf.IdleTimeout.Std(),
		// An answer's head may be as large as the requests' may.
		MaxResponseHeaderBytes: int64(max(conf.MaxHeader, 64<<10)),
	}
	host := st.backend.address
	if st.backend.network == "unix" {
		host = "localhost"
	}
	target := &url.URL{Scheme: "http", Host: host}
	st.proxy = &httputil.ReverseProxy{
		Transport:     st.pool,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it came: SetURL's caller drops what url.ParseQuery does not like, "a;b" for one
			onlyWebSocket(r.Out.Header)
			if r.Out.Body != nil && r.Out.Body != http.NoBody {
				r.Out.Body = clientBody{r.Out.Body}
			}
			st.setHeaders(r)
		},
		ModifyResponse: func(res *http.Response) error {
			if st.retired.Load() && res.StatusCode != http.StatusSwitchingProtocols {
				res.Header.Set("Connection", "close") // the next request comes with the new certificates and lists
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			s := r.Context().Value(sessionKey{}).(*session)
			var broken *clientBodyError
			if r.Context().Err() != nil && s.server.stop.Err() == nil {
				s.log.Debug("request cancelled", "error", err)
			} else if errors.As(err, &broken) {
				s.log.Debug("request with a broken body", "error", err)
			} else {
				s.relay.count.backendFailed.Add(1)
				s.log.Warn("backend failed", "backend", st.backend.String(), "error", err)
			}
			if st.retired.Load() {
				w.Header().Set("Connection", "close")
			}
			status := http.StatusBadGateway
			var slow net.Error
			if errors.As(err, &slow) && slow.Timeout() {
				status = http.StatusGatewayTimeout
			}
			if broken != nil {
				w.Header().Set("Connection", "close") // where the next request begins nobody knows
				status = http.StatusBadRequest
			}
			http.Error(w, http.StatusText(status), status)
		},
	}
}

// clientBody tells an error of the client's body from one of the backend.
type clientBody struct{ io.ReadCloser }

func (b clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = &clientBodyError{err}
	}
	return n, err
}

type clientBodyError struct{ error }

func (e *clientBodyError) Unwrap() error { return e.error }

// backendConn hides what net/http would look for in a TLS connection.
type backendConn struct{ duplex }

// setHeaders puts the relay's headers into a request. What the client sent
// under their names is gone first, in every spelling that a program behind
// might take for the same: small and capital letters, and '_' or another sign
// for '-'. The client's trailers are not forwarded. Hop-by-hop headers, and those that the
// client's Connection header names, were removed before, so that it cannot
// have ours removed.
func (st *state) setHeaders(r *httputil.ProxyRequest) {
	conf := st.conf
	strip := map[string]bool{
		"forwarded": true, "x-forwarded-for": true, "x-forwarded-host": true, "x-forwarded-proto": true, "x-real-ip": true,
	}
	for _, name := range conf.Headers {
		strip[headerKey(name)] = true
	}
	for _, name := range defaultHeaders() { // also one that is told under another name, or not at all
		strip[headerKey(name)] = true
	}
	for name := range r.Out.Header {
		if strip[headerKey(name)] {
			delete(r.Out.Header, name)
		}
	}
	r.Out.Trailer = nil

	s := r.In.Context().Value(sessionKey{}).(*session)
	if conf.TrustForwarded {
		for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"} {
			if values := r.In.Header[name]; len(values) > 0 && !namedByConnection(r.In.Header, name) {
				r.Out.Header[name] = values
			}
		}
	}
	host, proto := r.Out.Header["X-Forwarded-Host"], r.Out.Header["X-Forwarded-Proto"]
	r.SetXForwarded()
	if s.tls != nil {
		r.Out.Header.Set("X-Forwarded-Proto", "https")
	}
	if len(host) > 0 {
		r.Out.Header["X-Forwarded-Host"] = host
	}
	if len(proto) > 0 {
		r.Out.Header["X-Forwarded-Proto"] = proto
	}

	v := r.In.Context().Value(verdictKey{}).(*verdict)
	for what, value := range map[string]string{
		headerVerdict: v.Verdict, headerSubject: v.Subject, headerIssuer: v.Issuer,
		headerSerial: v.Serial, headerCipher: v.Cipher, headerProtocol: v.Protocol,
	} {
		if name := conf.Headers[what]; name != "" && value != "" {
			r.Out.Header[http.CanonicalHeaderKey(name)] = []string{value}
		}
	}
}

// onlyWebSocket takes the wish for any other protocol out of a request; the
// backend then answers it in HTTP/1.1 (RFC 9110 section 7.8). Behind an upgrade
// the relay only forwards, and with h2c, or HTTP by another name, the client
// would make requests there with headers of its own choice.
func onlyWebSocket(h http.Header) {
	if up := h["Upgrade"]; len(up) > 0 && (len(up) > 1 || !strings.EqualFold(up[0], "websocket")) {
		h.Del("Upgrade")
		h.Del("Connection")
	}
	h.Del("HTTP2-Settings")
}

// namedByConnection reports whether a header is hop-by-hop by the word of
// whoever sent it.
func namedByConnection(h http.Header, name string) bool {
	for _, value := range h["Connection"] {
		for word := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(word), name) {
				return true
			}
		}
	}
	return false
}
