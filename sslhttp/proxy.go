package sslhttp

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
)

// proxyTimeout bounds the request to a proxy and its answer, before TLS with the
// server begins, as in net/http.
const proxyTimeout = time.Minute

// maxConnectHeader bounds the answer to CONNECT in bytes if MaxResponseHeaderBytes
// is not set, as in net/http.
const maxConnectHeader = 10 << 20

// maxInterim bounds the responses that are read for one CONNECT request, as net/http
// does for other requests.
const maxInterim = 5

// route says how to connect to the server of a request.
type route struct {
	addr  string   // address of the server
	proxy *url.URL // nil if there is no proxy
	h1    bool     // the request needs HTTP/1.1
}

type routeKey struct{}

// routeOf returns the route of a request.
func (f *fields) routeOf(req *http.Request) (*route, error) {
	addr, err := address(req)
	if err != nil {
		return nil, err
	}
	r := &route{addr: addr, h1: needsHTTP1(req)}
	if f.base.Proxy != nil {
		if r.proxy, err = f.base.Proxy(req); err != nil {
			return nil, err
		}
	}
	switch {
	case !f.h1 && !f.h2:
		err = errors.New("sslhttp: Base.Protocols has neither HTTP1 nor HTTP2")
	case r.h1 && !f.h1:
		err = errors.New("sslhttp: the request asks for an upgrade, which needs HTTP/1.1, but Base.Protocols does not have HTTP1")
	}
	return r, err
}

// key returns the key under which the hosts map has the server of this route.
func (r *route) key() string {
	if r.proxy == nil {
		return r.addr
	}
	return r.proxy.String() + " " + r.addr
}

// hidden returns the request to pass to a pool. The pools keep connections by the
// host of the URL. Therefore a request through a proxy gets a made-up host that
// depends on the proxy. An internationalized host is replaced by its A-label: the
// HTTP/2 of net/http does not convert it as HTTP/1.1 does, and would not find the
// connection.
func (r *route) hidden(req *http.Request) *http.Request {
	req = req.WithContext(context.WithValue(req.Context(), routeKey{}, r))
	if r.proxy == nil && ascii(req.URL.Host) {
		return req
	}
	u := *req.URL
	req.URL = &u
	if !ascii(u.Host) {
		port := u.Port()
		if u.Host, _, _ = net.SplitHostPort(r.addr); port != "" {
			u.Host = r.addr
		}
	}
	if r.proxy != nil {
		if req.Host == "" {
			req.Host = u.Host
		}
		sum := sha256.Sum256([]byte(r.key()))
		u.Host = hex.EncodeToString(sum[:16]) + ".proxied.invalid:443"
	}
	return req
}

// below makes the underlying connection for TLS with the server.
func (p *pools) below(ctx context.Context, r *route) (net.Conn, error) {
	if r.proxy == nil {
		return p.dialBelow(ctx, r.addr)
	}
	conn, err := p.through(ctx, r)
	if err != nil {
		// Only the scheme and the host are safe to show: if a proxy's URL is malformed,
		// its password can be in any other part.
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: fmt.Errorf("%s://%s: %w", r.proxy.Scheme, r.proxy.Host, err)}
	}
	return conn, nil
}

// proxyPorts has the default port of each kind of proxy, by the scheme of its URL.
var proxyPorts = map[string]string{"": "80", "http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// hop returns the address to which a connection is made first: that of the proxy, or
// of the server if there is no proxy. The host of the proxy is converted to its A-label,
// as in net/http. If it has none, through returns an error.
func (r *route) hop() string {
	if r.proxy == nil {
		return r.addr
	}
	name := r.proxy.Hostname()
	if label, err := aLabel(name); err == nil {
		name = label
	}
	port := r.proxy.Port()
	if port == "" {
		port = proxyPorts[r.proxy.Scheme]
	}
	return net.JoinHostPort(name, port)
}

// through makes a connection through the proxy.
func (p *pools) through(ctx context.Context, r *route) (net.Conn, error) {
	if proxyPorts[r.proxy.Scheme] == "" {
		return nil, fmt.Errorf("want a proxy URL with http, https, socks5 or socks5h, got %q", r.proxy.Scheme)
	}
	if _, err := aLabel(r.proxy.Hostname()); err != nil {
		return nil, err
	}
	addr, ask := r.hop(), p.askHTTP
	if strings.HasPrefix(r.proxy.Scheme, "socks") {
		ask = askSOCKS
	}
	conn, err := p.dialBelow(ctx, addr)
	if err != nil {
		return nil, err
	}
	if r.proxy.Scheme == "https" {
		secured, err := p.secureProxy(ctx, conn, addr)
		if err != nil {
			return nil, err
		}
		conn = secured
	}
	limited, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	stop := context.AfterFunc(limited, func() { conn.Close() })
	err = ask(limited, conn, r)
	if !stop() { // conn is closed, or about to be
		err = limited.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// askHTTP asks an HTTP proxy for a connection with CONNECT, as net/http does.
func (f *fields) askHTTP(ctx context.Context, conn net.Conn, r *route) error {
	header := f.base.ProxyConnectHeader
	if f.base.GetProxyConnectHeader != nil {
		var err error
		if header, err = f.base.GetProxyConnectHeader(ctx, r.proxy, r.addr); err != nil {
			return err
		}
	}
	if header = header.Clone(); header == nil {
		header = make(http.Header)
	}
	if u := r.proxy.User; u != nil {
		password, _ := u.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: r.addr}, Host: r.addr, Header: header}
	if err := req.Write(conn); err != nil {
		return err
	}
	most := f.base.MaxResponseHeaderBytes
	if most <= 0 {
		most = maxConnectHeader
	}
	br := bufio.NewReader(io.LimitReader(conn, most))
	resp, err := answer(br, req)
	if err != nil {
		return err
	}
	if f.base.OnProxyConnectResponse != nil {
		if err := f.base.OnProxyConnectResponse(ctx, r.proxy, req, resp); err != nil {
			return err
		}
	}
	switch {
	case resp.StatusCode/100 != 2: // RFC 9110 section 9.3.6
		return fmt.Errorf("the proxy answered CONNECT %s with %s", r.addr, printable(resp.Status))
	case br.Buffered() > 0: // a TLS server sends nothing before the ClientHello
		return fmt.Errorf("%d bytes follow the proxy's answer to CONNECT %s", br.Buffered(), r.addr)
	}
	return nil
}

// printable bounds a text of the proxy, and escapes control characters in it.
func printable(text string) string {
	var b strings.Builder
	for _, r := range bounded.Text(text) {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// answer reads the final response to a CONNECT request. Interim responses (RFC 9110
// section 15.2) are skipped.
func answer(br *bufio.Reader, req *http.Request) (*http.Response, error) {
	for range maxInterim {
		resp, err := http.ReadResponse(br, req)
		switch {
		case err != nil && printable(err.Error()) != err.Error(): // it has text of the proxy
			return nil, errors.New(printable(err.Error()))
		case err != nil:
			return nil, err
		case resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, nil
		}
	}
	return nil, fmt.Errorf("the proxy sent more than %d interim responses", maxInterim)
}
