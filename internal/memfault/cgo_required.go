//go:build !cgo

// Package memfault needs cgo, and has nothing without it. It exists then so that the
// compiler gets to the sentence of the root package that says what is missing.
package memfault
