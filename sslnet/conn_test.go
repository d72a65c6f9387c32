package sslnet_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

func TestDialAndListen(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, testkit.Server()))
		require.NoError(t, err)
		testkit.Serve(t, l, testkit.Echo)
		c, err := sslnet.Dial("tcp", l.Addr().String(), testkit.Ctx(t, nameless(testkit.UpTo(highest))))
		require.NoError(t, err)
		defer c.Close()
		testkit.Say(t, c, "hello")
		testkit.Hear(t, c, "hello")
		require.NoError(t, c.CloseWrite())
		_, err = c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
}

// A Conn distinguishes a connection that ends without close_notify from one that
// ends with it.
func TestEnds(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		t.Run("close_notify", func(t *testing.T) {
			c, s := connect(t, join, testkit.Server(), nameless())
			go c.Close()
			_, err := s.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err)
		})
		t.Run("cut", func(t *testing.T) {
			c, s := connect(t, join, testkit.Server(), nameless())
			go c.NetConn().Close()
			for range 2 {
				_, err := s.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			}
		})
		t.Run("cut in the handshake", func(t *testing.T) {
			c, s := pair(t, join, testkit.Server(), nameless())
			go func() {
				c.NetConn().Write([]byte{22, 3, 1}) // the beginning of a record
				c.NetConn().Close()
			}()
			for range 2 {
				_, err := s.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				require.ErrorContains(t, err, "during the handshake")
			}
		})
		t.Run("cut before the handshake", func(t *testing.T) {
			c, s := pair(t, join, testkit.Server(), nameless())
			go c.NetConn().Close()
			for range 2 {
				_, err := s.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				require.ErrorAs(t, err, new(*net.OpError))
				require.ErrorContains(t, err, "handshake ")
				require.ErrorContains(t, err, "the peer closed the connection before the handshake")
			}
		})
		t.Run("closed here", func(t *testing.T) {
			c, _ := connect(t, join, testkit.Server(), nameless())
			c.NetConn().Close() // so that nothing waits for the peer
			c.Close()
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, net.ErrClosed)
			_, err = c.Write([]byte("x"))
			require.ErrorIs(t, err, net.ErrClosed)
			require.ErrorIs(t, c.Close(), net.ErrClosed)
		})
	})
}

func TestConnectionState(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		c, s := connect(t, joinTCP,
			testkit.Server(func(o *sslfilter.Options) {
				o.CACrt, o.ClientCert, o.ALPN = testkit.PKI("root.crt"), true, []string{"h2", "http/1.1"}
			}),
			nameless(testkit.UpTo(highest), func(o *sslfilter.Options) {
				o.Crt, o.Key, o.ALPN = testkit.PKI("client.crt"), testkit.PKI("client.key"), []string{"http/1.1", "h2"}
			}))
		for name, conn := range map[string]*sslnet.Conn{"client": c, "server": s} {
			state := conn.ConnectionState()
			require.True(t, state.HandshakeComplete, name)
			require.Equal(t, uint16(highest), state.Version, name)
			require.NotEmpty(t, tls.CipherSuiteName(state.CipherSuite), name)
			require.Equal(t, "h2", state.NegotiatedProtocol, name)
			require.Equal(t, "localhost", state.ServerName, name)
			require.NotEmpty(t, state.PeerCertificates, name)
			require.Len(t, state.VerifiedChains, 1, name)
			require.True(t, conn.ClientCertValid(), name)
			_, err := state.ExportKeyingMaterial("EXPORTER-test", nil, 32)
			require.Error(t, err, name)
			facts := conn.State()
			require.Equal(t, state.CipherSuite, facts.CipherSuite, name)
			require.True(t, facts.ClientCertRequested, name)
			require.NotEmpty(t, facts.Signature, name)
			require.Contains(t, facts.String(), " client-cert-requested signature="+facts.Signature+" peer-signature="+facts.PeerSignature, name)
		}
		list, err := s.Providers()
		if strings.HasPrefix(sslfilter.OpenSSLVersion(), "OpenSSL 1.1.1") {
			require.ErrorAs(t, err, new(*sslfilter.VersionError))
		} else {
			require.NoError(t, err)
			require.Equal(t, sslfilter.UseCipher, list[0].Use)
			require.Equal(t, sslfilter.FIPSEnabled(), list[0].Provider == "fips")
		}
		require.NoError(t, c.VerifyHostname("server.test"))
		require.ErrorAs(t, c.VerifyHostname("elsewhere.test"), new(x509.HostnameError))
		fromClient, err := c.ExportKeyingMaterial("EXPORTER-test", nil, 32)
		require.NoError(t, err)
		fromServer, err := s.ExportKeyingMaterial("EXPORTER-test", nil, 32)
		require.NoError(t, err)
		require.Equal(t, fromClient, fromServer)
	})
}

