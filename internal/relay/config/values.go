package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-014b8713/sslfilter"
)

// A value is written as TOML in a file, and as text in a flag. Both forms depend on
// the type of the field only.

// setTOML sets a field to a value of the TOML decoder. The error says what kind of
// value the field wants. It does not contain a value of the wrong type, because that
// may be a misplaced secret.
func setTOML(field, v any) error {
	switch p := field.(type) {
	case *string:
		s, ok := v.(string)
		if !ok {
			return wantGot("a string", v)
		}
		*p = s
	case *bool:
		b, ok := v.(bool)
		if !ok {
			return wantGot("true or false", v)
		}
		*p = b
	case *int:
		n, ok := v.(int64)
		if !ok || int64(int(n)) != n {
			return wantGot("a whole number", v)
		}
		*p = int(n)
	case *Duration:
		s, ok := v.(string)
		if !ok {
			return wantGot(`a time such as "90s" or "35m"`, v)
		}
		return p.UnmarshalText([]byte(s))
	case *[]string:
		list, ok := listOf[string](v)
		if !ok {
			return wantGot(`a list of strings such as ["one", "two"]`, v)
		}
		*p = list
	case *Clients:
		list, ok := listOf[string](v)
		if !ok {
			return wantGot(`a list of strings such as ["cn:alice", "dns:a.example.org"]`, v)
		}
		*p = list
	case *[]sslfilter.VerifyCode:
		list, ok := listOf[int64](v)
		if !ok {
			return wantGot("a list of whole numbers such as [9, 10]", v)
		}
		for _, n := range list {
			if int64(int(n)) != n {
				return wantGot("a list of whole numbers such as [9, 10]", v)
			}
			*p = append(*p, sslfilter.VerifyCode(n))
		}
	case *sslfilter.Version, *sslfilter.CRLCheck, *sslfilter.OCSPCheck:
		s, ok := v.(string)
		if !ok {
			return wantGot("a string", v)
		}
		return setText(p, s)
	case *[]sslfilter.ConfCommand:
		list, ok := listOf[string](v)
		if !ok {
			return wantGot(`a list of strings such as ["RecordPadding 4096", "NumTickets 1"]`, v)
		}
		for _, s := range list {
			if err := setText(p, s); err != nil {
				return err
			}
		}
	case *map[string]string:
		table, ok := v.(map[string]any)
		if !ok {
			return wantGot("a table of strings", v)
		}
		*p = make(map[string]string, len(table))
		for _, key := range SortedKeys(table) {
			s, ok := table[key].(string)
			if !ok {
				return underKey(key, wantGot("a string", table[key]))
			}
			(*p)[key] = s
		}
	default:
		return fmt.Errorf("the configuration has no values of the type %T", field)
	}
	return nil
}

func listOf[T any](v any) ([]T, bool) {
	values, ok := v.([]any)
	if !ok {
		return nil, false
	}
	list := make([]T, 0, len(values))
	for _, v := range values {
		one, ok := v.(T)
		if !ok {
			return nil, false
		}
		list = append(list, one)
	}
	return list, true
}

// wantGot returns an error that describes the wanted kind of value and the given one.
func wantGot(want string, got any) error {
	kind := "a date or a time of day"
	switch list := got.(type) {
	case string:
		kind = "a string"
	case bool:
		kind = "true or false"
	case int64:
		kind = "a number"
	case float64:
		kind = "a number with a fraction"
	case []any:
		kind = "a list"
		if strings.HasPrefix(want, "a list") {
			kind = "a list with something else in it"
			if len(list) == 0 {
				kind = "an empty list"
			}
		}
	case map[string]any:
		kind = "a table"
	}
	return fmt.Errorf("want %s, got %s", want, kind)
}

// setText sets a field to the text of a flag. A flag whose field is a list or a
// table may be repeated.
func setText(field any, s string) error {
	switch p := field.(type) {
	case *string:
		*p = s
	case *bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("want true or false")
		}
		*p = b
	case *int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return errors.New("want a whole number")
		}
		*p = n
	case *Duration:
		return p.UnmarshalText([]byte(s))
	case *[]string:
		*p = append(*p, words(s)...)
	case *Clients:
		*p = append(*p, s) // not split at commas, which names may contain
	case *[]sslfilter.VerifyCode:
		for _, word := range words(s) {
			n, err := strconv.Atoi(word)
			if err != nil {
				return errors.New("want whole numbers such as 9,10")
			}
			*p = append(*p, sslfilter.VerifyCode(n))
		}
	case *[]sslfilter.ConfCommand:
		name, value, _ := strings.Cut(strings.TrimSpace(s), " ")
		if value = strings.TrimSpace(value); value == "" {
			return errors.New(`want the name of a command and its value, such as "RecordPadding 4096"`)
		}
		*p = append(*p, sslfilter.ConfCommand{Name: name, Value: value})
	case *sslfilter.Version:
		return choose(p, strings.TrimPrefix(strings.TrimPrefix(s, "TLSv"), "TLS"), versions)
	case *sslfilter.CRLCheck:
		return choose(p, s, crlChecks)
	case *sslfilter.OCSPCheck:
		return choose(p, s, ocspChecks)
	case *map[string]string:
		key, val, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return errors.New("want name=value")
		}
		if _, twice := (*p)[key]; twice {
			return fmt.Errorf("%q is given twice", key)
		}
		if *p == nil {
			*p = make(map[string]string)
		}
		(*p)[key] = val
	default:
		return fmt.Errorf("no flag has the type %T", field)
	}
	return nil
}

// choice is a value with its words, the usual one first.
type choice[T any] struct {
	value T
	words []string
}

var versions = []choice[sslfilter.Version]{
	{sslfilter.VersionTLS10, []string{"1.0", "1"}}, {sslfilter.VersionTLS11, []string{"1.1"}},
	{sslfilter.VersionTLS12, []string{"1.2"}}, {sslfilter.VersionTLS13, []string{"1.3"}},
}

var crlChecks = []choice[sslfilter.CRLCheck]{
	{sslfilter.CRLCheckOff, []string{"off"}}, {sslfilter.CRLCheckLeaf, []string{"leaf"}}, {sslfilter.CRLCheckChain, []string{"chain"}},
}

var ocspChecks = []choice[sslfilter.OCSPCheck]{
	{sslfilter.OCSPOff, []string{"off"}}, {sslfilter.OCSPIfStapled, []string{"if-stapled"}}, {sslfilter.OCSPRequire, []string{"require"}},
}

// choose sets a field to the value of a word. An empty word stands for the default.
func choose[T any](field *T, word string, choices []choice[T]) error {
	var usual []string
	for _, c := range choices {
		if slices.Contains(c.words, word) {
			*field = c.value
			return nil
		}
		usual = append(usual, c.words[0])
	}
	if word == "" {
		return nil
	}
	return wantOneOf(word, usual...)
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
