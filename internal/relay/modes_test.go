package relay

import (
	"encoding/base64"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// Modes by their names in the table of protocols.
const (
	modeIMAP = "imap"
	modePOP3 = "pop3"
	modeSMTP = "smtp"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func write(t *testing.T, file string, data []byte) string {
	t.Helper()
	require.NoError(t, os.WriteFile(file, data, 0o644))
	return file
}
