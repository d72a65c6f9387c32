package sslfilter_test

// Constructions that a native speaker has to read twice stay out of the tree:
// out of comments, string literals, documents, the manual page and scripts.

import (
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// idiom is a construction and what to write instead.
type idiom struct {
	found   *regexp.Regexp
	instead string
}

var idioms = []idiom{
	{regexp.MustCompile(`\b(Who|[Ww]hoever|[Ww]hom(ever)?|Whatever)\b`), `name the subject: "the caller", "a client that"`},
	{regexp.MustCompile(`\b(if|that|for|by|of|to|from|with|on|than|as|after|behind|and|or|one|are|is|cost|costs|blocks?|refuses?|serves?|lets?|admits?|rejects?|holds|Many) who\b`), `name the subject: "a client that", "if nobody"`},
	{regexp.MustCompile(`(^|[.;:!?] |\(|\| )(What|Where) [a-z]`), `begin with a noun, or with "if" or "when"`},
	{regexp.MustCompile(`\b([Ii]s|[Aa]re|was|were|be|been) none\b`), `"is not a", "is not one of"`},
	{regexp.MustCompile(`\b([Ii]s|[Aa]re|was|were|be|been) no [a-zA-Z]`), `"is not a"`},
	{regexp.MustCompile(`\b([Ii]s|[Aa]re|was|were|be|been) of\b`), `"belongs to", "is for", "has"`},
	{regexp.MustCompile(`\bfor ever\b`), `"forever", "without end"`},
	{regexp.MustCompile(`\bits([.;:)]|$)`), `name what it has: "its own certificate"`},
	{regexp.MustCompile(`\b([Pp]laces? (for (handshakes|connections|clients)|(is|are) (not )?(free|taken))|(lose|loses|lost|hold|holds|occup(y|ies)|gives?|wait(s|ing)? for|free) (its|their|an?|the) places?|(most|fewest|number of|all( these)?) places)\b`), `"slot"`},
	{regexp.MustCompile(`\b[Bb]ehind\b`), `"after" for order, "backend" for a server`},
	{regexp.MustCompile(`\b[Ii]n front\b`), `"before" for order`},
	{regexp.MustCompile(`\b[Aa]new\b`), `"again", "new"`},
	{regexp.MustCompile(`\bwant of\b`), `"lack of", or say what is missing`},
	{regexp.MustCompile(`\b([Tt]h(e|is)|our) house\b`), `"the library", "the repository"`},
}

// legitimate phrases are taken out of a text before it is searched.
var legitimate = []*regexp.Regexp{
	regexp.MustCompile(`\b(Who|What|Where)\b[^.;:!?]*\?`), // a question
	regexp.MustCompile(`\b[Tt]here ((has|have|had|will|would|may|can|must|should) )?(is|are|was|were|be|been) (no|none)\b`),
	regexp.MustCompile(`\b(is|are|was|were|be) of ([a-z]+ ){0,2}(type|kind)s?\b`),
	regexp.MustCompile(`\bqueues? behind\b`),
	regexp.MustCompile(`\b(leave|leaves|leaving|left)\b[^.;:]{0,40} behind\b`),
	regexp.MustCompile(`\b(is|are|was|were|be) no (longer|more than|less than|larger|smaller|different|better|worse)\b`),
	regexp.MustCompile(`\b(behind|in front of) (([Aa]|an|the|another|one|one's|your|its|every|more) )*((plain|reverse|other|next|last|TLS|HTTP|web|mail|IMAP|POP3|SMTP) )*(proxy|proxies|load balancers?|firewalls?|NAT|nginx|haproxy|dovecot|postfix|relay|backends?|(web)?servers?|services?)\b`),
}

// passage is a text without line breaks, and where each of its lines begins.
type passage struct {
	path   string
	text   string
	line   int   // of its first line
	breaks []int // offsets of its other lines
}

func (p *passage) add(line int, text string) {
	text = strings.Join(strings.Fields(text), " ")
	if p.text == "" && len(p.breaks) == 0 {
		p.line = line
	}
	for p.line+len(p.breaks) < line {
		p.text += " "
		p.breaks = append(p.breaks, len(p.text))
	}
	p.text += text
}

func (p *passage) at(offset int) string {
	line := p.line
	for _, b := range p.breaks {
		if b <= offset {
			line++
		}
	}
	return fmt.Sprintf("%s:%d", p.path, line)
}

// passages collects texts: neighbouring lines of one kind are one passage.
type passages struct {
	path    string
	list    []*passage
	current *passage
}

func (ps *passages) end() {
	if ps.current != nil && ps.current.text != "" {
		ps.list = append(ps.list, ps.current)
	}
	ps.current = nil
}

func (ps *passages) add(line int, text string) {
	if ps.current == nil {
		ps.current = &passage{path: ps.path}
	}
	ps.current.add(line, text)
}

func goPassages(ps *passages, data []byte) {
	var s scanner.Scanner
	file := token.NewFileSet().AddFile(ps.path, -1, len(data))
	s.Init(file, data, nil, scanner.ScanComments)
	last, code := -1, -1 // lines of the last comment and of the last code
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			break
		}
		line := file.Line(pos)
		switch {
		case tok == token.COMMENT && strings.HasPrefix(lit, "//"):
			text := strings.TrimPrefix(lit, "//")
			if line != last+1 || line == code || strings.TrimSpace(text) == "" {
				ps.end()
			}
			ps.add(line, text)
			last = line
			continue
		case tok == token.COMMENT, tok == token.STRING:
			ps.end()
			for i, text := range strings.Split(strings.NewReplacer("/*", "", "*/", "", `\n`, " ").Replace(strings.Trim(lit, "`\"")), "\n") {
				ps.add(line+i, text)
			}
			ps.end()
		}
		if tok != token.SEMICOLON || lit == ";" {
			code = line
		}
	}
	ps.end()
}

