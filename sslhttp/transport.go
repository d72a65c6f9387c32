package sslhttp

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Transport is an http.RoundTripper that uses HTTP/1.1 or HTTP/2, as ALPN chooses,
// over connections of Dialer. It sets Response.TLS. A request that asks for an
// upgrade, such as a WebSocket, gets a connection with HTTP/1.1, even if the server
// also supports HTTP/2. A Transport is safe for concurrent use. Its fields must not
// be changed after the first use.
//
// Requests for http URLs go through Base. As in net/http, an internationalized host
// name is converted to its A-label ("bücher.example" to "xn--bcher-kva.example"), which
// is the name that is sent and verified.
//
// The hooks of an httptrace.ClientTrace are called as by net/http, including
// TLSHandshakeStart and TLSHandshakeDone, also for TLS with an https proxy. The
// connection of GotConn is an *sslnet.Conn.
type Transport struct {
	// Dialer does TLS. It also makes the underlying connections, unless Base has a
	// dial function. It must be set. For HTTP/2, its Ctx needs Options.ALPN with
	// "h2" and "http/1.1".
	//
	// If its Sessions is nil, the Transport resumes sessions with a cache of its own,
	// for at most 256 sessions. To disable this, set Sessions to sslsession.NewCache(0).
	//
	// After Dialer.SetCtx has returned, every request uses a connection that is made
	// with the new Ctx, with HTTP/2 too. Requests that began earlier are completed.
	// Connections with the old Ctx are closed when the next request begins, or as
	// soon as they have no requests, if the bodies of their responses are closed.
	// The limits of Base count the new connections from zero.
	Dialer *sslnet.Dialer
	// ProxyDialer does TLS with an https proxy, which often has another CA, or must not
	// see the client certificate. Its NetDialer must be nil. Default: Dialer, so that
	// the proxy's certificate must have the name in Options.ServerName or Options.SNI,
	// if one is set, and the proxy gets the client certificate if it asks for one.
	ProxyDialer *sslnet.Dialer
	// Base has all other settings. Transport uses a copy. The fields have the same
	// effect as in net/http, with these additions:
	//
	//   - DialContext, or else Dial, makes the underlying connections, including
	//     those to a proxy, in place of Dialer.NetDialer, which must be nil then. A
	//     NetDialer is also used for http URLs.
	//   - Proxy, ProxyConnectHeader, GetProxyConnectHeader, OnProxyConnectResponse:
	//     https requests go through HTTP proxies with CONNECT, and through SOCKS 5
	//     proxies, where Dialer does TLS with the server from end to end.
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
	// http.DefaultTransport, which uses the proxies of the environment
	// (http.ProxyFromEnvironment: HTTPS_PROXY, HTTP_PROXY and NO_PROXY). A Base without
	// Proxy uses none.
	Base *http.Transport

	once sync.Once
	err  error // from fieldsOf
	*fields

	mu      sync.Mutex
	current *pools // nil before the first request
}

// errNoDialer is the error of a Transport that cannot do TLS.
var errNoDialer = errors.New("sslhttp: Transport without Dialer or its Ctx")

// RoundTrip sends one request and returns the response.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.once.Do(t.init)
	if t.err != nil {
		return nil, fail(req, t.err)
	}
	https := req.URL != nil && req.URL.Scheme == "https"
	if !https && req.URL != nil && req.URL.Scheme != "http" && t.Base != nil {
		return t.Base.RoundTrip(req) // the scheme may be registered there with RegisterProtocol
	}
	var r *route
	if https {
		var err error
		if r, err = t.routeOf(req); err != nil {
			return nil, fail(req, err)
		}
	}
	for try := 1; ; try++ {
		resp, err := t.attempt(req, r)
		if try == maxTries || !errors.Is(err, errOtherProtocol) {
			return resp, err
		}
		if req, err = again(req, err); err != nil {
			return nil, err
		}
	}
}

// attempt sends a request once. r is nil for an http URL.
func (t *Transport) attempt(req *http.Request, r *route) (*http.Response, error) {
	p, err := t.enter()
	if err != nil {
		return nil, fail(req, err)
	}
	defer p.leave()
	if r == nil {
		return p.fetch(req)
	}
	return p.exchange(req, r)
}

// CloseIdleConnections closes the connections that are not serving a request.
func (t *Transport) CloseIdleConnections() {
	t.once.Do(t.init)
	t.mu.Lock()
	p := t.current
	t.mu.Unlock()
	if p != nil {
		p.closeIdle()
	}
}

func (t *Transport) init() { t.fields, t.err = fieldsOf(t.Dialer, t.ProxyDialer, t.Base) }

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
// them. An internationalized host name is converted to its A-label.
func address(req *http.Request) (string, error) {
	name, err := aLabel(req.URL.Hostname())
	if err != nil {
		return "", fmt.Errorf("sslhttp: %w", err)
	}
	port := req.URL.Port()
	if name == "" {
		return "", errors.New("sslhttp: no host in the URL")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", fmt.Errorf("sslhttp: the host name %q has a space or a control character", bounded.Text(name))
	}
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(name, port), nil
}

// aLabel returns a host name in ASCII, as net/http converts it.
func aLabel(name string) (string, error) {
	if ascii(name) {
		return name, nil
	}
	label, err := idna.Lookup.ToASCII(name)
	if err != nil {
		return "", fmt.Errorf("the host name %q has no A-label: %w", bounded.Text(name), err)
	}
	return label, nil
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// fail closes the body of the request, as a RoundTripper must, and returns err.
func fail(req *http.Request, err error) error {
	if req.Body != nil {
		req.Body.Close()
	}
	return err
}
