//go:build cgo

package sslfilter

import (
	"fmt"
	"io"
	"slices"
)

// Cipher is one end of a connection, or of a file, that is encrypted with a
// static key instead of TLS. It has the shape of a Filter: bytes from the network
// go into Receive, bytes for the network come out of Outgoing, plaintext goes
// into Send and comes out of Receive. It can be a layer of a filter.Stack, alone,
// above or below TLS.
//
//	network bytes  ──Receive──▶ ┌────────┐ ──▶ plaintext
//	                            │ Cipher │
//	network bytes ◀──Outgoing── └────────┘ ◀──Send── plaintext
//
// With CipherSealed, the default, every byte is authenticated, and ReceiveEOF
// distinguishes the end of the stream from a truncated one. The peer is a Cipher
// with the same key or passphrase, the same Cipher option and the other role.
// Outgoing puts everything that Send has accepted since the last call into as few
// records as possible. To send a line of a conversation as a record of its own,
// call Outgoing after it. A client can send before the server answers, so an
// encrypted file is simply the output of a client.
//
// WARNING: A static key does not give what TLS gives.
//   - It has no forward secrecy: a person who obtains the key can decrypt
//     everything that was ever recorded.
//   - The client's first flight is not fresh: an attacker can send a recorded one
//     again, also to several servers, and a server accepts it. Fresh reports
//     whether the peer has answered this side's random salt. Data that a client
//     receives is always fresh.
//   - An attacker who obtains the key can impersonate the server or the client.
//   - The lengths of records and the times at which they are sent are visible.
//
// CipherEnc authenticates nothing; see its comment.
//
// A Cipher can only be used by one goroutine at a time, except for Cancel. No method
// blocks, but deriving a key from a passphrase takes CPU time. With CipherSealed this
// happens in NewCipher on a client, and on a server in the Receive that gets the
// client's header. That Receive may first have to wait while many other keys are
// derived in the process; Cancel ends this wait. With CipherEnc it happens in the first
// Outgoing that has output, and in the Receive that completes the salt. All output is
// appended to slices that the caller owns, and no input is kept after the call.
//
// After a fatal error a Cipher is frozen: Receive, Send and the other methods
// return the same error every time, and Outgoing returns nothing.
type Cipher struct {
	handle *cipherHandle // nil after Close
	format cipherCoder
	err    error // the fatal error

	phase    phase // phaseOpen, phaseDetached, phaseCut, phaseFailed or phaseShut
	readEnd  bool  // the peer's stream has ended
	closing  bool  // CloseWrite or Detach was called
	closed   bool  // the end of our stream was made
	plain    *backlog
	trailing []byte // bytes received after the end of the peer's stream
	last     []byte // plaintext that the end of the transport has completed

	calls int // detects concurrent use, as in Filter
}

// CipherFormat is what a Cipher writes and reads.
type CipherFormat uint8

const (
	// CipherSealed is a stream of authenticated records, which docs/direct-cipher.md
	// describes to the byte. A record that was altered, dropped, repeated,
	// reordered or reflected is an error, and so is a stream without its end.
	CipherSealed CipherFormat = iota
	// CipherEnc is the format of "openssl enc -pbkdf2": "Salted__", a salt of 8
	// bytes, and the ciphertext; with Key and IV (-K and -iv) the ciphertext alone.
	// The end of the transport is the end of the stream: ReceiveEOF decrypts the
	// last block, which Finish returns.
	//
	// WARNING: CipherEnc authenticates nothing. An attacker can alter the
	// plaintext unnoticed. In the block modes CBC and ECB, a wrong passphrase
	// and altered or truncated data are usually noticed at the end, after the
	// wrong plaintext was returned, and 1 in 256 times not at all; in the stream
	// modes they are never noticed.
	CipherEnc
)

// cipherCoder is a format. Its errors are fatal.
type cipherCoder interface {
	// speaks reports whether this side can encode now.
	speaks() bool
	// start notes that the caller uses the cipher, after which a client may send.
	start()
	// owes reports whether answer would append something.
	owes() bool
	// answer appends what this side has to send without plaintext.
	answer(dst []byte) ([]byte, error)
	// encode appends the encoding of plain, which is not empty.
	encode(dst, plain []byte) ([]byte, error)
	// finish appends the end of this side's stream.
	finish(dst []byte) ([]byte, error)
	// room is the most that encode appends for n bytes.
	room(n int) int
	// decode appends the plaintext of wire. end reports that the peer's stream has
	// ended, and rest are the bytes after it.
	decode(dst, wire []byte) (plain, rest []byte, end bool, err error)
	// inputEnd handles the end of the transport. A nil error means that it is the
	// end of the peer's stream, and last the plaintext that it completes.
	inputEnd() (last []byte, err error)
	// wipe forgets secrets.
	wipe()
}

