package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// ours returns the options of both sides with a certificate.
func ours(pki, cert string) (server, client sslfilter.Options) {
	file := func(name string) string { return filepath.Join(pki, name) }
	name := subject.File(cert)
	server = sslfilter.Options{Crt: file(name + ".crt"), Key: file(name + ".key")}
	client = sslfilter.Options{Client: true, CACrt: file("root.crt"), ServerName: "localhost"}
	if cert == "cert" {
		server.RequireValidClientCert, server.CACrt = true, file("root.crt")
		client.Crt, client.Key = file("client-ec.crt"), file("client-ec.key")
	}
	return server, client
}

// engine drives Filters without a connection.
type engine struct {
	pki          string
	cert         string
	server, user *sslfilter.Ctx
	options      sslfilter.Options         // of the server
	session      *sslfilter.Session        // of the first connection of a choice
	stored       []sslfilter.StoredSession // what that connection gave to a store
	names        *sslfilter.NameMap        // has server, for the choice serverNames
}

func openEngine(pki, cert string, change func(server, client *sslfilter.Options)) (*engine, error) {
	server, client := ours(pki, cert)
	if change != nil {
		change(&server, &client)
	}
	e := &engine{pki: pki, cert: cert, options: server}
	var err error
	if e.server, err = sslfilter.NewCtx(server); err != nil {
		return nil, err
	}
	e.user, err = sslfilter.NewCtx(client)
	return e, err
}

// buffers are the slices that a program needs to drive filters; said is the buffer of a
// client in C.
type buffers struct{ wire, plain, said []byte }

// shake connects two new filters.
func (e *engine) shake(b *buffers) (c, s *sslfilter.Filter, err error) {
	if c, err = e.user.NewFilter(); err != nil {
		return nil, nil, err
	}
	if s, err = e.server.NewFilter(); err != nil {
		return nil, nil, err
	}
	if err = c.Handshake(); err != nil {
		return nil, nil, err
	}
	for range 10 {
		b.wire = c.Outgoing(b.wire[:0])
		if b.plain, err = s.Receive(b.plain[:0], b.wire); err != nil {
			return nil, nil, err
		}
		b.wire = s.Outgoing(b.wire[:0])
		if b.plain, err = c.Receive(b.plain[:0], b.wire); err != nil {
			return nil, nil, err
		}
		if c.HandshakeDone() && s.HandshakeDone() {
			break
		}
	}
	if !c.HandshakeDone() || !s.HandshakeDone() || e.cert == "cert" && !s.ClientCertValid() {
		return nil, nil, errors.New("the handshake is not done")
	}
	return c, s, nil
}

func (e *engine) handshakes(n int) ([]float64, error) {
	var b buffers
	return subject.Repeat(n, func() error {
		c, s, err := e.shake(&b)
		if err != nil {
			return err
		}
		c.Close()
		s.Close()
		return nil
	})
}

// pass sends burst messages and receives them.
func pass(from, to *sslfilter.Filter, b *buffers, message []byte, burst int) (err error) {
	for range burst {
		if err := from.Send(message); err != nil {
			return err
		}
	}
	b.wire = from.Outgoing(b.wire[:0])
	b.plain, err = to.Receive(b.plain[:0], b.wire)
	if err != nil || len(b.plain) != burst*len(message) {
		return fmt.Errorf("%d of %d bytes: %w", len(b.plain), burst*len(message), err)
	}
	return nil
}

func (e *engine) messages(size, burst, n int) ([]float64, error) {
	var b buffers
	c, s, err := e.shake(&b)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer s.Close()
	message := make([]byte, size)
	if err := pass(c, s, &b, message, burst); err != nil { // lets the buffers grow
		return nil, err
	}
	return subject.Repeat(n, func() error { return pass(c, s, &b, message, burst) })
}

// calls counts the allocations on the heap and the calls into C of Send,
// Outgoing and Receive, in a round trip of size bytes.
func (e *engine) calls(size, n int) ([]float64, error) {
	var b buffers
	c, s, err := e.shake(&b)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer s.Close()
	message := make([]byte, size)
	return counted(n, func() error { return pass(c, s, &b, message, 1) }, []func() error{
		func() error { return c.Send(message) },
		func() error { b.wire = c.Outgoing(b.wire[:0]); return nil },
		func() (err error) { b.plain, err = s.Receive(b.plain[:0], b.wire); return err },
	})
}

