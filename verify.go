package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"time"
	"unsafe"
)

// VerifyCode is one of OpenSSL's X509_V_ERR numbers.
type VerifyCode int

// Some of the numbers. Any other number can be used as well.
const (
	VerifyOK                   VerifyCode = 0  // X509_V_OK
	VerifyUnspecified          VerifyCode = 1  // X509_V_ERR_UNSPECIFIED
	VerifyUnableToGetIssuer    VerifyCode = 2  // X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
	VerifyUnableToGetCRL       VerifyCode = 3  // X509_V_ERR_UNABLE_TO_GET_CRL
	VerifyCertSignature        VerifyCode = 7  // X509_V_ERR_CERT_SIGNATURE_FAILURE
	VerifyCertNotYetValid      VerifyCode = 9  // X509_V_ERR_CERT_NOT_YET_VALID
	VerifyCertHasExpired       VerifyCode = 10 // X509_V_ERR_CERT_HAS_EXPIRED
	VerifyCRLHasExpired        VerifyCode = 12 // X509_V_ERR_CRL_HAS_EXPIRED
	VerifySelfSignedLeaf       VerifyCode = 18 // X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
	VerifySelfSignedInChain    VerifyCode = 19 // X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
	VerifyUnableToGetIssuerLoc VerifyCode = 20 // X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
	VerifyUnableToVerifyLeaf   VerifyCode = 21 // X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
	VerifyChainTooLong         VerifyCode = 22 // X509_V_ERR_CERT_CHAIN_TOO_LONG
	VerifyCertRevoked          VerifyCode = 23 // X509_V_ERR_CERT_REVOKED
	VerifyInvalidPurpose       VerifyCode = 26 // X509_V_ERR_INVALID_PURPOSE
	VerifyHostnameMismatch     VerifyCode = 62 // X509_V_ERR_HOSTNAME_MISMATCH
	VerifyIPAddressMismatch    VerifyCode = 64 // X509_V_ERR_IP_ADDRESS_MISMATCH
	VerifyOCSPNeeded           VerifyCode = 73 // X509_V_ERR_OCSP_VERIFY_NEEDED: the server staples no response
	VerifyOCSPFailed           VerifyCode = 74 // X509_V_ERR_OCSP_VERIFY_FAILED: the stapled response is not acceptable
	VerifyOCSPUnknown          VerifyCode = 75 // X509_V_ERR_OCSP_CERT_UNKNOWN
)

// String returns OpenSSL's description: "certificate has expired".
//
// Calls X509_verify_cert_error_string(3).
func (c VerifyCode) String() string {
	return C.GoString(C.X509_verify_cert_error_string(C.long(c)))
}

// AdmitsAnyone reports whether a side that ignores this error alone accepts a
// certificate that anybody can make with their own keys. These are 7, 18, 19
// and 20: a forged signature, a self-signed certificate, an unknown root and an
// unknown intermediate. With one of them in IgnoreVerifyErrors nothing is
// really verified.
func (c VerifyCode) AdmitsAnyone() bool {
	switch c {
	case VerifyCertSignature, VerifySelfSignedLeaf, VerifySelfSignedInChain, VerifyUnableToGetIssuerLoc:
		return true
	}
	return false
}

// verifyRecord is one call of the verify callback.
type verifyRecord struct {
	code    VerifyCode
	depth   int
	ignored bool
	cert    certInfo
}

// certInfo has the properties of a certificate that the original reports.
type certInfo struct {
	subject, issuer string
	serial          []byte
	negative        bool

	notBefore, notAfter time.Time // only set by chain
}

// verdict is the result of the verify callback for one chain, in C memory: of
// the handshakes of a connection, or of a chain that judge has verified.
type verdict struct {
	v    *C.fssl_verdict
	live any // owns the memory of v
}

// verdict returns the verdict of the last handshake.
func (h *sslHandle) verdict() verdict { return verdict{&h.ptr.verdict, h} }

