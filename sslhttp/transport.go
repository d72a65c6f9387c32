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

// Transport is an http.RoundTripper that speaks HTTP/1.1 and HTTP/2 over
// connections of Dialer, as ALPN chooses, and fills Response.TLS. A request that
// asks for an upgrade (a WebSocket) gets a connection on which HTTP/1.1 is spoken,
// whatever the server speaks otherwise. It is safe for concurrent use, and its
// fields may not be changed once it is in use.
//
// Requests for http URLs go through Base. A host name must be in its ASCII form.
type Transport struct {
	// Dialer does TLS, and makes the connections below unless Base does. It must be
	// set. For HTTP/2 its Ctx needs Options.ALPN with "h2" and "http/1.1".
	Dialer *sslnet.Dialer
	// Base has everything else; it is copied. Its fields have the effect that they
	// have in net/http:
	//
	//   - DialContext, or else Dial, makes the connections below, those to a proxy
	//     too, in place of Dialer.NetDialer, which must be nil then. A NetDialer
	//     serves http URLs as well.
	//   - Proxy, ProxyConnectHeader, GetProxyConnectHeader, OnProxyConnectResponse:
	//     https goes through HTTP proxies by CONNECT and through SOCKS 5. TLS with
	//     an https proxy is that of Dialer, too. A request trace sees a made-up host
	//     where a proxy is in use.
	//   - TLSHandshakeTimeout: the shorter one of it and Dialer.HandshakeTimeout
	//     ends a handshake.
	//   - Protocols, or an empty TLSNextProto, can exclude HTTP/1.1 or HTTP/2; what
	//     is not excluded is offered as far as Options.ALPN does, so
	//     ForceAttemptHTTP2 is not needed.
	//   - MaxIdleConns counts for each protocol on its own.
	//
	// Fields that would do TLS in another way are an error: DialTLSContext, DialTLS,
	// a TLSNextProto that is not empty, and a TLSClientConfig in which more is set
	// than net/http itself sets. Default: a copy of http.DefaultTransport without
	// its proxy.
	Base *http.Transport

	once sync.Once
	err  error // of the fields
	*fields

	forHTTP        *http.Transport // for http URLs
	poolH1, poolH2 *http.Transport // for https URLs

	mu    sync.Mutex
	hosts map[string]*host // by the key of the route
}

// host is what is known of a server.
type host struct {
	settled chan struct{} // closed once a connection is in the pool, or err is set
	err     error         // of the first connection

	h2    bool         // what ALPN chose
	ready *sslnet.Conn // made and not in a pool yet
}

const (
	maxHosts = 10000 // servers that Transport remembers; others are found out anew
	maxTries = 3     // how often a server may change its protocols while a request waits
)

// errOtherProtocol says that a new connection is for the other pool.
var errOtherProtocol = errors.New("sslhttp: the server speaks another protocol than before")

// RoundTrip does one request.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.once.Do(t.init)
	switch {
	case t.err != nil:
		return nil, fail(req, t.err)
	case req.URL != nil && req.URL.Scheme == "https":
	case req.URL != nil && req.URL.Scheme != "http" && t.Base != nil:
		return t.Base.RoundTrip(req) // it may know the scheme, by RegisterProtocol
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

// CloseIdleConnections closes the connections that serve no request.
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

// exchange does the request on a connection of the pool that the server's
// protocol, or else the request, asks for.
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
// have (RFC 9113 section 8.6). net/http looks for that to a WebSocket alone.
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

// host finds out what the server at the end of a route speaks. The first to ask makes a
// connection; the others wait for it, in HTTP/2 until they can share it.
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

// errGaveUp says that the request whose connection others wait for was given up.
var errGaveUp = errors.New("sslhttp: the first request was given up")

// newHost makes the entry of a route. The caller holds mu.
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

// discover makes the first connection.
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
		close(h.settled) // the others need connections of their own
	}
	return nil
}

// settle lets the others go on. A connection that is not in use by now will not be.
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

// forget drops what is known of a route, if that is h.
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

// reach makes a connection to the server at the end of a route.
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
		return nil, fmt.Errorf("sslhttp: %s does not agree on h2, and Base.Protocols has no HTTP1", r.addr)
	}
	return conn, nil
}

// again makes the request anew that failed with err before it was sent.
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

// address is where an https request goes, as net/http gives it to connect.
func address(req *http.Request) (string, error) {
	name, port := req.URL.Hostname(), req.URL.Port()
	for i := range len(name) {
		if name[i] >= 0x80 {
			return "", fmt.Errorf("sslhttp: the host name %q is not in its ASCII form", name)
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

// fail closes the body, as a RoundTripper must.
func fail(req *http.Request, err error) error {
	if req.Body != nil {
		req.Body.Close()
	}
	return err
}
