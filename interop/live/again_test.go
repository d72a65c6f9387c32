package live_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// outgoing keeps the types of the records that we send.
type outgoing struct {
	net.Conn
	mu    sync.Mutex
	rest  []byte // the end of the data, if it is not a whole record
	types []byte
}

func (c *outgoing) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.rest = append(c.rest, b...)
	for len(c.rest) >= 5 {
		size := 5 + int(c.rest[3])<<8 + int(c.rest[4])
		if len(c.rest) < size {
			break
		}
		c.types = append(c.types, c.rest[0])
		c.rest = c.rest[size:]
	}
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// later returns the types of the records after the first handshake in TLS 1.2, which our
// side ends with ChangeCipherSpec and Finished.
func (c *outgoing) later() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	finished := bytes.IndexByte(c.types, cipherSpecRecord) + 2
	return bytes.Clone(c.types[min(finished, len(c.types)):])
}

// The types of records.
const (
	cipherSpecRecord = 20
	alertRecord      = 21
	handshakeRecord  = 22
)

// requireTheirEnd requires that our side has not failed by itself.
func requireTheirEnd(t *testing.T, err error) {
	t.Helper()
	var alert sslfilter.AlertError
	var failure *sslfilter.Error
	require.True(t, errors.As(err, &alert) || !errors.As(err, &failure), "%v", err)
}

// The peer's client asks for a new handshake in TLS 1.2. Our server refuses it with a
// warning, and does not fail.
func itAsksAgain(t *testing.T, p *peer, version sslfilter.Version) string {
	l := testkit.Listen(t)
	ctx := testkit.Ctx(t, both())
	type result struct {
		types []byte
		err   error
	}
	results := make(chan result, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			results <- result{err: err}
			return
		}
		wire := &outgoing{Conn: conn}
		c := sslnet.Server(wire, ctx)
		defer c.Close()
		c.SetDeadline(time.Now().Add(peers.Patience))
		if err := c.Handshake(); err != nil {
			results <- result{err: err}
			return
		}
		_, err = io.CopyN(c, c, payloadSize)
		types := wire.later()
		if p.quirks.waitsForEnd {
			c.CloseWrite()
		}
		io.Copy(io.Discard, c)
		results <- result{types, err}
	}()
	c := rootCall(version)
	c.addr, c.again, c.send = l.Addr().String(), true, payload()
	c.want = c.send
	p.client(t, c)
	l.Close()
	r := <-results
	requireTheirEnd(t, r.err)
	require.Contains(t, r.types, byte(alertRecord))
	require.NotContains(t, r.types, byte(handshakeRecord))
	return "we refuse"
}

// The peer's server asks for a new handshake in TLS 1.2. Our client accepts, unless it has
// NoRenegotiation: then it refuses with a warning, and does not fail.
func itAsksUsAgain(t *testing.T, p *peer, version sslfilter.Version) string {
	for _, refuse := range []bool{false, true} {
		want := byte(handshakeRecord)
		if refuse {
			want = alertRecord
		}
		c := serverCall(version)
		c.again, c.want, c.send = true, payload(), payload()
		if p.quirks.asked != nil {
			c.want = p.quirks.asked(c.want)
		}
		if p.quirks.asksOnCommand != "" {
			c.want = []byte(p.quirks.asksOnCommand)
		}
		s := p.server(t, c)
		conn, err := net.DialTimeout("tcp", s.addr, peers.Patience)
		require.NoError(t, err)
		wire := &outgoing{Conn: conn}
		us := sslnet.Client(wire, testkit.Ctx(t, our(func(o *sslfilter.Options) { o.NoRenegotiation = refuse })))
		require.NoError(t, us.SetDeadline(time.Now().Add(peers.Patience)))
		require.NoError(t, us.Handshake())
		ended := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, us)
			ended <- err
		}()
		us.Write(c.want) // the peer may have ended
		testkit.Eventually(t, func() bool { return bytes.IndexByte(wire.later(), want) >= 0 }, "no record of type %d", want)
		if refuse {
			require.NotContains(t, wire.later(), byte(handshakeRecord))
		}
		conn.(*net.TCPConn).CloseWrite() // the peer may have ended
		requireTheirEnd(t, <-ended)
		us.Close()
		s.end()
	}
	return "we refuse with `NoRenegotiation`"
}
