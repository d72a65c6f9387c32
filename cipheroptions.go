//go:build cgo

package sslfilter

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// CipherOptions are the settings of a Cipher. NewCipher copies them.
type CipherOptions struct {
	// Client is the role in a sealed stream. One side is the client, the other the
	// server. The client speaks first; to encrypt a file be a client, and to decrypt
	// it a server. Default: server. With CipherEnc it has no effect.
	Client bool

	// Cipher is a name that OpenSSL knows, in any case. CipherSealed needs an AEAD
	// with a nonce of 12 bytes, the same on both sides: AES, ARIA or SM4 in GCM or
	// CCM mode, AES in OCB or GCM-SIV mode, or ChaCha20-Poly1305. GCM-SIV and SM4
	// need OpenSSL 3.2. Default: AES-256-GCM. CipherEnc needs a cipher that "openssl
	// enc" accepts, such as aes-256-cbc, and has no default. See EVP_CIPHER_fetch(3).
	Cipher string

	// Key is the static key. For CipherSealed it has 32 random bytes, whatever the
	// cipher, from which the keys of each connection are derived. For CipherEnc it
	// is the key of the cipher itself, as with "openssl enc -K".
	//
	// WARNING: A key that is not random, such as the bytes of a password, can be
	// guessed. Use Passphrase for a password.
	Key []byte

	// IV is the initialization vector for CipherEnc with Key, as with "openssl enc
	// -iv". It has the length that the cipher needs. Default: none, for ciphers that
	// need none. A Cipher with CipherEnc and Key either encrypts or decrypts: the
	// first call of Send with data, CloseWrite, Receive with data or ReceiveEOF
	// decides.
	//
	// WARNING: A key and an IV must never encrypt two texts.
	IV []byte

	// Passphrase is called by NewCipher, once, if Key is not set. The passphrase
	// has 1 to 1024 bytes, and NewCipher overwrites the slice. In a sealed stream
	// the client says in its header how the key is derived from it: by default with
	// scrypt (N = 2^15, r = 8, p = 1, which takes 32 MiB on each side), and in
	// a process in FIPS mode with PBKDF2.
	Passphrase func() ([]byte, error)

	// Format is CipherSealed or CipherEnc. Default: CipherSealed.
	Format CipherFormat

	// Digest is the hash function of PBKDF2, for a Passphrase. CipherSealed accepts
	// SHA256 and SHA512, and uses PBKDF2 instead of scrypt if Digest or Iterations is
	// set. CipherEnc accepts all hash functions of OpenSSL ("openssl enc -md").
	// Default: SHA256.
	Digest string

	// Iterations is the number of iterations of PBKDF2 (RFC 8018), for a Passphrase.
	// CipherSealed accepts MinCipherIterations to MaxCipherIterations. Default:
	// 600,000. CipherEnc accepts 1 to 2^31-1, and both sides must use the same number.
	// Default: 10,000, as with "openssl enc -pbkdf2".
	Iterations int
}

// maxCipherName bounds the name of a cipher in a header, with one byte to spare.
const maxCipherName = 32

// NewCipher makes a Cipher. An error in the options is an *OptionError that names
// the option. A lack of memory is an *Error. For CipherSealed, NewCipher seals and
// opens records with a key of zeros, and refuses a cipher that accepts one that was
// altered: providers of OpenSSL can bring ciphers of their own.
func NewCipher(o CipherOptions) (*Cipher, error) {
	name := o.Cipher
	switch {
	case o.Format > CipherEnc:
		return nil, badOption("Format", "want CipherSealed or CipherEnc, got %d", o.Format)
	case name == "" && o.Format == CipherEnc:
		return nil, badOption("Cipher", "CipherEnc needs the name of a cipher, such as aes-256-cbc")
	case name == "":
		name = "AES-256-GCM"
	}
	if err := o.checkSecret(); err != nil {
		return nil, err
	}
	h, err := o.newHandle(name)
	if err != nil {
		return nil, err
	}
	format, err := o.newFormat(h)
	if err != nil {
		h.close()
		return nil, err
	}
	return &Cipher{handle: h, format: format, phase: phaseOpen}, nil
}

// checkSecret checks which of the options about keys are set.
func (o *CipherOptions) checkSecret() error {
	enc := o.Format == CipherEnc
	switch {
	case o.Key == nil && o.Passphrase == nil:
		return badOption("Key", "neither Key nor Passphrase is set")
	case o.Key != nil && o.Passphrase != nil:
		return badOption("Passphrase", "Key is set too; set one of them")
	case o.IV != nil && !enc:
		return badOption("IV", "CipherSealed makes its own nonces")
	case o.IV != nil && o.Key == nil:
		return badOption("IV", "with Passphrase, the IV is derived from the passphrase")
	case o.Digest != "" && o.Key != nil:
		return badOption("Digest", "it has no effect with Key")
	case o.Iterations != 0 && o.Key != nil:
		return badOption("Iterations", "it has no effect with Key")
	case !enc && o.Key != nil && len(o.Key) != sealedKey:
		return badOption("Key", "CipherSealed needs a key of %d random bytes, got %d", sealedKey, len(o.Key))
	case enc && (o.Iterations < 0 || o.Iterations > math.MaxInt32):
		return badOption("Iterations", "want 1 to %d, got %d", math.MaxInt32, o.Iterations)
	case !enc && o.Iterations != 0 && (o.Iterations < MinCipherIterations || o.Iterations > MaxCipherIterations):
		return badOption("Iterations", "want %d to %d, got %d", MinCipherIterations, MaxCipherIterations, o.Iterations)
	}
	return nil
}

