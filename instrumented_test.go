//go:build race || asan

package sslfilter_test

// instrumented reports that memory and time are dominated by a sanitizer.
const instrumented = true