var cText = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*(?:\n[ \t]*//[^\n]*)*|"(?:[^"\\\n]|\\.)*"`)

func cPassages(ps *passages, data []byte) {
	for _, m := range cText.FindAllIndex(data, -1) {
		line := 1 + strings.Count(string(data[:m[0]]), "\n")
		for i, text := range strings.Split(string(data[m[0]:m[1]]), "\n") {
			ps.add(line+i, strings.Trim(text, " \t/*\""))
		}
		ps.end()
	}
}

// markdownPassages leaves out headings: "What it is" is a good heading.
func markdownPassages(ps *passages, p *page) {
	code, language := "", "" // of the current fence
	for _, l := range p.lines {
		text := strings.TrimSpace(l.text)
		if text == "" || l.fence != "" || l.heading > 0 || strings.HasPrefix(l.text, "    ") || strings.HasPrefix(text, "|") || strings.HasPrefix(text, "- ") {
			ps.end()
		}
		switch {
		case l.heading > 0:
		case l.fence == "```": // the first or the last line of a fence
			if language == "go" {
				goPassages(ps, []byte(code))
			} else {
				linePassages(ps, []byte(code))
			}
			code, language = "", ""
		case l.fence != "":
			if code == "" {
				code, language = strings.Repeat("\n", l.number-1), l.fence
			}
			code += l.text + "\n"
		default:
			ps.add(l.number, codeSpan.ReplaceAllString(strings.TrimPrefix(text, "- "), "`x`"))
		}
	}
	ps.end()
}

var macro = regexp.MustCompile(`^\.(\\"|[A-Z]+)|\\f.`)

// linePassages reads scripts, configuration and man pages: comments that stand
// on lines of their own, and paragraphs of text, are one passage.
func linePassages(ps *passages, data []byte) {
	last := ""
	for i, line := range strings.Split(string(data), "\n") {
		text := strings.TrimSpace(macro.ReplaceAllString(line, ""))
		kind := "text"
		switch {
		case strings.HasPrefix(text, "#"):
			kind = "comment"
		case strings.HasPrefix(line, "."):
			kind = "macro"
		}
		text = strings.TrimLeft(text, "# ")
		if text == "" || kind != last {
			ps.end()
		}
		ps.add(i+1, text)
		last = kind
	}
	ps.end()
}

// lined are the kinds of files, besides Makefile and .ci/run, that have no syntax
// worth knowing here.
var lined = []string{".sh", ".toml", ".service", ".1", ".8", ".pl", ".py", ".cnf", ".conf"}

// likeC are the kinds whose comments and strings are like those of C.
var likeC = []string{".c", ".h", ".js", ".mjs", ".java"}

// readPassages reads the texts of a file. It returns nil for an unknown kind.
func readPassages(t testing.TB, file string) []*passage {
	ps := &passages{path: file}
	ext, name := filepath.Ext(file), filepath.Base(file)
	data := func() []byte {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		return data
	}
	switch {
	case ext == ".go":
		goPassages(ps, data())
	case slices.Contains(likeC, ext):
		cPassages(ps, data())
	case ext == ".md":
		markdownPassages(ps, readPage(t, file))
	case slices.Contains(lined, ext), name == "Makefile", file == ".ci/run":
		linePassages(ps, data())
	}
	return ps.list
}

// findIdioms are the places of p's idioms, with the words around each.
func findIdioms(p *passage) (hits []string) {
	text := p.text
	for _, phrase := range legitimate {
		text = phrase.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("_", len(s)) })
	}
	for _, idiom := range idioms {
		for _, m := range idiom.found.FindAllStringIndex(text, -1) {
			around := strings.ToValidUTF8(p.text[max(0, m[0]-40):min(len(p.text), m[1]+40)], "")
			hits = append(hits, fmt.Sprintf("%s: %q: %s", p.at(m[1]-1), around, idiom.instead))
		}
	}
	return hits
}

