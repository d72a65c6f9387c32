//go:build cgo

package sslfilter

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// maxCAFiles bounds the files of a directory in CACrt.
const maxCAFiles = 4096

// hashedName is what openssl rehash calls a link to a certificate; that of a CRL has an r.
var hashedName = regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`)

var errNoCAs = errors.New("it is a directory, and none of its files (*.pem, *.crt, *.cer and hashed names such as 5ed36f99.0) holds a PEM certificate")

// caInputs reads CACrt: a file, or every certificate file of a directory. A file
// that two names lead to counts once.
func (o *Options) caInputs() ([]input, error) {
	dir := o.CACrt
	wrap := func(file string, err error) error {
		return &OptionError{Option: "CACrt", File: file, Err: unwrapPath(err)}
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		in, err := o.read("CACrt", dir, nil)
		return []input{in}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, wrap(dir, err)
	}
	var list []input
	files, total := 0, 0
	seen := make(map[[sha256.Size]byte]bool)
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); ext != ".pem" && ext != ".crt" && ext != ".cer" && !hashedName.MatchString(entry.Name()) {
			continue
		}
		in := input{option: "CACrt", file: filepath.Join(dir, entry.Name())}
		info, err := os.Stat(in.file)
		if err != nil {
			return nil, wrap(in.file, err)
		}
		if !info.Mode().IsRegular() {
			continue
		}
		if files++; files > maxCAFiles {
			return nil, wrap(dir, fmt.Errorf("it has more than %d certificate files", maxCAFiles))
		}
		if in.data, err = readFile(in.file); err != nil {
			return nil, wrap(in.file, err)
		}
		if total += len(in.data); total > maxPEMFile {
			return nil, wrap(dir, fmt.Errorf("its files have more than %d bytes", maxPEMFile))
		}
		sum := sha256.Sum256(in.data)
		der := len(in.data) > 0 && in.data[0] == 0x30 && !bytes.Contains(in.data, pemBegin) // an error says what converts it
		switch {
		case seen[sum]:
		case pemCertificate.in(in.data) || der:
			list = append(list, in)
		case o.Debug != nil:
			o.Debug.Debug("sslfilter: CACrt: a file without a certificate is passed over", "file", in.file)
		}
		seen[sum] = true
	}
	if len(list) == 0 {
		return nil, wrap(dir, errNoCAs)
	}
	return list, nil
}
