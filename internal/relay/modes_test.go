package relay

import "encoding/base64"

// Modes by their names in the table of protocols.
const (
	modeIMAP = "imap"
	modePOP3 = "pop3"
	modeSMTP = "smtp"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
