//go:build cgo

package sslfilter

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// Ctx is an SSL_CTX made from Options: certificates, trust, ciphers and policy
// for any number of connections. It is safe for concurrent use. Changed files
// are not read again, CACRL and CRLFiles apart; make a new Ctx for them.
type Ctx struct {
	shared *sharedCtx
	closed atomic.Bool
}

// sharedCtx is what a Ctx and its Filters hold together. The last one frees it.
type sharedCtx struct {
	*ctxHandle
	opts    Options
	ignore  []VerifyCode
	ciphers []string
	usable  []string // of ciphers, what this side can really negotiate
	trusts  bool     // any CA at all
	refs    atomic.Int64

	ownCAs bool // the trust store is that of CACrt

	memSerials *crlHandle // of CACRLMem
	memCRLs    []*crlList // of CRLMem
	crls       atomic.Pointer[crlSet]
}

// acquire takes a reference, unless the last one is gone.
func (s *sharedCtx) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *sharedCtx) release() {
	if s.refs.Add(-1) == 0 {
		s.close()
		s.closeCRLs()
	}
}

// NewCtx reads everything that o names and makes the context. An error is an
// *OptionError that names the option, unless OpenSSL itself cannot start.
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
	s := &sharedCtx{ctxHandle: h, opts: o, trusts: o.trustsAny() || o.Client && !o.InsecureSkipVerify && o.CACrtMem == nil}
	s.opts.CRLFiles = slices.Clone(o.CRLFiles) // they are looked at again
	s.refs.Store(1)
	if err := s.configure(); err != nil {
		s.release()
		return nil, o.underFIPS(err)
	}
	s.opts.forgetSecrets()
	return &Ctx{shared: s}, nil
}

// New makes one connection with a context of its own, as the original's new
// does. Many connections with the same options share a Ctx more cheaply.
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

// NewFilter makes one connection. Close it after use.
//
// Calls SSL_new(3).
func (c *Ctx) NewFilter() (*Filter, error) {
	if !c.acquire() {
		return nil, ErrClosed
	}
	return newFilter(c.shared)
}

// acquire takes a reference to what connections share, if c is open.
func (c *Ctx) acquire() bool {
	return c != nil && c.shared != nil && !c.closed.Load() && c.shared.acquire()
}

// options are those that c was made with, or none.
func (c *Ctx) options() *Options {
	if c == nil || c.shared == nil {
		return new(Options)
	}
	return &c.shared.opts
}

// Ciphers lists the exact cipher suites that a connection offers or accepts, in
// order and under OpenSSL's names, TLS 1.3 suites included: what is left of Cipher
// and CipherSuites at these versions and this security level. UsableCiphers leaves
// out what a server cannot choose.
//
// Calls SSL_get1_supported_ciphers(3).
func (c *Ctx) Ciphers() []string {
	if c == nil || c.shared == nil {
		return nil
	}
	return slices.Clone(c.shared.ciphers)
}

// Chain gives the certificates that a connection sends, as DER: its own first,
// and then the others in the order in which they are sent. They are those that
// OpenSSL has parsed; nothing is read again. It is empty without Crt and Chain,
// and after Close.
//
// Calls SSL_CTX_get0_certificate(3), SSL_CTX_get0_chain_certs(3).
func (c *Ctx) Chain() [][]byte { return c.certificates((*ctxHandle).sent) }

// CAs gives the trusted certificates of CACrt or CACrtMem, as DER, as OpenSSL
// has parsed them. It is empty with neither, when a client trusts the CAs of the
// system, and after Close.
//
// Calls X509_STORE_get1_all_certs(3).
func (c *Ctx) CAs() [][]byte {
	if c == nil || c.shared == nil || !c.shared.ownCAs {
		return nil
	}
	return c.certificates((*ctxHandle).trusted)
}

func (c *Ctx) certificates(list func(*ctxHandle) [][]byte) [][]byte {
	if !c.acquire() {
		return nil
	}
	defer c.shared.release()
	return list(c.shared.ctxHandle)
}

