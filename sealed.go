//go:build cgo

package sslfilter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/seed-014b8713/sslfilter/internal/bounded"
	"github.com/seed-014b8713/sslfilter/internal/derive"
)

// The header of a sealed stream: magic, version, role, kdf, cost (4 bytes), salt,
// length of the cipher's name, name. docs/direct-cipher.md specifies the format.
const (
	sealedMagic   = "sslfseal"
	sealedVersion = 1

	atVersion = len(sealedMagic)
	atRole    = atVersion + 1
	atKDF     = atRole + 1
	atCost    = atKDF + 1
	atSalt    = atCost + 4
	atName    = atSalt + sealedSalt // its length; then the name

	roleClient = 1
	roleServer = 2
)

// sealedKDF is the number of a key derivation function in a header.
type sealedKDF byte

const (
	kdfNone         sealedKDF = 0 // the static key is the Key option
	kdfScrypt       sealedKDF = 1
	kdfPBKDF2SHA256 sealedKDF = 2
	kdfPBKDF2SHA512 sealedKDF = 3
)

const (
	// MinCipherIterations is the smallest number of iterations of PBKDF2 in the
	// header of a sealed stream. A server refuses fewer, because they would make
	// guesses cheap.
	MinCipherIterations = 100_000
	// MaxCipherIterations bounds the iterations of PBKDF2 in the header of a sealed
	// stream, because each client makes the server compute them.
	MaxCipherIterations = 2_000_000

	defaultIterations = 600_000 // OWASP's recommendation for PBKDF2-HMAC-SHA256

	minScrypt     = 14 // log2(N): 16 MiB
	maxScrypt     = 17 // log2(N): 128 MiB
	defaultScrypt = 15 // log2(N): 32 MiB
)

// kdfs has the digest and the bounds of the cost of each KDF.
var kdfs = map[sealedKDF]struct {
	digest   string // "" is scrypt
	min, max uint32
}{
	kdfScrypt:       {"", minScrypt, maxScrypt},
	kdfPBKDF2SHA256: {"SHA256", MinCipherIterations, MaxCipherIterations},
	kdfPBKDF2SHA512: {"SHA512", MinCipherIterations, MaxCipherIterations},
}

// newSalt fills a salt with random bytes. Tests replace it.
var newSalt = randomBytes

// sealedCoder is the format CipherSealed.
type sealedCoder struct {
	handle     *cipherHandle
	client     bool
	passphrase bool

	header  []byte // ours, until it is sent
	started bool   // a client has begun to speak
	parsed  bool   // the peer's header has arrived
	met     bool   // the peer's first record was opened, so the peer has the key
	joins   bool   // a client has to send its join record, since it knows the server's salt
	ended   bool   // our end record was made: nothing may come after it
	part    []byte // received bytes of an incomplete header or record

	canceled chan struct{} // closed by Cancel
	cancel   func()
}

// newSealed makes the coder. h already has the static key or the passphrase.
func newSealed(h *cipherHandle, client, passphrase bool, kdf sealedKDF, cost uint32) (*sealedCoder, error) {
	s := &sealedCoder{handle: h, client: client, passphrase: passphrase, canceled: make(chan struct{})}
	s.cancel = sync.OnceFunc(func() { close(s.canceled) })
	if !client {
		return s, nil
	}
	header, salt, err := s.newHeader(kdf, cost)
	if err != nil {
		return nil, err
	}
	if passphrase {
		if err := s.stretch(kdf, cost, salt); err != nil {
			return nil, err
		}
	}
	s.setOwn(header, salt)
	return s, nil
}

// newHeader makes this side's header with a new salt.
func (s *sealedCoder) newHeader(kdf sealedKDF, cost uint32) (header, salt []byte, err error) {
	role := byte(roleServer)
	if s.client {
		role = roleClient
	}
	header = append([]byte(sealedMagic), sealedVersion, role, byte(kdf))
	header = binary.BigEndian.AppendUint32(header, cost)
	header = append(header, make([]byte, sealedSalt)...)
	header = append(header, byte(len(s.handle.name)))
	header = append(header, s.handle.name...)
	salt = header[atSalt:atName]
	return header, salt, newSalt(salt)
}

func (s *sealedCoder) setOwn(header, salt []byte) {
	s.handle.setHeader(true, header, salt)
	s.header = header
}

// stretch makes the static key from the passphrase, which is then wiped. It first waits
// for a slot. After Cancel it returns ErrClosed.
func (s *sealedCoder) stretch(kdf sealedKDF, cost uint32, salt []byte) error {
	key := make([]byte, sealedKey)
	defer clear(key)
	if !derive.Enter(s.canceled) {
		return ErrClosed
	}
	defer derive.Leave()
	if _, err := s.handle.stretch(key, kdfs[kdf].digest, cost, salt); err != nil {
		return err
	}
	s.handle.setKey(key)
	s.handle.setSecret(nil)
	return nil
}

