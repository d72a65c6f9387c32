//go:build !cgo

package sslfilter

// Without cgo this is the only file with code, so that the compiler's only
// error is this text.
const _ int = "sslfilter needs cgo: set CGO_ENABLED=1, and install a C compiler, pkg-config and OpenSSL's headers (Debian: gcc pkg-config libssl-dev); a cross build needs a C compiler and OpenSSL for its target"
