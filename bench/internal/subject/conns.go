package subject

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/memconn"
)

// Conns drives a library whose connections are net.Conns, with one kind of
// certificate.
type Conns struct {
	Client, Server func(below net.Conn) (net.Conn, error)
	Handshake      func(net.Conn) error
	Check          func(server net.Conn) error // checks the client's certificate after the handshake; may be nil
	Free           func(net.Conn)
}

// shake makes a connection in memory. The server then sends a byte, together
// with the tickets that it has delayed.
func (c *Conns) shake() (client, server net.Conn, err error) {
	client, server, _, err = c.shakeOver()
	return client, server, err
}

func (c *Conns) shakeOver() (client, server net.Conn, below *memconn.Conn, err error) {
	a, b := memconn.Pipe()
	if client, err = c.Client(a); err != nil {
		return nil, nil, nil, err
	}
	if server, err = c.Server(b); err != nil {
		return nil, nil, nil, err
	}
	done := make(chan error, 1)
	go func() {
		err := c.Handshake(server)
		if err == nil {
			_, err = server.Write([]byte{0})
		}
		if err != nil {
			b.Close()
		}
		done <- err
	}()
	err = c.Handshake(client)
	if err == nil {
		_, err = io.ReadFull(client, make([]byte, 1))
	}
	if err != nil {
		a.Close()
	}
	if err = errors.Join(err, <-done); err == nil && c.Check != nil {
		err = c.Check(server)
	}
	return client, server, a, err
}

// Handshakes makes n connections.
func (c *Conns) Handshakes(n int) ([]float64, error) {
	return Repeat(n, func() error {
		client, server, err := c.shake()
		if err != nil {
			return err
		}
		c.Free(client)
		c.Free(server)
		return nil
	})
}

// Visits makes n connections with a client in C, which resumes its session if resume
// says so.
func (c *Conns) Visits(n int, ends *cend.Ends, resume bool) ([]float64, error) {
	in, out := make([]byte, 16384), make([]byte, 0, 16384)
	if err := c.visit(ends, false, in, out); err != nil {
		return nil, err
	}
	return Repeat(n, func() error { return c.visit(ends, resume, in, out) })
}

// visit makes one connection of a client in C, which uses the buffers in and out.
func (c *Conns) visit(ends *cend.Ends, resume bool, in, out []byte) error {
	a, b := memconn.Pipe()
	server, err := c.Server(b)
	if err != nil {
		return err
	}
	defer c.Free(server)
	done := make(chan error, 1)
	go func() {
		err := c.Handshake(server)
		if err == nil {
			_, err = server.Write([]byte{0}) // with the delayed tickets
		}
		if err != nil {
			b.Close()
		}
		done <- err
	}()
	peer := ends.Peer(resume)
	defer peer.Close()
	for n := 0; ; {
		said := peer.Step(out, in[:n])
		if len(said) > 0 {
			if _, err := a.Write(said); err != nil {
				return err
			}
		}
		if peer.Done() {
			break
		}
		if n, err = a.Read(in); err != nil {
			return errors.Join(err, <-done)
		}
	}
	if err := <-done; err != nil {
		return err
	}
	for a.Pending() > 0 {
		n, err := a.Read(in)
		if err != nil {
			return err
		}
		peer.Step(out, in[:n])
	}
	if resume {
		if !peer.Resumed() {
			return errors.New("the session was not resumed")
		}
		return nil
	}
	return ends.Keep(peer)
}

// Messages sends n times burst messages of size bytes and reads them.
func (c *Conns) Messages(size, burst, n int) ([]float64, error) {
	client, server, err := c.shake()
	if err != nil {
		return nil, err
	}
	defer c.Free(client)
	defer c.Free(server)
	message, got := make([]byte, size), make([]byte, size*burst)
	work := func() error {
		for range burst {
			if _, err := client.Write(message); err != nil {
				return err
			}
		}
		_, err := io.ReadFull(server, got)
		return err
	}
	if err := work(); err != nil { // lets the buffers grow
		return nil, err
	}
	return Repeat(n, work)
}

// News makes n server connections without a handshake.
func (c *Conns) News(n int) ([]float64, error) {
	_, b := memconn.Pipe()
	return Repeat(n, func() error {
		s, err := c.Server(b)
		if err != nil {
			return err
		}
		c.Free(s)
		return nil
	})
}