// Data that a Write could not send before its deadline is sent by the next call, in
// order. The result of Write says where to continue.
func TestDeadlineInWriteLosesNothing(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
			c, s := connect(t, join, testkit.Server(), nameless(testkit.UpTo(highest)))
			want := testkit.Bytes(16<<20, 1) // more than the network takes without a reader
			var got []byte
			sent := 0
			for range 5 {
				part := make(chan []byte)
				go func() {
					s.SetReadDeadline(soon())
					b, _ := io.ReadAll(io.LimitReader(s, 50000))
					part <- b
				}()
				require.NoError(t, c.SetWriteDeadline(soon()))
				n, err := c.Write(want[sent:])
				sent += n
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				got = append(got, <-part...)
			}
			require.NoError(t, s.SetReadDeadline(never))
			require.NoError(t, c.SetWriteDeadline(never))
			rest := make(chan []byte)
			go func() {
				b := bytes.NewBuffer(make([]byte, 0, len(want)+bytes.MinRead))
				if _, err := b.ReadFrom(s); err != nil {
					t.Error(err)
				}
				rest <- b.Bytes()
			}()
			n, err := c.Write(want[sent:])
			require.NoError(t, err)
			require.Equal(t, len(want), sent+n)
			require.NoError(t, c.Close())
			require.True(t, bytes.Equal(want, append(got, <-rest...)), "the received data differs from the sent data")
		})
	})
}

// Each end asks the other for key updates while both write. The answers must block
// neither a Read, nor a Write whose data was taken.
func TestKeyUpdatesFromBothSides(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		c, s := connect(t, join, testkit.Server(), nameless())
		testkit.Within(t, "key updates", func() {
			const rounds = 200
			errs := make(chan error, 4)
			for _, conn := range []*sslnet.Conn{c, s} {
				go func() {
					var err error
					for range rounds {
						err = errors.Join(err, conn.KeyUpdate(true))
						_, writeErr := conn.Write([]byte("x"))
						err = errors.Join(err, writeErr)
					}
					errs <- err
				}()
				go func() {
					_, err := io.ReadFull(conn, make([]byte, rounds))
					errs <- err
				}()
			}
			for range 4 {
				require.NoError(t, <-errs)
			}
		})
	})
}

// A Conn may run over any net.Conn, including another Conn.
func TestOverAnything(t *testing.T) {
	for name, join := range map[string]joiner{
		"unix": func(t testing.TB) (a, b net.Conn) {
			l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			a, err = net.Dial("unix", l.Addr().String())
			require.NoError(t, err)
			b, err = l.Accept()
			require.NoError(t, err)
			return a, b
		},
		"TLS in TLS": func(t testing.TB) (a, b net.Conn) {
			return connect(t, joinTCP, testkit.Server(), nameless())
		},
		"byte by byte": func(t testing.TB) (a, b net.Conn) {
			a, b = joinTCP(t)
			return slowly{a}, slowly{b}
		},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				c, s := connect(t, join, testkit.Server(), nameless(testkit.UpTo(highest)))
				data := testkit.Bytes(100000, 1)
				go func() {
					c.Write(data)
					c.CloseWrite()
				}()
				got, err := io.ReadAll(s)
				require.NoError(t, err)
				require.True(t, bytes.Equal(data, got))
				go s.Close()
				_, err = c.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err)
			})
		})
	}
}

// slowly is a connection whose Read returns one byte.
type slowly struct{ net.Conn }

func (c slowly) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(1, len(b))]) }

// Reads of every size get the same bytes, however the records are split.
func TestReadSizes(t *testing.T) {
	data := testkit.Bytes(300000, 1)
	for _, size := range []int{1, 100, 16384, 16385, 20000, 32768, 1 << 20} {
		c, s := connect(t, joinTCP, testkit.Server(), nameless())
		go func() {
			for rest, n := data, 1; len(rest) > 0; n = n*3 + 1 {
				n = min(n, len(rest))
				c.Write(rest[:n])
				rest = rest[n:]
			}
			c.Close()
		}()
		var got []byte
		buf := make([]byte, size)
		for {
			n, err := s.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				require.Equal(t, io.EOF, err)
				break
			}
		}
		require.True(t, bytes.Equal(data, got), "size %d", size)
	}
}
