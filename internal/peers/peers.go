// Package peers starts programs for tests and talks to them: those that nobody
// here wrote, and our own. A program that is started ends with its test.
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
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/dovecot"
)

// Patience is how long a program may take for one step. A test that gives up
// has found a program that hangs.
const Patience = 30 * time.Second

// maxLogged is how much of a program's output stands in the log of a failed test.
const maxLogged = 8 << 10

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
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10") // else each of ours takes a second to end
	return StartCmd(t, cmd)
}

// StartForeign is Start for a program that is not ours: what the environment
// says about the OpenSSL of this library is not meant for it. It gets env too.
func StartForeign(t testing.TB, env []string, path string, args ...string) *Program {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(ForeignEnv(), env...)
	return StartCmd(t, cmd)
}

// StartCmd is Start for a command that is prepared. Its streams are the
// Program's.
func StartCmd(t testing.TB, cmd *exec.Cmd) *Program {
	t.Helper()
	p := &Program{name: filepath.Base(cmd.Path), t: t, cmd: cmd, done: make(chan struct{}), news: make(chan struct{}, 1)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.cmd.WaitDelay = Patience
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
			out := p.Output()
			t.Logf("%s: %s", p.name, out[max(0, len(out)-maxLogged):])
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
	rest, found := p.AwaitLine(text)
	if !found {
		require.FailNow(p.t, p.name+" ended", "and has not written %q: %v", text, p.err)
	}
	return rest
}

// AwaitLine is Await for a program that may end first; then found is false.
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

// AwaitOutput waits until enough holds of all that the program has written, or
// until it has ended, which is what is asked last.
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

// Write writes to the standard input of the program, which may have ended.
func (p *Program) Write(b []byte) (int, error) { return p.stdin.Write(b) }

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
	return p.WaitWithin(Patience)
}

// WaitWithin is Wait for a program that takes longer.
func (p *Program) WaitWithin(patience time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
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

// FreePort is a port of the loopback that nobody listens on, for programs that
// cannot choose one themselves. It lies below those that Linux gives to
// outgoing connections, so that none of these can take it meanwhile.
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

// AwaitPort waits until a port of the loopback is listened on. It does not
// connect: there are programs that would take that for their only client.
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

// listened looks a port up in the kernel's table, see proc(5).
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

// Port is the port of an address.
func Port(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return port
}
