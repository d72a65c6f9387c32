// Package derive bounds concurrent derivations of keys from passphrases: any client of a
// server can cause one before it has proved anything.
package derive

import "runtime"

// slots bounds the keys that are derived at the same time: it has a token for each.
var slots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// Slots returns how many keys can be derived at the same time.
func Slots() int { return cap(slots) }

// Enter waits for a slot. It returns false if canceled is closed first. A nil
// channel is never closed.
func Enter(canceled <-chan struct{}) bool {
	select {
	case <-canceled:
		return false
	default:
	}
	select {
	case slots <- struct{}{}:
		return true
	case <-canceled:
		return false
	}
}

// Leave gives a slot back.
func Leave() { <-slots }