// UsableCiphers lists those of Ciphers that a connection can really negotiate. On
// a server these fit the type of its key, the groups, and DHCert: without DHCert no
// DHE suite is among them (OpenSSL 4.0 has parameters of its own). On a client the
// server decides, and the list is that of Ciphers.
func (c *Ctx) UsableCiphers() []string {
	if c == nil || c.shared == nil {
		return nil
	}
	return slices.Clone(c.shared.usable)
}

// Client reports whether the connections are clients (Options.Client).
func (c *Ctx) Client() bool { return c.options().Client }

// ALPN lists the protocols of Options.ALPN, the most wanted first.
func (c *Ctx) ALPN() []string { return slices.Clone(c.options().ALPN) }

// ServerName is the name that a client verifies where SetServerName gives none:
// Options.ServerName, or else Options.SNI. It is empty where there is neither,
// and on a server.
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

// Close gives the context up. Filters made from it live on. It is idempotent.
func (c *Ctx) Close() error {
	if c != nil && c.shared != nil && c.closed.CompareAndSwap(false, true) {
		c.shared.release()
	}
	return nil
}

// configure applies the options. The order decides: the security level in
// Cipher also holds for DH parameters and certificates.
func (s *sharedCtx) configure() error {
	for _, step := range []func() error{
		s.applyVersions, s.applyCiphers, s.applyDH, s.applyTrust, s.applyCertificate, s.checkSizes, s.applyVerify, s.applyCRLs, s.checkFIPS, s.checkUsable,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if log := s.opts.Debug; log != nil {
		low, _ := s.versions()
		for _, what := range s.opts.noEffect(low) {
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
	low, high := s.versions() // what openssl.cnf asks for
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
	if o.Client || o.DHCert == "" && o.DHCertMem == nil {
		return nil
	}
	in, err := o.read("DHCert", o.DHCert, o.DHCertMem)
	if err != nil {
		return err
	}
	if err := s.setDH(in.data); err != nil {
		return in.wrap(err)
	}
	return nil
}

func (s *sharedCtx) applyTrust() error {
	o := &s.opts
	if o.CACrt == "" && o.CACrtMem == nil {
		if o.Client && !o.InsecureSkipVerify {
			return s.trustSystem()
		}
		return nil
	}
	inputs := make([]input, 0, max(1, len(o.CACrtMem)))
	if o.CACrtMem == nil {
		var err error
		if inputs, err = o.caInputs(); err != nil {
			return err
		}
	}
	for i, pem := range o.CACrtMem {
		in := input{option: fmt.Sprintf("CACrtMem[%d]", i), data: pem}
		if err := in.checkSize(); err != nil {
			return err
		}
		inputs = append(inputs, in)
	}
	all, _, err := s.lib.parseCerts(nil)
	if err != nil {
		return err
	}
	defer all.free()
	for _, in := range inputs {
		cas, err := in.certs(s.lib)
		if err != nil {
			return err
		}
		err = all.join(cas)
		cas.free()
		if err != nil {
			return in.wrap(err)
		}
	}
	if err := s.trust(all, !o.Client); err != nil {
		return &OptionError{Option: "CACrt", File: o.CACrt, Err: err}
	}
	s.ownCAs = true
	return nil
}

// applyCertificate loads this side's certificate, chain and key.
func (s *sharedCtx) applyCertificate() error {
	o := &s.opts
	if o.Crt == "" && o.CrtMem == nil && o.Chain == "" && o.ChainMem == nil {
		return s.checkAnonymous()
	}
	own, chain, err := o.certificate(s.lib)
	if err != nil {
		return err
	}
	defer own.list.free()
	defer own.forget()
	if chain.list.made() {
		defer chain.list.free()
		defer chain.forget()
	}
	send := own
	if chain.list.made() {
		send = chain
	}
	if err := s.useChain(send.list); err != nil {
		if newer := needsNewerKey(send.data); newer != nil {
			err = newer
		}
		return send.wrap(err)
	}
	if err := s.applyKey(send.input); err != nil {
		return err
	}
	if send.list.len() == 1 && (o.CACrt != "" || o.CACrtMem != nil) {
		if err := s.buildChain(); err != nil {
			return send.wrap(err)
		}
	}
	return nil
}

const (
	// maxCANames bounds the names of the CAs in the request for a certificate, in
	// bytes: TLS 1.3 has 65,535 for all extensions of the message.
	maxCANames = 64<<10 - 512
	// maxOwnChain bounds the message with this side's certificates, in bytes:
	// OpenSSL's peers take no longer one (SSL_MAX_CERT_LIST_DEFAULT).
	maxOwnChain = 100 << 10
)

// checkSizes refuses what OpenSSL finds too long only while it builds a message, or
// the peer when it reads one.
func (s *sharedCtx) checkSizes() error {
	o := &s.opts
	names, chain := s.sizes()
	if o.asksClient() && names > maxCANames {
		err := fmt.Errorf("the names of its certificates take %d bytes in the request for a client certificate; at most %d are possible", names, maxCANames)
		return &OptionError{Option: o.pickCAs(), File: o.caFile(), Err: err}
	}
	if chain > maxOwnChain {
		option, file, mem := "Crt", o.Crt, o.CrtMem
		if o.Chain != "" || o.ChainMem != nil {
			option, file, mem = "Chain", o.Chain, o.ChainMem
		}
		if mem != nil {
			file = ""
		}
		err := fmt.Errorf("the certificates that are sent take %d bytes; peers with OpenSSL take at most %d", chain, maxOwnChain)
		return &OptionError{Option: o.pick(option, mem), File: file, Err: err}
	}
	return nil
}

// pickCAs and caFile name the form of CACrt that is in use.
func (o *Options) pickCAs() string {
	if o.CACrtMem != nil {
		return "CACrtMem"
	}
	return "CACrt"
}

func (o *Options) caFile() string {
	if o.CACrtMem != nil {
		return ""
	}
	return o.CACrt
}

// checkAnonymous refuses a server that could serve nobody.
func (s *sharedCtx) checkAnonymous() error {
	if s.opts.Client {
		return nil
	}
	_, anonymous, err := s.ctxHandle.ciphers()
	if err != nil {
		return err
	}
	if !anonymous {
		return badOption("Crt", "is missing: a server needs a certificate and its Key, unless Cipher admits anonymous suites; for a client set Client")
	}
	return nil
}

// certInput is an input and the certificates in it.
type certInput struct {
	input
	list certList
}

// certificate reads Crt and Chain, whichever are given. Without Crt the chain
// is both; chain.list is empty without Chain.
func (o *Options) certificate(lib library) (own, chain certInput, err error) {
	read := func(option, file string, mem []byte) (c certInput, err error) {
		if c.input, err = o.read(option, file, mem); err == nil {
			c.list, err = c.certs(lib)
		}
		return c, err
	}
	withCrt := o.Crt != "" || o.CrtMem != nil
	if withCrt {
		if own, err = read("Crt", o.Crt, o.CrtMem); err != nil {
			return own, chain, err
		}
	}
	if o.Chain == "" && o.ChainMem == nil {
		return own, chain, nil
	}
	if chain, err = read("Chain", o.Chain, o.ChainMem); err != nil {
		if withCrt {
			own.list.free()
		}
		return own, chain, err
	}
	if !withCrt {
		return chain, certInput{}, nil
	}
	if !own.list.sameLeaf(chain.list) {
		own.list.free()
		chain.list.free()
		return own, chain, chain.wrap(fmt.Errorf("its first certificate is not that of %s", own.name()))
	}
	return own, chain, nil
}

// applyKey loads the private key: Key, or the one in the chain file.
func (s *sharedCtx) applyKey(chain input) error {
	o := &s.opts
	in := chain
	if o.Key != "" || o.KeyMem != nil {
		var err error
		if in, err = o.read("Key", o.Key, o.KeyMem); err != nil {
			return err
		}
		defer in.forget()
	}
	key, encrypted, err := s.lib.parseKey(in.data, nil)
	if err != nil && encrypted {
		if s.lib.made() && bytes.Contains(in.data, []byte("Proc-Type: 4,ENCRYPTED")) {
			return in.wrap(errOldForm)
		}
		key, err = o.decryptKey(s.lib, in)
		if err != nil {
			return err
		}
	}
	if err != nil {
		if in.option == chain.option && !pemKey.in(in.data) {
			return in.wrap(errors.New("holds no private key, and Key is not given"))
		}
		if newer := needsNewerKey(in.data); newer != nil {
			return in.wrap(newer)
		}
		return in.wrap(in.notPEM(pemKey, err))
	}
	defer key.free()
	mismatch, err := s.useKey(key)
	if mismatch {
		return in.wrap(fmt.Errorf("the private key does not match the certificate of %s: %w", chain.name(), bare(err)))
	}
	if err != nil {
		return in.wrap(err)
	}
	return nil
}

// errOldForm: OpenSSL makes the key of that form with MD5, outside of any library
// context.
var errOldForm = errors.New("the private key is encrypted in the old form, which needs MD5; \"openssl pkcs8 -topk8\" converts it")

func (o *Options) decryptKey(lib library, in input) (privateKey, error) {
	if o.KeyPassphrase == nil {
		return privateKey{}, in.wrap(errors.New("the private key is encrypted; set KeyPassphrase"))
	}
	passphrase, err := o.KeyPassphrase()
	if err != nil {
		return privateKey{}, &OptionError{Option: "KeyPassphrase", Err: err}
	}
	defer clear(passphrase)
	if passphrase == nil {
		passphrase = []byte{} // an empty one is an answer too
	}
	key, _, err := lib.parseKey(in.data, passphrase)
	if algorithm, missing := missingAlgorithm(err); missing {
		return privateKey{}, in.wrap(fmt.Errorf("the private key is encrypted with an algorithm that the loaded providers do not have (%s); "+
			"\"openssl pkcs8 -topk8 -provider default -provider legacy -in FILE\" converts it: %w", algorithm, bare(err)))
	}
	if err != nil {
		return privateKey{}, in.wrap(fmt.Errorf("the private key cannot be decrypted; is KeyPassphrase right? %w", bare(err)))
	}
	return key, nil
}

// missingAlgorithm finds the algorithm that no provider has, as OpenSSL 3 names it.
func missingAlgorithm(err error) (name string, missing bool) {
	var e *Error
	if !errors.As(err, &e) {
		return "", false
	}
	for _, r := range e.Records {
		if r.Reason == "unsupported" {
			_, name, _ = strings.Cut(r.Data, "Algorithm (")
			name, _, _ = strings.Cut(name, " : ")
			return cmp.Or(name, "unknown"), true
		}
	}
	return "", false
}

func (s *sharedCtx) applyVerify() error {
	o := &s.opts
	depth := o.CAVerifyDepth
	if depth == 0 {
		depth = defaultVerifyDepth
	}
	s.setVerifyDepth(depth)
	switch {
	case o.asksClient(), o.NumTickets < 0: // a resumed session shows no certificate
		s.setTickets(0)
	case o.NumTickets > 0:
		s.setTickets(o.NumTickets)
	}
	if o.NoRenegotiation {
		s.noRenegotiation()
	}
	s.ignore = slices.Clone(o.IgnoreVerifyErrors)
	if o.AllowMissingCRL {
		s.ignore = append(s.ignore, VerifyUnableToGetCRL)
	}
	if o.AllowExpiredCRL {
		s.ignore = append(s.ignore, VerifyCRLHasExpired)
	}
	if o.CACRLMem != nil {
		in := input{option: "CACRLMem", data: o.CACRLMem}
		err := in.checkSize()
		if err == nil {
			s.memSerials, err = parseCRL(in.data)
		}
		if err != nil {
			return in.wrap(err)
		}
	} else if o.CACRL != "" {
		if _, err := loadCRL(o.CACRL); err != nil {
			return &OptionError{Option: "CACRL", File: o.CACRL, Err: unwrapPath(err)}
		}
	}
	return nil
}

// asksSerials reports whether CACRL or CACRLMem is given.
func (s *sharedCtx) asksSerials() bool { return s.memSerials != nil || s.opts.CACRL != "" }

// serials gives the lists of CACRL as they are now, or those of CACRLMem.
func (s *sharedCtx) serials() (*crlHandle, error) {
	if s.memSerials != nil {
		return s.memSerials, nil
	}
	return loadCRL(s.opts.CACRL)
}

// forgetSecrets drops what the connections do not need.
func (o *Options) forgetSecrets() {
	o.KeyMem, o.KeyPassphrase = nil, nil
	o.CrtMem, o.ChainMem, o.CACrtMem, o.DHCertMem = nil, nil, nil, nil
	o.CACRLMem, o.CRLMem = nil, nil
}
