package sslhttp

//lint:file-ignore SA1019 every field of http.Transport takes effect or is an error, including deprecated ones

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"slices"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/sessions"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// fields has the settings that follow from the fields of Transport.
type fields struct {
	base    *http.Transport // a copy of Base
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	timeout time.Duration // Base.TLSHandshakeTimeout; bounds a handshake if above 0
	h1, h2  bool          // protocols that https may use

	sessions sessions.Cache // of a Dialer that has none
}

// maxSessions bounds the sessions of a Transport whose Dialer has no cache.
const maxSessions = 256

// fieldsOf evaluates every field of Transport. It returns an error if a field
// cannot take effect: nobody would notice an egress filter or a CA that is
// silently ignored.
func fieldsOf(dialer, proxyDialer *sslnet.Dialer, given *http.Transport) (*fields, error) {
	switch {
	case dialer == nil:
		return nil, errNoDialer
	case proxyDialer != nil && proxyDialer.NetDialer != nil:
		return nil, errors.New("sslhttp: ProxyDialer.NetDialer cannot be used: Base.DialContext or Dialer.NetDialer makes the connections to proxies")
	}
	f := &fields{base: given, sessions: sslsession.NewCache(maxSessions)}
	if given == nil {
		f.base, _ = http.DefaultTransport.(*http.Transport)
		if f.base == nil { // the program has replaced it
			f.base = new(http.Transport)
		}
	}
	f.base = f.base.Clone() // leaves out fields that net/http itself has set
	if given != nil {
		f.timeout = f.base.TLSHandshakeTimeout
	}
	if err := f.refuse(); err != nil {
		return nil, err
	}
	if err := f.setDial(dialer, given != nil); err != nil {
		return nil, err
	}
	f.setProtocols()
	return f, nil
}

// refuse returns an error if a field would make net/http do TLS without the Dialer.
func (f *fields) refuse() error {
	b := f.base
	switch {
	case b.DialTLSContext != nil, b.DialTLS != nil:
		return errors.New("sslhttp: Base.DialTLSContext and Base.DialTLS cannot be used: Dialer does TLS; set Base.DialContext to make the underlying connections")
	case len(b.TLSNextProto) > 0:
		return errors.New("sslhttp: Base.TLSNextProto cannot be used: its functions need connections of crypto/tls")
	case b.TLSClientConfig == nil:
		return nil
	}
	config := reflect.ValueOf(b.TLSClientConfig).Elem()
	for i := range config.NumField() {
		field := config.Type().Field(i)
		switch {
		case !field.IsExported(), config.Field(i).IsZero():
		case field.Name == "NextProtos" && slices.Contains(b.TLSClientConfig.NextProtos, "h2"): // set by net/http itself
		default:
			return fmt.Errorf("sslhttp: Base.TLSClientConfig.%s cannot be used: Dialer does TLS; set the Options of Dialer.Ctx", field.Name)
		}
	}
	return nil
}

// setDial chooses the function that makes the underlying connections, for http and
// https.
func (f *fields) setDial(dialer *sslnet.Dialer, given bool) error {
	b := f.base
	switch {
	case dialer.NetDialer != nil && given && (b.DialContext != nil || b.Dial != nil):
		return errors.New("sslhttp: Dialer.NetDialer and Base.DialContext are both set; set one of them")
	case dialer.NetDialer != nil:
		f.dial = dialer.NetDialer.DialContext
	case b.DialContext != nil:
		f.dial = b.DialContext
	case b.Dial != nil:
		old := b.Dial
		f.dial = func(_ context.Context, network, addr string) (net.Conn, error) { return old(network, addr) }
	default:
		f.dial = new(net.Dialer).DialContext
	}
	return nil
}

// setProtocols determines which protocols may be used.
func (f *fields) setProtocols() {
	f.h1, f.h2 = true, f.base.TLSNextProto == nil // an empty map was the way to disable HTTP/2 before Protocols
	if p := f.base.Protocols; p != nil {
		f.h1, f.h2 = p.HTTP1(), p.HTTP2()
	}
}

