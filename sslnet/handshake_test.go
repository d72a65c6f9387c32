package sslnet_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// The next call continues a handshake that a deadline or a context stopped.
func TestHandshakeGoesOn(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
			for name, stop := range map[string]func(*testing.T, *sslnet.Conn){
				"deadline": func(t *testing.T, c *sslnet.Conn) {
					require.NoError(t, c.SetDeadline(soon()))
					require.ErrorIs(t, c.Handshake(), os.ErrDeadlineExceeded)
					require.NoError(t, c.SetDeadline(never))
				},
				"read deadline in Read": func(t *testing.T, c *sslnet.Conn) {
					require.NoError(t, c.SetReadDeadline(soon()))
					_, err := c.Read(make([]byte, 1))
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
					require.NoError(t, c.SetReadDeadline(never))
				},
				"write deadline in Write": func(t *testing.T, c *sslnet.Conn) {
					require.NoError(t, c.SetWriteDeadline(soon()))
					n, err := c.Write([]byte("x"))
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
					require.Zero(t, n)
					require.NoError(t, c.SetWriteDeadline(never))
				},
				"context": func(t *testing.T, c *sslnet.Conn) {
					ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
					defer cancel()
					require.Equal(t, context.DeadlineExceeded, c.HandshakeContext(ctx))
				},
				"cancelled before": func(t *testing.T, c *sslnet.Conn) {
					ctx, cancel := context.WithCancel(context.Background())
					cancel()
					require.Equal(t, context.Canceled, c.HandshakeContext(ctx))
				},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					c, s := pair(t, join, testkit.Server(), nameless(testkit.UpTo(highest)))
					stop(t, c)
					stop(t, s)
					require.False(t, c.ConnectionState().HandshakeComplete)
					_, err := c.Providers()
					require.ErrorContains(t, err, "before the handshake is done")
					shake(t, c, s)
					go io.WriteString(c, "hello")
					testkit.Hear(t, s, "hello")
				})
			}
		})
	})
}

// If one goroutine does the handshake and another waits for it, the other has its
// own deadline, even if that is set later.
func TestDeadlineWhileAnotherHandshakes(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		c, s := pair(t, join, testkit.Server(), nameless())
		read := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(c, make([]byte, 5))
			read <- err
		}()
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write([]byte("x"))
			wrote <- err
		}()
		require.NoError(t, c.SetWriteDeadline(soon()))
		select {
		case err := <-wrote:
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		case <-time.After(testkit.Patience):
			require.Fail(t, "Write does not end")
		}
		shake(t, s) // c does the handshake in Read
		testkit.Say(t, s, "hello")
		require.NoError(t, <-read)
	})
}

// A handshake that exceeds its timeout fails permanently.
func TestHandshakeTimeout(t *testing.T) {
	l := testkit.Listen(t)
	d := sslnet.Dialer{Ctx: testkit.Ctx(t, nameless()), HandshakeTimeout: 50 * time.Millisecond}
	_, err := d.Dial("tcp", l.Addr().String())
	require.ErrorIs(t, err, sslnet.ErrHandshakeTimeout)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
}

func TestDialerContext(t *testing.T) {
	l := testkit.Listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	answered := make(chan struct{})
	defer close(answered)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			io.ReadFull(conn, make([]byte, 100)) // the handshake has begun
			defer conn.Close()
		}
		cancel()
		<-answered // a reset could be faster
	}()
	d := sslnet.Dialer{Ctx: testkit.Ctx(t, nameless())}
	_, err := d.DialContext(ctx, "tcp", l.Addr().String())
	require.Equal(t, context.Canceled, err)
}

// The name to verify is taken from the address unless the options have one.
func TestDialNames(t *testing.T) {
	l := echo(t, testkit.Server())
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		host string
		o    sslfilter.Options
		sni  string
		code sslfilter.VerifyCode
	}{
		"name in the address":       {"localhost", nameless(), "localhost", 0},
		"IP address":                {"127.0.0.1", nameless(), "", 0},
		"name in the options":       {"127.0.0.1", nameless(func(o *sslfilter.Options) { o.ServerName = "server.test" }), "server.test", 0},
		"wrong name in the options": {"localhost", nameless(func(o *sslfilter.Options) { o.ServerName = "elsewhere.test" }), "", 62},
		"not verified, sent":        {"localhost", sslfilter.Options{Client: true, InsecureSkipVerify: true}, "localhost", 0},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := sslnet.Dial("tcp", net.JoinHostPort(c.host, port), testkit.Ctx(t, c.o))
			if c.code != 0 {
				var refused *sslfilter.VerifyError
				require.ErrorAs(t, err, &refused)
				require.Equal(t, c.code, refused.Code)
				return
			}
			require.NoError(t, err)
			defer conn.Close()
			require.Equal(t, c.sni, conn.ServerName())
		})
	}
}

// A mistake of the caller is an error, not a panic.
func TestUsage(t *testing.T) {
	client, server := testkit.Ctx(t, nameless()), testkit.Ctx(t, testkit.Server())
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for name, err := range map[string]error{
		"client with a server's Ctx": sslnet.Client(a, server).Handshake(),
		"server with a client's Ctx": sslnet.Server(a, client).Handshake(),
		"no Ctx":                     sslnet.Server(a, nil).Handshake(),
		"no name":                    sslnet.Client(a, client).Handshake(),
		"name of a server":           sslnet.Server(a, server).SetServerName("localhost"),
		"verified name of a server":  sslnet.Server(a, server).SetVerifiedName("localhost"),
	} {
		require.Error(t, err, name)
		require.Contains(t, err.Error(), "ssl", name)
	}
	_, err := (&sslnet.Dialer{}).Dial("tcp", testkit.Listen(t).Addr().String())
	require.Error(t, err)
	for _, ctx := range []*sslfilter.Ctx{nil, client} {
		_, err = sslnet.Listen("tcp", "127.0.0.1:0", ctx)
		require.Error(t, err)
	}

	c := sslnet.Client(a, client)
	require.NoError(t, c.SetServerName("not a name"))
	for range 2 { // a bad name is not forgotten
		require.ErrorAs(t, c.Handshake(), new(*sslfilter.UsageError))
	}
	require.Error(t, c.VerifyHostname("localhost"))
	_, err = c.ExportKeyingMaterial("label", nil, 1)
	require.Error(t, err)
	require.Nil(t, c.Peer())
	require.False(t, c.ClientCertNotOnCRL(testkit.PKI("ca-both.pem")))
	require.NoError(t, c.Close())
	require.False(t, c.ClientCertValid())
}

