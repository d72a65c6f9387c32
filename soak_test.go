package sslfilter_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cpeer"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// soakCount is raised to 200,000 by "make soak".
var soakCount = flag.Int("soak", 2000, "connections that TestSoak makes")

const (
	// soakSpare is how many KiB the process may grow during the last third of the
	// connections, for any number of them: the layout of malloc's arenas and Go's heap
	// varies. Memory that is allocated only once is allocated in the first third. With
	// 200,000 connections, a leak of 2 KiB in one kind of them is larger.
	soakSpare = 2 << 10
	// soakDeadline limits one connection over net.Pipe or TCP, in case it hangs.
	soakDeadline = time.Minute
)

// soak has the contexts that the connections share, and a function for each kind of
// connection.
type soak struct {
	server, client, enforcing *sslfilter.Ctx
	kinds                     []func(r *rand.Rand) error
}

// After many connections of all kinds, the process has not grown.
func TestSoak(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	seed := rand.Uint64()
	t.Logf("seed: %d", seed)
	s := newSoak(t)
	var made atomic.Int64
	run := func(until int) {
		var group sync.WaitGroup
		for range 2 * runtime.GOMAXPROCS(0) {
			group.Go(func() {
				for i := int(made.Add(1)) - 1; i < until && !t.Failed(); i = int(made.Add(1)) - 1 {
					if err := s.kinds[i%len(s.kinds)](rand.New(rand.NewPCG(seed, uint64(i)))); err != nil {
						t.Errorf("connection %d, kind %d: %v", i, i%len(s.kinds), err)
					}
				}
			})
		}
		group.Wait()
		made.Store(int64(until))
	}
	third := max(*soakCount/3, len(s.kinds))
	var resident [3]int
	begin := time.Now()
	for i := range resident {
		run(third * (i + 1))
		resident[i] = s.rest(t)
	}
	took := time.Since(begin)
	t.Logf("%d connections of %d kinds, %.0f a second; resident %d KiB after a third, %d KiB after two, %d KiB at the end",
		3*third, len(s.kinds), float64(3*third)/took.Seconds(), resident[0], resident[1], resident[2])
	if !instrumented { // a sanitizer keeps freed memory, and finds leaks itself
		require.Less(t, resident[2]-resident[1], soakSpare)
	}
	threads, dirty := errorQueues()
	t.Logf("checked the error queues of %d threads", threads)
	require.Zero(t, dirty, "threads whose error queue is not empty")
	for end := time.Now().Add(leakDeadline); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}

// rest waits until only the contexts of s remain, and returns the resident memory.
func (s *soak) rest(t *testing.T) (kib int) {
	t.Helper()
	contexts := int64(0)
	for end := time.Now().Add(leakDeadline); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		if contexts = sslfilter.LiveHandles(); contexts == int64(soakContexts) || time.Now().After(end) {
			break
		}
	}
	require.Equal(t, int64(soakContexts), contexts, "live C objects")
	debug.FreeOSMemory()
	return testkit.ResidentKiB(t)
}

// soakContexts is the number of C objects that live as long as the soak.
var soakContexts int

func newSoak(t *testing.T) *soak {
	t.Helper()
	require.Zero(t, leaked())
	keep := func(o sslfilter.Options) *sslfilter.Ctx {
		soakContexts++
		return testkit.Ctx(t, o)
	}
	soakContexts = 1 // the CRL
	s := &soak{
		server:    keep(testkit.Asking(crl(testkit.PKI("crl.pem")))),
		client:    keep(testkit.Showing("client-ec.crt", "client-ec.key")),
		enforcing: keep(testkit.Asking(func(o *sslfilter.Options) { o.RequireValidClientCert, o.CACRL = true, testkit.PKI("crl.pem") })),
	}
	client12 := keep(testkit.Showing("client.crt", "", testkit.TLS12))
	plain, plainClient := keep(testkit.ServerOf("server-ec")), keep(testkit.Client(func(o *sslfilter.Options) { o.InsecureSkipVerify, o.CACrt = true, "" }))
	s.kinds = []func(r *rand.Rand) error{
		func(r *rand.Rand) error { return s.orderly(r, s.server, s.client) },
		func(r *rand.Rand) error { return s.orderly(r, s.server, client12) },
		func(r *rand.Rand) error { return s.orderly(r, s.enforcing, s.client) },
		func(r *rand.Rand) error { return s.orderly(r, plain, plainClient) },
		s.detached, s.damaged, s.damaged, s.cut, s.cut, s.dropped, s.dropped, s.ownContext, s.badOptions,
		func(r *rand.Rand) error { return renegotiating(r, client12) },
		func(r *rand.Rand) error { return s.overPipe(r, false) },
		func(r *rand.Rand) error { return s.overPipe(r, true) },
		s.overTCP(t),
		s.chosen(t, keep),
	}
	for _, f := range failures() {
		if f.name == "key updates that nobody answers" || f.name == "another client" { // these need megabytes, or make no connection
			continue
		}
		server, client := keep(f.server), keep(f.client)
		s.kinds = append(s.kinds, func(*rand.Rand) error {
			p, err := s.pair(server, client)
			if err != nil {
				return err
			}
			defer p.Close()
			f.play(t, p)
			return nil
		})
	}
	return s
}

