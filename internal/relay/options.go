package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-014b8713/sslfilter"
)

// options gives the library's options of the side that clients connect to.
func (t *ServerTLS) options(log *slog.Logger) (o sslfilter.Options, err error) {
	o = sslfilter.Options{
		Crt: t.Crt, Key: t.Key, Chain: t.Chain, CACrt: t.CACrt, CAVerifyDepth: t.CAVerifyDepth, CACRL: t.CACRL,
		CRLFiles: t.CRLFiles, AllowMissingCRL: t.AllowMissingCRL, AllowExpiredCRL: t.AllowExpiredCRL,
		ClientCert: t.ClientCert, BlockBadClientCert: t.BlockBadClientCert, RequireValidClientCert: t.RequireValidClientCert,
		IgnoreVerifyErrors: verifyCodes(t.IgnoreVerifyErrors),
		DHCert:             t.DHCert, Cipher: t.Cipher, CipherSuites: t.CipherSuites, Groups: t.Groups, ALPN: t.ALPN,
		NoHonor: t.NoHonor, TLS: t.TLS, TLS12: t.TLS12, SNI: t.SNI, FIPS: t.FIPS, FIPSConfig: t.FIPSConfig, AllowMissingCloseNotify: t.AllowMissingCloseNotify,
		NumTickets: t.NumTickets, NoRenegotiation: t.NoRenegotiation,
		KeyPassphrase: passphrase(t.KeyPassphrase),
		ErrorHandler:  errorHandler(t.ErrorHandler, log),
	}
	if t.Debug {
		o.Debug = log
	}
	if o.CRLCheck, err = parseCRLCheck("crlcheck", t.CRLCheck); err != nil {
		return o, err
	}
	if o.MinVersion, err = parseVersion("minversion", t.MinVersion); err != nil {
		return o, err
	}
	o.MaxVersion, err = parseVersion("maxversion", t.MaxVersion)
	return o, err
}

// options gives the library's options of the side that connects to a backend.
func (t *BackendTLS) options(log *slog.Logger) (o sslfilter.Options, err error) {
	o = sslfilter.Options{
		Client: true,
		Crt:    t.Crt, Key: t.Key, Chain: t.Chain, CACrt: t.CACrt, CAVerifyDepth: t.CAVerifyDepth, CACRL: t.CACRL,
		CRLFiles: t.CRLFiles, AllowMissingCRL: t.AllowMissingCRL, AllowExpiredCRL: t.AllowExpiredCRL,
		IgnoreVerifyErrors: verifyCodes(t.IgnoreVerifyErrors),
		Cipher:             t.Cipher, CipherSuites: t.CipherSuites, Groups: t.Groups, ALPN: t.ALPN,
		TLS: t.TLS, TLS12: t.TLS12, SNI: t.SNI, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify,
		FIPS: t.FIPS, FIPSConfig: t.FIPSConfig, AllowMissingCloseNotify: t.AllowMissingCloseNotify,
		NoRenegotiation: t.NoRenegotiation,
		KeyPassphrase:   passphrase(t.KeyPassphrase),
		ErrorHandler:    errorHandler(t.ErrorHandler, log),
	}
	if t.Debug {
		o.Debug = log
	}
	if o.CRLCheck, err = parseCRLCheck("backend-crlcheck", t.CRLCheck); err != nil {
		return o, err
	}
	if o.MinVersion, err = parseVersion("backend-minversion", t.MinVersion); err != nil {
		return o, err
	}
	o.MaxVersion, err = parseVersion("backend-maxversion", t.MaxVersion)
	return o, err
}

// optionError names the key instead of the field of the library's options.
func optionError(prefix string, err error) error {
	var option *sslfilter.OptionError
	if !errors.As(err, &option) {
		return err
	}
	text := prefix + optionKey(option.Option)
	if option.File != "" {
		text += " (" + option.File + ")"
	}
	return fmt.Errorf("%s: %s", text, keysIn(prefix, strings.TrimPrefix(option.Err.Error(), "sslfilter: ")))
}

// keysIn writes the fields of the library's options in a text as the keys that
// they come from. The forms in memory have none. Some fields are called like
// ordinary words of such a text; these are known by the words around them.
func keysIn(prefix, text string) string {
	text = memoryForm.ReplaceAllString(text, "")
	text = strings.TrimSuffix(text, "; for a client set Client") // the relay has no such key
	text = fieldName.ReplaceAllStringFunc(text, func(field string) string { return prefix + optionKey(field) })
	return fieldAmongWords.ReplaceAllStringFunc(text, func(words string) string {
		before, field, _ := strings.Cut(words, " ")
		return before + " " + prefix + optionKey(field)
	})
}

