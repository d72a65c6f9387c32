//go:build cgo

package sslfilter

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// validate returns the errors that can be found without OpenSSL.
func (o *Options) validate() error {
	for _, s := range o.fileOptions() {
		if strings.ContainsRune(s.file, 0) {
			return badOption(s.option, "holds a NUL byte")
		}
	}
	for _, s := range []struct{ name, value string }{
		{"SNI", o.SNI}, {"ServerName", o.ServerName}, {"FIPSConfig", o.FIPSConfig},
		{"Cipher", o.Cipher}, {"CipherSuites", o.CipherSuites}, {"Groups", o.Groups},
		{"SignatureAlgorithms", o.SignatureAlgorithms},
	} {
		if strings.ContainsRune(s.value, 0) {
			return badOption(s.name, "holds a NUL byte")
		}
	}
	if o.CAVerifyDepth < 0 || o.CAVerifyDepth > math.MaxInt32 {
		return badOption("CAVerifyDepth", "is %d; 0 means %d, otherwise the number of intermediates", o.CAVerifyDepth, defaultVerifyDepth)
	}
	if err := o.validateCRLs(); err != nil {
		return err
	}
	for _, code := range o.IgnoreVerifyErrors {
		if code < 0 || code > math.MaxInt32 {
			return badOption("IgnoreVerifyErrors", "holds %d, which is not an X509_V_ERR number", int(code))
		}
	}
	for _, check := range []func() error{o.validateRole, o.validateSessions, o.validateNames, o.validateALPN, o.validateVersions, o.validateKeys, o.validateConf} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) validateRole() error {
	switch {
	case o.Client && o.RequireValidClientCert:
		return badOption("RequireValidClientCert", "is for servers, and Client is set")
	case o.Client && o.BlockInvalidClientCert:
		return badOption("BlockInvalidClientCert", "is for servers, and Client is set")
	case !o.Client && o.InsecureSkipVerify:
		return badOption("InsecureSkipVerify", "is for clients, and Client is not set")
	case !o.Client && o.OCSPCheck != OCSPOff:
		return badOption("OCSPCheck", "is for clients, and Client is not set")
	case o.OCSPCheck < OCSPOff || o.OCSPCheck > OCSPRequire:
		return badOption("OCSPCheck", "is %d; OCSPOff, OCSPIfStapled and OCSPRequire are possible", int(o.OCSPCheck))
	case o.Client && o.NumTickets != 0:
		return badOption("NumTickets", "is for servers, and Client is set")
	case o.NumTickets < -1 || o.NumTickets > maxTickets:
		return badOption("NumTickets", "is %d; -1 (none), 0 (OpenSSL's default) and 1 to %d are possible", o.NumTickets, maxTickets)
	case !o.Client && o.ServerName != "":
		return badOption("ServerName", "is for clients, and Client is not set")
	case o.Client && o.DHCertMem != nil && len(o.DHCertMem) == 0:
		return badOption("DHCertMem", "it is empty")
	case o.FIPSConfig != "" && !o.FIPS:
		return badOption("FIPSConfig", "is given without FIPS")
	case o.RequireValidClientCert && !o.trustsAny() && len(o.IgnoreVerifyErrors) == 0:
		return badOption("RequireValidClientCert", "would reject every client: set CACrt or CACrtMem")
	case o.BlockInvalidClientCert && !o.trustsAny() && len(o.IgnoreVerifyErrors) == 0:
		return badOption("BlockInvalidClientCert", "would reject every certificate: set CACrt or CACrtMem")
	}
	return nil
}

