//go:build cgo

package sslfilter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ConfCommand is a configuration command of OpenSSL with its value, as in a
// configuration file: {"RecordPadding", "4096"}. The case of the name does not
// matter. SSL_CONF_cmd(3) describes the commands, and docs/options.md says which
// of them Conf accepts.
type ConfCommand struct{ Name, Value string }

// confRule says what happens to a command.
type confRule struct {
	name   string   // as OpenSSL writes it
	server bool     // only for servers
	same   []string // options that set the same thing; the first has the same syntax if it is a list
	check  func(o *Options, value string) error
	refuse string // why Conf does not accept it, and the option to use instead
}

// confRules has all commands that OpenSSL knows. A command of a later OpenSSL is
// an error until it has a row here, because it may change what this library
// promises.
var confRules = []confRule{
	{name: "CipherString", same: []string{"Cipher"}},
	{name: "Ciphersuites", same: []string{"CipherSuites"}},
	{name: "ClientSignatureAlgorithms"},
	{name: "Curves", same: []string{"Groups"}},
	{name: "Groups", same: []string{"Groups"}},
	{name: "MaxProtocol", same: []string{"MaxVersion", "TLS12"}, check: (*Options).checkProtocol},
	{name: "MinProtocol", same: []string{"MinVersion", "TLS12"}, check: (*Options).checkProtocol},
	{name: "NumTickets", same: []string{"NumTickets"}, server: true, check: (*Options).checkTickets},
	{name: "Options", check: (*Options).checkFlags},
	{name: "RecordPadding", check: (*Options).checkPadding},
	{name: "SignatureAlgorithms", same: []string{"SignatureAlgorithms"}},

	{name: "Certificate", refuse: "use Crt or Chain"},
	{name: "PrivateKey", refuse: "use Key"},
	{name: "ServerInfoFile", server: true, refuse: "the library has no option for it"},
	{name: "DHParameters", server: true, refuse: "use DHCert, which also checks the parameters"},
	{name: "ECDHParameters", server: true, refuse: "use Groups"},
	{name: "Protocol", refuse: "use MinVersion and MaxVersion"},
	{name: "VerifyMode", refuse: "use ClientCert, BlockBadClientCert, BlockInvalidClientCert or RequireValidClientCert on a server, and InsecureSkipVerify on a client"},
	{name: "ChainCAFile", refuse: chainRefused}, {name: "ChainCAPath", refuse: chainRefused}, {name: "ChainCAStore", refuse: chainRefused},
	{name: "VerifyCAFile", refuse: trustRefused}, {name: "VerifyCAPath", refuse: trustRefused}, {name: "VerifyCAStore", refuse: trustRefused},
	{name: "RequestCAFile", refuse: namesRefused}, {name: "RequestCAPath", refuse: namesRefused}, {name: "RequestCAStore", refuse: namesRefused},
	{name: "ClientCAFile", refuse: namesRefused}, {name: "ClientCAPath", refuse: namesRefused}, {name: "ClientCAStore", refuse: namesRefused},
	// after 4.0
	{name: "AddCAFile", refuse: trustRefused}, {name: "AddCAPath", refuse: trustRefused},
	{name: "CertValidation", refuse: "use CRLCheck and IgnoreVerifyErrors"},
	{name: "SetValidHost", refuse: hostRefused}, {name: "AddValidHost", refuse: hostRefused}, {name: "SetValidIP", refuse: hostRefused}, {name: "SetValidFlags", refuse: hostRefused},
}

const (
	chainRefused = "put the intermediates into Crt or Chain"
	trustRefused = "use CACrt; OpenSSL would verify with these CAs and not with those of CACrt"
	namesRefused = "use CACrt, whose names a server sends"
	hostRefused  = "use ServerName"
)

// confFlag is a flag of the command Options.
type confFlag struct {
	name   string
	server bool   // only for servers
	same   string // the option that sets the same thing
	needs  string // the OpenSSL that introduced it
	refuse string
}