// Receive accepts bytes from the network and appends the decrypted plaintext to
// dst. It returns the extended slice, as append does. It uses all of wire, which
// need not end at a record boundary. If dst and wire share memory, wire is copied
// first.
//
// The error is io.EOF after the peer has ended its stream. The same call can also
// return data that came before the end. Bytes that come after it are kept for
// Detach, at most MaxTrailing. Any other error is fatal. If a record of CipherSealed
// is not authentic, none of its plaintext is returned. Call Outgoing after every
// Receive.
//
// Calls EVP_DecryptUpdate(3).
func (c *Cipher) Receive(dst, wire []byte) ([]byte, error) {
	c.calls++
	switch {
	case c.phase == phaseDetached:
		return dst, &UsageError{"Receive", "the cipher was taken off by Detach"}
	case c.usable() != nil:
		return dst, c.usable()
	case c.readEnd && c.enc() && len(wire) > 0:
		return dst, &UsageError{"Receive", "after ReceiveEOF"}
	case c.readEnd:
		return dst, c.keepTrailing(wire)
	}
	c.format.start()
	if overlap(dst[len(dst):cap(dst)], wire) {
		wire = slices.Clone(wire)
	}
	dst, rest, end, err := c.format.decode(dst, wire)
	switch {
	case err != nil:
		return dst, c.failed(err)
	case end:
		c.readEnd = true
		return dst, c.keepTrailing(rest)
	}
	return dst, nil
}

// failed freezes the cipher, unless err is a mistake of the caller.
func (c *Cipher) failed(err error) error {
	if usage, ok := err.(*UsageError); ok {
		return usage
	}
	return c.fail(err)
}

// keepTrailing keeps bytes that came after the end of the peer's stream. It
// normally returns io.EOF.
func (c *Cipher) keepTrailing(wire []byte) error {
	if len(c.trailing)+len(wire) > MaxTrailing {
		return fmt.Errorf("%w: more than %d bytes after the end of the peer's stream; Detach returns them", ErrBufferFull, MaxTrailing)
	}
	c.trailing = append(c.trailing, wire...)
	return io.EOF
}

// ReceiveEOF tells the cipher that the transport ended. It returns io.EOF if the
// peer had ended its stream, and otherwise a *TruncatedError, whose InHandshake
// is true before the peer's first record. After a *TruncatedError the cipher
// accepts no more input, but Outgoing still returns what Send accepted before.
//
// With CipherEnc, the end of the transport is the end of the stream: ReceiveEOF
// returns io.EOF, and Finish returns the last bytes of plaintext. An *Error means a
// wrong key or damaged data, if the format can detect it. A *TruncatedError means that
// the stream ended inside its header of 16 bytes.
func (c *Cipher) ReceiveEOF() error {
	c.calls++
	switch {
	case c.phase == phaseShut:
		return ErrClosed
	case c.readEnd:
		return io.EOF
	case c.err != nil:
		return c.err
	}
	last, err := c.format.inputEnd()
	if err == nil {
		c.readEnd, c.last = true, last
		return io.EOF
	}
	c.fail(err)
	if _, cut := err.(*TruncatedError); cut {
		c.phase = phaseCut
	}
	return c.err
}

// Finish appends the last bytes of plaintext to dst, and returns the extended
// slice, as append does. Only a block mode of CipherEnc has such bytes, after
// ReceiveEOF has returned io.EOF; before that, Finish returns a *UsageError. A
// filter.Stack calls Finish by itself.
func (c *Cipher) Finish(dst []byte) ([]byte, error) {
	c.calls++
	switch {
	case c.phase == phaseDetached:
		return dst, &UsageError{"Finish", "the cipher was taken off by Detach"}
	case c.usable() != nil:
		return dst, c.usable()
	case !c.readEnd:
		return dst, &UsageError{"Finish", "the peer's stream has not ended"}
	}
	dst = append(dst, c.last...)
	clear(c.last)
	c.last = nil
	return dst, nil
}

// enc reports whether the format is CipherEnc.
func (c *Cipher) enc() bool {
	_, enc := c.format.(*encCoder)
	return enc
}

