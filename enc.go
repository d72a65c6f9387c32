//go:build cgo

package sslfilter

import "slices"

// The header of "openssl enc" with a passphrase: the magic and a salt.
const (
	encMagic  = "Salted__"
	encSalt   = 8
	encHeader = len(encMagic) + encSalt

	defaultEncIterations = 10_000 // of "openssl enc -pbkdf2"
)

// encCoder is the format CipherEnc. Its directions are independent of each other.
type encCoder struct {
	handle     *cipherHandle
	digest     string // of PBKDF2; empty with a raw key
	iterations uint32

	writing, reading bool   // the direction has its key
	sends            bool   // Send or CloseWrite was called: with a raw key, nothing can be received
	head             []byte // received bytes of an incomplete header
}

// raw reports whether the key is the option Key, without a passphrase.
func (e *encCoder) raw() bool { return e.digest == "" }

// claim notes that this side encrypts. With a raw key it returns a *UsageError if the key
// was used to decrypt.
func (e *encCoder) claim() error {
	if e.raw() && e.reading {
		return &UsageError{"Send", "with Key, a Cipher either encrypts or decrypts, and this one has decrypted: a key and an IV must not encrypt two texts"}
	}
	e.sends = true
	return nil
}

func (e *encCoder) speaks() bool { return !e.raw() || !e.reading }

func (e *encCoder) start() {}

func (e *encCoder) owes() bool { return false }

func (e *encCoder) answer(dst []byte) ([]byte, error) { return dst, nil }

func (e *encCoder) room(n int) int { return encHeader + n + e.handle.blockBytes }

// begin appends the header, and sets the key, before the first output.
func (e *encCoder) begin(dst []byte) ([]byte, error) {
	if e.writing {
		return dst, nil
	}
	e.writing = true
	if e.raw() {
		return dst, e.setKey(true, nil)
	}
	salt := make([]byte, encSalt)
	if err := newSalt(salt); err != nil {
		return dst, err
	}
	return append(append(dst, encMagic...), salt...), e.setKey(true, salt)
}

// setKey sets the key of a direction, which it derives if there is a passphrase.
func (e *encCoder) setKey(encrypt bool, salt []byte) error {
	key := make([]byte, e.handle.keyLen+e.handle.ivLen)
	if e.raw() {
		key = e.handle.secret()
	}
	defer clear(key)
	if !e.raw() {
		if _, err := e.handle.stretch(key, e.digest, e.iterations, salt); err != nil {
			return err
		}
	}
	st := e.handle.encStart(encrypt, key[:e.handle.keyLen], key[e.handle.keyLen:])
	return e.failure("EVP_CipherInit_ex", st)
}

func (e *encCoder) failure(op string, st status) error {
	if st == statusOK {
		return nil
	}
	return e.handle.failure(op, st)
}

func (e *encCoder) encode(dst, plain []byte) ([]byte, error) {
	if len(plain) == 0 {
		return dst, nil
	}
	dst, err := e.begin(dst)
	if err != nil {
		return dst, err
	}
	return e.update(dst, plain, true)
}

// update appends the encryption or decryption of in, in pieces.
func (e *encCoder) update(dst, in []byte, encrypt bool) ([]byte, error) {
	for len(in) > 0 {
		piece := in[:min(len(in), pieceSize)]
		in = in[len(piece):]
		dst = slices.Grow(dst, len(piece)+e.handle.blockBytes)
		got, st := e.handle.encUpdate(encrypt, dst[len(dst):cap(dst)], piece)
		if st != statusOK {
			return dst, e.handle.failure("EVP_CipherUpdate", st)
		}
		dst = dst[:len(dst)+got]
	}
	return dst, nil
}

func (e *encCoder) finish(dst []byte) ([]byte, error) {
	dst, err := e.begin(dst)
	if err != nil {
		return dst, err
	}
	return e.final(dst, true)
}

// final appends the last block.
func (e *encCoder) final(dst []byte, encrypt bool) ([]byte, error) {
	dst = slices.Grow(dst, e.handle.blockBytes)
	got, st := e.handle.encFinal(encrypt, dst[len(dst):cap(dst)])
	return dst[:len(dst)+got], e.failure("EVP_CipherFinal_ex", st)
}

func (e *encCoder) decode(dst, wire []byte) (plain, rest []byte, end bool, err error) {
	if len(wire) > 0 && e.raw() && e.sends {
		return dst, nil, false, &UsageError{"Receive", "with Key, a Cipher either encrypts or decrypts, and Send or CloseWrite was called on this one"}
	}
	if !e.reading {
		if wire, err = e.readHeader(wire); err != nil || !e.reading {
			return dst, nil, false, err
		}
	}
	dst, err = e.update(dst, wire, false)
	return dst, nil, false, err
}

// readHeader reads the magic and the salt, and returns the bytes after them.
func (e *encCoder) readHeader(wire []byte) ([]byte, error) {
	if len(wire) == 0 {
		return wire, nil
	}
	if e.raw() {
		e.reading = true
		return wire, e.setKey(false, nil)
	}
	n := min(len(wire), encHeader-len(e.head))
	e.head, wire = append(e.head, wire[:n]...), wire[n:]
	magic := min(len(e.head), len(encMagic))
	switch {
	case string(e.head[:magic]) != encMagic[:magic]:
		return wire, badInput("the input does not begin with %q, as the output of \"openssl enc\" with a passphrase does", encMagic)
	case len(e.head) < encHeader:
		return wire, nil
	}
	e.reading = true
	return wire, e.setKey(false, e.head[len(encMagic):])
}

// inputEnd decrypts the last block.
func (e *encCoder) inputEnd() ([]byte, error) {
	if e.raw() && e.sends {
		return nil, nil
	}
	if !e.reading && e.raw() {
		e.reading = true // "openssl enc" accepts an empty file only in the stream modes
		if err := e.setKey(false, nil); err != nil {
			return nil, err
		}
	}
	if !e.reading {
		return nil, &TruncatedError{InsideRecord: len(e.head) > 0, InHandshake: true, cipher: true}
	}
	last, err := e.final(nil, false)
	if failed, ok := err.(*Error); ok && failed.cause == nil {
		failed.Hint = "the key or passphrase is wrong, the digest or number of iterations (-md, -iter, -pbkdf2) differs, or the data were damaged or cut"
	}
	return last, err
}

func (e *encCoder) wipe() { e.head = nil }
