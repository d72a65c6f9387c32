package filter

import (
	"bytes"
	"errors"
	"fmt"
)

// DefaultMaxLine is the length of the longest line that Line accepts where
// MaxLength is 0, in bytes. SMTP allows 1000 (RFC 5321 section 4.5.3.1.6), IMAP
// advises servers to accept 8000 (RFC 7162 section 4); the original accepts 64 MiB.
const DefaultMaxLine = 64 << 10

// ErrLineTooLong is the error of a line longer than Line's MaxLength.
var ErrLineTooLong = errors.New("filter: line too long")

// Line is the Codec for lines. A record is a string without its newline. It
// sends string and []byte with a newline behind; a newline inside is not
// looked for, so that one record can be several lines.
//
// The zero value is the original's default: CR LF, LF CR, CR and LF end a
// line, and CR LF is sent. A line is handed out at its CR; an LF that comes
// later still belongs to it, however the bytes are cut, which the original
// takes for an empty line. For a protocol that demands CR LF set Newline.
//
// Corresponds to POE::Filter::Line. InputRegexp has no counterpart: where an
// expression ends a line depends on how the bytes are cut.
type Line struct {
	// Newline ends lines, in both directions. Empty means any of the four.
	//
	// Corresponds to Literal.
	Newline string
	// Detect takes the first newline that comes, of the four, for all that
	// follow. Newline must be empty.
	//
	// Corresponds to InputLiteral => undef.
	Detect bool
	// OutNewline is sent behind each line, if it is not to be Newline.
	//
	// Corresponds to OutputLiteral.
	OutNewline string
	// MaxLength bounds a received line in bytes, its newline not counted. 0 is
	// DefaultMaxLine. A longer line is ErrLineTooLong, and the end: nobody knows
	// where the next one begins. It must be less than MaxUnread.
	//
	// Corresponds to MaxLength.
	MaxLength int

	found  string // what Detect found
	behind byte   // ends the newline that began at the end of the last record, if it comes; 0 is none
}

// Decode looks for the next line.
func (l *Line) Decode(data []byte, seen int) (any, int, error) {
	skipped := 0
	if l.behind != 0 && len(data) > 0 {
		skipped = l.complete(data[0])
		data, seen = data[skipped:], 0
	}
	newline := l.Newline
	if newline == "" {
		newline = l.found
	}
	if newline == "" {
		return l.any(data, seen, skipped)
	}
	from := max(0, min(seen, len(data))-len(newline)+1)
	at := bytes.Index(data[from:], []byte(newline))
	if at < 0 && len(data) < l.max()+len(newline) {
		return nil, skipped, nil
	}
	if at < 0 || from+at > l.max() {
		return nil, skipped, l.tooLong()
	}
	return string(data[:from+at]), skipped + from + at + len(newline), nil
}

// any looks for a line that ends with any newline.
func (l *Line) any(data []byte, seen, skipped int) (any, int, error) {
	from := min(seen, len(data))
	at := bytes.IndexAny(data[from:], "\r\n")
	if at < 0 && len(data) <= l.max() {
		return nil, skipped, nil
	}
	if at += from; at < from || at > l.max() {
		return nil, skipped, l.tooLong()
	}
	l.behind = '\r' + '\n' - data[at]
	n := at + 1
	if n < len(data) {
		n += l.complete(data[n])
	}
	return string(data[:at]), skipped + n, nil
}

// complete looks whether b ends the newline that the last record began with its
// other half, and returns how many bytes are to be skipped.
func (l *Line) complete(b byte) (skip int) {
	first := '\r' + '\n' - l.behind
	newline := []byte{first}
	if b == l.behind {
		newline, skip = append(newline, b), 1
	}
	if l.Detect {
		l.found = string(newline)
	}
	l.behind = 0
	return skip
}

// takeBehind gives the byte that may still come and belongs to the last record,
// or 0, and forgets it: what follows is not for this codec.
func (l *Line) takeBehind() byte {
	b := l.behind
	if b != 0 {
		l.complete(0)
	}
	return b
}

func (l *Line) max() int {
	if l.MaxLength > 0 {
		return l.MaxLength
	}
	return DefaultMaxLine
}

func (l *Line) tooLong() error {
	return fmt.Errorf("%w: more than %d bytes", ErrLineTooLong, l.max())
}

// Encode appends a string or []byte and a newline.
func (l *Line) Encode(dst []byte, rec any) ([]byte, error) {
	switch rec := rec.(type) {
	case string:
		dst = append(dst, rec...)
	case []byte:
		dst = append(dst, rec...)
	default:
		return dst, recordType("Line", rec, "string and []byte")
	}
	switch {
	case l.OutNewline != "":
		return append(dst, l.OutNewline...), nil
	case l.Newline != "":
		return append(dst, l.Newline...), nil
	}
	return append(dst, "\r\n"...), nil
}

// Partial is 0: what is no line yet stays in the Stack.
func (l *Line) Partial() int { return 0 }