func (s *soak) pair(server, client *sslfilter.Ctx) (*testkit.Pair, error) {
	f, err := client.NewFilter()
	if err != nil {
		return nil, err
	}
	g, err := server.NewFilter()
	if err != nil {
		f.Close()
		return nil, err
	}
	return testkit.Join(g, f), nil
}

// orderly is a connection with data in both directions, a key update and a close_notify.
func (s *soak) orderly(r *rand.Rand, server, client *sslfilter.Ctx) error {
	p, err := s.pair(server, client)
	if err != nil {
		return err
	}
	defer p.Close()
	return playOrderly(r, p)
}

// chosen returns a kind of connection whose context is chosen by the server name, or
// refused. The context of "localhost" has a Staple whose response is replaced.
func (s *soak) chosen(t *testing.T, keep func(o sslfilter.Options) *sslfilter.Ctx) func(r *rand.Rand) error {
	cert := testkit.Cert(t, "server.crt")
	responses := [][]byte{testkit.OCSPResponse(t, testkit.OCSP{Cert: cert}), testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, SHA256: true})}
	staple, err := sslfilter.NewStaple(responses[0])
	require.NoError(t, err)
	soakContexts++ // the Staple
	stapling := func(o *sslfilter.Options) { o.Staple, o.CACrt = staple, testkit.PKI("root.crt") }
	local, other := keep(testkit.Server(stapling)), keep(named(t, []string{"other.example"}))
	client := keep(testkit.Client(checkingOCSP(sslfilter.OCSPIfStapled)))
	names, err := sslfilter.NewNameMap(nil, local, other)
	require.NoError(t, err)
	return func(r *rand.Rand) error {
		if err := staple.Set(responses[r.IntN(len(responses))]); err != nil {
			return err
		}
		f, err := client.NewFilter()
		if err != nil {
			return err
		}
		p := testkit.Join(sslfilter.NewServerFilter(names.Choose), f)
		defer p.Close()
		name := []string{"localhost", "localhost", "other.example", "nobody.example"}[r.IntN(4)]
		if err := f.SetServerName(name); err != nil {
			return err
		}
		if err := f.SetVerifiedName(name); err != nil {
			return err
		}
		switch err := playOrderly(r, p); {
		case name == "nobody.example":
			var refused *sslfilter.ServerNameError
			if !errors.As(p.Server.Filter.Err(), &refused) {
				return fmt.Errorf("not refused: %w", errors.Join(err, p.Server.Filter.Err()))
			}
			return nil
		case err != nil:
			return err
		}
		if want := name == "localhost"; (f.OCSPResponse() != nil) != want {
			return fmt.Errorf("a stapled response of %s: %v", name, !want)
		}
		return nil
	}
}

// playOrderly plays an orderly connection.
func playOrderly(r *rand.Rand, p *testkit.Pair) error {
	p.Cut = testkit.Random(r.Uint64())
	if err := p.Handshake(); err != nil {
		return err
	}
	data := make([]byte, r.IntN(20_000))
	for _, side := range []*testkit.Side{&p.Client, &p.Server} {
		if err := side.Send(data); err != nil {
			return err
		}
		if side.State().Version == sslfilter.VersionTLS13 && r.IntN(2) == 0 {
			if err := side.KeyUpdate(r.IntN(2) == 0); err != nil {
				return err
			}
		}
		p.Transfer()
		if side.Peer() == nil {
			return errors.New("no peer")
		}
	}
	p.Client.CloseWrite()
	p.Transfer()
	p.Server.CloseWrite()
	p.Transfer()
	if !bytes.Equal(p.Client.Got, data) || !bytes.Equal(p.Server.Got, data) || !p.Client.EOF() || !p.Server.EOF() {
		return fmt.Errorf("%d and %d bytes of %d came", len(p.Client.Got), len(p.Server.Got), len(data))
	}
	return nil
}

