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
// output is appended to slices that the caller owns, and no input is kept
// beyond the call.
//
// After a fatal error a Filter is frozen: Receive, Send and the like return
// the same error every time, input is dropped, and Outgoing still hands out
// what was made before, the alert for the peer among it.
type Filter struct {
	ctx     *sharedCtx
	ssl     *sslHandle  // nil after Close
	serials *crlSerials // keeps what the verify callback reads
	lists   *crlLists   // keeps what OpenSSL's check of CRLs reads
	phase   phase
	err     error // what froze the filter

	listsErr error // why CRLCheck has nothing to check, so that nobody is valid

	name     string   // of SetServerName
	readEnd  bool     // the peer's close_notify has come, or ended has
	ended    bool     // the transport ended without it, as AllowMissingCloseNotify admits
	closing  bool     // CloseWrite or Detach was called
	closed   bool     // our close_notify is made
	plain    *backlog // accepted by Send, not encrypted yet; nil is none
	trailing []byte   // what came behind the peer's close_notify
	overhead int      // of one record, at most

	calls int // bumped by every method, so that -race sees misuse that C hides
}

// phase is where a Filter is in its life.
//
//	 idle ──start──▶ handshake ──done──▶ open ──Detach──▶ detached
//	   │                 │                 │
//	   ├─────error───────┴──────error──────┤
//	   ▼                                   ▼
//	failed: nothing is made any more      cut: ReceiveEOF without close_notify;
//	                                      what Send accepted is still made
//
// Close leads from everywhere to shut, which is also where a Filter is that
// nobody made.
type phase uint8

const (
	phaseShut      phase = iota // closed, no C memory left
	phaseIdle                   // nothing has happened
	phaseHandshake              // the first handshake is under way
	phaseOpen                   // data flow
	phaseDetached               // TLS is off; Outgoing still empties
	phaseCut                    // the input ended without close_notify
	phaseFailed                 // frozen by an error
)

const (
	// MaxPlaintext bounds what Send accepts before Outgoing takes it, in bytes,
	// what is ready for the network counted in. It is more than the 10 MiB
	// that users of the original send at once.
	MaxPlaintext = 16 << 20
	// MaxTrailing bounds what Receive keeps for Detach behind the peer's
	// close_notify, in bytes.
	MaxTrailing = 1 << 20

	recordSize   = 16384           // plaintext of a full record (RFC 8446 section 5.1)
	pieceSize    = 16 * recordSize // plaintext in one piece of a backlog, and in one crossing
	minRoom      = 512             // least growth of Receive's dst
	overhead13   = 5 + 1 + 16
	overheadMost = 5 + 16 + 48 + 16 // header, IV, MAC and padding of TLS 1.2 with CBC
)

// newFilter makes a Filter of s and takes over one reference to it.
func newFilter(s *sharedCtx) (*Filter, error) {
	ssl, err := newSSL(s.ctxHandle, &s.conn)
	if err != nil {
		s.release()
		return nil, err
	}
	return &Filter{ctx: s, ssl: ssl, phase: phaseIdle, overhead: overheadMost}, nil
}

// Clone makes a new connection of the same Ctx, also after that was closed.
// Nothing of this connection goes over, a name of SetServerName included.
//
// Corresponds to POE::Filter::SSL clone.
func (f *Filter) Clone() (*Filter, error) {
	f.calls++
	if f.ssl == nil || !f.ctx.users.Acquire() {
		return nil, ErrClosed
	}
	return newFilter(f.ctx)
}

// Handshake starts the handshake of a client, so that Outgoing has its first
// bytes. On a server, and when it was called before, it does nothing. All
// other progress comes with Receive; nil does not mean that the handshake is
// done.
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

// usable is the error of a filter that takes no more calls, or nil.
func (f *Filter) usable() error {
	if f.phase == phaseShut {
		return ErrClosed
	}
	return f.err
}

// start begins the handshake. A usage error leaves the filter as it was.
func (f *Filter) start(op string) error {
	o := &f.ctx.opts
	if o.Client && f.name == "" {
		named, err := f.nameFromOptions()
		if err != nil {
			return err
		}
		if !named && !o.InsecureSkipVerify {
			return &UsageError{op, "no server name to verify: call SetServerName, set ServerName or SNI, or InsecureSkipVerify to accept any server"}
		}
	}
	if o.enforces() && f.ctx.asksSerials() {
		crl, err := f.ctx.serials()
		if err != nil {
			f.debug("CRL cannot be used, so every peer is refused", "error", err)
		}
		f.serials = crl
		f.ssl.setSerials(crl)
	}
	f.takeLists()
	f.phase = phaseHandshake
	if !o.Client {
		return nil
	}
	_, _, _, st := f.ssl.receive(nil, nil)
	f.handshakeStep()
	return f.after("SSL_do_handshake", st)
}

