//go:build cgo

package sslfilter

import (
	"log/slog"
	"runtime/debug"
	"sync"
)

// ErrorHandler is called once for each Filter, with the error that ended the
// connection, during the handshake or after it. It runs inside the method that
// found the error and must not call the Filter. The peer's close_notify is not
// an error.
//
// Corresponds to POE::Filter::SSL errorhandler.
type ErrorHandler func(*Filter, error)

// IgnoreErrors is an ErrorHandler that does nothing, like a nil handler. It is
// the original's "ignore".
func IgnoreErrors(*Filter, error) {}

// LogErrors returns an ErrorHandler that writes each error to log, or to
// slog.Default() if log is nil. It is the original's "carp".
func LogErrors(log *slog.Logger) ErrorHandler {
	return func(_ *Filter, err error) { logger(log).Error(err.Error()) }
}

// LogErrorsWithStack is like LogErrors, and adds the stack of the goroutine. It
// is the original's "confess", but it does not end the program.
func LogErrorsWithStack(log *slog.Logger) ErrorHandler {
	return func(_ *Filter, err error) { logger(log).Error(err.Error(), "stack", string(debug.Stack())) }
}

// LogErrorsOnce is like LogErrors, but logs each text only once in this
// process. It is what the original's "carponetime" promises. After 1024
// different texts it logs nothing more.
func LogErrorsOnce(log *slog.Logger) ErrorHandler {
	return func(_ *Filter, err error) {
		text := err.Error()
		loggedOnce.Lock()
		known := loggedOnce.texts[text] || len(loggedOnce.texts) >= maxLoggedOnce
		if !known {
			loggedOnce.texts[text] = true
		}
		loggedOnce.Unlock()
		if !known {
			logger(log).Error(text)
		}
	}
}

// maxLoggedOnce bounds the number of texts that LogErrorsOnce remembers: peers
// can cause any number of different ones.
const maxLoggedOnce = 1024

var loggedOnce = struct {
	sync.Mutex
	texts map[string]bool
}{texts: make(map[string]bool)}

func logger(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.Default()
	}
	return log
}
