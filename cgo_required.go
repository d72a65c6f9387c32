//go:build !cgo

package sslfilter

var _ = sslfilter_needs_CGO_ENABLED_1_and_a_C_compiler_and_libssl_dev_and_pkg_config
