package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// The toml package ignores the case of keys when it decodes into a struct, and the
// last of two such keys wins: requirevalidclientcert = true followed by
// RequireValidClientCert = false would admit every client. So a file is decoded into
// plain maps, which keep the keys as written. The functions below copy the values into
// the configuration and accept only keys that are written exactly as in the table.

// relayKey is the key of the tables of relays.
const relayKey = "relay"

// sessionsKey is the key of the table with the options of ofSessions, whose keys begin
// with it and a dot.
const sessionsKey = "sessions"

// tomlFile is a decoded file with the line of each of its keys.
type tomlFile struct {
	lines map[string]int // by pathID
	wrong []lineError
}

type lineError struct {
	line int
	text string
}

// decodeTOML sets c. The error has one line for each mistake, in the order of the
// file.
func decodeTOML(data []byte, c *Config) (*tomlFile, error) {
	var doc map[string]any
	if err := toml.Unmarshal(data, &doc); err != nil {
		return nil, explainTOML(err)
	}
	f := &tomlFile{lines: keyLines(data)}
	f.program(c, doc)
	return f, f.err()
}

// program copies the values of a file into c.
func (f *tomlFile) program(c *Config, doc map[string]any) {
	if tables, given := doc[relayKey]; given {
		f.relays(&c.Relays, tables)
		doc = maps.Clone(doc)
		delete(doc, relayKey)
	}
	if table, given := doc[sessionsKey]; given {
		f.sessions(c, table)
		doc = maps.Clone(doc)
		delete(doc, sessionsKey)
	}
	f.table(c, nil, nil, doc)
}

// sessions copies the values of the [sessions] table into c.
func (f *tomlFile) sessions(c *Config, v any) {
	table, ok := v.(map[string]any)
	if !ok {
		f.addError([]string{sessionsKey}, wantGot("a table that begins with [sessions]", v))
		return
	}
	for _, key := range SortedKeys(table) {
		at := []string{sessionsKey, key}
		if o := find(false, display(at)); o == nil {
			f.add(at, "unknown key %q", display(at))
		} else if err := setTOML(o.pointer(c, nil), table[key]); err != nil {
			f.addError(at, err)
		}
	}
}

// relays makes relays from the [[relay]] tables.
func (f *tomlFile) relays(relays *[]Relay, v any) {
	tables, ok := listOf[map[string]any](v)
	if !ok {
		f.addError([]string{relayKey}, wantGot("tables that begin with [[relay]]", v))
		return
	}
	*relays = make([]Relay, len(tables))
	for i, table := range tables {
		f.table(nil, &(*relays)[i], []string{relayKey, strconv.Itoa(i)}, table)
	}
}

// table copies the values of the table at path into c or r. The other one is nil.
func (f *tomlFile) table(c *Config, r *Relay, path []string, table map[string]any) {
	for _, key := range SortedKeys(table) {
		at := append(slices.Clone(path), key)
		o := find(r != nil, key)
		if o == nil || o.scope == ofSessions { // a quoted key with a dot
			f.add(at, "unknown key %q%s", display(at), suggest(at))
		} else if err := setTOML(o.pointer(c, r), table[key]); err != nil {
			f.addError(at, err)
		}
	}
}

func (f *tomlFile) add(path []string, format string, args ...any) {
	f.wrong = append(f.wrong, lineError{f.line(path), fmt.Sprintf(format, args...)})
}

// addError adds an error in the value at path, or in a value below it.
func (f *tomlFile) addError(path []string, err error) {
	var below *keyError
	if errors.As(err, &below) {
		path = append(slices.Clone(path), below.keys[0])
		err = below.err
	}
	f.add(path, "%s: %v", display(path), err)
}

// addInvalid adds the errors of validate.
func (f *tomlFile) addInvalid(err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range many.Unwrap() {
			f.addInvalid(err)
		}
		return
	}
	var path []string
	var in *relayError
	if errors.As(err, &in) {
		path = append(path, relayKey, strconv.Itoa(in.index))
	}
	var key *keyError
	if errors.As(err, &key) {
		table, name, below := strings.Cut(key.keys[0], ".")
		if path = append(path, table); below {
			path = append(path, name)
		}
	}
	f.add(path, "%v", err)
}

// err returns all errors, sorted by line.
func (f *tomlFile) err() error {
	slices.SortStableFunc(f.wrong, func(a, b lineError) int { return cmp.Compare(a.line, b.line) })
	var all []error
	for _, e := range f.wrong {
		if e.line > 0 {
			e.text = fmt.Sprintf("line %d: %s", e.line, e.text)
		}
		all = append(all, errors.New(e.text))
	}
	return errors.Join(all...)
}

