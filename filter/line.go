package filter

import (
	"bytes"
	"errors"
	"fmt"
)

// DefaultMaxLine is the length in bytes of the longest line that Line accepts if
// MaxLength is 0. SMTP allows 1000 bytes (RFC 5321 section 4.5.3.1.6), clients of
// IMAP should send at most about 8192 (RFC 7162 section 4), and the original
// accepts 64 MiB.
const DefaultMaxLine = 64 << 10

// ErrLineTooLong is returned for a line longer than Line's MaxLength.
var ErrLineTooLong = errors.New("filter: line too long")

// Line is the Codec for lines. An incoming record is a string without its
// newline. Outgoing records are string and []byte; Line adds a newline. It does
// not look for newlines inside a record, so one record can be several lines.
//
// The zero value has the defaults of the original: CR LF, LF CR, CR and LF end a
// line, and CR LF is sent. A line is complete at its CR. An LF that arrives later
// still belongs to that line, even in another delivery; the original takes it
// for an empty line. For a protocol that requires CR LF, set Newline.
//
// Corresponds to POE::Filter::Line. InputRegexp has no counterpart, because the
// place where an expression ends a line would depend on how the bytes are cut.
type Line struct {
	// Newline ends lines in both directions. If it is empty, each of the four
	// newlines ends a line.
	//
	// Corresponds to Literal.
	Newline string
	// Detect makes Line use the first newline that arrives, one of the four, for
	// all lines after it. Newline must be empty.
	//
	// Corresponds to InputLiteral => undef.
	Detect bool
	// OutNewline is sent after each line, instead of Newline.
	//
	// Corresponds to OutputLiteral.
	OutNewline string
	// MaxLength bounds a received line in bytes, without its newline. 0 means
	// DefaultMaxLine. A longer line is ErrLineTooLong and ends reading. MaxLength
	// must be less than MaxUnread.
	//
	// Corresponds to MaxLength.
	MaxLength int

	found  string // the newline that Detect found
	second byte   // second byte of the newline after the last record, if it arrives; 0: none
}

// Decode looks for the next line.
func (l *Line) Decode(data []byte, seen int) (any, int, error) {
	skipped := 0
	if l.second != 0 && len(data) > 0 {
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

// any looks for a line that ends with any of the four newlines.
func (l *Line) any(data []byte, seen, skipped int) (any, int, error) {
	from := min(seen, len(data))
	at := bytes.IndexAny(data[from:], "\r\n")
	if at < 0 && len(data) <= l.max() {
		return nil, skipped, nil
	}
	if at += from; at < from || at > l.max() {
		return nil, skipped, l.tooLong()
	}
	l.second = '\r' + '\n' - data[at]
	n := at + 1
	if n < len(data) {
		n += l.complete(data[n])
	}
	return string(data[:at]), skipped + n, nil
}

// complete reports whether b is the second byte of the newline after the last
// record, as the number of bytes to skip.
func (l *Line) complete(b byte) (skip int) {
	first := '\r' + '\n' - l.second
	newline := []byte{first}
	if b == l.second {
		newline, skip = append(newline, b), 1
	}
	if l.Detect {
		l.found = string(newline)
	}
	l.second = 0
	return skip
}

// takeSecond returns and forgets the byte that may still arrive and belongs to
// the last record, or 0. Another codec gets the input from now on.
func (l *Line) takeSecond() byte {
	b := l.second
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

// Partial returns 0: an incomplete line stays in the Stack.
func (l *Line) Partial() int { return 0 }
