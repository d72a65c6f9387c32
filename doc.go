// Package sslfilter is POE::Filter::SSL for Go: a TLS engine without a socket,
// over OpenSSL memory BIOs. Bytes from the network go in and plaintext comes
// out, and back. It is also a binding of OpenSSL, whose words it speaks: cipher
// strings, security levels, verify error numbers, FIPS providers.
//
//	network bytes  ──Receive──▶ ┌────────┐ ──▶ plaintext
//	                            │ Filter │
//	network bytes ◀──Outgoing── └────────┘ ◀──Send── plaintext
//
// # The loop
//
// A [Filter] is one end of one connection. It owns no socket, no goroutine and
// no clock, and never blocks. Whoever has the bytes drives it:
//
//	f, err := ctx.NewFilter()      // or New, for a single connection
//	defer f.Close()
//	f.Handshake()                  // a client speaks first; nothing on a server
//	for {
//		out = f.Outgoing(out[:0])  // 1. what waits for the network: send it
//		conn.Write(out)
//		n, err := conn.Read(in)    // 2. what came from the network
//		if err != nil {
//			return f.ReceiveEOF()  //    io.EOF: it ended; io.ErrUnexpectedEOF: it was cut
//		}
//		plain, err = f.Receive(plain[:0], in[:n])
//		...                        // 3. use plain, and call f.Send with the answer
//		if err != nil {
//			conn.Write(f.Outgoing(nil))
//			return err
//		}
//	}
//
// Three rules cover everything. Take Outgoing after every call of Handshake,
// Receive, Send, CloseWrite, KeyUpdate and Detach, after an error too: then it
// has the alert for the peer. Nothing new from Receive and nothing in Outgoing
// means that more input is needed, and is no error. An error of Receive or
// Send other than io.EOF, [ErrBufferFull] and [UsageError] is fatal and stays.
//
// # Contexts
//
// [NewCtx] turns [Options] into a [Ctx], once: certificates, trust, ciphers.
// It is safe for concurrent use and serves any number of connections. [New]
// makes one connection with a Ctx of its own, as the original's new does.
//
// # Clients
//
// A client verifies the chain and the name of the server and refuses what
// does not fit. Without a name the handshake does not start. Set one with
// [Filter.SetServerName] or Options.ServerName; Options.InsecureSkipVerify
// brings back the original's way.
//
// # Client certificates
//
// A server with Options.ClientCert asks for a certificate and refuses nobody:
// [Filter.ClientCertValid] has the verdict afterwards, and [Filter.Peer] the
// reasons, so that a page can tell the visitor what is wrong. With
// Options.RequireValidClientCert the handshake itself refuses.
//
// # What was agreed on
//
// [Filter.Version], [Filter.Cipher] and [Filter.Group] tell it, and [Filter.ALPN]
// the application protocol if Options.ALPN has a list. ALPN is empty, and the
// others are "(NONE)" or 0, until the handshake has come so far. [Filter.ServerName]
// is the host name that the client sent. [Filter.ExportKeyingMaterial] gives
// secrets that only both ends know.
//
// # Ends
//
// [Filter.CloseWrite] sends close_notify; Receive gives io.EOF once the peer's
// has come. When the transport ends, [Filter.ReceiveEOF] tells a clean end from
// a cut connection. [Filter.Detach] takes TLS off and goes on in plain text on
// the same connection; STARTTLS, its reverse, is making a Filter on a
// connection that exists, and giving it every byte that has not been read.
//
// # Errors
//
// [*Error] has OpenSSL's whole error queue. errors.As finds in it a
// [*VerifyError] where a certificate was refused and an [AlertError] where the
// peer sent one. [*OptionError] names a wrong option, [*UsageError] a mistake of
// the calling program.
package sslfilter
