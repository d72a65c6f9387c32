package sslredis_test

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/peers"
)

var one, two = strings.Repeat("01", 32), strings.Repeat("02", 32)

// A file that "openssl rand" has written can be read. A wrong file causes an error that
// does not contain the secret.
func TestSecretFile(t *testing.T) {
	write := func(t *testing.T, text string, mode os.FileMode) string {
		name := file(t, "secret")
		require.NoError(t, os.WriteFile(name, []byte(text), mode))
		require.NoError(t, os.Chmod(name, mode))
		return name
	}
	t.Run("openssl rand", func(t *testing.T) {
		openssl := peers.Find(t, "openssl", "openssl")
		name := file(t, "secret")
		out, status := peers.Run(t, openssl, "rand", "-hex", "-out", name, "32")
		require.Zero(t, status, out)
		require.NoError(t, os.Chmod(name, 0o600))
		_, err := sslredis.ReadSecret(name)
		require.NoError(t, err)
	})
	t.Run("one, as bytes", func(t *testing.T) {
		read, err := sslredis.ReadSecret(write(t, "# made today\r\n\r\n  "+strings.ToUpper(one)+"  \n", 0o400))
		require.NoError(t, err)
		require.Equal(t, secret(t, 1), read)
	})
	t.Run("two", func(t *testing.T) {
		read, err := sslredis.ReadSecret(write(t, one+"\n"+two, 0o600))
		require.NoError(t, err)
		require.Equal(t, secret(t, 1, 2), read)
	})
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"group", one, 0o640, "(mode 0640)"},
		{"others", one, 0o604, "(mode 0604)"},
		{"empty", "", 0o600, "got 0"},
		{"comment only", "# " + one, 0o600, "got 0"},
		{"short", one[:62], 0o600, "want lines of 64"},
		{"odd", one[:63], 0o600, "want lines of 64"},
		{"long", one + "00", 0o600, "want lines of 64"},
		{"no digits", strings.Repeat("xy", 32), 0o600, "want lines of 64"},
		{"twice", one + "\n" + one, 0o600, "twice"},
		{"three", one + "\n" + two + "\n" + strings.Repeat("03", 32), 0o600, "got 3"},
		{"large", strings.Repeat("\n", 5000) + one, 0o600, "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := write(t, c.text, c.mode)
			_, err := sslredis.ReadSecret(name)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, name)
			require.NotContains(t, err.Error(), "0101")
			require.NotContains(t, err.Error(), "xyxy")
		})
	}
	t.Run("missing", func(t *testing.T) {
		_, err := sslredis.ReadSecret(file(t, "none"))
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("folder and pipe", func(t *testing.T) {
		_, err := sslredis.ReadSecret(t.TempDir())
		require.ErrorContains(t, err, "is a directory")
		pipe := file(t, "pipe")
		require.NoError(t, syscall.Mkfifo(pipe, 0o600))
		_, err = sslredis.ReadSecret(pipe)
		require.ErrorContains(t, err, "regular")
	})
}

// The caller's secret is cleared when it is not needed any more.
func TestSecretIsCleared(t *testing.T) {
	own := bytes.Repeat([]byte{7}, 32)
	_, err := sslredis.NewSecret(own)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 32), own)
}

// A value opens only under its own name, unchanged, and with the secret that sealed it.
func TestSecretSeals(t *testing.T) {
	s, plain := secret(t, 1), []byte("a session")
	value, err := s.Seal("name", plain)
	require.NoError(t, err)
	require.Len(t, value, len(plain)+sslredis.SealOverhead)
	require.NotContains(t, string(value), "session")
	got, err := s.Open("name", value)
	require.NoError(t, err)
	require.Equal(t, plain, got)

	again, err := s.Seal("name", plain)
	require.NoError(t, err)
	require.NotEqual(t, value, again, "the nonce is not random")
	for name, open := range map[string]func() ([]byte, error){
		"another name":   func() ([]byte, error) { return s.Open("nam", value) },
		"another secret": func() ([]byte, error) { return secret(t, 2).Open("name", value) },
		"longer":         func() ([]byte, error) { return s.Open("name", append(bytes.Clone(value), 0)) },
	} {
		_, err := open()
		require.Error(t, err, name)
	}
	for i := range value {
		changed := bytes.Clone(value)
		changed[i] ^= 1
		_, err := s.Open("name", changed)
		require.Error(t, err, "byte %d", i)
		_, err = s.Open("name", value[:i])
		require.Error(t, err, "cut at %d", i)
	}
}

// The name of a session depends on the secret, the scope and the id, and reveals none of
// them.
func TestSecretNames(t *testing.T) {
	id := bytes.Repeat([]byte("id"), 16)
	names := make(map[string]bool)
	for _, s := range []*sslredis.Secret{secret(t, 1), secret(t, 2)} {
		for _, scope := range []string{"", "a", "ab"} {
			for _, id := range [][]byte{id, id[1:], append([]byte("b"), id...)} {
				name := s.SessionName(scope, id)
				require.NotContains(t, name, "idid")
				require.Less(t, len(name), 64)
				names[name] = true
			}
		}
	}
	require.Len(t, names, 2*3*3)
}
