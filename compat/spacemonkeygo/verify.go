//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"errors"
	"fmt"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// VerifyOptions say how a peer is verified.
type VerifyOptions int

const (
	VerifyNone             VerifyOptions = C.SSL_VERIFY_NONE
	VerifyPeer             VerifyOptions = C.SSL_VERIFY_PEER
	VerifyFailIfNoPeerCert VerifyOptions = C.SSL_VERIFY_FAIL_IF_NO_PEER_CERT
	VerifyClientOnce       VerifyOptions = C.SSL_VERIFY_CLIENT_ONCE
)

// VerifyCallback decides one step of a verification: OpenSSL has found that
// the certificate of store is all right, or else store has the error. If the result
// is false, the peer is refused.
//
// It is called after the handshake, and before any data is read or written, for the
// same certificates and in the same order as OpenSSL would call it. So a peer that
// is refused sees that the connection ends, and no alert.
type VerifyCallback func(ok bool, store *CertificateStoreCtx) bool

// CertificateStoreCtx is one step of a verification.
type CertificateStoreCtx struct {
	cert  *Certificate
	code  VerifyResult
	depth int
}

// VerifyResult returns the error of this step, or Ok.
func (s *CertificateStoreCtx) VerifyResult() VerifyResult { return s.code }

// Err returns the error of this step, or nil.
func (s *CertificateStoreCtx) Err() error {
	if s.code == Ok {
		return nil
	}
	return errors.New("openssl: " + sslfilter.VerifyCode(s.code).String())
}

// Depth returns the depth of the certificate. Depth 0 is the peer's own certificate.
func (s *CertificateStoreCtx) Depth() int { return s.depth }

// GetCurrentCert returns the certificate, or nil if there is none.
func (s *CertificateStoreCtx) GetCurrentCert() *Certificate { return s.cert }

// judge calls the callback for each step of the verification of the peer. It
// returns the result of the verification, and false if the callback refuses the
// peer. Without a callback the result is the first error.
func judge(tls *sslnet.Conn, callback VerifyCallback) (result VerifyResult, ok bool, err error) {
	peer := tls.Peer()
	if peer == nil {
		return Ok, false, errors.New("openssl: the connection is closed")
	}
	if callback != nil && peer.Exists && len(peer.IDs) == 0 { // memory is short
		return ApplicationVerification, false, nil
	}
	for _, id := range peer.IDs {
		code := VerifyResult(id.Err)
		if code == hostnameMismatch || code == ipAddressMismatch {
			continue // VerifyHostname verifies the name
		}
		if callback == nil {
			if code != Ok {
				return code, true, nil
			}
			continue
		}
		step := &CertificateStoreCtx{code: code, depth: id.Depth}
		if id.Depth < len(peer.Chain) {
			if step.cert, err = certificateFromDER(peer.Chain[id.Depth].DER); err != nil {
				return result, false, err
			}
		}
		if code != Ok {
			result = code
		}
		if !callback(code == Ok, step) {
			if code == Ok {
				result = ApplicationVerification
			}
			return result, false, nil
		}
	}
	return result, true, nil
}

// VerifyResult is one of OpenSSL's X509_V_ERR numbers.
type VerifyResult int

