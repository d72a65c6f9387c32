//go:build cgo

package sslfilter

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
)

// TicketKeys are the keys with which servers encrypt their session tickets
// (RFC 5077). Any number of contexts can share them, and they are safe for
// concurrent use.
//
// WARNING: Anyone who has a key can decrypt recorded connections of TLS 1.2 whose
// tickets it encrypted, and can resume their sessions. With ResumeClientCert they
// can also make a ticket for any client, because certificates are public.
//
// New TicketKeys are random and change by themselves: a key encrypts for two
// hours and decrypts for two more, which is as long as a ticket is valid. They
// change only when they are used: the keys of a server without connections stay in
// memory. Set replaces them with keys of the caller.
//
// The keys are overwritten in memory when they are replaced, and when the
// TicketKeys and all contexts that use them have been freed.
type TicketKeys struct {
	mu sync.Mutex
	h  *ticketKeysHandle
}

// NewTicketKeys returns random keys.
func NewTicketKeys() (*TicketKeys, error) {
	k := new(TicketKeys)
	_, err := k.handle()
	return k, err
}

// Set replaces all keys. The first one encrypts, and all of them decrypt. They do
// not change by themselves any more: the caller replaces them, at least once a
// day, and keeps an old key for the two hours in which a ticket is valid. A
// program with several servers first gives a new key to all of them as a key that
// only decrypts. After that the servers can encrypt with it.
//
// A key has the format of nginx (ssl_session_ticket_key): 16 bytes with its name,
// 32 bytes for HMAC-SHA256 and 32 bytes for AES-256-CBC. At most 16 keys are
// possible, and their names must differ. The keys are copied. If a key is not valid,
// or there are none or too many, Set returns a *UsageError, and the old keys remain.
func (k *TicketKeys) Set(keys ...[TicketKeySize]byte) error {
	switch {
	case len(keys) == 0:
		return &UsageError{"Set", "no ticket key is given"}
	case len(keys) > maxTicketKeys:
		return &UsageError{"Set", fmt.Sprintf("%d ticket keys are given; %d are possible", len(keys), maxTicketKeys)}
	}
	names := make(map[[16]byte]int)
	for i := range keys {
		key := &keys[i] // not a copy, which would stay in memory
		name := [16]byte(key[:16])
		switch {
		case names[name] > 0:
			return &UsageError{"Set", fmt.Sprintf("ticket keys %d and %d have the same name", names[name], i+1)}
		case *key == [TicketKeySize]byte{}:
			return &UsageError{"Set", fmt.Sprintf("ticket key %d consists of zeros", i+1)}
		}
		names[name] = i + 1
	}
	h, err := k.handle()
	if err != nil {
		return err
	}
	h.set(keys)
	return nil
}

// handle returns the C object, and makes it in the first call.
func (k *TicketKeys) handle() (*ticketKeysHandle, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.h == nil {
		h, err := newTicketKeys()
		if err != nil {
			return nil, err
		}
		k.h = h
	}
	return k.h, nil
}

// TicketKeySize is the size of a key of TicketKeys, in bytes.
const TicketKeySize = 80

// ParseTicketKeys parses the content of a file with ticket keys, and returns them
// for TicketKeys.Set, the encrypting key first. A file of nginx
// (ssl_session_ticket_key) has one key of 80 bytes. A file with several such keys,
// one after the other, is accepted too, and its first key encrypts. A file of
// haproxy (tls-ticket-keys) has one key in Base64 on each line, the AES key before
// the HMAC key. As in haproxy, the second to last line encrypts: the last line is
// the next key, which all servers must know before one of them uses it. More than
// 16 keys are an error, and so are keys of 48 bytes, which are for AES-128. The
// result shares no memory with file.
func ParseTicketKeys(file []byte) ([][TicketKeySize]byte, error) {
	const line64 = (TicketKeySize + 2) / 3 * 4
	lines := bytes.Fields(file)
	text := len(lines) > 0 && (len(file)%TicketKeySize != 0 || len(lines[0]) == line64)
	for _, b := range file {
		text = text && b < 0x80 && (b >= ' ' || b == '\n' || b == '\r' || b == '\t')
	}
	if !text {
		if len(file) == 0 || len(file)%TicketKeySize != 0 {
			return nil, fmt.Errorf("the file has %d bytes; a ticket key has %d", len(file), TicketKeySize)
		}
		lines = slices.Collect(slices.Chunk(file, TicketKeySize))
	}
	if len(lines) > maxTicketKeys {
		return nil, fmt.Errorf("the file has %d ticket keys; %d are possible", len(lines), maxTicketKeys)
	}
	keys := make([][TicketKeySize]byte, len(lines))
	if text {
		if err := parseTicketLines(keys, lines); err != nil {
			clear(keys)
			return nil, err
		}
		return keys, nil
	}
	for i, line := range lines {
		copy(keys[i][:], line)
	}
	return keys, nil
}