// offers returns the protocols to offer, given those of Options.ALPN: for any
// request, and for one that needs HTTP/1.1. useH1 and useH2 are the protocols that may be used.
func offers(alpn []string, useH1, useH2 bool) (all, h1 []string) {
	if len(alpn) == 0 {
		return nil, nil
	}
	h1 = slices.DeleteFunc(slices.Clone(alpn), func(p string) bool { return p == "h2" })
	if len(h1) == 0 {
		h1 = []string{"http/1.1"}
	}
	switch {
	case !useH2:
		return h1, h1
	case !useH1:
		return []string{"h2"}, h1
	}
	return alpn, h1
}

// plain makes the net/http transport for http URLs. It differs from Base only in
// how it dials: it uses the Dialer for TLS with an https proxy.
func (p *pools) plain() *http.Transport {
	pool := p.base.Clone()
	forgetTLS(pool)
	pool.DialContext, pool.Dial = p.dial, nil
	pool.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		below, err := p.dialBelow(ctx, addr)
		if err != nil {
			return nil, err
		}
		return p.secureProxy(ctx, below, addr)
	}
	return pool
}

// pool makes the net/http transport for one protocol over TLS. With unencrypted
// HTTP/2 as its only protocol, net/http uses HTTP/2 on the connections of the
// Dialer without checking their type.
func (p *pools) pool(h2 bool) *http.Transport {
	pool := p.base.Clone()
	forgetTLS(pool)
	pool.Proxy = nil // connect dials through the proxy
	pool.Protocols = new(http.Protocols)
	pool.Protocols.SetHTTP1(!h2)
	pool.Protocols.SetUnencryptedHTTP2(h2)
	pool.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		r, ok := ctx.Value(routeKey{}).(*route)
		if !ok {
			return nil, errors.New("sslhttp: net/http dialed without the context of a request")
		}
		return p.connect(ctx, r, h2)
	}
	return pool
}

func forgetTLS(pool *http.Transport) {
	pool.TLSClientConfig, pool.TLSNextProto, pool.ForceAttemptHTTP2 = nil, nil, false
}

// secureProxy does the TLS handshake over below with an https proxy at addr.
func (p *pools) secureProxy(ctx context.Context, below net.Conn, addr string) (*sslnet.Conn, error) {
	if p.t.ProxyDialer == nil {
		return p.secure(ctx, p.t.Dialer, below, addr, p.alpnH1)
	}
	var offer []string // the protocols of its Options, without h2
	if p.proxyCtx != nil {
		_, offer = offers(p.proxyCtx.ALPN(), true, false)
	}
	return p.secure(ctx, p.t.ProxyDialer, below, addr, offer)
}

// dialBelow makes an underlying connection.
func (f *fields) dialBelow(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := f.dial(ctx, "tcp", addr)
	if err == nil && conn == nil {
		err = errors.New("sslhttp: the dial function of Base returned neither a connection nor an error")
	}
	return conn, err
}

// secure does the TLS handshake of dialer over below with the server at addr. It calls
// the hooks of a trace, as net/http does for connections of crypto/tls.
func (p *pools) secure(ctx context.Context, dialer *sslnet.Dialer, below net.Conn, addr string, protocols []string) (*sslnet.Conn, error) {
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	conn, err := p.shake(ctx, dialer, below, addr, protocols)
	if trace != nil && trace.TLSHandshakeDone != nil {
		var state tls.ConnectionState
		if err == nil {
			state = conn.ConnectionState()
		}
		trace.TLSHandshakeDone(state, err)
	}
	return conn, err
}

func (p *pools) shake(ctx context.Context, dialer *sslnet.Dialer, below net.Conn, addr string, protocols []string) (*sslnet.Conn, error) {
	ctx = sessions.With(ctx, p.sessions)
	limited := ctx
	if p.timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	conn, err := dialer.Client(limited, below, addr, protocols...)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = fmt.Errorf("sslhttp: %s: %w", addr, sslnet.ErrHandshakeTimeout)
	}
	return conn, err
}
