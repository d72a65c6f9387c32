//go:build race || asan

package sslfilter_test

// instrumented says that figures of memory and time are those of the sanitizer.
const instrumented = true
