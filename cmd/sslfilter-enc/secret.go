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

// maxSecret bounds what is read of a file with a key or a passphrase, in bytes.
const maxSecret = 4096

// readSecret reads the beginning of a file with a key or a passphrase. Other users
// must not have access to it. It can also be a pipe or a terminal.
func readSecret(name string) ([]byte, error) {
	file, err := os.Open(name)
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
	return io.ReadAll(io.LimitReader(file, maxSecret))
}

// private returns an error if another user may have access to the file.
func private(info os.FileInfo) error {
	switch stat, ok := info.Sys().(*syscall.Stat_t); {
	case info.Mode()&os.ModeCharDevice != 0: // a terminal
		return nil
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("other users have access to it (mode %04o); change the mode to 0600", info.Mode().Perm())
	case ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return errors.New("it belongs to another user")
	}
	return nil
}

// readKey reads the key of a file.
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

// readPassphrase reads the first line of a file.
func readPassphrase(name string) ([]byte, error) {
	text, err := readSecret(name)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), err
}
