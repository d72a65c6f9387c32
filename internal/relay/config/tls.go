package config

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
	"github.com/seed-014b8713/sslfilter/internal/keylogfile"
)

// TLS has the TLS options of one side of a relay. The fields that are functions or
// loggers in the library are texts and flags here.
type TLS struct {
	sslfilter.Options
	KeyPassphrase string // a source: "file:/path"
	// Identities has files with more certificates and their chains, and the files with
	// their keys. A certificate whose key is in the same file has no second file.
	Identities map[string]string
	// Stapling fetches OCSP responses for the certificates, from StaplingResponder if it
	// is set.
	Stapling          bool
	StaplingResponder string
	KeyLog            string // a file, or "env:NAME" for a variable that names it
	ErrorHandler      string // a name: "carp"
	Debug             bool
	AllowClients      Clients
	// SharedTicketKeys are used by all contexts of the relay, so that a reload loses no
	// session. Nil stands for random keys of the context.
	SharedTicketKeys *sslfilter.TicketKeys
	// SharedStore keeps the sessions in the store of [sessions], and not in tickets.
	SharedStore bool
	// OnlyCheck is for -check: NewCtx makes no file.
	OnlyCheck bool
}

// NewCtx makes a context. An error names the key. The context reads CRL files only
// once, so a CRL file that is being rewritten does not reject clients. A reload makes
// a new context, which reads the files again.
func (t *TLS) NewCtx(log *slog.Logger) (*sslfilter.Ctx, error) {
	return t.newCtx(t.options(log), log)
}

func (t *TLS) newCtx(o sslfilter.Options, log *slog.Logger) (*sslfilter.Ctx, error) {
	switch {
	case t.KeyLog == "":
	case t.OnlyCheck:
		if err := keylogfile.Check(t.KeyLog); err != nil {
			return nil, fmt.Errorf("%skeylogfile: %w", t.prefix(), err)
		}
	default:
		file, err := keylogfile.Open(t.KeyLog)
		if err != nil {
			return nil, fmt.Errorf("%skeylogfile: %w", t.prefix(), err)
		}
		o.KeyLog = file // closed when no connection needs it any more
		log.Warn("keylogfile is set: anyone who can read the file can decrypt the connections", "key", t.prefix()+"keylogfile", "file", file.Name())
	}
	ctx, err := sslfilter.NewCtx(o)
	if err != nil {
		return nil, t.optionError(err)
	}
	return ctx, nil
}

// NewStapledCtx is NewCtx for a side with Stapling. It returns a Staple without a
// response for each certificate, in the order of Ctx.Chains.
func (t *TLS) NewStapledCtx(log *slog.Logger) (*sslfilter.Ctx, []*sslfilter.Staple, error) {
	o := t.options(log)
	var staples []*sslfilter.Staple
	add := func(s **sslfilter.Staple) {
		*s = new(sslfilter.Staple)
		staples = append(staples, *s)
	}
	if o.Crt != "" || o.Chain != "" {
		add(&o.Staple)
	}
	for i := range o.Identities {
		add(&o.Identities[i].Staple)
	}
	ctx, err := t.newCtx(o, log)
	return ctx, staples, err
}

// options returns the options of the library.
func (t *TLS) options(log *slog.Logger) sslfilter.Options {
	o := t.Options
	o.ReadCRLOnce = o.CACRL != "" || len(o.CRLFiles) > 0
	if o.Crt != "" || o.Chain != "" || len(t.Identities) == 0 {
		o.KeyPassphrase = passphrase(t.KeyPassphrase)
	}
	for _, file := range SortedKeys(t.Identities) {
		o.Identities = append(o.Identities, sslfilter.Identity{Chain: file, Key: t.Identities[file], KeyPassphrase: passphrase(t.KeyPassphrase)})
	}
	if asks := o.ClientCert || o.BlockBadClientCert || o.BlockInvalidClientCert || o.RequireValidClientCert; (!asks || o.ResumeClientCert) && o.NumTickets >= 0 {
		o.TicketKeys, o.StatefulSessions = t.SharedTicketKeys, t.SharedStore
	}
	o.ErrorHandler = errorHandler(t.ErrorHandler, log)
	if t.KeyLog != "" {
		o.KeyLog = io.Discard // until newCtx has opened it
	}
	if t.Debug {
		o.Debug = log
	}
	return o
}

