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

// stride is 1 in make memfault, which takes an hour. Where it begins is no
// chance, so that a run can be repeated.
var (
	stride = flag.Int("stride", 499, "fail every nth allocation only, but ten in each scenario")
	begin  = flag.Int("begin", 0, "how many allocations to let pass first")
)

func TestMain(m *testing.M) {
	flag.Parse()
	fmt.Println("linked with", sslfilter.OpenSSLVersion())
	if !memfault.Installed() {
		fmt.Println("FAIL: OpenSSL did not take the allocator")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// bursts are how many allocations in a row fail.
var bursts = []struct {
	name  string
	times int
}{{"one", 1}, {"all behind it too", -1}}

// most is more allocations than any scenario makes.
const most = 200_000

// scenario does something and closes what it opened. It holds its own rules.
// heal ends the failing, and tells how many allocations failed.
type scenario func(t *testing.T, heal func() (failed int))

// sweep plays the scenario again and again: it lets the first allocation in it
// fail, then the second, and so on to its end; and then each with all behind
// it. Nothing may be left behind.
func sweep(t *testing.T, play scenario) {
	for _, burst := range bursts {
		t.Run(burst.name, func(t *testing.T) {
			runtime.LockOSThread() // OpenSSL keeps an error queue for each thread
			defer runtime.UnlockOSThread()
			made := 0 // allocations of one play that nothing disturbed
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
			for range 3 { // for what OpenSSL keeps for good
				once(most)
			}
			tried, step := 0, min(*stride, 1+made/10)
			for at := 1 + *begin%step; ; at += step {
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

// clean plays once and requires that nothing is left behind. A leak is what the
// same failure loses again and again; what grows once is a cache of OpenSSL's.
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
			t.Errorf("a failure of allocation %d leaves behind:\n%s", at, strings.Join(left, "\n"))
			return failed
		}
	}
	return failed
}

// settle tells how many blocks live, once those that the garbage collector
// frees are gone.
func settle(before int) (blocks int) {
	for range 5 {
		if blocks, _ = memfault.Live(); blocks <= before {
			break
		}
		runtime.GC()
		time.Sleep(time.Millisecond) // cleanups run after it
	}
	return blocks
}

// leaks of OpenSSL's own, by a function in the trace and the file of the block.
var leaks = []struct{ function, file, why string }{}

// known reports whether all that was left are leaks of OpenSSL's own.
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

// said counts the errors that a failure ended in, for who reads them.
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
