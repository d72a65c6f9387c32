package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// installed runs make install with a PREFIX, and returns the directory that it used as
// the root of the system.
func installed(t *testing.T, prefix string) string {
	t.Helper()
	peers.Find(t, "make", "make")
	root := t.TempDir()
	cmd := exec.Command("make", "-C", filepath.Join("..", ".."), "install", "DESTDIR="+root, "PREFIX="+prefix)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return root
}

// make install puts each file in the place that the unit, man and the documents use.
func TestInstall(t *testing.T) {
	root := installed(t, "/usr")
	for file, mode := range map[string]os.FileMode{
		"usr/sbin/sslrelay": 0o755, "usr/share/man/man8/sslrelay.8": 0o644,
		"usr/bin/sslfilter-enc": 0o755, "usr/share/man/man1/sslfilter-enc.1": 0o644,
		"usr/lib/systemd/system/sslrelay.service": 0o644, "usr/share/doc/sslrelay/sslrelay.toml": 0o644,
	} {
		info, err := os.Stat(filepath.Join(root, file))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), file)
	}
	count := 0
	require.NoError(t, filepath.WalkDir(root, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			count++
		}
		return err
	}))
	require.Equal(t, 6, count, "nothing is written to /etc")

	relay := filepath.Join(root, "usr/sbin/sslrelay")
	out, err := exec.Command(relay, "-version").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "OpenSSL")

	unit, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/system/sslrelay.service"))
	require.NoError(t, err)
	programs := regexp.MustCompile(`(?m)^Exec(?:Start|StartPre)=(\S+)`).FindAllStringSubmatch(string(unit), -1)
	require.Len(t, programs, 2)
	for _, program := range programs {
		require.Equal(t, "/usr/sbin/sslrelay", program[1])
	}
	require.NotContains(t, string(unit), "/usr/local")

	t.Run("example", func(t *testing.T) { // complete but for the certificate and the key
		text, err := os.ReadFile(filepath.Join(root, "usr/share/doc/sslrelay/sslrelay.toml"))
		require.NoError(t, err)
		check := func(text string) (string, error) {
			out, err := exec.Command(relay, "-check", "-config", testkit.TempFile(t, "sslrelay.toml", []byte(text))).CombinedOutput()
			return string(out), err
		}
		dir := t.TempDir()
		for _, name := range []string{"server.crt", "server.key"} {
			data, err := os.ReadFile(testkit.AbsPKI(name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
		mine := strings.ReplaceAll(string(text), "/etc/sslrelay/", dir+"/")
		out, err := check(mine)
		require.NoError(t, err, out)
		commented := regexp.MustCompile(`(?m)^#(\S)`).ReplaceAllString(mine, "$1")
		out, err = check(commented)
		require.NoError(t, err, "with every setting that is commented out: %s", out)
		require.Contains(t, out, `relay "imap"`)
	})
	t.Run("unit", func(t *testing.T) {
		peers.Find(t, "systemd", "systemd-analyze")
		verify := func() (string, error) {
			out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--root="+root, "sslrelay.service").CombinedOutput()
			return string(out), err
		}
		// The unit refers to systemd's own targets and to kill.
		system := filepath.Join(root, "usr/lib/systemd/system")
		units, err := filepath.Glob("/lib/systemd/system/*")
		require.NoError(t, err)
		require.NotEmpty(t, units)
		for _, file := range units {
			if data, err := os.ReadFile(file); err == nil {
				require.NoError(t, os.WriteFile(filepath.Join(system, filepath.Base(file)), data, 0o644))
			}
		}
		require.NoError(t, os.MkdirAll(filepath.Join(root, "bin"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, "bin/kill"), nil, 0o755))
		out, err := verify()
		require.NoError(t, err, out)
		require.NotContains(t, out, "sslrelay")
		require.NoError(t, os.Rename(relay, relay+".moved"))
		out, err = verify()
		require.Error(t, err, "a program that is missing has to be noticed")
		require.Contains(t, out, "/usr/sbin/sslrelay")
		require.NoError(t, os.Rename(relay+".moved", relay))
	})
	t.Run("manual", func(t *testing.T) {
		mandoc := peers.Find(t, "mandoc", "mandoc")
		out, err := exec.Command(mandoc, "-T", "lint", "-W", "warning", filepath.Join(root, "usr/share/man/man8/sslrelay.8")).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
}

// The commands of docs/relay.md name the files of make install without a PREFIX.
// scripts/check-install.sh runs them.
func TestInstallIsDocumented(t *testing.T) {
	root := installed(t, "/usr/local")
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "relay.md"))
	require.NoError(t, err)
	_, section, ok := bytes.Cut(doc, []byte("\n## systemd\n"))
	require.True(t, ok)
	section, _, _ = bytes.Cut(section, []byte("\n## "))
	require.Contains(t, string(section), "\n    make install\n")
	paths := regexp.MustCompile(`/usr/local/[\w./]+\w`).FindAllString(string(section), -1)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		require.FileExists(t, filepath.Join(root, path))
	}
}
