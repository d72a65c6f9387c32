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

// Case is one line of a case file: a scenario of the original, and what has to
// come of it.
type Case struct {
	Name     string
	Scenario Scenario
	// Expect has, for "server" and "client", the keys that are compared. A key
	// that is absent is not.
	Expect map[string]map[string]any

	broken string // why the case cannot be run, if that was seen when it was read
}

// Scenario says what two sides do to each other.
type Scenario struct {
	Server   *SideSpec
	Client   *SideSpec
	Chunk    int       // size of a delivery; 0 delivers each piece as it was sent
	Kick     bool      // start the client's handshake
	Early    []Message // handed over before anything was delivered
	Messages []Message // one after the other, each followed by moving bytes
	CRLs     []*string // files for ClientCertNotOnCRL; nil is no name at all
}

// SideSpec is how one side is made.
type SideSpec struct {
	New   map[string]any // options under the original's names
	Clone bool           // use a clone of the filter
	Stack []string       // names of filters, from the network inward; nil is one filter without a stack
}

// Message is what one side says with one put().
type Message struct {
	From string
	Data []any // []byte, httpResponse, or nil for Perl's undef
}

// knownKeys are the keys of the objects in a scenario. A case with any other
// key is not run: it asks for something that this program would leave out.
var knownKeys = map[string][]string{
	"scenario": {"server", "client", "chunk", "early", "messages", "crls", "kick", "name", "note", "timeout"},
	"side":     {"kind", "new", "clone", "stack"},
	"message":  {"from", "data"},
}

// ReadCases reads a file with one case a line. A line that makes no case is
// one that cannot be run; only a file that cannot be read is an error.
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

// decode is json.Unmarshal with numbers kept as they are written.
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

// onlyKnown refuses an object with keys that mean nothing here.
func onlyKnown(what string, raw map[string]any) error {
	for key := range raw {
		if !slices.Contains(knownKeys[what], key) {
			return fmt.Errorf("a %s with %q", what, key)
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
		return nil, fmt.Errorf("%s is no object", name)
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
		return nil, fmt.Errorf("%s: new is no object", name)
	}
	spec.New = options
	return spec, nil
}

func parseMessages(what string, raw any) ([]Message, error) {
	list, ok := raw.([]any)
	if !ok && raw != nil {
		return nil, fmt.Errorf("%s is no list", what)
	}
	var messages []Message
	for _, entry := range list {
		m, ok := entry.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s holds something that is no object", what)
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
		return m, fmt.Errorf("data is no list")
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
		return nil, fmt.Errorf("crls is no list")
	}
	var files []*string
	for _, item := range list {
		if item == nil {
			files = append(files, nil)
			continue
		}
		file, ok := text(item)
		if !ok {
			return nil, fmt.Errorf("crls holds something that is no file name")
		}
		files = append(files, &file)
	}
	return files, nil
}