func TestLanguage(t *testing.T) {
	var hits []string
	read := 0
	visit := func(file string) {
		if file == "language_test.go" || strings.HasPrefix(file, "testdata/oracle/") {
			return
		}
		for _, p := range readPassages(t, file) {
			read++
			hits = append(hits, findIdioms(p)...)
		}
	}
	walk(t, "", visit)
	visit(".ci/run")
	require.NotZero(t, read)
	require.Zero(t, len(hits), strings.Join(hits, "\n"))
}

// The rules find what they are for, across line breaks too, and leave plain
// English alone.
func TestLanguageRules(t *testing.T) {
	for _, text := range []string{
		"// Whoever has the bytes\n// drives it.",
		"// f is for who has no file.",
		"// f refuses\n// who shows nothing.",
		"// A text that is\n// none.",
		"// An end that\n// is no error.",
		"// It is no URL.",
		"// A session that is of\n// TLS 1.3 is used once.",
		"// It waits for ever.",
		"// 0 is the depth of the peer its. The next is 1.",
		"// without the callback its",
		"// The peer loses its place.",
		"// the server behind does not answer",
		"// F reads. What finds no room is kept.",
		"// Where it fails, it is made anew.",
		"// for want of memory",
		"/* a house: the house\n * is ours */",
		"const s = `a text that is none of json`",
	} {
		ps := &passages{path: "x.go"}
		goPassages(ps, []byte("package x\n\n"+text+"\n"))
		require.Len(t, ps.list, 1, text)
		require.NotEmpty(t, findIdioms(ps.list[0]), text)
		require.True(t, strings.HasPrefix(findIdioms(ps.list[0])[0], "x.go:3:") || strings.Contains(text, "\n"), text)
	}
	for _, text := range []string{
		"// It reports who refused. There is no error, and there are none left.",
		"// It is no longer used behind a reverse proxy.",
		"// A value is of this type, and the other is of kind 3.",
		"// The data stays in place, and f takes the place of the other.",
		"// It has one of its own.",
		"// What does it cost? Who asks?",
		"// users who log in know what the file behaves like",
	} {
		ps := &passages{path: "x.go"}
		goPassages(ps, []byte("package x\n\n"+text+"\n"))
		for _, p := range ps.list {
			require.Empty(t, findIdioms(p))
		}
	}
}