// Memory holds n server connections, on each of which moved bytes went both
// ways.
func (c *Conns) Memory(n, moved int) ([]float64, error) {
	first, _, err := c.shake() // makes objects that are made once
	if err != nil {
		return nil, err
	}
	c.Free(first)
	bare := make([]*memconn.Conn, n)
	before := cend.Held()
	for i := range bare {
		_, bare[i] = memconn.Pipe()
	}
	pipes := cend.Held().Since(before, n)
	clear(bare)
	held := make([]net.Conn, 0, n)
	before = cend.Held()
	buf := make([]byte, 65536)
	for range n {
		client, server, err := c.move(buf, moved)
		if err != nil {
			return nil, err
		}
		c.Free(client)
		held = append(held, server)
	}
	buf = nil
	values := cend.Held().Since(before, n)
	values[0] -= pipes[2]
	values[2] -= pipes[2]
	for _, s := range held {
		c.Free(s)
	}
	return values, nil
}

func (c *Conns) move(buf []byte, moved int) (client, server net.Conn, err error) {
	client, server, below, err := c.shakeOver()
	if err != nil {
		return nil, nil, err
	}
	defer below.Drop()
	for left := moved; left > 0; left -= len(buf) {
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			if _, err := way[0].Write(buf); err != nil {
				return nil, nil, err
			}
			if _, err := io.ReadFull(way[1], buf); err != nil {
				return nil, nil, err
			}
		}
	}
	return client, server, nil
}

// Growth holds count connections and sends n messages of 1 KiB, each on the
// next connection. It returns the times and then the memory of each connection.
func (c *Conns) Growth(count, n int) ([]float64, error) {
	clients, servers := make([]net.Conn, count), make([]net.Conn, count)
	before := cend.Held()
	var err error
	for i := range clients {
		if clients[i], servers[i], err = c.shake(); err != nil {
			return nil, err
		}
	}
	memory := cend.Held().Since(before, count)
	message, got := make([]byte, 1024), make([]byte, 1024)
	next := 0
	spent, err := Repeat(n, func() error {
		i := next % count
		next++
		if _, err := clients[i].Write(message); err != nil {
			return err
		}
		_, err := io.ReadFull(servers[i], got)
		return err
	})
	for i := range clients {
		c.Free(clients[i])
		c.Free(servers[i])
	}
	return append(spent, memory...), err
}

// Table returns the Funcs of a library of Conns. open makes the Conns for a
// certificate: "ec", "rsa", or "cert", which is "ec" with a client certificate.
func Table(what, pki string, open func(cert string) (*Conns, error)) *Funcs {
	opened := make(map[string]*Conns)
	with := func(cert string, f func(c *Conns) ([]float64, error)) ([]float64, error) {
		if opened[cert] == nil {
			c, err := open(cert)
			if err != nil {
				return nil, err
			}
			opened[cert] = c
		}
		return f(opened[cert])
	}
	number := func(arg string, f func(c *Conns, number int) ([]float64, error)) ([]float64, error) {
		v, err := strconv.Atoi(arg)
		if err != nil {
			return nil, err
		}
		return with("ec", func(c *Conns) ([]float64, error) { return f(c, v) })
	}
	return &Funcs{What: what, Runs: map[string]func(string, int) ([]float64, error){
		"handshake": func(arg string, n int) ([]float64, error) {
			return with(arg, func(c *Conns) ([]float64, error) { return c.Handshakes(n) })
		},
		"resumed": func(arg string, n int) ([]float64, error) {
			ends, err := cend.New(pki, File(arg), 0)
			if err != nil {
				return nil, err
			}
			defer ends.Close()
			return with(arg, func(c *Conns) ([]float64, error) { return c.Visits(n, ends, true) })
		},
		"message": func(arg string, n int) ([]float64, error) {
			return number(arg, func(c *Conns, size int) ([]float64, error) { return c.Messages(size, 1, n) })
		},
		"burst": func(arg string, n int) ([]float64, error) {
			return number(arg, func(c *Conns, size int) ([]float64, error) { return c.Messages(size, Burst(size), n) })
		},
		"memory": func(arg string, n int) ([]float64, error) {
			return number(arg, func(c *Conns, moved int) ([]float64, error) { return c.Memory(n, moved) })
		},
		"growth": func(arg string, n int) ([]float64, error) {
			return number(arg, func(c *Conns, count int) ([]float64, error) { return c.Growth(count, n) })
		},
	}}
}

// File returns the file name of the server's certificate.
func File(cert string) string {
	if cert == "rsa" {
		return "server"
	}
	return "server-ec"
}

// Burst returns the number of messages of a size that are sent before they are
// read: 100, or as many as fit into sslfilter.MaxPlaintext.
func Burst(size int) int { return min(100, 12<<20/size) }

// Number is strconv.Atoi with a clearer error.
func Number(arg string) (int, error) {
	v, err := strconv.Atoi(arg)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", arg)
	}
	return v, nil
}
