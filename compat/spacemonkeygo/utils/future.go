package utils

import "sync"

// Future is a value, with an error, that one goroutine sets once and any number of
// goroutines wait for. NewFuture makes one.
type Future struct {
	once sync.Once
	done chan struct{}
	val  interface{}
	err  error
}

// NewFuture returns a Future without a value.
func NewFuture() *Future { return &Future{done: make(chan struct{})} }

// Get waits for the value.
func (f *Future) Get() (interface{}, error) {
	<-f.done
	return f.val, f.err
}

// Fired reports whether there is a value, so that Get does not wait.
func (f *Future) Fired() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// Set sets the value. Only the first call has an effect.
func (f *Future) Set(val interface{}, err error) {
	f.once.Do(func() {
		f.val, f.err = val, err
		close(f.done)
	})
}
