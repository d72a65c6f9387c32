package sslfilter_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/faultnet"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

const (
	faultyConns = 120 // at once, of one TLS version
	// faultyDeadline is the deadline of a connection whose network may stop
	// delivering, and wholeDeadline that of a connection without a fault.
	faultyDeadline = 2 * time.Second
	wholeDeadline  = 2 * time.Minute
	// faultPatience is the additional time before the test reports a hang.
	faultPatience = 30 * time.Second
)

// faultyPayload is the data that one side of connection id sends. No other side sends
// the same.
func faultyPayload(seed, id uint64, server bool) []byte {
	key := [32]byte{}
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], id)
	if server {
		key[16] = 1
	}
	r := rand.NewChaCha8(key)
	data := make([]byte, 8+int(r.Uint64()%(200<<10)))
	r.Read(data)
	binary.LittleEndian.PutUint64(data, id)
	return data
}

// got describes the data that one side has read, and how its connection ended.
type got struct {
	sum         [sha256.Size]byte
	n           int
	read, write error // read is nil after an orderly end
}

// speak sends data and close_notify, and reads everything that the peer sends.
func speak(c *sslnet.Conn, data []byte, first []byte) (g got) {
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		if err == nil {
			err = c.CloseWrite()
		}
		written <- err
	}()
	sum := sha256.New()
	sum.Write(first)
	n, err := io.Copy(sum, struct{ io.Reader }{c})
	g.n, g.read = len(first)+int(n), err
	g.write = <-written
	sum.Sum(g.sum[:0])
	return g
}

// The network has faults in the handshake, in the data and at the end. No connection
// hangs, all data that arrives is correct, a truncated connection is an error, and no
// object or goroutine remains.
func TestDataOverAFaultyNetwork(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed: %d", seed)
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		require.Zero(t, leaked())
		goroutines := runtime.NumGoroutine()
		playFaults(t, seed, highest)
		require.Zero(t, leaked(), "live C objects")
		for end := time.Now().Add(leakDeadline); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
	})
}

