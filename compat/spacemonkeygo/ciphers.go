//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
)

// GCM_TAG_MAXLEN is the length of a tag, in bytes.
const GCM_TAG_MAXLEN = 16

// CipherCtx is a cipher with its key.
type CipherCtx interface {
	Cipher() *Cipher
	BlockSize() int
	KeySize() int
	IVSize() int
}

// EncryptionCipherCtx encrypts a stream of data.
type EncryptionCipherCtx interface {
	CipherCtx

	// EncryptUpdate returns the ciphertext that is ready after input.
	EncryptUpdate(input []byte) ([]byte, error)
	// EncryptFinal ends the data, and returns the rest of the ciphertext.
	EncryptFinal() ([]byte, error)
}

// DecryptionCipherCtx decrypts a stream of data.
type DecryptionCipherCtx interface {
	CipherCtx

	// DecryptUpdate returns the plaintext that is ready after input.
	//
	// WARNING: Nothing has authenticated it.
	DecryptUpdate(input []byte) ([]byte, error)
	// DecryptFinal ends the data, and returns the rest of the plaintext.
	DecryptFinal() ([]byte, error)
}

// AuthenticatedEncryptionCipherCtx encrypts and authenticates.
type AuthenticatedEncryptionCipherCtx interface {
	EncryptionCipherCtx

	// ExtraData adds data that is authenticated but not encrypted. It is called
	// before EncryptUpdate.
	ExtraData([]byte) error
	// GetTag returns the tag, after EncryptFinal.
	GetTag() ([]byte, error)
}

// AuthenticatedDecryptionCipherCtx decrypts and authenticates.
type AuthenticatedDecryptionCipherCtx interface {
	DecryptionCipherCtx

	// ExtraData adds the data that was authenticated but not encrypted.
	ExtraData([]byte) error
	// SetTag sets the tag, before DecryptFinal.
	SetTag([]byte) error
}

// Cipher is a symmetric cipher of OpenSSL.
type Cipher struct {
	ptr *C.EVP_CIPHER
}

// GetCipherByName returns the cipher with this name, such as "aes-256-cbc".
//
// Calls EVP_get_cipherbyname(3).
func GetCipherByName(name string) (*Cipher, error) {
	var c *C.EVP_CIPHER
	withString(name, func(s *C.char) { c = C.EVP_get_cipherbyname(s) })
	if c == nil {
		return nil, fmt.Errorf("openssl: cipher %q not found", name)
	}
	return &Cipher{c}, nil
}

// GetCipherByNid returns the cipher with this number.
func GetCipherByNid(nid NID) (*Cipher, error) {
	name, err := Nid2ShortName(nid)
	if err != nil {
		return nil, err
	}
	return GetCipherByName(name)
}

// Nid returns the number of the cipher.
func (c *Cipher) Nid() NID { return NID(C.compat_cipher_nid(c.ptr)) }

// ShortName returns OpenSSL's short name: "AES-256-CBC".
func (c *Cipher) ShortName() (string, error) { return Nid2ShortName(c.Nid()) }

// BlockSize returns the block size in bytes; it is 1 for a stream.
func (c *Cipher) BlockSize() int { return int(C.compat_cipher_block(c.ptr)) }

// KeySize returns the length of the key in bytes.
func (c *Cipher) KeySize() int { return int(C.compat_cipher_key(c.ptr)) }

// IVSize returns the length of the IV in bytes; it is 0 if there is no IV.
func (c *Cipher) IVSize() int { return int(C.compat_cipher_iv(c.ptr)) }

// cipherCtx is an EVP_CIPHER_CTX.
type cipherCtx struct {
	ctx     *C.EVP_CIPHER_CTX // nil after close
	cipher  *Cipher
	cleanup runtime.Cleanup
}

var errCipherEnded = errors.New("openssl: the data have ended")

// close frees the memory in C, of which Go's garbage collector knows nothing: it would run
// too rarely for a program that makes many contexts.
func (c *cipherCtx) close() {
	c.cleanup.Stop()
	C.EVP_CIPHER_CTX_free(c.ctx)
	c.ctx = nil
}

