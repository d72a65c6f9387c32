package sslhttp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"reflect"
	"time"

	"github.com/seed-014b8713/sslfilter/sslnet"
)

const (
	// preface is the client connection preface of HTTP/2 (RFC 9113 section 3.4).
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// prefaceTimeout bounds the wait for the preface, as in net/http.
	prefaceTimeout = 10 * time.Second
	// maxWrappers bounds the number of nested wrappers in which within looks for an
	// *sslnet.Conn.
	maxWrappers = 16
)

var errNoPreface = errors.New("sslhttp: ALPN chose h2, but the client does not speak HTTP/2")

// hidden is a connection on which ALPN chose HTTP/2. It has no ConnectionState
// method, so that net/http takes it for a connection without TLS and does not
// insist on crypto/tls. On such a connection net/http would wait for the client's
// preface without a limit, and serve HTTP/1.1 if there is none. Therefore hidden
// reads and checks the preface itself.
type hidden struct {
	net.Conn
	tls   *sslnet.Conn
	srv   *http.Server
	timer *time.Timer // closes Conn

	first        [len(preface)]byte
	heard, given int // bytes of the preface that were read from Conn, and returned by Read
}

func hide(srv *http.Server, conn net.Conn, c *sslnet.Conn) *hidden {
	return &hidden{Conn: conn, tls: c, srv: srv, timer: time.AfterFunc(prefaceTimeout, func() { conn.Close() })}
}

// NetConn returns the connection that the listener accepted.
func (h *hidden) NetConn() net.Conn { return h.Conn }

// Read returns the preface after all of it has arrived, and then what follows.
func (h *hidden) Read(b []byte) (int, error) {
	for h.heard < len(preface) {
		n, err := h.Conn.Read(h.first[h.heard:])
		if h.heard += n; !bytes.HasPrefix([]byte(preface), h.first[:h.heard]) {
			logf(h.srv, "sslhttp: connection from %s closed: %v", h.RemoteAddr(), errNoPreface)
			h.Close()
			return 0, errNoPreface
		}
		if err != nil && h.heard < len(preface) {
			return 0, err
		}
	}
	h.timer.Stop()
	if h.given < len(preface) {
		n := copy(b, preface[h.given:])
		h.given += n
		return n, nil
	}
	return h.Conn.Read(b)
}

// Close closes the connection.
func (h *hidden) Close() error {
	h.timer.Stop()
	return h.Conn.Close()
}

// stated adds the method ConnectionState to a wrapper around an *sslnet.Conn.
// net/http sets Request.TLS from it.
type stated struct {
	net.Conn
	tls *sslnet.Conn
}

// NetConn returns the connection that the listener accepted.
func (s *stated) NetConn() net.Conn { return s.Conn }

// ConnectionState returns the state of the *sslnet.Conn.
func (s *stated) ConnectionState() tls.ConnectionState { return s.tls.ConnectionState() }

// shown returns the connection that the listener accepted.
func shown(c net.Conn) net.Conn {
	switch c := c.(type) {
	case *hidden:
		return c.Conn
	case *stated:
		return c.Conn
	}
	return c
}

// within returns the *sslnet.Conn inside wrappers, or nil. A wrapper has a method
// NetConn or embeds a net.Conn, like that of golang.org/x/net/netutil.
func within(c net.Conn) *sslnet.Conn {
	for range maxWrappers {
		switch w := c.(type) {
		case nil, *tls.Conn: // an *sslnet.Conn below another TLS connection is not the client's
			return nil
		case *sslnet.Conn:
			return w
		case interface{ NetConn() net.Conn }:
			c = w.NetConn()
		default:
			c = embedded(c)
		}
	}
	return nil
}

// embedded returns the net.Conn that a struct embeds, or nil.
func embedded(c net.Conn) net.Conn {
	v := reflect.ValueOf(c)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	field, ok := v.Type().FieldByName("Conn")
	if !ok || !field.Anonymous || len(field.Index) != 1 {
		return nil
	}
	inner, _ := v.FieldByIndex(field.Index).Interface().(net.Conn)
	return inner
}
