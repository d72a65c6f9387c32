package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// byteOrderMark at the beginning of a text file has no meaning.
var byteOrderMark = []byte("\ufeff")

// errNotRegular is the error about a file that has to be a regular file. Reading
// anything else may block, and cannot be repeated.
var errNotRegular = errors.New("not a regular file")

// ReadRegular reads a regular file of at most limit bytes. It does not wait for the
// other end of a named pipe.
func ReadRegular(file string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, withoutPath(err)
	case !info.Mode().IsRegular():
		return nil, errNotRegular
	}
	return readLimited(f, limit)
}

// readLimited reads at most limit bytes.
func readLimited(f io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	if err != nil {
		return nil, withoutPath(err)
	}
	return data, nil
}

// withoutPath removes the name of the file, which is already in the error of the key.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("cannot %s it: %w", path.Op, path.Err)
	}
	return err
}

// TrimMark removes a byte order mark.
func TrimMark(data []byte) []byte { return bytes.TrimPrefix(data, byteOrderMark) }
