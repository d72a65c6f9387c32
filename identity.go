//go:build cgo

package sslfilter

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
)

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
		return &OptionError{Option: "Crt", Err: errors.New("is missing: a server needs a certificate and its Key, unless Cipher admits anonymous suites"), Hint: "for a client set Client"}
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
