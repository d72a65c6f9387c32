package sslfilter_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const modulePath = "github.com/seed-014b8713/sslfilter"

// cgoFiles are the only files that see C.
var cgoFiles = []string{"cgo.go", "ssl.go", "bio.go", "ctx.go", "verify.go", "crl.go", "dh.go"}

// mayImport are the packages of this module that one of them may import. What
// is not listed may import every public one.
var mayImport = map[string][]string{
	".":       nil,
	"filter":  nil,
	"wheel":   {"filter"},
	"sslnet":  {".", "filter"},
	"sslhttp": {".", "sslnet"},
}

// stdOnly are the packages that import nothing from outside but the standard
// library.
var stdOnly = []string{".", "filter", "wheel", "sslnet", "sslhttp"}

// TestLayering is who may import whom, tests left out.
func TestLayering(t *testing.T) {
	seen := make(map[string]bool)
	require.NoError(t, filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (file == "bench" || d.Name() == "testdata" || len(d.Name()) > 1 && d.Name()[0] == '.'):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		file = filepath.ToSlash(file)
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		seen[path.Dir(file)] = true
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			if why := forbidden(file, imported); why != "" {
				t.Errorf("%s imports %q: %s", file, imported, why)
			}
		}
		return nil
	}))
	for dir := range mayImport {
		require.True(t, seen[dir], "there is no package %s", dir)
	}
}

// forbidden says why file must not import a package, or nothing.
func forbidden(file, imported string) string {
	dir := path.Dir(file)
	ours, inModule := strings.CutPrefix(imported+"/", modulePath+"/")
	if ours = path.Clean(ours); !inModule {
		ours = ""
	}
	switch {
	case (imported == "C" || imported == "unsafe") && !(dir == "." && slices.Contains(cgoFiles, file)):
		return "C and unsafe stand in " + strings.Join(cgoFiles, ", ") + " alone"
	case dir == "." && (imported == "net" || strings.HasPrefix(imported, "net/")) && imported != "net/netip":
		return "the engine has no sockets"
	case slices.Contains(stdOnly, dir) && !inModule && strings.Contains(strings.Split(imported, "/")[0], "."):
		return "standard library only"
	case !inModule:
		return ""
	case slices.Contains([]string{"cmd", "examples", "interop", "bench"}, strings.Split(ours, "/")[0]) && dir != ours && !strings.HasPrefix(dir, strings.Split(ours, "/")[0]):
		return "nobody imports programs"
	}
	if allowed, ok := mayImport[dir]; ok && !slices.Contains(allowed, ours) {
		return "it may import " + strings.Join(append([]string{"the standard library"}, allowed...), ", ") + " of what is here"
	}
	return ""
}

func TestLayeringRefuses(t *testing.T) {
	for _, test := range []struct {
		file, imported string
		refused        bool
	}{
		{"filter/x.go", "net/http", false},
		{"filter/x.go", modulePath, true},
		{"filter/x.go", "golang.org/x/net/http/httpguts", true},
		{"filter/x.go", "unsafe", true},
		{"filter.go", "net", true},
		{"filter.go", "net/http", true},
		{"filter.go", "net/netip", false},
		{"filter.go", "C", true},
		{"ssl.go", "C", false},
		{"sslnet/ssl.go", "C", true},
		{"wheel/x.go", modulePath + "/filter", false},
		{"wheel/x.go", modulePath, true},
		{"sslnet/x.go", modulePath + "/wheel", true},
		{"sslnet/x.go", modulePath, false},
		{"sslhttp/x.go", modulePath + "/sslnet", false},
		{"sslhttp/x.go", "golang.org/x/net/http2", true},
		{"cmd/sslrelay/x.go", modulePath + "/sslnet", false},
		{"examples/a/x.go", modulePath + "/cmd/sslrelay", true},
	} {
		require.Equal(t, test.refused, forbidden(test.file, test.imported) != "", "%s imports %s", test.file, test.imported)
	}
}
