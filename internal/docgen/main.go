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
	group  int         // in groups
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
			group := slices.IndexFunc(groups, func(g group) bool { return g.belong(folder) })
			if group < 0 {
				return fmt.Errorf("no group has the folder %s", folder)
			}
			byFolder[folder] = &source{folder: folder, group: group}
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
	bounds bool // the list of bounds has those of its packages
	belong func(folder string) bool
}

// groups are the sections of the list of packages; a folder belongs to the first
// that matches.
var groups = []group{
	{"Libraries", true, isLibrary},
	{"The programs", true, below("cmd", "internal/relay")},
	{"Adapters, each a module of its own", true, below("adapters")},
	{"Examples", false, below("examples")},
	{"For programs written for other bindings, a module of its own", true, below("compat")},
	{"Benchmarks, a module of their own", false, below("bench")},
	{"Tests with other programs", false, below("interop")},
	{"Helpers of tests, the demo and these pages", false, below("internal/child", "internal/cpeer", "internal/demo", "internal/derpki", "internal/docgen",
		"internal/dovecot", "internal/evptest", "internal/faultnet", "internal/memfault", "internal/peers", "internal/testkit", "internal/testpki")},
	{"Helpers of the libraries and the programs", true, below("internal")},
}

// below returns a function that reports whether a folder is one of these, or in one.
func below(folders ...string) func(string) bool {
	return func(f string) bool {
		return slices.ContainsFunc(folders, func(folder string) bool { return f == folder || strings.HasPrefix(f, folder+"/") })
	}
}

// isLibrary reports whether a folder is the root folder, or directly in it and not
// for examples, benchmarks and tests.
func isLibrary(f string) bool {
	return !strings.Contains(f, "/") && !below("examples", "bench", "interop")(f)
}

func packages() (string, error) {
	list, err := sources()
	if err != nil {
		return "", err
	}
	rows := make([][]string, len(groups))
	var missing []string
	for _, s := range list {
		about := s.comment()
		if about == "" {
			missing = append(missing, s.folder)
		}
		rows[s.group] = append(rows[s.group], fmt.Sprintf("| `%s` | %s |", s.folder, about))
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

// A constant is a bound if its name or its comment says so. A variable is one if its
// comment begins with it.
var (
	boundName    = regexp.MustCompile(`[mM]ax[A-Z]|Timeout$`)
	boundComment = regexp.MustCompile(`\bbounds?\b`)
	cBound       = regexp.MustCompile(`\b([A-Z_]*MAX_[A-Z_]+) = ([^,;}/\n]+)[,;} ]*(?:/\*(.*?)\*/)?`)
)

func bounds() (string, error) {
	list, err := sources()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Bounds and timeouts\n\nEvery buffer, queue and list that a peer or a file can fill has a bound. Exceeding it is an error. Sizes are in bytes.\n")
	for _, s := range list {
		if !groups[s.group].bounds {
			continue
		}
		var rows []bound
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
		slices.SortFunc(rows, func(a, b bound) int { return cmp.Compare(a.name, b.name) })
		title := "`" + s.folder + "`"
		if s.folder == "." {
			title = "The root package"
		}
		fmt.Fprintf(&b, "\n## %s\n\n| bound | value | about |\n|---|---|---|\n", title)
		for _, row := range rows {
			if row.about == "" {
				return "", fmt.Errorf("%s of %s has no comment", row.name, s.folder)
			}
			fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", row.name, row.value, sentence(row.about))
		}
	}
	return b.String(), nil
}

type bound struct{ name, value, about string }

// goBounds are the bounds among the constants and variables of a file.
func goBounds(f *ast.File) (rows []bound) {
	for _, d := range f.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST && decl.Tok != token.VAR {
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
				value := types.ExprString(spec.Values[i])
				isBound := boundName.MatchString(name.Name) || boundComment.MatchString(about)
				if decl.Tok == token.VAR {
					isBound = strings.HasPrefix(about, name.Name+" bounds ")
				}
				if isBound && !strings.HasPrefix(value, `"`) {
					rows = append(rows, bound{name.Name, value, about})
				}
			}
		}
	}
	return rows
}

// cBounds are the bounds in C.
func cBounds() (rows []bound, err error) {
	names, err := filepath.Glob("cgo_*.[ch]")
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, m := range cBound.FindAllStringSubmatch(string(data), -1) {
			rows = append(rows, bound{m[1], strings.TrimSpace(m[2]), strings.TrimSpace(m[3])})
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
