//go:build spacemonkey

package main

import "github.com/spacemonkeygo/openssl"

// version is the version of the module. The linker sets it for compat/spacemonkeygo.
var version = "of 2018 (c2dcc5c)"

type (
	context    = openssl.Ctx
	connection = openssl.Conn
)

const (
	noTicket               = openssl.NoTicket
	releaseBuffers         = openssl.ReleaseBuffers
	sessionCacheOff        = openssl.SessionCacheOff
	verified               = openssl.Ok
	verifyFailIfNoPeerCert = openssl.VerifyFailIfNoPeerCert
	verifyPeer             = openssl.VerifyPeer
)

var (
	listen                 = openssl.Listen
	loadCertificateFromPEM = openssl.LoadCertificateFromPEM
	loadPrivateKeyFromPEM  = openssl.LoadPrivateKeyFromPEM
	newClient              = openssl.Client
	newCtx                 = openssl.NewCtx
	newCtxFromFiles        = openssl.NewCtxFromFiles
	newServer              = openssl.Server
	newGCM                 = openssl.NewGCMEncryptionCipherCtx
	sha256                 = openssl.SHA256
)
