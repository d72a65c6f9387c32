package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
)

func (s *sharedCtx) applyTrust() error {
	o := &s.opts
	if !o.fileOption("CACrt").given() {
		if o.Client && !o.InsecureSkipVerify {
			return s.trustSystem()
		}
		return nil
	}
	inputs := make([]input, 0, max(1, len(o.CACrtMem)))
	if o.CACrtMem == nil {
		var err error
		if inputs, err = o.caInputs(); err != nil {
			return err
		}
	}
	for i, pem := range o.CACrtMem {
		in := input{option: fmt.Sprintf("CACrtMem[%d]", i), data: pem}
		if err := in.checkSize(); err != nil {
			return err
		}
		inputs = append(inputs, in)
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

// systemStore is the system's trust store. It is read once in the life of the
// process, which takes 5 to 24 ms. A failure is not remembered, because memory
// may have been short.
var systemStore struct {
	sync.Mutex
	store *C.X509_STORE
}

// systemStore returns the system's trust store for a library context, which
// owns it.
func (l library) systemStore() (*C.X509_STORE, error) {
	var errs C.fssl_errors
	if l.made() {
		store := C.fssl_lib_system_store(l.lib, &errs)
		if store == nil {
			return nil, newError("X509_STORE_set_default_paths_ex", 0, records(&errs))
		}
		return store, nil
	}
	systemStore.Lock()
	defer systemStore.Unlock()
	if systemStore.store == nil {
		systemStore.store = C.fssl_system_store(&errs)
		if systemStore.store == nil {
			return nil, newError("X509_STORE_set_default_paths", 0, records(&errs))
		}
	}
	return systemStore.store, nil
}

func (h *ctxHandle) trustSystem() error {
	store, err := h.lib.systemStore()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(h)
	C.fssl_ctx_trust_store(h.ptr, store)
	return nil
}

// trust makes cas the only trusted certificates. announce sends their names to
// clients.
func (h *ctxHandle) trust(cas certList, announce bool) error {
	return h.try("X509_STORE_add_cert", func(ctx *C.SSL_CTX, errs *C.fssl_errors) C.int {
		return C.fssl_ctx_trust(ctx, cas.stack, cBool(announce), errs)
	})
}

// trusted returns the certificates in the trust store, in DER form. They are sorted,
// because their order in the store depends on the version of OpenSSL and on the order in
// which they were added, and has no meaning.
func (h *ctxHandle) trusted() (list [][]byte) {
	defer runtime.KeepAlive(h)
	stack := C.fssl_ctx_cas(h.ptr)
	if stack == nil {
		return nil
	}
	defer C.fssl_certs_free(stack)
	for i := range int(C.fssl_certs_num(stack)) {
		list = append(list, der(C.fssl_chain_cert(stack, C.int(i))))
	}
	slices.SortFunc(list, bytes.Compare)
	return list
}
