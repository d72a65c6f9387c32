// Package sslhttp serves and fetches HTTP/1.1 and HTTP/2 over connections of
// package sslnet, with net/http.
//
// An http.Server can serve an sslnet.Listener by itself, and an http.Transport
// can dial with an sslnet.Dialer, as long as HTTP/1.1 is all that is spoken:
// net/http starts HTTP/2 only on connections of crypto/tls. [Serve] and
// [Transport] hand it those on which ALPN chose "h2" in a form that it takes.
// Options.ALPN must offer the protocols; without it HTTP/1.1 is spoken.
//
// Handlers find OpenSSL's verdict on the client's certificate by [FromContext].
package sslhttp
