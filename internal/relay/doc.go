// Package relay accepts connections, adds or removes TLS, and forwards them to
// backends. It is the implementation of cmd/sslrelay.
//
//	client ──▶ listener ──TLS──▶ front end ──▶ backend by user ──TLS──▶ server
//
// Package config reads a configuration. [Check] explains it, [New] opens its
// listeners, and [Server.Serve] runs them. Package protocol has the protocols with
// STARTTLS; modes tcp and http are in this package.
package relay
