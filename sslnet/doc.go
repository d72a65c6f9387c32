// Package sslnet provides TLS connections over package sslfilter with the
// interface of crypto/tls: [Conn] is a net.Conn, [Listener] is a net.Listener,
// and [Dial], [Listen], [Client] and [Server] work as in crypto/tls, with an
// [sslfilter.Ctx] in place of the Config.
//
// A Conn does more than that of crypto/tls. It has OpenSSL's verdict on the
// peer's certificate ([Conn.ClientCertValid], [Conn.Peer]), it loses no data when
// a deadline ends a Write, it can start TLS on a connection that began in plain
// text ([ServerBuffered], [ClientBuffered]), and it can end TLS and return the
// connection ([Conn.Detach]).
//
// Package sslhttp adds HTTP/1.1 and HTTP/2 clients and servers.
package sslnet
