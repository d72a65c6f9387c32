package peers_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// caller is a test that calls Find. It records whether Find skips it or fails it.
type caller struct {
	testing.TB
	skipped, failed bool
}

func (c *caller) Skipf(format string, args ...any) {
	c.Logf("skipped: "+format, args...)
	c.skipped = true
	runtime.Goexit()
}

func (c *caller) Fatalf(format string, args ...any) {
	c.Logf("failed: "+format, args...)
	c.failed = true
	runtime.Goexit()
}

// outcome returns the result of a test that calls find.
func outcome(t *testing.T, find func(testing.TB)) *caller {
	c := &caller{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		find(c)
	}()
	<-done
	return c
}

// skips reports whether find skips the test that calls it. If CI requires the package,
// the same test must fail.
func skips(t *testing.T, find func(testing.TB)) bool {
	t.Helper()
	t.Setenv("SSLFILTER_REQUIRE", "")
	c := outcome(t, find)
	require.False(t, c.failed)
	t.Setenv("SSLFILTER_REQUIRE", "other required")
	require.Equal(t, c.skipped, outcome(t, find).failed)
	return c.skipped
}

func TestFindSkipsWithoutTheProgram(t *testing.T) {
	require.False(t, skips(t, func(t testing.TB) { peers.Find(t, "required", "sh") }))
	require.True(t, skips(t, func(t testing.TB) { peers.Find(t, "required", "sslfilter-none") }))
	require.False(t, skips(t, func(t testing.TB) { peers.Find(t, "required", "sh", "-c", "true") }))
	require.True(t, skips(t, func(t testing.TB) { peers.Find(t, "required", "sh", "-c", "exit 3") }))
}

// A script is run only if the modules that it loads are installed, and not just
// its interpreter.
func TestFindForSkipsWithoutAModule(t *testing.T) {
	for _, c := range []struct{ debianPackage, interpreter, extension, there, missing string }{
		{"perl-base", "perl", ".pl", "use strict;", "use SSLFilter::None;"},
		{"python3-minimal", "python3", ".py", "import sys", "from sslfilter_none import x"},
		{"nodejs", "node", ".mjs", "import tls from 'node:tls';", "import x from 'node:sslfilter-none';"},
	} {
		t.Run(c.interpreter, func(t *testing.T) {
			peers.Find(t, c.debianPackage, c.interpreter)
			skips := func(name, script string) bool {
				file := filepath.Join(t.TempDir(), name+c.extension)
				require.NoError(t, os.WriteFile(file, []byte("#!/usr/bin/env true\n"+script+"\n"), 0o600))
				return skips(t, func(t testing.TB) { peers.FindFor(t, file, "required", c.interpreter) })
			}
			require.False(t, skips("there", c.there))
			require.True(t, skips("missing", c.there+"\n"+c.missing))
		})
	}
}

func TestFindCurlSkipsWithoutAProtocol(t *testing.T) {
	curl := peers.Find(t, "curl", "curl")
	require.Equal(t, curl, peers.FindCurl(t, "--http1.1", "http://localhost/"))
	t.Setenv("SSLFILTER_REQUIRE", "")
	require.True(t, outcome(t, func(t testing.TB) { peers.FindCurl(t, "sslfilter-none://localhost/") }).skipped)
}
