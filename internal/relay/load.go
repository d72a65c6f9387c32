package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 4 << 20

// Load reads a configuration file (TOML). Unknown keys and wrong values are
// errors that name the file, the line and the key.
func Load(file string) (*Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("sslrelay: configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("more than %d bytes", maxConfig)
	}
	if err != nil {
		return nil, fmt.Errorf("sslrelay: configuration %s: %w", file, err)
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("sslrelay: configuration %s: %w", file, err)
	}
	return c, nil
}

// Parse is Load without a file.
func Parse(data []byte) (*Config, error) {
	c := new(Config)
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(c)
	if err != nil {
		return nil, explainTOML(err)
	}
	c.setDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// explainTOML writes the library's errors in one line for each.
func explainTOML(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		var all []error
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			line, _ := e.Position()
			all = append(all, fmt.Errorf("line %d: unknown key %q%s", line, strings.Join(e.Key(), "."), suggest(e.Key())))
		}
		return errors.Join(all...)
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		line, column := wrong.Position()
		text := strings.TrimPrefix(wrong.Error(), "toml: ")
		if key := strings.Join(wrong.Key(), "."); key != "" {
			return fmt.Errorf("line %d: %s: %s", line, key, text)
		}
		return fmt.Errorf("line %d, column %d: %s", line, column, text)
	}
	return err
}

// suggest points at the place where a key is known.
func suggest(key []string) string {
	last := key[len(key)-1]
	inRelay := false
	eachField(reflect.TypeFor[Relay](), func(f reflect.StructField) { inRelay = inRelay || f.Tag.Get("toml") == last })
	if inRelay && len(key) == 1 {
		return "; it belongs into a [[relay]] table"
	}
	global := false
	eachField(reflect.TypeFor[Config](), func(f reflect.StructField) { global = global || f.Tag.Get("toml") == last })
	if global && len(key) > 1 {
		return "; it belongs in front of the first [[relay]]"
	}
	if strings.ToLower(last) != last || strings.Contains(last, "_") {
		return "; keys are in small letters with - between words, ignoreVerifyErrors and tls1_2 apart"
	}
	return ""
}

// eachField calls f for every field with a key, also in embedded structs.
func eachField(t reflect.Type, f func(reflect.StructField)) {
	for i := range t.NumField() {
		field := t.Field(i)
		switch {
		case field.Anonymous:
			eachField(field.Type, f)
		case field.Tag.Get("toml") != "":
			f(field)
		}
	}
}
