// Command docgen writes the pages of docs that repeat the source: the list of
// packages and C files, from their leading comments, the list of bounds, from
// the constants, and the list of decisions. "go generate" runs it in the root
// folder.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const header = "<!-- Written by internal/docgen from the source; \"go generate .\" rewrites it. -->\n\n"

func main() {
	err := errors.Join(
		write("docs/internals/packages.md", packages),
		write("docs/internals/bounds.md", bounds),
		write("docs/decisions/README.md", decisions),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

func write(path string, page func() (string, error)) error {
	text, err := page()
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(header+text), 0o644)
}

// source is a folder with Go files.
type source struct {
	folder string
	files  []*ast.File // tests too
	names  []string    // of the files
}

// sources parses all Go files below the current folder.
func sources() (list []*source, err error) {
	byFolder := make(map[string]*source)
	err = filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && len(path) > 1 && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if entry.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		if byFolder[folder] == nil {
			byFolder[folder] = &source{folder: folder}
			list = append(list, byFolder[folder])
		}
		s := byFolder[folder]
		s.files, s.names = append(s.files, file), append(s.names, filepath.Base(path))
		return nil
	})
	slices.SortFunc(list, func(a, b *source) int { return cmp.Compare(a.folder, b.folder) })
	return list, err
}

// comment returns the first sentence of the package comment, or "". If several
// files have one, as with and without cgo, the longest counts.
func (s *source) comment() string {
	longest := ""
	for _, f := range s.files {
		if text := f.Doc.Text(); len(text) > len(longest) {
			longest = text
		}
	}
	return sentence(longest)
}

func sentence(text string) string {
	var p doc.Package
	text = p.Synopsis(text)
	return strings.NewReplacer("[", "", "]", "", "|", `\|`).Replace(text)
}

type group struct {
	title  string
	belong func(folder string) bool
}

// groups are the sections of the list of packages; a folder belongs to the first
// that matches.
var groups = []group{
	{"Libraries", func(f string) bool { return slices.Contains([]string{".", "filter", "wheel", "sslnet", "sslhttp"}, f) }},
	{"The relay", func(f string) bool { return strings.HasPrefix(f, "cmd/") || strings.HasPrefix(f, "internal/relay") }},
	{"Adapters, each a module of its own", func(f string) bool { return strings.HasPrefix(f, "adapters") }},
	{"Examples", func(f string) bool { return strings.HasPrefix(f, "examples") }},
	{"For programs written for other bindings, a module of its own", func(f string) bool { return strings.HasPrefix(f, "compat") }},
	{"Benchmarks, a module of their own", func(f string) bool { return strings.HasPrefix(f, "bench") }},
	{"Tests with other programs", func(f string) bool { return strings.HasPrefix(f, "interop") }},
	{"Helpers", func(string) bool { return true }},
}

func packages() (string, error) {
	list, err := sources()
	if err != nil {
		return "", err
	}
	rows := make([][]string, len(groups))
	var missing []string
	for _, s := range list {
		i := slices.IndexFunc(groups, func(g group) bool {
			return g.belong(s.folder)
		})
		about := s.comment()
		if about == "" {
			missing = append(missing, s.folder)
		}
		rows[i] = append(rows[i], fmt.Sprintf("| `%s` | %s |", s.folder, about))
	}
	if missing != nil {
		return "", fmt.Errorf("no package comment in %s", strings.Join(missing, ", "))
	}
	var b strings.Builder
	b.WriteString("# Packages and C files\n")
	for i, g := range groups {
		fmt.Fprintf(&b, "\n## %s\n\n| folder | about |\n|---|---|\n%s\n", g.title, strings.Join(rows[i], "\n"))
	}
	files, err := cFiles()
	fmt.Fprintf(&b, "\n## C files of the root package\n\n| file | about |\n|---|---|\n%s\n", strings.Join(files, "\n"))
	return b.String(), err
}

var firstComment = regexp.MustCompile(`(?s)/\*(.*?)\*/`)

