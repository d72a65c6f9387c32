package sslhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// pools has the connections for one Ctx of the Dialer. If Dialer.SetCtx replaces the
// Ctx, the Transport makes new pools and retires the old ones: they finish their
// requests, and close each connection that has none. A connection that a retired
// pool still makes uses the new Ctx, as every connection of the Dialer does.
type pools struct {
	*fields
	t *Transport

	ctx, proxyCtx *sslfilter.Ctx // of Dialer and ProxyDialer; proxyCtx may be nil

	alpn   []string // protocols to offer
	alpnH1 []string // protocols to offer if the request needs HTTP/1.1

	forHTTP        *http.Transport // for http URLs
	poolH1, poolH2 *http.Transport // for https URLs

	// The mutex of the Transport guards these fields.
	hosts   map[string]*host         // by the key of the route
	retired bool                     // the Transport has newer pools
	sending int                      // requests without a response so far
	conns   map[*clientConn]struct{} // connections with HTTP/2
}

// host is what pools know about a server.
type host struct {
	settled chan struct{} // closed when a connection is in the pool, or err is set
	err     error         // error of the first connection

	h2    bool        // ALPN chose HTTP/2
	ready *clientConn // first connection, not yet in a pool
}

// clientConn is a connection in a pool.
type clientConn struct {
	*sslnet.Conn
	state   tls.ConnectionState
	pools   *pools
	other   bool // made while a Dialer had another Ctx than pools
	streams int  // requests of HTTP/2 that use it; guarded by the mutex of the Transport
}

// Close closes the connection.
func (c *clientConn) Close() error {
	c.pools.t.mu.Lock()
	delete(c.pools.conns, c)
	c.pools.t.mu.Unlock()
	return c.Conn.Close()
}

const (
	maxHosts = 10000 // servers whose protocol pools remember
	maxTries = 3     // attempts to send a request to a server that changes its protocols
)

// errOtherProtocol says that a new connection belongs in the other pool.
var errOtherProtocol = errors.New("sslhttp: the server no longer uses the protocol that it used before")

// enter returns the pools for the current Ctx of each Dialer, and counts a request
// that leave ends.
func (t *Transport) enter() (*pools, error) {
	t.mu.Lock()
	ctx, old := t.Dialer.CurrentCtx(), t.current
	var proxyCtx *sslfilter.Ctx
	if t.ProxyDialer != nil {
		proxyCtx = t.ProxyDialer.CurrentCtx()
	}
	if ctx == nil {
		t.mu.Unlock()
		return nil, errNoDialer
	}
	if old == nil || old.ctx != ctx || old.proxyCtx != proxyCtx {
		t.current = t.newPools(ctx, proxyCtx)
	}
	p := t.current
	p.sending++
	if old == p || old == nil {
		t.mu.Unlock()
		return p, nil
	}
	old.retired = true
	t.mu.Unlock()
	old.tidy()
	return p, nil
}

func (t *Transport) newPools(ctx, proxyCtx *sslfilter.Ctx) *pools {
	p := &pools{
		fields: t.fields, t: t, ctx: ctx, proxyCtx: proxyCtx,
		hosts: make(map[string]*host), conns: make(map[*clientConn]struct{}),
	}
	p.alpn, p.alpnH1 = offers(ctx.ALPN(), t.h1, t.h2)
	p.forHTTP, p.poolH1, p.poolH2 = p.plain(), p.pool(false), p.pool(true)
	return p
}

// leave ends what enter began.
func (p *pools) leave() {
	p.t.mu.Lock()
	p.sending--
	p.t.mu.Unlock()
	p.tidy()
}

// tidy closes the connections of retired pools that no request uses. net/http itself
// closes those with HTTP/1.1 when they become idle, because no later request asks
// these pools for a connection.
func (p *pools) tidy() {
	p.t.mu.Lock()
	over := p.over()
	p.t.mu.Unlock()
	if !over {
		return
	}
	p.closeIdle()
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	for c := range p.conns {
		if c.streams == 0 {
			delete(p.conns, c)
			go c.Conn.Close() // net/http then forgets it
		}
	}
}

// over reports whether the pools are retired and no request still needs a connection.
// The caller holds the mutex of the Transport.
func (p *pools) over() bool { return p.retired && p.sending == 0 }

func (p *pools) closeIdle() {
	p.forHTTP.CloseIdleConnections()
	p.poolH1.CloseIdleConnections()
	p.poolH2.CloseIdleConnections()
}

// fetch sends a request for an http URL.
func (p *pools) fetch(req *http.Request) (*http.Response, error) {
	resp, err := p.forHTTP.RoundTrip(req)
	if err == nil && resp.ProtoMajor == 2 {
		resp.Body = &body{ReadCloser: resp.Body, done: p.tidy}
	}
	return resp, err
}

// exchange sends a request for an https URL on a connection of one pool: that for
// HTTP/1.1 if the request needs it, and otherwise that for the server's protocol.
func (p *pools) exchange(req *http.Request, r *route) (*http.Response, error) {
	u := &use{pools: p, route: r}
	traced := u.traced(req)
	pool := p.poolH1
	if !r.h1 {
		h, first, err := p.host(req.Context(), r)
		if err != nil {
			return nil, fail(req, err)
		}
		if h.h2 {
			pool = p.poolH2
		}
		if first {
			u.first = h
			defer p.settle(h)
		}
	}
	resp, err := pool.RoundTrip(r.hidden(traced))
	if err != nil {
		u.end()
		return nil, err
	}
	resp.Request = req
	if c := u.conn; c != nil {
		resp.TLS = &c.state
	}
	if resp.ProtoMajor == 2 {
		resp.Body = &body{ReadCloser: resp.Body, done: u.end}
	}
	return resp, nil
}

