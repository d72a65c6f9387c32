package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
)

const (
	// flushDelay is how long the beginning of an answer may wait for the rest,
	// so that head and body share a TLS record. It is for answers whose length is
	// known; net/http/httputil flushes all others at once.
	flushDelay = 5 * time.Millisecond

	// maxBackendIdle is how long a connection to the backend is kept between two
	// requests of a client. It is less than the 5 seconds after which Node.js,
	// Apache and uvicorn close such a connection: a request that is sent at that
	// moment fails.
	maxBackendIdle = 4 * time.Second

	// expectTimeout is how long a client that has asked for 100 (Continue) waits
	// for the backend's answer. A backend that knows nothing of the expectation
	// says nothing, and then the body is sent without it.
	expectTimeout = time.Second

	// bodySize is the buffer for the body of an answer, in bytes. It is what
	// sslnet.Conn encrypts with one call: with 16 KiB an answer of 1 MiB takes 30 %
	// more processor time.
	bodySize = 64 << 10
)

// bodyBuffers are the buffers for the bodies of answers (httputil.BufferPool).
type bodyBuffers struct{}

var bodyPool = sync.Pool{New: func() any { return new([bodySize]byte) }}

func (bodyBuffers) Get() []byte  { return bodyPool.Get().(*[bodySize]byte)[:] }
func (bodyBuffers) Put(b []byte) { bodyPool.Put((*[bodySize]byte)(b)) }

// newTransport makes what talks to the backend for one client's connection.
//
// A connection to the backend is never used for two clients. If a backend
// disagrees with the relay about the end of a request or of an answer, what
// follows is therefore at most another answer for the same client; and
// authentication that belongs to the connection, such as NTLM, stays with the
// client that did it. (docs/decisions/0041)
//
// The zero value of a field of http.Transport is often not its default, so all
// of them are looked at here. Proxy and the TLS fields stay unset: the relay
// connects by itself. MaxConnsPerHost stays 0, since a client has one request
// at a time. TLSHandshakeTimeout is part of backend-timeout.
func (c *httpConn) newTransport() *http.Transport {
	st := c.session.state
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dialBackend(ctx) },
		DisableCompression:    true, // of requests that do not ask for it
		MaxIdleConns:          1,
		MaxIdleConnsPerHost:   1,
		IdleConnTimeout:       maxBackendIdle,
		ResponseHeaderTimeout: st.responseTimeout(),
		ExpectContinueTimeout: expectTimeout,
		// An answer's head may be as large as the requests' may.
		MaxResponseHeaderBytes: int64(max(st.conf.MaxHeader, 64<<10)),
		Protocols:              protocols,
	}
}

// responseTimeout is how long the backend may take to begin its answer. The
// client then gets status 504, so idle-timeout, which resets the connection,
// must not come first.
func (st *state) responseTimeout() time.Duration {
	return min(st.conf.ResponseTimeout.Std(), st.conf.IdleTimeout.Std())
}

func (c *httpConn) dialBackend(ctx context.Context) (net.Conn, error) {
	st := c.session.state
	ctx, cancel := context.WithTimeout(ctx, st.conf.BackendTimeout.Std())
	defer cancel()
	conn, err := st.dial(ctx, *st.backend)
	if err != nil {
		return nil, err
	}
	if st.backend.security != plain {
		tls, err := st.secureBackend(ctx, conn, *st.backend)
		if err != nil {
			return nil, err
		}
		conn = tls
	}
	return &backendConn{conn, c, st.responseTimeout()}, nil
}

// backendConn hides what net/http would look for in a TLS connection, and ends
// a Write that the backend does not take.
type backendConn struct {
	duplex
	client   *httpConn
	patience time.Duration
}

func (c *backendConn) Write(b []byte) (int, error) {
	var limit time.Time
	if !c.client.tunnel.Load() { // after an upgrade, idle-timeout alone counts
		limit = time.Now().Add(c.patience)
	}
	c.SetWriteDeadline(limit)
	return c.duplex.Write(b)
}

// roundTrip is one request and its answer.
type roundTrip struct {
	conn *httpConn
	body clientBody

	hasBody  bool // be it an empty one in chunks
	unclear  bool // the framing may be read in more than one way
	answered atomic.Bool
}

// roundTripOf finds the request that is under way.
func roundTripOf(ctx context.Context) *roundTrip { return connOf(ctx).current.Load() }