// Given returns the keys that are set.
func (t *TLS) Given() (keys []string) {
	side := ofServer
	if t.Client {
		side = ofBackend
	}
	v := reflect.ValueOf(t).Elem()
	for _, o := range options {
		if o.scope == side && !v.FieldByName(o.field).IsZero() {
			keys = append(keys, o.key)
		}
	}
	return keys
}

// prefix returns the prefix of the keys of this side.
func (t *TLS) prefix() string {
	if t.Client {
		return backendPrefix
	}
	return ""
}

// optionError returns an error that names the key in place of the option of the
// library.
func (t *TLS) optionError(err error) error {
	var option *sslfilter.OptionError
	if !errors.As(err, &option) {
		return err
	}
	text := t.prefix() + optionKey(option.Option)
	if strings.HasPrefix(option.Option, "Identities[") {
		text = t.prefix() + optionKey("Identities")
	}
	if option.File != "" {
		text += " (" + option.File + ")"
	}
	return fmt.Errorf("%s: %s", text, keysIn(t.prefix(), strings.TrimPrefix(option.Err.Error(), "sslfilter: ")))
}

// keysIn replaces the names of the library's options in a text by their keys. It
// removes options for data in memory, such as CrtMem, which have no keys. Some options
// are named like ordinary words, and are recognized by the word before them.
func keysIn(prefix, text string) string {
	text = memoryForm.ReplaceAllString(text, "")
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

// fieldNames lists the fields whose names are not ordinary words, the longest first.
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

// optionKey returns the key of a field of the library's options, without the
// prefix of a side. The field may be followed by an index: Conf[2].
func optionKey(field string) string {
	field, place, inList := strings.Cut(field, "[")
	if inList {
		return optionKey(field) + "[" + place
	}
	for _, r := range tlsRows {
		if r.field == field {
			return r.key
		}
	}
	return strings.ToLower(field)
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

// maxPassphrase bounds the size of a file with a passphrase, in bytes.
const maxPassphrase = 4096

// passphrase returns a function that reads the passphrase. The library calls it
// when it loads an encrypted key, which is at the start and for each SIGHUP.
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
		return nil, errors.New("want file:path, env:NAME or credential:name")
	}
}

// maxTicketFile bounds the file of TicketKeys, in bytes.
const maxTicketFile = 64 << 10

// ReadTicketKeys reads the file of TicketKeys. Without one it returns nil. An error
// names the key and the file.
func (s *Sessions) ReadTicketKeys() ([][sslfilter.TicketKeySize]byte, error) {
	if s.TicketKeys == "" {
		return nil, nil
	}
	file, err := ReadRegular(s.TicketKeys, maxTicketFile)
	defer clear(file)
	var keys [][sslfilter.TicketKeySize]byte
	if err == nil {
		keys, err = sslfilter.ParseTicketKeys(file)
	}
	if err == nil {
		err = new(sslfilter.TicketKeys).Set(keys...) // report errors now, not when the keys are used
	}
	if err != nil {
		clear(keys)
		return nil, fmt.Errorf("sessions.ticket-keys: %s: %w", s.TicketKeys, err)
	}
	return keys, nil
}

// Password reads the password of Redis.
func (s *Sessions) Password() (string, error) {
	read := passphrase(s.RedisPassword)
	if read == nil {
		return "", nil
	}
	password, err := read()
	return string(password), err
}

// readPassphrase reads the first line of a file.
func readPassphrase(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, maxPassphrase) // one buffer, so that no copy is left in memory
	n, err := io.ReadFull(f, data)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		clear(data)
		return nil, err
	}
	data = data[:n]
	if end := bytes.IndexAny(data, "\r\n"); end >= 0 {
		clear(data[end:])
		data = data[:end]
	}
	return data, nil
}
