// Package relay is what cmd/sslrelay runs: TLS and STARTTLS in front of, or
// behind, programs that speak TCP, HTTP, IMAP, POP3 or SMTP.
//
//	client ──▶ listener ──TLS──▶ front end ──▶ backend by user ──TLS──▶ server
//
// [Load] and [Flags] make a [Config], [Check] explains one, [New] opens its
// listeners and [Server.Serve] runs them. The front ends and the dialogs with
// the backends are state machines over bytes, without a socket in them.
package relay
