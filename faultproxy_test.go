package sslfilter_test

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is what the network does to one direction of a connection.
type fault struct {
	kind faultKind
	at   int           // bytes that pass before it
	wait time.Duration // of delay and stall
}

type faultKind int

const (
	faultless  faultKind = iota
	delayed              // every piece comes later
	stalled              // once, as where packets are lost and sent again
	tiny                 // segments of a few bytes
	resets               // RST
	ends                 // FIN, the other direction goes on
	deaf                 // what comes is not read any more, so the sender's buffers fill
	mute                 // what comes is thrown away
	vanishes             // the same in both directions, without FIN
	faultKinds = iota
)

func (k faultKind) String() string {
	return [faultKinds]string{"faultless", "delayed", "stalled", "tiny", "resets", "ends", "deaf", "mute", "vanishes"}[k]
}

// harmless reports whether everything still arrives.
func (k faultKind) harmless() bool { return k <= tiny }

// faultProxy passes TCP connections on, with a fault in each.
type faultProxy struct {
	net.Listener
	target string
	closed chan struct{} // ends what waits
	all    sync.WaitGroup
}

// faultyLink is one connection through the proxy. plan's first direction is the
// client's.
type faultyLink struct {
	plan   [2]fault
	seed   uint64
	passed [2]atomic.Int64
	gone   atomic.Bool // vanished
	done   chan struct{}
}

func newFaultProxy(t *testing.T, target string) *faultProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return &faultProxy{Listener: l, target: target, closed: make(chan struct{})}
}

// stop ends everything, and returns when nothing is left.
func (p *faultProxy) stop() {
	p.Close()
	close(p.closed)
	p.all.Wait()
}

// dial makes a connection through the proxy. The plan is that of this one: the
// proxy is dialed by one goroutine at a time.
func (p *faultProxy) dial(l *faultyLink) (net.Conn, error) {
	client, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		return nil, err
	}
	near, err := p.Accept()
	if err != nil {
		client.Close()
		return nil, err
	}
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		near.Close()
		return nil, err
	}
	ends := [2]*net.TCPConn{near.(*net.TCPConn), far.(*net.TCPConn)}
	for _, end := range ends {
		end.SetReadBuffer(16 << 10) // so that a deaf peer is felt
		end.SetWriteBuffer(16 << 10)
	}
	l.done = make(chan struct{})
	p.all.Go(func() {
		var pumps sync.WaitGroup
		for i := range ends {
			pumps.Go(func() { p.pump(l, i, ends[i], ends[1-i]) })
		}
		pumps.Wait()
		close(l.done)
		near.Close()
		far.Close()
	})
	p.all.Go(func() {
		select {
		case <-l.done:
		case <-p.closed: // what hangs on a read or write
			near.Close()
			far.Close()
		}
	})
	return client, nil
}

// pump passes one direction on until its end or its fault.
func (p *faultProxy) pump(l *faultyLink, direction int, from, to *net.TCPConn) {
	f := l.plan[direction]
	r := rand.New(rand.NewPCG(l.seed, uint64(direction)))
	buf := make([]byte, 8<<10)
	for {
		passed := int(l.passed[direction].Load())
		struck := passed >= f.at && !f.kind.harmless()
		if f.kind == stalled && passed >= f.at {
			p.sleep(f.wait)
			f.kind = faultless
		}
		if struck {
			switch f.kind {
			case resets:
				for _, conn := range []*net.TCPConn{from, to} {
					conn.SetLinger(0)
					conn.Close()
				}
				return
			case ends:
				to.CloseWrite()
				io.Copy(io.Discard, from)
				return
			case deaf:
				<-p.closed
				return
			case vanishes:
				l.gone.Store(true)
			}
		}
		piece := buf
		switch {
		case f.kind == tiny:
			piece = buf[:1+r.IntN(64)]
		case !f.kind.harmless() && !struck:
			piece = buf[:min(len(buf), f.at-passed)]
		}
		n, err := from.Read(piece)
		if f.kind == delayed {
			p.sleep(time.Duration(r.Int64N(int64(f.wait))))
		}
		silent := l.gone.Load() || struck // thrown away, the end too
		if n > 0 && !silent {
			if _, err := to.Write(buf[:n]); err != nil {
				from.SetLinger(0) // the sender learns it as it would without a proxy
				from.Close()
				return
			}
			l.passed[direction].Add(int64(n))
		}
		switch {
		case err == io.EOF && silent:
			<-p.closed
			return
		case err == io.EOF:
			to.CloseWrite()
			return
		case err != nil && silent:
			<-p.closed
			return
		case err != nil: // a reset is passed on
			to.SetLinger(0)
			to.Close()
			return
		}
	}
}

func (p *faultProxy) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-p.closed:
	}
}
