package sslnet_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// noContext is a nil Context with a name: staticcheck forbids the literal nil.
var noContext context.Context

// Every function returns an error if a required argument is missing. A panic could
// be in a goroutine of the package, and callers cannot recover from that.
func TestNothingIsGiven(t *testing.T) {
	client, server := testkit.Ctx(t, nameless()), testkit.Ctx(t, testkit.Server())
	zero, closed := new(sslfilter.Ctx), testkit.Ctx(t, testkit.Server())
	require.NoError(t, closed.Close())
	addr := echo(t, testkit.Server()).Addr().String()
	conn := func() net.Conn {
		a, b := net.Pipe()
		t.Cleanup(func() { a.Close(); b.Close() })
		return a
	}
	failing := func(_ any, err error) error { return err }
	accept := func(l net.Listener) error {
		defer l.Close()
		return failing(l.Accept())
	}
	dial := func(d *sslnet.Dialer, ctx context.Context) error {
		_, plain := d.Dial("tcp", addr)
		if ctx != nil {
			require.Error(t, plain)
		}
		return failing(d.DialContext(ctx, "tcp", addr))
	}
	buffered := bufio.NewReader(strings.NewReader(""))
	for name, call := range map[string]func() error{
		"Dial without a Ctx":              func() error { return failing(sslnet.Dial("tcp", addr, nil)) },
		"Dial with the Ctx of a server":   func() error { return failing(sslnet.Dial("tcp", addr, server)) },
		"Dialer without a Ctx":            func() error { return dial(&sslnet.Dialer{}, context.Background()) },
		"Dialer without a Context":        func() error { return dial(&sslnet.Dialer{Ctx: client}, nil) },
		"Dialer.Client without a conn":    func() error { return failing((&sslnet.Dialer{Ctx: client}).Client(context.Background(), nil, addr)) },
		"Dialer.Client without a Ctx":     func() error { return failing(new(sslnet.Dialer).Client(context.Background(), conn(), addr)) },
		"Listen without a Ctx":            func() error { return failing(sslnet.Listen("tcp", "127.0.0.1:0", nil)) },
		"Listen with the Ctx of a client": func() error { return failing(sslnet.Listen("tcp", "127.0.0.1:0", client)) },
		"Dial with a zero Ctx":            func() error { return failing(sslnet.Dial("tcp", addr, zero)) },
		"Listen with a zero Ctx":          func() error { return failing(sslnet.Listen("tcp", "127.0.0.1:0", zero)) },
		"Listen with a closed Ctx":        func() error { return failing(sslnet.Listen("tcp", "127.0.0.1:0", closed)) },
		"Listener with a zero Ctx":        func() error { return accept(sslnet.NewListener(testkit.Listen(t), zero)) },
		"Listener with a closed Ctx":      func() error { return accept(sslnet.NewListener(testkit.Listen(t), closed)) },
		"Listener with a client's Ctx":    func() error { return accept(sslnet.NewListener(testkit.Listen(t), client)) },
		"Client with a zero Ctx":          func() error { return sslnet.Client(conn(), zero).Handshake() },
		"Listener without anything":       func() error { return accept(&sslnet.Listener{}) },
		"Listener without a listener":     func() error { return accept(sslnet.NewListener(nil, server)) },
		"Listener without a Ctx":          func() error { return accept(sslnet.NewListener(testkit.Listen(t), nil)) },
		"Listener whose Ctx is taken away": func() error {
			l := &sslnet.Listener{Listener: testkit.Listen(t), Ctx: server}
			l.SetCtx(nil)
			return accept(l)
		},
		"Client without a conn":   func() error { return sslnet.Client(nil, client).Handshake() },
		"Client without a Ctx":    func() error { return sslnet.Client(conn(), nil).Handshake() },
		"Server without a conn":   func() error { return sslnet.Server(nil, server).Handshake() },
		"Server without a Ctx":    func() error { return sslnet.Server(conn(), nil).Handshake() },
		"Handshake, no Context":   func() error { return sslnet.Client(conn(), client).HandshakeContext(noContext) },
		"ServerBuffered, no conn": func() error { return failing(sslnet.ServerBuffered(nil, buffered, server, sslnet.RefuseLeftover)) },
		"ServerBuffered, no bufio": func() error {
			return failing(sslnet.ServerBuffered(conn(), nil, server, sslnet.RefuseLeftover))
		},
		"ClientBuffered, no bufio": func() error {
			return failing(sslnet.ClientBuffered(conn(), nil, client, sslnet.KeepLeftover))
		},
	} {
		t.Run(name, func(t *testing.T) { testkit.Within(t, name, func() { require.Error(t, call()) }) })
	}
}

