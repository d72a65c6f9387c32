package sslfilter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// maxPEMFile bounds a file that is named in Options and the content of one, in
// bytes. The largest CRL that we know of has 40 MB.
const maxPEMFile = 256 << 20

// input is the content of one option, with its name for errors.
type input struct {
	option, file string
	data         []byte
}

// read takes mem if it is given, and the file otherwise.
func (o *Options) read(option, file string, mem []byte) (input, error) {
	if mem != nil {
		in := input{option: option + "Mem", data: mem}
		return in, in.checkSize()
	}
	in := input{option: option, file: file}
	var err error
	if in.data, err = readFile(file); err != nil {
		return in, in.wrap(unwrapPath(err))
	}
	return in, nil
}

// checkSize holds content from memory to the bound of a file.
func (in input) checkSize() error {
	if len(in.data) > maxPEMFile {
		return in.wrap(errTooLong)
	}
	return nil
}

var errTooLong = fmt.Errorf("it has more than %d bytes", maxPEMFile)

// readFile reads a file of at most maxPEMFile bytes.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

// readAll leaves no copy of what it read behind: it may be a private key.
func readAll(f *os.File) ([]byte, error) {
	size := int64(bytes.MinRead)
	if info, err := f.Stat(); err == nil && info.Size() > maxPEMFile {
		return nil, errTooLong
	} else if err == nil {
		size = max(size, info.Size())
	}
	data := make([]byte, 0, size+1) // one more, to see the end
	for {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case err == io.EOF:
			return data, nil
		case err == nil && len(data) > maxPEMFile:
			err = errTooLong
			fallthrough
		case err != nil:
			clear(data)
			return nil, err
		}
		if len(data) == cap(data) {
			grown := append(make([]byte, 0, 2*len(data)), data...)
			clear(data)
			data = grown
		}
	}
}

// unwrapPath leaves out the file's name, which the OptionError has already.
func unwrapPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("cannot %s it: %w", path.Op, path.Err)
	}
	return err
}

// forget overwrites what was read from a file: a private key may be in it. The
// caller's memory is the caller's affair.
func (in input) forget() {
	if in.file != "" {
		clear(in.data)
	}
}

func (in input) wrap(err error) error {
	var option *OptionError
	if errors.As(err, &option) {
		return err
	}
	return &OptionError{Option: in.option, File: in.file, Err: err}
}

func (in input) name() string {
	if in.file != "" {
		return in.option + " " + in.file
	}
	return in.option
}

// certs parses the certificates of in; there is at least one.
func (in input) certs(lib library) (certList, error) {
	list, blocks, err := lib.parseCerts(in.data)
	if err != nil {
		return list, in.wrap(in.notPEM(pemCertificate, err))
	}
	err = checkBlocks(in.data, blocks)
	if err == nil && list.len() == 0 {
		err = in.notPEM(pemCertificate, errors.New("no certificate in it"))
	}
	if err != nil {
		list.free()
		return certList{}, in.wrap(err)
	}
	return list, nil
}

// What a PEM block is called, and how its BEGIN line ends.
var (
	pemCertificate = pemKind{"certificate", "CERTIFICATE-----"}
	pemKey         = pemKind{"private key", "PRIVATE KEY-----"}
	pemCRL         = pemKind{"CRL", "X509 CRL-----"}
	pemDH          = pemKind{"DH parameters", "DH PARAMETERS-----"}
)

type pemKind struct{ name, end string }

func (k pemKind) in(data []byte) bool { return bytes.Contains(data, []byte(k.end)) }

// notPEM explains why nothing was found in in.
func (in input) notPEM(kind pemKind, err error) error {
	switch {
	case errors.Is(err, errNoMemory):
		return err
	case len(in.data) == 0:
		return errors.New("it is empty")
	case in.data[0] == 0x30 && !bytes.Contains(in.data, pemBegin): // an ASN.1 SEQUENCE
		return fmt.Errorf("no PEM %s in it; it looks like DER, which \"openssl x509\", \"pkey\" or \"crl -inform DER\" converts", kind.name)
	case !kind.in(in.data):
		return fmt.Errorf("no PEM %s in it", kind.name)
	case beginsLate(in.data):
		return errors.New("a BEGIN line in it does not start its line")
	}
	var e *Error
	if errors.As(err, &e) && len(e.Records) == 0 { // OpenSSL takes it, and this package does not
		return errors.New("a PEM block in it holds more than it should")
	}
	return err
}

// beginsLate reports whether blanks or a byte order mark stand in front of a
// BEGIN, where OpenSSL does not see it.
func beginsLate(data []byte) bool {
	for line := range bytes.Lines(data) {
		if bytes.HasPrefix(trimBegin(line), pemBegin) && !bytes.HasPrefix(line, pemBegin) {
			return true
		}
	}
	return false
}

func trimBegin(line []byte) []byte { return bytes.TrimLeft(line, " \t\ufeff") }

var pemBegin = []byte("-----BEGIN ")

// checkBlocks fails if data has a PEM block that OpenSSL passed over: behind
// blanks or a byte order mark, it does not see one.
func checkBlocks(data []byte, seen int) error {
	begun := 0
	for line := range bytes.Lines(data) {
		if bytes.HasPrefix(trimBegin(line), pemBegin) {
			begun++
		}
	}
	if begun > seen {
		return fmt.Errorf("%d PEM blocks begin in it, and OpenSSL reads %d: a BEGIN line is damaged or does not start its line", begun, seen)
	}
	return nil
}
