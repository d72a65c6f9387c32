// Package peers starts programs for tests and talks to them: those that nobody
// here wrote, and our own. A program that is started ends with its test.
package peers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/dovecot"
)

// Patience is how long a program may take for one step. A test that gives up
// has found a program that hangs.
const Patience = 30 * time.Second

// SkipWithout skips a test whose peer is not installed. CI names the packages
// that it installs in SSLFILTER_REQUIRE, and there a missing one is a failure.
func SkipWithout(t testing.TB, debianPackage, what string) {
	t.Helper()
	for name := range strings.FieldsSeq(os.Getenv("SSLFILTER_REQUIRE")) {
		if name == debianPackage {
			t.Fatalf("%s is missing, and SSLFILTER_REQUIRE names %s", what, debianPackage)
		}
	}
	t.Skipf("%s is missing: apt-get install %s", what, debianPackage)
}

// Find looks for a program of a package, and else skips the test.
func Find(t testing.TB, debianPackage, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		SkipWithout(t, debianPackage, name)
	}
	return path
}

// Build compiles packages of this module into dir, one program each, with the
// race detector if the test has it.
func Build(dir string, packages ...string) error {
	args := []string{"build", "-ldflags=-s -w", "-o", dir + string(filepath.Separator)} // no debugger will see them
	if raceDetector {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, packages...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Program is a program that runs.
type Program struct {
	name  string
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{}
	err   error // of Wait; valid once done is closed

	mu   sync.Mutex
	out  strings.Builder // standard output and standard error
	news chan struct{}
}

// Start runs a program in a session of its own, so that it has no terminal.
func Start(t testing.TB, path string, args ...string) *Program {
	t.Helper()
	p := &Program{name: filepath.Base(path), t: t, cmd: exec.Command(path, args...), done: make(chan struct{}), news: make(chan struct{}, 1)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.cmd.WaitDelay = Patience
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10") // else each of ours takes a second to end
	p.cmd.Stdout, p.cmd.Stderr = (*output)(p), (*output)(p)
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s: %s", p.name, p.Output())
		}
	})
	return p
}

// output takes what the program writes.
type output Program

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	o.out.Write(b)
	o.mu.Unlock()
	select {
	case o.news <- struct{}{}:
	default:
	}
	return len(b), nil
}

// Output is what the program has written until now.
func (p *Program) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Await waits until the program has written text, and returns the rest of the
// line. If the program ends first, the test fails.
func (p *Program) Await(text string) string {
	p.t.Helper()
	timeout := time.After(Patience)
	for ended := false; ; {
		if _, behind, found := strings.Cut(p.Output(), text); found {
			if line, _, whole := strings.Cut(behind, "\n"); whole || ended {
				return line
			}
		}
		if ended {
			require.FailNow(p.t, p.name+" ended", "and has not written %q: %v", text, p.err)
		}
		select {
		case <-p.news:
		case <-p.done:
			ended = true
		case <-timeout:
			require.FailNow(p.t, p.name+" is silent", "and has not written %q", text)
		}
	}
}

// Say writes to the standard input of the program.
func (p *Program) Say(text string) {
	p.t.Helper()
	_, err := io.WriteString(p.stdin, text)
	require.NoError(p.t, err)
}

// CloseInput ends the standard input of the program.
func (p *Program) CloseInput() { p.stdin.Close() }

// Signal sends a signal to the program.
func (p *Program) Signal(s os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// Kill cuts the program off.
func (p *Program) Kill() { p.cmd.Process.Kill() }

// Wait waits until the program ends, and returns its exit status.
func (p *Program) Wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		require.FailNow(p.t, p.name+" does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// Run runs a program to its end, and returns what it wrote and its exit status.
func Run(t testing.TB, path string, args ...string) (string, int) {
	t.Helper()
	p := Start(t, path, args...)
	p.CloseInput()
	status := p.Wait()
	return p.Output(), status
}

// Curl runs curl without a proxy.
func Curl(t testing.TB, args ...string) (string, int) {
	t.Helper()
	return Run(t, Find(t, "curl", "curl"), append([]string{"-sS", "--noproxy", "*", "--max-time", "20"}, args...)...)
}

// Dovecot starts a dovecot.
func Dovecot(t testing.TB, crt, key string) *dovecot.Server {
	t.Helper()
	d, err := dovecot.Start(crt, key, false)
	if errors.Is(err, dovecot.ErrMissing) {
		SkipWithout(t, "dovecot-imapd", err.Error())
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Log())
		}
		d.Stop()
	})
	return d
}

// Port is the port of an address.
func Port(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return port
}
