package protocol

import (
	"bytes"
	"strings"
)

// lineBuffer holds input and cuts lines off it.
type lineBuffer struct {
	buf      []byte
	searched [2]int // no line ends between these positions of buf
}

// Feed adds input.
func (b *lineBuffer) Feed(in []byte) { b.buf = append(b.buf, in...) }

// Rest returns all input, and forgets it.
func (b *lineBuffer) Rest() []byte {
	rest := b.buf
	b.buf, b.searched = nil, [2]int{}
	return rest
}

// lineEnd returns the end of the line that contains the byte at from, or -1 if
// the line is not complete.
func (b *lineBuffer) lineEnd(from int) int {
	start := from
	if from >= b.searched[0] {
		start = max(from, b.searched[1])
	}
	i := bytes.IndexByte(b.buf[start:], '\n')
	if i < 0 {
		b.searched = [2]int{from, len(b.buf)}
		return -1
	}
	return start + i + 1
}

// drop removes the first n bytes and overwrites them, since they may contain a
// password.
func (b *lineBuffer) drop(n int) {
	left := copy(b.buf, b.buf[n:])
	clear(b.buf[left:])
	b.buf, b.searched = b.buf[:left], [2]int{}
}

// lineFront is the part that the fronts have in common.
type lineFront struct {
	FrontConfig
	lineBuffer
	logins   int // failed logins
	mistakes int // invalid commands
}

// loginAllowed reports whether the client may send a password now.
func (f *lineFront) loginAllowed() bool { return f.TLS || f.PlainLogin }

// line takes one line. It removes the end of the line and the blanks before the end:
// RFC 5321 section 4.1.1 asks servers to tolerate such blanks, and clients of all
// protocols send them. If there is no complete line, ok is false, and tooLong reports
// whether the line exceeds max-line.
func (f *lineFront) line() (s string, ok bool) {
	s, ok = f.exactLine()
	return trimBlanks(s), ok
}

// exactLine is like line, but keeps the blanks before the end of the line.
func (f *lineFront) exactLine() (s string, ok bool) {
	end := f.lineEnd(0)
	if end < 0 || end > f.MaxLine {
		return "", false
	}
	s = string(f.buf[:end])
	f.drop(end)
	return trimEnd(s), true
}

func (f *lineFront) tooLong() bool { return len(f.buf) > f.MaxLine }

// mistake counts an invalid command and reports whether it was one too many.
func (f *lineFront) mistake() bool {
	f.mistakes++
	return f.mistakes >= MaxMistakes
}

// failed counts a failed login and reports whether it was one too many.
func (f *lineFront) failed() bool {
	f.logins++
	return f.logins >= MaxLogins
}

// reply makes a step of lines.
func reply(do Action, lines ...string) Step {
	return Step{Do: do, ToClient: strings.Join(lines, "\r\n") + "\r\n"}
}

// end makes a step that ends the connection after a line.
func end(line, why string) Step {
	s := reply(HangUp, line)
	s.Why = why
	return s
}

// lineDialog is the part that the dialogs have in common.
type lineDialog struct {
	DialogConfig
	lineBuffer
	lines int
}

// response takes the next line of the backend, without its end. If the line is
// not complete or too long, ok is false and the step says what to do.
func (d *lineDialog) response() (line string, s Step, ok bool) {
	end := d.lineEnd(0)
	switch {
	case end > MaxResponse || end < 0 && len(d.buf) >= MaxResponse:
		return "", failed("a response of more than %d bytes", MaxResponse), false
	case d.lines == MaxResponses:
		return "", failed("more than %d lines before the response to the login", MaxResponses), false
	case end < 0:
		return "", Step{Do: More}, false
	}
	d.lines++
	line = trimEnd(string(d.buf[:end]))
	d.buf, d.searched = d.buf[end:], [2]int{}
	return line, Step{}, true
}

// trimEnd removes the end of a line.
func trimEnd(s string) string { return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r") }

// trimBlanks removes spaces and tabs from the end of a command.
func trimBlanks(s string) string { return strings.TrimRight(s, " \t") }

// cutWord cuts the first word off a line.
func cutWord(s string) (word, rest string) {
	word, rest, _ = strings.Cut(s, " ")
	return word, strings.TrimLeft(rest, " ")
}

// clean reports whether s has no control character.
func clean(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// remove returns list without word.
func remove(list []string, word string) (left []string) {
	for _, s := range list {
		if !strings.EqualFold(s, word) {
			left = append(left, s)
		}
	}
	return left
}