// validateCRLs checks CRLCheck and the options that depend on it.
func (o *Options) validateCRLs() error {
	if o.CACRLMem != nil && !o.Client && !o.asksClient() {
		return badOption("CACRLMem", "has no effect on a server without ClientCert")
	}
	if o.CRLCheck < CRLCheckOff || o.CRLCheck > CRLCheckChain {
		return badOption("CRLCheck", "is %d; CRLCheckOff, CRLCheckLeaf and CRLCheckChain are possible", int(o.CRLCheck))
	}
	if o.CRLCheck == CRLCheckOff {
		for _, s := range []struct {
			name string
			set  bool
		}{
			{"CRLFiles", len(o.CRLFiles) > 0}, {"CRLMem", len(o.CRLMem) > 0},
			{"AllowMissingCRL", o.AllowMissingCRL}, {"AllowExpiredCRL", o.AllowExpiredCRL},
		} {
			if s.set {
				return badOption(s.name, "is given without CRLCheck")
			}
		}
		return nil
	}
	switch {
	case !o.Client && !o.asksClient():
		return badOption("CRLCheck", "there is no peer certificate to check: on a server it needs ClientCert, BlockInvalidClientCert or RequireValidClientCert")
	case o.CRLMem != nil && len(o.CRLMem) == 0:
		return badOption("CRLMem", "it is empty")
	case len(o.CRLFiles)+len(o.CRLMem) == 0:
		return badOption("CRLCheck", "has no CRL: set CRLFiles or CRLMem")
	case !o.trustsAny() && (!o.Client || o.InsecureSkipVerify || o.CACrtMem != nil):
		return badOption("CRLCheck", "has no CA that could have signed a CRL: set CACrt or CACrtMem")
	case len(o.CRLFiles) > maxCRLFiles:
		return badOption("CRLFiles", "has %d files; %d are possible", len(o.CRLFiles), maxCRLFiles)
	}
	for i, file := range o.CRLFiles {
		switch {
		case file == "":
			return badOption("CRLFiles", "names no file at position %d", i)
		case strings.ContainsRune(file, 0):
			return badOption("CRLFiles", "holds a NUL byte at position %d", i)
		}
	}
	return nil
}

func (o *Options) validateNames() error {
	if len(o.SNI) > maxNameLength {
		return badOption("SNI", "has %d bytes; the ClientHello takes %d", len(o.SNI), maxNameLength)
	}
	if !o.Client {
		return nil
	}
	if _, err := netip.ParseAddr(strings.Trim(o.SNI, "[]")); o.SNI != "" && err != nil {
		if err := misspelled(o.SNI); err != nil {
			return &OptionError{Option: "SNI", Err: err}
		}
	}
	if o.ServerName != "" {
		if _, err := parseServerName(o.ServerName); err != nil {
			return &OptionError{Option: "ServerName", Err: err}
		}
		return nil // SNI is only sent
	}
	if o.SNI != "" && !o.InsecureSkipVerify {
		if _, err := parseServerName(o.SNI); err != nil {
			return &OptionError{Option: "SNI", Err: err}
		}
	}
	return nil
}

func (o *Options) validateALPN() error {
	for i, p := range o.ALPN {
		if len(p) < 1 || len(p) > 255 {
			return badOption("ALPN", "protocol %d has %d bytes; 1 to 255 are possible", i, len(p))
		}
		if strings.ContainsRune(p, 0) {
			return badOption("ALPN", "protocol %d holds a NUL byte", i)
		}
	}
	if n := len(o.alpn()); n > maxALPN {
		return badOption("ALPN", "has %d bytes; %d are possible", n, maxALPN)
	}
	return nil
}

