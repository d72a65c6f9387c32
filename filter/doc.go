// Package filter puts protocol layers on top of each other, as
// POE::Filter::Stackable does: any number of filters that turn bytes into
// bytes, TLS above all, and on top a codec that turns bytes into records,
// lines or HTTP requests. Layers can be put in and taken off while data flow.
//
//	network bytes  ──Receive──▶ ┌────────┐   ┌────────┐   ┌───────┐ ──Next──▶ records
//	                            │ Filter │ … │ Filter │   │ Codec │
//	network bytes ◀──Outgoing── └────────┘   └────────┘   └───────┘ ◀──Send── records
//
// # The loop
//
// A [Stack] owns no socket, no goroutine and no clock, and never blocks.
// Package wheel drives one over a connection; without it, whoever has the
// bytes does:
//
//	s := filter.NewStack(&filter.Line{})
//	err := s.Push(tls)              // a *sslfilter.Filter; leave it out for plain text
//	for {
//		out = s.Outgoing(out[:0])   // 1. what waits for the network: send it
//		conn.Write(out)
//		n, err := conn.Read(in)     // 2. what came from the network
//		s.Receive(in[:n])
//		for {
//			rec, err := s.Next()    // 3. records, until there is none
//			if rec == nil {
//				break               // err is nil: more input is needed
//			}
//			s.Send("you said " + rec.(string))
//		}
//	}
//
// [Stream] has no records: it hands out whatever has arrived. [Records] hands
// out one []byte for each TLS record. [Line] has strings. [HTTPD] gives
// *http.Request and takes *http.Response.
//
// # Switching
//
// STARTTLS is Push, between two records:
//
//	case "STARTTLS":
//		s.Send("220 go ahead")      // leaves in plain text
//		err := s.Push(tls)          // everything behind it is TLS
//
// A switch stands between what has been received before it and what comes
// after. Bytes that arrived in front of it and are in no record could be taken
// for something that came through TLS; that is the STARTTLS injection,
// CVE-2011-0411. So Push refuses them with a [LeftoverError], which says how
// many there are. With [KeepLeftover] they become the first input of the new
// filter, which is right for a client that did not wait for the answer, and
// which makes an injected command a broken handshake. Never are they records.
//
// Records must therefore be taken one by one: after the record that asks for
// the switch, switch before the next call of Next.
//
// TLS comes off again with [Stack.Pop], once Next has given io.EOF because the
// peer's close_notify has come. What the peer sent behind it in plain text is
// the next input. Push on a stack with TLS is TLS in TLS.
//
// # Ends and errors
//
// [Stack.ReceiveEOF] says that the transport ended; Next then tells a clean end,
// io.EOF, from a connection that was cut, io.ErrUnexpectedEOF. An incomplete
// record at the end is the second too. Errors of filters are fatal and stay;
// errors of the codec, a line too long or a bad request, end reading only, so
// that an answer can be sent.
//
// # Bounds
//
// [MaxUnread] bounds what Next has not taken, [MaxWaiting] what Outgoing has not
// taken; each codec bounds its records. Filters have bounds of their own.
package filter