func (s *sealedCoder) speaks() bool { return s.client && s.started || s.met }

func (s *sealedCoder) start() { s.started = true }

func (s *sealedCoder) owes() bool { return s.speaks() && s.header != nil || s.joins }

func (s *sealedCoder) answer(dst []byte) ([]byte, error) {
	var err error
	if s.header != nil {
		dst = append(dst, s.header...)
		s.header = nil
		dst, err = s.control(dst, recordBegin)
	}
	if s.joins && err == nil {
		s.joins = false
		dst, err = s.control(dst, recordJoin)
	}
	return dst, err
}

// control appends a record that carries no data.
func (s *sealedCoder) control(dst []byte, kind recordType) ([]byte, error) {
	dst = slices.Grow(dst, 1+sealedOverhead)
	got, _, st := s.handle.seal(dst[len(dst):cap(dst)], []byte{0}, kind)
	if st != statusOK {
		return dst, s.handle.failure("EVP_EncryptUpdate", st)
	}
	return dst[:len(dst)+got], nil
}

func (s *sealedCoder) room(n int) int { return n + (n+sealedRecord-1)/sealedRecord*sealedOverhead }

func (s *sealedCoder) encode(dst, plain []byte) ([]byte, error) {
	for len(plain) > 0 {
		got, taken, st := s.handle.seal(dst[len(dst):cap(dst)], plain, recordData)
		dst, plain = dst[:len(dst)+got], plain[taken:]
		if st != statusOK {
			return dst, s.handle.failure("EVP_EncryptUpdate", st)
		}
		if len(plain) > 0 {
			dst = slices.Grow(dst, s.room(len(plain)))
		}
	}
	return dst, nil
}

func (s *sealedCoder) finish(dst []byte) ([]byte, error) {
	s.joins, s.ended = false, true
	return s.control(dst, recordEnd)
}

func (s *sealedCoder) decode(dst, wire []byte) (plain, rest []byte, end bool, err error) {
	if !s.parsed {
		if wire, err = s.readHeader(wire); err != nil || !s.parsed {
			return dst, nil, false, err
		}
	}
	for len(s.part) > 0 && len(wire) > 0 {
		wire = s.fill(wire)
		if dst, end, err = s.records(dst, s.part); err != nil || end {
			return dst, wire, end, err
		}
	}
	if len(wire) == 0 {
		return dst, nil, false, nil
	}
	return s.direct(dst, wire)
}

// fill moves bytes from wire to part, until part has the head of a record, or the
// complete record if part already has its head.
func (s *sealedCoder) fill(wire []byte) []byte {
	need := sealedHead
	if len(s.part) >= sealedHead {
		need = sealedOverhead + int(binary.BigEndian.Uint16(s.part[1:]))
	}
	n := min(len(wire), need-len(s.part))
	s.part = append(s.part, wire[:n]...)
	return wire[n:]
}

// records opens part, which is at most one record. If the record is complete, part is
// emptied.
func (s *sealedCoder) records(dst, part []byte) ([]byte, bool, error) {
	dst, rest, end, err := s.open(dst, part)
	if len(rest) == 0 {
		s.part = s.part[:0]
	}
	return dst, end, err
}

// direct opens the complete records in wire, and keeps the incomplete one.
func (s *sealedCoder) direct(dst, wire []byte) (plain, rest []byte, end bool, err error) {
	dst, rest, end, err = s.open(dst, wire)
	if err == nil && !end {
		s.part = append(s.part, rest...)
		rest = nil
	}
	return dst, rest, end, err
}

// open opens the complete records in wire. rest has the bytes after them.
func (s *sealedCoder) open(dst, wire []byte) (plain, rest []byte, end bool, err error) {
	for {
		got, taken, st := s.handle.open(dst[len(dst):cap(dst)], wire)
		dst, wire = dst[:len(dst)+got], wire[taken:]
		if !s.met && s.handle.opened() > 0 {
			s.met, s.joins = true, s.client && !s.ended
		}
		switch st {
		case statusOK:
			return dst, wire, false, nil
		case statusClosed:
			return dst, wire, true, nil
		case statusAgain:
			dst = slices.Grow(dst, max(minRoom, min(len(wire), sealedRecord)))
		case statusUnformed:
			return dst, wire, false, s.unformed()
		default:
			return dst, wire, false, s.notAuthentic(st)
		}
	}
}

func (s *sealedCoder) unformed() error {
	return badInput("a record of type %d is not allowed here, or its length is not", s.handle.unformed())
}

