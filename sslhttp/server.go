package sslhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Serve serves HTTP/1.1 and HTTP/2 on the connections of l, which are to be
// *sslnet.Conn with the handshake done, as those of an *sslnet.Listener are, or
// wrappers that have NetConn or embed a net.Conn, as netutil.LimitListener's. It
// is srv.Serve otherwise: Shutdown and Close end it, limits and timeouts of srv
// hold, and Request.TLS is filled for both protocols.
//
// It changes srv, once: ConnContext, ConnState and Handler are wrapped, and
// Protocols also has UnencryptedHTTP2 if it has HTTP2, which is how net/http
// takes HTTP/2 on a connection that it cannot look into. So srv must not serve
// plain connections besides if it is to refuse HTTP/2 there. Several calls for
// one srv are fine; all of them must come before a change of these fields.
//
// If l is an *sslnet.Listener without HandshakeError, failed handshakes are
// written to srv.ErrorLog as net/http does, and a client that speaks plain HTTP
// gets an answer in plain HTTP that says so.
func Serve(srv *http.Server, l net.Listener) error {
	switch {
	case srv == nil:
		return errors.New("sslhttp: no http.Server")
	case l == nil:
		return errors.New("sslhttp: no listener")
	}
	prepare(srv)
	if l, ok := l.(*sslnet.Listener); ok && l.HandshakeError == nil {
		l.HandshakeError = func(below net.Conn, err error) { handshakeFailed(srv, below, err) }
	}
	return srv.Serve(&listener{Listener: l, srv: srv})
}

// ListenAndServe listens at srv.Addr, by default ":https", and calls Serve.
func ListenAndServe(srv *http.Server, ctx *sslfilter.Ctx) error {
	if srv == nil {
		return errors.New("sslhttp: no http.Server")
	}
	addr := srv.Addr
	if addr == "" {
		addr = ":https"
	}
	l, err := sslnet.Listen("tcp", addr, ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	return Serve(srv, l)
}

// FromContext is the connection of a request, from its context: for
// ClientCertValid, Peer and all else that a Conn tells. It is nil where neither
// Serve nor ConnContext is in use.
func FromContext(ctx context.Context) *sslnet.Conn {
	if ctx == nil {
		return nil
	}
	if c, ok := ctx.Value(contextKey{}).(*served); ok {
		return c.Conn
	}
	return nil
}

// ConnContext puts the connection where FromContext finds it. It is for an
// http.Server that serves an sslnet.Listener without Serve:
//
//	srv := &http.Server{ConnContext: sslhttp.ConnContext}
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	conn := within(c)
	if conn == nil {
		return ctx
	}
	s := &served{Conn: conn}
	if _, knows := c.(interface{ ConnectionState() tls.ConnectionState }); !knows {
		state := conn.ConnectionState()
		s.state = &state
	}
	return context.WithValue(ctx, contextKey{}, s)
}

type contextKey struct{}

// answerTimeout bounds the answer to a client that speaks plain HTTP.
const answerTimeout = time.Second

// served is what the context of a request has.
type served struct {
	*sslnet.Conn
	state *tls.ConnectionState // of a hidden connection, whose net/http knows none
}

// preparing is held while a server is changed.
var preparing sync.Mutex

// prepare changes srv so that it serves hidden connections.
func prepare(srv *http.Server) {
	preparing.Lock()
	defer preparing.Unlock()
	if _, done := srv.Handler.(*handler); done {
		return
	}
	srv.Handler = &handler{srv.Handler}
	srv.Protocols = protocols(srv)
	if connContext := srv.ConnContext; connContext != nil {
		srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			return connContext(ConnContext(ctx, c), shown(c))
		}
	} else {
		srv.ConnContext = ConnContext
	}
	if connState := srv.ConnState; connState != nil {
		srv.ConnState = func(c net.Conn, state http.ConnState) { connState(shown(c), state) }
	}
}

// protocols is what srv speaks, and HTTP/2 also on hidden connections.
func protocols(srv *http.Server) *http.Protocols {
	p := new(http.Protocols)
	if srv.Protocols != nil {
		*p = *srv.Protocols
	} else {
		p.SetHTTP1(true)
		_, h2 := srv.TLSNextProto["h2"]
		p.SetHTTP2(srv.TLSNextProto == nil || h2) // an empty map is the old way to switch it off
	}
	p.SetUnencryptedHTTP2(p.HTTP2() || p.UnencryptedHTTP2())
	return p
}

// handler fills Request.TLS where net/http cannot.
type handler struct{ next http.Handler }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil {
		if c, ok := r.Context().Value(contextKey{}).(*served); ok {
			r.TLS = c.state
		}
	}
	next := h.next
	if next == nil {
		next = http.DefaultServeMux
	}
	next.ServeHTTP(w, r)
}

// listener hides the connections that speak HTTP/2.
type listener struct {
	net.Listener
	srv   *http.Server
	plain sync.Once // a connection without TLS was told of
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := within(conn)
		if c == nil {
			l.plain.Do(func() {
				logf(l.srv, "sslhttp: no *sslnet.Conn is found in a connection, a %T without NetConn: Request.TLS and FromContext are nil", conn)
			})
			return conn, nil
		}
		if c.ALPN() != "h2" {
			if conn == net.Conn(c) {
				return c, nil
			}
			return &stated{conn, c}, nil
		}
		switch {
		case !l.srv.Protocols.HTTP2():
			err = errors.New("the client and Options.ALPN chose h2, and the server's Protocols have no HTTP/2")
		case !admitted(c):
			err = errors.New("HTTP/2 does not admit the cipher suite " + c.Cipher() + " (RFC 9113 section 9.2.2)")
		default:
			return hide(l.srv, conn, c), nil
		}
		go func() { // a connection below may take its time for both
			logf(l.srv, "sslhttp: connection from %s closed: %v", c.RemoteAddr(), err)
			conn.Close()
		}()
	}
}

// admitted reports whether HTTP/2 may use the cipher suite: in TLS 1.2 it must
// be ephemeral and authenticate what it encrypts.
func admitted(c *sslnet.Conn) bool {
	cipher := c.Cipher()
	switch {
	case c.Version() == sslfilter.VersionTLS13.String():
		return true
	case !strings.HasPrefix(cipher, "ECDHE-") && !strings.HasPrefix(cipher, "DHE-"):
		return false
	}
	return strings.Contains(cipher, "GCM") || strings.Contains(cipher, "CCM") || strings.Contains(cipher, "POLY1305")
}

// handshakeFailed does what net/http does for a connection of crypto/tls.
func handshakeFailed(srv *http.Server, below net.Conn, err error) {
	logf(srv, "http: TLS handshake error from %s: %v", below.RemoteAddr(), err)
	var e *sslfilter.Error
	if errors.As(err, &e) && e.PlainHTTP() {
		below.SetWriteDeadline(time.Now().Add(answerTimeout))
		io.WriteString(below, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
}

func logf(srv *http.Server, format string, args ...any) {
	if srv.ErrorLog != nil {
		srv.ErrorLog.Printf(format, args...)
	} else {
		log.Printf(format, args...)
	}
}
