//go:build !cgo

// Package closedfd needs cgo, and is empty without it. It exists so that the compiler
// reaches the root package, whose error says what is missing.
package closedfd
