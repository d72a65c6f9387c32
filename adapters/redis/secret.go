package sslredis

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/seed-014b8713/sslfilter/internal/private"
)

const (
	// secretSize is the size of a secret in bytes.
	secretSize = 32
	// maxSecrets bounds the secrets of a file: the current one, and the previous or next.
	maxSecrets = 2
	// maxSecretFile bounds the size of the file of the secrets, in bytes.
	maxSecretFile = 4096
	// masterSize is the size in bytes of the key of an epoch, from which the ticket keys
	// are derived.
	masterSize = 32
	// ticketKeySize is the size of a ticket key in bytes: name, HMAC key and AES key.
	ticketKeySize = 80
)

// Secret is shared by the servers of a fleet, and nobody else has it. It names and seals
// everything in Redis. It is immutable and safe for concurrent use.
type Secret struct {
	list []secret // the first seals, all open
}

// String returns a fixed text that reveals nothing about the secret.
func (s Secret) String() string { return "secret of a fleet" }

// Format prints what String returns, whatever the verb is, so that no verb shows a key.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// secret has the keys that are derived from one secret, each with one use.
type secret struct {
	names, values, epochs, derived []byte
}

// ReadSecret reads the secrets of a file. Each line has one, as 64 hexadecimal digits;
// empty lines and lines that begin with # are skipped. The first secret seals, and all of
// them open, so a secret can be replaced without losing sessions. "openssl rand -hex 32"
// makes one. The file must be a regular file that only its owner can access, such as one
// with mode 0600.
func ReadSecret(file string) (*Secret, error) {
	text, err := readPrivate(file)
	if err != nil {
		return nil, fmt.Errorf("sslredis: secret file %s: %w", file, err)
	}
	defer clear(text)
	var keys [][]byte
	defer func() { // even after an error
		for _, key := range keys {
			clear(key)
		}
	}()
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		key := make([]byte, hex.DecodedLen(len(line)))
		if n, err := hex.Decode(key, line); err != nil || n != secretSize {
			return nil, fmt.Errorf("sslredis: secret file %s: want lines of %d hexadecimal digits, as \"openssl rand -hex %d\" writes them", file, 2*secretSize, secretSize)
		}
		keys = append(keys, key)
	}
	s, err := NewSecret(keys...)
	if err != nil {
		return nil, fmt.Errorf("%w in secret file %s", err, file)
	}
	return s, nil
}

// readPrivate reads a file that only its owner can access. It does not wait for the other
// end of a named pipe.
func readPrivate(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Unwrap(err) // without the name
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if err := private.Check(info, private.Allow{Root: true}); err != nil {
		return nil, err
	}
	text := make([]byte, maxSecretFile+1) // does not grow: copies would stay
	n, err := io.ReadFull(f, text)
	if err == nil {
		clear(text)
		return nil, fmt.Errorf("more than %d bytes", maxSecretFile)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return text[:n], err
}

// NewSecret makes a Secret of one or two secrets with 32 random bytes each. The first one
// seals, and all of them open. If it succeeds, it clears the slices.
func NewSecret(secrets ...[]byte) (*Secret, error) {
	s := new(Secret)
	if len(secrets) == 0 || len(secrets) > maxSecrets {
		return nil, fmt.Errorf("sslredis: want 1 or %d secrets, got %d", maxSecrets, len(secrets))
	}
	for i, own := range secrets {
		if len(own) != secretSize {
			return nil, fmt.Errorf("sslredis: want %d bytes in a secret, got %d", secretSize, len(own))
		}
		for _, other := range secrets[:i] {
			if bytes.Equal(own, other) {
				return nil, errors.New("sslredis: the same secret is given twice")
			}
		}
	}
	for _, own := range secrets {
		var keys secret
		for info, key := range map[string]*[]byte{"names": &keys.names, "values": &keys.values, "epochs": &keys.epochs, "derived": &keys.derived} {
			var err error
			if *key, err = hkdf.Key(sha256.New, own, nil, "sslfilter fleet v1 "+info, secretSize); err != nil {
				return nil, fmt.Errorf("sslredis: %w", err)
			}
		}
		s.list = append(s.list, keys)
	}
	for _, own := range secrets {
		clear(own)
	}
	return s, nil
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}

// sessionName returns the name in Redis of a session in a scope.
func (s *secret) sessionName(prefix, scope string, id []byte) string {
	return prefix + "s:" + base64.RawURLEncoding.EncodeToString(mac(s.names, []byte(strconv.Itoa(len(scope))+":"+scope), id))
}

// epochName returns the name in Redis of the key of an epoch. epoch has its number and
// its length.
func (s *secret) epochName(prefix, epoch string) string {
	return prefix + "k:" + base64.RawURLEncoding.EncodeToString(mac(s.epochs, []byte(epoch)))
}

// derive returns the key of an epoch that is derived from the secret.
func (s *secret) derive(epoch string) (m master) {
	copy(m[:], mac(s.derived, []byte(epoch)))
	return m
}

// sealVersion is the first byte of a value. A value of another version is not opened.
const sealVersion = 1

// sealOverhead is the number of bytes that sealing adds: version, nonce and tag.
const sealOverhead = 1 + 12 + 16

// aead returns the cipher for the value of a name. Each name has a key of its own:
// with one key for all names, random nonces would limit the fleet to 2^32 values.
func (s *secret) aead(name string) (cipher.AEAD, error) {
	block, err := aes.NewCipher(mac(s.values, []byte(name)))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal returns the value for a name.
func (s *secret) seal(name string, plain []byte) ([]byte, error) {
	aead, err := s.aead(name)
	if err != nil {
		return nil, fmt.Errorf("sslredis: %w", err)
	}
	value := append(make([]byte, 0, len(plain)+sealOverhead), sealVersion)
	return aead.Seal(value, nil, plain, []byte(name)), nil
}

// errSealed is the error about a value that was not sealed for its name under the secret.
var errSealed = errors.New("sslredis: Redis has a value that was not sealed for this name with this secret")

// open returns the plaintext of a value that seal made for this name.
func (s *secret) open(name string, value []byte) ([]byte, error) {
	if len(value) < sealOverhead || value[0] != sealVersion {
		return nil, errSealed
	}
	aead, err := s.aead(name)
	if err != nil {
		return nil, fmt.Errorf("sslredis: %w", err)
	}
	plain, err := aead.Open(nil, nil, value[1:], []byte(name))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// master is the key of an epoch.
type master [masterSize]byte

// ticketKey derives the ticket key of a scope.
func (m *master) ticketKey(scope string) (key [ticketKeySize]byte, err error) {
	b, err := hkdf.Expand(sha256.New, m[:], "sslfilter ticket key v1 "+scope, ticketKeySize)
	if err != nil {
		return key, fmt.Errorf("sslredis: %w", err)
	}
	copy(key[:], b)
	clear(b)
	return key, nil
}
