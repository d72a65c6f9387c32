package sslnet

// HoldWriting takes the turn to write, as a Write does, until the returned function is
// called.
func (c *CipherConn) HoldWriting() (release func()) {
	c.writing.Lock()
	return c.release
}

// OutputWaits reports whether the cipher has output that waits for the peer.
func (c *CipherConn) OutputWaits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.deriving && !c.cipher.Flushed()
}