// verdictHandle owns a verdict that does not belong to a handshake.
type verdictHandle struct{ handle[*C.fssl_verdict] }

func freeVerdict(p *C.fssl_verdict) { C.fssl_verdict_free(p) }

func (h *verdictHandle) close() { h.handle.close(freeVerdict) }

func (h *verdictHandle) verdict() verdict { return verdict{h.ptr, h} }

// judge verifies chain, which is in DER form with the leaf first, as a
// handshake of this connection would: with the same trust store, name, policy
// and callback. An error means that nothing was verified. The caller closes the
// result.
//
// Calls X509_verify_cert(3).
func (h *sslHandle) judge(lib library, chain [][]byte) (*verdictHandle, error) {
	defer runtime.KeepAlive(h)
	list, _, err := lib.parseCerts(nil)
	if err != nil {
		return nil, err
	}
	defer list.free()
	for _, der := range chain {
		if err := list.add(lib, der); err != nil {
			return nil, err
		}
	}
	p := C.fssl_verdict_new()
	if p == nil {
		return nil, outOfMemory("X509_verify_cert", nil)
	}
	v := new(verdictHandle)
	v.own(p, freeVerdict)
	var errs C.fssl_errors
	if list.len() > 0 && C.fssl_judge(h.ptr, p, nil, list.stack, &errs) != 1 {
		v.close()
		if errs.n == 0 {
			return nil, outOfMemory("X509_verify_cert", nil)
		}
		return nil, newError("X509_verify_cert", 0, records(&errs))
	}
	return v, nil
}

// recorded returns the number of calls of the verify callback, which is 0 if
// there was no certificate.
func (v verdict) recorded() int {
	defer runtime.KeepAlive(v.live)
	return int(v.v.n_rec)
}

// acceptable reports whether there is a record, nothing was rejected, and every
// recorded error is ignored. It is false during a renegotiation that has
// brought new records.
func (v verdict) acceptable() bool {
	defer runtime.KeepAlive(v.live)
	if v.v.unproved != 0 || v.v.refused != 0 {
		return false
	}
	for i := range v.rec() {
		if r := &v.rec()[i]; r.code != 0 && r.ignored == 0 {
			return false
		}
	}
	return v.v.n_rec > 0
}

// unproved reports whether the records are from a renegotiation that is not
// complete.
func (v verdict) unproved() bool {
	defer runtime.KeepAlive(v.live)
	return v.v.unproved != 0
}

// rec returns the C array, which is valid until the next call of OpenSSL.
func (v verdict) rec() []C.fssl_record {
	return unsafe.Slice(v.v.rec, int(v.v.n_rec))
}

// records returns what the verify callback recorded, in order. ok is false if C
// has no memory for a name.
func (v verdict) records() (list []verifyRecord, ok bool) {
	defer runtime.KeepAlive(v.live)
	list, ok = make([]verifyRecord, 0, v.v.n_rec), true
	var last *C.X509
	var info certInfo
	for i, r := range v.rec() {
		if i == 0 || r.cert != last { // often several records in a row are about one certificate
			var described bool
			info, described = describe(r.cert)
			last, ok = r.cert, ok && described
		}
		list = append(list, verifyRecord{
			code:    VerifyCode(r.code),
			depth:   int(r.depth),
			ignored: r.ignored != 0,
			cert:    info,
		})
	}
	return list, ok
}

// record returns the certificate of record i.
func (v verdict) record(i int) certInfo {
	defer runtime.KeepAlive(v.live)
	if i < 0 || i >= int(v.v.n_rec) {
		return certInfo{}
	}
	info, _ := describe(v.rec()[i].cert)
	return info
}

// listed returns the index of the first recorded certificate whose serial is on
// a list, or -1.
func (v verdict) listed(serials *crlSerials) int {
	defer runtime.KeepAlive(v.live)
	defer runtime.KeepAlive(serials)
	return int(C.fssl_verdict_listed(v.v, serials.ptr))
}

