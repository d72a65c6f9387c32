package sslnet_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// queue is one direction of a connection in memory, for one goroutine.
type queue struct {
	data []byte
	off  int
}

// inMemory is one end of a connection of two queues. A Read without data fails.
type inMemory struct {
	net.Conn
	in, out *queue
}

func (c inMemory) Read(b []byte) (int, error) {
	q := c.in
	n := copy(b, q.data[q.off:])
	if q.off += n; q.off == len(q.data) {
		q.data, q.off = q.data[:0], 0
	}
	if n == 0 {
		return 0, io.ErrNoProgress
	}
	return n, nil
}

func (c inMemory) Write(b []byte) (int, error) {
	c.out.data = append(c.out.data, b...)
	return len(b), nil
}

func (inMemory) Close() error                     { return nil }
func (inMemory) SetDeadline(time.Time) error      { return nil }
func (inMemory) SetReadDeadline(time.Time) error  { return nil }
func (inMemory) SetWriteDeadline(time.Time) error { return nil }

// switched is a connection whose Conn is replaced after the handshake.
type switched struct{ net.Conn }

// BenchmarkTransfer sends messages from client to server in memory, with two Conns
// and with two Filters and the code that a program needs to drive them.
func BenchmarkTransfer(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 16 << 10, 256 << 10} {
		message, got := make([]byte, size), make([]byte, size)
		b.Run(fmt.Sprintf("Conn/%d", size), func(b *testing.B) {
			p, q := net.Pipe()
			below, above := &switched{p}, &switched{q}
			c, s := sslnet.Client(below, testkit.Ctx(b, nameless())), sslnet.Server(above, testkit.Ctx(b, testkit.Server()))
			require.NoError(b, c.SetServerName("localhost"))
			shake(b, c, s)
			p.Close()
			up, down := new(queue), new(queue)
			below.Conn, above.Conn = inMemory{in: down, out: up}, inMemory{in: up, out: down}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(message); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(s, got); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("Filter/%d", size), func(b *testing.B) {
			c, err := testkit.Ctx(b, nameless()).NewFilter()
			require.NoError(b, err)
			defer c.Close()
			s, err := testkit.Ctx(b, testkit.Server()).NewFilter()
			require.NoError(b, err)
			defer s.Close()
			require.NoError(b, c.SetServerName("localhost"))
			require.NoError(b, c.Handshake())
			for !c.HandshakeDone() || !s.HandshakeDone() {
				_, err = s.Receive(nil, c.Outgoing(nil))
				require.NoError(b, err)
				_, err = c.Receive(nil, s.Outgoing(nil))
				require.NoError(b, err)
			}
			var wire, plain []byte
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Send(message); err != nil {
					b.Fatal(err)
				}
				wire = c.Outgoing(wire[:0])
				if plain, err = s.Receive(plain[:0], wire); err != nil || len(plain) != size {
					b.Fatal(err)
				}
			}
		})
	}
}
