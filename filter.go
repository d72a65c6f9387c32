//go:build cgo

package sslfilter

import (
	"fmt"
	"slices"
)

// Filter is one end of one TLS connection, without a socket: bytes from the
// network go into Receive, bytes for the network come out of Outgoing,
// plaintext goes into Send and comes out of Receive. See the package
// documentation for the loop.
//
// A Filter can only be used by one goroutine at a time. No method blocks. All
// output is appended to slices that the caller owns, and no input is kept after
// the call.
//
// After a fatal error a Filter is frozen: Receive, Send and the other methods
// return the same error every time, and drop their input. Outgoing still
// returns the bytes that were ready before the error, and the alert for the
// peer.
type Filter struct {
	ctx     *sharedCtx
	ssl     *sslHandle  // nil after Close
	serials *crlSerials // kept alive for the verify callback, which reads it
	lists   *crlLists   // kept alive for OpenSSL's check of CRLs, which reads it
	chooser *chooser    // of NewServerFilter; otherwise nil
	err     error       // the fatal error

	listsErr error // why CRLCheck has no lists; if it is set, no peer is valid

	offered []StoredSession // of OfferSession, until the handshake begins

	name       string        // set by SetServerName or SetVerifiedName
	sni        string        // what is sent as SNI, if name is set
	alpn       []string      // set by SetALPN
	session    *sessionState // set by SetSession, until the handshake begins
	sessionErr error         // why the session is not offered

	phase    phase
	readEnd  bool     // the peer's close_notify was received, or ended is set
	logs     bool     // KeyLog is set
	aside    bool     // readEnd or logs: Receive needs its slow path
	ended    bool     // the transport ended without close_notify, and AllowMissingCloseNotify is set
	closing  bool     // CloseWrite or Detach was called
	closed   bool     // our close_notify was made
	plain    *backlog // accepted by Send, not encrypted yet; nil if nothing is
	trailing []byte   // bytes received after the peer's close_notify
	overhead int      // the most that one record adds to its plaintext, in bytes

	calls int // incremented by every method, so that -race finds concurrent calls that only C would see
}

// phase is a stage in the life of a Filter.
//
//	 idle ──start──▶ handshake ──done──▶ open ──Detach──▶ detached
//	   │                 │                 │
//	   ├─────error───────┴──────error──────┤
//	   ▼                                   ▼
//	failed: no more records               cut: ReceiveEOF without close_notify;
//	                                      Outgoing still encrypts what Send accepted
//
// A Filter of NewServerFilter begins in hello instead of idle, and its start is
// the choice of the context. Close leads from every phase to shut, which is also
// the phase of a Filter that was not made by this package.
type phase uint8

const (
	phaseShut      phase = iota // closed, no C memory left
	phaseIdle                   // nothing has happened
	phaseHello                  // the ClientHello has not arrived, and the context is not chosen
	phaseHandshake              // the first handshake is under way
	phaseOpen                   // data flow
	phaseDetached               // TLS has ended; Outgoing still returns its last records
	phaseCut                    // the input ended without close_notify
	phaseFailed                 // frozen by an error
)

const (
	// MaxPlaintext bounds the bytes that Send accepts before Outgoing takes
	// them, including the bytes that are ready for the network. It is more than
	// the 10 MiB that users of the original send at once.
	MaxPlaintext = 16 << 20
	// MaxTrailing bounds the bytes after the peer's close_notify, which Receive
	// keeps for Detach.
	MaxTrailing = 1 << 20

	recordSize   = 16384            // plaintext of a full record (RFC 8446 section 5.1)
	pieceSize    = 16 * recordSize  // plaintext in one piece of a backlog, and in one call into C
	minRoom      = 512              // minimum growth of Receive's dst
	overhead13   = 5 + 1 + 16       // header, content type and AEAD tag of TLS 1.3
	overheadMost = 5 + 16 + 48 + 16 // header, IV, MAC and padding of TLS 1.2 with CBC
)

// newFilter makes a Filter of s and takes over one of its references.
func newFilter(s *sharedCtx) (*Filter, error) {
	ssl, err := newSSL(s.ctxHandle, &s.conn)
	if err != nil {
		s.release()
		return nil, err
	}
	logs := s.opts.KeyLog != nil
	return &Filter{ctx: s, ssl: ssl, phase: phaseIdle, overhead: overheadMost, logs: logs, aside: logs}, nil
}

// Clone makes a new connection with the same Ctx, even if the Ctx has been
// closed. It copies nothing from this connection, not even the name that
// SetServerName has set. The clone of a Filter of NewServerFilter calls the same
// function to choose its context. After Close it returns ErrClosed.
//
// Corresponds to POE::Filter::SSL clone.
func (f *Filter) Clone() (*Filter, error) {
	f.calls++
	switch {
	case f.ssl == nil:
		return nil, ErrClosed
	case f.chooser != nil:
		return newChooser(f.chooser.choose)
	case !f.ctx.users.Acquire():
		return nil, ErrClosed
	}
	return newFilter(f.ctx)
}

