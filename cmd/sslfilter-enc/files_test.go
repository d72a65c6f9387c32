package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// program runs the program in a process of its own. redirect is what a shell appends to
// the command.
func program(t *testing.T, stdin []byte, redirect string, args ...string) (out []byte, complaint string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("sh", append([]string{"-c", `exec "$0" "$@" ` + redirect, os.Args[0]}, args...)...)
	cmd.Env = append(os.Environ(), "SSLFILTER_ENC_PROGRAM=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		require.IsType(t, err, new(exec.ExitError))
	}
	return stdout.Bytes(), stderr.String(), cmd.ProcessState.ExitCode()
}

// The first line of the standard input can be the secret, and the rest the data. Both a
// pipe and a file keep everything after that line.
func TestEncSecretAndDataOnStandardInput(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef\n"), 1000)
	for flag, line := range map[string]string{"-key-file": strings.Repeat("0f", 32), "-passphrase-file": "correct horse"} {
		secret := file(t, "secret", line+"\n")
		plain := file(t, "plain", line+"\n"+string(data))
		for _, redirect := range []string{"", "<" + plain} {
			sealed, complaint, status := program(t, append([]byte(line+"\n"), data...), redirect, flag, "/dev/stdin")
			require.Zero(t, status, complaint)
			got, complaint, status := program(t, sealed, "", "-d", flag, secret)
			require.Zero(t, status, complaint)
			require.True(t, bytes.Equal(data, got), "%s %s", flag, redirect)
			got, complaint, status = program(t, append([]byte(line+"\n"), sealed...), "", "-d", flag, "/dev/fd/0", "-in", "/dev/stdin")
			require.Zero(t, status, complaint)
			require.True(t, bytes.Equal(data, got), "%s %s", flag, redirect)
		}
	}
}

// With -out, a descriptor that the program has inherited is written from its current position. If it
// is a file, that file is neither replaced nor written from its beginning.
func TestEncWritesDescriptors(t *testing.T) {
	key := file(t, "key", strings.Repeat("0f", 32))
	for name, redirect := range map[string]string{
		"/dev/stdout": ">>", "/dev/fd/1": ">>", "/proc/self/fd/1": ">>", "/dev/fd/7": "7>>", "/dev/stderr": "2>>",
	} {
		out := file(t, "out", "first line\n")
		before, err := os.Stat(out)
		require.NoError(t, err)
		_, complaint, status := program(t, []byte("data"), redirect+out, "-key-file", key, "-out", name)
		require.Zero(t, status, complaint)
		after, err := os.Stat(out)
		require.NoError(t, err)
		require.True(t, os.SameFile(before, after), "%s: the file is replaced", name)
		sealed, found := bytes.CutPrefix(testkit.Contents(t, out), []byte("first line\n"))
		require.True(t, found, name)
		plain, complaint, status := enc(sealed, "-d", "-key-file", key)
		require.Zero(t, status, complaint)
		require.Equal(t, "data", string(plain))
	}
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink("/dev/stdout", link))
	out, complaint, status := program(t, []byte("data"), "", "-key-file", key, "-out", link)
	require.Zero(t, status, complaint)
	require.NotEmpty(t, out)
}

// The output replaces the file that a link names, and creates it if it does not exist. The
// link stays.
func TestEncLinks(t *testing.T) {
	key := file(t, "key", strings.Repeat("0f", 32))
	dir, other := t.TempDir(), t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(other, "sub"), 0o700))
	link := func(target, name string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.Symlink(target, name))
		return name
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "existing"), []byte("old"), 0o600))
	link(filepath.Join(other, "sub"), "folder")
	require.NoError(t, os.Symlink("../up", filepath.Join(other, "sub", "upwards")))
	for name, want := range map[string]string{
		link("existing", "a"): filepath.Join(dir, "existing"), link("new", "b"): filepath.Join(dir, "new"),
		link("b2", "c"): filepath.Join(dir, "new2"), link("new2", "b2"): filepath.Join(dir, "new2"),
		filepath.Join(dir, "folder", "upwards"): filepath.Join(other, "up"), // not dir/up
		link(other+"/absolute", "d"):            filepath.Join(other, "absolute"),
	} {
		_, complaint, status := enc([]byte("data"), "-key-file", key, "-out", name)
		require.Zero(t, status, complaint)
		info, err := os.Lstat(name)
		require.NoError(t, err)
		require.NotZero(t, info.Mode()&os.ModeSymlink, "%s is replaced", name)
		plain, complaint, status := enc(nil, "-d", "-key-file", key, "-in", want)
		require.Zero(t, status, complaint)
		require.Equal(t, "data", string(plain))
	}
	for name, want := range map[string]string{
		link("loop", "loop"): "too many levels of symbolic links", link("nofolder/x", "e"): "no such file", link("existing/x", "f"): "not a directory",
	} {
		_, complaint, status := enc([]byte("data"), "-key-file", key, "-out", name)
		require.Equal(t, 1, status)
		require.Contains(t, complaint, want)
		require.Contains(t, complaint, filepath.Dir(name))
		_, err := os.Readlink(name)
		require.NoError(t, err, "the link is replaced")
	}
}

