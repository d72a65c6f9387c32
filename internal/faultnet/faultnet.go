// Package faultnet simulates network faults, for tests. It is a TCP proxy that delays,
// stalls, cuts or resets a connection, or stops reading or writing, at a chosen byte of
// a chosen direction.
package faultnet

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is a fault in one direction of a connection.
type Fault struct {
	Kind Kind
	At   int           // bytes that pass before the fault
	Wait time.Duration // duration of Delayed (at most) and Stalled
}

// Kind is a kind of fault.
type Kind int

// The kinds. With the kinds up to Tiny, all data still arrives.
const (
	Faultless Kind = iota
	Delayed        // every piece is delayed
	Stalled        // once, as after a loss of packets that are sent again
	Tiny           // segments of a few bytes
	Resets         // RST
	Ends           // FIN; the other direction continues
	Deaf           // the proxy stops reading, so the buffers of the sender fill
	Mute           // the proxy drops the data
	Vanishes       // the proxy drops the data of both directions, and FIN
	Kinds     = iota
)

func (k Kind) String() string {
	return [Kinds]string{"faultless", "delayed", "stalled", "tiny", "resets", "ends", "deaf", "mute", "vanishes"}[k]
}

// Harmless reports whether all data still arrives.
func (k Kind) Harmless() bool { return k <= Tiny }

// Proxy forwards TCP connections, with a fault in each.
type Proxy struct {
	net.Listener
	target string
	closed chan struct{} // closed by Stop
	all    sync.WaitGroup

	dialing sync.Mutex
}

// Link is one connection through the proxy. Index 0 is the direction from the client.
type Link struct {
	Plan   [2]Fault
	Seed   uint64
	Passed [2]atomic.Int64 // bytes that arrived
	Done   chan struct{}   // closed when both directions have ended

	gone atomic.Bool // Vanishes has struck
}

// New starts a proxy for the address target.
func New(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &Proxy{Listener: l, target: target, closed: make(chan struct{})}, nil
}

// Stop ends all connections, and returns when all goroutines have ended.
func (p *Proxy) Stop() {
	p.Close()
	close(p.closed)
	p.all.Wait()
}

// Dial makes a connection through the proxy, with the faults of l.
func (p *Proxy) Dial(l *Link) (net.Conn, error) {
	p.dialing.Lock() // so that the accepted connection is the dialed one
	defer p.dialing.Unlock()
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
		end.SetReadBuffer(16 << 10) // so that Deaf soon has an effect
		end.SetWriteBuffer(16 << 10)
	}
	l.Done = make(chan struct{})
	p.all.Go(func() {
		var pumps sync.WaitGroup
		for i := range ends {
			pumps.Go(func() { p.pump(l, i, ends[i], ends[1-i]) })
		}
		pumps.Wait()
		close(l.Done)
		near.Close()
		far.Close()
	})
	p.all.Go(func() {
		select {
		case <-l.Done:
		case <-p.closed: // ends calls of Read and Write in progress
			near.Close()
			far.Close()
		}
	})
	return client, nil
}

// pump forwards one direction until its end or its fault.
func (p *Proxy) pump(l *Link, direction int, from, to *net.TCPConn) {
	f := l.Plan[direction]
	r := rand.New(rand.NewPCG(l.Seed, uint64(direction)))
	buf := make([]byte, 8<<10)
	for {
		passed := int(l.Passed[direction].Load())
		struck := passed >= f.At && !f.Kind.Harmless()
		if f.Kind == Stalled && passed >= f.At {
			p.sleep(f.Wait)
			f.Kind = Faultless
		}
		if struck {
			switch f.Kind {
			case Resets:
				for _, conn := range []*net.TCPConn{from, to} {
					conn.SetLinger(0)
					conn.Close()
				}
				return
			case Ends:
				to.CloseWrite()
				io.Copy(io.Discard, from)
				return
			case Deaf:
				<-p.closed
				return
			case Vanishes:
				l.gone.Store(true)
			}
		}
		piece := buf
		switch {
		case f.Kind == Tiny:
			piece = buf[:1+r.IntN(64)]
		case !f.Kind.Harmless() && !struck:
			piece = buf[:min(len(buf), f.At-passed)]
		}
		n, err := from.Read(piece)
		if f.Kind == Delayed {
			p.sleep(time.Duration(r.Int64N(int64(f.Wait))))
		}
		silent := l.gone.Load() || struck // data and the end are dropped
		if n > 0 && !silent {
			if _, err := to.Write(buf[:n]); err != nil {
				from.SetLinger(0) // the sender gets the error as it would without a proxy
				from.Close()
				return
			}
			l.Passed[direction].Add(int64(n))
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
		case err != nil: // forward the reset
			to.SetLinger(0)
			to.Close()
			return
		}
	}
}

func (p *Proxy) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-p.closed:
	}
}