// Handshake starts the handshake of a client, so that Outgoing has its first
// bytes. On a server, and after the first call, it does nothing. The handshake
// then continues in Receive. A nil error does not mean that the handshake is
// done; see HandshakeDone.
//
// Calls SSL_do_handshake(3).
func (f *Filter) Handshake() error {
	f.calls++
	if f.phase == phaseDetached {
		return nil
	}
	if err := f.usable(); err != nil || f.phase != phaseIdle {
		return err
	}
	return f.start("Handshake")
}

// usable returns the error of a filter that is closed or frozen, or nil.
func (f *Filter) usable() error {
	if f.phase == phaseShut {
		return ErrClosed
	}
	return f.err
}

// start begins the handshake. A usage error leaves the filter unchanged.
func (f *Filter) start(op string) error {
	o := &f.ctx.opts
	if o.Client && f.name == "" {
		named, err := f.nameFromOptions()
		if err != nil {
			return f.fail(err)
		}
		if !named && !o.InsecureSkipVerify {
			return &UsageError{op, "no server name to verify: call SetServerName, set ServerName or SNI, or InsecureSkipVerify to accept any server"}
		}
	}
	if (o.enforces() || o.ResumeClientCert) && f.ctx.asksSerials() {
		crl, err := f.ctx.serials()
		if err != nil {
			f.debug("CRL cannot be used, so every peer is refused", "error", err)
		}
		f.serials = crl
		f.ssl.setSerials(crl)
	}
	f.takeLists()
	if f.offered != nil {
		f.offerStored()
	}
	f.phase = phaseHandshake
	if !o.Client {
		return nil
	}
	if f.session != nil {
		f.offerSession()
	}
	_, _, _, st := f.ssl.receive(nil, nil)
	f.handshakeStep()
	return f.after("SSL_do_handshake", st)
}

// Receive accepts bytes from the network and appends the decrypted plaintext to
// dst. It returns the extended slice, as append does. It uses all of wire,
// which need not end at a record boundary. If it returns no new data and
// Outgoing is empty, the filter needs more input. That is not an error. If dst
// and wire share memory, wire is copied first.
//
// The error is io.EOF if the peer has sent its close_notify. The same call can
// also return data that came before the close_notify. Bytes that come after it
// are kept for Detach, at most MaxTrailing. Any other error is fatal, and data
// can still come with it. Call Outgoing after every call, even after an error.
//
// Corresponds to POE::Filter::SSL get_one_start and get_one.
// Calls SSL_do_handshake(3), SSL_read_ex(3).
func (f *Filter) Receive(dst, wire []byte) ([]byte, error) {
	f.calls++
	if f.phase != phaseOpen || f.aside {
		if f.phase == phaseHello {
			return f.receiveHello(dst, wire)
		}
		if f.logs {
			return f.receiveLogged(dst, wire)
		}
		if done, err := f.beforeReceive(wire); done {
			return dst, err
		}
	}
	if overlap(dst[len(dst):cap(dst)], wire) { // otherwise plaintext would overwrite the next record
		wire = slices.Clone(wire)
	}
	all := wire
	for {
		got, taken, more, st := f.ssl.receive(dst[len(dst):cap(dst)], wire)
		dst, wire = dst[:len(dst)+got], wire[taken:]
		if f.phase == phaseHandshake {
			f.handshakeStep()
		}
		if st != statusOK {
			return dst, f.afterReceive(all[:len(all)-len(wire)], wire, st)
		}
		if !more {
			return dst, nil
		}
		dst = slices.Grow(dst, max(minRoom, min(len(wire), recordSize)))
	}
}

// beforeReceive handles the calls of Receive before the handshake has started
// and after the data has ended. done reports that nothing is left to do;
// otherwise OpenSSL gets wire.
func (f *Filter) beforeReceive(wire []byte) (done bool, err error) {
	switch {
	case f.phase == phaseDetached:
		return true, &UsageError{"Receive", "TLS was taken off by Detach"}
	case f.usable() != nil:
		return true, f.usable()
	case f.ended && len(wire) > 0:
		return true, &UsageError{"Receive", "after ReceiveEOF"}
	case f.readEnd:
		return true, f.keepTrailing(wire)
	case f.phase == phaseIdle:
		err = f.start("Receive")
	}
	return err != nil, err
}

