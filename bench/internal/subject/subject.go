// Package subject defines the interface to a contender of the benchmark: a
// library, or a program in C, that does pieces of work and measures their cost.
// A subject can run in its own process, with its own settings and garbage
// collector.
package subject

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
)

// Subject does the work of one contender.
type Subject interface {
	// Version returns the subject's own version and its OpenSSL, for the table.
	Version() string
	// Run does n pieces of work of a kind. Timed kinds return the processor
	// time in seconds. Kinds that measure memory return the bytes of each
	// connection: C and Go together, C, Go, resident. A kind may return both.
	Run(kind, arg string, n int) ([]float64, error)
}

// ErrCannot is the error for a kind of work that a subject does not support;
// its text has the reason.
var ErrCannot = errors.New("cannot")

// Cannot returns an ErrCannot with a reason.
func Cannot(why string) error { return fmt.Errorf("%w: %s", ErrCannot, why) }

// Funcs is a Subject made of functions.
type Funcs struct {
	What string
	Runs map[string]func(arg string, n int) ([]float64, error)
}

// Version returns What.
func (f *Funcs) Version() string { return f.What }

// Run calls the function of this kind.
func (f *Funcs) Run(kind, arg string, n int) ([]float64, error) {
	run := f.Runs[kind]
	if run == nil {
		return nil, ErrCannot
	}
	return run(arg, n)
}

// Kinds returns the kinds of work that f supports.
func (f *Funcs) Kinds() (list []string) {
	for kind := range f.Runs {
		list = append(list, kind)
	}
	slices.Sort(list)
	return list
}

// breath is about the time that Repeat works before it yields to Go's
// scheduler.
const breath = 8 * time.Millisecond

// Repeat calls f n times on a goroutine, after a warm-up, and returns the
// processor time of the process, including all threads and the garbage collector.
// Every few milliseconds it yields to the scheduler, as a server does when it
// waits for the network. Otherwise Go would preempt the goroutine after 10 ms, and
// its monitor thread would then wake up every 20 µs and distort the measurement.
func Repeat(n int, f func() error) (spent []float64, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		batch := 1
		work := func(n int) {
			for ; n > 0 && err == nil; runtime.Gosched() {
				begin := time.Now()
				for i := min(batch, n); i > 0 && err == nil; i-- {
					err = f()
					n--
				}
				if time.Since(begin) < breath/2 {
					batch *= 2
				}
			}
		}
		work(Warm(n))
		start := cend.ProcessTime()
		work(n)
		spent = []float64{cend.ProcessTime() - start}
	}()
	<-done
	return spent, err
}

// InC is like Repeat for work in C, which runs on one thread and measures its
// own time.
func InC(n int, f func(n int) (float64, error)) ([]float64, error) {
	if _, err := f(Warm(n)); err != nil {
		return nil, err
	}
	spent, err := f(n)
	return []float64{spent}, err
}

// Warm returns the number of pieces that are done before the clock starts: a
// process that has waited for its turn is slow at first, a Go process for some
// milliseconds.
func Warm(n int) int { return (n + 3) / 4 }

// question is one line to a child, and answer is one line from it.
type question struct {
	Kind, Arg string
	N         int
}

type answer struct {
	Version string
	Values  []float64
	Error   string
	Cannot  bool
}

// Serve answers the questions of a parent until its end of the pipe closes.
func Serve(s Subject) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	if err := out.Encode(answer{Version: s.Version()}); err != nil {
		return err
	}
	for {
		var q question
		if err := in.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var a answer
		runtime.GC() // work does not pay for what earlier work has left, some of it in C
		values, err := s.Run(q.Kind, q.Arg, q.N)
		a.Values = values
		if err != nil {
			a.Error, a.Cannot = err.Error(), errors.Is(err, ErrCannot)
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// Child is a subject in another process.
type Child struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stdout  *bufio.Reader
	version string
}

// Start starts cmd, which must use the protocol of Serve.
func Start(cmd *exec.Cmd) (*Child, error) {
	c := &Child{cmd: cmd}
	var err error
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.stdout = bufio.NewReader(stdout)
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	hello, err := c.read()
	if err != nil {
		c.Close()
		return nil, err
	}
	c.version = hello.Version
	return c, nil
}

func (c *Child) read() (a answer, err error) {
	line, err := c.stdout.ReadBytes('\n')
	if err != nil {
		return a, fmt.Errorf("%s: %w", c.cmd.Path, err)
	}
	return a, json.Unmarshal(line, &a)
}

// Version returns the version of the child.
func (c *Child) Version() string { return c.version }

// Run lets the child do the work.
func (c *Child) Run(kind, arg string, n int) ([]float64, error) {
	if err := json.NewEncoder(c.stdin).Encode(question{kind, arg, n}); err != nil {
		return nil, err
	}
	a, err := c.read()
	switch {
	case err != nil:
		return nil, err
	case a.Cannot:
		return nil, fmt.Errorf("%w: %s", ErrCannot, a.Error)
	case a.Error != "":
		return nil, errors.New(a.Error)
	}
	return a.Values, nil
}

// Close ends the child.
func (c *Child) Close() error {
	c.stdin.Close()
	return c.cmd.Wait()
}
