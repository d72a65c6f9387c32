//go:build cgo

package sslfilter

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Identity is one more certificate of a side, with its chain and its private
// key. The fields have the same meaning as those of Options.
type Identity struct {
	// Crt is a PEM file with the certificate, and CrtMem its content.
	Crt    string
	CrtMem []byte
	// Key is a PEM file with the private key of Crt, and KeyMem its content.
	Key    string
	KeyMem []byte
	// Chain is a PEM file with the certificate, its intermediates and possibly
	// the key, and ChainMem its content.
	Chain    string
	ChainMem []byte
	// KeyPassphrase is called by NewCtx if the key is encrypted, and only then.
	KeyPassphrase func() ([]byte, error)
	// Staple is an OCSP response for this certificate.
	Staple *Staple
}

// ShownIdentity is the identity whose certificate a side has shown to its peer.
type ShownIdentity struct {
	// Index is the index in Options.Identities, or -1 for Crt and Chain of the
	// Options.
	Index int
	Certificate
}

// identitySource names one certificate, its chain and its private key.
type identitySource struct {
	index           int    // in Identities, or -1
	prefix          string // of the names of the options
	crt, key, chain fileOption
	passphrase      func() ([]byte, error)
	staple          *Staple
	shown           *ShownIdentity // set when the identity is applied
}

// sources returns the sources of all certificates in the options: Crt, Key and
// Chain, if one of them is given, and then Identities.
func (o *Options) sources() []identitySource {
	var list []identitySource
	add := func(index int, prefix string, id Identity) {
		s := identitySource{index: index, prefix: prefix, passphrase: id.KeyPassphrase, staple: id.Staple}
		s.crt = fileOption{prefix + "Crt", id.Crt, id.CrtMem, nil}
		s.key = fileOption{prefix + "Key", id.Key, id.KeyMem, nil}
		s.chain = fileOption{prefix + "Chain", id.Chain, id.ChainMem, nil}
		list = append(list, s)
	}
	first := Identity{o.Crt, o.CrtMem, o.Key, o.KeyMem, o.Chain, o.ChainMem, o.KeyPassphrase, o.Staple}
	add(-1, "", first)
	if !list[0].set() {
		list = nil
	}
	for i, id := range o.Identities {
		add(i, fmt.Sprintf("Identities[%d].", i), id)
	}
	return list
}

// set reports whether any of its options is set.
func (s *identitySource) set() bool {
	return s.crt.given() || s.key.given() || s.chain.given() || s.passphrase != nil || s.staple != nil
}

// validate returns the errors that can be found without reading a file.
func (s *identitySource) validate() error {
	switch {
	case s.key.given() && !s.sends().given():
		return badOption(s.key.input().option, "is given without %sCrt or %[1]sChain", s.prefix)
	case s.crt.given() && !s.key.given() && !s.chain.given():
		return badOption(s.crt.input().option, "is given without %sKey", s.prefix)
	case s.sends().given():
		return nil
	case s.staple != nil:
		return badOption(s.prefix+"Staple", "is given without %sCrt and %[1]sKey", s.prefix)
	case s.passphrase != nil:
		return badOption(s.prefix+"KeyPassphrase", "is given without %sCrt and %[1]sKey", s.prefix)
	}
	return badOption(strings.TrimSuffix(s.prefix, "."), "names no certificate; set its Crt and Key, or its Chain")
}

// sends returns the option whose certificates are sent.
func (s *identitySource) sends() fileOption {
	if s.chain.given() {
		return s.chain
	}
	return s.crt
}

// identity is a certificate, its chain and its private key. load reads all of
// it, apply applies all of it, and free releases it.
type identity struct {
	chain certInput // the certificates that are sent, this side's own first
	key   input
	pkey  privateKey
}

// certInput is an input and the certificates in it.
type certInput struct {
	input
	list certList
}

func (c certInput) free() {
	if c.list.made() {
		c.list.free()
	}
	c.forget()
}

// load reads and parses everything that s names, for the library context lib.
func (s *identitySource) load(lib library) (id identity, err error) {
	if id.chain, err = s.certificates(lib); err != nil {
		return identity{}, err
	}
	if err := s.loadKey(lib, &id); err != nil {
		id.free()
		return identity{}, err
	}
	return id, nil
}

func (id identity) free() {
	id.pkey.free()
	id.key.forget()
	id.chain.free()
}

// apply makes id the identity of ctx. With fromTrust, the intermediates of a
// certificate without a chain are taken from the trust store.
func (id identity) apply(ctx *ctxHandle, fromTrust bool) error {
	if err := ctx.useChain(id.chain.list); err != nil {
		if newer := needsNewerKey(id.chain.data); newer != nil {
			err = newer
		}
		return id.chain.wrap(err)
	}
	mismatch, err := ctx.useKey(id.pkey)
	if mismatch {
		err = fmt.Errorf("the private key does not match the certificate of %s: %w", id.chain.name(), bare(err))
	}
	if err != nil {
		return id.key.wrap(err)
	}
	if id.chain.list.len() == 1 && fromTrust {
		if err := ctx.buildChain(); err != nil {
			return id.chain.wrap(err)
		}
	}
	return nil
}

