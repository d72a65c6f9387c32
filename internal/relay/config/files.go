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

// byteOrderMark may stand at the beginning of a text file, and means nothing.
var byteOrderMark = []byte("\ufeff")

// errNotRegular is about a file that the library too takes only as a regular
// one: anything else has no second reading, or none that ends.
var errNotRegular = errors.New("not a regular file")

// ReadRegular reads a regular file of at most limit bytes. It does not wait for
// the other end of a named pipe.
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

// withoutPath leaves out the name of the file, which the error of the key has.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("cannot %s it: %w", path.Op, path.Err)
	}
	return err
}

// TrimMark takes a byte order mark away.
func TrimMark(data []byte) []byte { return bytes.TrimPrefix(data, byteOrderMark) }
