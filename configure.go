//go:build cgo

package sslfilter

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-014b8713/sslfilter/internal/refcount"
)

// Ctx is an SSL_CTX made from Options: certificates, trusted CAs, ciphers and
// policy for any number of connections. It is safe for concurrent use. Files
// are not read again when they change, except CACRL and CRLFiles; for other
// changes make a new Ctx.
type Ctx struct {
	shared *sharedCtx
	closed atomic.Bool
}

// sharedCtx is shared by a Ctx and its Filters. The last of them frees it.
type sharedCtx struct {
	*ctxHandle
	opts    Options
	conn    connConfig
	ciphers []string
	usable  []string // the ciphers that this side can really negotiate
	low     Version  // the lowest version that the context admits
	high    Version  // the highest
	trusts  bool     // this side trusts at least one CA
	fips    bool     // only the FIPS provider serves its connections

	keysFailed atomic.Bool // a failure of KeyLog was reported
	users      refcount.Count

	ownCAs bool // the trust store has the certificates of CACrt, not the system's

	identities []identitySource // in the order of the options; after NewCtx only what State reports of them

	memSerials  *crlSerials // of CACRLMem
	readSerials *crlSerials // of CACRL with ReadCRLOnce; the cache may share it
	memLists    []*crlLists // of CRLMem
	crls        atomic.Pointer[crlSet]

	scopeOnce sync.Once
	scope     sessionScope // see sessionScope
	crlSum    []byte       // a digest of CACRLMem and CRLMem
}

// NewCtx reads all files that o names and makes the context. The error is an
// *OptionError that names the option, unless OpenSSL itself cannot start. The
// caller closes the Ctx after use.
//
// Calls SSL_CTX_new(3).
func NewCtx(o Options) (*Ctx, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	lib, err := o.library()
	if err != nil {
		return nil, err
	}
	h, err := newCtxHandle(lib, o.Client)
	if err != nil {
		return nil, err
	}
	s := &sharedCtx{ctxHandle: h, opts: o, fips: lib.made() || FIPSEnabled(), trusts: o.trustsAny() || o.Client && !o.InsecureSkipVerify && o.CACrtMem == nil}
	s.opts.cloneSlices()
	if err := s.configure(); err != nil {
		s.release()
		return nil, o.underFIPS(err)
	}
	s.sumCRLs()
	s.forgetSecrets()
	return &Ctx{shared: s}, nil
}

// New makes one connection with its own context, as the original's new does.
// For many connections with the same options, a shared Ctx is cheaper. The
// caller closes the Filter after use.
//
// Corresponds to POE::Filter::SSL new.
func New(o Options) (*Filter, error) {
	ctx, err := NewCtx(o)
	if err != nil {
		return nil, err
	}
	defer ctx.Close()
	return ctx.NewFilter()
}

// NewFilter makes one connection. The caller closes it after use. After Close
// of the Ctx it returns ErrClosed.
//
// Calls SSL_new(3).
func (c *Ctx) NewFilter() (*Filter, error) {
	if !c.acquire() {
		return nil, ErrClosed
	}
	return newFilter(c.shared)
}

// Ciphers lists the cipher suites that a connection offers or accepts, in order
// and with OpenSSL's names, TLS 1.3 suites included. They are the suites of
// Cipher and CipherSuites that the protocol versions and the security level
// allow. UsableCiphers leaves out those that a server cannot choose.
//
// Calls SSL_get1_supported_ciphers(3).
func (c *Ctx) Ciphers() []string {
	if c == nil || c.shared == nil {
		return nil
	}
	return slices.Clone(c.shared.ciphers)
}

// UsableCiphers lists the suites of Ciphers that a connection can really
// negotiate. On a server these are the suites that fit the type of its key, the
// groups, and DHCert: without DHCert there are no DHE suites (except with
// OpenSSL 4.0, which has its own parameters). On a client the server decides,
// and the list is the same as Ciphers.
func (c *Ctx) UsableCiphers() []string {
	if c == nil || c.shared == nil {
		return nil
	}
	return slices.Clone(c.shared.usable)
}

// Versions returns the lowest and the highest protocol version that a
// connection offers or accepts, as far as openssl.cnf and the options decide
// about it. They are zero without a Ctx.
//
// Calls SSL_CTX_get_min_proto_version(3), SSL_CTX_get_max_proto_version(3).
func (c *Ctx) Versions() (low, high Version) {
	if c == nil || c.shared == nil {
		return 0, 0
	}
	return c.shared.low, c.shared.high
}

