package relay

import (
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Flags defines a flag for every field of c and of its first relay, which it
// adds, under the names of the configuration file. The map has what was set.
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

// GlobalFlags are the names of the flags that stand for no key of a relay.
func GlobalFlags() []string {
	var names []string
	eachField(reflect.TypeFor[Config](), func(f reflect.StructField) { names = append(names, flagName(f)) })
	return names
}

func addFlags(fs *flag.FlagSet, v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Anonymous:
			addFlags(fs, v.Field(i))
		case f.Tag.Get("usage") != "":
			fs.Var(&value{v.Field(i)}, flagName(f), flagUsage(f))
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
type value struct{ field reflect.Value }

func (v *value) IsBoolFlag() bool { return v.field.IsValid() && v.field.Kind() == reflect.Bool }

// String gives the zero value's form: the defaults stand in the usage.
func (v *value) String() string { return "" }

func (v *value) Set(s string) error {
	switch p := v.field.Addr().Interface().(type) {
	case *string:
		*p = s
	case *bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is not true or false", s)
		}
		*p = b
	case *int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is no number", s)
		}
		*p = n
	case *Duration:
		return p.UnmarshalText([]byte(s))
	case *[]string:
		*p = append(*p, words(s)...)
	case *[]int:
		for _, word := range words(s) {
			n, err := strconv.Atoi(word)
			if err != nil {
				return fmt.Errorf("%q is no number", word)
			}
			*p = append(*p, n)
		}
	case *map[string]string:
		key, val, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q has no form such as name=value", s)
		}
		if _, twice := (*p)[key]; twice {
			return fmt.Errorf("%q is given twice", key)
		}
		if *p == nil {
			*p = make(map[string]string)
		}
		(*p)[key] = val
	default:
		return fmt.Errorf("no flag has the type %v", v.field.Type())
	}
	return nil
}

// words splits a list at commas.
func words(s string) []string {
	var list []string
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word != "" {
			list = append(list, word)
		}
	}
	return list
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
