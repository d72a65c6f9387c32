package sslhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Transport is an http.RoundTripper that uses HTTP/1.1 or HTTP/2, as ALPN chooses,
// over connections of Dialer. It sets Response.TLS. A request that asks for an
// upgrade, such as a WebSocket, gets a connection with HTTP/1.1, even if the server
// also supports HTTP/2. A Transport is safe for concurrent use. Its fields must not
// be changed after the first use.
//
// Requests for http URLs go through Base. Host names must be in ASCII form.
type Transport struct {
	// Dialer does TLS. It also makes the underlying connections, unless Base has a
	// dial function. It must be set. For HTTP/2, its Ctx needs Options.ALPN with
	// "h2" and "http/1.1".
	Dialer *sslnet.Dialer
	// Base has all other settings. Transport uses a copy. The fields have the same
	// effect as in net/http, with these additions:
	//
	//   - DialContext, or else Dial, makes the underlying connections, including
	//     those to a proxy, in place of Dialer.NetDialer, which must be nil then. A
	//     NetDialer is also used for http URLs.
	//   - Proxy, ProxyConnectHeader, GetProxyConnectHeader, OnProxyConnectResponse:
	//     https requests go through HTTP proxies with CONNECT, and through SOCKS 5
	//     proxies. Dialer also does TLS with an https proxy. If a proxy is used, a
	//     request trace sees a made-up host.
	//   - TLSHandshakeTimeout: a handshake ends at the shorter of this timeout and
	//     Dialer.HandshakeTimeout.
	//   - Protocols, or an empty TLSNextProto, can exclude HTTP/1.1 or HTTP/2. The
	//     protocols of Options.ALPN that are not excluded are offered, so
	//     ForceAttemptHTTP2 is not needed.
	//   - MaxIdleConns applies to each protocol separately.
	//
	// It is an error to set a field that would do TLS in another way:
	// DialTLSContext, DialTLS, a TLSNextProto that is not empty, or a field of
	// TLSClientConfig that net/http does not set itself. Default: a copy of
	// http.DefaultTransport without its proxy.
	Base *http.Transport

	once sync.Once
	err  error // from fieldsOf
	*fields

	forHTTP        *http.Transport // for http URLs
	poolH1, poolH2 *http.Transport // for https URLs

	mu    sync.Mutex
	hosts map[string]*host // by the key of the route
}

// host is what Transport knows about a server.
type host struct {
	settled chan struct{} // closed when a connection is in the pool, or err is set
	err     error         // error of the first connection

	h2    bool         // ALPN chose HTTP/2
	ready *sslnet.Conn // first connection, not yet in a pool
}

const (
	maxHosts = 10000 // servers whose protocol Transport remembers
	maxTries = 3     // attempts to send a request to a server that changes its protocols
)

// errOtherProtocol says that a new connection belongs in the other pool.
var errOtherProtocol = errors.New("sslhttp: the server uses another protocol than before")

// RoundTrip sends one request and returns the response.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.once.Do(t.init)
	switch {
	case t.err != nil:
		return nil, fail(req, t.err)
	case req.URL != nil && req.URL.Scheme == "https":
	case req.URL != nil && req.URL.Scheme != "http" && t.Base != nil:
		return t.Base.RoundTrip(req) // the scheme may be registered there with RegisterProtocol
	default:
		return t.forHTTP.RoundTrip(req)
	}
	r, err := t.routeOf(req)
	if err != nil {
		return nil, fail(req, err)
	}
	for try := 1; ; try++ {
		resp, err := t.exchange(req, r)
		if try == maxTries || !errors.Is(err, errOtherProtocol) {
			return resp, err
		}
		if req, err = again(req, err); err != nil {
			return nil, err
		}
	}
}

// CloseIdleConnections closes the connections that are not serving a request.
func (t *Transport) CloseIdleConnections() {
	t.once.Do(t.init)
	if t.err == nil {
		t.forHTTP.CloseIdleConnections()
		t.poolH1.CloseIdleConnections()
		t.poolH2.CloseIdleConnections()
	}
}

func (t *Transport) init() {
	t.hosts = make(map[string]*host)
	if t.fields, t.err = fieldsOf(t.Dialer, t.Base); t.err == nil {
		t.forHTTP, t.poolH1, t.poolH2 = t.plain(), t.pool(false), t.pool(true)
	}
}

// exchange sends the request on a connection of one pool: that for HTTP/1.1 if the
// request needs it, and otherwise that for the server's protocol.
func (t *Transport) exchange(req *http.Request, r *route) (*http.Response, error) {
	pool := t.poolH1
	var h *host
	var first bool
	if !r.h1 {
		var err error
		if h, first, err = t.host(req.Context(), r); err != nil {
			return nil, fail(req, err)
		}
		if h.h2 {
			pool = t.poolH2
		}
	}
	var conn atomic.Value
	traced := req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			conn.Store(&info.Conn)
			if first {
				t.settle(h)
			}
		},
	}))
	resp, err := pool.RoundTrip(r.hidden(traced))
	if first {
		t.settle(h)
	}
	if err != nil {
		return nil, err
	}
	resp.Request = req
	if used, ok := conn.Load().(*net.Conn); ok && resp.TLS == nil {
		if c, ok := (*used).(*sslnet.Conn); ok {
			state := c.ConnectionState()
			resp.TLS = &state
		}
	}
	return resp, nil
}

