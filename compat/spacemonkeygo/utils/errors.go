// Package utils has the helpers that the old package exported beside its binding.
package utils

import (
	"errors"
	"strings"
)

// ErrorGroup collects errors.
type ErrorGroup struct {
	Errors []error
}

// Add adds err to the group, unless it is nil.
func (e *ErrorGroup) Add(err error) {
	if err != nil {
		e.Errors = append(e.Errors, err)
	}
}

// Finalize returns nil if the group has no error, its error if it has one, and
// otherwise an error with the texts of all of them, one on each line.
func (e *ErrorGroup) Finalize() error {
	switch len(e.Errors) {
	case 0:
		return nil
	case 1:
		return e.Errors[0]
	}
	texts := make([]string, len(e.Errors))
	for i, err := range e.Errors {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "\n"))
}
