// Package filter stacks protocol layers on top of each other, as
// POE::Filter::Stackable does: any number of filters, such as TLS, that turn
// bytes into bytes, and on top of them a codec that turns bytes into records,
// for example lines or HTTP requests. Layers can be added and removed while
// data flows.
//
//	network bytes  ──Receive──▶ ┌────────┐   ┌────────┐   ┌───────┐ ──Next──▶ records
//	                            │ Filter │ … │ Filter │   │ Codec │
//	network bytes ◀──Outgoing── └────────┘   └────────┘   └───────┘ ◀──Send── records
//
// # The loop
//
// A [Stack] has no socket, no goroutine and no clock, and it never blocks.
// Package wheel drives a Stack over a connection. Without it, you feed the
// Stack yourself:
//
//	s := filter.NewStack(&filter.Line{})
//	err := s.Push(tls)              // a *sslfilter.Filter; leave it out for plain text
//	for {
//		out = s.Outgoing(out[:0])   // 1. send what is ready for the network
//		if len(out) > 0 {           //    (an empty Write on a net.Pipe would block)
//			conn.Write(out)
//		}
//		n, err := conn.Read(in)     // 2. read from the network
//		s.Receive(in[:n])
//		for {
//			rec, err := s.Next()    // 3. handle the records that have arrived
//			if rec == nil {
//				break               // err is nil: more input is needed
//			}
//			s.Send("you said " + rec.(string))
//		}
//	}
//
// [Stream] has no records: it returns the bytes that have arrived. [Records]
// returns one []byte for each TLS record. The records of [Line] are strings. [HTTPD]
// returns *http.Request and sends *http.Response.
//
// # Switching
//
// STARTTLS is Push, between two records:
//
//	case "STARTTLS":
//		s.Send("220 go ahead")      // leaves in plain text
//		err := s.Push(tls)          // everything after it is TLS
//
// A switch separates the bytes received before it from those received after
// it. Bytes that arrived before the switch and do not belong to a record yet
// could be mistaken for data that came through TLS. That is the STARTTLS
// injection, CVE-2011-0411. Push therefore returns a [LeftoverError], which says
// how many such bytes there are. With [KeepLeftover] they become the first input
// of the new filter instead. Use it if the client may start TLS without waiting
// for the answer; an injected command then makes the handshake fail. Leftover
// bytes never become records.
//
// Therefore take records one at a time: after the record that asks for the switch,
// switch before you call Next again.
//
// [Stack.Pop] removes TLS after Next has returned io.EOF because of the peer's
// close_notify. The plain bytes that the peer sent after it are the next input.
// Push on a stack with TLS runs TLS inside TLS.
//
// # Ends and errors
//
// Call [Stack.ReceiveEOF] when the transport ends. Next then returns io.EOF
// after a clean end, and io.ErrUnexpectedEOF if the connection or the last
// record was truncated. An error of a filter is fatal, and the Stack returns it
// from then on. An error of the codec, such as a line that is too long or a bad
// request, ends only reading, so that an answer can be sent.
//
// # Bounds
//
// [MaxUnread] bounds the data that Next has not returned, and [MaxWaiting] the
// data that Outgoing has not returned. Each codec bounds its records, and each
// filter has bounds of its own.
package filter
