package testkit

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
)

// Log is a slog.Handler that keeps all messages of all levels, and a Writer for
// the output of a program. It may be read while others write to it. The zero
// value is an empty log.
type Log struct {
	mu      sync.Mutex
	text    bytes.Buffer
	entries []Entry
	attrs   []slog.Attr
	parent  *Log // the Log on which WithAttrs was called, or nil
}

// Entry is one message of a Log.
type Entry struct {
	Level   slog.Level
	Message string
	Attrs   map[string]string
}

// Logger returns a logger that writes to l.
func (l *Log) Logger() *slog.Logger { return slog.New(l) }

// Enabled is always true.
func (*Log) Enabled(context.Context, slog.Level) bool { return true }

// Handle keeps a message.
func (l *Log) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	r.AddAttrs(l.attrs...)
	if l.parent != nil {
		return l.parent.Handle(ctx, r)
	}
	e := Entry{Level: r.Level, Message: r.Message, Attrs: make(map[string]string)}
	r.Attrs(func(a slog.Attr) bool {
		e.Attrs[a.Key] = a.Value.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	return slog.NewTextHandler(&l.text, &slog.HandlerOptions{Level: slog.LevelDebug}).Handle(ctx, r)
}

// WithAttrs returns a handler that adds attributes to each message.
func (l *Log) WithAttrs(attrs []slog.Attr) slog.Handler { return &Log{attrs: attrs, parent: l} }

// WithGroup panics, because no test uses groups.
func (*Log) WithGroup(string) slog.Handler { panic("testkit: Log has no groups") }

// Write appends text.
func (l *Log) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

// String returns the whole text: messages as slog.TextHandler writes them, and
// what was passed to Write.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Entries returns all messages, in order.
func (l *Log) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Entry(nil), l.entries...)
}

// Messages returns the texts of all messages, in order.
func (l *Log) Messages() (list []string) {
	for _, e := range l.Entries() {
		list = append(list, e.Message)
	}
	return list
}

// Values returns the attribute key of every message with this text.
func (l *Log) Values(message, key string) (list []string) {
	for _, e := range l.Entries() {
		if e.Message == message {
			list = append(list, e.Attrs[key])
		}
	}
	return list
}
