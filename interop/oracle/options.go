package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-014b8713/sslfilter"
)

// PKI is the folder that "@name" and "<name" in a scenario are in.
type PKI string

// path returns the file that "@name" names, which need not exist. "@" is the folder.
func (p PKI) path(s string) string {
	if name, ok := strings.CutPrefix(s, "@"); ok {
		if name == "" {
			return string(p) + string(filepath.Separator)
		}
		return filepath.Join(string(p), name)
	}
	return s
}

// errNoScenario is an error of the case file, not of the option: "<name" names a file
// that does not exist. Such a case cannot be run with the original either.
var errNoScenario = errors.New("cannot read the PKI")

// file returns the name in a scalar option.
func (p PKI) file(v any) (string, error) {
	s, ok := text(v)
	if !ok {
		return "", errors.New("is not a file name")
	}
	return p.path(s), nil
}

// content returns the bytes of an option of the ...mem form.
func (p PKI) content(v any) ([]byte, error) {
	s, ok := text(v)
	if !ok {
		return nil, errors.New("is not a string")
	}
	name, ok := strings.CutPrefix(s, "<")
	if !ok {
		return []byte(p.path(s)), nil
	}
	b, err := os.ReadFile(filepath.Join(string(p), name))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoScenario, err)
	}
	return b, nil
}

// setter puts the value of one of the original's options into Options.
type setter func(p PKI, o *sslfilter.Options, v any) error

// perlOptions are all options of the original's new().
var perlOptions = map[string]setter{
	"client":             onOff(func(o *sslfilter.Options) *bool { return &o.Client }),
	"crt":                file(func(o *sslfilter.Options) *string { return &o.Crt }),
	"crtmem":             content(func(o *sslfilter.Options) *[]byte { return &o.CrtMem }),
	"key":                file(func(o *sslfilter.Options) *string { return &o.Key }),
	"keymem":             content(func(o *sslfilter.Options) *[]byte { return &o.KeyMem }),
	"chain":              file(func(o *sslfilter.Options) *string { return &o.Chain }),
	"cacrt":              file(func(o *sslfilter.Options) *string { return &o.CACrt }),
	"cacrtmem":           setCACrtMem,
	"caverifydepth":      setDepth,
	"cacrl":              file(func(o *sslfilter.Options) *string { return &o.CACRL }),
	"clientcert":         onOff(func(o *sslfilter.Options) *bool { return &o.ClientCert }),
	"blockbadclientcert": onOff(func(o *sslfilter.Options) *bool { return &o.BlockBadClientCert }),
	"ignoreVerifyErrors": setIgnore,
	"dhcert":             file(func(o *sslfilter.Options) *string { return &o.DHCert }),
	"dhcertmem":          content(func(o *sslfilter.Options) *[]byte { return &o.DHCertMem }),
	"sni":                word(func(o *sslfilter.Options) *string { return &o.SNI }),
	"cipher":             word(func(o *sslfilter.Options) *string { return &o.Cipher }),
	"tls":                onOff(func(o *sslfilter.Options) *bool { return &o.TLS }),
	"tls1_2":             onOff(func(o *sslfilter.Options) *bool { return &o.TLS12 }),
	"nohonor":            onOff(func(o *sslfilter.Options) *bool { return &o.NoHonor }),
	"debug":              setDebug,
	"errorhandler":       func(PKI, *sslfilter.Options, any) error { return nil }, // handled by newSide
}

// Options translates the original's options. new() has to report its error, unless that
// is errNoScenario.
func (p PKI) Options(perl map[string]any) (o sslfilter.Options, err error) {
	for _, name := range slices.Sorted(maps.Keys(perl)) {
		set, known := perlOptions[name]
		if !known {
			return o, fmt.Errorf("option %s: unknown", name)
		}
		if !truth(perl[name]) {
			continue // the original treats it as not given
		}
		if err := set(p, &o, perl[name]); err != nil {
			return o, fmt.Errorf("option %s: %w", name, err)
		}
	}
	o.InsecureSkipVerify = o.Client // the original never rejects a server
	return o, nil
}

func onOff(field func(*sslfilter.Options) *bool) setter {
	return func(_ PKI, o *sslfilter.Options, _ any) error {
		*field(o) = true
		return nil
	}
}

func file(field func(*sslfilter.Options) *string) setter {
	return func(p PKI, o *sslfilter.Options, v any) (err error) {
		*field(o), err = p.file(v)
		return err
	}
}

func content(field func(*sslfilter.Options) *[]byte) setter {
	return func(p PKI, o *sslfilter.Options, v any) (err error) {
		*field(o), err = p.content(v)
		return err
	}
}

func word(field func(*sslfilter.Options) *string) setter {
	return func(_ PKI, o *sslfilter.Options, v any) error {
		s, ok := text(v)
		if !ok {
			return errors.New("is not a string")
		}
		*field(o) = s
		return nil
	}
}

// setCACrtMem accepts a scalar or a list. It keeps false elements of a list, because
// the original reads them too.
func setCACrtMem(p PKI, o *sslfilter.Options, v any) error {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, item := range list {
		b, err := p.content(item)
		if err != nil {
			return err
		}
		o.CACrtMem = append(o.CACrtMem, b)
	}
	return nil
}

func setDepth(_ PKI, o *sslfilter.Options, v any) (err error) {
	o.CAVerifyDepth, err = number("it", v)
	return err
}

func setIgnore(_ PKI, o *sslfilter.Options, v any) error {
	list, ok := v.([]any)
	if !ok {
		return errors.New("is not a list")
	}
	for _, item := range list {
		if item == nil {
			return errors.New("holds null")
		}
		n, err := number("an element", item)
		if err != nil {
			return err
		}
		o.IgnoreVerifyErrors = append(o.IgnoreVerifyErrors, sslfilter.VerifyCode(n))
	}
	return nil
}

func setDebug(_ PKI, o *sslfilter.Options, _ any) error {
	o.Debug = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return nil
}
