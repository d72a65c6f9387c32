package filter_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/enginetest"
)

// The engine is a filter by its methods alone.
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

func pki(name string) string { return "../testdata/pki/" + name }

// cuts runs f with every way to cut the bytes of a connection.
func cuts(t *testing.T, f func(t *testing.T, cut enginetest.Chunker)) {
	seed := rand.Uint64()
	for name, cut := range map[string]enginetest.Chunker{
		"whole": enginetest.Whole, "byte at a time": enginetest.Size(1), "random cuts": enginetest.Random(seed),
	} {
		t.Run(name, func(t *testing.T) {
			t.Logf("seed of the random cuts: %d", seed)
			f(t, cut)
		})
	}
}

// versions runs f with TLS 1.2 and with TLS 1.3.
func versions(t *testing.T, f func(t *testing.T, v sslfilter.Version)) {
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		t.Run(v.String(), func(t *testing.T) { f(t, v) })
	}
}

func mustFilter(t testing.TB, o sslfilter.Options) *sslfilter.Filter {
	t.Helper()
	f, err := sslfilter.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func tlsServer(t testing.TB, highest sslfilter.Version) *sslfilter.Filter {
	t.Helper()
	return mustFilter(t, sslfilter.Options{Crt: pki("server-ec.crt"), Key: pki("server-ec.key"), MaxVersion: highest})
}

func tlsClient(t testing.TB) *sslfilter.Filter {
	t.Helper()
	return mustFilter(t, sslfilter.Options{Client: true, CACrt: pki("root.crt"), ServerName: "localhost"})
}

// end is a stack and what came out of it.
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

// take takes all records that are there.
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

// deliver gives wire to the stack, as it is cut.
func (e *end) deliver(wire []byte, cut enginetest.Chunker) {
	for _, b := range cut(wire) {
		e.Receive(b) // an error is in Next too
		e.take()
	}
}

// text is all records of a stream or of lines, each line with a newline.
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
func transfer(a, b *end, cut enginetest.Chunker) {
	for moved := true; moved; {
		moved = move(a, b, cut)
		moved = move(b, a, cut) || moved
	}
}

func move(from, to *end, cut enginetest.Chunker) bool {
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
