// Command bench measures the same work done by this library, by C over memory
// BIOs and by crypto/tls, in turns within one run, and prints medians and
// ratios of the processor time. Figures of different runs cannot be compared:
// the machine is noisy.
package main

/*
#cgo pkg-config: libssl libcrypto
#cgo CFLAGS: -O2 -Wall
#include <stdlib.h>
#include "membio.h"
*/
import "C"

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unsafe"

	"github.com/seed-014b8713/sslfilter"
)

// contender does n pieces of one kind of work and tells how long it took.
type contender struct {
	name string
	run  func(n int) (time.Duration, error)
}

// work is one row of the table; the first contender is what the others are compared with.
type work struct {
	name       string
	n          int
	contenders []contender
}

func main() {
	pki := flag.String("pki", "../testdata/pki", "folder with the test certificates")
	rounds := flag.Int("rounds", 11, "rounds; each contender runs once in each")
	only := flag.String("only", "", "rows whose name contains this, and no others")
	flag.Parse()
	runtime.LockOSThread()
	if err := bench(*pki, *rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(pki string, rounds int, only string) error {
	rows, err := rows(pki)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(w work) bool { return !strings.Contains(w.name, only) })
	fmt.Printf("%s, %s, one core, TLS 1.3, median of %d rounds in turns, µs of processor time each\n\n", sslfilter.OpenSSLVersion(), runtime.Version(), rounds)
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "work\tC, BIO_s_mem\tsslfilter\tratio to C\tcrypto/tls\t")
	for _, w := range rows {
		medians, err := measure(w, rounds)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t\n", w.name, medians[0], medians[1], medians[1]/medians[0], medians[2])
	}
	return table.Flush()
}

// measure runs the contenders in turns and gives their medians in µs.
func measure(w work, rounds int) ([]float64, error) {
	times := make([][]float64, len(w.contenders))
	for round := range rounds + 1 {
		for i, c := range w.contenders {
			d, err := c.run(w.n)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", w.name, c.name, err)
			}
			if round > 0 { // the first warms up
				times[i] = append(times[i], float64(d.Nanoseconds())/1e3/float64(w.n))
			}
		}
	}
	medians := make([]float64, len(times))
	for i, t := range times {
		slices.Sort(t)
		medians[i] = t[len(t)/2]
	}
	return medians, nil
}

func rows(pki string) ([]work, error) {
	var list []work
	for _, key := range []struct{ name, file string }{{"P-256", "server-ec"}, {"RSA-2048", "server"}} {
		e, err := newEnds(filepath.Join(pki, key.file))
		if err != nil {
			return nil, err
		}
		list = append(list, work{"handshake " + key.name, 200, []contender{
			{"C", e.cHandshakes}, {"sslfilter", e.handshakes}, {"crypto/tls", e.goHandshakes},
		}})
	}
	e, err := newEnds(filepath.Join(pki, "server-ec"))
	if err != nil {
		return nil, err
	}
	for _, size := range []struct{ len, n int }{{64, 20000}, {1024, 20000}, {16384, 5000}, {262144, 400}} {
		list = append(list, work{fmt.Sprintf("%d bytes", size.len), size.n, []contender{
			{"C", func(n int) (time.Duration, error) { return e.cRoundTrips(size.len, n) }},
			{"sslfilter", func(n int) (time.Duration, error) { return e.roundTrips(size.len, n) }},
			{"crypto/tls", func(n int) (time.Duration, error) { return e.goRoundTrips(size.len, n) }},
		}})
	}
	return list, nil
}

// ends are the contexts of all contenders with one certificate. Nobody verifies.
type ends struct {
	c                *C.membio
	server, client   *sslfilter.Ctx
	goServer, goUser *tls.Config
}

func newEnds(file string) (*ends, error) {
	crt, key := C.CString(file+".crt"), C.CString(file+".key")
	defer C.free(unsafe.Pointer(crt))
	defer C.free(unsafe.Pointer(key))
	const tls13 = 0x0304
	e := &ends{c: C.membio_new(crt, key, tls13)}
	if e.c == nil {
		return nil, errors.New("C: cannot load " + file)
	}
	var err error
	if e.server, err = sslfilter.NewCtx(sslfilter.Options{Crt: file + ".crt", Key: file + ".key", MinVersion: tls13}); err != nil {
		return nil, err
	}
	if e.client, err = sslfilter.NewCtx(sslfilter.Options{Client: true, InsecureSkipVerify: true, MinVersion: tls13}); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(file+".crt", file+".key")
	if err != nil {
		return nil, err
	}
	e.goServer = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls13}
	e.goUser = &tls.Config{InsecureSkipVerify: true, MinVersion: tls13}
	return e, nil
}

