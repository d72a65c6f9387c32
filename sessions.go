//go:build cgo

package sslfilter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"
)

// Session is a TLS session that a server has given to this client. With
// SetSession, a later connection to the same server continues it, which saves
// the certificates and the signature of a full handshake. It is immutable and
// safe for concurrent use.
//
// It has the certificates that the server sent, and the OCSP response that was
// stapled to them, because they are verified again whenever the session is used.
// A client with another OpenSSL version may not be able to read or to use its
// bytes; it then makes a full handshake.
//
// WARNING: A Session holds the secret of its connection. If other people can
// read its bytes, they can decrypt connections of TLS 1.2 that used it, and
// impersonate the server or this client. If they can change its bytes, they can
// impersonate the server, because the certificates in it are public. Protect the
// bytes like a private key.
type Session struct {
	state *sessionState // nil if the session is empty; a pointer, so that printing a copy of a Session shows no secret
}

type sessionState struct {
	der           []byte
	version       Version
	made, expires time.Time
	binding       [bindingSize]byte // digests of the name, of the protocols, and of the options that determine the handshake
}

// empty reports whether s has no session in it.
func (s *Session) empty() bool { return s == nil || s.state == nil }

// MarshalBinary returns a copy of the session's bytes, which hold secrets. They
// are the DER form of OpenSSL, with the certificates of the server in it. An empty
// session is an error.
//
// Calls i2d_SSL_SESSION(3).
func (s *Session) MarshalBinary() ([]byte, error) {
	if s.empty() {
		return nil, errNoSession
	}
	return bytes.Clone(s.state.der), nil
}

// UnmarshalBinary sets a session that is not in use yet to the bytes of
// MarshalBinary, at most 384 KiB. It copies data. The error is an *Error, and s is
// then as before.
//
// Calls d2i_SSL_SESSION(3).
func (s *Session) UnmarshalBinary(data []byte) error {
	if len(data) > maxSession {
		return &Error{Op: "d2i_SSL_SESSION", Hint: fmt.Sprintf("the session has %d bytes; %d are possible", len(data), maxSession)}
	}
	read := readSession(bytes.Clone(data))
	if read == nil {
		return &Error{Op: "d2i_SSL_SESSION", Hint: "this is not a session of this library"}
	}
	s.state = read
	return nil
}

// Expires returns the moment from which the session is not offered any more. It
// is the zero time if s is empty. It is at most seven days after the full
// handshake that the session comes from (RFC 8446 section 4.6.1), even if the
// server has given the session in a resumed handshake: the server proves that it
// has its private key only in a full one.
func (s *Session) Expires() time.Time {
	if s.empty() {
		return time.Time{}
	}
	return s.state.expires
}

// Version returns the protocol version of the session. A session of TLS 1.3
// should be used only once, since an observer could recognize it (RFC 8446
// appendix C.4).
func (s *Session) Version() Version {
	if s.empty() {
		return 0
	}
	return s.state.version
}

// Size returns the number of bytes of MarshalBinary.
func (s *Session) Size() int {
	if s.empty() {
		return 0
	}
	return len(s.state.der)
}

// String describes the session without its secrets.
func (s *Session) String() string {
	if s.empty() {
		return "no session"
	}
	return fmt.Sprintf("session of %v, until %s", s.state.version, s.state.expires.Format(time.RFC3339))
}

// Format prints what String returns, whatever the verb is, so that no verb shows
// the secrets.
func (s *Session) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

var errNoSession = errors.New("sslfilter: the session is empty")

// Sessions returns the sessions that the server has given since the last call,
// oldest first. They belong to the caller. In TLS 1.2 the server gives them at the
// end of the handshake, and in TLS 1.3 after it, usually together with the first
// data: call Sessions after the handshake and after Receive. A call without a new
// session is cheap.
//
// Of the sessions that wait for a call, only the last four are kept. A session
// whose ticket has more than 16 KiB, or the lifetime 0 in TLS 1.3 (RFC 8446 section
// 4.6.1), is never kept. On a server, and before the handshake is done, the result
// is nil.
//
// Calls SSL_CTX_sess_set_new_cb(3).
func (f *Filter) Sessions() []*Session {
	f.calls++
	if f.ssl == nil || !f.ctx.opts.Client || !f.proved() {
		return nil
	}
	return f.ssl.takeSessions(f.bind)
}

