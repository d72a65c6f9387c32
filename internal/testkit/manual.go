package testkit

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// Manual requires that a manual page has these options between the two comments that
// name command, and writes them there if update is set.
func Manual(t testing.TB, page, command, options string, update bool) {
	t.Helper()
	begin, end := ".\\\" The options are made by: "+command+"\n", ".\\\" End of the options.\n"
	head, rest, ok := strings.Cut(string(Contents(t, page)), begin)
	require.True(t, ok)
	_, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := head + begin + options + end + tail
	if update {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o644))
	}
	require.Equal(t, want, string(Contents(t, page)), command)
}

// WellFormedManual requires that mandoc reads a manual page without a warning.
func WellFormedManual(t testing.TB, page string) {
	t.Helper()
	out, err := exec.Command(peers.Find(t, "mandoc", "mandoc"), "-T", "lint", "-W", "warning", page).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
