package sslfilter_test

import (
	"context"
	"log/slog"
	"sync"
)

// journal is a slog.Handler that keeps what it is told.
type journal struct {
	mu      sync.Mutex
	entries []entry
}

type entry struct {
	level slog.Level
	msg   string
	attrs map[string]string
}

func (*journal) Enabled(context.Context, slog.Level) bool { return true }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	e := entry{level: r.Level, msg: r.Message, attrs: make(map[string]string)}
	r.Attrs(func(a slog.Attr) bool {
		e.attrs[a.Key] = a.Value.String()
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
	return nil
}

func (j *journal) WithAttrs([]slog.Attr) slog.Handler { return j }
func (j *journal) WithGroup(string) slog.Handler      { return j }

// messages lists what was said, in order.
func (j *journal) messages() (list []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.entries {
		list = append(list, e.msg)
	}
	return list
}

// values lists the attribute key of every entry msg.
func (j *journal) values(msg, key string) (list []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.entries {
		if e.msg == msg {
			list = append(list, e.attrs[key])
		}
	}
	return list
}