// refusal returns the error for which the verify callback rejected the chain,
// or nil.
func (v verdict) refusal() *VerifyError {
	defer runtime.KeepAlive(v.live)
	if v.v.refused == 0 {
		return nil
	}
	e := &VerifyError{
		Code:  VerifyCode(v.v.refused),
		Depth: int(v.v.refused_depth),
	}
	i := int(v.v.refused_rec)
	e.Subject = v.record(i).subject
	if i < 0 || i >= int(v.v.n_rec) || v.rec()[i].cert == nil {
		return e
	}
	cert := v.rec()[i].cert
	e.NotBefore, e.NotAfter = dates(cert)
	if e.Code == VerifyHostnameMismatch || e.Code == VerifyIPAddressMismatch {
		e.Names, e.altNames = hosts(cert)
	}
	return e
}

// dates returns the first and last moment at which cert is valid, or zero times
// if OpenSSL cannot read them.
func dates(cert *C.X509) (notBefore, notAfter time.Time) {
	var before, after C.int64_t
	if C.fssl_cert_dates(cert, &before, &after) != 1 {
		return time.Time{}, time.Time{}
	}
	return time.Unix(int64(before), 0).UTC(), time.Unix(int64(after), 0).UTC()
}

// altNames is the state of a certificate's subjectAltName.
type altNames int

const (
	altNamesUnknown = altNames(iota) // not read, or C has no memory
	altNamesMissing                  // there is no subjectAltName
	altNamesBad                      // OpenSSL cannot read it
	altNamesRead
)

// rawName is one name of a certificate, as OpenSSL has parsed it.
type rawName struct {
	kind  nameKind
	value []byte
}

// nameKind is the type of a name: a type of GENERAL_NAME, or one of this package, for
// the part of the certificate that the name is in.
type nameKind byte

const (
	kindMail       = nameKind(C.GEN_EMAIL)
	kindDNS        = nameKind(C.GEN_DNS)
	kindURI        = nameKind(C.GEN_URI)
	kindIP         = nameKind(C.GEN_IPADD)
	kindSubject    = nameKind(C.FSSL_SUBJECT)
	kindIssuer     = nameKind(C.FSSL_ISSUER)
	kindCommonName = nameKind(C.FSSL_COMMON_NAME)
)

// rawNames returns the names of cert. found is altNamesUnknown if C has no
// memory for them.
func rawNames(cert *C.X509) (list []rawName, found altNames) {
	var n C.size_t
	var state C.int
	p := C.fssl_cert_names(cert, &n, &state)
	if p == nil {
		return nil, altNamesUnknown
	}
	all := C.GoBytes(unsafe.Pointer(p), C.int(n))
	C.CRYPTO_free(unsafe.Pointer(p), nil, 0)
	for len(all) >= 5 {
		size := int(binary.BigEndian.Uint32(all[1:]))
		list = append(list, rawName{nameKind(all[0]), all[5 : 5+size]})
		all = all[5+size:]
	}
	switch state {
	case C.FSSL_NO_ALT_NAMES:
		return list, altNamesMissing
	case C.FSSL_BAD_ALT_NAMES:
		return list, altNamesBad
	}
	return list, altNamesRead
}

// hosts returns the DNS names and IP addresses in the subjectAltName of cert.
func hosts(cert *C.X509) (names []string, found altNames) {
	list, found := rawNames(cert)
	for _, n := range list {
		switch n.kind {
		case kindDNS:
			names = append(names, string(n.value))
		case kindIP:
			if ip, ok := netip.AddrFromSlice(n.value); ok { // otherwise neither IPv4 nor IPv6, so it matches no address
				names = append(names, ip.String())
			}
		}
	}
	return names, found
}

