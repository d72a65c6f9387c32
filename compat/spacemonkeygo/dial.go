//go:build cgo

package openssl

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/seed-014b8713/sslfilter/sslnet"
)

// DialFlags change what Dial does.
type DialFlags int

const (
	InsecureSkipHostVerification DialFlags = 1 << iota
	DisableSNI
)

// Dial connects to addr, does the handshake and verifies the server: that its
// certificate is valid, and that it is for the host of addr. The CAs are those of
// ctx, or those of the system if ctx has none. ctx may be nil.
//
// With InsecureSkipHostVerification the name is not verified. If SetVerify,
// SetVerifyMode or SetVerifyCallback was called, ctx decides whether the certificate
// is verified; otherwise it is verified unless flags has InsecureSkipHostVerification.
//
// DisableSNI sends no server name. The handshake is bounded by
// sslnet.DefaultHandshakeTimeout.
func Dial(network, addr string, ctx *Ctx, flags DialFlags) (*Conn, error) {
	return DialSession(network, addr, ctx, flags, nil)
}

// DialSession is Dial with a session of GetSession, which the server may resume.
func DialSession(network, addr string, ctx *Ctx, flags DialFlags, session []byte) (*Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ctx == nil {
		if ctx, err = NewCtx(); err != nil {
			return nil, err
		}
	}
	below, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	conn, err := Client(below, ctx)
	if err != nil {
		below.Close()
		return nil, err
	}
	if err := conn.dialed(host, flags, session); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// dialed does the handshake of a connection of Dial.
func (c *Conn) dialed(host string, flags DialFlags, session []byte) error {
	c.ctx.mu.Lock()
	asked := c.ctx.asked
	c.ctx.mu.Unlock()
	if !asked && flags&InsecureSkipHostVerification == 0 {
		c.SetVerifyMode(VerifyPeer)
	}
	if flags&DisableSNI == 0 {
		if err := c.SetTlsExtHostName(host); err != nil {
			return err
		}
	}
	if len(session) > 0 {
		if err := c.setSession(session); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), sslnet.DefaultHandshakeTimeout)
	defer cancel()
	if _, err := c.ready(ctx); err != nil {
		return err
	}
	if flags&InsecureSkipHostVerification != 0 {
		return nil
	}
	return c.VerifyHostname(host)
}

type listener struct {
	net.Listener
	ctx    *Ctx
	worked atomic.Bool // a connection with the settings of ctx was possible at some time
}

// Accept returns the next connection. Its handshake runs in the first Read or Write.
//
// If the settings of the context cannot work, the handshake returns the error, because
// the program may be about to change them: an error of Accept would end a server that is
// just replacing its certificate. Accept returns the error only if they have never worked.
func (l *listener) Accept() (net.Conn, error) {
	below, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn, err := newConn(below, l.ctx, false)
	if err == nil && !l.worked.Load() {
		_, err = checked(conn, nil)
		l.worked.Store(err == nil)
	}
	if err != nil {
		below.Close()
		return nil, err
	}
	return conn, nil
}

// NewListener returns a listener for TLS over the connections of inner.
func NewListener(inner net.Listener, ctx *Ctx) net.Listener {
	l := &listener{Listener: inner, ctx: ctx}
	if ctx != nil {
		_, err := newSSL(ctx, false).engine()
		l.worked.Store(err == nil)
	}
	return l
}

// Listen listens for TLS connections at laddr.
func Listen(network, laddr string, ctx *Ctx) (net.Listener, error) {
	if ctx == nil {
		return nil, errNoCtx
	}
	l, err := net.Listen(network, laddr)
	if err != nil {
		return nil, err
	}
	return NewListener(l, ctx), nil
}

// ListenAndServeTLS serves HTTP/1.1 with the certificate and the key of two files.
func ListenAndServeTLS(addr string, cert_file string, key_file string, handler http.Handler) error {
	return ServerListenAndServeTLS(&http.Server{Addr: addr, Handler: handler}, cert_file, key_file)
}

// ServerListenAndServeTLS serves HTTP/1.1 as srv says, with the certificate and the
// key of two files.
func ServerListenAndServeTLS(srv *http.Server, cert_file, key_file string) error {
	addr := srv.Addr
	if addr == "" {
		addr = ":https"
	}
	ctx, err := NewCtxFromFiles(cert_file, key_file)
	if err != nil {
		return err
	}
	l, err := Listen("tcp", addr, ctx)
	if err != nil {
		return err
	}
	return srv.Serve(l)
}
