package sslfilter_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// memBuffer is one direction of a connection in memory, without a bound: unlike
// net.Pipe it lets both sides write at the same time.
type memBuffer struct {
	mu     sync.Mutex
	more   *sync.Cond
	data   []byte
	closed bool
}

func newMemBuffer() *memBuffer {
	b := new(memBuffer)
	b.more = sync.NewCond(&b.mu)
	return b
}

func (b *memBuffer) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.data) == 0 && !b.closed {
		b.more.Wait()
	}
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

func (b *memBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, io.ErrClosedPipe
	}
	b.data = append(b.data, p...)
	b.more.Broadcast()
	return len(p), nil
}

func (b *memBuffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.more.Broadcast()
}

// memConn is one end of a connection in memory.
type memConn struct{ in, out *memBuffer }

func memPipe() (a, b memConn) {
	x, y := newMemBuffer(), newMemBuffer()
	return memConn{x, y}, memConn{y, x}
}

func (c memConn) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c memConn) Write(p []byte) (int, error) { return c.out.Write(p) }

func (c memConn) Close() error {
	c.out.close()
	return nil
}

func (memConn) LocalAddr() net.Addr              { return nil }
func (memConn) RemoteAddr() net.Addr             { return nil }
func (memConn) SetDeadline(time.Time) error      { return nil }
func (memConn) SetReadDeadline(time.Time) error  { return nil }
func (memConn) SetWriteDeadline(time.Time) error { return nil }

// stuck is the time after which a connection in memory is cut.
const stuck = 30 * time.Second

// goPeer is what became of a connection between a Filter and crypto/tls.
type goPeer struct {
	err   error               // of crypto/tls
	state tls.ConnectionState // of crypto/tls
	got   string              // what the Filter received
}

// talkToGo connects f with what start makes. The client says "ping" and the server "pong".
func talkToGo(t testing.TB, f *sslfilter.Filter, client bool, start func(net.Conn) *tls.Conn) (peer goPeer) {
	t.Helper()
	ours, theirs := memPipe()
	cut := time.AfterFunc(stuck, func() {
		ours.out.close()
		ours.in.close()
	})
	defer cut.Stop()
	conn := start(theirs)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		peer.err = chat(conn, !client)
		peer.state = conn.ConnectionState()
	}()
	if err := f.Handshake(); err == nil {
		peer.got = drive(f, client, ours)
	}
	ours.Close()
	<-done
	return peer
}

// chat is the side of crypto/tls.
func chat(conn *tls.Conn, client bool) error {
	if err := conn.Handshake(); err != nil {
		return err
	}
	if client {
		if _, err := conn.Write([]byte("ping")); err != nil {
			return err
		}
	}
	said := make([]byte, 4)
	if _, err := io.ReadFull(conn, said); err != nil {
		return err
	}
	if !client {
		if _, err := conn.Write([]byte("pong")); err != nil {
			return err
		}
	}
	return conn.Close()
}

// drive is the loop of the package documentation.
func drive(f *sslfilter.Filter, client bool, wire net.Conn) (got string) {
	if client && f.Send([]byte("ping")) != nil {
		return ""
	}
	in := make([]byte, 4096)
	for {
		if _, err := wire.Write(f.Outgoing(nil)); err != nil {
			return got
		}
		n, err := wire.Read(in)
		if err != nil {
			f.ReceiveEOF()
			return got
		}
		plain, err := f.Receive(nil, in[:n])
		got += string(plain)
		if !client && string(plain) == "ping" {
			f.Send([]byte("pong"))
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				f.CloseWrite()
			}
			wire.Write(f.Outgoing(nil))
			return got
		}
	}
}

// goClient is a crypto/tls client of the test PKI.
func goClient(t testing.TB, change func(*tls.Config)) func(net.Conn) *tls.Conn {
	t.Helper()
	config := &tls.Config{ServerName: "localhost", RootCAs: x509.NewCertPool()}
	require.True(t, config.RootCAs.AppendCertsFromPEM(pkiBytes(t, "root.crt")))
	if change != nil {
		change(config)
	}
	return func(c net.Conn) *tls.Conn { return tls.Client(c, config) }
}

// goServer is a crypto/tls server of the test PKI.
func goServer(t testing.TB, change func(*tls.Config)) func(net.Conn) *tls.Conn {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{goCertificate(t, "server.crt", "server.key")}, ClientCAs: x509.NewCertPool()}
	require.True(t, config.ClientCAs.AppendCertsFromPEM(pkiBytes(t, "root.crt")))
	if change != nil {
		change(config)
	}
	return func(c net.Conn) *tls.Conn { return tls.Server(c, config) }
}

func goCertificate(t testing.TB, crt, key string) tls.Certificate {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(pki(crt), pki(key))
	require.NoError(t, err)
	return cert
}

// Every key type, with and without a client certificate, against another implementation.
func TestInteropWithCryptoTLS(t *testing.T) {
	for _, key := range []string{"server", "server-ec", "server-ed25519"} {
		for _, cert := range []string{"", "client", "client-ec", "client-ed25519"} {
			protocols(t, func(t *testing.T, highest sslfilter.Version) {
				limit := func(c *tls.Config) { c.MaxVersion = uint16(highest) }
				t.Run("server "+key+" with "+cert, func(t *testing.T) {
					f := mustFilter(t, asking(func(o *sslfilter.Options) { o.Crt, o.Key = pki(key+".crt"), pki(key+".key") }))
					peer := talkToGo(t, f, false, goClient(t, func(c *tls.Config) {
						limit(c)
						if cert != "" {
							c.Certificates = []tls.Certificate{goCertificate(t, cert+".crt", cert+".key")}
						}
					}))
					require.NoError(t, peer.err)
					require.Equal(t, "ping", peer.got)
					require.Equal(t, cert != "", f.ClientCertValid())
					requireSameTerms(t, f, peer.state)
				})
				t.Run("client "+cert+" at "+key, func(t *testing.T) {
					o := showing("", "")
					if cert != "" {
						o = showing(cert+".crt", cert+".key")
					}
					f := mustFilter(t, o)
					peer := talkToGo(t, f, true, goServer(t, func(c *tls.Config) {
						limit(c)
						c.ClientAuth = tls.VerifyClientCertIfGiven
						c.Certificates = []tls.Certificate{goCertificate(t, key+".crt", key+".key")}
					}))
					require.NoError(t, peer.err)
					require.Equal(t, "pong", peer.got)
					require.True(t, f.ClientCertValid())
					require.Equal(t, cert != "", len(peer.state.VerifiedChains) == 1)
					requireSameTerms(t, f, peer.state)
				})
			})
		}
	}
}

// requireSameTerms holds our version against the other side's.
func requireSameTerms(t *testing.T, f *sslfilter.Filter, state tls.ConnectionState) {
	t.Helper()
	want := map[uint16]string{tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"}
	require.Equal(t, want[state.Version], f.Version())
}
