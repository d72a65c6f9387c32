package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
)

// Case is one line of a case file: a scenario that was recorded with the original,
// and the expected results.
type Case struct {
	Name     string
	Scenario Scenario
	// Expect has, for "server" and "client", the keys that are compared. A key
	// that is absent is not compared.
	Expect map[string]map[string]any

	broken string // why the case cannot be run, if that was found while it was read
}

// Scenario says what the two sides do.
type Scenario struct {
	Server   *SideSpec
	Client   *SideSpec
	Chunk    int       // size of a delivery; 0 delivers each piece as it was sent
	Kick     bool      // start the client's handshake
	Early    []Message // sent before anything was delivered
	Messages []Message // sent one after the other, each followed by deliveries
	CRLs     []*string // files for ClientCertNotOnCRL; nil means no name
}

// SideSpec is how one side is made.
type SideSpec struct {
	New   map[string]any // options under the original's names
	Clone bool           // use a clone of the filter
	Stack []string       // names of filters, from the network inward; nil means one filter without a stack
}

// Message is the data that one side sends with one put().
type Message struct {
	From string
	Data []any // []byte, httpResponse, or nil for Perl's undef
}

// knownKeys are the keys of the objects in a scenario. A case with any other key is
// not run, because this program would ignore that key.
var knownKeys = map[string][]string{
	"scenario": {"server", "client", "chunk", "early", "messages", "crls", "kick", "name", "note", "timeout"},
	"side":     {"kind", "new", "clone", "stack"},
	"message":  {"from", "data"},
}

// ReadCases reads a file with one case on each line. A line that is not a case becomes
// a case that cannot be run. It is an error only if the file cannot be read.
func ReadCases(path string) ([]*Case, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var cases []*Case
	lines := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			c := parseCase(line)
			if c.Name == "" {
				c.Name = fmt.Sprintf("line %d", n)
			}
			cases = append(cases, c)
		}
		if err == io.EOF {
			return cases, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func parseCase(line []byte) *Case {
	var raw struct {
		Name     string
		Scenario map[string]any
		Expect   map[string]map[string]any
	}
	err := decode(line, &raw)
	c := &Case{Name: raw.Name, Expect: raw.Expect}
	if err == nil && raw.Scenario == nil {
		err = fmt.Errorf("the line has no scenario")
	}
	if err == nil {
		c.Scenario, err = parseScenario(raw.Scenario)
	}
	if err != nil {
		c.broken = err.Error()
	}
	return c
}

// decode works like json.Unmarshal, but keeps numbers as they are written.
func decode(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(to)
}

func parseScenario(raw map[string]any) (s Scenario, err error) {
	if err := onlyKnown("scenario", raw); err != nil {
		return s, err
	}
	s.Kick = true
	if kick, given := raw["kick"]; given && kick != nil {
		s.Kick = truth(kick)
	}
	if s.Chunk, err = number("chunk", raw["chunk"]); err != nil {
		return s, err
	}
	if s.Server, err = parseSide("server", raw["server"]); err != nil {
		return s, err
	}
	if s.Client, err = parseSide("client", raw["client"]); err != nil {
		return s, err
	}
	if s.Early, err = parseMessages("early", raw["early"]); err != nil {
		return s, err
	}
	if s.Messages, err = parseMessages("messages", raw["messages"]); err != nil {
		return s, err
	}
	s.CRLs, err = parseCRLs(raw["crls"])
	return s, err
}

// onlyKnown returns an error if an object has unknown keys.
func onlyKnown(what string, raw map[string]any) error {
	for key := range raw {
		if !slices.Contains(knownKeys[what], key) {
			return fmt.Errorf("a %s with the unknown key %q", what, key)
		}
	}
	return nil
}

func parseSide(name string, raw any) (*SideSpec, error) {
	if raw == nil {
		return nil, nil
	}
	m, ok := raw.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is not an object", name)
	}
	spec := &SideSpec{Clone: truth(m["clone"])}
	kind, _ := text(m["kind"])
	switch kind {
	case "", "filter":
	case "stack":
		var err error
		if spec.Stack, err = parseStack(m["stack"]); err != nil {
			return nil, fmt.Errorf("%s is %w", name, err)
		}
	default:
		return nil, fmt.Errorf("%s is of kind %q", name, kind)
	}
	if err := onlyKnown("side", m); err != nil {
		return nil, err
	}
	options, ok := m["new"].(map[string]any)
	if !ok && m["new"] != nil {
		return nil, fmt.Errorf("%s: new is not an object", name)
	}
	spec.New = options
	return spec, nil
}

func parseMessages(what string, raw any) ([]Message, error) {
	list, ok := raw.([]any)
	if !ok && raw != nil {
		return nil, fmt.Errorf("%s is not a list", what)
	}
	var messages []Message
	for _, entry := range list {
		m, ok := entry.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s has an element that is not an object", what)
		}
		message, err := parseMessage(m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		messages = append(messages, message)
	}
	return messages, nil
}

func parseMessage(raw map[string]any) (m Message, err error) {
	if err := onlyKnown("message", raw); err != nil {
		return m, err
	}
	m.From, _ = text(raw["from"])
	if m.From != "server" && m.From != "client" {
		return m, fmt.Errorf("a message from %q", m.From)
	}
	list, ok := raw["data"].([]any)
	if !ok && raw["data"] != nil {
		return m, fmt.Errorf("data is not a list")
	}
	for _, entry := range list {
		data, err := item(entry)
		if err != nil {
			return m, err
		}
		m.Data = append(m.Data, data)
	}
	return m, nil
}

func parseCRLs(raw any) ([]*string, error) {
	list, ok := raw.([]any)
	if !ok && raw != nil {
		return nil, fmt.Errorf("crls is not a list")
	}
	var files []*string
	for _, item := range list {
		if item == nil {
			files = append(files, nil)
			continue
		}
		file, ok := text(item)
		if !ok {
			return nil, fmt.Errorf("crls has an element that is not a file name")
		}
		files = append(files, &file)
	}
	return files, nil
}
