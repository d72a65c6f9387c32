// Package sslfilter is a TLS engine without a socket, over OpenSSL memory BIOs:
// bytes from the network go in and plaintext comes out, and the other way
// round. It is the Perl module POE::Filter::SSL ("the original") for Go. It is
// also an OpenSSL binding, and uses OpenSSL's terms: cipher strings, security
// levels, verify error numbers, FIPS providers.
//
//	network bytes  ──Receive──▶ ┌────────┐ ──▶ plaintext
//	                            │ Filter │
//	network bytes ◀──Outgoing── └────────┘ ◀──Send── plaintext
//
// # The loop
//
// A [Filter] is one end of one connection. It has no socket, no goroutine and
// no clock, and it never blocks. You feed it bytes and send whatever it
// produces:
//
//	f, err := ctx.NewFilter()      // or New, for a single connection
//	defer f.Close()
//	f.Handshake()                  // starts a client; does nothing on a server
//	for {
//		out = f.Outgoing(out[:0])  // 1. send what is ready for the network
//		if len(out) > 0 {          //    (an empty Write on a net.Pipe would block)
//			conn.Write(out)
//		}
//		n, err := conn.Read(in)    // 2. read from the network
//		if err == io.EOF {
//			err = f.ReceiveEOF()   //    io.EOF: a clean end; io.ErrUnexpectedEOF: truncated
//		}
//		if err != nil {
//			return err
//		}
//		plain, err = f.Receive(plain[:0], in[:n])
//		...                        // 3. use plain, and call f.Send with the answer
//		if err == io.EOF {
//			f.CloseWrite()         //    the peer has closed: answer with close_notify
//		}
//		if err != nil {
//			conn.Write(f.Outgoing(nil))
//			return err
//		}
//	}
//
// Three rules cover everything:
//
//   - Call Outgoing after every call of Handshake, Receive, Send, CloseWrite,
//     KeyUpdate and Detach, even after an error: it may have an alert for the
//     peer.
//   - If Receive returns no new data and Outgoing is empty, the filter needs
//     more input. That is not an error.
//   - An error of Receive or Send is fatal and is returned by every later call,
//     unless it is io.EOF, [ErrBufferFull] or a [UsageError].
//
// # Contexts
//
// [NewCtx] turns [Options] into a [Ctx]: certificates, trusted CAs, ciphers. A
// Ctx is safe for concurrent use and serves any number of connections. [New]
// makes a single connection with its own Ctx, as the original's new does.
//
// # Clients
//
// A client verifies the certificate chain and the name of the server, and
// rejects a server that fails. Without a name the handshake does not start: set
// it with [Filter.SetServerName] or Options.ServerName. With
// Options.InsecureSkipVerify a client accepts any server, as in the original.
//
// # Client certificates
//
// A server with Options.ClientCert asks for a certificate and accepts every
// client. After the handshake [Filter.ClientCertValid] returns the verdict and
// [Filter.Peer] the reasons, so that a page can tell visitors what is wrong with
// their certificates. With Options.RequireValidClientCert the handshake fails
// instead.
//
// # Server names
//
// A server with several contexts chooses one when the ClientHello has arrived:
// [NewServerFilter] makes its connections, and [NewNameMap] finds the context by
// the names in the certificates. [ReadClientHello] reads a ClientHello alone.
//
// # Negotiated parameters
//
// [Filter.Version], [Filter.Cipher] and [Filter.Group] describe the connection,
// and [Filter.ALPN] is the application protocol if Options.ALPN has a list. ALPN
// is empty, and the others are "(NONE)" or 0, until the handshake has negotiated
// them. [Filter.ServerName] is the host name that the client sent.
// [Filter.ExportKeyingMaterial] derives secrets that only the two ends know.
//
// # Closing
//
// [Filter.CloseWrite] sends close_notify. Receive returns io.EOF after the
// peer's close_notify. When the transport ends, call [Filter.ReceiveEOF]: it
// tells a clean end from a truncated connection. [Filter.Detach] ends TLS and
// continues in plain text on the same connection. The reverse, STARTTLS, needs
// no method: make a Filter for the existing connection, and give it every byte
// that has not been read yet.
//
// # Errors
//
// An [*Error] has OpenSSL's whole error queue. errors.As finds a [*VerifyError]
// in it if a certificate was rejected, and an [AlertError] if the peer sent an
// alert. A [*ServerNameError] is a client for which a server has no context. An
// [*OptionError] names a wrong option, and a [*UsageError] is a mistake of the
// calling program.
package sslfilter
