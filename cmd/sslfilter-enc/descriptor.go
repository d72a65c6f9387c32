package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/seed-014b8713/sslfilter/internal/closedfd"
)

// maxLinks bounds the symbolic links that are followed. Linux has the same bound.
const maxLinks = 40

// open opens a file to read. For a name such as /dev/stdin, it duplicates the descriptor.
// If it opened the name, Linux would read the file from its beginning again, and could not
// open a socket.
func open(name string) (*os.File, error) {
	if n, ok := descriptor(name); ok {
		return duplicate(n, name)
	}
	return os.Open(name)
}

// descriptor returns n if name is another name of /dev/fd/n, such as /dev/stdout. It
// follows symbolic links.
func descriptor(name string) (n int, ok bool) {
	own := fmt.Sprintf("/proc/%d/fd", os.Getpid())
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(name))
		if err != nil {
			return 0, false
		}
		if dir == own || dir == "/dev/fd" {
			n, err := strconv.Atoi(filepath.Base(name))
			return n, err == nil
		}
		target, err := os.Readlink(name)
		if err != nil {
			return 0, false
		}
		name = resolve(dir, target)
	}
	return 0, false
}

// duplicate returns another descriptor of the same open file.
func duplicate(n int, name string) (*os.File, error) {
	fd, err := syscall.Dup(n)
	if err == nil && closedfd.Was(n) {
		syscall.Close(fd)
		err = syscall.EBADF
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// follow resolves the symbolic links of name, and returns the name of the target, which
// need not exist.
func follow(name string) (string, error) {
	given := name
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(name))
		if err != nil {
			return "", err
		}
		name = filepath.Join(dir, filepath.Base(name))
		target, err := os.Readlink(name)
		if err != nil { // not a link, or it does not exist
			return name, nil
		}
		name = resolve(dir, target)
	}
	return "", &os.PathError{Op: "open", Path: given, Err: syscall.ELOOP}
}

// resolve returns the name of the target of a symbolic link in dir. It does not remove
// ".." from the name, as filepath.Join would: after a link, ".." is the parent of the
// link's target.
func resolve(dir, target string) string {
	if filepath.IsAbs(target) {
		return target
	}
	return dir + string(filepath.Separator) + target
}

// standard is a standard descriptor of the program, with its name for errors.
type standard struct {
	file *os.File
	name string
}

func (s standard) Read(b []byte) (int, error) {
	if closedfd.Was(int(s.file.Fd())) {
		return 0, s.failed("read", syscall.EBADF)
	}
	n, err := s.file.Read(b)
	return n, s.failed("read", err)
}

func (s standard) Write(b []byte) (int, error) {
	if closedfd.Was(int(s.file.Fd())) {
		return 0, s.failed("write", syscall.EBADF)
	}
	n, err := s.file.Write(b)
	return n, s.failed("write", err)
}

// failed names the descriptor in an error.
func (s standard) failed(op string, err error) error {
	if cause, ok := err.(*os.PathError); ok {
		err = cause.Err
	}
	if _, ok := err.(syscall.Errno); !ok {
		return err // nil or io.EOF
	}
	return &os.PathError{Op: op, Path: s.name, Err: err}
}
