//go:build unix && !linux

package cut

// unsent is for Linux alone.
func unsent(int) (n int, known bool) { return 0, false }

// unread is for Linux alone.
func unread(int) int { return 0 }
