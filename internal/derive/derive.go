// Package derive bounds how many keys are derived from passphrases at the same time,
// because every client of a server can cause that before it has proved anything.
package derive

import "runtime"

// places has a token for each key that is being derived.
var places = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// Places returns how many keys can be derived at the same time.
func Places() int { return cap(places) }

// Enter waits for a place. It returns false if canceled is closed first. A nil
// channel is never closed.
func Enter(canceled <-chan struct{}) bool {
	select {
	case <-canceled:
		return false
	default:
	}
	select {
	case places <- struct{}{}:
		return true
	case <-canceled:
		return false
	}
}

// Leave gives a place back.
func Leave() { <-places }
