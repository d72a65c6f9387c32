package sslnet

import (
	"context"
	"io"
)

// WriteTo writes to w what Read would return, until the peer's close_notify. io.Copy
// calls it. Unlike Read, which holds the buffer of its caller, WriteTo holds no
// buffer while it waits for the peer. Other calls do not wait for w. After a timeout
// WriteTo can be called again, but data that w has not taken by then is lost.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	for {
		plain, buf, err := c.next()
		if len(plain) > 0 {
			var k int
			k, err = w.Write(plain)
			n += int64(k)
		}
		(&pooled{buf}).release()
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// next does a Read and returns the buffer with the data: plain is in buf, which
// belongs to the pool.
func (c *Conn) next() (plain []byte, buf *[]byte, err error) {
	if err := c.ensure(context.Background(), readCall); err != nil {
		return nil, nil, err
	}
	if err := c.lockIn(); err != nil {
		return nil, nil, err
	}
	defer c.in.unlock()
	for {
		if plain, buf = c.in.plain, c.in.buf; len(plain) > 0 {
			c.in.plain, c.in.buf = nil, nil
			return plain, buf, nil
		}
		if c.in.err != nil {
			return nil, nil, c.in.err
		}
		if _, err := c.fill(nil); err != nil {
			return nil, nil, err
		}
	}
}
