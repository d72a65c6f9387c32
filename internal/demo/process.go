package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one of our programs while it runs.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; valid once done is closed

	mu  sync.Mutex
	out strings.Builder // standard output and error
}

// start starts a program and waits until its output matches ready. It returns the text
// of the groups of that expression.
func start(ready *regexp.Regexp, path string, args ...string) (*process, []string, error) {
	p := &process{name: filepath.Base(path), cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		return nil, nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m := ready.FindStringSubmatch(p.output()); m != nil {
			return p, m[1:], nil
		}
		select {
		case <-p.done:
			return nil, nil, fmt.Errorf("%s: %w\n%s", p.name, errors.Join(errors.New("ended at once"), p.err), p.output())
		default:
		}
	}
	return nil, nil, errors.Join(fmt.Errorf("%s did not become ready", p.name), p.stop())
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// stop ends the program as Ctrl-C does.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGINT) // one that has ended is reported below
	select {
	case <-p.done:
	case <-time.After(stopTime):
		p.cmd.Process.Kill()
		<-p.done
		p.err = errors.Join(fmt.Errorf("did not stop within %v", stopTime), p.err)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.name, p.err, p.output())
	}
	return nil
}
