package sslfilter_test

// The documents must not rot: code in them compiles, the names in them exist, and
// pages that repeat the source are generated.

//go:generate go run ./internal/docgen

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// page is a Markdown file.
type page struct {
	path  string
	lines []pageLine
}

// pageLine is a line, with the heading that it stands under.
type pageLine struct {
	number  int
	text    string
	section string // the last heading
	heading int    // its level if it is a heading
	fence   string // "" outside of a fence, else the fence's language or "text"
}

var (
	codeSpan = regexp.MustCompile("`([^`]+)`")
	heading  = regexp.MustCompile(`^(#+) +(.*?)\s*$`)
)

func readPage(t testing.TB, path string) *page {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	p := &page{path: path}
	section, fence := "", ""
	for i, text := range strings.Split(string(data), "\n") {
		line := pageLine{number: i + 1, text: text, section: section, fence: fence}
		if language, found := strings.CutPrefix(text, "```"); found {
			line.fence = "```"
			if fence != "" {
				fence = ""
			} else {
				fence = cmp.Or(language, "text")
			}
		} else if m := heading.FindStringSubmatch(text); m != nil && fence == "" {
			line.heading = len(m[1])
			section = m[2]
			line.section = section
		}
		p.lines = append(p.lines, line)
	}
	require.Empty(t, fence, "%s: a fence is not closed", path)
	return p
}

func (p *page) at(l pageLine) string { return fmt.Sprintf("%s:%d", p.path, l.number) }

// fences are the contents of the page's fences in a language, by their position.
func (p *page) fences(language string) map[string]string {
	found := make(map[string]string)
	at := ""
	for _, l := range p.lines {
		switch {
		case l.fence == language:
			found[at] += l.text + "\n"
		case l.fence == "```":
			at = p.at(l)
		}
	}
	return found
}

// rows are the rows of the tables under a heading, cut into cells.
func (p *page) rows(section string) (rows [][]string) {
	for _, l := range p.lines {
		if l.section != section || !strings.HasPrefix(l.text, "|") || strings.HasPrefix(l.text, "|---") {
			continue
		}
		cells := strings.Split(strings.ReplaceAll(strings.Trim(l.text, "|"), `\|`, "\x00"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
		}
		rows = append(rows, cells)
	}
	return rows
}

// spans are the code spans of s.
func spans(s string) (list []string) {
	for _, m := range codeSpan.FindAllStringSubmatch(s, -1) {
		list = append(list, m[1])
	}
	return list
}

// walk calls f with every file of the repository that ends in suffix.
func walk(t testing.TB, suffix string, f func(path string)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && len(path) > 1 && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() && strings.HasSuffix(path, suffix) {
			f(filepath.ToSlash(path))
		}
		return err
	}))
}

func pages(t testing.TB) (list []*page) {
	walk(t, ".md", func(path string) { list = append(list, readPage(t, path)) })
	require.NotEmpty(t, list)
	return list
}

// snippets are the regions between docs:begin and docs:end in Go files.
func snippets(t testing.TB) map[string]string {
	found := make(map[string]string)
	walk(t, ".go", func(path string) {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		at := ""
		for i, line := range strings.SplitAfter(string(data), "\n") {
			place := fmt.Sprintf("%s:%d", path, i+1)
			switch strings.TrimSpace(line) {
			case "// docs:begin":
				require.Empty(t, at, "%s: docs:begin twice", place)
				at = place
				found[at] = ""
			case "// docs:end":
				require.NotEmpty(t, at, "%s: docs:end without docs:begin", place)
				at = ""
			default:
				if at != "" {
					found[at] += line
				}
			}
		}
		require.Empty(t, at, "%s: docs:begin without docs:end", path)
	})
	for at := range found {
		found[at] = dedent(found[at])
	}
	return found
}

// dedent takes the tabs away that all lines begin with, and blank lines at the end.
func dedent(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n\t "), "\n")
	tabs := -1
	for _, l := range lines {
		if n := len(l) - len(strings.TrimLeft(l, "\t")); l != "" && (tabs < 0 || n < tabs) {
			tabs = n
		}
	}
	for i, l := range lines {
		lines[i] = l[min(max(tabs, 0), len(l)):]
	}
	return strings.Join(lines, "\n")
}