// detached is a connection that continues without TLS.
func (s *soak) detached(r *rand.Rand) error {
	p, err := s.pair(s.server, s.client)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Handshake(); err != nil {
		return err
	}
	p.Client.CloseWrite()
	p.Transfer()
	p.Server.Deliver(make([]byte, r.IntN(1000))) // plain text after it
	_, err = p.Server.Detach()
	p.Transfer()
	return err
}

// damaged is a connection with one changed byte.
func (s *soak) damaged(r *rand.Rand) error {
	p, err := s.pair(s.server, s.client)
	if err != nil {
		return err
	}
	defer p.Close()
	at, seen := r.IntN(6000), 0
	p.Alter = func(_ bool, wire []byte) []byte {
		if i := at - seen; i >= 0 && i < len(wire) {
			wire[i] ^= byte(1 + r.IntN(255))
		}
		seen += len(wire)
		return wire
	}
	p.Handshake()
	p.Client.Send(make([]byte, 2000))
	p.Server.Send(make([]byte, 2000))
	p.Transfer()
	return nil
}

// cut is a connection whose network ends after some bytes.
func (s *soak) cut(r *rand.Rand) error {
	p, err := s.pair(s.server, s.client)
	if err != nil {
		return err
	}
	defer p.Close()
	left := r.IntN(6000)
	p.Alter = func(_ bool, wire []byte) []byte {
		wire = wire[:min(left, len(wire))]
		left -= len(wire)
		return wire
	}
	p.Handshake()
	p.Client.Send(make([]byte, 2000))
	p.Server.Send(make([]byte, 2000))
	p.Transfer()
	p.Client.ReceiveEOF()
	p.Server.ReceiveEOF()
	if p.Client.Filter.Err() == nil || p.Server.Filter.Err() == nil {
		return errors.New("a truncated connection without an error")
	}
	return nil
}

// dropped is a connection that is abandoned without Close.
func (s *soak) dropped(r *rand.Rand) error {
	p, err := s.pair(s.enforcing, s.client)
	if err != nil || r.IntN(4) == 0 {
		return err
	}
	left := r.IntN(8000)
	p.Alter = func(_ bool, wire []byte) []byte {
		wire = wire[:min(left, len(wire))]
		left -= len(wire)
		return wire
	}
	p.Handshake()
	p.Server.Send(make([]byte, 100_000)) // some of it is never sent
	return nil
}

// ownContext is a connection with contexts of its own, like those of new in the original.
func (s *soak) ownContext(r *rand.Rand) error {
	server, err := sslfilter.New(testkit.Asking(crl(testkit.PKI("crl.pem"))))
	if err != nil {
		return err
	}
	client, err := sslfilter.New(testkit.Showing("client.crt", ""))
	if err != nil {
		server.Close()
		return err
	}
	p := testkit.Join(server, client)
	if r.IntN(2) == 0 {
		defer p.Close()
	}
	return p.Handshake()
}

// badOptions makes contexts that NewCtx rejects late.
func (s *soak) badOptions(*rand.Rand) error {
	for _, change := range []func(*sslfilter.Options){
		func(o *sslfilter.Options) { o.Key = testkit.PKI("client.key") },
		func(o *sslfilter.Options) { o.CACrt = testkit.PKI("crl.pem") },
		func(o *sslfilter.Options) { o.Chain = testkit.PKI("chain.pem") },
		func(o *sslfilter.Options) { o.CACRL = testkit.PKI("garbage.pem") },
	} {
		if ctx, err := sslfilter.NewCtx(testkit.Asking(change)); err == nil {
			ctx.Close()
			return errors.New("accepted")
		}
	}
	return nil
}

