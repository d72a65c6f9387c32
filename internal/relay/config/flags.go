package config

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Flags defines a flag for every option. The flags set c and its only relay, which
// Flags adds.
func Flags(fs *flag.FlagSet, c *Config) {
	c.Relays = make([]Relay, 1)
	for i := range options {
		o := &options[i]
		AddFlag(fs, o.pointer(c, &c.Relays[0]), o.flag, o.flagUsage())
	}
}

// Finish checks a Config that was made from flags.
func (c *Config) Finish() error {
	c.setDefaults()
	if err := c.validate(); err != nil {
		return fmt.Errorf("sslrelay: %w", err)
	}
	return nil
}

// AddFlag defines a flag for a field of one of the types of the configuration.
// Giving the flag twice is an error unless the field is a list or a table.
func AddFlag(fs *flag.FlagSet, field any, name, usage string) {
	fs.Var(&value{field: reflect.ValueOf(field).Elem()}, name, usage)
}

// flagUsage returns the usage in the form of package flag.
func (o *option) flagUsage() string {
	usage := strings.NewReplacer("<", "`", ">", "`").Replace(o.usage)
	if o.repeatable() {
		usage += "; may be repeated"
	}
	if d := o.preset + o.unset; d != "" {
		usage += " (default " + d + ")"
	}
	return usage
}

// repeatable reports whether the value is a list or a table.
func (o *option) repeatable() bool {
	kind := o.value(new(Config), new(Relay)).Kind()
	return kind == reflect.Slice || kind == reflect.Map
}

// value sets a field from a flag.
type value struct {
	field reflect.Value
	given bool
}

func (v *value) IsBoolFlag() bool { return v.field.IsValid() && v.field.Kind() == reflect.Bool }

// String returns nothing, so that package flag does not print a default. The usage
// contains the default.
func (v *value) String() string { return "" }

func (v *value) Set(s string) error {
	kind := v.field.Kind()
	if v.given && kind != reflect.Slice && kind != reflect.Map {
		return errors.New("it is given twice")
	}
	v.given = true
	return setText(v.field.Addr().Interface(), s)
}

// SortedKeys returns the keys of a map in sorted order.
func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