// applyIdentities loads and applies the certificates of the options.
func (s *sharedCtx) applyIdentities() error {
	o := &s.opts
	sources := o.sources()
	if len(sources) == 0 {
		return s.checkAnonymous()
	}
	// A client that chooses by the server's CAs needs to know the whole chain.
	fromTrust := o.fileOption("CACrt").given() || o.Client && len(sources) > 1
	for i := range sources {
		if err := s.applyIdentity(sources, i, fromTrust); err != nil {
			return err
		}
	}
	s.identities = sources
	return s.setIdentities(o.Client)
}

func (s *sharedCtx) applyIdentity(sources []identitySource, i int, fromTrust bool) error {
	source := &sources[i]
	id, err := source.load(s.lib)
	if err != nil {
		return err
	}
	defer id.free()
	if err := id.apply(s.ctxHandle, fromTrust); err != nil {
		return err
	}
	clash, err := s.addIdentity(s.opts.Client)
	switch {
	case clash >= 0:
		other := sources[clash].sends().input()
		return id.chain.wrap(fmt.Errorf("its key and that of %s are both %s; OpenSSL keeps one certificate for each key type, and all EC curves are one type", other.name(), s.keyType(i)))
	case err != nil:
		return id.chain.wrap(err)
	}
	own, ok := s.ownCert(i)
	if !ok {
		return id.chain.wrap(outOfMemory("i2d_X509", nil))
	}
	source.shown = &ShownIdentity{source.index, own}
	return nil
}

// checkAnonymous returns an error if a server without a certificate has no
// anonymous suite, because it could not serve any client.
func (s *sharedCtx) checkAnonymous() error {
	if s.opts.Client {
		return nil
	}
	_, anonymous, err := s.ctxHandle.ciphers()
	if err != nil {
		return err
	}
	if !anonymous {
		return &OptionError{Option: "Crt", Err: errors.New("is missing: a server needs a certificate and its Key, unless Cipher admits anonymous suites"), Hint: "for a client set Client"}
	}
	return nil
}

// certificates reads the certificates to send: Chain if it is given, and
// otherwise Crt. If both are given, they must begin with the same certificate.
func (s *identitySource) certificates(lib library) (certInput, error) {
	read := func(option fileOption) (c certInput, err error) {
		if c.input, err = option.read(); err == nil {
			c.list, err = c.certs(lib)
		}
		return c, err
	}
	var own certInput
	if s.crt.given() {
		var err error
		if own, err = read(s.crt); err != nil || !s.chain.given() {
			return own, err
		}
		defer own.free()
	}
	chain, err := read(s.chain)
	if err == nil && s.crt.given() && !own.list.sameLeaf(chain.list) {
		err = chain.wrap(fmt.Errorf("its first certificate is not that of %s", own.name()))
	}
	if err != nil {
		chain.free()
		return certInput{}, err
	}
	return chain, nil
}

// loadKey reads the private key from Key, or from the file of the chain.
func (s *identitySource) loadKey(lib library, id *identity) error {
	id.key = id.chain.input
	if s.key.given() {
		var err error
		if id.key, err = s.key.read(); err != nil {
			return err
		}
	}
	in := id.key
	key, encrypted, err := lib.parseKey(in.data, nil)
	if err != nil && encrypted {
		if lib.made() && bytes.Contains(in.data, []byte("Proc-Type: 4,ENCRYPTED")) {
			return in.wrap(errOldForm)
		}
		if key, err = s.decryptKey(lib, in); err != nil {
			return err
		}
	}
	if err != nil {
		if newer := needsNewerKey(id.chain.data); newer != nil { // the certificate has the same type of key
			return id.chain.wrap(newer)
		}
		if in.option == id.chain.option && !pemKey.in(in.data) {
			return in.wrap(fmt.Errorf("holds no private key, and %sKey is not given", s.prefix))
		}
		if newer := needsNewerKey(in.data); newer != nil {
			return in.wrap(newer)
		}
		return in.wrap(in.notPEM(pemKey, err))
	}
	id.pkey = key
	return nil
}

// errOldForm is the error for keys encrypted in the traditional form: OpenSSL
// derives the encryption key with MD5, outside of any library context.
var errOldForm = errors.New("the private key is encrypted in the old form, which needs MD5; \"openssl pkcs8 -topk8\" converts it")

func (s *identitySource) decryptKey(lib library, in input) (privateKey, error) {
	if s.passphrase == nil {
		return privateKey{}, in.wrap(fmt.Errorf("the private key is encrypted; set %sKeyPassphrase", s.prefix))
	}
	passphrase, err := s.passphrase()
	if err != nil {
		return privateKey{}, &OptionError{Option: s.prefix + "KeyPassphrase", Err: err}
	}
	defer clear(passphrase)
	if passphrase == nil {
		passphrase = []byte{} // an empty passphrase is a passphrase too
	}
	key, _, err := lib.parseKey(in.data, passphrase)
	if algorithm, missing := missingAlgorithm(err); missing {
		return privateKey{}, in.wrap(fmt.Errorf("the private key is encrypted with an algorithm that the loaded providers do not have (%s); "+
			"\"openssl pkcs8 -topk8 -provider default -provider legacy -in FILE\" converts it: %w", algorithm, bare(err)))
	}
	if err != nil {
		return privateKey{}, in.wrap(fmt.Errorf("the private key cannot be decrypted; is %sKeyPassphrase right? %w", s.prefix, bare(err)))
	}
	return key, nil
}

// missingAlgorithm returns OpenSSL 3's name of the algorithm that no provider
// has.
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