func newCipherCtx(c *Cipher, e *Engine, encrypt C.int, key, iv []byte, anyIV bool) (*cipherCtx, error) {
	switch {
	case c == nil:
		return nil, errors.New("openssl: no cipher")
	case len(key) != c.KeySize():
		return nil, fmt.Errorf("openssl: bad key size (%d bytes instead of %d)", len(key), c.KeySize())
	case anyIV && len(iv) == 0 || !anyIV && len(iv) != c.IVSize():
		return nil, fmt.Errorf("openssl: bad IV size (%d bytes instead of %d)", len(iv), c.IVSize())
	}
	var errs C.compat_err
	p := C.compat_cipher_new(c.ptr, e.ptr(), encrypt, ptr(key), ptr(iv), C.size_t(len(iv)), &errs)
	runtime.KeepAlive(e)
	if p == nil {
		return nil, failure("cipher", &errs)
	}
	ctx := &cipherCtx{ctx: p, cipher: c}
	ctx.cleanup = runtime.AddCleanup(ctx, func(p *C.EVP_CIPHER_CTX) { C.EVP_CIPHER_CTX_free(p) }, p)
	return ctx, nil
}

func (c *cipherCtx) Cipher() *Cipher { return c.cipher }
func (c *cipherCtx) BlockSize() int  { return c.cipher.BlockSize() }
func (c *cipherCtx) KeySize() int    { return c.cipher.KeySize() }
func (c *cipherCtx) IVSize() int     { return c.cipher.IVSize() }

// update encrypts or decrypts input, which has at most 1 GiB.
func (c *cipherCtx) update(input []byte) ([]byte, error) {
	if len(input) == 0 {
		return nil, nil
	}
	if c.ctx == nil {
		return nil, errCipherEnded
	}
	if len(input) > math.MaxInt32/2 {
		return nil, errors.New("openssl: more than 1 GiB in one call")
	}
	var errs C.compat_err
	var n C.int
	out := make([]byte, (len(input)+7)&^7+max(16, c.BlockSize())) // key wrapping with padding (RFC 5649) fills up to 8 bytes and adds 8
	ok := C.compat_cipher_update(c.ctx, ptr(out), &n, ptr(input), C.int(len(input)), &errs)
	runtime.KeepAlive(c)
	if ok == 0 {
		return nil, failure("cipher", &errs)
	}
	return out[:n], nil
}

func (c *cipherCtx) final(op string) ([]byte, error) {
	var errs C.compat_err
	var n C.int
	out := make([]byte, c.BlockSize())
	ok := C.compat_cipher_final(c.ctx, ptr(out), &n, &errs)
	runtime.KeepAlive(c)
	if ok == 0 {
		return nil, failure(op, &errs)
	}
	return out[:n], nil
}

// ExtraData adds data that is authenticated but not encrypted.
func (c *cipherCtx) ExtraData(aad []byte) error {
	if len(aad) == 0 {
		return nil
	}
	if c.ctx == nil {
		return errCipherEnded
	}
	if len(aad) > math.MaxInt32 {
		return errors.New("openssl: more than 2 GiB in one call")
	}
	var errs C.compat_err
	ok := C.compat_cipher_aad(c.ctx, ptr(aad), C.int(len(aad)), &errs)
	runtime.KeepAlive(c)
	if ok == 0 {
		return failure("extra data", &errs)
	}
	return nil
}

type encryption struct{ *cipherCtx }

func (c encryption) EncryptUpdate(input []byte) ([]byte, error) { return c.update(input) }
func (c encryption) EncryptFinal() ([]byte, error)              { return c.final("encrypt") }

type decryption struct{ *cipherCtx }

func (c decryption) DecryptUpdate(input []byte) ([]byte, error) { return c.update(input) }
func (c decryption) DecryptFinal() ([]byte, error) {
	return c.final("decrypt: wrong key, or damaged data")
}

// NewEncryptionCipherCtx returns an encryption with this cipher. key and iv must
// have the sizes of the cipher. e may be nil.
func NewEncryptionCipherCtx(c *Cipher, e *Engine, key, iv []byte) (EncryptionCipherCtx, error) {
	ctx, err := newCipherCtx(c, e, 1, key, iv, false)
	if err != nil {
		return nil, err
	}
	return encryption{ctx}, nil
}

