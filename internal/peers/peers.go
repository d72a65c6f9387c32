// Package peers starts programs for tests and talks to them: programs of other
// projects, and our own. Each program ends with its test, and at the latest with the test
// binary.
package peers

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/child"
	"github.com/seed-014b8713/sslfilter/internal/dovecot"
)

// Patience is the time that a program may take for one step. A program that takes
// longer has hung.
const Patience = 30 * time.Second

// maxLogged bounds the output of a program in the log of a failed test, in bytes.
const maxLogged = 8 << 10

// Build compiles packages of this module into dir, one program each, with the
// race detector if the test has it.
func Build(dir string, packages ...string) error {
	args := []string{"build", "-ldflags=-s -w", "-o", dir + string(filepath.Separator)} // no debugger is used with them
	if raceDetector {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, packages...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Program is a running program.
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
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10") // otherwise each of our programs takes a second to end
	return StartCmd(t, cmd)
}

// StartForeign is Start for a program of another project. It removes the settings for
// the OpenSSL of this library from the environment, and adds env.
func StartForeign(t testing.TB, env []string, path string, args ...string) *Program {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(ForeignEnv(), env...)
	return StartCmd(t, cmd)
}

// StartCmd is Start for a prepared command. It sets the streams of the command.
func StartCmd(t testing.TB, cmd *exec.Cmd) *Program {
	t.Helper()
	p := &Program{name: filepath.Base(cmd.Path), t: t, cmd: cmd, done: make(chan struct{}), news: make(chan struct{}, 1)}
	p.cmd.WaitDelay = Patience
	p.cmd.Stdout, p.cmd.Stderr = (*output)(p), (*output)(p)
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start(p.cmd))
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			out := p.Output()
			t.Logf("%s: %s", p.name, out[max(0, len(out)-maxLogged):])
		}
	})
	return p
}

// output collects the output of the program.
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

// Output returns the output of the program until now.
func (p *Program) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Await waits until the program has written text, and returns the rest of the
// line. If the program ends first, the test fails.
func (p *Program) Await(text string) string {
	p.t.Helper()
	rest, found := p.AwaitLine(text)
	if !found {
		require.FailNow(p.t, p.name+" ended", "and has not written %q: %v", text, p.err)
	}
	return rest
}

// AwaitLine is Await for a program that may end first. found is false then.
func (p *Program) AwaitLine(text string) (rest string, found bool) {
	p.t.Helper()
	p.AwaitOutput(fmt.Sprintf("%q", text), func(out string, ended bool) bool {
		var behind string
		if _, behind, found = strings.Cut(out, text); found {
			var whole bool
			rest, _, whole = strings.Cut(behind, "\n")
			return whole || ended
		}
		return ended
	})
	return rest, found
}

// AwaitOutput waits until enough returns true for the whole output of the program, or
// until the program has ended and all of its output was checked.
func (p *Program) AwaitOutput(what string, enough func(out string, ended bool) bool) {
	p.t.Helper()
	timeout := time.After(Patience)
	for ended := false; !enough(p.Output(), ended) && !ended; {
		select {
		case <-p.news:
		case <-p.done:
			ended = true
		case <-timeout:
			require.FailNow(p.t, p.name+" is silent", "and has not written %s", what)
		}
	}
}

// Say writes to the standard input of the program.
func (p *Program) Say(text string) {
	p.t.Helper()
	_, err := io.WriteString(p.stdin, text)
	require.NoError(p.t, err)
}

// Write writes to the standard input of the program, which may already have ended.
func (p *Program) Write(b []byte) (int, error) { return p.stdin.Write(b) }

// CloseInput ends the standard input of the program.
func (p *Program) CloseInput() { p.stdin.Close() }

// Signal sends a signal to the program.
func (p *Program) Signal(s os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// Kill kills the program.
func (p *Program) Kill() { p.cmd.Process.Kill() }

// Wait waits until the program ends, and returns its exit status.
func (p *Program) Wait() int {
	p.t.Helper()
	return p.WaitWithin(Patience)
}

// WaitWithin is Wait with a limit of its own instead of Patience.
func (p *Program) WaitWithin(patience time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		require.FailNow(p.t, p.name+" does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// Run runs a program to its end, and returns its output and its exit status.
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
	return Run(t, FindCurl(t, args...), append([]string{"-sS", "--noproxy", "*", "--max-time", "20"}, args...)...)
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

// FreePort returns a free port on the loopback interface, for programs that cannot
// choose one themselves. The port is below the range that Linux uses for outgoing
// connections, so that no such connection can take it in the meantime.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(10000 + rand.IntN(22000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			l.Close()
			return port
		}
	}
	require.FailNow(t, "no free port")
	return ""
}

// AwaitPort waits until the program listens on a port of the loopback interface. It
// does not connect, because some programs would treat that as their only client.
func (p *Program) AwaitPort(port string) {
	p.t.Helper()
	n, err := strconv.Atoi(port)
	require.NoError(p.t, err)
	for end := time.Now().Add(Patience); !listened(p.t, n); time.Sleep(2 * time.Millisecond) {
		select {
		case <-p.done:
			require.FailNow(p.t, p.name+" ended", "and has not listened on port %s: %v", port, p.err)
		default:
			require.True(p.t, time.Now().Before(end), "%s does not listen on port %s", p.name, port)
		}
	}
}

// listened looks up a port in the table of the kernel, see proc(5).
func listened(t testing.TB, port int) bool {
	table, err := os.ReadFile("/proc/net/tcp")
	require.NoError(t, err)
	table6, _ := os.ReadFile("/proc/net/tcp6")
	for line := range strings.Lines(string(table) + string(table6)) {
		const local, state, listen = 1, 3, "0A"
		if f := strings.Fields(line); len(f) > state && f[state] == listen && strings.HasSuffix(f[local], fmt.Sprintf(":%04X", port)) {
			return true
		}
	}
	return false
}

// Port returns the port of an address.
func Port(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return port
}
