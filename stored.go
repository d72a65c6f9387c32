//go:build cgo

package sslfilter

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// StoredSession is a session of a server with StatefulSessions.
type StoredSession struct {
	// ID names the session. It is what the client sends when it comes back
	// (ClientHello.SessionIDs). Anyone on the network can see it.
	ID []byte
	// Data is the session, encrypted and authenticated with the TicketKeys of the
	// context, so that a store can neither read nor change it.
	Data []byte
	// Expires is the time after which the session is not resumed.
	Expires time.Time
}

// OfferSession gives a server the Data of a StoredSession with the ID that the
// client has sent, so that the handshake can resume it. It must be called before
// the first Receive, or by the function of NewServerFilter. At most four sessions
// can be offered. The id has 1 to 32 bytes, and data 1 byte to 384 KiB; otherwise
// the error is a *UsageError. If data is not the Data of this id, or if the session
// cannot be resumed now, a full handshake follows. The slices are copied.
//
// Calls SSL_CTX_sess_set_get_cb(3).
func (f *Filter) OfferSession(id, data []byte) error {
	f.calls++
	const op = "OfferSession"
	switch {
	case f.phase == phaseShut:
		return ErrClosed
	case f.err != nil:
		return f.err
	case f.phase != phaseIdle && f.phase != phaseHello:
		return &UsageError{op, "the handshake has begun"}
	case f.phase == phaseIdle && !f.ctx.opts.StatefulSessions:
		return &UsageError{op, "the Ctx does not have StatefulSessions"}
	case len(id) == 0 || len(id) > maxSessionID:
		return &UsageError{op, fmt.Sprintf("the id has %d bytes; 1 to %d are possible", len(id), maxSessionID)}
	case len(data) == 0 || len(data) > maxSession:
		return &UsageError{op, fmt.Sprintf("the session has %d bytes; 1 to %d are possible", len(data), maxSession)}
	case len(f.offered) == maxOffered:
		return &UsageError{op, fmt.Sprintf("%d sessions are offered already", maxOffered)}
	}
	f.offered = append(f.offered, StoredSession{ID: bytes.Clone(id), Data: bytes.Clone(data)})
	return nil
}

// StoredIDs returns the ids with which the client asks a server of this Ctx to
// resume sessions of NewSessions: the session id in TLS 1.2, and identities of
// pre_shared_key in TLS 1.3. There are at most four. It returns nil without
// StatefulSessions.
func (c *Ctx) StoredIDs(hello *ClientHello) (ids [][]byte) {
	if hello == nil || !c.StoresSessions() {
		return nil
	}
	ids = hello.SessionIDs
	switch _, high := c.Versions(); {
	case high >= VersionTLS13 && slices.Contains(hello.Versions, VersionTLS13):
		ids = ids[max(0, len(ids)-hello.shared):]
	case hello.hasID:
		ids = ids[:min(1, len(ids))]
	default:
		return nil
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(id []byte) bool { return len(id) != maxSessionID })
	return ids[:min(len(ids), maxOffered)]
}

// NewSessions returns the sessions that the server has given to the client since
// the last call. They belong to the caller, who puts them into a store. A full
// handshake gives one session in TLS 1.2, and as many as Options.NumTickets in TLS
// 1.3. A resumption gives at most one, with a new ID. NewSessions returns nil before
// the handshake is done, and without StatefulSessions.
//
// Calls SSL_CTX_sess_set_new_cb(3).
func (f *Filter) NewSessions() []StoredSession {
	f.calls++
	if !f.proved() || !f.ctx.opts.StatefulSessions {
		return nil
	}
	return f.ssl.takeGiven()
}

// NotResumed is the reason why a server has not resumed a session. The full
// handshake that follows is not an error.
//
// It is zero if a session was resumed or none was asked for. On a client it is always
// zero; see SessionError. Without TicketKeys, ResumeClientCert and
// StatefulSessions, OpenSSL decides alone, and the reason is not known.
type NotResumed uint8

// The constants are those of fssl_not_resumed.
const (
	// NotResumedUnknownKey: no key of TicketKeys decrypts the ticket or the stored
	// session. The key is too old, or belongs to another server, or the ticket was
	// altered.
	NotResumedUnknownKey NotResumed = iota + 1
	// NotResumedNotStored: with StatefulSessions, no session was offered
	// (OfferSession) for the id of the client.
	NotResumedNotStored
	// NotResumedExpired: the session is older than its lifetime, which is two hours for
	// the sessions of this library.
	NotResumedExpired
	// NotResumedOtherContext: the session was made by a Ctx with other certificates,
	// or with other rules about client certificates.
	NotResumedOtherContext
	// NotResumedCipher: the Ctx does not allow the cipher suite of the session, or its
	// security level excludes the suite. In TLS 1.3 also: the suite that this connection
	// uses has a hash that differs from that of the session.
	NotResumedCipher
	// NotResumedOldProof: the client last proved that it has its private key more than a
	// day ago.
	NotResumedOldProof
	// NotResumedClientCert: the certificates of the client are not valid now. They
	// have expired, one was revoked, or a CA or a CRL is missing.
	NotResumedClientCert
	// NotResumedOther: OpenSSL has refused the session for another reason. The client
	// may have asked for another TLS version.
	NotResumedOther
)

// NotResumedReasons lists all reasons.
func NotResumedReasons() []NotResumed {
	list := make([]NotResumed, NotResumedOther)
	for i := range list {
		list[i] = NotResumed(i + 1)
	}
	return list
}

// String returns one word, such as "unknown-key", or "" for zero.
func (n NotResumed) String() string {
	words := [...]string{"", "unknown-key", "not-stored", "expired", "other-context", "cipher", "old-proof", "client-cert", "other"}
	if int(n) < len(words) {
		return words[n]
	}
	return fmt.Sprintf("reason-%d", uint8(n))
}

// offerStored gives OpenSSL the sessions of OfferSession.
func (f *Filter) offerStored() {
	for _, s := range f.offered {
		if f.ctx.opts.StatefulSessions && !f.ssl.offerStored(s) {
			f.debug("there is no memory for a stored session, so a full handshake follows")
		}
	}
	f.offered = nil
}
