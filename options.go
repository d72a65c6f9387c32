//go:build cgo

package sslfilter

import (
	"fmt"
	"log/slog"
)

// Options configures New and NewCtx. The zero value is a TLS 1.2 and 1.3
// server; it still needs a certificate. A field that is named after an option
// of POE::Filter::SSL means the same; docs/perl-migration.md has every
// difference. A value that cannot work is an *OptionError of NewCtx.
//
// Options of the original that have no effect where they stand (ClientCert on a
// client, BlockBadClientCert without ClientCert, DHCert or NoHonor on a
// client, SNI on a server) are accepted as the original accepts them, and
// Debug says so. Options that the original lacks are errors there.
type Options struct {
	// Client makes a client. Default, as in the original: a server.
	Client bool

	// Crt is a PEM file with the certificate of this side. Certificates
	// behind the first are its chain and are sent too.
	Crt string
	// CrtMem is the content of such a file, and wins over Crt.
	CrtMem []byte

	// Key is the PEM file with the private key of Crt. If it is encrypted,
	// KeyPassphrase is asked; nothing ever prompts.
	Key string
	// KeyMem is the content of such a file, and wins over Key.
	KeyMem []byte
	// KeyPassphrase is called by NewCtx if the key is encrypted, and only
	// then. The returned slice is overwritten after use.
	KeyPassphrase func() ([]byte, error)

	// Chain is a PEM file with the certificate, its intermediates and
	// possibly the root, in this order; all of it is sent. It stands in for
	// Crt, and for Key too if it also holds the private key. With Crt, its
	// first certificate must be that of Crt.
	Chain string
	// ChainMem is the content of such a file, and wins over Chain.
	ChainMem []byte

	// CACrt is a PEM file with the certificates that this side trusts, all of
	// them. A server sends their names to clients that it asks for a
	// certificate. An empty CACrt means nobody on a server, and the system's
	// store on a client. It may also be a directory: NewCtx then reads every
	// *.pem, *.crt and *.cer in it, and the links of "openssl rehash"; files
	// without a certificate are passed over, and there must be one with.
	CACrt string
	// CACrtMem holds the contents of such files, and wins over CACrt. Each
	// element must hold at least one certificate.
	CACrtMem [][]byte
	// CAVerifyDepth is the number of intermediate certificates that a chain
	// may have. 0 means 5, as in the original.
	CAVerifyDepth int

	// CACRL is a PEM file with certificate revocation lists. ClientCertValid
	// is false for a chain that has a serial on any of them.
	//
	// WARNING: As in the original, a list that is missing, unreadable or
	// without entries blocks everybody. NewCtx refuses a file that it cannot
	// read, and one that is no regular file; a change of the file is noticed
	// at the next question.
	CACRL string
	// CACRLMem is the content of such a file, and wins over CACRL. It is
	// read once. On a server that asks for no certificate it is an error.
	CACRLMem []byte

	// CRLCheck makes OpenSSL check CRLs: signature, issuer, scope and dates
	// of the list, and whether the certificate is on it. Beside it, CACRL
	// compares serials and nothing else. Default: CRLCheckOff. It needs
	// CRLFiles or CRLMem, a CA that is trusted, and on a server ClientCert or
	// RequireValidClientCert.
	//
	// A certificate without a CRL of its issuer, or with one that has
	// expired, is not valid: VerifyUnableToGetCRL, VerifyCRLHasExpired.
	CRLCheck CRLCheck
	// CRLFiles are PEM files with CRLs, at most 256; every list in them
	// counts. A file that has changed is read again when the next handshake
	// begins. NewCtx refuses a file that it cannot use. If one is gone or
	// broken later, no peer is valid, whatever else is allowed, and
	// Peer().CRLCheck names the file. Delta CRLs, indirect CRLs and CRLs for
	// some reasons only are errors.
	CRLFiles []string
	// CRLMem holds the contents of such files, beside CRLFiles. They are read
	// once. Each element must hold at least one CRL.
	CRLMem [][]byte
	// ReadCRLOnce makes NewCtx the only reader of CACRL and CRLFiles: a file that
	// is changed, broken or removed later has no effect on the Ctx. A program that
	// replaces its Ctx when it is told to reload sets it, so that a CRL that is
	// being written refuses nobody. Default: a file is read again when it has
	// changed. Without CACRL and CRLFiles it has no effect.
	ReadCRLOnce bool
	// AllowMissingCRL lets a certificate pass if no CRL of its issuer is
	// there. The error stands in the verdict as ignored.
	//
	// WARNING: A revoked certificate passes where its CRL is not there.
	AllowMissingCRL bool
	// AllowExpiredCRL uses a CRL that has expired: what is on it is revoked
	// all the same. The error stands in the verdict as ignored.
	//
	// WARNING: What was revoked since then passes.
	AllowExpiredCRL bool

	// ClientCert asks the client for a certificate. Only on a server.
	//
	// WARNING: A client with a bad certificate or none is not refused. Ask
	// ClientCertValid, or set RequireValidClientCert.
	ClientCert bool
	// BlockBadClientCert refuses a client that sends no certificate at all.
	//
	// WARNING: A client with a bad or revoked one still connects.
	BlockBadClientCert bool
	// RequireValidClientCert refuses every client without a valid certificate
	// that is not on CACRL, inside the handshake. It implies ClientCert.
	RequireValidClientCert bool
	// IgnoreVerifyErrors names X509_V_ERR numbers that do not count, on both
	// sides. They still stand in ClientCertIDs.
	//
	// WARNING: 7, 18, 19 or 20, each alone, accept a certificate that anybody
	// can make (VerifyCode.AdmitsAnyone). 62 and 64 accept any name.
	IgnoreVerifyErrors []VerifyCode
	// InsecureSkipVerify lets a client finish the handshake with any server,
	// as the original does; ClientCertValid then tells what it found, the name
	// apart, which is not compared.
	//
	// WARNING: Without a look at ClientCertValid before the first Send, anyone
	// can be the server.
	InsecureSkipVerify bool

	// SNI is the host name that a client puts into its ClientHello, at most
	// 255 bytes. An IP address is not sent (RFC 6066).
	SNI string
	// ServerName is the name or IP address that a client verifies, in the
	// subjectAltName of the certificate; the common name does not count (RFC
	// 9525). Default: SNI. It is also sent if SNI is empty. SetServerName wins
	// for one connection.
	ServerName string

	// TLS asks for TLS 1.2 or later, which is the default. In the original it
	// means TLS 1.0 alone.
	TLS bool
	// TLS12 (tls1_2) asks for TLS 1.2 and nothing else.
	TLS12 bool
	// MinVersion is the lowest protocol version. Default: VersionTLS12, or
	// what the system's openssl.cnf asks for if that is higher. Versions
	// below TLS 1.2 also need a security level that admits them:
	// "DEFAULT@SECLEVEL=0" in Cipher with OpenSSL 3.
	MinVersion Version
	// MaxVersion is the highest protocol version. Default: the system's.
	MaxVersion Version

	// Cipher is OpenSSL's cipher list for TLS 1.2 and earlier, passed straight
	// through, "@SECLEVEL=n" included; it is set before certificates and DH
	// parameters are loaded, so the level decides about these too. TLS 1.3
	// suites are not in it; see CipherSuites.
	Cipher string
	// CipherSuites is the list of TLS 1.3 suites, ':' between them.
	CipherSuites string
	// Groups is the list of key exchange groups, ':' between them:
	// "X25519:P-256".
	Groups string
	// ALPN lists application protocols, the most wanted first: "h2",
	// "http/1.1". A client offers them, and goes on if the server chooses
	// none. A server chooses by its own order, and refuses a client that
	// offers others only (RFC 7301); who offers none is served. Each has 1 to
	// 255 bytes, together at most 32 KiB with a byte of length for each.
	ALPN []string
	// NoHonor leaves SSL_OP_CIPHER_SERVER_PREFERENCE unset, so that the order
	// of the client decides. Default: the order of the server.
	NoHonor bool
	// NumTickets is the number of session tickets that a server sends in each TLS
	// 1.3 handshake, at most 16. Default: OpenSSL's 2. One makes the handshake
	// cheaper. -1 sends none, in TLS 1.2 neither, so that no session is resumed.
	// A server that asks for client certificates never sends any. On a client it
	// is an error.
	NumTickets int
	// NoRenegotiation makes a client refuse every renegotiation that a TLS 1.2
	// server asks for, with the warning no_renegotiation, as a server always does.
	// The connection goes on if the peer lets it. Default: a client follows up to
	// 16 of them.
	NoRenegotiation bool

	// DHCert is a PEM file with DH parameters for the DHE suites of TLS 1.2.
	// Without it there are none (OpenSSL 4.0 has parameters of its own, and
	// prefers them where the client names a group of RFC 7919). A size that
	// the security level refuses is an error, and so are broken parameters.
	DHCert string
	// DHCertMem is the content of such a file, and wins over DHCert.
	DHCertMem []byte

	// AllowMissingCloseNotify makes ReceiveEOF return io.EOF if the transport
	// ends between two records after the handshake, as if the peer had sent its
	// close_notify. The original never sends one. An end inside a record or
	// inside a handshake stays a *TruncatedError. Default: every end without
	// close_notify is one.
	//
	// WARNING: Anyone on the network can end the connection between two records,
	// and that cannot be told from the peer's own end. Set it only if the data
	// say themselves where they end, for instance by a length.
	AllowMissingCloseNotify bool

	// FIPS takes all cryptography of the context from providers that serve with
	// fips=yes, in a library context of its own. NewCtx fails where there is
	// none, and where the options could not complete a handshake under it; see
	// docs/fips.md. It needs OpenSSL 3.0. Default: what the process has, which
	// is FIPS too where its openssl.cnf says so; see FIPSEnabled.
	FIPS bool
	// FIPSConfig is the configuration that activates the FIPS provider, with
	// FIPS. Of it count the modules providers, alg_section and random; the others
	// (ssl_conf) belong to the process. Default: OPENSSL_CONF, or else OpenSSL's
	// own openssl.cnf. It is read by NewCtx, at most 1 MiB; contexts with the
	// same content share the providers, which stay loaded until the process
	// ends, and 16 different ones are possible.
	//
	// WARNING: A configuration that activates the module without the checksum
	// that "openssl fipsinstall" writes fails, and so does then every later one
	// in the same process: OpenSSL keeps the module in its error state.
	FIPSConfig string

	// ErrorHandler is told every error of a connection, once. Default: nobody
	// is; the error is in the return values and in Err. The original's
	// handlers are IgnoreErrors, LogErrors ("carp"), LogErrorsWithStack
	// ("confess") and LogErrorsOnce ("carponetime").
	ErrorHandler ErrorHandler
	// Debug is told options without effect, handshake steps and verdicts;
	// never plaintext, keys or passphrases.
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

// String gives OpenSSL's name: "TLSv1.2".
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

// defaultVerifyDepth is what CAVerifyDepth 0 means, as in the original.
const defaultVerifyDepth = 5

// trustsAny reports whether a CA is named.
func (o *Options) trustsAny() bool {
	return len(o.CACrtMem) > 0 || o.CACrtMem == nil && o.CACrt != ""
}

// alpn gives ALPN in the form of the extension.
func (o *Options) alpn() (list []byte) {
	for _, p := range o.ALPN {
		list = append(append(list, byte(len(p))), p...)
	}
	return list
}

// fileOption is an option that names a file and has a form in memory, which wins.
type fileOption struct {
	option, file string
	mem          []byte
	inMem        bool // the form in memory is set
}

// fileOptions are all of them. Crt, Key and Chain make an identity.
func (o *Options) fileOptions() []fileOption {
	return []fileOption{
		{"Crt", o.Crt, o.CrtMem, o.CrtMem != nil},
		{"Key", o.Key, o.KeyMem, o.KeyMem != nil},
		{"Chain", o.Chain, o.ChainMem, o.ChainMem != nil},
		{"CACrt", o.CACrt, nil, o.CACrtMem != nil}, // CACrtMem has several elements
		{"CACRL", o.CACRL, o.CACRLMem, o.CACRLMem != nil},
		{"DHCert", o.DHCert, o.DHCertMem, o.DHCertMem != nil},
	}
}

// fileOption is the one with this name.
func (o *Options) fileOption(name string) fileOption {
	for _, s := range o.fileOptions() {
		if s.option == name {
			return s
		}
	}
	panic("sslfilter: no option " + name)
}

func (s fileOption) given() bool { return s.file != "" || s.inMem }

// input names the form that is in use. Its data is that of the form in memory.
func (s fileOption) input() input {
	if s.inMem {
		return input{option: s.option + "Mem", data: s.mem}
	}
	return input{option: s.option, file: s.file}
}

// read reads the form that is in use.
func (s fileOption) read() (input, error) {
	in := s.input()
	if s.inMem {
		return in, in.checkSize()
	}
	var err error
	if in.data, err = readFile(s.file); err != nil {
		return in, in.wrap(unwrapPath(err))
	}
	return in, nil
}

func (o *Options) asksClient() bool { return !o.Client && (o.ClientCert || o.RequireValidClientCert) }

// enforces reports whether a bad peer certificate ends the handshake.
func (o *Options) enforces() bool {
	return o.RequireValidClientCert || o.Client && !o.InsecureSkipVerify
}
