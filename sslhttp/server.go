package sslhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Serve serves HTTP/1.1 and HTTP/2 on the connections of l. These must be
// *sslnet.Conn after the handshake, as those of an *sslnet.Listener are, or
// wrappers around them that have a method NetConn or embed a net.Conn, like those
// of netutil.LimitListener. Otherwise Serve works like srv.Serve: Shutdown and
// Close end it, the limits and timeouts of srv apply, and Request.TLS is set for
// both protocols.
//
// The first call for srv changes it: ConnContext, ConnState and Handler are
// wrapped, and UnencryptedHTTP2 is added to Protocols if they have HTTP2, because
// net/http uses HTTP/2 on these connections only with that setting. Therefore, if
// srv also serves connections without TLS, it accepts HTTP/2 there too. Serve may
// be called several times for one srv. Do not change these fields between the
// calls.
//
// If a ChooseFunc has chosen the context of a connection by the server name, a
// request for another host is answered with 421 Misdirected Request (RFC 9110
// section 15.5.20), and the client repeats it on another connection. Otherwise a
// client could choose the context of one name, which may ask for no certificate, and
// send requests for another name. This includes the host of CONNECT.
//
// If l is an *sslnet.Listener without HandshakeError, failed handshakes are logged
// to srv.ErrorLog as in net/http, and a client that speaks plain HTTP gets an error
// response in plain HTTP.
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

// ListenAndServe listens at srv.Addr, or at ":https" if that is empty, and calls
// Serve.
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

// FromContext returns the connection of a request, given the context of the
// request. Use it to call ClientCertValid, Peer and the other methods of the Conn.
// It returns nil if the server uses neither Serve nor ConnContext.
func FromContext(ctx context.Context) *sslnet.Conn {
	if ctx == nil {
		return nil
	}
	if c, ok := ctx.Value(contextKey{}).(*served); ok {
		return c.Conn
	}
	return nil
}

// ConnContext returns a context in which FromContext finds the connection. It is
// for an http.Server that serves an sslnet.Listener without Serve:
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

// served is the value in the context of a request.
type served struct {
	*sslnet.Conn
	state *tls.ConnectionState // nil if net/http gets the state from the connection itself
}

// preparing is held while prepare changes a server.
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

// protocols returns the protocols of srv, with UnencryptedHTTP2 for hidden
// connections if they have HTTP2.
func protocols(srv *http.Server) *http.Protocols {
	p := new(http.Protocols)
	if srv.Protocols != nil {
		*p = *srv.Protocols
	} else {
		p.SetHTTP1(true)
		_, h2 := srv.TLSNextProto["h2"]
		p.SetHTTP2(srv.TLSNextProto == nil || h2) // an empty map is the old way to disable HTTP/2
	}
	p.SetUnencryptedHTTP2(p.HTTP2() || p.UnencryptedHTTP2())
	return p
}

// handler sets Request.TLS if net/http cannot, and refuses misdirected requests.
type handler struct{ next http.Handler }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(contextKey{}).(*served); ok {
		if r.TLS == nil {
			r.TLS = c.state
		}
		if misdirected(c.Conn, r.Host) {
			http.Error(w, http.StatusText(http.StatusMisdirectedRequest), http.StatusMisdirectedRequest)
			return
		}
	}
	next := h.next
	if next == nil {
		next = http.DefaultServeMux
	}
	next.ServeHTTP(w, r)
}

// misdirected reports whether a request for host may not use the connection: its
// context was chosen for another server name, and perhaps with another policy for
// client certificates. A request without a host, or for an IP address, which a
// ClientHello cannot name, may use a connection without a server name.
func misdirected(c *sslnet.Conn, host string) bool {
	name, chosen := c.ChosenName()
	if !chosen {
		return false
	}
	if bare, _, err := net.SplitHostPort(host); err == nil {
		host = bare
	}
	host = strings.TrimSuffix(host, ".")
	if name == "" {
		_, err := netip.ParseAddr(strings.Trim(host, "[]"))
		return err != nil && host != ""
	}
	return !strings.EqualFold(host, strings.TrimSuffix(name, "."))
}

// listener hides the connections that speak HTTP/2.
type listener struct {
	net.Listener
	srv   *http.Server
	plain sync.Once // logs the first connection without an *sslnet.Conn
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
				logf(l.srv, "sslhttp: no *sslnet.Conn found in a connection of type %T, which has no method NetConn: Request.TLS and FromContext are nil", conn)
			})
			return conn, nil
		}
		state := c.State()
		if state.ALPN != "h2" {
			if conn == net.Conn(c) {
				return c, nil
			}
			return &stated{conn, c}, nil
		}
		switch {
		case !l.srv.Protocols.HTTP2():
			err = errors.New("ALPN chose h2, but the server's Protocols have no HTTP/2")
		case !admitted(state):
			err = errors.New("HTTP/2 prohibits the cipher suite " + state.Cipher + " (RFC 9113 section 9.2.2)")
		default:
			return hide(l.srv, conn, c), nil
		}
		go func() { // RemoteAddr and Close of an underlying connection may block
			logf(l.srv, "sslhttp: connection from %s closed: %v", c.RemoteAddr(), err)
			conn.Close()
		}()
	}
}

// admitted reports whether HTTP/2 may use the cipher suite: in TLS 1.2 it must have
// an ephemeral key exchange and an AEAD cipher.
func admitted(s sslfilter.State) bool {
	switch {
	case s.Version == sslfilter.VersionTLS13:
		return true
	case !strings.HasPrefix(s.Cipher, "ECDHE-") && !strings.HasPrefix(s.Cipher, "DHE-"):
		return false
	}
	return strings.Contains(s.Cipher, "GCM") || strings.Contains(s.Cipher, "CCM") || strings.Contains(s.Cipher, "POLY1305")
}

// handshakeFailed logs the error and answers plain HTTP, as net/http does for a
// connection of crypto/tls.
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
