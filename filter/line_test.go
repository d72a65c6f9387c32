package filter_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func TestLineNewlines(t *testing.T) {
	for name, test := range map[string]struct {
		line filter.Line
		in   string
		want []any
		left int
	}{
		"any newline":                 {filter.Line{}, "a\r\nb\nc\rd\n\re\r\n", []any{"a", "b", "c", "d", "e"}, 0},
		"any newline, empty lines":    {filter.Line{}, "\r\n\r\n\n\n\r\r", []any{"", "", "", "", ""}, 0},
		"any newline, last open":      {filter.Line{}, "a\nbc", []any{"a"}, 2},
		"CR LF alone":                 {filter.Line{Newline: "\r\n"}, "a\rb\nc\r\n\r\nd\r", []any{"a\rb\nc", ""}, 2},
		"LF alone":                    {filter.Line{Newline: "\n"}, "a\r\nb\n", []any{"a\r", "b"}, 0},
		"a literal of three":          {filter.Line{Newline: "-+-"}, "a-+-+--+-b-+", []any{"a", "+-"}, 3},
		"a literal that overlaps":     {filter.Line{Newline: "aab"}, "xaaabyaab", []any{"xa", "y"}, 0},
		"detected CR LF":              {filter.Line{Detect: true}, "a\r\nb\nc\r\n", []any{"a", "b\nc"}, 0},
		"detected LF":                 {filter.Line{Detect: true}, "a\nb\r\nc\n", []any{"a", "b\r", "c"}, 0},
		"detected CR":                 {filter.Line{Detect: true}, "a\rb\n\rc\r", []any{"a", "b\n", "c"}, 0},
		"detected LF CR":              {filter.Line{Detect: true}, "a\n\rb\nc\n\r", []any{"a", "b\nc"}, 0},
		"detected LF, then empty":     {filter.Line{Detect: true}, "\n\n\n", []any{"", "", ""}, 0},
		"every byte but the newlines": {filter.Line{Newline: "\n"}, "\x00\xff\r\x1a0\n", []any{"\x00\xff\r\x1a0"}, 0},
		"the original's false":        {filter.Line{}, "0\n\n0\n", []any{"0", "", "0"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				line := test.line
				e := newEnd(t, &line)
				e.deliver([]byte(test.in), cut)
				require.Equal(t, test.want, e.got)
				require.NoError(t, e.err)
				require.Equal(t, test.left, e.Unread())
			})
		})
	}
}

// The original treats an LF that comes later as an empty line.
func TestLineIsHandedOutAtItsCR(t *testing.T) {
	e := newEnd(t, &filter.Line{})
	for _, piece := range []string{"a\r", "\nb\n", "\r", "c\r"} {
		e.deliver([]byte(piece), testkit.Whole)
	}
	require.Equal(t, []any{"a", "b", "c"}, e.got)
	require.Zero(t, e.Unread())
}

func TestLineTooLong(t *testing.T) {
	for name, test := range map[string]struct {
		line filter.Line
		in   string
		want []any
		err  bool
	}{
		"just fits":                           {filter.Line{MaxLength: 4}, "abcd\nefgh\r\n", []any{"abcd", "efgh"}, false},
		"open and just fits":                  {filter.Line{MaxLength: 4}, "abcd", nil, false},
		"too long":                            {filter.Line{MaxLength: 4}, "ab\nabcde\nx\n", []any{"ab"}, true},
		"open and too long":                   {filter.Line{MaxLength: 4}, "ab\nabcde", []any{"ab"}, true},
		"literal, just fits":                  {filter.Line{MaxLength: 4, Newline: "\r\n"}, "abcd\r\nx\r\n", []any{"abcd", "x"}, false},
		"literal, newline half there":         {filter.Line{MaxLength: 4, Newline: "\r\n"}, "abcd\r", nil, false},
		"literal, too long":                   {filter.Line{MaxLength: 4, Newline: "\r\n"}, "abcde\r\n", nil, true},
		"literal, open and too long":          {filter.Line{MaxLength: 4, Newline: "\r\n"}, "abcdef", nil, true},
		"default, just fits":                  {filter.Line{}, strings.Repeat("a", filter.DefaultMaxLine) + "\n", []any{strings.Repeat("a", filter.DefaultMaxLine)}, false},
		"default, one more":                   {filter.Line{}, strings.Repeat("a", filter.DefaultMaxLine+1) + "\n", nil, true},
		"input after it is not a line either": {filter.Line{MaxLength: 4}, "abcdefgh\nok\n", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				line := test.line
				e := newEnd(t, &line)
				e.deliver([]byte(test.in), cut)
				require.Equal(t, test.want, e.got)
				if !test.err {
					require.NoError(t, e.err)
					return
				}
				require.ErrorIs(t, e.err, filter.ErrLineTooLong)
				require.NoError(t, e.Stack.Err(), "an answer can still be sent")
				require.NoError(t, e.Send("500 line too long"))
				require.Equal(t, "500 line too long", strings.TrimRight(string(e.Outgoing(nil)), "\r\n"))
				require.NoError(t, e.Receive(bytes.Repeat([]byte("x"), 1<<12)))
				require.Zero(t, e.Unread(), "input is dropped")
			})
		})
	}
}

func TestLineSends(t *testing.T) {
	for name, test := range map[string]struct {
		line filter.Line
		want string
	}{
		"default":                 {filter.Line{}, "a\r\n\r\nb\r\n"},
		"literal":                 {filter.Line{Newline: "\n"}, "a\n\nb\n"},
		"output differs":          {filter.Line{Newline: "\n", OutNewline: "\r"}, "a\r\rb\r"},
		"detection has no effect": {filter.Line{Detect: true}, "a\r\n\r\nb\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnd(t, &test.line)
			send(t, e, "a", "", []byte("b"))
			require.Equal(t, test.want, string(e.Outgoing(nil)))
			require.Error(t, e.Send(1))
			require.Error(t, e.Send(nil))
			require.Empty(t, e.Outgoing(nil))
		})
	}
}

// However the bytes are split, and with every kind of newline, the same lines come
// out and the same number of bytes is left.
func FuzzLine(f *testing.F) {
	f.Add([]byte("a\r\nb\n\rc\r\r\n"), uint64(1), uint8(0), uint8(9))
	f.Add([]byte("a\r\nb\nc"), uint64(2), uint8(1), uint8(2))
	f.Add([]byte("aabaab\n"), uint64(3), uint8(2), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, kind, length uint8) {
		run := func(cut testkit.Cut) *end {
			line := &filter.Line{MaxLength: int(length)}
			switch kind % 4 {
			case 1:
				line.Detect = true
			case 2:
				line.Newline = "aab"
			case 3:
				line.Newline = "\r\n"
			}
			e := newEnd(t, line)
			e.deliver(in, cut)
			return e
		}
		whole, cut := run(testkit.Whole), run(testkit.Random(seed))
		require.Equal(t, whole.got, cut.got)
		require.Equal(t, whole.err, cut.err)
		require.Equal(t, whole.Unread(), cut.Unread())
		for _, line := range whole.got {
			require.LessOrEqual(t, len(line.(string)), max(int(length), 0)+filter.DefaultMaxLine*b2i(length == 0))
		}
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