// Chain returns the certificates that a connection sends, in DER form and in
// the order in which they are sent, this side's own first. They are as OpenSSL
// has parsed them; no file is read again. It returns nil without a certificate,
// and after Close. If there are several identities, it is the chain of the
// first; see Chains.
//
// Calls SSL_CTX_get0_certificate(3), SSL_CTX_get0_chain_certs(3).
func (c *Ctx) Chain() [][]byte {
	return c.certificates(func(h *ctxHandle) [][]byte { return h.sent(0) })
}

// Chains returns the certificates of every identity, each as Chain returns them:
// those of Crt or Chain first, if one of them is given, and then those of
// Identities in their order.
//
// Calls SSL_CTX_get0_certificate(3), SSL_CTX_get0_chain_certs(3).
func (c *Ctx) Chains() (chains [][][]byte) {
	if !c.acquire() {
		return nil
	}
	defer c.shared.release()
	for i := range c.shared.identities {
		chains = append(chains, c.shared.sent(i))
	}
	return chains
}

// CAs returns the trusted certificates of CACrt or CACrtMem in DER form, as
// OpenSSL has parsed them. It returns nil if neither is given, in which case a
// client trusts the CAs of the system, and after Close.
//
// Calls X509_STORE_get1_all_certs(3).
func (c *Ctx) CAs() [][]byte {
	if c == nil || c.shared == nil || !c.shared.ownCAs {
		return nil
	}
	return c.certificates((*ctxHandle).trusted)
}

// Client reports whether the connections are clients (Options.Client).
func (c *Ctx) Client() bool { return c.options().Client }

// AsksClientCert reports whether the connections are servers that ask the client
// for a certificate: Options.ClientCert, BlockInvalidClientCert or
// RequireValidClientCert.
func (c *Ctx) AsksClientCert() bool { return c.options().asksClient() }

// StoresSessions reports whether the program stores the sessions of a server
// (Options.StatefulSessions).
func (c *Ctx) StoresSessions() bool { return c.options().StatefulSessions }

// ALPN returns the protocols of Options.ALPN, in order of preference.
func (c *Ctx) ALPN() []string { return slices.Clone(c.options().ALPN) }

// ServerName returns the name that a client verifies if SetServerName is not
// called: Options.ServerName, or else Options.SNI. It is empty if neither is
// set, and on a server.
func (c *Ctx) ServerName() string {
	o := c.options()
	switch {
	case !o.Client:
		return ""
	case o.ServerName != "":
		return o.ServerName
	}
	return o.SNI
}

// Close releases the context. Filters that were made from it can still be used.
// It can be called again, and always returns nil.
func (c *Ctx) Close() error {
	if c != nil && c.shared != nil && c.closed.CompareAndSwap(false, true) {
		c.shared.release()
	}
	return nil
}

func (c *Ctx) certificates(list func(*ctxHandle) [][]byte) [][]byte {
	if !c.acquire() {
		return nil
	}
	defer c.shared.release()
	return list(c.shared.ctxHandle)
}

// acquire takes a reference to what connections share, if c is open.
func (c *Ctx) acquire() bool {
	return c != nil && c.shared != nil && !c.closed.Load() && c.shared.users.Acquire()
}

// options returns the options that c was made with, or the zero value.
func (c *Ctx) options() *Options {
	if c == nil || c.shared == nil {
		return new(Options)
	}
	return &c.shared.opts
}

func (s *sharedCtx) release() {
	if s.users.Release() {
		s.close()
		s.closeLists()
	}
}

