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

// applyTrust loads the trusted CAs: those of CACrt or CACrtMem, or those of the
// system.
func (s *sharedCtx) applyTrust() error {
	o := &s.opts
	ca := o.fileOption("CACrt")
	if !ca.given() {
		if o.Client && !o.InsecureSkipVerify {
			return s.trustSystem()
		}
		return nil
	}
	inputs, err := ca.contents()
	if !ca.inMem() {
		inputs, err = o.caInputs()
	}
	if err != nil {
		return err
	}
	all, _, err := s.lib.parseCerts(nil)
	if err != nil {
		return err
	}
	defer all.free()
	for _, in := range inputs {
		cas, err := in.certs(s.lib)
		if err != nil {
			return err
		}
		err = all.join(cas)
		cas.free()
		if err != nil {
			return in.wrap(err)
		}
	}
	if err := s.trust(all, !o.Client); err != nil {
		return &OptionError{Option: "CACrt", File: o.CACrt, Err: err}
	}
	s.ownCAs = true
	return nil
}

// maxCAFiles bounds the number of files in a CACrt directory.
const maxCAFiles = 4096

// hashedName matches the name of a link that "openssl rehash" makes to a
// certificate. (Links to CRLs have an "r" after the dot.)
var hashedName = regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`)

var errNoCAs = errors.New("it is a directory, and none of its files (*.pem, *.crt, *.cer and hashed names such as 5ed36f99.0) holds a PEM certificate")

// caInputs reads CACrt: a file, or all certificate files of a directory. A file
// that has several names is read once.
func (o *Options) caInputs() ([]input, error) {
	dir := o.CACrt
	wrap := func(file string, err error) error {
		return &OptionError{Option: "CACrt", File: file, Err: unwrapPath(err)}
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		in, err := o.fileOption("CACrt").read()
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
		der := len(in.data) > 0 && in.data[0] == 0x30 && !bytes.Contains(in.data, pemBegin) // kept, so that the error can say how to convert it
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