// A client that is rejected in TLS 1.3 has finished its handshake and may have sent
// data. It still gets the alert, not a reset.
func TestRefusedClientGetsTheAlert(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		l := echo(t, testkit.Server(func(o *sslfilter.Options) {
			o.CACrt, o.RequireValidClientCert = testkit.PKI("root.crt"), true
		}))
		for range 10 {
			err := func() error {
				c, err := sslnet.Dial("tcp", l.Addr().String(), testkit.Ctx(t, nameless(testkit.UpTo(highest))))
				if err != nil {
					return err
				}
				defer c.Close()
				for err == nil { // until the alert has arrived
					_, err = c.Write(make([]byte, 1000))
				}
				_, err = c.Read(make([]byte, 1))
				return err
			}()
			var alert sslfilter.AlertError
			require.ErrorAs(t, err, &alert)
		}
	})
}

func TestPlainHTTPOnTheTLSPort(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		a, b := join(t)
		defer a.Close()
		defer b.Close()
		go io.WriteString(a, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		err := sslnet.Server(b, testkit.Ctx(t, testkit.Server())).Handshake()
		require.ErrorContains(t, err, "plain HTTP")
	})
}

// A Conn works with the client and the server of crypto/tls, with every version,
// kind of key and client certificate, and both ends agree about the connection.
func TestCryptoTLSPeers(t *testing.T) {
	pool := testkit.Roots(t)
	clientCert, serverCert := testkit.KeyPair(t, "client.crt", "client.key"), testkit.KeyPair(t, "server.crt", "server.key")
	networks(t, func(t *testing.T, join joiner) {
		testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
			config := &tls.Config{
				RootCAs: pool, ClientCAs: pool, ServerName: "localhost", MaxVersion: uint16(highest), NextProtos: []string{"one", "two"},
				Certificates: []tls.Certificate{clientCert}, ClientAuth: tls.RequireAndVerifyClientCert,
			}
			withCert := func(o *sslfilter.Options) {
				o.ALPN = []string{"two"}
				if o.Client {
					o.Crt, o.Key = testkit.PKI("client.crt"), testkit.PKI("client.key")
				} else {
					o.CACrt, o.ClientCert = testkit.PKI("root.crt"), true
				}
			}
			t.Run("client", func(t *testing.T) {
				a, b := join(t)
				theirs := tls.Client(a, config)
				ours := sslnet.Server(b, testkit.Ctx(t, testkit.Server(withCert)))
				requireTalk(t, ours, theirs)
			})
			t.Run("server", func(t *testing.T) {
				config := config.Clone()
				config.Certificates = []tls.Certificate{serverCert}
				a, b := join(t)
				theirs := tls.Server(a, config)
				ours := sslnet.Client(b, testkit.Ctx(t, nameless(withCert)))
				require.NoError(t, ours.SetServerName("localhost"))
				requireTalk(t, ours, theirs)
			})
		})
	})
}

// requireTalk moves data both ways, compares what both ends know, and ends the
// connection in order.
func requireTalk(t *testing.T, ours *sslnet.Conn, theirs *tls.Conn) {
	t.Helper()
	defer ours.NetConn().Close()
	defer theirs.NetConn().Close()
	testkit.Within(t, "talk", func() {
		data := testkit.Bytes(1<<20, 1)
		theirErr := make(chan error, 1)
		go func() {
			_, err := io.CopyN(theirs, theirs, int64(len(data)))
			if err == nil {
				_, err = theirs.Read(make([]byte, 1))
			}
			if errors.Is(err, io.EOF) {
				err = theirs.CloseWrite()
			}
			theirErr <- err
		}()
		got := make(chan []byte)
		go func() {
			b, err := io.ReadAll(ours)
			if err != nil {
				t.Error(err)
			}
			got <- b
		}()
		_, err := ours.Write(data)
		require.NoError(t, err)
		require.NoError(t, ours.CloseWrite())
		require.True(t, string(data) == string(<-got), "the returned data differs from the sent data")
		require.NoError(t, <-theirErr)
		us, them := ours.ConnectionState(), theirs.ConnectionState()
		require.Equal(t, them.Version, us.Version)
		require.Equal(t, them.CipherSuite, us.CipherSuite)
		require.Equal(t, "two", us.NegotiatedProtocol)
		require.Equal(t, them.NegotiatedProtocol, us.NegotiatedProtocol)
		require.Equal(t, them.TLSUnique, us.TLSUnique)
		require.Equal(t, "localhost", us.ServerName)
		require.Len(t, us.VerifiedChains, 1)
		material, err := them.ExportKeyingMaterial("EXPORTER-test", []byte("context"), 40)
		require.NoError(t, err)
		own, err := ours.ExportKeyingMaterial("EXPORTER-test", []byte("context"), 40)
		require.NoError(t, err)
		require.Equal(t, material, own)
	})
}
