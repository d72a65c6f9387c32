// Sslrelay is the relay cmd/sslrelay of the library, built with a Redis client: with
// [sessions] in their configuration, relays on several machines resume each other's TLS
// sessions. docs/sessions.md says how to run them.
package main

import (
	"os"

	"github.com/seed-014b8713/sslfilter/adapters/redis/relayredis"
	"github.com/seed-014b8713/sslfilter/internal/relay/command"
)

func main() { os.Exit(command.Main(os.Args[1:], relayredis.Open)) }
