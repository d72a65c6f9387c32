//go:build cgo

package sslfilter

import (
	"fmt"
	"io"
	"log/slog"
)

// Options configures New and NewCtx. The zero value is a TLS 1.2 and 1.3 server
// that still needs a certificate. A field that is named after an option of
// POE::Filter::SSL has the same meaning; docs/perl-migration.md lists every
// difference. NewCtx returns an *OptionError for a value that cannot work.
//
// Some options of the original have no effect in some configurations:
// ClientCert, DHCert and NoHonor on a client, BlockBadClientCert without
// ClientCert, SNI on a server. As in the original this is not an error, and
// Debug reports it. An option that the original does not have is an error in
// the wrong role.
type Options struct {
	// Client makes a client. Default: a server, as in the original.
	Client bool

	// Crt is a PEM file with the certificate of this side. The certificates
	// after the first are its chain, and are sent too.
	Crt string
	// CrtMem is the content of such a file. It takes precedence over Crt.
	CrtMem []byte

	// Key is a PEM file with the private key of Crt. If it is encrypted, NewCtx
	// calls KeyPassphrase; nothing ever prompts.
	Key string
	// KeyMem is the content of such a file. It takes precedence over Key.
	KeyMem []byte
	// KeyPassphrase is called by NewCtx if the key is encrypted, and only then.
	// NewCtx overwrites the returned slice after use.
	KeyPassphrase func() ([]byte, error)

	// Chain is a PEM file with the certificate, its intermediates and possibly
	// the root, in this order. All of them are sent. It replaces Crt, and also
	// Key if it contains the private key. If Crt is set too, both must begin
	// with the same certificate.
	Chain string
	// ChainMem is the content of such a file. It takes precedence over Chain.
	ChainMem []byte

	// Staple is an OCSP response for Crt, or Chain, that a server sends to
	// clients that ask for one (RFC 6066). NewCtx returns an error if the
	// response is for another certificate, or if another Ctx uses the Staple
	// with a different certificate. On a client Staple is an error. Default: no
	// response.
	Staple *Staple

	// Identities are more certificates of this side, each with its own chain
	// and key, beside Crt, Key and Chain, which are the first. At most 16.
	// Filter.State reports which of them the peer was shown. Default: none.
	//
	// A server needs them for keys of different types, for example RSA and
	// ECDSA: OpenSSL chooses the one that fits the ciphers and signature
	// algorithms of the client. Two with the same type of key are an error,
	// because OpenSSL would use only the later one. EC keys of all curves are
	// one type; RSA and RSA-PSS are different types. A server can have
	// Identities without Crt.
	//
	// A client chooses, when the server asks for a certificate, the first that
	// fits the server's list of CAs and its signature algorithms. If there are
	// several and none of them fits, the client shows no certificate. A single
	// certificate is always shown.
	Identities []Identity

	// CACrt is a PEM file with CA certificates. This side trusts all of them,
	// and a server sends their names to clients when it asks for a certificate.
	// Default: a server trusts no CA, and a client trusts the system's CAs
	// unless InsecureSkipVerify is set.
	//
	// CACrt may also be a directory. NewCtx then reads its *.pem, *.crt and
	// *.cer files and the links that "openssl rehash" makes, and skips files
	// without a certificate. At least one file must have one.
	CACrt string
	// CACrtMem holds the contents of such files. It takes precedence over
	// CACrt. Each element must have at least one certificate.
	CACrtMem [][]byte
	// CAVerifyDepth is the maximum number of intermediate certificates in a
	// chain. 0 means 5, as in the original.
	CAVerifyDepth int

	// CACRL is a PEM file with certificate revocation lists. ClientCertValid is
	// false if the serial of any certificate in the chain is on one of the CRLs.
	// A change of the file takes effect in the next handshake or call of
	// ClientCertValid.
	//
	// WARNING: As in the original, a CRL that is missing, unreadable or without
	// entries blocks everybody. NewCtx returns an error if the file cannot be
	// read or is not a regular file.
	CACRL string
	// CACRLMem is the content of such a file, and is read once. It takes
	// precedence over CACRL. It is an error on a server that does not ask for
	// certificates.
	CACRLMem []byte

	// CRLCheck makes OpenSSL check CRLs: the signature, issuer, scope and dates
	// of the CRL, and whether the certificate is on it. (CACRL compares only
	// serials.) It needs CRLFiles or CRLMem, a trusted CA, and on a server
	// ClientCert or an option that implies it. Default: CRLCheckOff.
	//
	// A certificate is not valid if there is no CRL of its issuer
	// (VerifyUnableToGetCRL), or if that CRL has expired (VerifyCRLHasExpired).
	CRLCheck CRLCheck
	// CRLFiles are PEM files with CRLs, at most 256 files. All CRLs in them are
	// used. A file that has changed is read again when the next handshake
	// begins.
	//
	// NewCtx returns an error for a file that it cannot use. Delta CRLs,
	// indirect CRLs and CRLs that cover only some revocation reasons are
	// errors. If a file is missing or broken later, no peer is valid,
	// regardless of the other options, and Peer().CRLCheck names the file.
	CRLFiles []string
	// CRLMem holds the contents of such files, and can be combined with
	// CRLFiles. They are read once. Each element must have at least one CRL.
	CRLMem [][]byte
	// With ReadCRLOnce, only NewCtx reads CACRL and CRLFiles; later changes of a
	// file have no effect on the Ctx. It is for programs that replace their Ctx
	// on a reload, so that a CRL that is just being written rejects nobody.
	// Default: a file is read again when it has changed. Without CACRL and
	// CRLFiles it has no effect.
	ReadCRLOnce bool
	// AllowMissingCRL accepts a certificate if there is no CRL of its issuer.
	// The verdict has the error, marked as ignored.
	//
	// WARNING: A revoked certificate is accepted if its issuer's CRL is
	// missing.
	AllowMissingCRL bool
	// AllowExpiredCRL uses a CRL that has expired: the certificates on it are
	// still revoked. The verdict has the error, marked as ignored.
	//
	// WARNING: A certificate that was revoked after that CRL was issued is
	// accepted.
	AllowExpiredCRL bool

	// OCSPCheck makes a client verify the OCSP response that the server staples
	// to its certificate: OCSPIfStapled or OCSPRequire. A server whose
	// certificate is revoked, or whose response is not acceptable, is rejected
	// in the handshake with the alert bad_certificate_status_response, and the
	// error is a *VerifyError. With InsecureSkipVerify the handshake continues,
	// and Peer().OCSP has the result. In a resumed session the response of the
	// full handshake is verified again. No responder is asked. On a server it is
	// an error. Default: OCSPOff.
	OCSPCheck OCSPCheck

	// ClientCert makes a server ask the client for a certificate.
	//
	// WARNING: A client with a bad certificate, or without one, is not
	// rejected. Check ClientCertValid, or set RequireValidClientCert.
	ClientCert bool
	// BlockBadClientCert rejects a client that sends no certificate at all.
	//
	// WARNING: A client with a bad or revoked certificate is still accepted.
	BlockBadClientCert bool
	// BlockInvalidClientCert rejects, during the handshake, a client whose
	// certificate is not valid or is on CACRL, and accepts a client without a
	// certificate. It implies ClientCert.
	BlockInvalidClientCert bool
	// RequireValidClientCert rejects, during the handshake, every client that
	// does not have a valid certificate or whose chain is on CACRL. It implies
	// ClientCert.
	RequireValidClientCert bool
	// IgnoreVerifyErrors lists X509_V_ERR numbers that do not make a peer
	// invalid, on a client or a server. ClientCertIDs still has these errors.
	//
	// WARNING: With any one of 7, 18, 19 and 20, this side accepts a
	// certificate that anybody can make (see VerifyCode.AdmitsAnyone). With 62
	// or 64 it accepts any name.
	IgnoreVerifyErrors []VerifyCode
	// ResumeClientCert lets clients with a certificate resume their sessions. The
	// session carries the certificates that the client has sent. When it comes
	// back, they are verified again inside the handshake, with the CAs, the CRLs
	// and the time of this moment, and Peer and the other methods answer as after
	// a full handshake. If the certificate is not valid any more, or the client
	// showed none, a full handshake follows, in which the client is asked for its
	// certificate. A client proves its key again at least once a day. It needs
	// ClientCert or an option that implies it. Default: a server that asks for
	// client certificates resumes no session.
	ResumeClientCert bool
	// InsecureSkipVerify lets a client complete the handshake with any server,
	// as the original does. ClientCertValid then reports whether the chain is
	// valid; the name is not compared.
	//
	// WARNING: Unless the program checks ClientCertValid before the first Send,
	// anyone can be the server.
	InsecureSkipVerify bool

	// SNI is the host name that a client puts into its ClientHello, at most
	// 255 bytes. An IP address is not sent (RFC 6066).
	SNI string
	// ServerName is the name or IP address that a client verifies in the
	// subjectAltName of the server's certificate. The common name does not
	// count (RFC 9525). Default: SNI. If SNI is empty, ServerName is also sent.
	// SetServerName takes precedence for one connection.
	ServerName string

	// TLS requires TLS 1.2 or later, which is the default. In the original it
	// means TLS 1.0 only.
	TLS bool
	// TLS12 (the original's tls1_2) allows TLS 1.2 and no other version.
	TLS12 bool
	// MinVersion is the lowest protocol version. Default: VersionTLS12, or the
	// minimum in the system's openssl.cnf if that is higher. Versions before
	// TLS 1.2 also need a security level that allows them: with OpenSSL 3,
	// "DEFAULT@SECLEVEL=0" in Cipher.
	MinVersion Version
	// MaxVersion is the highest protocol version. Default: the maximum in the
	// system's openssl.cnf, or else the highest version that OpenSSL supports.
	MaxVersion Version

	// Cipher is OpenSSL's cipher list for TLS 1.2 and earlier. It is passed to
	// OpenSSL unchanged, "@SECLEVEL=n" included. It is set before certificates
	// and DH parameters are loaded, so that the security level applies to them
	// too. For TLS 1.3 suites see CipherSuites. Default: OpenSSL's.
	Cipher string
	// CipherSuites is the list of TLS 1.3 suites, separated by ':'. Default:
	// OpenSSL's.
	CipherSuites string
	// Groups is the list of key exchange groups, separated by ':':
	// "X25519:P-256". Default: OpenSSL's.
	Groups string
	// SignatureAlgorithms is the list of signature algorithms of TLS 1.2 and 1.3,
	// separated by ':': "ECDSA+SHA256:rsa_pss_rsae_sha256". This side signs with
	// these, and accepts these from the peer, for certificates of servers and of
	// clients. The signatures inside certificates are a matter of the security
	// level. Default: OpenSSL's. See SSL_CTX_set1_sigalgs_list(3).
	SignatureAlgorithms string
	// Conf has configuration commands of OpenSSL (SSL_CONF_cmd(3)). They are
	// applied in order, after the options above and before DH parameters and
	// certificates are loaded. A command that sets the same thing as an option is an
	// error if that option is given too. Commands that change how a peer is
	// verified, which certificates are used or what this library depends on are
	// errors that name the option to use instead; docs/options.md lists them.
	// Default: none.
	//
	// WARNING: A command is as dangerous as OpenSSL makes it: "CipherString
	// ALL@SECLEVEL=0" admits connections without encryption.
	Conf []ConfCommand
	// ALPN lists application protocols in order of preference: "h2",
	// "http/1.1". A client offers them, and continues if the server chooses
	// none. A server picks by its own order, rejects a client with no protocol
	// in common (RFC 7301), and accepts a client that offers none. Each
	// protocol has 1 to 255 bytes. The list has at most 32 KiB, with a length
	// byte for each protocol.
	ALPN []string
	// NoHonor leaves SSL_OP_CIPHER_SERVER_PREFERENCE unset, so that the
	// client's order of ciphers decides. Default: the server's order.
	NoHonor bool
	// NumTickets is the number of session tickets that a server sends in each
	// TLS 1.3 handshake, at most 16. Default: OpenSSL's 2. With 1 the handshake
	// is cheaper. With -1 the server sends no tickets, neither in TLS 1.3 nor
	// in TLS 1.2, so that no session is resumed. A server that asks for client
	// certificates sends tickets only with ResumeClientCert. On a client
	// NumTickets is an error.
	NumTickets int
	// TicketKeys are the keys with which a server encrypts its session tickets.
	// Contexts that share them accept each other's tickets, so that a program
	// that replaces its Ctx loses no session. A session is resumed only by a
	// context with the same certificates and, if clients are asked for a
	// certificate, with the same rules about them; otherwise a full handshake
	// follows. On a client, and on a server that never resumes, it is an error.
	// Default: OpenSSL generates random keys that only this Ctx uses.
	TicketKeys *TicketKeys
	// StatefulSessions keeps the sessions of a server in a store of the program; a
	// ticket has only the session's id. The program stores the sessions
	// (Filter.NewSessions) and finds them again by the ids of a ClientHello
	// (Filter.OfferSession). A stored session can be deleted, which a ticket cannot.
	// It is encrypted with TicketKeys. With clients that are asked for a certificate
	// it needs ResumeClientCert. On a client, and on a server that never resumes, it
	// is an error. Default: a session is in its ticket, and the server stores
	// nothing.
	StatefulSessions bool
	// NoRenegotiation makes a client reject every renegotiation that a TLS 1.2
	// server requests, with the warning alert no_renegotiation. (A server
	// always does.) The connection continues if the peer accepts that. Default:
	// a client accepts up to 16 renegotiations.
	NoRenegotiation bool

	// DHCert is a PEM file with DH parameters for the DHE suites of TLS 1.2.
	// Without DHCert there are no DHE suites. OpenSSL 4.0 is the exception: it
	// has its own parameters, and prefers them to DHCert if the client offers a
	// group of RFC 7919. Broken parameters, and a size that the security level
	// does not allow, are errors.
	DHCert string
	// DHCertMem is the content of such a file. It takes precedence over DHCert.
	DHCertMem []byte

	// AllowMissingCloseNotify makes ReceiveEOF return io.EOF if the transport
	// ends between two records after the handshake, as if the peer had sent its
	// close_notify. (The original never sends one.) If the transport ends
	// inside a record or during a handshake, the error is still a
	// *TruncatedError. Default: ReceiveEOF returns a *TruncatedError whenever
	// close_notify is missing.
	//
	// WARNING: Anyone on the network can end the connection between two
	// records, and the program cannot tell that from an end by the peer. Set it
	// only if the data itself says where it ends, for example by a length.
	AllowMissingCloseNotify bool

	// FIPS takes all cryptography of the context from providers with the
	// property fips=yes, in its own OpenSSL library context. NewCtx returns an
	// error if there is no such provider, or if no handshake could be completed
	// with these options; see docs/fips.md. It needs OpenSSL 3.0 or later.
	// Default: the providers of the process, which are FIPS providers too if
	// its openssl.cnf says so; see FIPSEnabled.
	FIPS bool
	// FIPSConfig is the OpenSSL configuration file that activates the FIPS
	// provider. It needs FIPS. Only the modules providers, alg_section and
	// random in it are used; other modules (ssl_conf) belong to the process.
	// Default: OPENSSL_CONF, or else OpenSSL's own openssl.cnf.
	//
	// NewCtx reads the file, at most 1 MiB. Contexts with the same content
	// share the providers, which stay loaded until the process ends. A process
	// can use at most 16 different configurations.
	//
	// WARNING: A configuration that activates the module without the checksum
	// that "openssl fipsinstall" writes fails, and so does every later
	// configuration in the same process: OpenSSL keeps the module in its error
	// state.
	FIPSConfig string

	// KeyLog receives the secrets of every connection, in the key log format of
	// NSS that Wireshark reads (SSLKEYLOGFILE). Each call of Write has one whole
	// line with its line feed, and the library never makes two calls at the same
	// time. If Write fails, the connection continues, and Debug reports the first
	// failure of the Ctx. OpenKeyLog opens a file for it. Default: no secret
	// leaves OpenSSL. See SSL_CTX_set_keylog_callback(3).
	//
	// WARNING: Anyone who has the key log and the records can decrypt the
	// connections. It is for debugging only.
	KeyLog io.Writer

	// ErrorHandler is called with the error that ends a connection, once.
	// Default: none; the methods return the error, and Err has it. The
	// original's handlers are IgnoreErrors, LogErrors ("carp"),
	// LogErrorsWithStack ("confess") and LogErrorsOnce ("carponetime").
	ErrorHandler ErrorHandler
	// Debug receives debug messages: options without effect, handshake steps
	// and verdicts. They never contain plaintext, keys or passphrases.
	Debug *slog.Logger
}

