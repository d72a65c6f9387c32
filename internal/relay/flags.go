package relay

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Flags defines a flag for every field of c and of its first relay, which it
// adds, under the names of the configuration file.
func Flags(fs *flag.FlagSet, c *Config) {
	c.Relays = make([]Relay, 1)
	addFlags(fs, reflect.ValueOf(c).Elem())
	addFlags(fs, reflect.ValueOf(&c.Relays[0]).Elem())
}

// Finish checks a Config that was made by flags.
func (c *Config) Finish() error {
	c.setDefaults()
	if err := c.validate(); err != nil {
		return fmt.Errorf("sslrelay: %w", err)
	}
	return nil
}

// AddFlag defines a flag for a field of the types that a configuration has.
// Unless the field is a list or a table, giving the flag twice is an error.
func AddFlag(fs *flag.FlagSet, field any, name, usage string) {
	fs.Var(&value{field: reflect.ValueOf(field).Elem()}, name, usage)
}

func addFlags(fs *flag.FlagSet, v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Anonymous:
			addFlags(fs, v.Field(i))
		case f.Tag.Get("usage") != "":
			AddFlag(fs, v.Field(i).Addr().Interface(), flagName(f), flagUsage(f))
		}
	}
}

// flagName is the name of a field's flag: its key, unless it is given otherwise.
func flagName(f reflect.StructField) string {
	if name := f.Tag.Get("flag"); name != "" {
		return name
	}
	return f.Tag.Get("toml")
}

// flagUsage is the usage of a field in the form of package flag.
func flagUsage(f reflect.StructField) string {
	usage := strings.NewReplacer("<", "`", ">", "`").Replace(f.Tag.Get("usage"))
	switch f.Type.Kind() {
	case reflect.Slice, reflect.Map:
		usage += "; may be repeated"
	}
	if d := f.Tag.Get("default"); d != "" {
		usage += " (default " + d + ")"
	}
	return usage
}

// value sets a field from a flag.
type value struct {
	field reflect.Value
	given bool
}

func (v *value) IsBoolFlag() bool { return v.field.IsValid() && v.field.Kind() == reflect.Bool }

// String gives the zero value's form: the defaults stand in the usage.
func (v *value) String() string { return "" }

func (v *value) Set(s string) error {
	kind := v.field.Kind()
	if v.given && kind != reflect.Slice && kind != reflect.Map {
		return errors.New("it is given twice")
	}
	v.given = true
	return setText(v.field.Addr().Interface(), s)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
