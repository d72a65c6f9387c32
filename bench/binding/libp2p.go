//go:build libp2p

package main

import "github.com/libp2p/go-openssl"

// version is the version of the module.
const version = "v0.1.0"

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