// Version is a protocol version, as in the TLS record header.
type Version uint16

const (
	VersionTLS10 Version = 0x0301 // TLS 1.0, obsolete (RFC 8996)
	VersionTLS11 Version = 0x0302 // TLS 1.1, obsolete (RFC 8996)
	VersionTLS12 Version = 0x0303 // TLS 1.2
	VersionTLS13 Version = 0x0304 // TLS 1.3
)

// String returns OpenSSL's name of the version: "TLSv1.2".
func (v Version) String() string {
	switch v {
	case VersionTLS10:
		return "TLSv1"
	case VersionTLS11:
		return "TLSv1.1"
	case VersionTLS12:
		return "TLSv1.2"
	case VersionTLS13:
		return "TLSv1.3"
	}
	return fmt.Sprintf("0x%04X", uint16(v))
}

// defaultVerifyDepth is the meaning of CAVerifyDepth 0, as in the original.
const defaultVerifyDepth = 5

// trustsAny reports whether the options name a CA.
func (o *Options) trustsAny() bool {
	return len(o.CACrtMem) > 0 || o.CACrtMem == nil && o.CACrt != ""
}

// alpn encodes ALPN for the extension: a length byte before each protocol.
func (o *Options) alpn() (list []byte) {
	for _, p := range o.ALPN {
		list = append(append(list, byte(len(p))), p...)
	}
	return list
}