// renegotiating is a connection whose server asks for new handshakes.
func renegotiating(r *rand.Rand, ctx *sslfilter.Ctx) error {
	server, err := cpeer.New(testkit.PKI("server.crt"), testkit.PKI("server.key"), true)
	if err != nil {
		return err
	}
	defer server.Close()
	f, err := ctx.NewFilter()
	if err != nil {
		return err
	}
	defer f.Close()
	pump := func() error {
		for {
			wire := f.Outgoing(nil)
			if _, err := server.Receive(wire); err != nil {
				return err
			}
			back := server.Outgoing()
			if len(wire) == 0 && len(back) == 0 {
				return nil
			}
			if _, err := f.Receive(nil, back); err != nil {
				return err
			}
		}
	}
	if err := f.Handshake(); err != nil {
		return err
	}
	if err := pump(); err != nil {
		return err
	}
	rounds := 1 + r.IntN(3)
	for range rounds {
		if err := server.Renegotiate(); err != nil {
			return err
		}
		f.Send([]byte("meanwhile"))
		if err := pump(); err != nil {
			return err
		}
	}
	if server.Rounds() != rounds || !f.ClientCertValid() {
		return fmt.Errorf("%d renegotiations of %d", server.Rounds(), rounds)
	}
	return nil
}

// overPipe is a connection over net.Pipe. If it is abandoned, its network ends after some
// bytes, and one of its ends is never closed.
func (s *soak) overPipe(r *rand.Rand, abandoned bool) error {
	a, b := net.Pipe()
	var below net.Conn = a
	if abandoned {
		below = &failing{Conn: a, left: r.IntN(6000)}
	}
	return s.over(below, b, abandoned)
}

// over exchanges data over both ends of a network.
func (s *soak) over(a, b net.Conn, abandoned bool) error {
	client, server := sslnet.Client(a, s.client), sslnet.Server(b, s.server)
	// This is not a deadline, because the timer of a deadline keeps both ends of a
	// net.Pipe alive until it expires, even after Close: 11 MB in a minute.
	var hung atomic.Bool
	watchdog := time.AfterFunc(soakDeadline, func() {
		hung.Store(true)
		a.Close()
		b.Close()
	})
	defer watchdog.Stop()
	const text = "some plaintext"
	answered := make(chan error, 1)
	go func() {
		buf := make([]byte, len(text))
		_, err := io.ReadFull(server, buf)
		if err == nil {
			_, err = server.Write(buf)
		}
		if err == nil {
			_, err = server.Read(buf) // the end
		}
		if err == io.EOF {
			err = nil
		}
		server.Close()
		answered <- err
	}()
	buf := make([]byte, len(text))
	_, err := client.Write([]byte(text))
	if err == nil {
		_, err = io.ReadFull(client, buf)
	}
	if abandoned {
		a.Close() // and client is not closed
		if err := <-answered; hung.Load() {
			return fmt.Errorf("it hung: %w", err)
		}
		return nil
	}
	err = errors.Join(err, client.Close(), <-answered)
	if err == nil && string(buf) != text {
		err = errors.New("another text")
	}
	return err
}

// overTCP uses sockets for one in ten connections, since the kernel would run out of ports,
// and net.Pipe for the others.
func (s *soak) overTCP(t *testing.T) func(r *rand.Rand) error {
	l := testkit.Listen(t)
	var turn sync.Mutex // so that Accept returns the connection of this Dial
	return func(r *rand.Rand) error {
		if r.IntN(10) > 0 {
			return s.overPipe(r, true)
		}
		turn.Lock()
		a, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			turn.Unlock()
			return err
		}
		b, err := l.Accept()
		turn.Unlock()
		if err != nil {
			return err
		}
		a.(*net.TCPConn).SetLinger(0) // a reset leaves no port behind
		return s.over(&failing{Conn: a, left: r.IntN(6000)}, b, true)
	}
}

// failing is a connection that ends after a number of bytes.
type failing struct {
	net.Conn
	left int
}

func (f *failing) Read(b []byte) (int, error) {
	if f.left <= 0 {
		f.Close()
		return 0, net.ErrClosed
	}
	n, err := f.Conn.Read(b[:min(len(b), f.left)])
	f.left -= n
	return n, err
}

// errorQueues checks OpenSSL's error queue of every thread that can run Go code. It locks
// more goroutines to threads than there are threads, so that idle threads are used, too.
func errorQueues() (threads, dirty int) {
	tasks, _ := os.ReadDir("/proc/self/task")
	const spare = 8
	n := len(tasks) + spare
	var looked, found atomic.Int64
	var all, group sync.WaitGroup
	all.Add(n)
	for range n {
		group.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			looked.Add(1)
			if sslfilter.ErrorQueued() {
				found.Add(1)
			}
			all.Done()
			all.Wait() // no goroutine releases its thread before all have one
		})
	}
	group.Wait()
	return int(looked.Load()), int(found.Load())
}
