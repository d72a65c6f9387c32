package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two terminals talk, and each ends when both have ended.
func TestDirectCipher(t *testing.T) {
	key := filepath.Join(t.TempDir(), "secret.key")
	require.NoError(t, os.WriteFile(key, []byte(strings.Repeat("5a", 32)+"\n"), 0o600))
	notes, said := io.Pipe()
	var got strings.Builder
	ended := make(chan error, 1)
	go func() { ended <- run("127.0.0.1:0", "", key, strings.NewReader("hello from the server\n"), &got, said) }()
	line, err := bufio.NewReader(notes).ReadString('\n')
	require.NoError(t, err)
	address := strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	var back strings.Builder
	require.NoError(t, run("", address, key, strings.NewReader("first\nsecond\n"), &back, io.Discard))
	require.NoError(t, <-ended)
	require.Equal(t, "first\nsecond\n", got.String())
	require.Equal(t, "hello from the server\n", back.String())
	require.ErrorContains(t, run("", "", key, nil, nil, nil), "-listen or -connect")
}