// NewDecryptionCipherCtx is NewEncryptionCipherCtx for the other direction.
func NewDecryptionCipherCtx(c *Cipher, e *Engine, key, iv []byte) (DecryptionCipherCtx, error) {
	ctx, err := newCipherCtx(c, e, 0, key, iv, false)
	if err != nil {
		return nil, err
	}
	return decryption{ctx}, nil
}

// gcm returns AES-GCM with this key size in bits, which the old package calls the
// block size.
func gcm(blocksize int) (*Cipher, error) {
	switch blocksize {
	case 128:
		return &Cipher{C.EVP_aes_128_gcm()}, nil
	case 192:
		return &Cipher{C.EVP_aes_192_gcm()}, nil
	case 256:
		return &Cipher{C.EVP_aes_256_gcm()}, nil
	}
	return nil, fmt.Errorf("openssl: unknown block size %d", blocksize)
}

type gcmEncryption struct {
	encryption
	tag *[GCM_TAG_MAXLEN]byte // nil until EncryptFinal
}

func (c *gcmEncryption) EncryptFinal() ([]byte, error) {
	if c.ctx == nil {
		return nil, errCipherEnded
	}
	defer c.close()
	last, err := c.final("encrypt")
	if err != nil {
		return nil, err
	}
	var errs C.compat_err
	var tag [GCM_TAG_MAXLEN]byte
	if C.compat_cipher_get_tag(c.ctx, ptr(tag[:]), C.int(len(tag)), &errs) == 0 {
		return nil, failure("tag", &errs)
	}
	c.tag = &tag
	return last, nil
}

func (c *gcmEncryption) GetTag() ([]byte, error) {
	if c.tag == nil {
		return nil, errors.New("openssl: tag: call EncryptFinal first")
	}
	return slices.Clone(c.tag[:]), nil
}

type gcmDecryption struct{ decryption }

// minTag is the size in bytes of the shortest tag that is accepted (NIST SP 800-38D
// section 5.2.1.2): an attacker guesses one of a single byte in 256 attempts.
const minTag = 12

func (c gcmDecryption) DecryptFinal() ([]byte, error) {
	if c.ctx == nil {
		return nil, errCipherEnded
	}
	defer c.close()
	return c.decryption.DecryptFinal()
}

func (c gcmDecryption) SetTag(tag []byte) error {
	if c.ctx == nil {
		return errCipherEnded
	}
	if len(tag) < minTag || len(tag) > GCM_TAG_MAXLEN {
		return fmt.Errorf("openssl: bad tag size (%d bytes)", len(tag))
	}
	var errs C.compat_err
	ok := C.compat_cipher_set_tag(c.ctx, ptr(tag), C.int(len(tag)), &errs)
	runtime.KeepAlive(c.cipherCtx)
	if ok == 0 {
		return failure("tag", &errs)
	}
	return nil
}

// NewGCMEncryptionCipherCtx returns an encryption with AES-GCM. blocksize is the
// size of the key in bits: 128, 192 or 256. iv can have any length, except zero.
//
// WARNING: Two encryptions with the same key and iv disclose the data and the key
// of the authentication.
func NewGCMEncryptionCipherCtx(blocksize int, e *Engine, key, iv []byte) (AuthenticatedEncryptionCipherCtx, error) {
	c, err := gcm(blocksize)
	if err != nil {
		return nil, err
	}
	ctx, err := newCipherCtx(c, e, 1, key, iv, true)
	if err != nil {
		return nil, err
	}
	return &gcmEncryption{encryption: encryption{ctx}}, nil
}

// NewGCMDecryptionCipherCtx is NewGCMEncryptionCipherCtx for the other direction.
func NewGCMDecryptionCipherCtx(blocksize int, e *Engine, key, iv []byte) (AuthenticatedDecryptionCipherCtx, error) {
	c, err := gcm(blocksize)
	if err != nil {
		return nil, err
	}
	ctx, err := newCipherCtx(c, e, 0, key, iv, true)
	if err != nil {
		return nil, err
	}
	return gcmDecryption{decryption{ctx}}, nil
}