// configure applies the options. The order matters: the security level in
// Cipher also applies to DH parameters and certificates.
func (s *sharedCtx) configure() error {
	for _, step := range []func() error{
		s.applyVersions, s.applyCiphers, s.applyConf, s.checkCiphers, s.applyDH, s.applyTrust, s.applyIdentities, s.checkSizes, s.applyVerify, s.applyCACRL, s.applyCRLCheck, s.applySessions, s.applyOCSP, s.checkFIPS, s.checkUsable, s.bindStaples,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if log := s.opts.Debug; log != nil {
		for _, what := range s.opts.noEffect(s.low) {
			log.Debug("sslfilter: option has no effect", "option", what)
		}
		for _, code := range s.opts.IgnoreVerifyErrors {
			if code.AdmitsAnyone() {
				log.Debug("sslfilter: IgnoreVerifyErrors accepts a certificate that anybody can make", "error", int(code), "text", code.String())
			}
		}
		log.Debug("sslfilter: context made", "openssl", OpenSSLVersion(), "fips", s.lib.providers, "ciphers", strings.Join(s.ciphers, ":"), "usable", strings.Join(s.usable, ":"))
	}
	return nil
}

func (s *sharedCtx) applyVersions() error {
	o := &s.opts
	low, high := s.versions() // the limits in openssl.cnf
	low = max(low, VersionTLS12)
	if o.MinVersion != 0 {
		low = o.MinVersion
	}
	if o.MaxVersion != 0 {
		high = o.MaxVersion
	}
	if o.TLS12 {
		low, high = VersionTLS12, VersionTLS12
	}
	option := "MinVersion"
	switch {
	case o.TLS12:
		option = "TLS12"
	case o.MinVersion == 0 && o.MaxVersion != 0:
		option = "MaxVersion"
	}
	if high != 0 && low > high {
		return badOption(option, "no version is left from %v to %v; openssl.cnf sets one of these limits", low, high)
	}
	if err := s.setVersions(low, high); err != nil {
		return &OptionError{Option: option, Err: err}
	}
	return nil
}

func (s *sharedCtx) applyDH() error {
	o := &s.opts
	dh := o.fileOption("DHCert")
	if o.Client || !dh.given() {
		return nil
	}
	in, err := dh.read()
	if err != nil {
		return err
	}
	if err := s.setDH(in.data); err != nil {
		return in.wrap(err)
	}
	return nil
}

// applyOCSP applies OCSPCheck.
func (s *sharedCtx) applyOCSP() error {
	o := &s.opts
	if o.OCSPCheck == OCSPOff {
		return nil
	}
	if !ocspSupported() {
		return &OptionError{Option: "OCSPCheck", Err: errNoOCSP}
	}
	s.checkOCSP(o.OCSPCheck == OCSPRequire)
	return nil
}

func (s *sharedCtx) applyVerify() error {
	o := &s.opts
	depth := o.CAVerifyDepth
	if depth == 0 {
		depth = defaultVerifyDepth
	}
	s.setVerifyDepth(depth)
	switch {
	case !o.Client && !o.resumes():
		s.setTickets(0)
	case o.NumTickets > 0:
		s.setTickets(o.NumTickets)
	}
	if o.NoRenegotiation {
		s.noRenegotiation()
	}
	if o.KeyLog != nil {
		s.logKeys()
	}
	ignore := slices.Clone(o.IgnoreVerifyErrors)
	if o.AllowMissingCRL {
		ignore = append(ignore, VerifyUnableToGetCRL)
	}
	if o.AllowExpiredCRL {
		ignore = append(ignore, VerifyCRLHasExpired)
	}
	s.conn = connConfig{
		client: o.Client, asks: o.asksClient(), needs: o.BlockBadClientCert || o.RequireValidClientCert,
		enforce: o.enforces(), ignore: ignore,
	}
	return nil
}

// checkSizes returns an error for data whose size OpenSSL would reject only while it
// builds a message, or that the peer would reject.
func (s *sharedCtx) checkSizes() error {
	o := &s.opts
	if names := s.namesSize(); o.asksClient() && names > maxCANames {
		err := fmt.Errorf("the names of its certificates take %d bytes in the request for a client certificate; at most %d are possible", names, maxCANames)
		return o.fileOption("CACrt").input().wrap(err)
	}
	for i := range s.identities {
		if chain := s.chainSize(i); chain > maxOwnChain {
			return s.identities[i].sends().input().wrap(fmt.Errorf("the certificates that are sent take %d bytes; peers with OpenSSL take at most %d", chain, maxOwnChain))
		}
	}
	return nil
}

const (
	// maxCANames bounds the names of the CAs in a certificate request, in
	// bytes: TLS 1.3 has 65,535 for all extensions of the message.
	maxCANames = 64<<10 - 512
	// maxOwnChain bounds the message with this side's certificates, in bytes:
	// OpenSSL rejects a longer one from its peer (SSL_MAX_CERT_LIST_DEFAULT).
	maxOwnChain = 100 << 10
)

// cloneSlices makes the context independent of the caller's slices, except those
// that forgetSecrets removes.
func (o *Options) cloneSlices() {
	o.CRLFiles = slices.Clone(o.CRLFiles) // read again later
	o.IgnoreVerifyErrors = slices.Clone(o.IgnoreVerifyErrors)
	o.Conf = slices.Clone(o.Conf)
	o.ALPN = slices.Clone(o.ALPN)
}

// forgetSecrets removes the options that connections do not need.
func (s *sharedCtx) forgetSecrets() {
	for i, source := range s.identities {
		s.identities[i] = identitySource{shown: source.shown}
	}
	o := &s.opts
	o.KeyPassphrase = nil
	o.Identities = nil                // the slice belongs to the caller
	o.Staple, o.TicketKeys = nil, nil // the SSL_CTX has its own references
	options := reflect.ValueOf(o).Elem()
	for i := range options.NumField() {
		if strings.HasSuffix(options.Type().Field(i).Name, "Mem") { // see fileOption
			options.Field(i).SetZero()
		}
	}
}
