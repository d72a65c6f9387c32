//go:build cgo

package sslfilter

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// identitySource names one certificate, its chain and its private key.
type identitySource struct {
	crt, key, chain fileOption
	passphrase      func() ([]byte, error)
}

// identity returns the sources of the certificate in the options.
func (o *Options) identity() identitySource {
	return identitySource{o.fileOption("Crt"), o.fileOption("Key"), o.fileOption("Chain"), o.KeyPassphrase}
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

// applyIdentity loads and applies the certificate of the options.
func (s *sharedCtx) applyIdentity() error {
	o := &s.opts
	source := o.identity()
	if !source.sends().given() {
		return s.checkAnonymous()
	}
	id, err := source.load(s.lib)
	if err != nil {
		return err
	}
	defer id.free()
	return id.apply(s.ctxHandle, o.fileOption("CACrt").given())
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
			return in.wrap(errors.New("holds no private key, and Key is not given"))
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
		return privateKey{}, in.wrap(errors.New("the private key is encrypted; set KeyPassphrase"))
	}
	passphrase, err := s.passphrase()
	if err != nil {
		return privateKey{}, &OptionError{Option: "KeyPassphrase", Err: err}
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
		return privateKey{}, in.wrap(fmt.Errorf("the private key cannot be decrypted; is KeyPassphrase right? %w", bare(err)))
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