// Send accepts plaintext for the peer, which Outgoing then returns encrypted.
// With CipherSealed, what a server sends waits until the client's first record
// has arrived. On a client, Send also makes Outgoing return the header, even if
// plain is empty.
//
// At most MaxPlaintext bytes wait. Beyond that the error is ErrBufferFull:
// nothing of plain is accepted, and the cipher can still be used. After
// CloseWrite or Detach the error is a *UsageError. Other errors are fatal.
func (c *Cipher) Send(plain []byte) error {
	c.calls++
	if err := c.accept(plain); err != nil || len(plain) == 0 {
		return err
	}
	c.keep(plain)
	return nil
}

// accept reports whether Send may accept plain, and notes that this side sends.
func (c *Cipher) accept(plain []byte) error {
	switch {
	case c.phase == phaseDetached:
		return &UsageError{"Send", "the cipher was taken off by Detach"}
	case c.usable() != nil:
		return c.usable()
	case c.closing:
		return &UsageError{"Send", "after CloseWrite"}
	case c.waiting()+len(plain) > MaxPlaintext:
		return fmt.Errorf("%w: %d bytes wait for Outgoing or for the client's first record, and %d more exceed MaxPlaintext", ErrBufferFull, c.waiting(), len(plain))
	}
	c.format.start()
	if enc, ok := c.format.(*encCoder); ok && len(plain) > 0 {
		return enc.claim()
	}
	return nil
}

// keep keeps plain until Outgoing.
func (c *Cipher) keep(plain []byte) {
	if c.plain == nil {
		c.plain = backlogs.Get().(*backlog)
	}
	c.plain.add(plain)
}

// SendOutgoing is Send and Outgoing in one call: it accepts plain and appends all bytes
// that are ready for the network to dst. If no other plaintext waits, it encrypts plain
// without a copy. The bytes are those that the two calls would return. As with Send, at
// most MaxPlaintext bytes are accepted. plain and the memory after dst may overlap.
//
// If Send would return an error, SendOutgoing returns that error and dst as it is;
// Outgoing may still have output. If OpenSSL fails, the error is fatal, and dst has the
// bytes that were made before.
//
// Calls EVP_EncryptUpdate(3).
func (c *Cipher) SendOutgoing(dst, plain []byte) ([]byte, error) {
	c.calls++
	if err := c.accept(plain); err != nil {
		return dst, err
	}
	if len(plain) > 0 && (c.plain != nil || !c.format.speaks() || overlap(dst[len(dst):cap(dst)], plain)) {
		c.keep(plain)
		plain = nil
	}
	if !c.format.speaks() {
		return dst, nil
	}
	dst, err := c.write(dst, plain)
	return dst, c.wrote(err)
}

func (c *Cipher) waiting() int {
	if c.plain == nil {
		return 0
	}
	return c.plain.n
}

// Outgoing appends all bytes that are ready for the network to dst, and returns
// the extended slice, as append does. The caller must transmit them in order. If
// OpenSSL fails in Outgoing, Err and the next call return the error.
//
// Calls EVP_EncryptUpdate(3).
func (c *Cipher) Outgoing(dst []byte) []byte {
	c.calls++
	if !c.mayWrite() || !c.format.speaks() {
		return dst
	}
	dst, err := c.write(dst, nil)
	c.wrote(err)
	return dst
}

// wrote freezes the cipher if write has failed, even after the end of the transport,
// because part of the plaintext was encrypted. It returns err.
func (c *Cipher) wrote(err error) error {
	if err != nil {
		c.phase, c.err = phaseFailed, err
		c.forget()
	}
	return err
}

// mayWrite reports whether this phase has output.
func (c *Cipher) mayWrite() bool {
	return c.phase == phaseOpen || c.phase == phaseCut || c.phase == phaseDetached && c.err == nil
}

// write appends the output. plain is encrypted after the plaintext that waits.
func (c *Cipher) write(dst, plain []byte) ([]byte, error) {
	dst, err := c.format.answer(dst)
	if err == nil && c.plain != nil {
		dst = slices.Grow(dst, c.format.room(c.plain.n))
		for _, piece := range c.plain.pieces {
			if dst, err = c.format.encode(dst, piece); err != nil {
				return dst, err
			}
		}
		c.forget()
	}
	if err == nil && len(plain) > 0 {
		dst = slices.Grow(dst, c.format.room(len(plain)))
		dst, err = c.format.encode(dst, plain)
	}
	if err == nil && c.closing && !c.closed {
		c.closed = true
		dst, err = c.format.finish(dst)
	}
	return dst, err
}

