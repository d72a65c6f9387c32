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

// ResidentKiB returns the resident memory of this process, including C's. It first
// collects Go's garbage and returns it to the system, because the amount of garbage
// depends only on when the collector last ran.
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

// fipsConfigEnv is the variable with the path of an OpenSSL configuration that
// activates the FIPS provider. It is for tests in a process whose default library
// context does not have that provider. scripts/matrix.sh sets it.
const fipsConfigEnv = "SSLFILTER_FIPS_CONFIG"

// FIPSConfig returns the path of a configuration that activates the FIPS
// provider. It skips the test if there is no such configuration.
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
