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
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

const (
	// flushDelay is how long the beginning of an answer may wait for the rest,
	// so that head and body share a TLS record. It applies only to answers whose
	// length is known; net/http/httputil flushes all others at once.
	flushDelay = 5 * time.Millisecond

	// maxBackendIdle is how long a connection to the backend is kept between two
	// requests of a client. Node.js, Apache and uvicorn close such a connection
	// after 5 seconds, and a request that is sent at that moment fails, so the
	// relay closes it earlier.
	maxBackendIdle = 4 * time.Second

	// expectTimeout is how long the relay waits for the backend's answer to a
	// request with "Expect: 100-continue". A backend that does not support the
	// expectation sends nothing, and the relay then asks the client for the body.
	expectTimeout = time.Second

	// bodySize is the size of the buffer for the body of an answer, in bytes.
	// sslnet.Conn encrypts that much with one call. With 16 KiB, an answer of 1 MiB
	// takes 30 % more processor time.
	bodySize = 64 << 10
)

// bodyBuffers are the buffers for the bodies of answers (httputil.BufferPool).
type bodyBuffers struct{}

var bodyPool = sync.Pool{New: func() any { return new([bodySize]byte) }}

func (bodyBuffers) Get() []byte  { return bodyPool.Get().(*[bodySize]byte)[:] }
func (bodyBuffers) Put(b []byte) { bodyPool.Put((*[bodySize]byte)(b)) }

// newTransport makes the http.Transport that connects one client's connection to
// the backend.
//
// A connection to the backend is never used for two clients. So if a backend
// disagrees with the relay about the end of a request or of an answer, only the
// same client can get a wrong answer. Authentication that belongs to the
// connection, such as NTLM, stays with the client that authenticated.
// (docs/decisions/0041)
//
// The zero value of a field of http.Transport is often not its default, so this
// function considers every field. Proxy and the TLS fields stay unset: the relay
// connects by itself. MaxConnsPerHost stays 0, since a client has one request
// at a time. TLSHandshakeTimeout is part of backend-timeout.
func (c *httpConn) newTransport() *http.Transport {
	st := c.session.state
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dialBackend(ctx) },
		DisableCompression:    true, // do not add Accept-Encoding to requests
		MaxIdleConns:          1,
		MaxIdleConnsPerHost:   1,
		IdleConnTimeout:       maxBackendIdle,
		ResponseHeaderTimeout: st.responseTimeout(),
		ExpectContinueTimeout: expectTimeout,
		// The header of a response may be as large as that of a request.
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
	if st.backend.Security != config.Plain {
		tls, err := st.secureBackend(ctx, conn, *st.backend)
		if err != nil {
			return nil, err
		}
		conn = tls
	}
	return &backendConn{conn, c, st.responseTimeout()}, nil
}

// backendConn hides the methods that net/http would look for in a TLS connection.
// It also ends a Write whose data the backend does not read.
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

	hasBody  bool // true for an empty chunked body too
	unclear  bool // the framing is ambiguous
	answered atomic.Bool
}

// roundTripOf returns the round trip of the current request.
func roundTripOf(ctx context.Context) *roundTrip { return connOf(ctx).current.Load() }

// newRoundTrip begins a request. If a chunked request also has a Content-Length,
// net/http silently removes that header. It does the same with Transfer-Encoding
// in an HTTP/1.0 request. RFC 9112 section 6.1 requires the connection to be
// closed after such a request. The relay cannot recognize one any more, so it
// closes the connection after every chunked and every HTTP/1.0 request.
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

// last reports whether the client's connection ends with this answer. If the body
// was not read to its end, the relay does not know where the next request begins.
func (x *roundTrip) last() bool {
	return x.unclear || x.hasBody && !x.body.ended.Load() ||
		x.conn.session.state.retired.Load() // after a reload, the next request must use the new certificates and CRLs
}

// awaited reports whether the backend has the whole request and has not begun
// its answer.
func (x *roundTrip) awaited() bool {
	return !x.answered.Load() && (!x.hasBody || x.body.ended.Load())
}

// lastOfBackend reports whether the backend's connection ends with the answer to
// a request with this method. A backend that leaves a body unread may take it for
// the next request, with headers of the client's choice, unless the connection
// ends. For methods that usually have a body, reuse-after-body keeps the
// connection: with it the operator states that the backend reads every body.
func (x *roundTrip) lastOfBackend(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return x.hasBody && !x.conn.session.state.conf.ReuseAfterBody
	}
	return x.hasBody
}

// makeProxy makes the httputil.ReverseProxy that forwards the requests.
func (st *state) makeProxy(log *slog.Logger) {
	host := st.backend.Address
	if st.backend.Network == "unix" {
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

// rewrite makes the request for the backend. It keeps the client's target
// unchanged: url.ParseQuery and path.Clean would normalize it.
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
			r.Out.Header["Expect"] = []string{"100-continue"} // in place of the client's spelling
		}
	}
	st.setHeaders(r, x.conn)
}

// onlyWebSocket removes an Upgrade to any protocol but WebSocket from a request;
// the backend then answers in HTTP/1.1 (RFC 9110 section 7.8). After an upgrade
// the relay only forwards bytes. If the new protocol were h2c, or HTTP under
// another name, the client could send requests with headers of its own choice.
// WebSocket begins with an HTTP/1.1 GET without a body (RFC 6455 section 4.1).
//
// This happens before httputil sees the request, because httputil answers some
// values of Upgrade itself. The Connection header stays, since it may name other
// headers too.
func onlyWebSocket(req *http.Request, x *roundTrip) {
	h := req.Header
	if up := h["Upgrade"]; len(up) > 0 && (len(up) > 1 || !strings.EqualFold(up[0], websocket) ||
		req.Method != http.MethodGet || !req.ProtoAtLeast(1, 1) || x.hasBody) {
		h.Del("Upgrade")
	}
	h.Del("HTTP2-Settings")
}

const websocket = "websocket"

// checkSwitch checks an answer with status 101. httputil also refuses an answer
// with the wrong protocol, but leaves the backend's connection open.
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

// roundTripper sends each request over the backend connection of its client.
type roundTripper struct{}

func (roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	x := roundTripOf(req.Context())
	s := x.conn.session
	s.touch()
	res, err := x.conn.backend.RoundTrip(req)
	s.touch() // the wait for the backend has a limit of its own and is not idle time
	x.answered.Store(true)
	return res, err
}

// backendError sends the relay's own answer if the backend has not answered.
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

// clientBody is the body of a client's request while it is forwarded. It
// distinguishes errors of the client's body from errors of the backend, and sends
// 100 (Continue) to the client when the body is first read.
type clientBody struct {
	io.ReadCloser
	interim *interim    // of a client that expects 100 (Continue)
	ended   atomic.Bool // the body was read to its end
}

func (b *clientBody) Read(p []byte) (int, error) {
	if b.interim != nil && !b.interim.proceed() {
		return 0, http.ErrBodyReadAfterClose // the client has its final answer and sends no body
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
	mute   bool // the client speaks HTTP/1.0, which has no interim answers
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

// Header returns a separate map until the final status is known, so that a 100
// that another goroutine sends does not contain these headers.
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

// proceed sends 100 to the client unless that has been done or the final status
// is known. It reports whether the client has got a 100.
func (w *interim) proceed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.proceeded && !w.answered {
		w.proceeded = true
		w.to.WriteHeader(http.StatusContinue)
	}
	return w.proceeded
}
