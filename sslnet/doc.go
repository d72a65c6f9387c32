// Package sslnet puts TLS connections of package sslfilter where those of
// crypto/tls are expected: [Conn] is a net.Conn, [Listener] a net.Listener, and
// [Dial], [Listen], [Client] and [Server] are as there, with an
// [sslfilter.Ctx] in place of the Config.
//
// Beyond crypto/tls a Conn has OpenSSL's verdict on the peer's certificate
// ([Conn.ClientCertValid], [Conn.Peer]), loses nothing when a deadline ends a
// Write, takes over connections that began in plain text ([ServerBuffered],
// [ClientBuffered]) and gives them back ([Conn.Detach]).
//
// Package sslhttp serves and fetches HTTP/1.1 and HTTP/2 over it.
package sslnet