func (s *sealedCoder) notAuthentic(st status) error {
	e := s.handle.failure("EVP_DecryptFinal_ex", st)
	switch {
	case st == statusMemory:
	case !s.met && s.passphrase:
		e.Hint = "the peer has another passphrase, or its first bytes were altered"
	case !s.met:
		e.Hint = "the peer has another key, or its first bytes were altered"
	default:
		e.Hint = fmt.Sprintf("record %d is not authentic: it was altered, or records were dropped, repeated or reordered", s.handle.opened())
	}
	return e
}

// badInput returns an error for input that does not have the format.
func badInput(format string, args ...any) error {
	return &Error{Op: "Receive", Hint: fmt.Sprintf(format, args...)}
}

// readHeader reads the peer's header and returns the bytes after it.
func (s *sealedCoder) readHeader(wire []byte) ([]byte, error) {
	for len(wire) > 0 {
		need := atName + 1
		if len(s.part) > atName {
			need += int(s.part[atName])
		}
		n := min(len(wire), need-len(s.part))
		s.part, wire = append(s.part, wire[:n]...), wire[n:]
		if err := s.checkHeader(s.part); err != nil {
			return wire, err
		}
		if len(s.part) > atName && len(s.part) == atName+1+int(s.part[atName]) {
			return wire, s.takeHeader()
		}
	}
	return wire, nil
}

// checkHeader checks the bytes of a header that have arrived, in their order, so
// that the error does not depend on how the input is split into calls of Receive.
func (s *sealedCoder) checkHeader(b []byte) error {
	n := min(len(b), len(sealedMagic))
	mine, theirs := byte(roleServer), byte(roleClient)
	if s.client {
		mine, theirs = theirs, mine
	}
	switch {
	case bytes.HasPrefix(b, []byte(encMagic)):
		return badInput("the input has the format CipherEnc, not CipherSealed")
	case string(b[:n]) != sealedMagic[:n] && !strings.HasPrefix(encMagic, string(b[:n])):
		return badInput("the input is not a sealed stream")
	case len(b) > atVersion && b[atVersion] != sealedVersion:
		return badInput("the version of the sealed stream is %d, and only %d is known", b[atVersion], sealedVersion)
	case len(b) > atRole && b[atRole] == mine:
		return badInput("both sides are clients, or both are servers, or the output of this side came back")
	case len(b) > atRole && b[atRole] != theirs:
		return badInput("the role %d is unknown", b[atRole])
	case len(b) >= atSalt:
		if err := s.checkKDF(sealedKDF(b[atKDF]), binary.BigEndian.Uint32(b[atCost:])); err != nil {
			return err
		}
	}
	if len(b) <= atName {
		return nil
	}
	name := b[atName+1:]
	switch whole := int(b[atName]); {
	case whole == 0 || whole >= maxCipherName:
		return badInput("the name of the cipher has %d bytes; 1 to %d are possible", whole, maxCipherName-1)
	case len(name) == whole && string(name) != s.handle.name:
		return badInput("the peer uses the cipher %s, and this side %s", bounded.Text(printable(string(name))), s.handle.name)
	}
	return nil
}

// checkKDF checks the KDF and its cost in the header of the peer.
func (s *sealedCoder) checkKDF(kdf sealedKDF, cost uint32) error {
	bounds, known := kdfs[kdf]
	switch {
	case s.client && (kdf != kdfNone || cost != 0), kdf == kdfNone && cost != 0:
		return badInput("the header has parameters of a passphrase that it cannot have")
	case s.client:
		return nil
	case kdf == kdfNone && s.passphrase:
		return badInput("the client uses a key, and this side a passphrase")
	case kdf == kdfNone:
		return nil
	case !known:
		return badInput("the function %d that makes a key from a passphrase is unknown", kdf)
	case !s.passphrase:
		return badInput("the client uses a passphrase, and this side a key")
	case cost < bounds.min || cost > bounds.max:
		return badInput("the cost %d of the function that makes a key from a passphrase is outside of %d to %d", cost, bounds.min, bounds.max)
	}
	return nil
}

// takeHeader uses the header of the peer, which is complete and in s.part.
func (s *sealedCoder) takeHeader() error {
	b := s.part
	salt := b[atSalt:atName]
	if s.passphrase && !s.client {
		if err := s.stretch(sealedKDF(b[atKDF]), binary.BigEndian.Uint32(b[atCost:]), salt); err != nil {
			return err
		}
	}
	s.handle.setHeader(false, b, salt)
	s.parsed, s.part = true, nil
	if s.client {
		return nil
	}
	header, salt, err := s.newHeader(kdfNone, 0)
	if err == nil {
		s.setOwn(header, salt)
	}
	return err
}

func (s *sealedCoder) inputEnd() ([]byte, error) {
	return nil, &TruncatedError{InsideRecord: len(s.part) > 0, InHandshake: !s.met, cipher: true}
}

func (s *sealedCoder) wipe() { s.part, s.header = nil, nil }
