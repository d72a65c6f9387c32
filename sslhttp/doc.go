// Package sslhttp provides HTTP/1.1 and HTTP/2 servers and clients with net/http
// over connections of package sslnet.
//
// For HTTP/1.1 alone you do not need this package: an http.Server can serve an
// sslnet.Listener, and an http.Transport can dial with an sslnet.Dialer. But
// net/http uses HTTP/2 only on connections of crypto/tls. [Serve] and [Transport]
// make it use HTTP/2 on connections of package sslnet, if ALPN chose "h2".
// Options.ALPN must list the protocols; without it, HTTP/1.1 is used.
//
// In a handler, [FromContext] returns the connection, which has OpenSSL's verdict
// on the client's certificate.
package sslhttp