// cFiles are the rows of the C files, with the first sentence of the first
// comment in each.
func cFiles() (rows []string, err error) {
	names, err := filepath.Glob("cgo_*.[ch]")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m := firstComment.FindSubmatch(data)
		if m == nil {
			return nil, fmt.Errorf("%s has no comment", name)
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s |", name, sentence(cText(string(m[1])))))
	}
	return rows, nil
}

// cText is the text of a C comment without its stars.
func cText(comment string) string {
	var words []string
	for line := range strings.Lines(comment) {
		words = append(words, strings.Fields(strings.TrimLeft(line, " *"))...)
	}
	return strings.Join(words, " ")
}

var (
	goBound = regexp.MustCompile(`[mM]ax[A-Z]|Timeout$|^Patience$`)
	cBound  = regexp.MustCompile(`\b((?:FSSL_)?MAX_[A-Z_]+) = ([0-9][0-9 <*]*[0-9])[ ,};]*(?:/\*(.*?)\*/)?`)
)

func bounds() (string, error) {
	list, err := sources()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Bounds and timeouts\n\nEvery buffer, queue and list that a peer or a file can fill has a bound. Exceeding it is an error. Sizes are in bytes.\n")
	for _, s := range list {
		if !slices.ContainsFunc(groups[:3], func(g group) bool { return g.belong(s.folder) }) { // libraries, relay and adapters
			continue
		}
		var rows []string
		for i, f := range s.files {
			if !strings.HasSuffix(s.names[i], "_test.go") {
				rows = append(rows, goBounds(f)...)
			}
		}
		if s.folder == "." {
			more, err := cBounds()
			if err != nil {
				return "", err
			}
			rows = append(rows, more...)
		}
		if rows == nil {
			continue
		}
		slices.Sort(rows)
		title := "`" + s.folder + "`"
		if s.folder == "." {
			title = "The root package"
		}
		fmt.Fprintf(&b, "\n## %s\n\n| bound | value | about |\n|---|---|---|\n%s\n", title, strings.Join(rows, "\n"))
	}
	return b.String(), nil
}

func boundRow(name, value, about string) string {
	return fmt.Sprintf("| `%s` | `%s` | %s |", name, value, sentence(about))
}

// goBounds are the rows of the constants of a file.
func goBounds(f *ast.File) (rows []string) {
	for _, d := range f.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, s := range decl.Specs {
			spec := s.(*ast.ValueSpec)
			if len(spec.Values) != len(spec.Names) {
				continue
			}
			about := spec.Doc.Text() + spec.Comment.Text()
			if about == "" {
				about = decl.Doc.Text()
			}
			for i, name := range spec.Names {
				if value := types.ExprString(spec.Values[i]); goBound.MatchString(name.Name) && !strings.HasPrefix(value, `"`) {
					rows = append(rows, boundRow(name.Name, value, about))
				}
			}
		}
	}
	return rows
}

// cBounds are the rows of the bounds in C.
func cBounds() (rows []string, err error) {
	names, err := filepath.Glob("cgo_*.[ch]")
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, m := range cBound.FindAllStringSubmatch(string(data), -1) {
			rows = append(rows, boundRow(m[1], m[2], strings.TrimSpace(m[3])))
		}
	}
	return rows, err
}

var decisionTitle = regexp.MustCompile(`^# ([0-9]{4})\. (.+)\n`)

// decisions lists the records of docs/decisions by their headings.
func decisions() (string, error) {
	var b strings.Builder
	b.WriteString("# Decisions\n\nShort records: context, decision, consequences, and the tests or commands that verify them. " +
		"\"In the first design\" marks figures that were not measured again. Some numbers were never used.\n\n")
	names, err := filepath.Glob("docs/decisions/[0-9]*.md")
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		m := decisionTitle.FindSubmatch(data)
		if m == nil || !strings.HasPrefix(filepath.Base(name), string(m[1])+"-") {
			return "", fmt.Errorf("%s does not begin with its number and a title", name)
		}
		fmt.Fprintf(&b, "- [%s](%s) %s\n", m[1], filepath.Base(name), m[2])
	}
	return b.String(), err
}
