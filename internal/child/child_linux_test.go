package child_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/child"
)

const patience = 30 * time.Second

// parentEnv makes the test binary the process that is killed.
const parentEnv = "SSLFILTER_CHILD_PARENT"

// TestMain starts a program that holds the write end of a pipe, in the process that is
// killed. The program ends by itself after the patience of the test.
func TestMain(m *testing.M) {
	if os.Getenv(parentEnv) == "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "pipe")}
	if err := child.Start(cmd); err != nil {
		panic(err)
	}
	os.Stdout.WriteString("started\n")
	cmd.Wait()
}

// A killed process takes its programs with it: nobody holds the pipe any more.
func TestStartEndsWithTheProcess(t *testing.T) {
	held, hold, err := os.Pipe()
	require.NoError(t, err)
	defer held.Close()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"=1")
	parent.ExtraFiles = []*os.File{hold}
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start(parent))
	hold.Close()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "started\n", line)
	require.NoError(t, held.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = held.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nobody holds the pipe, although both programs run")
	require.NoError(t, parent.Process.Kill())
	parent.Wait()
	require.NoError(t, held.SetReadDeadline(time.Now().Add(patience)))
	_, err = held.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err, "the program has outlived its parent")
}

// A program outlives the thread that has asked for it. The first thread of a process
// never ends, so another goroutine asks if it was that one.
func TestStartOutlivesTheThread(t *testing.T) {
	var (
		cmd    *exec.Cmd
		stdin  io.Writer
		out    io.ReadCloser
		thread int
	)
	for thread = os.Getpid(); thread == os.Getpid(); {
		cmd = exec.Command("cat")
		var err error
		stdin, err = cmd.StdinPipe()
		require.NoError(t, err)
		out, err = cmd.StdoutPipe()
		require.NoError(t, err)
		started := make(chan error)
		go func() {
			runtime.LockOSThread() // without an unlock, the thread ends with the goroutine
			thread = syscall.Gettid()
			started <- child.Start(cmd)
		}()
		require.NoError(t, <-started)
		defer cmd.Process.Kill()
	}
	task := fmt.Sprintf("/proc/self/task/%d", thread)
	for end := time.Now().Add(patience); exists(task); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), "the thread does not end")
	}
	_, err := io.WriteString(stdin, "hello\n")
	require.NoError(t, err)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestStartReportsErrors(t *testing.T) {
	require.ErrorIs(t, child.Start(exec.Command("/nonexistent")), os.ErrNotExist)
}