// counted does the steps n times, after warm, and returns the allocations of each step
// and then the calls into C.
func counted(n int, warm func() error, steps []func() error) ([]float64, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pool of buffers
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))  // and each processor has its own part of it
	if err := warm(); err != nil {
		return nil, err
	}
	counts := make([]float64, 2*len(steps))
	for range n {
		for i, step := range steps {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			crossings := runtime.NumCgoCall()
			err := step()
			counts[len(steps)+i] += float64(runtime.NumCgoCall() - crossings)
			runtime.ReadMemStats(&after)
			counts[i] += float64(after.Mallocs - before.Mallocs)
			if err != nil {
				return nil, err
			}
		}
	}
	for i := range counts {
		counts[i] /= float64(n)
	}
	return counts, nil
}

func (e *engine) memory(n, moved int) ([]float64, error) {
	var b buffers
	c, s, err := e.shake(&b) // makes objects that are made once
	if err != nil {
		return nil, err
	}
	c.Close()
	s.Close()
	piece := make([]byte, 65536)
	held := make([]*sslfilter.Filter, 0, n)
	before := cend.Held()
	for range n {
		c, s, err := e.shake(&b)
		if err != nil {
			return nil, err
		}
		for left := moved; left > 0; left -= len(piece) {
			if err := errors.Join(pass(c, s, &b, piece, 1), pass(s, c, &b, piece, 1)); err != nil {
				return nil, err
			}
		}
		c.Close()
		held = append(held, s)
	}
	b, piece = buffers{}, nil
	values := cend.Held().Since(before, n)
	for _, s := range held {
		s.Close()
	}
	return values, nil
}

func (e *engine) growth(count, n int) ([]float64, error) {
	var b buffers
	clients, servers := make([]*sslfilter.Filter, count), make([]*sslfilter.Filter, count)
	before := cend.Held()
	var err error
	for i := range clients {
		if clients[i], servers[i], err = e.shake(&b); err != nil {
			return nil, err
		}
	}
	memory := cend.Held().Since(before, count)
	message := make([]byte, 1024)
	next := 0
	spent, err := subject.Repeat(n, func() error {
		i := next % count
		next++
		return pass(clients[i], servers[i], &b, message, 1)
	})
	for i := range clients {
		clients[i].Close()
		servers[i].Close()
	}
	return append(spent, memory...), err
}

// variants change options of both sides, to measure what a default costs.
var variants = map[string]func(server, client *sslfilter.Options){
	"X25519, AES-128-GCM": nil,
	"AES-256-GCM": func(s, c *sslfilter.Options) {
		s.CipherSuites = "TLS_AES_256_GCM_SHA384"
		c.CipherSuites = s.CipherSuites
	},
	"ChaCha20-Poly1305": func(s, c *sslfilter.Options) {
		s.CipherSuites = "TLS_CHACHA20_POLY1305_SHA256"
		c.CipherSuites = s.CipherSuites
	},
	"group P-256":          func(s, c *sslfilter.Options) { s.Groups = "P-256"; c.Groups = "P-256" },
	"group X25519MLKEM768": func(s, c *sslfilter.Options) { s.Groups = "X25519MLKEM768"; c.Groups = "X25519MLKEM768" },
	"TLS 1.2": func(s, c *sslfilter.Options) {
		for _, o := range []*sslfilter.Options{s, c} {
			o.TLS12, o.Groups, o.Cipher = true, "X25519:P-256", "ECDHE-ECDSA-AES128-GCM-SHA256" // the certificate's curve must be among the groups
		}
	},
	"client does not verify": func(s, c *sslfilter.Options) { c.InsecureSkipVerify = true },
}

