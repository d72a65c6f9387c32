package sslnet

// HoldWriting takes the turn to write, as a Write does, until the returned function is
// called.
func (c *CipherConn) HoldWriting() (release func()) {
	c.writing.Lock()
	return c.release
}
