// Package sslredis lets the servers of a fleet share TLS sessions through Redis: a
// Keeper gives all servers the same ticket keys, and a Store keeps the sessions
// themselves. The package uses github.com/redis/go-redis/v9 and is a separate module, so
// that the library does not depend on go-redis.
//
// All names and values in Redis are sealed under a Secret of the fleet. Redis never sees
// the id or the secrets of a session, nor a ticket key. If Redis is slow, unreachable, full
// or compromised, clients make full handshakes at worst, and no client is rejected. A
// compromised Redis can also make the servers use derived keys (see Keeper), and can restore
// a session that Store.Delete has removed, until the session expires.
//
// WARNING: An attacker who obtains the Secret can decrypt recorded connections of TLS 1.2,
// and can impersonate any client of a server with Options.ResumeClientCert. Protect it like
// the private key of the CA of the clients. docs/sessions.md has the details.
//
// The sealing uses Go's standard library and not OpenSSL: HMAC-SHA-256, HKDF and AES-256-GCM
// with random nonces. A program that has to use validated cryptography builds with
// GOFIPS140 and runs with GODEBUG=fips140=on, in addition to Options.FIPS of the library.
package sslredis