func engineSubject(pki string) subject.Subject {
	opened := make(map[string]*engine)
	with := func(cert string) (*engine, error) {
		if opened[cert] == nil {
			e, err := openEngine(pki, cert, nil)
			if err != nil {
				return nil, err
			}
			opened[cert] = e
		}
		return opened[cert], nil
	}
	of := func(cert string, f func(e *engine) ([]float64, error)) ([]float64, error) {
		e, err := with(cert)
		if err != nil {
			return nil, err
		}
		return f(e)
	}
	number := func(f func(e *engine, v, n int) ([]float64, error)) func(string, int) ([]float64, error) {
		return func(arg string, n int) ([]float64, error) {
			v, err := subject.Number(arg)
			if err != nil {
				return nil, err
			}
			return of("ec", func(e *engine) ([]float64, error) { return f(e, v, n) })
		}
	}
	variant := func(f func(e *engine, n int) ([]float64, error)) func(string, int) ([]float64, error) {
		return func(arg string, n int) ([]float64, error) {
			change, known := variants[arg]
			if !known {
				return nil, subject.Cannot("no such variant")
			}
			e, err := openEngine(pki, "ec", change)
			if err != nil {
				return nil, subject.Cannot(err.Error()) // OpenSSL 3.0 has no ML-KEM
			}
			defer e.server.Close()
			defer e.user.Close()
			return f(e, n)
		}
	}
	runs := choiceKinds(pki)
	maps.Copy(runs, map[string]func(string, int) ([]float64, error){
		"handshake": func(arg string, n int) ([]float64, error) {
			return of(arg, func(e *engine) ([]float64, error) { return e.handshakes(n) })
		},
		"resumed": func(arg string, n int) ([]float64, error) {
			return of(arg, func(e *engine) ([]float64, error) { return e.visits(n, 0, true) })
		},
		"resumed in C":       resumedInC(pki),
		"client certificate": judged(pki),
		"message":            number(func(e *engine, size, n int) ([]float64, error) { return e.messages(size, 1, n) }),
		"burst":              number(func(e *engine, size, n int) ([]float64, error) { return e.messages(size, subject.Burst(size), n) }),
		"calls":              number(func(e *engine, size, n int) ([]float64, error) { return e.calls(size, n) }),
		"calls sealed":       cipherCalls,
		"sealed":             ciphered(sealedOptions(), false),
		"sealed together":    ciphered(sealedOptions(), true),
		"evp":                evpCalls,
		"enc":                ciphered(encOptions(), false),
		"memory":             number(func(e *engine, moved, n int) ([]float64, error) { return e.memory(n, moved) }),
		"growth":             number(func(e *engine, count, n int) ([]float64, error) { return e.growth(count, n) }),
		"context": func(arg string, n int) ([]float64, error) {
			server, _ := ours(pki, arg)
			return subject.Repeat(n, func() error {
				ctx, err := sslfilter.NewCtx(server)
				if err != nil {
					return err
				}
				ctx.Close()
				return nil
			})
		},
		"new": func(_ string, n int) ([]float64, error) {
			return of("ec", func(e *engine) ([]float64, error) {
				return subject.Repeat(n, func() error {
					f, err := e.server.NewFilter()
					if err != nil {
						return err
					}
					f.Close()
					return nil
				})
			})
		},
		"crl lookup": func(arg string, n int) ([]float64, error) {
			return of("cert", func(e *engine) ([]float64, error) { return e.lookups(arg, n) })
		},
		"variant handshake": variant(func(e *engine, n int) ([]float64, error) { return e.handshakes(n) }),
		"variant message":   variant(func(e *engine, n int) ([]float64, error) { return e.messages(16384, 1, n) }),
	})
	return &subject.Funcs{What: sslfilter.OpenSSLVersion(), Runs: runs}
}

// lookups checks n times whether the client's certificate is on the CRL in file.
func (e *engine) lookups(file string, n int) ([]float64, error) {
	var b buffers
	c, s, err := e.shake(&b)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer s.Close()
	return subject.Repeat(n, func() error {
		if !s.ClientCertNotOnCRL(file) {
			return errors.New("the certificate is on the CRL")
		}
		return nil
	})
}

// connSubject measures sslnet.Conn in memory.
func connSubject(pki string) subject.Subject {
	return subject.Table(sslfilter.OpenSSLVersion(), pki, func(cert string) (*subject.Conns, error) {
		server, client := ours(pki, cert)
		s, err := sslfilter.NewCtx(server)
		if err != nil {
			return nil, err
		}
		c, err := sslfilter.NewCtx(client)
		if err != nil {
			return nil, err
		}
		conns := &subject.Conns{
			Client:    func(below net.Conn) (net.Conn, error) { return sslnet.Client(below, c), nil },
			Server:    func(below net.Conn) (net.Conn, error) { return sslnet.Server(below, s), nil },
			Handshake: func(c net.Conn) error { return c.(*sslnet.Conn).HandshakeContext(context.Background()) },
			Free:      func(c net.Conn) { c.Close() },
		}
		if cert == "cert" {
			conns.Check = func(s net.Conn) error {
				if !s.(*sslnet.Conn).ClientCertValid() {
					return errors.New("the client's certificate is not valid")
				}
				return nil
			}
		}
		return conns, nil
	})
}
