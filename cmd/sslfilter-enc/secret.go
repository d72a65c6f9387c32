package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// maxSecret bounds the first line of a file with a key or a passphrase, in bytes.
const maxSecret = 4096

// maxOpenSSL is the length in bytes of the longest passphrase that -pass file: of the
// openssl command reads. It cuts a longer passphrase without an error.
const maxOpenSSL = 1023

// readSecret reads the first line of a file with a key or a passphrase. Other users must
// not have access to the file. It can also be a pipe or a terminal. The bytes after the
// line are not read, because they may be the data.
func readSecret(name string) (line []byte, err error) {
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if err := private(info); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	line = make([]byte, 0, maxSecret+1)
	for {
		n, err := file.Read(line[len(line) : len(line)+1])
		switch {
		case n > 0 && line[:len(line)+1][len(line)] == '\n', err == io.EOF:
			return line, nil
		case err != nil:
			return nil, err
		}
		if line = line[:len(line)+n]; len(line) > maxSecret {
			return nil, fmt.Errorf("%s: the first line is longer than %d bytes", name, maxSecret)
		}
	}
}

// private returns an error if other users can access the file.
func private(info os.FileInfo) error {
	switch stat, ok := info.Sys().(*syscall.Stat_t); {
	case info.IsDir():
		return errors.New("is a directory")
	case info.Mode()&(os.ModeCharDevice|os.ModeSocket) != 0: // a terminal, or an inherited socket
		return nil
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("other users have access to it (mode %04o); change the mode to 0600", info.Mode().Perm())
	case ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return errors.New("it belongs to another user")
	}
	return nil
}

// readKey reads a key from the first line of a file.
func readKey(name string) ([]byte, error) {
	text, err := readSecret(name)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	digits := bytes.TrimSpace(text)
	key := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(key, digits); err != nil {
		return nil, fmt.Errorf("%s: want 64 hexadecimal digits", name)
	}
	return key, nil
}

// readPassphrase reads the first line of a file, without its newline. A carriage return
// is a part of the passphrase, as it is for the openssl command.
func readPassphrase(name string, openssl bool) ([]byte, error) {
	line, err := readSecret(name)
	switch {
	case err != nil:
		return nil, err
	case len(line) == 0:
		return nil, fmt.Errorf("%s: the first line, which is the passphrase, is empty", name)
	case !openssl:
		return line, nil
	case len(line) > maxOpenSSL:
		return nil, fmt.Errorf("%s: the passphrase is longer than %d bytes, of which the openssl command uses only the beginning", name, maxOpenSSL)
	case bytes.IndexByte(line, 0) >= 0:
		return nil, fmt.Errorf("%s: the passphrase has a zero byte, at which it ends for the openssl command", name)
	}
	return line, nil
}
