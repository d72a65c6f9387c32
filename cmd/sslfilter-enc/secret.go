package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/seed-014b8713/sslfilter/internal/private"
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
	if err := private.Check(info, private.Allow{Root: true, Special: true}); err != nil {
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
