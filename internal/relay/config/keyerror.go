package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// keyError is an error in the value of one key, or in the values of several keys
// together. The key of a table within a relay has a dot in it: users.joe.
type keyError struct {
	keys []string
	err  error
}

func (e *keyError) Error() string {
	return strings.Join(e.keys, ", ") + ": " + e.err.Error()
}

func (e *keyError) Unwrap() error { return e.err }

// wrongKey returns a keyError about one key.
func wrongKey(key, format string, args ...any) error {
	return &keyError{[]string{key}, fmt.Errorf(format, args...)}
}

// underKey adds the key of a table to the key that err names, if any.
func underKey(key string, err error) error {
	var inner *keyError
	if !errors.As(err, &inner) {
		return &keyError{[]string{key}, err}
	}
	keys := slices.Clone(inner.keys)
	for i := range keys {
		keys[i] = key + "." + keys[i]
	}
	return &keyError{keys, inner.err}
}

// relayError is an error in one relay of a configuration.
type relayError struct {
	index int
	name  string
	err   error
}

func (e *relayError) Error() string { return fmt.Sprintf("relay %q: %v", e.name, e.err) }

func (e *relayError) Unwrap() error { return e.err }