// Every piece of Go in the documents stands word for word in a file that is
// compiled, and every piece that is marked for them is used.
func TestDocsSnippets(t *testing.T) {
	marked := snippets(t)
	used := make(map[string]bool)
	for _, p := range pages(t) {
		for at, code := range p.fences("go") {
			found := false
			for place, text := range marked {
				if text == dedent(code) {
					found, used[place] = true, true
				}
			}
			require.True(t, found, "%s: this code stands between docs:begin and docs:end in no Go file:\n%s", at, code)
		}
	}
	for place := range marked {
		require.True(t, used[place], "%s: no document has this code", place)
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestDocsLinks(t *testing.T) {
	checked := 0
	for _, p := range pages(t) {
		for _, l := range p.lines {
			if l.fence != "" {
				continue
			}
			for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(l.text, "x"), -1) {
				if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
					continue
				}
				checked++
				file, anchor, _ := strings.Cut(m[1], "#")
				target := p.path
				if file != "" {
					target = filepath.Join(filepath.Dir(p.path), file)
				}
				_, err := os.Stat(target)
				require.NoError(t, err, "%s", p.at(l))
				if anchor != "" {
					require.Contains(t, anchors(readPage(t, target)), anchor, "%s", p.at(l))
				}
			}
		}
	}
	require.NotZero(t, checked)
}

// anchors are the names that GitHub gives to headings.
func anchors(p *page) (list []string) {
	for _, l := range p.lines {
		if l.heading == 0 {
			continue
		}
		text := strings.ToLower(heading.FindStringSubmatch(l.text)[2])
		list = append(list, strings.ReplaceAll(regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(text, ""), " ", "-"))
	}
	return list
}

var makeCall = regexp.MustCompile(`\bmake ([a-z][a-z0-9-]*)`)

// Each target that a document names is in the Makefile, and CONTRIBUTING.md has
// each one that "make help" lists.
func TestDocsMakeTargets(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	targets := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`).FindAllStringSubmatch(string(makefile), -1) {
		targets[m[1]] = true
	}
	named := make(map[string]bool) // in CONTRIBUTING.md
	for _, p := range pages(t) {
		for _, l := range p.lines {
			text := strings.Join(spans(l.text), "\n")
			switch {
			case l.fence == "go":
				continue
			case l.fence != "", strings.HasPrefix(l.text, "    "):
				text = l.text
			}
			for _, m := range makeCall.FindAllStringSubmatch(text, -1) {
				require.True(t, targets[m[1]], "%s: the Makefile has no target %s", p.at(l), m[1])
				if p.path == "CONTRIBUTING.md" {
					named[m[1]] = true
				}
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):.*## `).FindAllStringSubmatch(string(makefile), -1) {
		require.True(t, named[m[1]], "CONTRIBUTING.md does not name \"make %s\"", m[1])
	}
}

// Tests and recorded cases that a document names exist.
func TestDocsTestNames(t *testing.T) {
	defined := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w+)\(`)
	walk(t, "_test.go", func(path string) {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range function.FindAllStringSubmatch(string(data), -1) {
			defined[m[1]] = true
		}
	})
	cases := caseNames(t)
	isTest, isCase := regexp.MustCompile(`^(?:Test|Fuzz|Benchmark|Example)[A-Z_]\w*$`), regexp.MustCompile(`^[A-J]\d\d-[\w.*-]+$`)
	checked := 0
	for _, p := range pages(t) {
		for _, l := range p.lines {
			for _, name := range spans(l.text) {
				switch {
				case l.fence != "":
				case isTest.MatchString(name):
					require.True(t, defined[name], "%s: there is no %s", p.at(l), name)
					checked++
				case isCase.MatchString(name):
					prefix, wild := strings.CutSuffix(name, "*")
					require.True(t, slices.ContainsFunc(cases, func(c string) bool { return c == name || wild && strings.HasPrefix(c, prefix) }),
						"%s: there is no recorded case %s", p.at(l), name)
				}
			}
		}
	}
	require.NotZero(t, checked)
}

func caseNames(t testing.TB) (names []string) {
	file, err := os.Open("testdata/oracle/cases.jsonl")
	require.NoError(t, err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c struct{ Name string }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &c))
		names = append(names, c.Name)
	}
	require.NoError(t, lines.Err())
	return names
}