// needsHTTP1 reports whether a request asks for an upgrade, which HTTP/2 does not
// have (RFC 9113 section 8.6). net/http checks this for WebSocket only.
func needsHTTP1(req *http.Request) bool {
	if req.Header.Get("Upgrade") == "" {
		return false
	}
	for _, value := range req.Header.Values("Connection") {
		for token := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return true
			}
		}
	}
	return false
}

// host determines the protocol of the server of a route. The first caller makes a
// connection. The others wait for it and, with HTTP/2, until they can share it.
func (t *Transport) host(ctx context.Context, r *route) (h *host, first bool, err error) {
	key := r.key()
	for {
		t.mu.Lock()
		h := t.hosts[key]
		if h == nil {
			h = t.newHost(key)
			t.mu.Unlock()
			return h, true, t.discover(ctx, h, r)
		}
		t.mu.Unlock()
		select {
		case <-h.settled:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		if h.err == nil {
			return h, false, nil
		}
		if !errors.Is(h.err, errGaveUp) {
			return nil, false, h.err
		}
	}
}

// errGaveUp says that the request that made the first connection was canceled while
// others waited for that connection.
var errGaveUp = errors.New("sslhttp: the first request was canceled")

// newHost adds the entry of a route to hosts. The caller holds mu.
func (t *Transport) newHost(key string) *host {
	for other := range t.hosts {
		if len(t.hosts) < maxHosts {
			break
		}
		delete(t.hosts, other)
	}
	h := &host{settled: make(chan struct{})}
	t.hosts[key] = h
	return h
}

// discover makes the first connection to a server.
func (t *Transport) discover(ctx context.Context, h *host, r *route) error {
	conn, err := t.reach(ctx, r)
	if err != nil {
		t.forget(r, h)
		h.err = err
		if ctx.Err() != nil {
			h.err = errGaveUp
		}
		close(h.settled)
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h.ready = conn
	h.h2 = h.ready.ALPN() == "h2"
	if !h.h2 {
		close(h.settled) // with HTTP/1.1, the others need connections of their own
	}
	return nil
}

// settle lets the other requests continue. It closes the first connection if no
// pool has taken it, because no pool takes it later.
func (t *Transport) settle(h *host) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.ready != nil {
		go h.ready.Close()
		h.ready = nil
	}
	select {
	case <-h.settled:
	default:
		close(h.settled)
	}
}

// forget removes the entry of a route, if it still is h.
func (t *Transport) forget(r *route, h *host) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key := r.key(); t.hosts[key] == h {
		delete(t.hosts, key)
	}
}

// connect makes a connection for a pool.
func (t *Transport) connect(ctx context.Context, r *route, h2 bool) (net.Conn, error) {
	t.mu.Lock()
	h := t.hosts[r.key()]
	if h != nil && h.ready != nil && h.h2 == h2 {
		conn := h.ready
		h.ready = nil
		t.mu.Unlock()
		return conn, nil
	}
	t.mu.Unlock()
	conn, err := t.reach(ctx, r)
	if err != nil {
		return nil, err
	}
	if (conn.ALPN() == "h2") != h2 {
		t.forget(r, h)
		go conn.Close()
		return nil, errOtherProtocol
	}
	return conn, nil
}

// reach makes a TLS connection to the server of a route.
func (t *Transport) reach(ctx context.Context, r *route) (*sslnet.Conn, error) {
	below, err := t.below(ctx, r)
	if err != nil {
		return nil, err
	}
	offer := t.alpn
	if r.h1 {
		offer = t.alpnH1
	}
	conn, err := t.secure(ctx, below, r.addr, offer)
	if err != nil {
		return nil, err
	}
	if !t.h1 && conn.ALPN() != "h2" {
		go conn.Close()
		return nil, fmt.Errorf("sslhttp: %s did not choose h2, and Base.Protocols does not have HTTP1", r.addr)
	}
	return conn, nil
}

// again returns a request to retry req, which failed with err before it was sent.
func again(req *http.Request, err error) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	if req.GetBody == nil {
		return nil, err
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	anew := *req
	anew.Body = body
	return &anew, nil
}

// address returns the host and port of an https request, as net/http would dial
// them.
func address(req *http.Request) (string, error) {
	name, port := req.URL.Hostname(), req.URL.Port()
	for i := range len(name) {
		if name[i] >= 0x80 {
			return "", fmt.Errorf("sslhttp: the host name %q is not in ASCII form", name)
		}
	}
	if name == "" {
		return "", errors.New("sslhttp: no host in the URL")
	}
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(name, port), nil
}

// fail closes the body of the request, as a RoundTripper must, and returns err.
func fail(req *http.Request, err error) error {
	if req.Body != nil {
		req.Body.Close()
	}
	return err
}
