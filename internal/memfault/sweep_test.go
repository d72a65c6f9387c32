package memfault_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/memfault"
)

// make memfault sets stride to 1, and takes an hour. begin is not random, so that a run
// can be repeated.
var (
	stride = flag.Int("stride", 499, "fail only every `n`th allocation, but at least ten in each scenario")
	begin  = flag.Int("begin", 0, "`number` of the first allocations that do not fail")
)

func TestMain(m *testing.M) {
	flag.Parse()
	fmt.Println("linked with", sslfilter.OpenSSLVersion())
	if !memfault.Installed() {
		fmt.Println("FAIL: OpenSSL did not accept the allocator")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// bursts lists how many allocations in a row fail.
var bursts = []struct {
	name  string
	times int
}{{"one", 1}, {"all after it too", -1}}

// most is larger than the number of allocations in any scenario.
const most = 200_000

// scenario does something, checks the results and closes everything that it opened.
// heal ends the failures, and returns how many allocations failed.
type scenario func(t *testing.T, heal func() (failed int))

// sweep runs the scenario again and again. First a single allocation fails: the first
// one, then the second, and so on to the end. Then all later allocations fail too. No
// memory may leak.
func sweep(t *testing.T, play scenario) {
	sweepFrom(t, play, func(made int) (at, step int) {
		step = min(*stride, 1+made/10)
		return 1 + *begin%step, step
	})
}

// sweepLast is like sweep, and lets each of the last n allocations fail.
func sweepLast(t *testing.T, n int, play scenario) {
	sweepFrom(t, play, func(made int) (at, step int) { return max(1, 1+made-n), 1 })
}

func sweepFrom(t *testing.T, play scenario, start func(made int) (at, step int)) {
	for _, burst := range bursts {
		t.Run(burst.name, func(t *testing.T) {
			runtime.LockOSThread() // OpenSSL keeps an error queue for each thread
			defer runtime.UnlockOSThread()
			made := 0 // allocations of a run without failures
			once := func(at int) (failed int) {
				defer func() {
					if t.Failed() {
						t.Logf("with a failure of allocation %d", at)
					}
				}()
				healed := false
				heal := func() int {
					if !healed {
						healed = true
						made, failed = memfault.Disarm()
					}
					return failed
				}
				defer memfault.EndThread()
				defer heal()
				memfault.Arm(at, burst.times)
				play(t, heal)
				return heal()
			}
			for range 3 { // for memory that OpenSSL never frees
				once(most)
			}
			tried := 0
			for at, step := start(made); ; at += step {
				require.Less(t, at, most, "it never ends")
				if clean(t, at, once) == 0 {
					break
				}
				tried++
			}
			require.NotZero(t, tried, "nothing failed")
			t.Logf("%d points of failure", tried)
		})
	}
}

// clean runs the scenario and requires that no memory leaks. If the same failure loses
// memory every time, that is a leak. If memory grows only once, that is a cache of
// OpenSSL.
func clean(t *testing.T, at int, once func(at int) (failed int)) (failed int) {
	before, _ := memfault.Live()
	failed = once(at)
	if settle(before) <= before {
		return failed
	}
	memfault.Trace(true)
	defer memfault.Trace(false)
	for range 3 {
		before, _ = memfault.Live()
		mark := memfault.Mark()
		failed = once(at)
		if settle(before) <= before {
			return failed
		}
		if left := memfault.Left(mark); !known(left) {
			t.Errorf("a failure of allocation %d leaks:\n%s", at, strings.Join(left, "\n"))
			return failed
		}
	}
	return failed
}

// settle returns the number of live blocks, after the garbage collector has freed the
// blocks that it can free.
func settle(before int) (blocks int) {
	for range 5 {
		if blocks, _ = memfault.Live(); blocks <= before {
			break
		}
		runtime.GC()
		time.Sleep(time.Millisecond) // cleanups run after a garbage collection
	}
	return blocks
}

// leaks lists the leaks of OpenSSL itself, by a function in the trace and the file of
// the block.
var leaks = []struct{ function, file, why string }{}

// known reports whether all blocks in left are leaks of OpenSSL itself.
func known(left []string) bool {
	for _, block := range left {
		if !slices.ContainsFunc(leaks, func(l struct{ function, file, why string }) bool {
			return strings.Contains(block, l.file) && strings.Contains(block, " < "+l.function)
		}) {
			return false
		}
	}
	return len(left) > 0
}

// said counts the errors that the failures caused, for the log.
type said map[string]int

func (s said) errors(errs ...error) {
	for _, err := range errs {
		if err != nil {
			s[err.Error()]++
		}
	}
}

func (s said) log(t *testing.T) {
	texts := slices.Sorted(maps.Keys(s))
	for _, text := range texts {
		t.Logf("%6d times: %s", s[text], text)
	}
}
