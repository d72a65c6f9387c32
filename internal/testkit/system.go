package testkit

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// ResidentKiB returns the resident memory of this process, that of C included.
// Go's garbage is collected and returned to the system first: how much of it
// there is depends on when the collector ran, and says nothing about what is
// kept.
func ResidentKiB(t testing.TB) int {
	t.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		peers.SkipUnless(t, "procfs", "/proc/self/status", "mount /proc")
	}
	_, after, found := strings.Cut(string(status), "VmRSS:")
	require.True(t, found)
	n, err := strconv.Atoi(strings.Fields(after)[0])
	require.NoError(t, err)
	return n
}

// fipsConfigEnv names a configuration with the FIPS provider for tests that run
// beside a default context without it. scripts/matrix.sh sets it.
const fipsConfigEnv = "SSLFILTER_FIPS_CONFIG"

// FIPSConfig returns the path of a configuration that activates the FIPS
// provider. Without one the test is skipped.
func FIPSConfig(t testing.TB) string {
	t.Helper()
	if sslfilter.FIPSEnabled() {
		return os.Getenv("OPENSSL_CONF")
	}
	file := os.Getenv(fipsConfigEnv)
	if file == "" {
		peers.SkipUnless(t, "fips", "a configuration with the FIPS provider", "scripts/matrix.sh sets "+fipsConfigEnv+" to one")
	}
	return file
}
