//go:build cgo

// Package closedfd tells which standard descriptors were closed when the program started.
// Go opens /dev/null in their place before its first statement, so that input would be
// empty and output would vanish without an error. A constructor of the binary runs
// earlier.
package closedfd

// int closedfd_was(int fd);
import "C"

// Was reports whether the descriptor fd, which is 0, 1 or 2, was closed.
func Was(fd int) bool { return C.closedfd_was(C.int(fd)) != 0 }