// newRoundTrip begins a request. net/http takes Content-Length beside
// Transfer-Encoding out of a request with a chunked body, and Transfer-Encoding
// out of one in HTTP/1.0, and does not say so. RFC 9112 section 6.1 wants the
// connection to end then, so it ends after every request that could be one.
func (c *httpConn) newRoundTrip(req *http.Request) *roundTrip {
	x := &roundTrip{
		conn:    c,
		hasBody: req.ContentLength != 0,
		unclear: !req.ProtoAtLeast(1, 1) || len(req.TransferEncoding) > 0,
	}
	c.current.Store(x)
	return x
}

// serve forwards the request.
func (x *roundTrip) serve(w http.ResponseWriter, req *http.Request) {
	if expects := req.Header["Expect"] != nil; expects || !req.ProtoAtLeast(1, 1) {
		in := &interim{to: w, header: make(http.Header), mute: !req.ProtoAtLeast(1, 1)}
		if expects && !in.mute {
			x.body.interim = in
		}
		w = in
	}
	onlyWebSocket(req, x)
	x.conn.session.state.proxy.ServeHTTP(w, req)
}

// last reports whether the client's connection ends with this answer. Where the
// next request begins is unknown if the body was not read to its end.
func (x *roundTrip) last() bool {
	return x.unclear || x.hasBody && !x.body.ended.Load() ||
		x.conn.session.state.retired.Load() // the next request comes with the new certificates and lists
}

// awaited reports whether the backend has the whole request and has not begun
// its answer.
func (x *roundTrip) awaited() bool {
	return !x.answered.Load() && (!x.hasBody || x.body.ended.Load())
}

// lastOfBackend reports whether the backend's connection ends with the answer
// to req. A backend that leaves a body unread takes it for the next request,
// with whatever headers the client put there; at the end of a connection it does
// not. Methods that usually have a body are an exception only if the operator
// vouches for the backend.
func (x *roundTrip) lastOfBackend(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return x.hasBody && !x.conn.session.state.conf.ReuseAfterBody
	}
	return x.hasBody
}

// makeProxy makes what forwards the requests.
func (st *state) makeProxy(log *slog.Logger) {
	host := st.backend.address
	if st.backend.network == "unix" {
		host = "localhost"
	}
	st.headers = newHeaderRules(st.conf)
	st.proxy = &httputil.ReverseProxy{
		Transport:     roundTripper{},
		FlushInterval: flushDelay,
		BufferPool:    bodyBuffers{},
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		Rewrite:       func(r *httputil.ProxyRequest) { st.rewrite(r, host) },
		ModifyResponse: func(res *http.Response) error {
			x := roundTripOf(res.Request.Context())
			if res.StatusCode == http.StatusSwitchingProtocols {
				if err := checkSwitch(res); err != nil {
					return err
				}
				x.conn.tunnel.Store(true)
				return nil
			}
			if x.last() {
				res.Header.Set("Connection", "close")
			}
			return nil
		},
		ErrorHandler: backendError,
	}
}

// rewrite makes the request for the backend. The target is the one that came,
// and not what url.ParseQuery or path.Clean would make of it.
func (st *state) rewrite(r *httputil.ProxyRequest, host string) {
	in := r.In.URL
	r.Out.URL = &url.URL{Scheme: "http", Host: host, Path: in.Path, RawPath: in.RawPath, RawQuery: in.RawQuery, ForceQuery: in.ForceQuery}
	if r.In.RequestURI == "*" {
		r.Out.URL.Path, r.Out.URL.Opaque = "", "*"
	}
	r.Out.Host = r.In.Host
	x := roundTripOf(r.In.Context())
	r.Out.Close = x.lastOfBackend(r.In.Method)
	r.Out.Header.Del("Expect")
	if r.Out.Body != nil && r.Out.Body != http.NoBody {
		x.body.ReadCloser = r.Out.Body
		r.Out.Body = &x.body
		if x.body.interim != nil {
			r.Out.Header["Expect"] = []string{"100-continue"} // whatever else stood there
		}
	}
	st.setHeaders(r, x.conn)
}

// onlyWebSocket takes the request for any other protocol out of a request; the
// backend then answers it in HTTP/1.1 (RFC 9110 section 7.8). After an upgrade
// the relay only forwards, and with h2c, or HTTP by another name, the client
// would make requests there with headers of its own choice. WebSocket begins
// with a GET of HTTP/1.1 without a body (RFC 6455 section 4.1).
//
// This happens before httputil sees the request, because httputil answers some
// values of Upgrade itself. The Connection header stays: it may name more headers.
func onlyWebSocket(req *http.Request, x *roundTrip) {
	h := req.Header
	if up := h["Upgrade"]; len(up) > 0 && (len(up) > 1 || !strings.EqualFold(up[0], websocket) ||
		req.Method != http.MethodGet || !req.ProtoAtLeast(1, 1) || x.hasBody) {
		h.Del("Upgrade")
	}
	h.Del("HTTP2-Settings")
}

