//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"

	"github.com/seed-014b8713/sslfilter"
)

const (
	nidAES256CBC NID = C.NID_aes_256_cbc
	nidSHA256    NID = C.NID_sha256
)

// KeyNameSize is the length of the name of a ticket key, in bytes.
const KeyNameSize = 16

// TicketName is the name of a ticket key. Every ticket begins with it.
type TicketName [KeyNameSize]byte

// TicketKey encrypts and authenticates tickets.
//
// WARNING: An attacker who obtains the key can resume the sessions of these tickets, and
// can decrypt those of TLS 1.2.
type TicketKey struct {
	Name      TicketName
	CipherKey []byte
	HMACKey   []byte
	IV        []byte
}

// TicketKeyManager has the keys of tickets.
type TicketKeyManager interface {
	// New makes a new key with a new name.
	New() *TicketKey
	// Current returns a key that is valid.
	Current() *TicketKey
	// Lookup returns the key with this name, or nil.
	Lookup(name TicketName) *TicketKey
	// Expired reports whether the key with this name must not be used any more.
	Expired(name TicketName) bool
	// ShouldRenew reports whether a client with a ticket of this key gets a new one.
	ShouldRenew(name TicketName) bool
}

// TicketCipherCtx is the cipher of tickets.
type TicketCipherCtx struct {
	Cipher *Cipher
	Engine *Engine
}

// TicketDigestCtx is the digest of the HMAC of tickets.
type TicketDigestCtx struct {
	Digest *Digest
	Engine *Engine
}

// TicketStore says how tickets are made.
type TicketStore struct {
	CipherCtx TicketCipherCtx
	DigestCtx TicketDigestCtx
	Keys      TicketKeyManager
}

// SetTicketStore makes a server encrypt its tickets with the current key of store, and
// accept tickets of any key in store that has not expired. With nil the keys are random,
// and belong to this Ctx.
//
// Tickets have the form of RFC 5077, section 4, with AES-256-CBC and HMAC-SHA256. If
// CipherCtx and DigestCtx name these and both keys have 32 bytes, they are used as they
// are. Otherwise keys of that size are derived from CipherKey and HMACKey, so that all
// servers with this module can read the tickets. The IV of a key is not used, since
// every ticket has a random one. A key that ShouldRenew names is treated as any other:
// the client gets a new ticket whenever its own has not been made with Current.
//
// The manager is called when a ClientHello has arrived.
func (c *Ctx) SetTicketStore(store *TicketStore) {
	c.change(func(s *settings) { s.tickets = newTickets(store) })
}

// tickets are the keys of the tickets of a Ctx.
type tickets struct {
	keys  *sslfilter.TicketKeys
	store *TicketStore // nil: random keys

	mu    sync.Mutex // guards what follows, and calls of the manager
	names []TicketName
	set   [][sslfilter.TicketKeySize]byte // as keys has them
}

// maxTickets bounds the keys that are known at a time; the engine takes 16.
const maxTickets = 16

func newTickets(store *TicketStore) *tickets {
	return &tickets{keys: new(sslfilter.TicketKeys), store: store}
}

// refresh asks the manager for the current key and those of the tickets in hello.
func (t *tickets) refresh(hello *sslfilter.ClientHello) error {
	if t.store == nil {
		return nil
	}
	if t.store.Keys == nil {
		return errors.New("openssl: the TicketStore has no TicketKeyManager")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.store.Keys
	current := m.Current()
	if current == nil || m.Expired(current.Name) {
		current = m.New()
	}
	if current == nil {
		return errors.New("openssl: the TicketKeyManager has no key")
	}
	list := []*TicketKey{current}
	add := func(name TicketName) {
		if len(list) == maxTickets || slices.ContainsFunc(list, func(k *TicketKey) bool { return k.Name == name }) || m.Expired(name) {
			return
		}
		if k := m.Lookup(name); k != nil && k.Name == name {
			list = append(list, k)
		}
	}
	for _, id := range hello.SessionIDs {
		if len(id) > 2*KeyNameSize { // a ticket; a session id has at most 32 bytes
			add(TicketName(id[:KeyNameSize]))
		}
	}
	for _, name := range t.names { // other connections may be using them now
		add(name)
	}
	t.names = t.names[:0]
	var set [][sslfilter.TicketKeySize]byte
	for _, k := range list {
		key, err := t.store.key(k)
		if err != nil {
			return err
		}
		t.names, set = append(t.names, k.Name), append(set, key)
	}
	if slices.Equal(set, t.set) {
		return nil
	}
	if err := t.keys.Set(set...); err != nil {
		return err
	}
	t.set = set
	return nil
}

// key returns a key in the form of the engine: its name, the key of HMAC-SHA256 and that
// of AES-256-CBC.
func (store *TicketStore) key(k *TicketKey) (key [sslfilter.TicketKeySize]byte, err error) {
	if len(k.CipherKey) < 16 || len(k.HMACKey) < 16 {
		return key, errors.New("openssl: the keys of a TicketKey must have at least 16 bytes")
	}
	copy(key[:], k.Name[:])
	c, d := store.CipherCtx.Cipher, store.DigestCtx.Digest
	if c != nil && d != nil && c.Nid() == nidAES256CBC && d.nid() == nidSHA256 && len(k.CipherKey) == 32 && len(k.HMACKey) == 32 {
		copy(key[16:], k.HMACKey)
		copy(key[48:], k.CipherKey)
		return key, nil
	}
	derived, err := hkdf.Key(sha256.New, slices.Concat(k.CipherKey, k.HMACKey), k.Name[:], "sslfilter ticket key", 64)
	copy(key[16:], derived)
	return key, err
}
