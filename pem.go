package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
)

// maxPEMFile bounds each file that Options name, and each content in memory, in
// bytes. The largest CRL that we know of has 40 MB.
const maxPEMFile = 256 << 20

// input is the content of one option, with its name for errors.
type input struct {
	option, file string
	data         []byte
}

// checkSize applies the bound of a file to content in memory.
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

// readAll reads f, and leaves no other copy in memory, because the file may
// contain a private key.
func readAll(f *os.File) ([]byte, error) {
	size := int64(bytes.MinRead)
	if info, err := f.Stat(); err == nil && info.Size() > maxPEMFile {
		return nil, errTooLong
	} else if err == nil {
		size = max(size, info.Size())
	}
	data := make([]byte, 0, size+1) // one more byte, so that the end of the file is found without growing
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

// unwrapPath removes the file's name from err: OptionError already has it.
func unwrapPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("cannot %s it: %w", path.Op, path.Err)
	}
	return err
}

// forget overwrites the content of a file, which may contain a private key. It
// does not change memory that belongs to the caller.
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

// Kinds of PEM blocks.
var (
	pemCertificate = pemKind{"certificate", "CERTIFICATE-----", "x509"}
	pemKey         = pemKind{"private key", "PRIVATE KEY-----", "pkey"}
	pemCRL         = pemKind{"CRL", "X509 CRL-----", "crl"}
	pemDH          = pemKind{"DH parameters", "DH PARAMETERS-----", "dhparam"}
)

// pemKind is the name of a kind of PEM block, the end of its BEGIN line, and
// the openssl command that converts it.
type pemKind struct{ name, end, command string }

func (k pemKind) in(data []byte) bool { return bytes.Contains(data, []byte(k.end)) }

// notPEM explains why in has no usable PEM block.
func (in input) notPEM(kind pemKind, err error) error {
	switch {
	case errors.Is(err, errNoMemory):
		return err
	case len(in.data) == 0:
		return errors.New("it is empty")
	case in.data[0] == 0x30 && !bytes.Contains(in.data, pemBegin): // an ASN.1 SEQUENCE
		return fmt.Errorf("no PEM %s in it; %s", kind.name, derForm(in.data, kind))
	case bytes.Contains(in.data, []byte("-----BEGIN OPENSSH PRIVATE KEY-----")):
		return fmt.Errorf("no PEM %s in it; it has a private key in the form of OpenSSH, which \"ssh-keygen -p -m PKCS8 -f FILE\" converts", kind.name)
	case !kind.in(in.data):
		return fmt.Errorf("no PEM %s in it%s", kind.name, otherBlock(in.data))
	case beginsLate(in.data):
		return errors.New("a BEGIN line in it does not start its line")
	}
	var e *Error
	if errors.As(err, &e) && len(e.Records) == 0 { // OpenSSL accepts it, but this package does not
		return errors.New("a PEM block in it holds more than it should")
	}
	return err
}

// otherForms has kinds of PEM blocks that are often given instead of
// certificates and keys.
var otherForms = []struct{ kind, what string }{
	{"PKCS7", `; it is PKCS #7, whose certificates "openssl pkcs7 -print_certs -in FILE" writes`},
	{"CMS", `; it is PKCS #7, whose certificates "openssl pkcs7 -print_certs -in FILE" writes`},
	{"CERTIFICATE REQUEST", `; it is a certificate request, which a CA has to sign, as "openssl x509 -req -in FILE -CA ca.crt -CAkey ca.key" does`},
	{"PUBLIC KEY", "; it is a public key, of which no private key can be made"},
}

// otherBlock describes the first PEM block in data, or returns "".
func otherBlock(data []byte) string {
	for line := range bytes.Lines(data) {
		begin, found := bytes.CutPrefix(trimBegin(line), pemBegin)
		kind, _, ended := bytes.Cut(begin, []byte("-----"))
		if !found || !ended {
			continue
		}
		for _, form := range otherForms {
			if bytes.HasSuffix(kind, []byte(form.kind)) {
				return form.what
			}
		}
		return ", but " + bounded.Text(printable(string(kind)))
	}
	return ""
}