const websocket = "websocket"

// checkSwitch looks at status 101. httputil refuses an answer with the wrong
// protocol too, but leaves the backend's connection open.
func checkSwitch(res *http.Response) error {
	if res.Request.Header.Get("Upgrade") == "" {
		return errors.New("status 101 to a request without Upgrade")
	}
	if to := res.Header.Get("Upgrade"); !strings.EqualFold(to, websocket) || !namedByConnection(res.Header, "Upgrade") {
		return fmt.Errorf("status 101 with Upgrade: %q and Connection: %q, want a switch to websocket",
			bounded.Text(to), bounded.Text(res.Header.Get("Connection")))
	}
	return nil
}

// roundTripper sends each request with the connections of its client.
type roundTripper struct{}

func (roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	x := roundTripOf(req.Context())
	s := x.conn.session
	s.touch()
	res, err := x.conn.backend.RoundTrip(req)
	s.touch() // the wait for the backend had a limit of its own
	x.answered.Store(true)
	return res, err
}

// backendError answers a request that the backend did not answer.
func backendError(w http.ResponseWriter, r *http.Request, err error) {
	x := roundTripOf(r.Context())
	x.answered.Store(true)
	s := x.conn.session
	status := http.StatusBadGateway
	var broken *clientBodyError
	var slow net.Error
	switch {
	case errors.As(err, &broken):
		s.log.Debug("request with a broken body", "error", err)
		status = http.StatusBadRequest
	case r.Context().Err() != nil && s.server.stop.Err() == nil:
		s.log.Debug("request cancelled", "error", err)
	default:
		if errors.As(err, &slow) && slow.Timeout() {
			status = http.StatusGatewayTimeout
		}
		s.relay.count.backendFailed.Add(1)
		s.log.Warn("backend failed", "backend", s.state.backend.String(), "status", status, "error", err)
	}
	if x.last() {
		w.Header().Set("Connection", "close")
	}
	http.Error(w, http.StatusText(status), status)
}

// clientBody is the body of a client's request while it is forwarded. It tells
// an error of the client's body from one of the backend, and gives the client
// the permission to send once the body is wanted.
type clientBody struct {
	io.ReadCloser
	interim *interim    // of a client that expects 100 (Continue)
	ended   atomic.Bool // the body was read to its end
}

func (b *clientBody) Read(p []byte) (int, error) {
	if b.interim != nil && !b.interim.proceed() {
		return 0, http.ErrBodyReadAfterClose // it has its answer, and sends nothing
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.ended.Store(true)
	case err != nil:
		err = &clientBodyError{err}
	}
	return n, err
}

type clientBodyError struct{ error }

func (e *clientBodyError) Unwrap() error { return e.error }

// interim writes the interim answers (1xx) to a client, one at a time. They
// come from two goroutines: 100 when the body is read, others when the backend
// sends them, and net/http writes them without a lock.
type interim struct {
	to     http.ResponseWriter
	mute   bool // a client that speaks HTTP/1.0 knows no interim answers
	header http.Header

	mu        sync.Mutex
	proceeded bool // 100 is sent
	answered  bool // the final status is known
}

// Unwrap is for http.ResponseController.
func (w *interim) Unwrap() http.ResponseWriter { return w.to }

func (w *interim) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.to.Write(b)
}

// Header is a map of its own until the final status, so that the 100 that
// another goroutine sends has nothing of it.
func (w *interim) Header() http.Header {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answered {
		return w.to.Header()
	}
	return w.header
}

func (w *interim) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answered {
		return
	}
	final := status < 100 || status > 199 || status == http.StatusSwitchingProtocols
	if !final && (w.mute || status == http.StatusContinue && w.proceeded) {
		return
	}
	w.answered = final
	w.proceeded = w.proceeded || status == http.StatusContinue
	to := w.to.Header()
	for name, values := range w.header {
		to[name] = values
	}
	w.to.WriteHeader(status)
	if !final {
		clear(to)
	}
}

// proceed makes sure that the client has its 100, unless it has a final answer.
func (w *interim) proceed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.proceeded && !w.answered {
		w.proceeded = true
		w.to.WriteHeader(http.StatusContinue)
	}
	return w.proceeded
}