// use is the connection that a request uses.
type use struct {
	pools *pools
	route *route
	first *host       // server whose first connection this request made, or nil
	conn  *clientConn // nil until there is one
}

// begin notes the connection. net/http calls it again if it repeats the request on
// another one.
func (u *use) begin(conn net.Conn) {
	if u.first != nil {
		u.pools.settle(u.first)
	}
	u.end()
	c, ok := conn.(*clientConn)
	if !ok {
		return
	}
	u.pools.t.mu.Lock()
	defer u.pools.t.mu.Unlock()
	u.conn = c
	c.streams++
}

// end notes that the request no longer uses its connection.
func (u *use) end() {
	u.pools.t.mu.Lock()
	c := u.conn
	if c != nil {
		u.conn = nil
		c.streams--
	}
	u.pools.t.mu.Unlock()
	if c != nil {
		u.pools.tidy()
	}
}

// body is the body of a response over HTTP/2.
type body struct {
	io.ReadCloser
	once sync.Once
	done func()
}

// Read reads from the body.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.once.Do(b.done)
	}
	return n, err
}

// Close ends the body.
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.done)
	return err
}

// host determines the protocol of the server of a route. The first caller makes a
// connection. The others wait for it and, with HTTP/2, until they can share it.
func (p *pools) host(ctx context.Context, r *route) (h *host, first bool, err error) {
	key := r.key()
	for {
		p.t.mu.Lock()
		h := p.hosts[key]
		if h == nil {
			h = p.newHost(key)
			p.t.mu.Unlock()
			return h, true, p.discover(ctx, h, r)
		}
		p.t.mu.Unlock()
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

// newHost adds the entry of a route to hosts. The caller holds the mutex of the
// Transport.
func (p *pools) newHost(key string) *host {
	for other := range p.hosts {
		if len(p.hosts) < maxHosts {
			break
		}
		delete(p.hosts, other)
	}
	h := &host{settled: make(chan struct{})}
	p.hosts[key] = h
	return h
}

// discover makes the first connection to a server.
func (p *pools) discover(ctx context.Context, h *host, r *route) error {
	conn, err := p.reach(ctx, r)
	if err != nil {
		p.forget(r, h)
		h.err = err
		if ctx.Err() != nil {
			h.err = errGaveUp
		}
		close(h.settled)
		return err
	}
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	h.ready = conn
	h.h2 = h.ready.ALPN() == "h2"
	if !h.h2 {
		close(h.settled) // with HTTP/1.1, the others need connections of their own
	}
	return nil
}

// settle lets the other requests continue. It closes the first connection if no
// pool has taken it, because no pool takes it later.
func (p *pools) settle(h *host) {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
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
func (p *pools) forget(r *route, h *host) {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	if key := r.key(); p.hosts[key] == h {
		delete(p.hosts, key)
	}
}

// connect makes a connection for a pool.
func (p *pools) connect(ctx context.Context, r *route, h2 bool) (net.Conn, error) {
	p.t.mu.Lock()
	h := p.hosts[r.key()]
	if h != nil && h.ready != nil && h.h2 == h2 {
		defer p.t.mu.Unlock()
		conn := h.ready
		h.ready = nil
		return p.keep(conn, h2)
	}
	p.t.mu.Unlock()
	conn, err := p.reach(ctx, r)
	if err != nil {
		return nil, err
	}
	if (conn.ALPN() == "h2") != h2 {
		p.forget(r, h)
		go conn.Close()
		return nil, errOtherProtocol
	}
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	return p.keep(conn, h2)
}

// keep notes a new connection. It retires the pools if the connection may have another
// Ctx than theirs, because a connection of these pools must always have their Ctx. keep
// returns an error if the pools have become retired in the meantime and no request waits
// for the connection. The caller holds the mutex of the Transport.
func (p *pools) keep(c *clientConn, h2 bool) (net.Conn, error) {
	if c.other {
		p.retired = true
		if p.t.current == p {
			p.t.current = nil
		}
	}
	switch {
	case p.over():
		go c.Close()
		return nil, errRetired
	case h2:
		p.conns[c] = struct{}{}
	}
	return c, nil
}

// errRetired is the error of a connection that no request waits for.
var errRetired = errors.New("sslhttp: the Ctx of the Dialer was replaced")

// reach makes a TLS connection to the server of a route.
func (p *pools) reach(ctx context.Context, r *route) (*clientConn, error) {
	other := p.replaced()
	below, err := p.below(ctx, r)
	if err != nil {
		return nil, err
	}
	offer := p.alpn
	if r.h1 {
		offer = p.alpnH1
	}
	conn, err := p.secure(ctx, p.t.Dialer, below, r.addr, offer)
	if err != nil {
		return nil, err
	}
	if !p.h1 && conn.ALPN() != "h2" {
		go conn.Close()
		return nil, fmt.Errorf("sslhttp: %s did not choose h2, and Base.Protocols does not have HTTP1", r.addr)
	}
	return &clientConn{Conn: conn, state: conn.ConnectionState(), pools: p, other: other || p.replaced()}, nil
}

// replaced reports whether a Dialer has another Ctx than these pools.
func (p *pools) replaced() bool {
	return p.t.Dialer.CurrentCtx() != p.ctx || p.t.ProxyDialer != nil && p.t.ProxyDialer.CurrentCtx() != p.proxyCtx
}
