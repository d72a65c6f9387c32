// Package openssl has the exported names of github.com/spacemonkeygo/openssl over
// sslfilter. A program that was written for that package builds with OpenSSL 1.1.1
// or later after one replace line in its go.mod. docs/spacemonkeygo.md of sslfilter
// has that line, the differences, and the native name to use instead of each name.
//
// TLS is that of the packages sslfilter and sslnet. A Ctx can still be changed at
// any time: a connection uses what the Ctx has when Server or Client is called.
// Certificates, keys, digests and ciphers call OpenSSL's EVP functions. No C code
// calls Go: a VerifyCallback runs after the handshake, before any data is read or
// written, and a TLSExtServernameCallback when the ClientHello has arrived.
//
// New programs should use sslfilter itself.
package openssl