// afterReceive ends a Receive in which OpenSSL reported an error or the peer's
// close_notify. taken are the bytes that OpenSSL used, and rest those that it
// did not.
func (f *Filter) afterReceive(taken, rest []byte, st status) error {
	if st < statusOK {
		if f.ctx.opts.Debug != nil && f.proved() {
			if what := unencrypted(taken, rest); what != "" {
				f.debug("the peer sent " + what)
			}
		}
		return f.failure(f.readOp(), st)
	}
	f.readEnd, f.aside = true, true
	f.debug("close_notify received")
	return f.keepTrailing(rest)
}

func (f *Filter) readOp() string {
	if f.phase == phaseHandshake {
		return "SSL_do_handshake"
	}
	return "SSL_read"
}

// handshakeStep checks whether the handshake is done.
func (f *Filter) handshakeStep() {
	if !f.ssl.handshaken() {
		if f.ctx.opts.Debug != nil {
			f.debug("handshake", "state", f.ssl.state())
		}
		return
	}
	f.phase = phaseOpen
	if f.ssl.protocol() == VersionTLS13 {
		f.overhead = overhead13
	}
	if f.ctx.opts.Debug != nil {
		s := f.State()
		f.debug("handshake done", "version", s.Version.String(), "cipher", s.Cipher, "peer", f.Peer().String())
	}
}

// Send accepts plaintext for the peer, which Outgoing then returns in records.
// Plaintext that is sent before the handshake is done waits for it, in order.
// Small pieces that are sent before the next Outgoing share a record. On a
// client Send also starts the handshake, even if plain is empty.
//
// At most MaxPlaintext bytes wait. Beyond that the error is ErrBufferFull:
// nothing of plain is accepted, and the connection continues. Other errors are
// fatal, except a *UsageError after CloseWrite or Detach, or without a server
// name to verify.
//
// Corresponds to POE::Filter::SSL put.
func (f *Filter) Send(plain []byte) error {
	f.calls++
	if f.phase != phaseOpen || f.closing {
		if err := f.beforeSend(); err != nil {
			return err
		}
	}
	if f.waiting()+len(plain) > MaxPlaintext {
		return f.tooMuch(plain)
	}
	if f.phase == phaseIdle {
		if err := f.start("Send"); err != nil {
			return err
		}
	}
	if len(plain) == 0 {
		return nil
	}
	if f.plain == nil {
		f.plain = backlogs.Get().(*backlog)
	}
	f.plain.add(plain)
	return nil
}

// beforeSend returns the error of a filter that accepts no plaintext, or nil.
func (f *Filter) beforeSend() error {
	switch {
	case f.phase == phaseDetached:
		return &UsageError{"Send", "TLS was taken off by Detach"}
	case f.usable() != nil:
		return f.usable()
	case f.closing:
		return &UsageError{"Send", "after CloseWrite"}
	}
	return nil
}

// waiting counts the bytes that wait for Outgoing or for the handshake.
func (f *Filter) waiting() int { return f.pending() + f.ssl.held() }

func (f *Filter) tooMuch(plain []byte) error {
	return fmt.Errorf("%w: %d bytes wait for Outgoing or for the handshake, and %d more exceed MaxPlaintext", ErrBufferFull, f.waiting(), len(plain))
}

func (f *Filter) pending() int {
	if f.plain == nil {
		return 0
	}
	return f.plain.n
}

// Outgoing appends all bytes that are ready for the network to dst, and returns
// the extended slice, as append does: handshake messages, alerts and the
// records of the plaintext from Send. The caller must transmit them in order.
// Call it even after an error, for the alert. If OpenSSL fails in Outgoing, Err
// and the next call return the error.
//
// Corresponds to POE::Filter::SSL put.
// Calls SSL_write_ex(3), SSL_shutdown(3).
func (f *Filter) Outgoing(dst []byte) []byte {
	f.calls++
	if f.ssl == nil {
		return dst
	}
	if f.plain != nil && f.speaks() {
		dst = f.encrypt(dst)
	}
	if f.readEnd || f.closing {
		f.sayEnd()
	}
	if f.ssl != nil && f.ssl.held() > 0 { // the ErrorHandler may have closed f, which it should not
		dst = f.fetch(dst)
	}
	return dst
}

// sayEnd makes our close_notify when there is no plaintext left to send before
// it. It fails if that plaintext can never be sent.
func (f *Filter) sayEnd() {
	if !f.speaks() || f.plain == nil && (!f.closing || f.closed) {
		return
	}
	if f.readEnd && f.ssl.negotiating() {
		f.fail(f.endless("SSL_write"))
	}
	if f.closing && !f.closed && f.speaks() && f.plain == nil {
		st := f.ssl.shutdown()
		f.closed = st != statusAgain
		f.after("SSL_shutdown", st)
	}
}

// fetch appends to dst the bytes that C holds.
func (f *Filter) fetch(dst []byte) []byte {
	for f.ssl.held() > 0 {
		dst = slices.Grow(dst, f.ssl.held())
		dst = dst[:len(dst)+f.ssl.fetch(dst[len(dst):cap(dst)])]
	}
	return dst
}

