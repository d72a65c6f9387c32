// Package refcount counts the users of an object that is freed when it is no longer
// used, such as a configuration that a reload replaces while connections still use
// it.
package refcount

import "sync/atomic"

// Count is the number of users of one object. The zero value counts one user, the
// owner of the object. The methods may be called from any goroutine.
type Count struct {
	others atomic.Int64 // users besides the first; -1 if there are no users at all
}

// Acquire adds a user. It returns false if the object has no users any more, because
// it is then freed or about to be freed.
func (c *Count) Acquire() bool {
	for {
		n := c.others.Load()
		if n < 0 {
			return false
		}
		if c.others.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release removes a user. It returns true if it was the last one: the caller then
// frees the object.
func (c *Count) Release() (last bool) { return c.others.Add(-1) < 0 }
