// Package sslredis lets the servers of a fleet share TLS sessions through Redis: a
// Keeper gives all servers the same ticket keys, and a Store keeps the sessions
// themselves. The package uses github.com/redis/go-redis/v9 and is a module of its own, so
// that the library does not depend on go-redis.
//
// Redis gets names and values that are sealed under a Secret of the fleet. It never sees
// the id or the secrets of a session, nor a ticket key. If Redis is slow, unreachable, full
// or compromised, the worst effect is that clients make full handshakes: no client is
// rejected.
//
// The sealing uses Go's standard library and not OpenSSL: HMAC-SHA-256, HKDF and AES-256-GCM
// with random nonces. A program that has to use validated cryptography builds with
// GOFIPS140 and runs with GODEBUG=fips140=on, in addition to Options.FIPS of the library.
package sslredis