// endless returns the error for plaintext that can never be sent: the peer
// closed the connection during a renegotiation, which can never complete.
func (f *Filter) endless(op string) error {
	return &Error{Op: op, Hint: "the peer closed the connection in the middle of a renegotiation"}
}

// speaks reports whether this side can make records.
func (f *Filter) speaks() bool {
	switch f.phase {
	case phaseOpen, phaseCut:
		return true
	case phaseDetached:
		return f.err == nil
	}
	return false
}

// encrypt appends to dst the records of the waiting plaintext.
func (f *Filter) encrypt(dst []byte) []byte {
	n := f.plain.n
	dst, _ = f.write(slices.Grow(dst, f.ssl.held()+n+(n+recordSize-1)/recordSize*f.overhead))
	return dst
}

// write makes the records of all waiting plaintext. It stops at an error and
// during a renegotiation. It appends to dst as many bytes as there is room for;
// C holds the rest.
func (f *Filter) write(dst []byte) ([]byte, error) {
	for f.plain != nil {
		piece := f.plain.pieces[0]
		got, taken, st := f.ssl.send(dst[len(dst):cap(dst)], piece)
		dst = dst[:len(dst)+got]
		if taken == f.plain.n {
			f.forget()
		} else {
			f.plain.drop(taken)
		}
		if st < statusOK {
			return dst, f.failure("SSL_write", st)
		}
		if taken < len(piece) {
			break
		}
	}
	return dst, nil
}

// forget drops the waiting plaintext.
func (f *Filter) forget() {
	if f.plain == nil {
		return
	}
	f.plain.clear()
	backlogs.Put(f.plain)
	f.plain = nil
}

// KeyUpdate changes the sending key of this side (TLS 1.3), and asks the peer
// to change its own if requestPeer is set. Plaintext that was sent before is
// encrypted with the old key. It returns a *UsageError, which is not fatal,
// before the handshake is done, after CloseWrite and in TLS 1.2.
//
// Calls SSL_key_update(3).
func (f *Filter) KeyUpdate(requestPeer bool) error {
	f.calls++
	switch {
	case f.phase == phaseDetached:
		return &UsageError{"KeyUpdate", "TLS was taken off by Detach"}
	case f.usable() != nil:
		return f.usable()
	case f.phase != phaseOpen:
		return &UsageError{"KeyUpdate", "the handshake is not done"}
	case f.closing:
		return &UsageError{"KeyUpdate", "after CloseWrite"}
	case f.ssl.protocol() != VersionTLS13:
		return &UsageError{"KeyUpdate", "it needs TLS 1.3, and this connection uses " + f.ssl.protocol().String()}
	}
	if _, err := f.write(nil); err != nil {
		return err
	}
	st := f.ssl.keyUpdate(requestPeer)
	f.logKeys()
	return f.after("SSL_key_update", st)
}

// Close frees all memory of the connection. It sends nothing: for an orderly
// end, call CloseWrite and transmit Outgoing before. It can be called again,
// and always returns nil.
//
// Calls SSL_free(3).
func (f *Filter) Close() error {
	f.calls++
	if f.ssl == nil {
		return nil
	}
	f.ssl.close()
	f.ssl, f.serials, f.lists, f.trailing, f.chooser, f.session = nil, nil, nil, nil, nil, nil
	f.forget()
	f.phase = phaseShut
	f.ctx.release()
	return nil
}

// HandshakeDone reports whether the handshake has completed successfully. It
// stays true after a later error. The peer may not know it yet: Flushed reports
// whether Outgoing has returned everything.
//
// Corresponds to POE::Filter::SSL handshakeDone(ignorebuf => 1).
func (f *Filter) HandshakeDone() bool {
	f.calls++
	return f.proved()
}

// Flushed reports whether Outgoing has returned everything. After an error, only
// the alert and the bytes that were ready before the error count, because
// plaintext that is not encrypted yet is never sent.
func (f *Filter) Flushed() bool {
	f.calls++
	if f.ssl == nil {
		return true
	}
	if f.phase == phaseFailed {
		return f.ssl.held() == 0
	}
	return f.ssl.held() == 0 && f.plain == nil && (f.closed || !f.closing)
}

// Err returns the fatal error that froze the filter, or nil. The peer's
// close_notify is not an error.
func (f *Filter) Err() error {
	f.calls++
	return f.err
}

func (f *Filter) debug(msg string, args ...any) {
	if log := f.ctx.opts.Debug; log != nil {
		role := "server"
		if f.ctx.opts.Client {
			role = "client"
		}
		log.Debug("sslfilter: "+msg, append(args, "role", role)...)
	}
}
