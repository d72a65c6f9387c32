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
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case !info.Mode().IsRegular():
		return nil, errNotRegular
	}
	return readLimited(f, info.Size(), limit)
}

// readLimited reads at most limit bytes. size is the expected number. A file may have
// secrets, so no copy of them is left in memory: a buffer that becomes too small, and the
// one of an error, are overwritten.
func readLimited(f io.Reader, size, limit int64) ([]byte, error) {
	data := make([]byte, 0, min(size, limit)+1)
	for {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > limit:
			clear(data)
			return nil, fmt.Errorf("more than %d bytes", limit)
		case err == io.EOF:
			return data, nil
		case err != nil:
			clear(data)
			return nil, withoutPath(err)
		case len(data) == cap(data):
			grown := append(make([]byte, 0, min(2*int64(cap(data))+minRead, limit+1)), data...)
			clear(data)
			data = grown
		}
	}
}

// minRead is the least number of bytes by which the buffer of readLimited grows.
const minRead = 512

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