// forget drops the waiting plaintext.
func (c *Cipher) forget() {
	if c.plain == nil {
		return
	}
	c.plain.clear()
	backlogs.Put(c.plain)
	c.plain = nil
}

// CloseWrite ends this side's stream: Outgoing returns what was sent and then the
// end of the stream. Reading is possible until the end of the peer's stream. On a
// server, CloseWrite takes effect after the client's first record has arrived. With
// CipherEnc and Key, CloseWrite has no effect on a side that decrypts, and otherwise
// makes it one that encrypts.
func (c *Cipher) CloseWrite() error {
	c.calls++
	if c.phase == phaseDetached {
		return nil
	}
	if err := c.usable(); err != nil {
		return err
	}
	c.format.start()
	c.closing = true
	if enc, ok := c.format.(*encCoder); ok && enc.claim() != nil {
		c.closed = true // a side that decrypts with Key has no stream of its own
	}
	return nil
}

// Detach ends the encryption and keeps the connection. It can be called once the
// peer has ended its stream, which is when Receive returns io.EOF. It returns the
// bytes that came after the end, at most MaxTrailing, which belong to the caller.
// Outgoing then returns what was sent and the end of this side's stream. The caller
// must transmit that before anything else.
//
// If the peer has not ended its stream, Detach returns a *UsageError and changes
// nothing. It does the same with CipherEnc, whose streams end only with the
// transport.
func (c *Cipher) Detach() ([]byte, error) {
	c.calls++
	switch {
	case c.phase == phaseDetached:
		return nil, &UsageError{"Detach", "the cipher was taken off before"}
	case c.usable() != nil:
		return nil, c.usable()
	case c.enc():
		return nil, &UsageError{"Detach", "a stream of CipherEnc ends only with the transport"}
	case !c.readEnd:
		return nil, &UsageError{"Detach", "the peer has not ended its stream; call CloseWrite and receive until io.EOF"}
	}
	c.phase, c.closing = phaseDetached, true
	rest := c.trailing
	c.trailing = nil
	return rest, nil
}

// Cancel ends the wait of a server's Receive for its turn to derive a key from a
// passphrase. This Receive, or the next one that would derive a key, returns ErrClosed,
// which is then fatal. A key that is being derived is not interrupted. Cancel is the
// only method that may be called while another one is in progress. It frees nothing:
// call Close after the other call has returned. With CipherEnc it has no effect.
func (c *Cipher) Cancel() {
	if s, ok := c.format.(*sealedCoder); ok {
		s.cancel()
	}
}

// Close frees the cipher and wipes its keys. It sends nothing: for an orderly
// end, call CloseWrite and transmit Outgoing before. It can be called again, and
// always returns nil.
func (c *Cipher) Close() error {
	c.calls++
	if c.handle == nil {
		return nil
	}
	c.handle.close()
	c.format.wipe()
	clear(c.last)
	c.handle, c.trailing, c.last = nil, nil, nil
	c.forget()
	c.phase = phaseShut
	return nil
}

// Flushed reports whether Outgoing has returned everything that it can encrypt.
// With a block mode of CipherEnc, an incomplete block waits for CloseWrite. After
// an error, plaintext that is not encrypted yet is never sent and does not count.
func (c *Cipher) Flushed() bool {
	c.calls++
	if !c.mayWrite() {
		return true
	}
	return c.plain == nil && (c.closed || !c.closing) && !c.format.owes()
}

// Err returns the fatal error that froze the cipher, or nil. The end of the
// peer's stream is not an error.
func (c *Cipher) Err() error {
	c.calls++
	return c.err
}

// Fresh reports whether everything that arrives from now on was made for this
// connection: its keys depend on the random salt of this side, so that it cannot
// be a recording. On a client, Fresh is true as soon as the server's first record
// has arrived, and all data that Receive returns is fresh. On a server, Fresh is
// false until the client has answered the server's header: the data of the client's
// first flight may be a recording. With CipherEnc, Fresh is always false.
func (c *Cipher) Fresh() bool {
	c.calls++
	s, sealed := c.format.(*sealedCoder)
	return sealed && c.handle != nil && s.met && c.handle.fresh()
}

// usable returns the error of a cipher that is closed or frozen, or nil.
func (c *Cipher) usable() error {
	if c.phase == phaseShut {
		return ErrClosed
	}
	return c.err
}

// fail freezes the cipher and returns the error that froze it, which may be an
// earlier one.
func (c *Cipher) fail(err error) error {
	if c.err != nil {
		return c.err
	}
	c.err = err
	if c.phase != phaseDetached {
		c.phase = phaseFailed
	}
	return err
}
