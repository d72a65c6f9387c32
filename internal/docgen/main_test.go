package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil { // where go generate runs
		panic(err)
	}
	os.Exit(m.Run())
}

// shipped are the folders of this module whose packages are in a library or a program.
func shipped(t *testing.T) (folders []string) {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}",
		"./cmd/...", ".", "./filter", "./sslhttp", "./sslnet", "./sslsession", "./sslstaple", "./wheel")
	out, err := list.Output()
	require.NoError(t, err)
	module := ""
	for pkg := range strings.FieldsSeq(string(out)) {
		if strings.HasSuffix(pkg, "/sslfilter") {
			module = pkg
		}
	}
	require.NotEmpty(t, module)
	for pkg := range strings.FieldsSeq(string(out)) {
		if folder, ours := strings.CutPrefix(pkg+"/", module+"/"); ours {
			folders = append(folders, filepath.ToSlash(filepath.Clean(folder)))
		}
	}
	require.Greater(t, len(folders), 10)
	return folders
}

// section returns what the page has under a heading.
func section(page, heading string) string {
	_, after, _ := strings.Cut(page, "\n## "+heading+"\n")
	text, _, _ := strings.Cut(after, "\n## ")
	return text
}

// Public packages are among the libraries, and helpers that are in a library or a
// program are not among the helpers of tests.
func TestPackages(t *testing.T) {
	page, err := packages()
	require.NoError(t, err)
	folders := shipped(t)
	for _, folder := range folders {
		switch {
		case strings.HasPrefix(folder, "cmd/"):
		case !strings.HasPrefix(folder, "internal/"):
			require.Contains(t, section(page, "Libraries"), "| `"+folder+"` |")
		case !strings.HasPrefix(folder, "internal/relay"):
			require.Contains(t, section(page, "Helpers of the libraries and the programs"), "| `"+folder+"` |")
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(.+?)` \\|").FindAllStringSubmatch(section(page, "Helpers of the libraries and the programs"), -1) {
		require.Contains(t, folders, row[1], "only tests and the demo use it")
	}
}

// These match more than the rules of docgen, on purpose.
var (
	nameOfBound    = regexp.MustCompile(`(?i)max|most|limit|bound|timeout|patience|stall|linger|farewell|deadline`)
	commentOfBound = regexp.MustCompile(`\b(bound(s|ed)?|limit(s|ed)?|at most|how long|how many|no more than)\b`)
)

// notBounds are constants that sound like bounds, and what they are.
var notBounds = map[string]string{
	"overheadMost":   "the overhead of a record",
	"GCM_TAG_MAXLEN": "the length of a tag",
	"deletedFor":     "the time for which Redis remembers a deleted session",
	"pipeSize":       "the size of a buffer",
	"soon":           "when -check reports the expiry of a certificate",
	"quiet":          "when a connection is idle, so that another can take its slot",
	"quietly":        "the interval of log lines",
	"flushDelay":     "a delay of the relay itself",
	"lastRead":       "a delay of the relay itself",
}

// Every constant of a library or a program that sounds like a bound is on the page.
func TestBounds(t *testing.T) {
	page, err := bounds()
	require.NoError(t, err)
	listed := func(name string) bool { return strings.Contains(page, "\n| `"+name+"` |") }
	var missing []string
	folders := shipped(t)
	list, err := sources()
	require.NoError(t, err)
	for _, s := range list {
		if !slices.Contains(folders, s.folder) && !strings.HasPrefix(s.folder, "adapters/") && !strings.HasPrefix(s.folder, "compat/") {
			continue
		}
		for i, f := range s.files {
			if strings.HasSuffix(s.names[i], "_test.go") {
				continue
			}
			for _, name := range soundLikeBounds(f) {
				if !listed(name) && notBounds[name] == "" {
					missing = append(missing, s.folder+"/"+s.names[i]+": "+name)
				}
			}
		}
	}
	enumerator := regexp.MustCompile(`\b([A-Z_]*(?:MAX|LIMIT|MOST)_[A-Z_]+) = [^=]`)
	names, err := filepath.Glob("cgo_*.[ch]")
	require.NoError(t, err)
	for _, name := range names {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range enumerator.FindAllStringSubmatch(string(data), -1) {
			if !listed(m[1]) {
				missing = append(missing, name+": "+m[1])
			}
		}
	}
	require.Empty(t, missing, "not in the list of bounds:\n%s", strings.Join(missing, "\n"))
	for name := range notBounds {
		require.False(t, listed(name), "%s is a bound", name)
	}
	for _, row := range regexp.MustCompile(`(?m)^\| .*$`).FindAllString(page, -1) {
		require.NotRegexp(t, `\|\s*\|$`, row, "a bound without a comment")
	}
	require.Contains(t, page, "| `FSSL_MAX_SEALED_HEADER` | `48 + 31` |", "a sum is shown whole")
}

// soundLikeBounds are the numbers among the constants of a file whose name or comment
// is like that of a bound.
func soundLikeBounds(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, s := range decl.Specs {
			spec := s.(*ast.ValueSpec)
			about := fmt.Sprint(spec.Doc.Text(), spec.Comment.Text())
			if about == "" {
				about = decl.Doc.Text()
			}
			for i, name := range spec.Names {
				if i >= len(spec.Values) {
					continue // of an enumeration
				}
				if text, ok := spec.Values[i].(*ast.BasicLit); ok && text.Kind == token.STRING {
					continue
				}
				if nameOfBound.MatchString(name.Name) || commentOfBound.MatchString(about) {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}
