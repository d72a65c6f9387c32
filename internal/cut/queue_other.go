//go:build unix && !linux

package cut

// unsent is implemented only on Linux.
func unsent(int) (n int, known bool) { return 0, false }

// unread is implemented only on Linux.
func unread(int) int { return 0 }
