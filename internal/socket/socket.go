// Package socket reads sockets with buffers from a pool. It takes a buffer only when
// there is something to read, so that a connection that waits for its peer holds no
// buffer. The Read method of a net.Conn cannot do that, because it holds the caller's
// buffer while it waits.
package socket

// Pool has buffers of one size. It can be an httputil.BufferPool.
type Pool interface {
	// Get returns a buffer. Its length is the most that one read returns.
	Get() []byte
	// Put returns a buffer of Get, which may have been shortened.
	Put([]byte)
}