// parsed calls use with the certificate in der.
func parsed(der []byte, use func(cert *C.X509)) error {
	certs, _, err := library{}.parseCerts(nil)
	if err != nil {
		return err
	}
	defer certs.free()
	if err := certs.add(library{}, der); err != nil {
		return err
	}
	use(C.fssl_chain_cert(certs.stack, 0))
	return nil
}

// namesOf returns the names of a certificate in DER form.
func namesOf(der []byte) (list []rawName, found altNames, err error) {
	err = parsed(der, func(cert *C.X509) { list, found = rawNames(cert) })
	if err == nil && found == altNamesUnknown {
		err = outOfMemory("X509_get_ext_d2i", nil)
	}
	return list, found, err
}

// infoOf returns the properties of a certificate in DER form.
func infoOf(der []byte) (info certInfo, err error) {
	described := false
	err = parsed(der, func(cert *C.X509) {
		info, described = describe(cert)
		info.notBefore, info.notAfter = dates(cert)
	})
	if err == nil && !described {
		err = outOfMemory("X509_NAME_oneline", nil)
	}
	return info, err
}

// ownNames returns the DNS names and IP addresses in the subjectAltName of this
// side's certificate of one identity.
func (h *ctxHandle) ownNames(identity int) ([]string, error) {
	defer runtime.KeepAlive(h)
	cert := C.fssl_ctx_sent_cert(h.ptr, C.int(identity), 0)
	if cert == nil {
		return nil, nil
	}
	names, found := hosts(cert)
	if found == altNamesUnknown {
		return nil, outOfMemory("X509_get_ext_d2i", nil)
	}
	return names, nil
}

// chain returns the chain that OpenSSL built, leaf first, and the DER form of
// each certificate. ok is false if C has no memory for them.
func (h *sslHandle) chain() (infos []certInfo, ders [][]byte, ok bool) {
	defer runtime.KeepAlive(h)
	ok = true
	var stack *C.struct_stack_st_X509
	for i := range int(C.fssl_conn_chain(h.ptr, &stack)) {
		cert := C.fssl_chain_cert(stack, C.int(i))
		info, described := describe(cert)
		info.notBefore, info.notAfter = dates(cert)
		infos, ders = append(infos, info), append(ders, der(cert))
		ok = ok && described && ders[i] != nil
	}
	return infos, ders, ok
}

// sent returns the certificates that the peer sent, its own first, in DER form.
// ok is false if C has no memory for them.
func (h *sslHandle) sent() (ders [][]byte, ok bool) {
	defer runtime.KeepAlive(h)
	var stack *C.struct_stack_st_X509
	var own *C.X509
	n := int(C.fssl_conn_sent(h.ptr, &stack, &own))
	if n < 0 {
		return nil, false
	}
	if own != nil {
		ders = append(ders, der(own))
		C.X509_free(own)
	}
	for i := range n {
		ders = append(ders, der(C.fssl_chain_cert(stack, C.int(i))))
	}
	ok = true
	for _, d := range ders {
		ok = ok && d != nil
	}
	return ders, ok
}

// describe returns the properties of cert. ok is false if C has no memory for
// the names.
func describe(cert *C.X509) (info certInfo, ok bool) {
	if cert == nil {
		return certInfo{}, true
	}
	var n, negative C.int
	serial := C.fssl_cert_serial(cert, &n, &negative)
	subject, issuer := C.fssl_cert_name(cert, 0), C.fssl_cert_name(cert, 1)
	return certInfo{
		subject:  takeString(subject),
		issuer:   takeString(issuer),
		serial:   C.GoBytes(unsafe.Pointer(serial), n),
		negative: negative != 0,
	}, subject != nil && issuer != nil
}

func der(cert *C.X509) []byte {
	var p *C.uchar
	n := C.i2d_X509(cert, &p)
	if n <= 0 {
		return nil
	}
	defer C.CRYPTO_free(unsafe.Pointer(p), nil, 0)
	return C.GoBytes(unsafe.Pointer(p), n)
}
