package live_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// report is the result of our end of a connection.
type report struct {
	err     error // of the handshake, or of the data
	end     error // the error of Read after the data
	got     []byte
	status  int // of HTTP
	version string
	cipher  string
	sni     string
	alpn    string
	exists  bool
	peer    *sslfilter.Peer
	ids     []sslfilter.CertID
	state   sslfilter.State
}

// see copies the properties of c.
func (r *report) see(c *sslnet.Conn) {
	r.version, r.cipher, r.sni, r.alpn = c.Version(), c.Cipher(), c.ServerName(), c.ALPN()
	r.state = c.State()
	r.exists, r.peer, r.ids = c.ClientCertExists(), c.Peer(), c.ClientCertIDs()
}

// serve makes the server's side of a connection.
type serve = func(net.Conn) *sslnet.Conn

// with returns the side of a server with these options.
func with(t testing.TB, o sslfilter.Options) serve {
	t.Helper()
	ctx := testkit.Ctx(t, o)
	return func(c net.Conn) *sslnet.Conn { return sslnet.Server(c, ctx) }
}

// host starts our server for one connection. It waits for want, answers with send, and
// lets the client end.
func host(t testing.TB, p *peer, our serve, want, send []byte) (addr string, end func() report) {
	t.Helper()
	l := testkit.Listen(t)
	require.NoError(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(peers.Patience)))
	done := make(chan report, 1)
	go func() {
		conn, err := l.Accept()
		l.Close() // a second connection is refused
		if err != nil {
			done <- report{err: fmt.Errorf("no connection arrived: %w", err)}
			return
		}
		c := our(conn)
		defer c.Close()
		done <- talk(c, p, want, send, true)
	}()
	return l.Addr().String(), func() report { return <-done }
}

// visit connects our client to addr. It sends, waits for want and ends. If there is
// nothing to send, it waits until it is rejected.
func visit(t testing.TB, p *peer, addr string, o sslfilter.Options, send, want []byte) report {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, peers.Patience)
	require.NoError(t, err)
	c := sslnet.Client(conn, testkit.Ctx(t, o))
	defer c.Close()
	return talk(c, p, want, send, false)
}

func talk(c *sslnet.Conn, p *peer, want, send []byte, server bool) (r report) {
	c.SetDeadline(time.Now().Add(peers.Patience))
	r.err = c.Handshake()
	r.see(c)
	if r.err != nil {
		return r
	}
	var behind io.Reader
	switch {
	case server && p.http:
		behind, r.err = r.answer(c, send)
	case server:
		if behind, r.err = r.read(c, len(want)); r.err == nil {
			r.err = write(c, send)
		}
	case p.http:
		behind, r.err = r.ask(c, send)
	case send == nil:
		behind, r.err = r.read(c, 1)
	default:
		sent := make(chan error, 1)
		go func() { sent <- write(c, send) }() // a peer that echoes must be read in the meantime
		if behind, r.err = r.read(c, len(want)); r.err == nil {
			r.err = <-sent
		}
	}
	r.see(c)
	if r.err != nil {
		return r
	}
	if !server || p.quirks.waitsForEnd {
		if r.err = c.CloseWrite(); r.err != nil {
			return r
		}
		if p.quirks.ignoresNotify {
			c.NetConn().(*net.TCPConn).CloseWrite()
		}
	}
	var more int64
	if more, r.end = io.Copy(io.Discard, behind); r.end == nil {
		r.end = io.EOF
	}
	if more != 0 {
		r.err = fmt.Errorf("%d unexpected bytes after %q", more, r.got)
	}
	return r
}

func (r *report) read(c *sslnet.Conn, n int) (io.Reader, error) {
	r.got = make([]byte, n)
	n, err := io.ReadFull(c, r.got)
	r.got = r.got[:n]
	return c, err
}

// write sends b. In the middle it changes our keys and asks the peer to change its
// own.
func write(c *sslnet.Conn, b []byte) error {
	half := len(b) / 2
	if _, err := c.Write(b[:half]); err != nil {
		return err
	}
	if c.State().Version == sslfilter.VersionTLS13 {
		if err := c.KeyUpdate(true); err != nil {
			return err
		}
	}
	_, err := c.Write(b[half:])
	return err
}

// answer does the server's part of HTTP.
func (r *report) answer(c *sslnet.Conn, send []byte) (io.Reader, error) {
	behind := bufio.NewReader(c)
	req, err := http.ReadRequest(behind)
	if err != nil {
		return nil, err
	}
	if req.Header.Get("Expect") != "" {
		if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return nil, err
		}
	}
	if r.got, err = io.ReadAll(req.Body); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", len(send)); err != nil {
		return nil, err
	}
	return behind, write(c, send)
}

// ask does the client's part of HTTP.
func (r *report) ask(c *sslnet.Conn, send []byte) (io.Reader, error) {
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", len(send))
	if _, err := c.Write(head.Bytes()); err != nil {
		return nil, err
	}
	if err := write(c, send); err != nil {
		return nil, err
	}
	behind := bufio.NewReader(c)
	resp, err := http.ReadResponse(behind, nil)
	if err != nil {
		return nil, err
	}
	r.status = resp.StatusCode
	r.got, err = io.ReadAll(resp.Body)
	return behind, err
}

// plainServer is the backend of a peer that removes TLS, and does that peer's part of
// the conversation. all reports whether each connection received c.want and the end of the
// client.
func plainServer(t testing.TB, c call) (addr string, all func() bool) {
	t.Helper()
	l := testkit.Listen(t)
	done := make(chan bool, 1)
	go func() {
		good := true
		for i := 0; good && i < c.times(); i++ {
			good = plainAnswer(l, c)
		}
		done <- good
	}()
	return l.Addr().String(), func() bool {
		l.Close()
		return <-done
	}
}

func plainAnswer(l net.Listener, c call) bool {
	conn, err := l.Accept()
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(peers.Patience))
	got := make([]byte, len(c.want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return false
	}
	_, err = conn.Write(c.send)
	rest, end := io.ReadAll(conn)
	return errors.Join(err, end) == nil && len(rest) == 0 && bytes.Equal(got, c.want)
}

// plainClient is the client of a peer that adds TLS, at this port. If the peer's connection
// to us fails at once, the peer may reset this connection before Dial has returned.
func plainClient(t testing.TB, port string, c call) (all bool) {
	t.Helper()
	for range c.times() {
		if !plainAsk(t, port, c) {
			return false
		}
	}
	return true
}

func plainAsk(t testing.TB, port string, c call) bool {
	t.Helper()
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, peers.Patience)
	if errors.Is(err, syscall.ECONNRESET) {
		return false
	}
	require.NoError(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(peers.Patience))
	go conn.Write(c.send)
	got := make([]byte, len(c.want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return false
	}
	conn.(*net.TCPConn).CloseWrite()
	rest, err := io.ReadAll(conn)
	return err == nil && len(rest) == 0 && bytes.Equal(got, c.want)
}