// cpuTime is what this thread has used so far: neither other programs count, nor
// the scheduler's own thread, which the C loop does not wake.
func cpuTime() time.Duration { return time.Duration(float64(C.membio_cpu_time(0)) * 1e9) }

// processTime is that of all threads, for crypto/tls, whose two ends are
// goroutines.
func processTime() time.Duration { return time.Duration(float64(C.membio_cpu_time(1)) * 1e9) }

// unlocked runs f in a goroutine that may move between threads.
func unlocked(f func() error) (time.Duration, error) {
	start := processTime()
	done := make(chan error)
	go func() { done <- f() }()
	err := <-done
	return processTime() - start, err
}

func seconds(s C.double) (time.Duration, error) {
	if s < 0 {
		return 0, errors.New("failed")
	}
	return time.Duration(float64(s) * 1e9), nil
}

func (e *ends) cHandshakes(n int) (time.Duration, error) {
	return seconds(C.membio_handshakes(e.c, C.int(n)))
}

func (e *ends) cRoundTrips(size, n int) (time.Duration, error) {
	return seconds(C.membio_round_trips(e.c, C.size_t(size), C.int(n)))
}

// shake makes a connection of two filters.
func (e *ends) shake() (c, s *sslfilter.Filter, err error) {
	if c, err = e.client.NewFilter(); err != nil {
		return nil, nil, err
	}
	if s, err = e.server.NewFilter(); err != nil {
		return nil, nil, err
	}
	if err = c.Handshake(); err != nil {
		return nil, nil, err
	}
	var wire, plain []byte
	for range 4 {
		wire = c.Outgoing(wire[:0])
		if _, err = s.Receive(plain, wire); err != nil {
			return nil, nil, err
		}
		wire = s.Outgoing(wire[:0])
		if _, err = c.Receive(plain, wire); err != nil {
			return nil, nil, err
		}
	}
	if !c.HandshakeDone() || !s.HandshakeDone() {
		return nil, nil, errors.New("the handshake is not done")
	}
	return c, s, nil
}

func (e *ends) handshakes(n int) (time.Duration, error) {
	start := cpuTime()
	for range n {
		c, s, err := e.shake()
		if err != nil {
			return 0, err
		}
		c.Close()
		s.Close()
	}
	return cpuTime() - start, nil
}

func (e *ends) roundTrips(size, n int) (time.Duration, error) {
	c, s, err := e.shake()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	defer s.Close()
	message := make([]byte, size)
	wire, plain := make([]byte, 0, size*2+4096), make([]byte, 0, size*2+4096)
	start := cpuTime()
	for range n {
		if err := c.Send(message); err != nil {
			return 0, err
		}
		wire = c.Outgoing(wire[:0])
		if plain, err = s.Receive(plain[:0], wire); err != nil || len(plain) != size {
			return 0, fmt.Errorf("%d of %d bytes: %w", len(plain), size, err)
		}
	}
	return cpuTime() - start, nil
}

// memory is one end of a connection between goroutines without sockets.
type memory struct {
	net.Conn // never used
	in, out  *buffer
}

type buffer struct {
	data  []byte
	ready chan struct{}
}

func (m *memory) Read(p []byte) (int, error) {
	for len(m.in.data) == 0 {
		if _, ok := <-m.in.ready; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, m.in.data)
	m.in.data = append(m.in.data[:0], m.in.data[n:]...)
	return n, nil
}

func (m *memory) Write(p []byte) (int, error) {
	m.out.data = append(m.out.data, p...)
	select {
	case m.out.ready <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (m *memory) Close() error { return nil }

func memoryPipe() (a, b *memory) {
	x, y := &buffer{ready: make(chan struct{}, 1)}, &buffer{ready: make(chan struct{}, 1)}
	return &memory{in: x, out: y}, &memory{in: y, out: x}
}

func (e *ends) goShake() (c, s *tls.Conn, err error) {
	a, b := memoryPipe()
	c, s = tls.Client(a, e.goUser), tls.Server(b, e.goServer)
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := c.Handshake(); err != nil {
		return nil, nil, err
	}
	return c, s, <-done
}

func (e *ends) goHandshakes(n int) (time.Duration, error) {
	return unlocked(func() error {
		for range n {
			if _, _, err := e.goShake(); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *ends) goRoundTrips(size, n int) (time.Duration, error) {
	c, s, err := e.goShake()
	if err != nil {
		return 0, err
	}
	message, plain := make([]byte, size), make([]byte, size)
	return unlocked(func() error {
		for range n {
			if _, err := c.Write(message); err != nil {
				return err
			}
			if _, err := io.ReadFull(s, plain); err != nil {
				return err
			}
		}
		return nil
	})
}