// SetSession offers a session to the server, which may continue it or do a full
// handshake. It must be called on a client before the handshake; otherwise it
// returns a *UsageError. A nil session takes back an earlier call.
//
// When the handshake begins, the session is offered only if a full handshake with
// the present options could have produced it: it was made for the same server
// name, protocols (Options.ALPN, SetALPN), certificates of this side and options of
// the handshake (ciphers, groups, signature algorithms, security level, FIPS); its
// version is allowed; it has not expired; and its certificates and its OCSP
// response are acceptable with the CAs, CRLs, clock and options of this moment.
// They are verified again in any case, even if the connection that the session came
// from verified nothing. If one of the conditions is not met, the handshake is a
// full one, and SessionError says why.
//
// If the server continues the session, the result of this verification is that
// of the connection: Peer, ClientCertValid and ClientCertIDs return what they
// would return after a full handshake. See Resumed.
//
// Calls SSL_set_session(3), X509_verify_cert(3).
func (f *Filter) SetSession(s *Session) error {
	f.calls++
	const op = "SetSession"
	if err := f.idleClient(op); err != nil {
		return err
	}
	if s != nil && s.empty() {
		return &UsageError{op, "the session is empty"}
	}
	f.session, f.sessionErr = nil, nil
	if s != nil {
		f.session = s.state
	}
	return nil
}

// SessionError returns the reason why the session of SetSession was not offered
// to the server, or nil. If the reason is a certificate, the error matches a
// *VerifyError. After Close it is ErrClosed.
func (f *Filter) SessionError() error {
	f.calls++
	if f.ssl == nil {
		return ErrClosed
	}
	return f.sessionErr
}