// derForm describes data that begins like ASN.1: what it seems to be, and which
// command converts it.
func derForm(data []byte, kind pemKind) string {
	var outer, first asn1.RawValue
	if _, err := asn1.Unmarshal(data, &outer); err == nil {
		if _, err := asn1.Unmarshal(outer.Bytes, &first); err == nil {
			var version int
			var content asn1.ObjectIdentifier
			if _, err := asn1.Unmarshal(first.FullBytes, &version); err == nil && version == 3 && kind.command != "dhparam" {
				return `it looks like PKCS #12, which "openssl pkcs12 -nodes -in FILE" converts`
			}
			if _, err := asn1.Unmarshal(first.FullBytes, &content); err == nil {
				return `it looks like PKCS #7 in DER, whose certificates "openssl pkcs7 -inform DER -print_certs -in FILE" writes`
			}
		}
	}
	return fmt.Sprintf(`it looks like DER, which "openssl %s -inform DER -in FILE" converts`, kind.command)
}

// beginsLate reports whether a BEGIN line follows blanks or a byte order mark,
// and OpenSSL therefore does not recognize it.
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

// checkBlocks fails if data has a PEM block that OpenSSL did not recognize,
// because blanks or a byte order mark come before it.
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

// certs parses the certificates of in. It is an error if there is none.
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

// certList is a STACK_OF(X509). The caller frees it.
type certList struct{ stack *C.struct_stack_st_X509 }

// parseCerts reads all certificates of pem. blocks counts PEM blocks of any
// kind.
func (l library) parseCerts(pem []byte) (list certList, blocks int, err error) {
	var errs C.fssl_errors
	var n C.int
	stack := C.fssl_pem_certs(&n, l.lib, bytesPtr(pem), C.size_t(len(pem)), &errs)
	if stack == nil && n < 0 {
		return certList{}, 0, outOfMemory("PEM_read_bio_X509", records(&errs))
	}
	if stack == nil {
		return certList{}, int(n), newError("PEM_read_bio_X509", 0, records(&errs))
	}
	return certList{stack}, int(n), nil
}

// made reports whether l has a list.
func (l certList) made() bool { return l.stack != nil }

func (l certList) len() int { return int(C.fssl_certs_num(l.stack)) }

func (l certList) sameLeaf(other certList) bool {
	return C.fssl_certs_same_leaf(l.stack, other.stack) != 0
}

func (l certList) free() { C.fssl_certs_free(l.stack) }

// add appends a certificate in DER form.
func (l certList) add(lib library, der []byte) error {
	var errs C.fssl_errors
	if C.fssl_certs_add(l.stack, lib.lib, bytesPtr(der), C.size_t(len(der)), &errs) != 1 {
		return newError("d2i_X509", 0, records(&errs))
	}
	return nil
}

// join moves the certificates of other to the end of l.
func (l certList) join(other certList) error {
	if C.fssl_certs_move(l.stack, other.stack) != 1 {
		return outOfMemory("sk_X509_push", nil)
	}
	return nil
}

// privateKey is an EVP_PKEY. The caller frees it.
type privateKey struct{ pkey *C.EVP_PKEY }

// parseKey reads the first private key of pem. encrypted reports that a
// passphrase was needed, whether or not it was the right one.
func (l library) parseKey(pem, passphrase []byte) (key privateKey, encrypted bool, err error) {
	var errs C.fssl_errors
	var asked C.int
	pkey := C.fssl_pem_key(&asked, l.lib, bytesPtr(pem), C.size_t(len(pem)), bytesPtr(passphrase), C.size_t(len(passphrase)), &errs)
	if pkey == nil && errs.n == 0 { // OpenSSL always reports what is wrong with a key
		return privateKey{}, asked != 0, outOfMemory("PEM_read_bio_PrivateKey", nil)
	}
	if pkey == nil {
		return privateKey{}, asked != 0, newError("PEM_read_bio_PrivateKey", 0, records(&errs))
	}
	return privateKey{pkey}, asked != 0, nil
}

func (k privateKey) free() { C.EVP_PKEY_free(k.pkey) }
