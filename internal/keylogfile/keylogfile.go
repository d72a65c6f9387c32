// Package keylogfile opens the file of a key log as the relay and the examples do: by
// its name, or, for "env:NAME", by the environment variable NAME.
package keylogfile

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/seed-014b8713/sslfilter"
)

// Open opens a file with sslfilter.OpenKeyLog. For "env:SSLKEYLOGFILE", it is the file
// that this environment variable names.
func Open(file string) (*os.File, error) {
	file, err := path(file)
	if err != nil {
		return nil, err
	}
	return sslfilter.OpenKeyLog(file)
}

// Check reports why Open would fail. It makes no file: the user who checks a
// configuration may not be the user of the service, who could then not open the file.
func Check(file string) error {
	file, err := path(file)
	if err != nil {
		return err
	}
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := syscall.Access(filepath.Dir(file), mayMake); err != nil {
			return &fs.PathError{Op: "create", Path: file, Err: err}
		}
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink: // opening a pipe or a device can have side effects
		return &fs.PathError{Op: "open", Path: file, Err: errors.New("not a regular file")}
	}
	f, err := sslfilter.OpenKeyLog(file)
	if err != nil {
		return err
	}
	return f.Close()
}

// mayMake is the access to a directory that making a file needs: W_OK and X_OK of
// access(2).
const mayMake = 2 | 1

// path returns the name of the file.
func path(file string) (string, error) {
	if name, ok := strings.CutPrefix(file, "env:"); ok {
		if file = os.Getenv(name); file == "" {
			return "", fmt.Errorf("the environment variable %s is not set", name)
		}
	}
	return file, nil
}

// Flag defines the flag -keylog, which opens a file and sets log to it. A warning goes
// to standard error.
func Flag(flags *flag.FlagSet, log *io.Writer) {
	flags.Func("keylog", "`file` to which the secrets of all connections are appended, for Wireshark, or env:SSLKEYLOGFILE for the file that this variable names; only for debugging", func(file string) error {
		f, err := Open(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "warning: anyone who can read %s can decrypt the connections\n", f.Name())
		*log = f
		return nil
	})
}
