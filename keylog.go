//go:build cgo

package sslfilter

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/seed-014b8713/sslfilter/internal/private"
)

// keyLogs serializes all writes to all key logs, as crypto/tls does: a key log is
// for debugging only.
var keyLogs sync.Mutex

var errKeysLost = errors.New("a line was lost for lack of memory")

// receiveLogged is Receive for a connection with KeyLog. The keys of a handshake,
// and of a renegotiation, appear only while OpenSSL reads.
func (f *Filter) receiveLogged(dst, wire []byte) ([]byte, error) {
	f.logs, f.aside = false, f.readEnd
	defer func() { // even if a function of the program panics
		f.logs, f.aside = true, true
		f.logKeys()
	}()
	return f.Receive(dst, wire)
}

// logKeys writes the lines that OpenSSL has produced to KeyLog, if it is set, each
// in one call of Write. If Write fails, the connection continues.
func (f *Filter) logKeys() {
	if f.ssl == nil || f.ctx.opts.KeyLog == nil {
		return
	}
	text, lost := f.ssl.takeKeys()
	defer clear(text)
	var failed error
	if lost {
		failed = errKeysLost
	}
	if len(text) > 0 {
		if err := f.ctx.opts.writeKeys(text); err != nil {
			failed = err
		}
	}
	if failed != nil && f.ctx.keysFailed.CompareAndSwap(false, true) {
		f.debug("KeyLog failed, which is reported once", "error", failed)
	}
}

// writeKeys writes the lines, and returns the last error.
func (o *Options) writeKeys(text []byte) (failed error) {
	keyLogs.Lock()
	defer keyLogs.Unlock()
	for line := range bytes.Lines(text) {
		if _, err := o.KeyLog.Write(line); err != nil {
			failed = err
		}
	}
	return failed
}

// OpenKeyLog opens a file for KeyLog. Lines are appended. A new file can be read
// and written by its owner only. A file that exists must be a regular file of
// this user that nobody else can read or write.
//
// WARNING: Anyone who can read the file can decrypt the recorded connections.
func OpenKeyLog(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = private.Check(info, private.Allow{})
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "open", Path: file, Err: err}
	}
	return f, nil
}