func (o *Options) validateVersions() error {
	for _, v := range []struct {
		option  string
		version Version
	}{{"MinVersion", o.MinVersion}, {"MaxVersion", o.MaxVersion}} {
		if v.version != 0 && (v.version < VersionTLS10 || v.version > VersionTLS13) {
			return badOption(v.option, "is %v, which is not a TLS version; the constants are VersionTLS10 to VersionTLS13", v.version)
		}
		if o.TLS12 && v.version != 0 && v.version != VersionTLS12 {
			return badOption(v.option, "is %v, and TLS12 asks for TLSv1.2 alone", v.version)
		}
		if o.TLS && v.version != 0 && v.version < VersionTLS12 {
			return badOption(v.option, "is %v, and TLS asks for TLSv1.2 or later", v.version)
		}
	}
	low, high := o.MinVersion, o.MaxVersion
	if low == 0 {
		low = VersionTLS12
	}
	if o.TLS12 {
		high = VersionTLS12
	}
	if high != 0 && low > high {
		if o.MinVersion == 0 {
			return badOption("MaxVersion", "is %v, below the default MinVersion of %v; set MinVersion too", high, low)
		}
		return badOption("MinVersion", "is %v, above MaxVersion %v", low, high)
	}
	if o.CipherSuites != "" && high != 0 && high < VersionTLS13 {
		return badOption("CipherSuites", "names TLS 1.3 suites, and the highest version is %v; TLS 1.2 suites go into Cipher", high)
	}
	return nil
}

func (o *Options) validateKeys() error {
	sources := o.sources()
	if len(sources) > maxIdentities {
		return badOption("Identities", "this side has %d certificates; %d are possible", len(sources), maxIdentities)
	}
	for i := range sources {
		if err := sources[i].validate(); err != nil {
			return err
		}
		if o.Client && sources[i].staple != nil {
			return badOption(sources[i].prefix+"Staple", "is for servers, and Client is set")
		}
	}
	return nil
}

// noEffect lists the options of the original that have no effect in this
// configuration. low is the lowest TLS version that is enabled.
func (o *Options) noEffect(low Version) []string {
	var list []string
	add := func(set bool, what string) {
		if set {
			list = append(list, what)
		}
	}
	add(o.Client && o.ClientCert, "ClientCert on a client")
	add(o.Client && o.BlockBadClientCert, "BlockBadClientCert on a client")
	add(!o.Client && o.BlockBadClientCert && !o.asksClient(), "BlockBadClientCert without ClientCert")
	add(o.Client && o.fileOption("DHCert").given(), "DHCert on a client")
	add(o.Client && o.NoHonor, "NoHonor on a client")
	add(!o.Client && o.SNI != "", "SNI on a server")
	add(!o.Client && o.CACRL != "" && !o.asksClient(), "CACRL without ClientCert")
	add(o.TLS && o.TLS12, "TLS with TLS12")
	deaf := !o.Client && !o.asksClient()
	add(deaf && len(o.IgnoreVerifyErrors) > 0, "IgnoreVerifyErrors without ClientCert")
	add(deaf && o.CAVerifyDepth != 0, "CAVerifyDepth without ClientCert")
	add(o.asksClient() && !o.trustsAny() && len(o.IgnoreVerifyErrors) == 0, "ClientCert without CACrt: no client certificate can be valid")
	only13 := low >= VersionTLS13
	add(only13 && o.TLS, "TLS with TLS 1.3 alone")
	add(only13 && o.Cipher != "" && !strings.Contains(o.Cipher, "@SECLEVEL"), "Cipher with TLS 1.3 alone")
	add(only13 && !o.Client && o.fileOption("DHCert").given(), "DHCert with TLS 1.3 alone")
	for _, s := range o.fileOptions() {
		add(s.file != "" && s.inMem(), s.option+" with "+s.option+"Mem")
	}
	return list
}

func badOption(option, format string, args ...any) error {
	return &OptionError{Option: option, Err: fmt.Errorf(format, args...)}
}

// maxTickets bounds NumTickets. A client uses one ticket for each connection
// that it opens at the same time.
const maxTickets = 16

// maxALPN bounds the list of protocols, in bytes. RFC 7301 section 3.1 allows
// 65535, but the ClientHello has only that much for all extensions together.
const maxALPN = 32 << 10

// maxNameLength bounds a host name in the ClientHello, in bytes
// (TLSEXT_MAXLEN_host_name).
const maxNameLength = 255