var (
	memoryForm      = regexp.MustCompile(`,? (or|and) [A-Z]\w*Mem\b`)
	fieldName       = regexp.MustCompile(`\b(` + strings.Join(fieldNames(), "|") + `)\b`)
	fieldAmongWords = regexp.MustCompile(`\b(without|and|set) (` + strings.Join(ordinaryWords, "|") + `)\b`)
	ordinaryWords   = []string{"TLS", "FIPS", "SNI", "ALPN", "Debug"}
)

// fieldNames are the fields whose names are no ordinary words, the longest first.
func fieldNames() (names []string) {
	t := reflect.TypeFor[sslfilter.Options]()
	for i := range t.NumField() {
		if name := t.Field(i).Name; name != "Client" && !slices.Contains(ordinaryWords, name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	return names
}

// optionKey is the key of a field of the library's options.
func optionKey(field string) string {
	switch field {
	case "TLS12":
		return "tls1_2"
	case "IgnoreVerifyErrors":
		return "ignoreVerifyErrors"
	case "FIPSConfig":
		return "fips-config"
	}
	return strings.ToLower(field)
}

func verifyCodes(numbers []int) (codes []sslfilter.VerifyCode) {
	for _, n := range numbers {
		codes = append(codes, sslfilter.VerifyCode(n))
	}
	return codes
}

func parseVersion(key, s string) (sslfilter.Version, error) {
	switch strings.TrimPrefix(strings.TrimPrefix(s, "TLSv"), "TLS") {
	case "":
		return 0, nil
	case "1", "1.0":
		return sslfilter.VersionTLS10, nil
	case "1.1":
		return sslfilter.VersionTLS11, nil
	case "1.2":
		return sslfilter.VersionTLS12, nil
	case "1.3":
		return sslfilter.VersionTLS13, nil
	}
	return 0, wrongKey(key, "%w", wantOneOf(s, "1.0", "1.1", "1.2", "1.3"))
}

func parseCRLCheck(key, s string) (sslfilter.CRLCheck, error) {
	if s == "" {
		return sslfilter.CRLCheckOff, nil
	}
	for _, c := range []sslfilter.CRLCheck{sslfilter.CRLCheckOff, sslfilter.CRLCheckLeaf, sslfilter.CRLCheckChain} {
		if s == c.String() {
			return c, nil
		}
	}
	return 0, wrongKey(key, "%w", wantOneOf(s, "off", "leaf", "chain"))
}

func errorHandler(way string, log *slog.Logger) sslfilter.ErrorHandler {
	switch way {
	case "carp":
		return sslfilter.LogErrors(log)
	case "confess":
		return sslfilter.LogErrorsWithStack(log)
	case "carponetime":
		return sslfilter.LogErrorsOnce(log)
	}
	return nil
}

// maxPassphrase bounds a file with a passphrase, in bytes.
const maxPassphrase = 4096

// passphrase reads a passphrase when the library asks for it: when an
// encrypted key is loaded, at the start and for each SIGHUP.
func passphrase(source string) func() ([]byte, error) {
	if source == "" {
		return nil
	}
	return func() ([]byte, error) {
		kind, name, _ := strings.Cut(source, ":")
		switch kind {
		case "file":
			return readPassphrase(name)
		case "env":
			if text, ok := os.LookupEnv(name); ok {
				return []byte(text), nil
			}
			return nil, fmt.Errorf("the environment variable %s is not set", name)
		case "credential":
			dir := os.Getenv("CREDENTIALS_DIRECTORY")
			if dir == "" {
				return nil, errors.New("CREDENTIALS_DIRECTORY is not set: the unit needs LoadCredential= or LoadCredentialEncrypted=")
			}
			if name != filepath.Base(name) {
				return nil, fmt.Errorf("want the name of a credential, got %q", name)
			}
			return readPassphrase(filepath.Join(dir, name))
		}
		return nil, errors.New("want file:, env: or credential: at its beginning")
	}
}

// readPassphrase reads the first line of a file.
func readPassphrase(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPassphrase))
	if err != nil {
		return nil, err
	}
	if end := bytes.IndexAny(data, "\r\n"); end >= 0 {
		clear(data[end:])
		data = data[:end]
	}
	return data, nil
}
