//go:build linux

package sslnet_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/child"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

const (
	scaleEnv = "SSLNET_SCALE" // set to run TestScale; in its child, the address

	idleConns   = 10000
	activeConns = 1000
	activeTime  = 10 * time.Second
	dialers     = 64 // handshakes that the child runs at a time
)

// TestScale holds 10,000 idle connections and 1,000 active ones in this process,
// and prints what they cost. The clients are in a child process. Run it by hand:
//
//	SSLNET_SCALE=1 go test -count=1 -v -run TestScale ./sslnet
func TestScale(t *testing.T) {
	addr := os.Getenv(scaleEnv)
	if addr == "" {
		t.Skip("set " + scaleEnv + "=1 to run it")
	}
	raiseFileLimit(t)
	if addr != "1" {
		scaleClients(t, addr)
		return
	}
	l := listener(t, nil)
	var open atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Add(1)
			go func() {
				defer open.Add(-1)
				defer c.Close()
				io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 1024)) // the program's own buffer
			}()
		}
	}()
	cmd := exec.Command(os.Args[0], "-test.run=^TestScale$", "-test.v", "-test.count=1", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), scaleEnv+"="+l.Addr().String())
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	base := measure()
	require.NoError(t, child.Start(cmd))
	defer cmd.Wait()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		step, found := strings.CutPrefix(lines.Text(), "step: ")
		if !found {
			if strings.Contains(lines.Text(), "FAIL") {
				t.Error(lines.Text())
			}
			continue
		}
		now := measure()
		n := int(open.Load())
		t.Logf("%s: %d connections, %d goroutines (%.2f each), %.1f KiB resident each, of which Go heap %.1f and stacks %.1f",
			step, n, now.goroutines, float64(now.goroutines-base.goroutines)/float64(n),
			per(now.resident-base.resident, n), per(now.heap-base.heap, n), per(now.stacks-base.stacks, n))
		fmt.Fprintln(stdin)
	}
	require.NoError(t, lines.Err())
}

func per(bytes, n int) float64 { return float64(bytes) / float64(n) / 1024 }

// scaleClients runs in the child process. It makes the connections and uses some of
// them.
func scaleClients(t *testing.T, addr string) {
	step := func(format string, args ...any) {
		fmt.Printf("step: "+format+"\n", args...)
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	d := sslnet.Dialer{Ctx: testkit.Ctx(t, nameless()), HandshakeTimeout: time.Minute}
	conns := make([]net.Conn, idleConns+activeConns)
	begin := time.Now()
	each(t, len(conns), dialers, func(i int) (err error) {
		conns[i], err = d.Dial("tcp", addr)
		return err
	})
	step("after %d handshakes in %.1f s", len(conns), time.Since(begin).Seconds())

	talk := func(c net.Conn, b []byte) error {
		errs := make(chan error, 1)
		go func() {
			_, err := c.Write(b)
			errs <- err
		}()
		_, err := io.ReadFull(c, make([]byte, len(b)))
		return errors.Join(err, <-errs)
	}
	each(t, len(conns), dialers, func(i int) error { return talk(conns[i], make([]byte, 256<<10)) })
	step("idle again after 256 KiB each way")

	var messages atomic.Int64
	end := time.Now().Add(activeTime)
	each(t, activeConns, activeConns, func(i int) error {
		message := make([]byte, 1024)
		for time.Now().Before(end) {
			if err := talk(conns[i], message); err != nil {
				return err
			}
			messages.Add(1)
		}
		return nil
	})
	step("%d active ones echoed %.0f messages of 1 KiB a second", activeConns, float64(messages.Load())/activeTime.Seconds())
	each(t, len(conns), dialers, func(i int) error { return conns[i].Close() })
}

// each calls f for 0 to n-1, in several goroutines.
func each(t *testing.T, n, workers int, f func(i int) error) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

type usage struct{ goroutines, resident, heap, stacks int }

// measure returns the memory that this process uses after a garbage collection, in
// bytes.
func measure() usage {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{goroutines: runtime.NumGoroutine(), heap: int(m.HeapInuse), stacks: int(m.StackInuse)}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if kib, found := strings.CutPrefix(line, "VmRSS:"); found {
			fmt.Sscan(kib, &u.resident)
			u.resident <<= 10
		}
	}
	return u
}

func raiseFileLimit(t *testing.T) {
	need := uint64(idleConns + activeConns + 100)
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = max(limit.Cur, need)
	limit.Max = max(limit.Max, need)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit), "%d files must be allowed", need)
}
