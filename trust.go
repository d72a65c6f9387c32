package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
)

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
