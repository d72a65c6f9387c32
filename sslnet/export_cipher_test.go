package sslnet

// HoldWriting takes the turn to write, as a Write does, until the returned function is
// called.
func (c *CipherConn) HoldWriting() (release func()) {
	c.writing.lock()
	return c.release
}

// HoldCipher takes the cipher, as a Read that receives the peer's first bytes does, until
// the returned function is called.
func (c *CipherConn) HoldCipher() (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deriving = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.deriving = false
		c.advance()
	}
}

// Closing is closed when Close has begun.
func (c *CipherConn) Closing() <-chan struct{} { return c.closed }

// OutputWaits reports whether the cipher has output that waits for the peer.
func (c *CipherConn) OutputWaits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.deriving && !c.cipher.Flushed()
}