// confFlags has all flags that OpenSSL knows, as confRules has all commands.
var confFlags = []confFlag{
	{name: "AllowNoDHEKEX"}, {name: "PreferNoDHEKEX", needs: "3.3"},
	{name: "AntiReplay"},
	{name: "Bugs"},
	{name: "CANames", needs: "3.0"},
	{name: "DHSingle", server: true}, {name: "ECDHSingle", server: true},
	{name: "EmptyFragments"},
	{name: "EncryptThenMac"},
	{name: "ExtendedMasterSecret", needs: "3.0"},
	{name: "LegacyECPointFormats", needs: "3.6"},
	{name: "MiddleboxCompat"},
	{name: "NoResumptionOnRenegotiation", server: true},
	{name: "PrioritizeChaCha"},
	{name: "RxCertificateCompression", needs: "3.2"}, {name: "TxCertificateCompression", needs: "3.2"},
	{name: "ServerPreference", server: true, same: "NoHonor"},
	{name: "SessionTicket", same: "NumTickets"},
	{name: "StrictCertCheck", needs: "3.2"},

	{name: "ClientRenegotiation", refuse: "a server always rejects a renegotiation"},
	{name: "Compression", refuse: "the library never compresses records (CVE-2012-4929)"},
	{name: "IgnoreUnexpectedEOF", refuse: "use AllowMissingCloseNotify"},
	{name: "KTLS", refuse: socketRefused}, {name: "KTLSTxZerocopySendfile", refuse: socketRefused},
	{name: "NoRenegotiation", refuse: "use the option NoRenegotiation on a client; a server always rejects a renegotiation"},
	{name: "UnsafeLegacyRenegotiation", refuse: legacyRefused}, {name: "UnsafeLegacyServerConnect", refuse: legacyRefused},
}

const (
	socketRefused = "the library has no socket, which kernel TLS needs"
	legacyRefused = "it admits CVE-2009-3555"
)

// confName names a command of Conf in errors: "Conf[2] RecordPadding".
func (o *Options) confName(i int) string {
	return fmt.Sprintf("Conf[%d] %s", i, printable(o.Conf[i].Name))
}

// ruleOf returns the rule for a command, or nil.
func ruleOf(name string) *confRule {
	for i := range confRules {
		if strings.EqualFold(confRules[i].name, name) {
			return &confRules[i]
		}
	}
	return nil
}

// validateConf returns the errors in Conf that can be found without OpenSSL.
func (o *Options) validateConf() error {
	for i, c := range o.Conf {
		rule := ruleOf(c.Name)
		switch {
		case c.Name == "":
			return badOption(fmt.Sprintf("Conf[%d]", i), "has no name")
		case rule == nil:
			return badOption(o.confName(i), "is not a command that Conf knows")
		case rule.refuse != "":
			return badOption(o.confName(i), "is not accepted: %s", rule.refuse)
		case rule.server && o.Client:
			return badOption(o.confName(i), "is for servers, and Client is set")
		case c.Value == "":
			return badOption(o.confName(i), "has no value")
		case strings.ContainsRune(c.Value, 0):
			return badOption(o.confName(i), "holds a NUL byte")
		}
		for _, option := range rule.same {
			if o.isSet(option) {
				return badOption(o.confName(i), "sets the same as %s, which is given too", option)
			}
		}
		if rule.check != nil {
			if err := rule.check(o, c.Value); err != nil {
				return &OptionError{Option: o.confName(i), Err: err}
			}
		}
	}
	return nil
}

// isSet reports whether an option that a command can also set is given.
func (o *Options) isSet(option string) bool {
	switch option {
	case "MinVersion":
		return o.MinVersion != 0
	case "MaxVersion":
		return o.MaxVersion != 0
	case "TLS12":
		return o.TLS12
	case "NoHonor":
		return o.NoHonor
	case "NumTickets":
		return o.NumTickets != 0
	}
	return o.list(option) != ""
}

// list returns the value of an option that is a list of names.
func (o *Options) list(option string) string {
	switch option {
	case "Cipher":
		return o.Cipher
	case "CipherSuites":
		return o.CipherSuites
	case "Groups":
		return o.Groups
	case "SignatureAlgorithms":
		return o.SignatureAlgorithms
	}
	panic("sslfilter: no list " + option)
}

// setting returns the list that is in force: that of the option, or that of the
// last command in Conf that sets the same thing. name is the name of its source in
// errors.
func (o *Options) setting(option string) (name, list string) {
	if i := o.command(option); i >= 0 {
		return o.confName(i), o.Conf[i].Value
	}
	return option, o.list(option)
}

// command returns the index in Conf of the last command that sets the same thing as
// an option, or -1.
func (o *Options) command(option string) int {
	for i, c := range slices.Backward(o.Conf) {
		if slices.Contains(ruleOf(c.Name).same, option) {
			return i
		}
	}
	return -1
}