// Receive takes bytes from the network and appends the plaintext that came of
// them to dst, which it returns as append does. It takes all of wire, however
// it is cut. Nothing new in the result and nothing in Outgoing means that more
// input is needed; that is no error. Where dst and wire share memory, wire is
// copied first.
//
// The error is io.EOF once the peer's close_notify has come, possibly together
// with data in front of it; what comes behind it is kept for Detach, at most
// MaxTrailing bytes. Any other error is fatal, and data may still come with
// it. Take Outgoing after every call, after an error too.
//
// Corresponds to POE::Filter::SSL get_one_start and get_one.
// Calls SSL_do_handshake(3), SSL_read_ex(3).
func (f *Filter) Receive(dst, wire []byte) ([]byte, error) {
	f.calls++
	if f.phase != phaseOpen || f.readEnd {
		if done, err := f.beforeReceive(wire); done {
			return dst, err
		}
	}
	if overlap(dst[len(dst):cap(dst)], wire) { // a record's plaintext would land on the next record
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

// beforeReceive is Receive outside of the flow of data. done is all of it;
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

// afterReceive is the end of a Receive that met something else than data; taken
// is what OpenSSL took, and rest what it left.
func (f *Filter) afterReceive(taken, rest []byte, st status) error {
	if st < statusOK {
		if f.ctx.opts.Debug != nil && f.proved() {
			if what := unencrypted(taken, rest); what != "" {
				f.debug("the peer sent " + what)
			}
		}
		return f.failure(f.readOp(), st)
	}
	f.readEnd = true
	f.debug("close_notify received")
	return f.keepTrailing(rest)
}

func (f *Filter) readOp() string {
	if f.phase == phaseHandshake {
		return "SSL_do_handshake"
	}
	return "SSL_read"
}

// handshakeStep looks whether the handshake is done.
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

// Send accepts plaintext for the peer; Outgoing hands it out in records. What
// is sent before the handshake is done is kept in order. Small pieces that are
// sent before the next Outgoing share a record. On a client that has not
// started, Send starts the handshake, also with nothing to send.
//
// At most MaxPlaintext bytes wait; beyond that the error is ErrBufferFull,
// nothing of plain is kept, and the connection goes on.
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

// beforeSend is the error of a filter that takes no plaintext, or nil.
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

// Outgoing appends all bytes that wait for the network to dst, which it
// returns as append does: handshake messages, alerts and the records of what
// was sent. The caller owns them and must transmit them in order. It also
// works after an error, for the alert. If OpenSSL fails here, the error is in
// Err and in the next call.
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
	if f.ssl != nil && f.ssl.held() > 0 { // an ErrorHandler that was told above may have closed it, though it should not
		dst = f.fetch(dst)
	}
	return dst
}

// sayEnd makes our close_notify once nothing is to be sent in front of it, and
// fails where that will never be.
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

// fetch appends to dst what C holds.
func (f *Filter) fetch(dst []byte) []byte {
	for f.ssl.held() > 0 {
		dst = slices.Grow(dst, f.ssl.held())
		dst = dst[:len(dst)+f.ssl.fetch(dst[len(dst):cap(dst)])]
	}
	return dst
}

// endless is the error of a side that still has to speak after the peer closed
// in the middle of a renegotiation: that will never be complete.
func (f *Filter) endless(op string) error {
	return &Error{Op: op, Hint: "the peer closed the connection in the middle of a renegotiation"}
}

// speaks reports whether records can be made.
func (f *Filter) speaks() bool {
	switch f.phase {
	case phaseOpen, phaseCut:
		return true
	case phaseDetached:
		return f.err == nil
	}
	return false
}

// encrypt appends to dst the records of the plaintext that waits.
func (f *Filter) encrypt(dst []byte) []byte {
	n := f.plain.n
	dst, _ = f.write(slices.Grow(dst, f.ssl.held()+n+(n+recordSize-1)/recordSize*f.overhead))
	return dst
}

// write makes the records of all plaintext that waits, but not behind an error or
// in the middle of a renegotiation. They are appended to dst as far as it has
// room; C holds the rest.
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

// forget drops the plaintext that waits.
func (f *Filter) forget() {
	if f.plain == nil {
		return
	}
	f.plain.clear()
	backlogs.Put(f.plain)
	f.plain = nil
}

// KeyUpdate changes the key of our direction (TLS 1.3), and asks the peer to
// change its own if requestPeer is set. What was sent before goes out under
// the old key.
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
		return &UsageError{"KeyUpdate", "TLS 1.3 has it, this is " + f.ssl.protocol().String()}
	}
	if _, err := f.write(nil); err != nil {
		return err
	}
	return f.after("SSL_key_update", f.ssl.keyUpdate(requestPeer))
}

// Close frees all memory of the connection. It sends nothing: CloseWrite and
// Outgoing come first where the peer shall see an orderly end. It is
// idempotent.
//
// Calls SSL_free(3).
func (f *Filter) Close() error {
	f.calls++
	if f.ssl == nil {
		return nil
	}
	f.ssl.close()
	f.ssl, f.serials, f.lists, f.trailing = nil, nil, nil, nil
	f.forget()
	f.phase = phaseShut
	f.ctx.release()
	return nil
}

// HandshakeDone reports whether the handshake is complete and succeeded. It
// stays true after a later error. Flushed tells whether the peer can know.
//
// Corresponds to POE::Filter::SSL handshakeDone(ignorebuf => 1).
func (f *Filter) HandshakeDone() bool {
	f.calls++
	return f.proved()
}

// Flushed reports whether Outgoing has handed out everything. After an error
// that is the alert: what was sent and is not encrypted never leaves.
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

// Err is the fatal error that froze the filter, or nil. The peer's
// close_notify is none.
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
