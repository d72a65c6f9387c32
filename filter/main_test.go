package filter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// The engine implements Filter without importing this package.
var (
	_ filter.Filter   = (*sslfilter.Filter)(nil)
	_ filter.Detacher = (*sslfilter.Filter)(nil)
)

// The Codecs.
var (
	_ filter.Codec   = filter.Stream{}
	_ filter.Codec   = filter.Records{}
	_ filter.Codec   = (*filter.Line)(nil)
	_ filter.Codec   = (*filter.HTTPD)(nil)
	_ filter.Replier = (*filter.HTTPD)(nil)
)

func tlsServer(t testing.TB, highest sslfilter.Version) *sslfilter.Filter {
	t.Helper()
	return testkit.Filter(t, testkit.ServerOf("server-ec", testkit.UpTo(highest)))
}

func tlsClient(t testing.TB) *sslfilter.Filter {
	t.Helper()
	return testkit.Filter(t, testkit.Client())
}

// end is a stack and the records that came out of it.
type end struct {
	*filter.Stack
	got []any
	err error // of the last Next that failed
	// record is called for each record, before the next is taken. It may be nil.
	record func(rec any)
}

func newEnd(t testing.TB, codec filter.Codec, filters ...filter.Filter) *end {
	t.Helper()
	e := &end{Stack: filter.NewStack(codec)}
	for _, f := range filters {
		require.NoError(t, e.Push(f))
	}
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// take takes all records that have arrived.
func (e *end) take() {
	for {
		rec, err := e.Next()
		if rec == nil {
			e.err = err
			return
		}
		e.got = append(e.got, rec)
		if e.record != nil {
			e.record(rec)
		}
	}
}

// deliver gives wire to the stack, split into pieces.
func (e *end) deliver(wire []byte, cut testkit.Cut) {
	for _, b := range cut(wire) {
		e.Receive(b) // Next returns the error too
		e.take()
	}
}

// text returns all records of a stream or of lines, each line with a newline.
func (e *end) text() string {
	var s strings.Builder
	size := 0
	for _, rec := range e.got {
		if b, ok := rec.([]byte); ok {
			size += len(b)
		}
	}
	s.Grow(size)
	for _, rec := range e.got {
		switch rec := rec.(type) {
		case []byte:
			s.Write(rec)
		default:
			fmt.Fprintln(&s, rec)
		}
	}
	return s.String()
}

// transfer moves bytes between the ends until nothing moves.
func transfer(a, b *end, cut testkit.Cut) {
	for moved := true; moved; {
		moved = move(a, b, cut)
		moved = move(b, a, cut) || moved
	}
}

func move(from, to *end, cut testkit.Cut) bool {
	wire := from.Outgoing(nil)
	if len(wire) > 0 {
		to.deliver(wire, cut)
	}
	return len(wire) > 0
}

func send(t testing.TB, e *end, records ...any) {
	t.Helper()
	for _, rec := range records {
		require.NoError(t, e.Send(rec))
	}
}
