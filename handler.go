//go:build cgo

package sslfilter

import (
	"log/slog"
	"runtime/debug"
	"sync"
)

// ErrorHandler is told the error that ended a connection, once for each
// Filter, in the handshake and after it. It runs inside the method that met
// the error and may not call the Filter. The peer's close_notify is no error.
//
// Corresponds to POE::Filter::SSL errorhandler.
type ErrorHandler func(*Filter, error)

// IgnoreErrors does nothing, as no handler does. It is the original's "ignore".
func IgnoreErrors(*Filter, error) {}

// LogErrors writes each error to log, or to slog.Default() if that is nil. It
// is the original's "carp".
func LogErrors(log *slog.Logger) ErrorHandler {
	return func(_ *Filter, err error) { logger(log).Error(err.Error()) }
}

// LogErrorsWithStack is LogErrors with the stack of the goroutine. It is the
// original's "confess", but it does not end the program.
func LogErrorsWithStack(log *slog.Logger) ErrorHandler {
	return func(_ *Filter, err error) { logger(log).Error(err.Error(), "stack", string(debug.Stack())) }
}

// LogErrorsOnce is LogErrors for errors whose text was not logged before in
// this process. It is what the original's "carponetime" promises. After
// maxLoggedOnce different texts it is silent.
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

// maxLoggedOnce bounds the texts that LogErrorsOnce remembers: peers can make
// up new ones.
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
