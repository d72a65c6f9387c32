// Sslrelay is a TLS and STARTTLS relay. It forwards TLS to plain text, plain text to
// TLS, and TLS to TLS, for any protocol over TCP. For HTTP it passes on client
// certificates in headers, and for IMAP, POP3 and SMTP it supports STARTTLS and a
// backend for each user. It turns the IMAP relay of POE::Filter::SSL's man page into a
// program for deployments. docs/relay.md is an introduction, and man/sslrelay.8 is the
// manual page.
package main

import (
	"os"

	"github.com/seed-014b8713/sslfilter/internal/relay/command"
)

func main() { os.Exit(command.Main(os.Args[1:], nil)) }