func (o *Options) checkProtocol(value string) error {
	if strings.HasPrefix(value, "TLSv1") || value == "None" {
		return nil
	}
	return fmt.Errorf("%q is not a TLS version; TLSv1, TLSv1.1, TLSv1.2, TLSv1.3 and None are possible", value)
}

// checkTickets checks a number that OpenSSL reads with atoi, which takes what is
// not a number for 0.
func (o *Options) checkTickets(value string) error {
	n, err := decimal(value)
	switch {
	case err != nil || n > maxTickets:
		return fmt.Errorf("%q; 0 to %d are possible", value, maxTickets)
	case n > 0 && !o.resumes():
		return fmt.Errorf("is %d, but a server that asks for client certificates sends tickets only with ResumeClientCert", n)
	}
	return nil
}

// checkPadding checks one or two numbers that OpenSSL before 3.4 reads with
// atoi, and later with strtoul and any base.
func (o *Options) checkPadding(value string) error {
	for number := range strings.SplitSeq(value, ",") {
		if _, err := decimal(number); err != nil {
			return fmt.Errorf("%q is not a decimal number", number)
		}
	}
	if strings.Contains(value, ",") && olderThan("3.4") {
		return needs("RecordPadding with two numbers", "3.4")
	}
	return nil
}

// decimal parses a number without a sign and without leading zeros.
func decimal(text string) (uint64, error) {
	if len(text) > 1 && text[0] == '0' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(text, 10, 31)
}

// checkFlags checks the flags of the command Options.
func (o *Options) checkFlags(value string) error {
	for text := range strings.SplitSeq(value, ",") {
		text = strings.TrimSpace(text)
		name := text
		if text != "" && (text[0] == '+' || text[0] == '-') {
			name = text[1:]
		}
		i := slices.IndexFunc(confFlags, func(f confFlag) bool { return strings.EqualFold(f.name, name) })
		if i < 0 {
			return fmt.Errorf("%q is not a flag that Conf knows", text)
		}
		switch flag := &confFlags[i]; {
		case flag.refuse != "":
			return fmt.Errorf("%s is not accepted: %s", flag.name, flag.refuse)
		case flag.server && o.Client:
			return fmt.Errorf("%s is for servers, and Client is set", flag.name)
		case flag.same != "" && o.isSet(flag.same):
			return fmt.Errorf("%s sets the same as %s, which is given too", flag.name, flag.same)
		case flag.name == "SessionTicket" && text[0] != '-' && !o.Client && !o.resumes():
			return fmt.Errorf("%s: a server that asks for client certificates sends tickets only with ResumeClientCert", flag.name)
		case flag.needs != "" && olderThan(flag.needs):
			return needs("the flag "+flag.name+" of Options", flag.needs)
		}
	}
	return nil
}

// applyConf runs the commands of Conf.
func (s *sharedCtx) applyConf() error {
	o := &s.opts
	for i, c := range o.Conf {
		option := ""
		if same := ruleOf(c.Name).same; len(same) > 0 {
			option = same[0]
		} else if strings.EqualFold(c.Name, "ClientSignatureAlgorithms") {
			option = "SignatureAlgorithms"
		}
		if err := s.conf(o.Client, c.Name, c.Value); err != nil {
			return s.refused(o.confName(i), option, c.Value, err)
		}
	}
	return s.checkProtocols()
}

// checkProtocols checks the versions after the commands of Conf.
func (s *sharedCtx) checkProtocols() error {
	o := &s.opts
	last := -1
	for i, c := range o.Conf {
		if strings.EqualFold(c.Name, "MinProtocol") || strings.EqualFold(c.Name, "MaxProtocol") {
			last = i
		}
	}
	low, high := s.versions()
	s.low, s.high = max(low, VersionTLS10), high // 0 stands for the lowest or highest that OpenSSL has
	if s.high == 0 {
		s.high = VersionTLS13
	}
	if suites, list := o.setting("CipherSuites"); list != "" && high != 0 && high < VersionTLS13 {
		return badOption(suites, "names TLS 1.3 suites, and the highest version is %v", high)
	}
	if last < 0 {
		return nil
	}
	low = s.low
	switch {
	case high != 0 && low > high:
		return badOption(o.confName(last), "no version is left from %v to %v", low, high)
	case o.TLS && low < VersionTLS12:
		return badOption(o.confName(last), "admits %v, and TLS asks for TLSv1.2 or later", low)
	}
	if err := s.setVersions(low, high); err != nil {
		return &OptionError{Option: o.confName(last), Err: err}
	}
	return nil
}