// newHandle makes the cipher of this name.
func (o *CipherOptions) newHandle(name string) (*cipherHandle, error) {
	h, refusal, err := newCipher(name, o.Format == CipherSealed, o.Client)
	if err == nil {
		if o.Format == CipherSealed && len(h.name) >= maxCipherName-1 {
			h.close()
			return nil, badOption("Cipher", "the name %s is too long", h.name)
		}
		return h, nil
	}
	switch refusal {
	case refusedUnknown:
		if version := newerCipher(name); version != "" && olderThan(version) {
			return nil, &OptionError{Option: "Cipher", Err: needs("cipher "+name, version)}
		}
		text := "this OpenSSL does not have %q"
		if FIPSEnabled() {
			text += " in FIPS mode"
		}
		return nil, badOption("Cipher", text, name)
	case refusedNotAEAD:
		return nil, badOption("Cipher", "%q does not authenticate; CipherSealed needs an AEAD, such as AES-256-GCM", name)
	case refusedOtherNonce:
		return nil, badOption("Cipher", "%q is not an AEAD with a nonce of 12 bytes and a tag of 16 bytes, which CipherSealed needs", name)
	case refusedAEAD:
		return nil, badOption("Cipher", "\"openssl enc\" does not have AEAD ciphers such as %q; use CipherSealed", name)
	case refusedCTS:
		return nil, badOption("Cipher", "%q uses ciphertext stealing (CTS), which OpenSSL has for single messages and not for streams", name)
	case refusedForged:
		return nil, badOption("Cipher", "%q does not protect what CipherSealed relies on: it accepted a record that was altered, or a record depends on others", name)
	case refusedNoMemory:
		return nil, err
	case refusedNoStream:
		return nil, badOption("Cipher", "\"openssl enc\" does not have ciphers such as %q", name)
	}
	return nil, badOption("Cipher", "%q does not work: %w", name, bare(err))
}

// newerCipher returns the version of OpenSSL that introduced an AEAD, or "" for
// those that 1.1.1 has.
func newerCipher(name string) string {
	name = strings.ToUpper(name)
	if strings.HasSuffix(name, "-GCM-SIV") || name == "SM4-GCM" || name == "SM4-CCM" {
		return "3.2"
	}
	return ""
}

// newFormat gives h its secrets and makes the format.
func (o *CipherOptions) newFormat(h *cipherHandle) (cipherCoder, error) {
	if o.Key == nil {
		if err := o.takePassphrase(h); err != nil {
			return nil, err
		}
	}
	if o.Format == CipherEnc {
		return o.newEnc(h)
	}
	if o.Key != nil {
		h.setKey(o.Key)
		return newSealed(h, o.Client, false, kdfNone, 0)
	}
	kdf, cost, err := o.kdf()
	if err != nil {
		return nil, err
	}
	return newSealed(h, o.Client, true, kdf, cost)
}

// takePassphrase moves the passphrase to C memory.
func (o *CipherOptions) takePassphrase(h *cipherHandle) error {
	passphrase, err := o.Passphrase()
	defer clear(passphrase)
	switch {
	case err != nil:
		return &OptionError{Option: "Passphrase", Err: err}
	case len(passphrase) == 0:
		return &OptionError{Option: "Passphrase", Err: errors.New("it is empty")}
	case len(passphrase) > maxPassphrase:
		return badOption("Passphrase", "it has %d bytes; at most %d are possible", len(passphrase), maxPassphrase)
	}
	h.setSecret(passphrase)
	return nil
}

// kdf returns how a client makes the static key from its passphrase.
func (o *CipherOptions) kdf() (kdf sealedKDF, cost uint32, err error) {
	switch strings.ToUpper(strings.ReplaceAll(o.Digest, "-", "")) {
	case "":
		if o.Iterations == 0 && !FIPSEnabled() {
			return kdfScrypt, defaultScrypt, nil
		}
		kdf = kdfPBKDF2SHA256
	case "SHA256":
		kdf = kdfPBKDF2SHA256
	case "SHA512":
		kdf = kdfPBKDF2SHA512
	default:
		return 0, 0, badOption("Digest", "want SHA256 or SHA512, got %q", o.Digest)
	}
	if o.Iterations == 0 {
		return kdf, defaultIterations, nil
	}
	return kdf, uint32(o.Iterations), nil
}

// newEnc makes the format CipherEnc.
func (o *CipherOptions) newEnc(h *cipherHandle) (cipherCoder, error) {
	if o.Key != nil {
		switch {
		case len(o.Key) != h.keyLen:
			return nil, badOption("Key", "%s needs a key of %d bytes, got %d", h.name, h.keyLen, len(o.Key))
		case len(o.IV) != h.ivLen:
			return nil, badOption("IV", "%s needs an IV of %d bytes, got %d", h.name, h.ivLen, len(o.IV))
		}
		secret := append(append(make([]byte, 0, len(o.Key)+len(o.IV)), o.Key...), o.IV...)
		defer clear(secret)
		h.setSecret(secret)
		return &encCoder{handle: h}, nil
	}
	e := &encCoder{handle: h, digest: o.Digest, iterations: uint32(o.Iterations)}
	if e.digest == "" {
		e.digest = "SHA256"
	}
	if e.iterations == 0 {
		e.iterations = defaultEncIterations
	}
	trial := make([]byte, h.keyLen+h.ivLen)
	defer clear(trial)
	switch unknown, err := h.stretch(trial, e.digest, min(e.iterations, 1000), make([]byte, encSalt)); {
	case unknown:
		return nil, badOption("Digest", "this OpenSSL does not have %q", e.digest)
	case errors.Is(err, errNoMemory):
		return nil, err
	case err != nil:
		return nil, &OptionError{Option: "Digest", Err: fmt.Errorf("PBKDF2 with %s does not work: %w", e.digest, bare(err))}
	}
	return e, nil
}
