//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"errors"
	"fmt"

	"github.com/seed-014b8713/sslfilter"
)

// SSLRecordSize is the largest plaintext of a TLS record, in bytes.
const SSLRecordSize = 16 * 1024

// SSLVersion is a protocol version.
type SSLVersion int

const (
	SSLv3   SSLVersion = 0x02 // not supported
	TLSv1   SSLVersion = 0x03 // needs "@SECLEVEL=0" in SetCipherList with OpenSSL 3
	TLSv1_1 SSLVersion = 0x04 // needs "@SECLEVEL=0" in SetCipherList with OpenSSL 3
	TLSv1_2 SSLVersion = 0x05

	// AnyVersion is TLS 1.2 and later.
	AnyVersion SSLVersion = 0x06
)

// Options are the SSL_OP bits of OpenSSL.
type Options int

const (
	NoCompression                      Options = C.SSL_OP_NO_COMPRESSION // always
	NoSSLv2                            Options = C.SSL_OP_NO_SSLv2       // always
	NoSSLv3                            Options = C.SSL_OP_NO_SSLv3       // always
	NoTLSv1                            Options = C.SSL_OP_NO_TLSv1       // always, unless NewCtxWithVersion asks for TLSv1
	CipherServerPreference             Options = C.SSL_OP_CIPHER_SERVER_PREFERENCE
	NoSessionResumptionOrRenegotiation Options = C.SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION // always: servers do not renegotiate
	NoTicket                           Options = C.SSL_OP_NO_TICKET
)

// Bits without a name in this package.
const (
	noTLSv1_1       Options = C.SSL_OP_NO_TLSv1_1
	noTLSv1_2       Options = C.SSL_OP_NO_TLSv1_2
	noTLSv1_3       Options = C.SSL_OP_NO_TLSv1_3
	noRenegotiation Options = C.SSL_OP_NO_RENEGOTIATION

	// withoutEffect are bits that describe what is always the case, or bugs of
	// peers that OpenSSL or TLS 1.2 do not have any more.
	withoutEffect = NoCompression | NoSSLv2 | NoSSLv3 | NoTLSv1 | noTLSv1_1 | NoSessionResumptionOrRenegotiation |
		C.SSL_OP_ALL | C.SSL_OP_SINGLE_DH_USE | C.SSL_OP_SINGLE_ECDH_USE

	defaultOptions = NoCompression | NoSSLv2 | NoSSLv3
)

// apply sets what the bits mean in o.
func (bits Options) apply(o *sslfilter.Options) error {
	const known = withoutEffect | CipherServerPreference | NoTicket | noTLSv1_2 | noTLSv1_3 | noRenegotiation
	if rest := bits &^ known; rest != 0 {
		return fmt.Errorf("openssl: SetOptions: %#x is not supported", int(rest))
	}
	if !o.Client {
		o.NoHonor = bits&CipherServerPreference == 0
		if bits&NoTicket != 0 {
			o.NumTickets = -1
		}
	}
	if o.Client && bits&noRenegotiation != 0 {
		o.NoRenegotiation = true
	}
	if o.MinVersion != 0 {
		return nil // one version, by NewCtxWithVersion
	}
	switch bits & (noTLSv1_2 | noTLSv1_3) {
	case noTLSv1_2 | noTLSv1_3:
		return errors.New("openssl: SetOptions: no TLS version is left")
	case noTLSv1_2:
		o.MinVersion = sslfilter.VersionTLS13
	case noTLSv1_3:
		o.MaxVersion = sslfilter.VersionTLS12
	}
	return nil
}

// Modes are the SSL_MODE bits of OpenSSL. They are kept, and have no effect.
type Modes int

// ReleaseBuffers is SSL_MODE_RELEASE_BUFFERS.
const ReleaseBuffers Modes = C.SSL_MODE_RELEASE_BUFFERS

// SessionCacheModes say which sessions are kept.
type SessionCacheModes int

const (
	SessionCacheOff    SessionCacheModes = C.SSL_SESS_CACHE_OFF
	SessionCacheClient SessionCacheModes = C.SSL_SESS_CACHE_CLIENT
	SessionCacheServer SessionCacheModes = C.SSL_SESS_CACHE_SERVER
	SessionCacheBoth   SessionCacheModes = C.SSL_SESS_CACHE_BOTH
	NoAutoClear        SessionCacheModes = C.SSL_SESS_CACHE_NO_AUTO_CLEAR
	NoInternalLookup   SessionCacheModes = C.SSL_SESS_CACHE_NO_INTERNAL_LOOKUP
	NoInternalStore    SessionCacheModes = C.SSL_SESS_CACHE_NO_INTERNAL_STORE
	NoInternal         SessionCacheModes = C.SSL_SESS_CACHE_NO_INTERNAL
)

const (
	defaultCacheSize = C.SSL_SESSION_CACHE_MAX_SIZE_DEFAULT
	defaultTimeout   = 7200 // seconds, as SSL_get_default_timeout(3) of TLS
)
