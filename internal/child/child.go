// Package child starts programs that end with this process, however it ends. Tests
// use it for the programs that they talk to.
package child

import (
	"os/exec"
	"runtime"
	"sync"
)

// Start is cmd.Start in a session of its own, so that the program has no terminal.
// On Linux, the kernel kills the program when this process ends. Programs that the
// program starts itself are not killed.
//
// Start replaces cmd.SysProcAttr.
func Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = attributes()
	r := request{cmd, make(chan error, 1)}
	requests() <- r
	return <-r.started
}

type request struct {
	cmd     *exec.Cmd
	started chan error
}

// requests returns the queue of a goroutine that starts programs. The kernel kills a
// program when the thread that has started it ends, which can be long before the
// process does (https://go.dev/issue/27505). This goroutine keeps its thread for
// itself and never ends.
var requests = sync.OnceValue(func() chan<- request {
	queue := make(chan request)
	go func() {
		runtime.LockOSThread()
		for r := range queue {
			r.started <- r.cmd.Start()
		}
	}()
	return queue
})