// fileOption is an option that names a file, with its counterpart in memory,
// which takes precedence. The name of the counterpart ends with Mem.
type fileOption struct {
	option, file string
	mem          []byte
	list         [][]byte // in place of mem, if there can be several contents
}

// fileOptions returns all options that name a file or have a content in memory.
func (o *Options) fileOptions() (list []fileOption) {
	for _, s := range o.sources() {
		list = append(list, s.crt, s.key, s.chain)
	}
	return append(list, []fileOption{
		{"CACrt", o.CACrt, nil, o.CACrtMem},
		{"CACRL", o.CACRL, o.CACRLMem, nil},
		{"CRL", "", nil, o.CRLMem}, // used together with CRLFiles
		{"DHCert", o.DHCert, o.DHCertMem, nil},
	}...)
}

// fileOption returns the option with this name.
func (o *Options) fileOption(name string) fileOption {
	for _, s := range o.fileOptions() {
		if s.option == name {
			return s
		}
	}
	panic("sslfilter: no option " + name)
}

func (s fileOption) given() bool { return s.file != "" || s.inMem() }

func (s fileOption) inMem() bool { return s.mem != nil || s.list != nil }

// input returns the option that is in use, without reading a file.
func (s fileOption) input() input {
	if s.inMem() {
		return input{option: s.option + "Mem", data: s.mem}
	}
	return input{option: s.option, file: s.file}
}

// read reads the option that is in use.
func (s fileOption) read() (input, error) {
	in := s.input()
	if s.inMem() {
		return in, in.checkSize()
	}
	var err error
	if in.data, err = readFile(s.file); err != nil {
		return in, in.wrap(unwrapPath(err))
	}
	return in, nil
}

// contents returns all contents in memory of an option that can have several.
func (s fileOption) contents() (all []input, err error) {
	for i, data := range s.list {
		in := input{option: fmt.Sprintf("%sMem[%d]", s.option, i), data: data}
		if err := in.checkSize(); err != nil {
			return nil, err
		}
		all = append(all, in)
	}
	return all, nil
}

func (o *Options) asksClient() bool {
	return !o.Client && (o.ClientCert || o.BlockInvalidClientCert || o.RequireValidClientCert)
}

// enforces reports whether an invalid peer certificate ends the handshake.
func (o *Options) enforces() bool {
	return o.RequireValidClientCert || o.BlockInvalidClientCert || o.Client && !o.InsecureSkipVerify
}
