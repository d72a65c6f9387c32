// Package bounded shortens text that a peer chooses, such as the names in its
// certificate, before the text goes into a log line, an error or a header.
package bounded

import (
	"fmt"
	"unicode/utf8"
)

// MaxText is the bound of Text, in bytes, without the note about the missing bytes.
const MaxText = 1 << 10

// Text returns s if it has at most MaxText bytes. A longer s is cut to at most
// MaxText bytes, never inside a UTF-8 character, and ends with a note that
// gives the number of bytes that are missing: "...[43976 bytes cut]".
func Text(s string) string {
	if len(s) <= MaxText {
		return s
	}
	end := MaxText
	for i := 0; i < utf8.UTFMax-1 && !utf8.RuneStart(s[end]); i++ {
		end--
	}
	return fmt.Sprintf("%s...[%d bytes cut]", s[:end], len(s)-end)
}
