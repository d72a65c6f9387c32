package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// enc runs the program.
func enc(in []byte, args ...string) (out []byte, complaint string, status int) {
	var stdout, stderr bytes.Buffer
	status = run(args, bytes.NewReader(in), &stdout, &stderr)
	return stdout.Bytes(), stderr.String(), status
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// TestMain is the program itself in a process that TestEncSignals has started.
func TestMain(m *testing.M) {
	if os.Getenv("SSLFILTER_ENC_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

// A signal ends the program and leaves neither a part of the plaintext nor an altered
// output file.
func TestEncSignals(t *testing.T) {
	key := file(t, "key", strings.Repeat("0f", 32))
	sealed, complaint, status := enc(make([]byte, 3<<20), "-key-file", key)
	require.Zero(t, status, complaint)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			out := file(t, "plain", "from yesterday")
			cmd := exec.Command(os.Args[0], "-d", "-key-file", key, "-out", out)
			cmd.Env = append(os.Environ(), "SSLFILTER_ENC_PROGRAM=1")
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			signal.Notify(make(chan os.Signal, 1), s) // under nohup(1), the program would inherit that SIGHUP is ignored
			require.NoError(t, cmd.Start())
			signal.Reset(s)
			defer cmd.Process.Kill()
			_, err = in.Write(sealed[:2<<20]) // more than the pipe and the program's buffer have room for
			require.NoError(t, err)
			parts, err := filepath.Glob(filepath.Join(filepath.Dir(out), ".plain.*"))
			require.NoError(t, err)
			require.Len(t, parts, 1)
			info, err := os.Stat(parts[0])
			require.NoError(t, err)
			require.NotZero(t, info.Size())
			require.NoError(t, cmd.Process.Signal(s))
			require.Error(t, cmd.Wait())
			require.Equal(t, s, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
			left, err := os.ReadDir(filepath.Dir(out))
			require.NoError(t, err)
			require.Len(t, left, 1)
			require.Equal(t, "from yesterday", string(testkit.Contents(t, out)))
		})
	}
}

// A file with a secret to which other users have access is refused. A pipe is accepted.
func TestEncSecretFiles(t *testing.T) {
	secret := file(t, "secret", strings.Repeat("0f", 32)+"\n")
	for _, c := range []struct {
		mode os.FileMode
		want string
	}{{0o600, ""}, {0o400, ""}, {0o640, "(mode 0640)"}, {0o604, "(mode 0604)"}, {0o620, "(mode 0620)"}, {0o601, "(mode 0601)"}} {
		for _, args := range [][]string{{"-key-file", secret}, {"-passphrase-file", secret, "-iter", "100000"}} {
			require.NoError(t, os.Chmod(secret, c.mode))
			out, complaint, status := enc([]byte("data"), args...)
			if c.want == "" {
				require.Zero(t, status, complaint)
				continue
			}
			require.Equal(t, 1, status)
			require.Contains(t, complaint, c.want)
			require.Contains(t, complaint, "secret: other users have access to it")
			require.Empty(t, out)
		}
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	_, err = w.WriteString(strings.Repeat("0f", 32) + "\n")
	require.NoError(t, errors.Join(err, w.Close()))
	_, complaint, status := enc([]byte("data"), "-key-file", fmt.Sprintf("/dev/fd/%d", r.Fd()))
	require.Zero(t, status, complaint)
}

// Files are encrypted and decrypted with a key and with a passphrase, and an altered,
// truncated or extended file is an error that leaves no output file.
func TestEncFiles(t *testing.T) {
	key, pass := file(t, "key", strings.Repeat("0f", 32)+"\n"), file(t, "pass", "correct horse\nsecond line\n")
	data := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	for name, secret := range map[string][]string{
		"key": {"-key-file", key}, "passphrase": {"-passphrase-file", pass, "-iter", "100000"}, "another cipher": {"-key-file", key, "-cipher", "aes-128-ccm"},
	} {
		t.Run(name, func(t *testing.T) {
			sealed, complaint, status := enc(data, secret...)
			require.Zero(t, status, complaint)
			plain, complaint, status := enc(sealed, append([]string{"-d"}, secret...)...)
			require.Zero(t, status, complaint)
			require.True(t, bytes.Equal(data, plain))

			in, out := file(t, "sealed", string(sealed)), filepath.Join(t.TempDir(), "plain")
			files := append([]string{"-d", "-in", in, "-out", out}, secret...)
			_, complaint, status = enc(nil, files...)
			require.Zero(t, status, complaint)
			got, err := os.ReadFile(out)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
			require.NoError(t, os.Remove(out))
			altered := bytes.Clone(sealed)
			altered[len(altered)/2] ^= 1
			for what, bad := range map[string][]byte{
				"not authentic": altered, "without the record that ends its stream": sealed[:len(sealed)-20], "more bytes": append(bytes.Clone(sealed), 'x'),
			} {
				require.NoError(t, os.WriteFile(in, bad, 0o600))
				_, complaint, status = enc(nil, files...)
				require.Equal(t, 1, status)
				require.Contains(t, complaint, what)
				left, err := os.ReadDir(filepath.Dir(out))
				require.NoError(t, err)
				require.Empty(t, left)
			}
		})
	}
}

// With -openssl, the openssl command reads what the program writes, and the other way round.
func TestEncSameAsOpenSSL(t *testing.T) {
	openssl := peers.Find(t, "openssl", "openssl")
	pass := file(t, "pass", "correct horse\n")
	data := []byte("a small file\n")
	theirs := func(in []byte, args ...string) []byte {
		cmd := exec.Command(openssl, append([]string{"enc", "-aes-256-cbc", "-pbkdf2", "-iter", "2000", "-md", "sha512", "-pass", "file:" + pass}, args...)...)
		cmd.Env = peers.ForeignEnv()
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		require.NoError(t, err)
		return out
	}
	ours := []string{"-openssl", "-cipher", "aes-256-cbc", "-iter", "2000", "-md", "sha512", "-passphrase-file", pass}
	out, complaint, status := enc(data, ours...)
	require.Zero(t, status, complaint)
	require.Equal(t, data, theirs(out, "-d"))
	out, complaint, status = enc(theirs(data), append([]string{"-d"}, ours...)...)
	require.Zero(t, status, complaint)
	require.Equal(t, data, out)
}

// Wrong arguments, keys and passphrases are errors with a reason.
func TestEncErrors(t *testing.T) {
	short, bad := file(t, "short", "00ff"), file(t, "bad", "not hexadecimal")
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 2, "one of -key-file and -passphrase-file"},
		{[]string{"-key-file", short, "-passphrase-file", short}, 2, "one of"},
		{[]string{"-key-file", short, "-openssl"}, 2, "-openssl needs -passphrase-file"},
		{[]string{"-key-file", short, "extra"}, 2, `unexpected argument "extra"`},
		{[]string{"-key-file", short, "-iter", "1000"}, 2, "-md and -iter need -passphrase-file"},
		{[]string{"-key-file", short, "-md", "SHA256", "-d"}, 2, "-md and -iter need -passphrase-file"},
		{[]string{"-nonsense"}, 2, "not defined"},
		{[]string{"-key-file", short}, 1, "needs a key of 32 random bytes, got 2"},
		{[]string{"-key-file", bad}, 1, "want 64 hexadecimal digits"},
		{[]string{"-key-file", "/nonexistent"}, 1, "no such file"},
		{[]string{"-passphrase-file", "/nonexistent"}, 1, "no such file"},
		{[]string{"-passphrase-file", short, "-openssl"}, 1, "needs the name of a cipher"},
	} {
		_, complaint, status := enc(nil, c.args...)
		require.Equal(t, c.status, status, "%v", c.args)
		require.Contains(t, complaint, c.want)
	}
	_, complaint, status := enc(nil, "-help")
	require.Zero(t, status)
	require.Contains(t, complaint, "openssl rand -hex 32")
}
