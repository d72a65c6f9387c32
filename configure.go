//go:build cgo

package sslfilter

import (
	"fmt"
	"slices"
	"strings"
)

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
func (o *Options) forgetSecrets() {
	o.KeyMem, o.KeyPassphrase = nil, nil
	o.Staple = nil     // the SSL_CTX has its own reference
	o.TicketKeys = nil // likewise
	o.Identities = nil // the slice belongs to the caller
	o.CrtMem, o.ChainMem, o.CACrtMem, o.DHCertMem = nil, nil, nil, nil
	o.CACRLMem, o.CRLMem = nil, nil
}
