package sslhttp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/netutil"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// A client that negotiated h2 and speaks HTTP/1.1 gets no answer, however its bytes
// are split.
func TestHTTP1AfterH2(t *testing.T) {
	s := serve(t, serverOptions(), http.HandlerFunc(whoami))
	for name, pieces := range map[string][]string{
		"GET":              {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		"POST":             {"P", "OST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"},
		"almost a preface": {"PRI * HTTP/2.0\r\n\r\nSM\r\n", "\r!"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := sslnet.Dial("tcp", s.addr, testkit.Ctx(t, clientOptions(both...)))
			require.NoError(t, err)
			defer c.Close()
			require.Equal(t, "h2", c.ALPN())
			for _, piece := range pieces {
				_, err = io.WriteString(c, piece)
				require.NoError(t, err)
			}
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Empty(t, string(got))
			require.Contains(t, s.log.String(), "does not speak HTTP/2")
		})
	}
}

// pipes is a listener of in-memory connections, as synctest needs them.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// The server closes the connection of a client that negotiated h2 and sends nothing
// after ten seconds, as net/http does on connections of crypto/tls.
func TestSilentClientOfHTTP2(t *testing.T) {
	server, client := testkit.Ctx(t, serverOptions()), testkit.Ctx(t, clientOptions(both...))
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		srv := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)}
		served := make(chan error, 1)
		go func() { served <- sslhttp.Serve(srv, sslnet.NewListener(l, server)) }()
		a, b := net.Pipe()
		l.conns <- b
		c := sslnet.Client(a, client)
		require.NoError(t, c.SetServerName("localhost"))
		require.NoError(t, c.Handshake())
		begun := time.Now()
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.Equal(t, 10*time.Second, time.Since(begun))
		c.Close()
		srv.Close()
		require.ErrorIs(t, <-served, http.ErrServerClosed)
		synctest.Wait()
	})
}

// wrapper has a method NetConn and embeds nothing.
type wrapper struct{ conn net.Conn }

func (w wrapper) NetConn() net.Conn                  { return w.conn }
func (w wrapper) Read(b []byte) (int, error)         { return w.conn.Read(b) }
func (w wrapper) Write(b []byte) (int, error)        { return w.conn.Write(b) }
func (w wrapper) Close() error                       { return w.conn.Close() }
func (w wrapper) LocalAddr() net.Addr                { return w.conn.LocalAddr() }
func (w wrapper) RemoteAddr() net.Addr               { return w.conn.RemoteAddr() }
func (w wrapper) SetDeadline(t time.Time) error      { return w.conn.SetDeadline(t) }
func (w wrapper) SetReadDeadline(t time.Time) error  { return w.conn.SetReadDeadline(t) }
func (w wrapper) SetWriteDeadline(t time.Time) error { return w.conn.SetWriteDeadline(t) }

type wrapping struct{ net.Listener }

func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrapper{c}, nil
}

// Everything works with wrappers around an sslnet.Listener, in both protocols.
func TestWrappedListeners(t *testing.T) {
	for name, wrap := range map[string]func(net.Listener) net.Listener{
		"netutil": func(l net.Listener) net.Listener { return netutil.LimitListener(l, 1) },
		"NetConn": func(l net.Listener) net.Listener { return wrapping{l} },
		"both":    func(l net.Listener) net.Listener { return wrapping{netutil.LimitListener(l, 1)} },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, serverOptions()))
			require.NoError(t, err)
			hooked := make(chan string, 100)
			srv := &http.Server{Handler: http.HandlerFunc(whoami), ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				hooked <- fmt.Sprintf("%T", c)
				return ctx
			}}
			go sslhttp.Serve(srv, wrap(l))
			defer srv.Close()
			for _, protocols := range [][]string{both, {"http/1.1"}, both} { // one at a time: their slots are released
				tr := transport(t, protocols...)
				text, _ := get(t, tr, "https://"+l.Addr().String())
				require.Contains(t, text, "tls=true cert=true")
				require.Contains(t, text, "valid=true")
				require.Equal(t, len(protocols) == 2, strings.HasPrefix(text, "HTTP/2.0"))
				require.NotContains(t, <-hooked, "*sslhttp.")
				tr.CloseIdleConnections()
			}
			c, err := sslnet.Dial("tcp", l.Addr().String(), testkit.Ctx(t, clientOptions("http/1.1")))
			require.NoError(t, err)
			defer c.Close()
			fmt.Fprint(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			require.NoError(t, err)
			require.Equal(t, 1, resp.ProtoMajor)
		})
	}
}

func TestServeNothing(t *testing.T) {
	l := testkit.Listen(t)
	require.Error(t, sslhttp.Serve(nil, l))
	require.Error(t, sslhttp.Serve(new(http.Server), nil))
	require.Error(t, sslhttp.Serve(new(http.Server), new(sslnet.Listener)))
	require.Error(t, sslhttp.ListenAndServe(nil, nil))
	require.Error(t, sslhttp.ListenAndServe(new(http.Server), nil))
	var none context.Context
	require.Nil(t, sslhttp.FromContext(none))
	require.NotNil(t, sslhttp.ConnContext(context.Background(), nil))
}

// A response without a length from a server that never sends close_notify, as Perl
// servers do. It counts as complete with AllowMissingCloseNotify if the connection
// ends between two records, and never if a record is cut.
func TestMissingCloseNotify(t *testing.T) {
	cert := testkit.KeyPair(t, "server.crt", "server.key")
	body := strings.Repeat("body ", 10000)
	for _, highest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, cut := range []bool{false, true} {
			for _, allow := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s cut=%t allow=%t", tls.VersionName(highest), cut, allow), func(t *testing.T) {
					l := testkit.Listen(t)
					go func() {
						below, err := l.Accept()
						if err != nil {
							return
						}
						defer below.Close()
						c := tls.Server(below, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: highest})
						if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
							return
						}
						io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n"+body)
						if cut {
							below.Write([]byte{23, 3, 3})
						}
					}()
					o := clientOptions()
					o.AllowMissingCloseNotify = allow
					tr := &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: testkit.Ctx(t, o)}}
					text, _, err := tryGet(tr, "https://"+l.Addr().String())
					require.Equal(t, len(body), len(text))
					if allow && !cut {
						require.NoError(t, err)
						return
					}
					var truncated *sslfilter.TruncatedError
					require.True(t, errors.As(err, &truncated), "%v", err)
					require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				})
			}
		}
	}
}
