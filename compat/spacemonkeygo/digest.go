//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
)

// EVP_MD names a digest.
type EVP_MD int

const (
	EVP_NULL      EVP_MD = iota
	EVP_MD5       EVP_MD = iota
	EVP_MD4       EVP_MD = iota
	EVP_SHA       EVP_MD = iota
	EVP_SHA1      EVP_MD = iota
	EVP_DSS       EVP_MD = iota
	EVP_DSS1      EVP_MD = iota
	EVP_MDC2      EVP_MD = iota
	EVP_RIPEMD160 EVP_MD = iota
	EVP_SHA224    EVP_MD = iota
	EVP_SHA256    EVP_MD = iota
	EVP_SHA384    EVP_MD = iota
	EVP_SHA512    EVP_MD = iota
)

// Digest is a message digest of OpenSSL.
type Digest struct {
	ptr *C.EVP_MD
}

// GetDigestByName returns the digest with this name, such as "sha256".
//
// Calls EVP_get_digestbyname(3).
func GetDigestByName(name string) (*Digest, error) {
	var md *C.EVP_MD
	withString(name, func(s *C.char) { md = C.EVP_get_digestbyname(s) })
	if md == nil {
		return nil, fmt.Errorf("openssl: digest %q not found", name)
	}
	return &Digest{md}, nil
}

func (d *Digest) nid() NID { return NID(C.compat_md_nid(d.ptr)) }

// GetDigestByNid returns the digest with this number.
func GetDigestByNid(nid NID) (*Digest, error) {
	name, err := Nid2ShortName(nid)
	if err != nil {
		return nil, err
	}
	return GetDigestByName(name)
}

// Nid2ShortName returns OpenSSL's short name of an object identifier.
//
// Calls OBJ_nid2sn(3).
func Nid2ShortName(nid NID) (string, error) {
	name := C.OBJ_nid2sn(C.int(nid))
	if name == nil {
		return "", fmt.Errorf("openssl: NID %d not found", nid)
	}
	return C.GoString(name), nil
}

// hash is a running digest.
type hash struct {
	ctx     *C.EVP_MD_CTX
	number  EVP_MD
	engine  *Engine
	cleanup runtime.Cleanup
}

var errHashClosed = errors.New("openssl: the hash is closed")

// start makes h a new digest. owner is the object that h is a part of: when it is
// garbage, the memory in C is freed.
func start[T any](owner *T, h *hash, number EVP_MD, e *Engine) (*T, error) {
	var errs C.compat_err
	ctx := C.compat_digest_new(C.int(number), e.ptr(), &errs)
	runtime.KeepAlive(e)
	if ctx == nil {
		return nil, failure("digest", &errs)
	}
	h.ctx, h.number, h.engine = ctx, number, e
	h.cleanup = runtime.AddCleanup(owner, func(ctx *C.EVP_MD_CTX) { C.EVP_MD_CTX_free(ctx) }, ctx)
	return owner, nil
}

// Close frees the memory in C. Without a call it is freed when the object is
// garbage.
func (s *hash) Close() {
	if s.ctx != nil {
		s.cleanup.Stop()
		C.EVP_MD_CTX_free(s.ctx)
		s.ctx = nil
	}
}

// Reset starts a new digest.
func (s *hash) Reset() error {
	if s.ctx == nil {
		return errHashClosed
	}
	var errs C.compat_err
	ok := C.compat_digest_reset(s.ctx, C.int(s.number), s.engine.ptr(), &errs)
	runtime.KeepAlive(s)
	if ok == 0 {
		return failure("digest", &errs)
	}
	return nil
}

// Write adds p to the digest.
func (s *hash) Write(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if s.ctx == nil {
		return 0, errHashClosed
	}
	var errs C.compat_err
	ok := C.compat_digest_update(s.ctx, ptr(p), C.size_t(len(p)), &errs)
	runtime.KeepAlive(s)
	if ok == 0 {
		return 0, failure("digest", &errs)
	}
	return len(p), nil
}

// sum ends the digest and starts a new one.
func (s *hash) sum(result []byte) error {
	if s.ctx == nil {
		return errHashClosed
	}
	var errs C.compat_err
	ok := C.compat_digest_final(s.ctx, ptr(result), C.int(s.number), s.engine.ptr(), &errs)
	runtime.KeepAlive(s)
	if ok == 0 {
		return failure("digest", &errs)
	}
	return nil
}

// digest is a whole digest in one call.
func digest(number EVP_MD, data, result []byte) error {
	var errs C.compat_err
	if C.compat_digest(C.int(number), ptr(data), C.size_t(len(data)), ptr(result), &errs) == 0 {
		return failure("digest", &errs)
	}
	return nil
}
