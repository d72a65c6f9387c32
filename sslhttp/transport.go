package sslhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"

	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Transport is an http.RoundTripper that speaks HTTP/1.1 and HTTP/2 over
// connections of Dialer, as ALPN chooses, and fills Response.TLS. It is safe for
// concurrent use, and its fields may not be changed once it is in use.
//
// Requests for http URLs go through Base. A host name must be in its ASCII form.
type Transport struct {
	// Dialer makes the TLS connections. It must be set. For HTTP/2 its Ctx needs
	// Options.ALPN with "h2" and "http/1.1".
	Dialer *sslnet.Dialer
	// Base has the limits and timeouts; it is copied. Its fields about TLS, about
	// dialing for https and about protocols do not count. A Proxy is an error:
	// net/http would speak TLS through it with crypto/tls. Default: a copy of
	// http.DefaultTransport without its proxy.
	Base *http.Transport

	once   sync.Once
	err    error // of the fields
	h1, h2 *http.Transport

	mu    sync.Mutex
	hosts map[string]*host // by address
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
	if t.err != nil {
		return nil, fail(req, t.err)
	}
	if req.URL == nil || req.URL.Scheme != "https" {
		return t.h1.RoundTrip(req)
	}
	addr, err := address(req)
	if err != nil {
		return nil, fail(req, err)
	}
	for try := 1; ; try++ {
		resp, err := t.exchange(req, addr)
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
		t.h1.CloseIdleConnections()
		t.h2.CloseIdleConnections()
	}
}

func (t *Transport) init() {
	base := t.Base
	if base == nil {
		base, _ = http.DefaultTransport.(*http.Transport)
		if base == nil { // somebody has replaced it
			base = new(http.Transport)
		}
		base = base.Clone()
		base.Proxy = nil
	}
	switch {
	case t.Dialer == nil || t.Dialer.Ctx == nil:
		t.err = errors.New("sslhttp: Transport without Dialer or its Ctx")
	case base.Proxy != nil:
		t.err = errors.New("sslhttp: Transport cannot go through a Proxy, as TLS would not be that of Dialer")
	}
	t.hosts = make(map[string]*host)
	t.h1, t.h2 = t.pool(base, false), t.pool(base, true)
}

// pool makes the net/http transport for one protocol. It takes HTTP/2 on our
// connections if it knows nothing else, and then without looking into them.
func (t *Transport) pool(base *http.Transport, h2 bool) *http.Transport {
	pool := base.Clone()
	pool.TLSClientConfig, pool.TLSNextProto, pool.ForceAttemptHTTP2 = nil, nil, false
	pool.Protocols = new(http.Protocols)
	pool.Protocols.SetHTTP1(!h2)
	pool.Protocols.SetUnencryptedHTTP2(h2)
	pool.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return t.connect(ctx, network, addr, h2)
	}
	return pool
}

// exchange does the request on a connection of the pool that the server's
// protocol asks for.
func (t *Transport) exchange(req *http.Request, addr string) (*http.Response, error) {
	h, first, err := t.host(req.Context(), addr)
	if err != nil {
		return nil, fail(req, err)
	}
	pool := t.h1
	if h.h2 {
		pool = t.h2
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
	resp, err := pool.RoundTrip(traced)
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

// host finds out what the server at addr speaks. The first to ask makes a
// connection; the others wait for it, in HTTP/2 until they can share it.
func (t *Transport) host(ctx context.Context, addr string) (h *host, first bool, err error) {
	for {
		t.mu.Lock()
		h := t.hosts[addr]
		if h == nil {
			h = t.newHost(addr)
			t.mu.Unlock()
			return h, true, t.discover(ctx, h, addr)
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

// newHost makes the entry of addr. The caller holds mu.
func (t *Transport) newHost(addr string) *host {
	for other := range t.hosts {
		if len(t.hosts) < maxHosts {
			break
		}
		delete(t.hosts, other)
	}
	h := &host{settled: make(chan struct{})}
	t.hosts[addr] = h
	return h
}

// discover makes the first connection.
func (t *Transport) discover(ctx context.Context, h *host, addr string) error {
	conn, err := t.Dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		t.forget(addr, h)
		h.err = err
		if ctx.Err() != nil {
			h.err = errGaveUp
		}
		close(h.settled)
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h.ready = conn.(*sslnet.Conn)
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

// forget drops what is known of addr, if that is h.
func (t *Transport) forget(addr string, h *host) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hosts[addr] == h {
		delete(t.hosts, addr)
	}
}

// connect makes a connection for a pool.
func (t *Transport) connect(ctx context.Context, network, addr string, h2 bool) (net.Conn, error) {
	t.mu.Lock()
	h := t.hosts[addr]
	if h != nil && h.ready != nil && h.h2 == h2 {
		conn := h.ready
		h.ready = nil
		t.mu.Unlock()
		return conn, nil
	}
	t.mu.Unlock()
	conn, err := t.Dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if (conn.(*sslnet.Conn).ALPN() == "h2") != h2 {
		t.forget(addr, h)
		go conn.Close()
		return nil, errOtherProtocol
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