// parseTicketLines sets keys to those in the lines of a file of haproxy. It leaves no
// copy of a key in memory.
func parseTicketLines(keys [][TicketKeySize]byte, lines [][]byte) error {
	var buf []byte
	defer func() { clear(buf) }()
	for i, line := range lines {
		if n := base64.StdEncoding.DecodedLen(len(line)); n > len(buf) {
			clear(buf)
			buf = make([]byte, n)
		}
		n, err := base64.StdEncoding.Decode(buf, line)
		if err != nil {
			return fmt.Errorf("line %d is not in Base64", i+1)
		}
		if n != TicketKeySize {
			return fmt.Errorf("line %d has a key of %d bytes; a ticket key has %d", i+1, n, TicketKeySize)
		}
		at := i
		switch last := len(keys) - 1; { // the second to last key encrypts, and is the first of the result
		case i == last-1:
			at = 0
		case i < last-1:
			at = i + 1
		}
		copy(keys[at][:16], buf) // haproxy has the key for AES first
		copy(keys[at][16:48], buf[48:])
		copy(keys[at][48:], buf[16:48])
	}
	return nil
}

// resumes reports whether a server resumes sessions.
func (o *Options) resumes() bool {
	return !o.Client && o.NumTickets >= 0 && (!o.asksClient() || o.ResumeClientCert)
}

// validateSessions checks the options about the sessions that a server gives.
func (o *Options) validateSessions() error {
	for _, s := range []struct {
		option string
		set    bool
	}{{"TicketKeys", o.TicketKeys != nil}, {"ResumeClientCert", o.ResumeClientCert}, {"StatefulSessions", o.StatefulSessions}} {
		switch {
		case !s.set:
		case o.Client:
			return badOption(s.option, "is for servers, and Client is set")
		case o.NumTickets < 0:
			return badOption(s.option, "is given, and NumTickets %d means that no session is resumed", o.NumTickets)
		case !o.resumes():
			return badOption(s.option, "is given, but a server that asks for client certificates resumes sessions only with ResumeClientCert")
		}
	}
	switch {
	case o.ResumeClientCert && !o.asksClient():
		return badOption("ResumeClientCert", "needs ClientCert, BlockInvalidClientCert or RequireValidClientCert")
	case o.NumTickets > 0 && !o.resumes():
		return badOption("NumTickets", "is %d, but a server that asks for client certificates sends tickets only with ResumeClientCert", o.NumTickets)
	}
	return nil
}

// applySessions applies the options about the sessions that a server gives.
func (s *sharedCtx) applySessions() error {
	o := &s.opts
	keys, option := o.TicketKeys, "TicketKeys"
	switch {
	case keys != nil:
	case o.ResumeClientCert:
		keys, option = new(TicketKeys), "ResumeClientCert"
	case o.StatefulSessions:
		keys, option = new(TicketKeys), "StatefulSessions"
	}
	if keys == nil {
		return nil
	}
	h, err := keys.handle()
	if err == nil {
		err = s.useTicketKeys(h, o.ResumeClientCert)
	}
	if err == nil {
		err = s.bindSessions(s.sessionContext())
	}
	if err != nil {
		return &OptionError{Option: option, Err: err}
	}
	if o.StatefulSessions {
		s.storeSessions()
	}
	return nil
}

// sessionContext returns a digest of the certificates and CAs of the server and of
// its options about client certificates, algorithms and ALPN. It returns nil if the
// server does not ask for a client certificate. A session is resumed only by a
// context with the same digest. CRLs are not part of it, because they change while
// sessions are valid. They are checked whenever a session is resumed.
func (s *sharedCtx) sessionContext() []byte {
	o := &s.opts
	if !o.asksClient() {
		return nil
	}
	h := sha256.New()
	ignored := slices.Compact(slices.Sorted(slices.Values(s.conn.ignore)))
	add(h, "sslfilter: sessions of clients with certificates, 1",
		fmt.Sprintf("needs %t enforce %t depth %d ignore %d CRLCheck %d CACRL %t", s.conn.needs, s.conn.enforce, o.CAVerifyDepth, ignored, o.CRLCheck, s.asksSerials()))
	s.addAlgorithms(h)
	add(h, "", string(o.alpn()))
	for i := range s.identities {
		add(h, string(s.sent(i)[0]))
	}
	add(h, "")
	for _, ca := range s.trusted() {
		add(h, string(ca))
	}
	return h.Sum(nil)
}
