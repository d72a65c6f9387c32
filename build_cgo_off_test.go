package sslfilter_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// A build without cgo, such as every cross build, fails with a message that names what is
// missing.
func TestBuildWithoutCgo(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it compiles, and does not depend on OpenSSL")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		peers.SkipUnless(t, "go", "the go command", "add it to PATH")
	}
	for _, c := range []struct {
		env  string
		args []string
	}{
		{"CGO_ENABLED=0", []string{"build", "."}},
		{"CGO_ENABLED=0", []string{"build", "./sslnet"}},
		{"CGO_ENABLED=0", []string{"vet", "."}},
		{"GOOS=darwin", []string{"build", "."}},
		{"GOOS=windows", []string{"build", "."}},
	} {
		cmd := exec.Command(goTool, c.args...)
		cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0", c.env) // -v would print lines before the message
		out, err := cmd.CombinedOutput()
		require.Error(t, err, "%v", c)
		lines := strings.SplitN(string(out), "\n", 5)
		first := strings.Join(lines[:min(4, len(lines))], "\n")
		require.Contains(t, first, "sslfilter needs cgo: set CGO_ENABLED=1, and install a C compiler, pkg-config and OpenSSL's headers", "%v:\n%s", c, out)
		require.Equal(t, 1, strings.Count(string(out), "sslfilter needs cgo: set CGO_ENABLED=1, and install a C compiler, pkg-config and"), "%v:\n%s", c, out)
	}
}
