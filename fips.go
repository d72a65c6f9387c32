//go:build cgo

package sslfilter

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// maxFIPSConfig bounds the file of FIPSConfig, in bytes. Debian's openssl.cnf
// has 12 kB.
const maxFIPSConfig = 1 << 20

// maxLibraries bounds the number of library contexts in the process, one for
// each content of FIPSConfig. They are never freed.
const maxLibraries = 16

// libraries has the library contexts by the content of their configuration.
// Loading one runs self-tests, so contexts share it.
var libraries struct {
	sync.Mutex
	byConfig map[[sha256.Size]byte]library
}

// library returns the library context for these options.
func (o *Options) library() (library, error) {
	if !o.FIPS {
		return library{}, nil
	}
	if !hasProviders() {
		return library{}, &OptionError{Option: "FIPS", Err: needs("the FIPS provider", "3.0")}
	}
	option, file := "FIPSConfig", o.FIPSConfig
	if file == "" {
		option, file = "FIPS", defaultConfig()
	}
	wrap := func(err error) error { return &OptionError{Option: option, File: file, Err: err} }
	conf, err := readConfig(file)
	if err != nil {
		return library{}, wrap(fmt.Errorf("%w; %s", unwrapPath(err), library{}.loaded()))
	}
	libraries.Lock()
	defer libraries.Unlock()
	sum := sha256.Sum256(conf)
	if l, known := libraries.byConfig[sum]; known {
		return l, nil
	}
	if len(libraries.byConfig) >= maxLibraries {
		return library{}, wrap(fmt.Errorf("it would be the configuration number %d in this process; %d are possible; %s", maxLibraries+1, maxLibraries, library{}.loaded()))
	}
	l, err := newLibrary(conf)
	switch {
	case err != nil:
		return library{}, wrap(fmt.Errorf("cannot be loaded: %w; %s", bare(err), l.loaded()))
	case !l.made():
		what := "the FIPS provider is not active under it"
		if o.FIPSConfig == "" {
			what += ", and FIPSConfig names no other configuration"
		}
		return library{}, wrap(fmt.Errorf("%s; %s", what, l.loaded()))
	case !l.reads():
		return library{}, wrap(fmt.Errorf("activate the base provider too, which reads keys and certificates; %s", l.loaded()))
	}
	if libraries.byConfig == nil {
		libraries.byConfig = make(map[[sha256.Size]byte]library)
	}
	libraries.byConfig[sum] = l
	return l, nil
}

// readConfig reads a configuration of at most maxFIPSConfig bytes.
func readConfig(file string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() > maxFIPSConfig:
		return nil, fmt.Errorf("it has more than %d bytes", maxFIPSConfig)
	}
	return os.ReadFile(file)
}

func (l library) loaded() string {
	if l.providers == "" {
		return "no provider is loaded"
	}
	return "loaded providers: " + l.providers
}

// reads reports whether a provider that decodes keys is active.
func (l library) reads() bool {
	for provider := range strings.SplitSeq(l.providers, ", ") {
		if name, _, _ := strings.Cut(provider, " "); name == "base" || name == "default" {
			return true
		}
	}
	return false
}

// checkFIPS returns an error if these options could not complete a handshake
// with the FIPS provider: OpenSSL accepts many settings that it cannot use
// later.
func (s *sharedCtx) checkFIPS() error {
	if !s.lib.made() {
		return nil
	}
	o := &s.opts
	for i := range s.identities {
		cert, err := s.unservedCert(i)
		if err != nil {
			return err
		}
		if cert != "" {
			return s.identities[i].sends().input().wrap(fmt.Errorf("%s, which the provider does not verify; %s", cert, s.lib.loaded()))
		}
	}
	_, suites := o.setting("CipherSuites")
	_, groups := o.setting("Groups")
	for i := range max(1, len(s.identities)) {
		if err := s.tryHandshake(o.Client, i, suites, groups); err != nil {
			return badOption("FIPS", "these options%s cannot complete a handshake under the FIPS provider: %w; %s", s.deciding(i), bare(err), s.lib.loaded())
		}
	}
	return nil
}

// deciding lists the options that may be the reason for a failed handshake with
// identity i.
func (s *sharedCtx) deciding(i int) string {
	o := &s.opts
	var set []string
	for _, option := range []struct {
		name string
		set  bool
	}{
		{"Cipher", o.Cipher != ""}, {"CipherSuites", o.CipherSuites != ""}, {"Groups", o.Groups != ""},
		{"SignatureAlgorithms", o.SignatureAlgorithms != ""}, {"Conf", len(o.Conf) > 0},
		{"MinVersion", o.MinVersion != 0}, {"MaxVersion", o.MaxVersion != 0}, {"TLS12", o.TLS12},
	} {
		if option.set {
			set = append(set, option.name)
		}
	}
	options := []fileOption{o.fileOption("DHCert")}
	if i < len(s.identities) {
		options = append([]fileOption{s.identities[i].key, s.identities[i].chain}, options...)
	}
	for _, option := range options {
		if option.given() {
			set = append(set, option.input().option)
		}
	}
	if len(set) == 0 {
		return ""
	}
	return " (" + strings.Join(set, ", ") + ")"
}

// underFIPS adds to the error of another option that FIPS may be the reason.
func (o *Options) underFIPS(err error) error {
	var option *OptionError
	if o.FIPS && errors.As(err, &option) && option.Option != "FIPS" {
		return &OptionError{Option: option.Option, File: option.File, Err: fmt.Errorf("%w (with FIPS)", option.Err)}
	}
	return err
}
