package interop_test

import (
	"os"
	"strings"
	"testing"
)

// skipWithout skips a test whose peer is not installed. CI names the peers that
// it installs in SSLFILTER_REQUIRE, and there a missing one is a failure.
func skipWithout(t testing.TB, debianPackage, what string) {
	t.Helper()
	for name := range strings.FieldsSeq(os.Getenv("SSLFILTER_REQUIRE")) {
		if name == debianPackage {
			t.Fatalf("%s is missing, and SSLFILTER_REQUIRE names %s", what, debianPackage)
		}
	}
	t.Skipf("%s is missing: apt-get install %s", what, debianPackage)
}
