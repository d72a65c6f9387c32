package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// Sizes of the format of sealed records, in bytes.
const (
	sealedKey      = C.FSSL_SEALED_KEY
	sealedSalt     = C.FSSL_SEALED_SALT
	sealedHead     = C.FSSL_SEALED_HEAD
	sealedOverhead = C.FSSL_SEALED_OVERHEAD
	sealedRecord   = C.FSSL_SEALED_RECORD
	keyRecords     = C.FSSL_SEALED_KEY_RECORDS
	maxPassphrase  = C.FSSL_MAX_PASSPHRASE // bounds a passphrase, in bytes
)

const statusUnformed = status(C.FSSL_UNFORMED) // a record that the format does not allow

// recordType is the type of a sealed record.
type recordType int

const (
	recordData  = recordType(C.FSSL_SEALED_DATA)
	recordBegin = recordType(C.FSSL_SEALED_BEGIN)
	recordJoin  = recordType(C.FSSL_SEALED_JOIN)
	recordEnd   = recordType(C.FSSL_SEALED_END)
)

// cipherRefusal is the reason why a cipher cannot be used.
type cipherRefusal int

const (
	refusedUnknown    = cipherRefusal(C.FSSL_CIPHER_UNKNOWN)
	refusedNotAEAD    = cipherRefusal(C.FSSL_CIPHER_NOT_AEAD)
	refusedOtherNonce = cipherRefusal(C.FSSL_CIPHER_OTHER_NONCE)
	refusedAEAD       = cipherRefusal(C.FSSL_CIPHER_IS_AEAD)
	refusedNoStream   = cipherRefusal(C.FSSL_CIPHER_NO_STREAM)
	refusedCTS        = cipherRefusal(C.FSSL_CIPHER_CTS)
	refusedForged     = cipherRefusal(C.FSSL_CIPHER_FORGED)
	refusedNoMemory   = cipherRefusal(C.FSSL_CIPHER_NO_MEMORY)
)

// cipherHandle owns a direct cipher: its keys, and one EVP_CIPHER_CTX for each
// direction.
type cipherHandle struct {
	handle[*C.fssl_cipher]
	name       string // in uppercase, as OpenSSL spells it
	keyLen     int
	ivLen      int
	blockBytes int
}

func freeCipher(p *C.fssl_cipher) { C.fssl_cipher_free(p) }

// newCipher makes a cipher that has no key. If it fails, the error has what
// OpenSSL says, and refusal the reason.
//
// Calls EVP_CIPHER_fetch(3).
func newCipher(name string, sealed, client bool) (h *cipherHandle, refusal cipherRefusal, err error) {
	var reason C.int
	errs := errorRooms.Get().(*C.fssl_errors)
	defer errorRooms.Put(errs)
	errs.n = 0
	p := withCString(name, func(name *C.char) *C.fssl_cipher {
		return C.fssl_cipher_new(&reason, name, cBool(sealed), cBool(client), errs)
	})
	switch {
	case p == nil && cipherRefusal(reason) == refusedNoMemory:
		return nil, refusedNoMemory, outOfMemory("EVP_CipherInit_ex", records(errs))
	case p == nil:
		return nil, cipherRefusal(reason), newError("EVP_CipherInit_ex", 0, records(errs))
	}
	h = &cipherHandle{name: C.GoString(&p.name[0]), keyLen: int(p.key_len), ivLen: int(p.iv_len), blockBytes: int(p.block)}
	h.own(p, freeCipher)
	return h, 0, nil
}

func (h *cipherHandle) close() { h.handle.close(freeCipher) }

// setKey sets the static key of sealed records, of sealedKey bytes.
func (h *cipherHandle) setKey(key []byte) {
	copy(unsafe.Slice((*byte)(&h.ptr.key[0]), sealedKey), key)
	runtime.KeepAlive(h)
}

// setSecret keeps a passphrase, or the key and the IV of CipherEnc, in place of the
// last one, which is wiped.
func (h *cipherHandle) setSecret(secret []byte) {
	C.fssl_cipher_set_secret(h.ptr, bytesPtr(secret), C.size_t(len(secret)))
	runtime.KeepAlive(h)
}

// secret returns a copy of what setSecret keeps. The caller wipes the copy.
func (h *cipherHandle) secret() []byte {
	defer runtime.KeepAlive(h)
	return append([]byte(nil), unsafe.Slice((*byte)(&h.ptr.secret[0]), int(h.ptr.secret_len))...)
}

// randomBytes fills b.
//
// Calls RAND_bytes(3).
func randomBytes(b []byte) error {
	var errs C.fssl_errors
	if C.fssl_random(bytesPtr(b), C.size_t(len(b)), &errs) != 1 {
		return newError("RAND_bytes", 0, records(&errs))
	}
	return nil
}