const (
	Ok                            VerifyResult = C.X509_V_OK
	UnableToGetIssuerCert         VerifyResult = C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
	UnableToGetCrl                VerifyResult = C.X509_V_ERR_UNABLE_TO_GET_CRL
	UnableToDecryptCertSignature  VerifyResult = C.X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE
	UnableToDecryptCrlSignature   VerifyResult = C.X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE
	UnableToDecodeIssuerPublicKey VerifyResult = C.X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY
	CertSignatureFailure          VerifyResult = C.X509_V_ERR_CERT_SIGNATURE_FAILURE
	CrlSignatureFailure           VerifyResult = C.X509_V_ERR_CRL_SIGNATURE_FAILURE
	CertNotYetValid               VerifyResult = C.X509_V_ERR_CERT_NOT_YET_VALID
	CertHasExpired                VerifyResult = C.X509_V_ERR_CERT_HAS_EXPIRED
	CrlNotYetValid                VerifyResult = C.X509_V_ERR_CRL_NOT_YET_VALID
	CrlHasExpired                 VerifyResult = C.X509_V_ERR_CRL_HAS_EXPIRED
	ErrorInCertNotBeforeField     VerifyResult = C.X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD
	ErrorInCertNotAfterField      VerifyResult = C.X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD
	ErrorInCrlLastUpdateField     VerifyResult = C.X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD
	ErrorInCrlNextUpdateField     VerifyResult = C.X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD
	OutOfMem                      VerifyResult = C.X509_V_ERR_OUT_OF_MEM
	DepthZeroSelfSignedCert       VerifyResult = C.X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
	SelfSignedCertInChain         VerifyResult = C.X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
	UnableToGetIssuerCertLocally  VerifyResult = C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
	UnableToVerifyLeafSignature   VerifyResult = C.X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
	CertChainTooLong              VerifyResult = C.X509_V_ERR_CERT_CHAIN_TOO_LONG
	CertRevoked                   VerifyResult = C.X509_V_ERR_CERT_REVOKED
	InvalidCa                     VerifyResult = C.X509_V_ERR_INVALID_CA
	PathLengthExceeded            VerifyResult = C.X509_V_ERR_PATH_LENGTH_EXCEEDED
	InvalidPurpose                VerifyResult = C.X509_V_ERR_INVALID_PURPOSE
	CertUntrusted                 VerifyResult = C.X509_V_ERR_CERT_UNTRUSTED
	CertRejected                  VerifyResult = C.X509_V_ERR_CERT_REJECTED
	SubjectIssuerMismatch         VerifyResult = C.X509_V_ERR_SUBJECT_ISSUER_MISMATCH
	AkidSkidMismatch              VerifyResult = C.X509_V_ERR_AKID_SKID_MISMATCH
	AkidIssuerSerialMismatch      VerifyResult = C.X509_V_ERR_AKID_ISSUER_SERIAL_MISMATCH
	KeyusageNoCertsign            VerifyResult = C.X509_V_ERR_KEYUSAGE_NO_CERTSIGN
	UnableToGetCrlIssuer          VerifyResult = C.X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER
	UnhandledCriticalExtension    VerifyResult = C.X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION
	KeyusageNoCrlSign             VerifyResult = C.X509_V_ERR_KEYUSAGE_NO_CRL_SIGN
	UnhandledCriticalCrlExtension VerifyResult = C.X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION
	InvalidNonCa                  VerifyResult = C.X509_V_ERR_INVALID_NON_CA
	ProxyPathLengthExceeded       VerifyResult = C.X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED
	KeyusageNoDigitalSignature    VerifyResult = C.X509_V_ERR_KEYUSAGE_NO_DIGITAL_SIGNATURE
	ProxyCertificatesNotAllowed   VerifyResult = C.X509_V_ERR_PROXY_CERTIFICATES_NOT_ALLOWED
	InvalidExtension              VerifyResult = C.X509_V_ERR_INVALID_EXTENSION
	InvalidPolicyExtension        VerifyResult = C.X509_V_ERR_INVALID_POLICY_EXTENSION
	NoExplicitPolicy              VerifyResult = C.X509_V_ERR_NO_EXPLICIT_POLICY
	UnnestedResource              VerifyResult = C.X509_V_ERR_UNNESTED_RESOURCE
	ApplicationVerification       VerifyResult = C.X509_V_ERR_APPLICATION_VERIFICATION

	hostnameMismatch  = VerifyResult(sslfilter.VerifyHostnameMismatch)
	ipAddressMismatch = VerifyResult(sslfilter.VerifyIPAddressMismatch)
)

// policy is the part of a context that a single connection can change, without the
// callback itself. It is the key of the engine's contexts.
type policy struct {
	mode     VerifyOptions
	depth    int // -1: not set
	options  Options
	callback bool
}

// apply sets what the policy means in o. With a callback the engine verifies, but
// refuses nobody.
func (p policy) apply(o *sslfilter.Options) error {
	switch {
	case p.depth == 0:
		return errors.New("openssl: SetVerifyDepth: a depth of 0 is not supported")
	case p.depth > 0:
		o.CAVerifyDepth = p.depth
	default:
		o.CAVerifyDepth = 100 // OpenSSL's default
	}
	if bad := p.mode &^ (VerifyPeer | VerifyFailIfNoPeerCert | VerifyClientOnce); bad != 0 {
		return fmt.Errorf("openssl: SetVerify: %#x is not a verify mode", int(bad))
	}
	demanded := p.mode&VerifyFailIfNoPeerCert != 0
	switch {
	case o.Client && (p.mode&VerifyPeer == 0 || p.callback):
		o.InsecureSkipVerify = true
	case o.Client:
		// The engine verifies a name too. Here Dial and the program do that.
		o.IgnoreVerifyErrors = []sslfilter.VerifyCode{sslfilter.VerifyHostnameMismatch, sslfilter.VerifyIPAddressMismatch}
	case p.mode&VerifyPeer == 0:
	case p.callback:
		o.ClientCert, o.BlockBadClientCert = true, demanded
	default:
		o.BlockInvalidClientCert, o.RequireValidClientCert = !demanded, demanded
	}
	return p.options.apply(o)
}