// The methods of a Conn that was not made by Client or Server, or was made without
// an underlying connection.
func TestConnOverNothing(t *testing.T) {
	for name, c := range map[string]*sslnet.Conn{
		"zero":   new(sslnet.Conn),
		"client": sslnet.Client(nil, testkit.Ctx(t, nameless())),
		"server": sslnet.Server(nil, nil),
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Within(t, "all methods", func() {
				for call, err := range map[string]error{
					"Read":             func() error { _, err := c.Read(make([]byte, 1)); return err }(),
					"Write":            func() error { _, err := c.Write(make([]byte, 1)); return err }(),
					"CloseWrite":       c.CloseWrite(),
					"Handshake":        c.Handshake(),
					"KeyUpdate":        c.KeyUpdate(true),
					"Detach":           func() error { _, err := c.Detach(); return err }(),
					"SetDeadline":      c.SetDeadline(soon()),
					"SetReadDeadline":  c.SetReadDeadline(never),
					"SetWriteDeadline": c.SetWriteDeadline(soon()),
					"VerifyHostname":   c.VerifyHostname("localhost"),
					"Providers":        func() error { _, err := c.Providers(); return err }(),
					"Export":           func() error { _, err := c.ExportKeyingMaterial("l", nil, 32); return err }(),
					"SetALPN":          c.SetALPN(),
					"Close":            c.Close(),
				} {
					require.Error(t, err, call)
				}
				require.Nil(t, c.LocalAddr())
				require.Nil(t, c.RemoteAddr())
				require.Nil(t, c.NetConn())
				require.Nil(t, c.Peer())
				require.False(t, c.ConnectionState().HandshakeComplete)
				require.False(t, c.ClientCertValid())
				require.Equal(t, sslfilter.CRLNoCertificate, c.ClientCertCRL(testkit.PKI("crl.pem")).Status)
				require.Empty(t, c.ALPN())
			})
		})
	}
}

// The error of a Dial has the addresses and the operation: for a peer that closes,
// one that resets the connection and one that is not trusted.
func TestDialErrors(t *testing.T) {
	hangUp := func(reset bool) net.Listener {
		l := testkit.Listen(t)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if reset {
					c.Read(make([]byte, 1))
					c.(*net.TCPConn).SetLinger(0)
				} else {
					go io.Copy(io.Discard, c)
					c.(*net.TCPConn).CloseWrite()
					defer c.Close()
					continue
				}
				c.Close()
			}
		}()
		return l
	}
	untrusted := nameless(func(o *sslfilter.Options) { o.CACrt = testkit.PKI("ecroot.crt") })
	for name, test := range map[string]struct {
		l      net.Listener
		client sslfilter.Options
	}{
		"closes":      {hangUp(false), nameless()},
		"resets":      {hangUp(true), nameless()},
		"not trusted": {echo(t, testkit.Server()), untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			addr := test.l.Addr().String()
			_, err := sslnet.Dial("tcp", addr, testkit.Ctx(t, test.client))
			var op *net.OpError
			require.ErrorAs(t, err, &op)
			require.Equal(t, "handshake", op.Op)
			require.Equal(t, addr, op.Addr.String())
			require.Contains(t, err.Error(), "handshake tcp ")
			switch name {
			case "closes":
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			case "not trusted":
				require.ErrorAs(t, err, new(*sslfilter.VerifyError))
			}
		})
	}
}