// stretch derives key from the passphrase: with PBKDF2, whose cost is its
// iterations, or with scrypt if digest is empty, whose cost is log2(N). unknown
// reports that OpenSSL does not have the digest.
//
// Calls EVP_PBE_scrypt(3), PKCS5_PBKDF2_HMAC(3).
func (h *cipherHandle) stretch(key []byte, digest string, cost uint32, salt []byte) (unknown bool, err error) {
	defer runtime.KeepAlive(h)
	errs := errorRooms.Get().(*C.fssl_errors)
	defer errorRooms.Put(errs)
	errs.n = 0
	st := status(withCString(digest, func(digest *C.char) C.int {
		return C.fssl_stretch(h.ptr, bytesPtr(key), C.size_t(len(key)), digest, C.uint(cost), bytesPtr(salt), C.size_t(len(salt)), errs)
	}))
	op := "PKCS5_PBKDF2_HMAC"
	if digest == "" {
		op = "EVP_PBE_scrypt"
	}
	switch st {
	case statusOK:
		return false, nil
	case statusMemory:
		return false, outOfMemory(op, records(errs))
	}
	return st == statusUnformed, newError(op, 0, records(errs))
}

// setHeader sets the header of a direction of sealed records, and with it the
// salt that the sender has chosen.
func (h *cipherHandle) setHeader(outgoing bool, header, salt []byte) {
	C.fssl_cipher_header(h.ptr, cBool(outgoing), bytesPtr(header), C.size_t(len(header)), bytesPtr(salt))
	runtime.KeepAlive(h)
}

// number returns the C pointer as a number, as that of sslHandle does.
func (h *cipherHandle) number() C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(h.ptr))) }

// results returns what the last call has done. After
// statusFatal and statusMemory, failure returns the error.
func (h *cipherHandle) results() (out, in int, st status) {
	out, in, st = int(h.ptr.out_len), int(h.ptr.in_len), status(h.ptr.status)
	runtime.KeepAlive(h)
	return out, in, st
}

// seal makes records of plain in wire, as many as fit. got counts bytes of wire,
// and taken of plain.
//
// Calls EVP_EncryptUpdate(3).
func (h *cipherHandle) seal(wire, plain []byte, kind recordType) (got, taken int, st status) {
	C.fssl_seal(h.number(), bytesPtr(wire), C.size_t(len(wire)), bytesPtr(plain), C.size_t(len(plain)), C.int(kind))
	return h.results()
}

// open opens the whole records in wire. got counts bytes of plain, and taken of
// wire. The status is statusAgain if plain is too small, and statusClosed after
// the record that ends the stream.
//
// Calls EVP_DecryptUpdate(3).
func (h *cipherHandle) open(plain, wire []byte) (got, taken int, st status) {
	C.fssl_open(h.number(), bytesPtr(plain), C.size_t(len(plain)), bytesPtr(wire), C.size_t(len(wire)))
	return h.results()
}

// opened counts the records that were opened.
func (h *cipherHandle) opened() uint64 {
	defer runtime.KeepAlive(h)
	return uint64(h.ptr.in.n)
}

// fresh reports whether the keys of the records that arrive depend on the salts
// of both sides.
func (h *cipherHandle) fresh() bool {
	defer runtime.KeepAlive(h)
	return h.ptr.in.joined != 0
}

// unformed describes the record for which the status was statusUnformed.
func (h *cipherHandle) unformed() recordType {
	defer runtime.KeepAlive(h)
	return recordType(h.ptr._type)
}

// encStart sets the key and the IV of a direction of CipherEnc.
//
// Calls EVP_CipherInit_ex(3).
func (h *cipherHandle) encStart(encrypt bool, key, iv []byte) status {
	C.fssl_enc_start(h.ptr, cBool(encrypt), bytesPtr(key), bytesPtr(iv))
	_, _, st := h.results()
	return st
}

// encUpdate encrypts or decrypts all of in. out has room for len(in) bytes and a
// block.
//
// Calls EVP_CipherUpdate(3).
func (h *cipherHandle) encUpdate(encrypt bool, out, in []byte) (got int, st status) {
	C.fssl_enc_update(h.number(), cBool(encrypt), bytesPtr(out), bytesPtr(in), C.size_t(len(in)))
	got, _, st = h.results()
	return got, st
}

// encFinal ends a direction. out has room for a block.
//
// Calls EVP_CipherFinal_ex(3).
func (h *cipherHandle) encFinal(encrypt bool, out []byte) (got int, st status) {
	C.fssl_enc_final(h.ptr, cBool(encrypt), bytesPtr(out))
	got, _, st = h.results()
	return got, st
}

// failure returns the error of the call that failed.
func (h *cipherHandle) failure(op string, st status) *Error {
	defer runtime.KeepAlive(h)
	if st == statusMemory {
		return outOfMemory(op, records(h.ptr.errs))
	}
	return newError(op, 0, records(h.ptr.errs))
}