// The first line of a passphrase file has the same meaning as with -pass file: of openssl.
func TestEncPassphraseLinesAsOpenSSL(t *testing.T) {
	openssl := peers.Find(t, "openssl", "openssl")
	for _, content := range []string{
		"pass\n", "pass", "pass\r\n", "pass\r", "pa\rss\nsecond", " pass \n", "p\xff\n", "\xef\xbb\xbfpass\n", strings.Repeat("x", 1023) + "\n",
	} {
		pass := file(t, "pass", content)
		sealed, complaint, status := enc([]byte("data"), "-openssl", "-cipher", "aes-256-cbc", "-iter", "1000", "-passphrase-file", pass)
		require.Zero(t, status, complaint)
		cmd := exec.Command(openssl, "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-iter", "1000", "-pass", "file:"+pass)
		cmd.Env = peers.ForeignEnv()
		cmd.Stdin = bytes.NewReader(sealed)
		out, err := cmd.Output()
		require.NoError(t, err, "%.20q", content)
		require.Equal(t, "data", string(out))
	}
	for _, c := range []struct{ content, format, want string }{
		{strings.Repeat("x", 1024) + "\n", "-openssl", "longer than 1023 bytes"}, // openssl would use a part of it
		{"pass\x00word\n", "-openssl", "a zero byte"},
		{strings.Repeat("x", maxSecret+1), "", "longer than 4096 bytes"},
		{"\n", "", "is empty"},
	} {
		args := []string{"-passphrase-file", file(t, "pass", c.content), "-cipher", "aes-256-cbc", c.format}
		if c.format == "" {
			args = args[:2]
		}
		out, complaint, status := enc([]byte("data"), args...)
		require.Equal(t, 1, status, "%.20q", c.content)
		require.Contains(t, complaint, c.want)
		require.NotContains(t, complaint, "xxx")
		require.Empty(t, out)
	}
}

// Errors name the file, and speak of files, not of peers or connections. Nothing is written
// if the input cannot be read.
func TestEncErrorsNameFiles(t *testing.T) {
	key, other, pass := file(t, "key", strings.Repeat("0f", 32)), file(t, "other", strings.Repeat("1f", 32)), file(t, "pass", "correct horse\n")
	dir := t.TempDir()
	sealed, _, status := enc(make([]byte, 1000), "-key-file", key)
	require.Zero(t, status)
	withPass, _, status := enc(make([]byte, 1000), "-passphrase-file", pass)
	require.Zero(t, status)
	cut, tail, none, junk, theirs := file(t, "cut", string(sealed[:50])), file(t, "tail", string(sealed[:len(sealed)-20])), file(t, "none", ""),
		file(t, "junk", strings.Repeat("junk", 100)), file(t, "theirs", string(withPass))
	for _, c := range []struct {
		redirect string
		args     []string
		want     []string
	}{
		{"", []string{"-key-file", key, "-in", dir}, []string{dir, "is a directory"}},
		{"", []string{"-key-file", key, "-out", dir}, []string{dir, "is a directory"}},
		{"", []string{"-key-file", dir}, []string{dir, "is a directory"}},
		{"", []string{"-passphrase-file", dir}, []string{dir, "is a directory"}},
		{"", []string{"-key-file", key, "-out", dir + "/no/file"}, []string{dir + "/no", "no such file"}},
		{"", []string{"-key-file", key, "-in", dir + "/nothing"}, []string{dir + "/nothing", "no such file"}},
		{"", []string{"-key-file", key, "-out", "/dev/full"}, []string{"/dev/full", "no space left"}},
		{">/dev/full", []string{"-key-file", key}, []string{"standard output", "no space left"}},
		{">&-", []string{"-key-file", key}, []string{"standard output", "bad file descriptor"}},
		{">&-", []string{"-key-file", key, "-out", "/dev/stdout"}, []string{"/dev/stdout", "bad file descriptor"}},
		{"<&-", []string{"-key-file", key}, []string{"standard input", "bad file descriptor"}},
		{"<&-", []string{"-key-file", key, "-in", "/dev/stdin"}, []string{"/dev/stdin", "bad file descriptor"}},
		{"<&-", []string{"-key-file", "/dev/stdin", "-in", none}, []string{"/dev/stdin", "bad file descriptor"}},
		{"", []string{"-key-file", key, "-out", "/dev/fd/99"}, []string{"/dev/fd/99", "bad file descriptor"}},
		{"", []string{"-d", "-key-file", key, "-in", cut}, []string{cut, "before its first record"}},
		{"", []string{"-d", "-key-file", key, "-in", none}, []string{none, "before its first record"}},
		{"", []string{"-d", "-key-file", key, "-in", tail, "-out", dir + "/x"}, []string{tail, "without the record that ends"}},
		{"", []string{"-d", "-key-file", key, "-in", junk}, []string{junk, "not a sealed stream"}},
		{"", []string{"-d", "-key-file", other, "-in", tail}, []string{tail, "has another key"}},
		{"", []string{"-d", "-passphrase-file", pass, "-in", tail}, []string{tail, "passphrase"}},
		{"", []string{"-d", "-passphrase-file", key, "-in", theirs}, []string{theirs, "has another passphrase"}},
		{"", []string{"-d", "-key-file", key, "-cipher", "aes-128-gcm", "-in", tail}, []string{tail, "cipher"}},
		{"<" + tail, []string{"-d", "-key-file", other}, []string{"standard input", "has another key"}},
	} {
		out, complaint, status := program(t, []byte("data"), c.redirect, c.args...)
		require.Equal(t, 1, status, "%s %v", c.redirect, c.args)
		for _, want := range c.want {
			require.Contains(t, complaint, want, "%s %v", c.redirect, c.args)
		}
		require.NotContains(t, complaint, "peer")
		require.NotContains(t, complaint, "connection")
		require.Empty(t, out)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	_, complaint, status := program(t, []byte("data"), ">/dev/null 2>&1 <&-", "-key-file", key, "-in", junk, "-out", filepath.Join(dir, "out"))
	require.Zero(t, status, complaint) // a descriptor that is not used may be closed
}