// SessionKey returns a key for a cache of sessions. Two clients have the same key if
// each can use the sessions of the other: their server names, protocols,
// certificates, CAs, CRLs and other options of the verification and of the handshake
// are the same. The key is a digest, which does not reveal these values. On a server,
// and if no server name is set, it is "".
func (f *Filter) SessionKey() string {
	f.calls++
	if f.ssl == nil || !f.ctx.opts.Client {
		return ""
	}
	if f.wantedName() == "" {
		return ""
	}
	b := f.bind()
	sum := sha256.New()
	sum.Write(b[:])
	sum.Write(f.ctx.sessionScope().trust[:])
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// bind returns the binding of sessions of this connection.
func (f *Filter) bind() (b [bindingSize]byte) {
	o := &f.ctx.opts
	protocols := f.alpn
	if protocols == nil {
		protocols = o.ALPN
	}
	sni := o.nameToSend()
	if f.name != "" {
		sni = f.sni
	}
	copy(b[:], digest(f.wantedName(), sni))
	copy(b[sha256.Size:], digest(protocols...))
	copy(b[2*sha256.Size:], f.ctx.sessionScope().handshake[:])
	return b
}

// offerSession offers the session of SetSession when the handshake begins.
func (f *Filter) offerSession() {
	s := f.session
	f.session = nil
	if f.sessionErr = f.unfit(s); f.sessionErr == nil {
		f.sessionErr = f.ssl.offer(s)
	}
	if f.sessionErr != nil {
		f.sessionErr = fmt.Errorf("the session is not offered: %w", f.sessionErr)
		f.debug("full handshake", "reason", f.sessionErr)
	}
}

// unfit returns the reason why a handshake of this connection could not have
// produced a session, or nil. It does not look at the certificates.
func (f *Filter) unfit(s *sessionState) error {
	now := time.Now()
	low, high := f.ctx.low, f.ctx.high
	bound := f.bind()
	same := func(i int) bool {
		return bytes.Equal(s.binding[i*sha256.Size:(i+1)*sha256.Size], bound[i*sha256.Size:(i+1)*sha256.Size])
	}
	switch {
	case !same(0):
		return errors.New("it was made for another server name")
	case !same(1):
		return errors.New("it was made with other protocols (ALPN)")
	case !same(2):
		return errors.New("it was made with another certificate of this side, or with other options of the handshake")
	case s.version < low || high != 0 && s.version > high:
		return fmt.Errorf("its version %v is not offered", s.version)
	case !now.Before(s.expires):
		return fmt.Errorf("it expired at %s", s.expires.Format(time.RFC3339))
	case s.made.After(now.Add(sessionSkew)):
		return fmt.Errorf("it was made in the future, at %s; check the clock", s.made.Format(time.RFC3339))
	}
	return nil
}

// sessionSkew is the time by which the clock may have gone back since a session
// was made.
const sessionSkew = 5 * time.Minute

// sessionScope has digests of the options of a client on which sessions depend.
type sessionScope struct {
	handshake [sha256.Size]byte // this side's certificates, and the options about ciphers and keys
	trust     [sha256.Size]byte // the CAs, and the options about the peer's certificate
}

// sessionScope returns the digests, and makes them in the first call. CRLs in memory
// count by their content, and files by their names.
func (s *sharedCtx) sessionScope() *sessionScope {
	s.scopeOnce.Do(func() {
		o := &s.opts
		h := sha256.New()
		for i := range s.identities {
			add(h, string(s.identities[i].shown.DER))
		}
		add(h, "")
		for _, name := range s.ciphers {
			add(h, name)
		}
		add(h, "")
		s.addAlgorithms(h)
		h.Sum(s.scope.handshake[:0])

		h.Reset()
		whole := true
		if s.ownCAs {
			cas := s.trusted()
			whole = len(cas) > 0
			for _, der := range cas {
				whole = whole && der != nil
				add(h, string(der))
			}
		}
		if !whole { // memory is short, so this context has a scope of its own
			add(h, fmt.Sprintf("%p", s))
		}
		add(h, fmt.Sprint(s.ownCAs, o.InsecureSkipVerify, o.CAVerifyDepth, int(o.CRLCheck), o.ReadCRLOnce, o.AllowMissingCRL, o.AllowExpiredCRL, int(o.OCSPCheck), s.low, s.high), o.CACRL)
		ignored := slices.Clone(o.IgnoreVerifyErrors)
		slices.Sort(ignored)
		add(h, fmt.Sprint(slices.Compact(ignored)))
		for _, file := range o.CRLFiles {
			add(h, file)
		}
		h.Write(s.crlSum)
		h.Sum(s.scope.trust[:0])
	})
	return &s.scope
}

// addAlgorithms adds the options about the algorithms of a handshake to a digest,
// except for the cipher suites.
func (s *sharedCtx) addAlgorithms(h hash.Hash) {
	o := &s.opts
	add(h, o.Groups, o.SignatureAlgorithms, fmt.Sprint(s.securityLevel(), s.lib.made(), o.FIPS))
	for _, c := range o.Conf {
		add(h, c.Name, c.Value)
	}
}

// sumCRLs notes the digest of the CRLs in memory, which the context does not keep
// as text.
func (s *sharedCtx) sumCRLs() {
	if o := &s.opts; o.Client && (o.CACRLMem != nil || o.CRLMem != nil) {
		h := sha256.New()
		add(h, string(o.CACRLMem))
		for _, crl := range o.CRLMem {
			add(h, string(crl))
		}
		s.crlSum = h.Sum(nil)
	}
}

// add adds texts to a digest, each after its length.
func add(h hash.Hash, texts ...string) {
	for _, t := range texts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(t)))
		h.Write(n[:])
		io.WriteString(h, t)
	}
}

func digest(texts ...string) []byte {
	h := sha256.New()
	add(h, texts...)
	return h.Sum(nil)
}
