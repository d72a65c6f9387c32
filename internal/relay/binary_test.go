package relay

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A protocol without lines, greeting or login, which begins TLS as PostgreSQL
// does: the client sends 8 bytes, the server answers with the one byte "S", and
// TLS begins. Without TLS the client's first message has another code.
const (
	binaryTLS   = "\x00\x00\x00\x08\x04\xd2\x16\x2f" // SSLRequest
	binaryStart = "\x00\x00\x00\x0c\x00\x03\x00\x00" // the head of a StartupMessage
)

type binaryFront struct {
	protocol.FrontConfig
	buf []byte
}

func (*binaryFront) Greeting() string           { return "" }
func (f *binaryFront) Feed(in []byte)           { f.buf = append(f.buf, in...) }
func (f *binaryFront) Rest() (rest []byte)      { rest, f.buf = f.buf, nil; return rest }
func (f *binaryFront) Secured()                 { f.TLS, f.buf = true, nil }
func (*binaryFront) Farewell(why string) string { return "E" + why }
func (f *binaryFront) Next() protocol.Step {
	switch {
	case len(f.buf) < len(binaryTLS):
		return protocol.Step{Do: protocol.More}
	case string(f.buf[:len(binaryTLS)]) == binaryTLS && f.CanTLS && !f.TLS:
		f.buf = f.buf[len(binaryTLS):]
		return protocol.Step{Do: protocol.StartTLS, ToClient: "S"}
	case f.TLS || f.PlainLogin:
		return protocol.Step{Do: protocol.Connect}
	}
	return protocol.Step{Do: protocol.HangUp, ToClient: "Eno encryption", Why: "no encryption"}
}

func (*binaryFront) Unavailable(*protocol.Login) protocol.Step {
	return protocol.Step{Do: protocol.HangUp, ToClient: "Eunavailable", Why: "unavailable"}
}

type binaryDialog struct {
	protocol.DialogConfig
	asked bool
	buf   []byte
}

func (d *binaryDialog) Feed(in []byte)         { d.buf = append(d.buf, in...) }
func (d *binaryDialog) Rest() (rest []byte)    { rest, d.buf = d.buf, nil; return rest }
func (d *binaryDialog) Secured() protocol.Step { return protocol.Step{Do: protocol.Open} }
func (d *binaryDialog) Next() protocol.Step {
	switch {
	case !d.StartTLS:
		return protocol.Step{Do: protocol.Open}
	case !d.asked:
		d.asked = true
		return protocol.Step{ToBackend: binaryTLS}
	case len(d.buf) == 0:
		return protocol.Step{Do: protocol.More}
	case d.buf[0] == 'S':
		d.buf = d.buf[1:]
		return protocol.Step{Do: protocol.StartTLS}
	}
	return protocol.Step{Do: protocol.Failed, Why: "the server does not support TLS"}
}

// addBinary adds the binary protocol to the table.
func addBinary(t *testing.T) {
	table := protocol.Table
	t.Cleanup(func() { protocol.Table = table })
	protocol.Table = append(table[:len(table):len(table)], protocol.Protocol{
		Name:   "binary",
		Front:  func(c protocol.FrontConfig) protocol.Front { return &binaryFront{FrontConfig: c} },
		Dialog: func(c protocol.DialogConfig) protocol.Dialog { return &binaryDialog{DialogConfig: c} },
	})
}

// binaryRelay starts a relay whose mode is the binary protocol.
func binaryRelay(t *testing.T, lines ...string) *fixture {
	t.Helper()
	addBinary(t)
	return start(t, append([]string{`mode = "binary"`, `listen = ["starttls:127.0.0.1:0"]`, crt(), trust()}, lines...)...)
}

// binaryBackend answers SSLRequest, and then echoes inside TLS.
func binaryBackend(t *testing.T, answer string) string {
	return backend(t, func(c net.Conn) {
		request := make([]byte, len(binaryTLS))
		if _, err := io.ReadFull(c, request); err != nil || string(request) != binaryTLS {
			return
		}
		io.WriteString(c, answer)
		testkit.Echo(serverTLS(t, c))
	})
}

func serverTLS(t *testing.T, conn net.Conn) net.Conn {
	cert, err := tls.LoadX509KeyPair(testkit.PKI("server.crt"), testkit.PKI("server.key"))
	if err != nil {
		t.Error(err)
	}
	return tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
}

func clientTLS(t *testing.T, conn net.Conn) net.Conn {
	t.Helper()
	c := tls.Client(conn, clientConfig(t))
	require.NoError(t, c.Handshake())
	return c
}

func requireRead(t *testing.T, conn io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

// The table of protocols fits a protocol without lines, greeting and login.
func TestBinaryProtocol(t *testing.T) {
	t.Run("STARTTLS on both sides", func(t *testing.T) {
		f := binaryRelay(t, fmt.Sprintf("backend = %q", "starttls:"+binaryBackend(t, "S")))
		conn := testkit.Dial(t, f.addr())
		io.WriteString(conn, binaryTLS)
		requireRead(t, conn, "S")
		testkit.Exchange(t, clientTLS(t, conn), binaryStart+"user")
	})
	t.Run("no TLS with the client", func(t *testing.T) {
		f := binaryRelay(t, "allow-plaintext = true", fmt.Sprintf("backend = %q", "starttls:"+binaryBackend(t, "S")))
		conn := testkit.Dial(t, f.addr())
		testkit.Exchange(t, conn, binaryStart+"user")
	})
	t.Run("TLS is required", func(t *testing.T) {
		f := binaryRelay(t, fmt.Sprintf("backend = %q", "starttls:"+testkit.ClosedPort(t)))
		conn := testkit.Dial(t, f.addr())
		io.WriteString(conn, binaryStart)
		requireRead(t, conn, "Eno encryption")
		f.logs("no encryption")
	})
	t.Run("bytes after the client's request", func(t *testing.T) {
		f := binaryRelay(t, fmt.Sprintf("backend = %q", "starttls:"+testkit.ClosedPort(t)))
		conn := testkit.Dial(t, f.addr())
		io.WriteString(conn, binaryTLS+binaryStart)
		requireRead(t, conn, "S") // the front does not check for such bytes, so the relay must
		rest, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Empty(t, rest)
		f.logs("refused: 8 bytes of plaintext after STARTTLS")
		require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.injected }))
	})
	t.Run("bytes after the backend's answer", func(t *testing.T) {
		f := binaryRelay(t, fmt.Sprintf("backend = %q", "starttls:"+binaryBackend(t, "Sx")))
		conn := testkit.Dial(t, f.addr())
		io.WriteString(conn, binaryTLS)
		requireRead(t, conn, "S")
		requireRead(t, clientTLS(t, conn), "Eunavailable")
		f.logs("1 bytes of plaintext after STARTTLS")
	})
	t.Run("a backend without TLS", func(t *testing.T) {
		f := binaryRelay(t, fmt.Sprintf("backend = %q", "starttls:"+binaryBackend(t, "N")))
		conn := testkit.Dial(t, f.addr())
		io.WriteString(conn, binaryTLS)
		requireRead(t, conn, "S")
		requireRead(t, clientTLS(t, conn), "Eunavailable")
		f.logs("the server does not support TLS")
	})
	t.Run("no user chooses the backend", func(t *testing.T) {
		addBinary(t)
		_, err := config.Parse([]byte(relayTable(`mode = "binary"`, `listen = ["plain:127.0.0.1:0"]`, "[relay.users]", `a = "h:1"`)))
		require.ErrorContains(t, err, "users: mode binary has no login; only imap, pop3 and smtp have one")
	})
}