// line returns the line of a path. If the path is missing, it returns the line of the
// table that should contain it, or 0.
func (f *tomlFile) line(path []string) int {
	for ; len(path) > 0; path = path[:len(path)-1] {
		if n := f.lines[pathID(path)]; n > 0 {
			return n
		}
	}
	return 0
}

// pathID joins a path. The separator is not a dot, because a quoted key may contain
// one.
func pathID(path []string) string { return strings.Join(path, "\x00") }

// display returns a path for an error: "relay.crt", without the number of the relay.
func display(path []string) string {
	if len(path) > 2 && path[0] == relayKey {
		path = append([]string{relayKey}, path[2:]...)
	}
	return strings.Join(path, ".")
}

// explainTOML turns a syntax error into one line.
func explainTOML(err error) error {
	var wrong *toml.DecodeError
	if !errors.As(err, &wrong) {
		return err
	}
	line, column := wrong.Position()
	text := strings.TrimPrefix(wrong.Error(), "toml: ")
	key := strings.Join(wrong.Key(), ".")
	switch {
	case strings.HasPrefix(text, "key ") || strings.HasPrefix(text, "table "): // the text names the key
		return fmt.Errorf("line %d: %s", line, text)
	case key != "":
		return fmt.Errorf("line %d: %s: %s", line, key, text)
	}
	return fmt.Errorf("line %d, column %d: %s", line, column, text)
}

// suggest returns a hint about the right place or spelling of a key.
func suggest(path []string) string {
	last := path[len(path)-1]
	inRelay := path[0] == relayKey && len(path) == 3
	where := "it belongs in a [[relay]] table"
	if inRelay {
		where = "it belongs before the first [[relay]]"
	}
	switch {
	case !inRelay && len(path) > 1:
		return ""
	case knownKey(!inRelay, last) == last:
		return "; " + where
	case knownKey(inRelay, last) != "":
		return fmt.Sprintf("; the key is written %s", knownKey(inRelay, last))
	case knownKey(inRelay, strings.ReplaceAll(last, "_", "-")) != "":
		return fmt.Sprintf("; the key is written %s", knownKey(inRelay, strings.ReplaceAll(last, "_", "-")))
	}
	return ""
}

// knownKey returns the key of a relay or of the program that differs from key at
// most in case.
func knownKey(inRelay bool, key string) string {
	if !inRelay && strings.EqualFold(key, relayKey) {
		return relayKey
	}
	for _, o := range options {
		if o.inRelay() == inRelay && strings.EqualFold(o.key, key) {
			return o.key
		}
	}
	return ""
}

// keyLines returns the line of every key. The decoder does not keep lines, so this
// function runs the decoder's parser again. The file is known to be valid, and the
// values are not used.
func keyLines(data []byte) map[string]int {
	k := keyLine{lines: make(map[string]int), arrays: make(map[string]int)}
	k.parser.Reset(data)
	var table []string
	for k.parser.NextExpression() {
		switch e := k.parser.Expression(); e.Kind {
		case unstable.Table:
			table = k.keys(nil, e)
		case unstable.ArrayTable:
			table = k.keys(nil, e)
		case unstable.KeyValue:
			k.value(k.keys(table, e), e.Value())
		}
	}
	return k.lines
}

type keyLine struct {
	parser unstable.Parser
	lines  map[string]int
	arrays map[string]int // number of tables so far, by pathID
}

// keys returns the path of an expression in a table, and records its line.
func (k *keyLine) keys(table []string, e *unstable.Node) []string {
	path := slices.Clone(table)
	for it := e.Key(); it.Next(); {
		path = append(path, string(it.Node().Data))
		id := pathID(path)
		k.note(path, it.Node())
		if e.Kind == unstable.ArrayTable && it.IsLast() {
			k.arrays[id]++
		}
		if n := k.arrays[id]; n > 0 {
			path = append(path, strconv.Itoa(n-1))
			k.note(path, it.Node())
		}
	}
	return path
}

func (k *keyLine) note(path []string, key *unstable.Node) {
	if id := pathID(path); k.lines[id] == 0 {
		k.lines[id] = k.parser.Shape(key.Raw).Start.Line
	}
}

// value records the keys within a value.
func (k *keyLine) value(path []string, v *unstable.Node) {
	for i, it := 0, v.Children(); it.Next(); i++ {
		switch n := it.Node(); {
		case v.Kind == unstable.InlineTable:
			k.value(k.keys(path, n), n.Value())
		case v.Kind == unstable.Array:
			k.value(append(slices.Clone(path), strconv.Itoa(i)), n)
		}
	}
}