func playFaults(t *testing.T, seed uint64, highest sslfilter.Version) {
	upTo := func(o sslfilter.Options) *sslfilter.Ctx {
		o.MaxVersion = highest
		ctx, err := sslfilter.NewCtx(o)
		require.NoError(t, err)
		return ctx
	}
	server := upTo(testkit.ServerOf("server-ec", func(o *sslfilter.Options) { o.ClientCert, o.CACrt = true, testkit.PKI("root.crt") }))
	defer server.Close()
	client := upTo(sslfilter.Options{Client: true, InsecureSkipVerify: true, Crt: testkit.PKI("client-ec.crt"), Key: testkit.PKI("client-ec.key")})
	defer client.Close()

	// The server reads the number of a connection first, and then answers.
	below, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &sslnet.Listener{Listener: below, Ctx: server, HandshakeTimeout: faultyDeadline}
	var serving sync.WaitGroup
	var mu sync.Mutex
	served := make(map[uint64]got)
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				c := conn.(*sslnet.Conn)
				defer c.Close()
				c.SetDeadline(time.Now().Add(faultyDeadline))
				var number [8]byte
				if _, err := io.ReadFull(c, number[:]); err != nil {
					c.NetConn().Close() // with a close_notify, the client would see a complete stream without data
					return
				}
				id := binary.LittleEndian.Uint64(number[:])
				if planOf(seed, id, nil).harmless() {
					c.SetDeadline(time.Now().Add(wholeDeadline))
				}
				g := speak(c, faultyPayload(seed, id, true), number[:])
				mu.Lock()
				served[id] = g
				mu.Unlock()
			})
		}
	})

	proxy, err := faultnet.New(below.Addr().String())
	require.NoError(t, err)
	run := func(id uint64, plan *faultPlan) (*faultnet.Link, got) {
		pipe := &faultnet.Link{Plan: plan.faults, Seed: seed ^ id}
		conn, err := proxy.Dial(pipe)
		if err != nil {
			return pipe, got{read: err}
		}
		c := sslnet.Client(conn, client)
		defer c.Close()
		limit := faultyDeadline
		if plan.harmless() {
			limit = wholeDeadline
		}
		c.SetDeadline(time.Now().Add(limit))
		return pipe, speak(c, faultyPayload(seed, id, false), nil)
	}

	// The first connection has no fault. It shows how many bytes a connection has
	// in addition to its payload.
	const first = 0
	pipe, g := run(first, &faultPlan{})
	require.NoError(t, errors.Join(g.read, g.write))
	<-pipe.Done
	overhead := [2]int{
		int(pipe.Passed[0].Load()) - len(faultyPayload(seed, first, false)),
		int(pipe.Passed[1].Load()) - len(faultyPayload(seed, first, true)),
	}

	var clients sync.WaitGroup
	clientGot := make([]got, faultyConns+1)
	for id := uint64(1); id <= faultyConns; id++ {
		clients.Go(func() { _, clientGot[id] = run(id, planOf(seed, id, &overhead)) })
	}
	whole := make(chan struct{})
	go func() { clients.Wait(); close(whole) }()
	select {
	case <-whole:
	case <-time.After(wholeDeadline + faultPatience):
		t.Fatal("a client hangs")
	}
	below.Close()
	proxy.Stop()
	ended := make(chan struct{})
	go func() { l.Close(); serving.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(faultPatience):
		t.Fatal("a server hangs")
	}
	failed := make(map[faultnet.Kind]int)
	for id := uint64(1); id <= faultyConns; id++ {
		plan := planOf(seed, id, &overhead)
		for _, side := range []struct {
			name string
			got
			sent []byte
		}{
			{"client", clientGot[id], faultyPayload(seed, id, true)},
			{"server", served[id], faultyPayload(seed, id, false)},
		} {
			what := fmt.Sprintf("connection %d, %v: %s", id, plan.faults, side.name)
			if side.name == "server" && side.n == 0 && !plan.harmless() {
				continue // it never read the number of its connection
			}
			require.LessOrEqual(t, side.n, len(side.sent), what)
			require.Equal(t, sha256.Sum256(side.sent[:side.n]), side.sum, what)
			if plan.harmless() {
				require.NoError(t, errors.Join(side.read, side.write), what)
			}
			if side.read == nil {
				require.Equal(t, len(side.sent), side.n, "%s: a truncated connection looked complete", what)
			} else {
				failed[plan.faults[0].Kind]++
				failed[plan.faults[1].Kind]++
			}
		}
	}
	for kind := faultnet.Resets; kind < faultnet.Kinds; kind++ {
		require.NotZero(t, failed[kind], "no connection failed because it was %v", kind)
	}
	t.Logf("sides that failed, by fault: %v", failed)
}

// faultPlan is the faults of a connection; one direction has one.
type faultPlan struct{ faults [2]faultnet.Fault }

func (p *faultPlan) harmless() bool {
	return p.faults[0].Kind.Harmless() && p.faults[1].Kind.Harmless()
}

// planOf returns the fault of connection id: in the handshake, in the data, or at the
// end. The connection has overhead bytes in addition to its payload.
func planOf(seed, id uint64, overhead *[2]int) *faultPlan {
	r := rand.New(rand.NewPCG(seed, id))
	kind, direction := faultnet.Kind(id%faultnet.Kinds), r.IntN(2)
	f := faultnet.Fault{Kind: kind, Wait: time.Duration(1+r.IntN(20)) * time.Millisecond}
	if kind == faultnet.Stalled {
		f.Wait *= 10
	}
	if overhead != nil {
		all := len(faultyPayload(seed, id, direction == 1)) + overhead[direction]
		switch r.IntN(3) {
		case 0:
			f.At = r.IntN(2000)
		case 1:
			f.At = r.IntN(all)
		case 2:
			f.At = max(0, all-r.IntN(100))
		}
	}
	p := new(faultPlan)
	p.faults[direction] = f
	return p
}
