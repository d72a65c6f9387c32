//go:build !race && !asan

package sslfilter_test

const instrumented = false
