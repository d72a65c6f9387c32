package sslfilter_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/seed-014b8713/sslfilter"

// cgoFiles are the files that import "C". Each adds a third of a second to every build.
var cgoFiles = []string{"bio.go", "cgo.go", "crl.go", "ctx.go", "dh.go", "evp.go", "ocsp.go", "pem.go", "session.go", "ssl.go", "trust.go", "verify.go"}

// cFiles are the C files of the root package. bench has C of its own.
var cFiles = []string{
	"cgo_certs.c", "cgo_conf.c", "cgo_conn.c", "cgo_crl.c", "cgo_ctx.c", "cgo_errors.c", "cgo_evp.c", "cgo_evp.h", "cgo_hello.c", "cgo_helpers.c", "cgo_helpers.h", "cgo_identity.c", "cgo_internal.h", "cgo_keylog.c", "cgo_ocsp.c", "cgo_peer.c", "cgo_pem.c", "cgo_provider.c", "cgo_session.c", "cgo_session.h", "cgo_staple.c", "cgo_stored.c", "cgo_ticket.c", "cgo_ticketkeys.c",
}

// testPackages may be imported only by tests. Three of them contain C, since a test file
// cannot: an allocator that fails, which OpenSSL accepts only from C and before Go runs, a
// peer that renegotiates, which neither crypto/tls nor this library does, and ciphers of
// OpenSSL, of which Go has few.
var (
	testPackages = []string{"internal/cpeer", "internal/evptest", "internal/memfault", "internal/testkit"}
	testCgoFiles = []string{"internal/cpeer/peer.go", "internal/evptest/evptest.go", "internal/memfault/memfault.go"}
	testCFiles   = []string{"internal/cpeer/peer.c", "internal/cpeer/peer.h", "internal/evptest/evptest.c", "internal/evptest/evptest.h", "internal/memfault/memfault.c", "internal/memfault/memfault.h"}
)

// A program has C that runs before Go opens /dev/null in place of a closed descriptor.
var (
	programCgoFiles = []string{"internal/closedfd/closedfd.go"}
	programCFiles   = []string{"internal/closedfd/closedfd.c"}
)

// layer lists what the packages in and below a folder may import of this module, and
// whether they may import other modules.
type layer struct {
	folder  string   // "." is the root package alone
	imports []string // folders, including everything below
	std     func(pkg string) bool
	modules bool     // any package of other modules
	other   []string // these packages of other modules
	why     string
}

var public = []string{".", "filter", "wheel", "sslnet", "sslhttp", "sslsession", "sslstaple"}

// layers has the most specific folders first.
var layers = []layer{
	{folder: ".", imports: []string{"internal/bounded", "internal/derive", "internal/private", "internal/refcount", "internal/servernames"}, std: withoutNet, why: "the engine has no sockets"},
	{folder: "filter", why: "filters need only the standard library"},
	{folder: "wheel", imports: []string{"filter"}, why: "a wheel drives any filters"},
	{folder: "sslnet", imports: []string{".", "filter", "internal/accept", "internal/admission", "internal/cut", "internal/sessions", "internal/socket"}, why: "connections need only the engine"},
	{folder: "sslhttp", imports: []string{".", "sslnet", "sslsession", "internal/bounded", "internal/sessions"}, other: []string{"golang.org/x/net/idna"}, why: "HTTP needs only connections and host names"},
	{folder: "sslsession", imports: []string{"."}, why: "a cache needs only sessions"},
	{folder: "sslstaple", imports: []string{"."}, why: "fetching an OCSP response needs only the engine and net/http"},
	{folder: "examples", imports: append([]string{"internal/keylogfile", "internal/testpki"}, public...), why: "examples use only the public packages, throw-away certificates and the flag -keylog"},
	{folder: "cmd/sslrelay", imports: []string{"internal/relay/command"}, why: "the relay itself is in a package that tests can import"},
	{folder: "cmd/sslfilter-enc", imports: append([]string{"internal/closedfd", "internal/private"}, public...), why: "the program uses only the public packages, its descriptors and the rule for files with secrets"},
	{folder: "cmd", imports: public, modules: true, why: "programs use only the public packages"},
	{folder: "internal/testpki", why: "examples import it, and it needs only the standard library"},
	{folder: "internal/keylogfile", imports: []string{"."}, why: "it opens a file of the engine"},
	{folder: "internal/bounded", why: "shortening a text needs only the standard library"},
	{folder: "internal/private", why: "the rule for files with secrets needs only the standard library"},
	{folder: "internal/faultnet", why: "a simulated network needs only bytes and time"},
	{folder: "internal/cut", modules: true, why: "closing a socket needs only system calls"},
	{folder: "internal/accept", why: "it accepts connections of any kind"},
	{folder: "internal/sessions", imports: []string{"."}, std: withoutNet, why: "a cache needs only sessions"},
	{folder: "internal/socket", why: "it reads sockets"},
	{folder: "internal/derive", why: "a semaphore needs nothing"},
	{folder: "internal/servernames", std: withoutNet, why: "names are texts"},
	{folder: "internal/refcount", why: "a counter needs nothing"},
	{folder: "internal/admission", why: "admission needs clocks and addresses, and nothing else"},
	{folder: "internal/relay/config", imports: []string{".", "internal/keylogfile", "internal/relay/protocol"}, modules: true, why: "a configuration is checked without a relay"},
	{folder: "internal/relay/protocol", std: withoutNet, why: "a protocol is bytes in and bytes out"},
	{folder: "internal/testkit", imports: []string{".", "internal/peers"}, modules: true, why: "the tests of every other package use it"},
	{folder: "internal", imports: append([]string{"internal"}, public...), modules: true, why: "helpers use only the public packages"},
	{folder: "interop", imports: append([]string{"internal"}, public...), why: "these tests run programs of other projects"},
}

func withoutNet(pkg string) bool {
	return pkg == "net/netip" || pkg != "net" && !strings.HasPrefix(pkg, "net/")
}

// layerOf returns the layer of a package, by its folder.
func layerOf(folder string) (layer, bool) {
	for _, l := range layers {
		if l.folder == folder || l.folder != "." && strings.HasPrefix(folder, l.folder+"/") {
			return l, true
		}
	}
	return layer{}, false
}

// allows returns the reason why a package in folder may not import pkg, or "".
func (l layer) allows(folder, pkg string) string {
	inside, ours := strings.CutPrefix(pkg, module)
	inside = strings.TrimPrefix(inside, "/")
	switch {
	case pkg == "C":
		return "" // checked by a test of its own
	case ours:
		if inside == "" {
			inside = "."
		}
		for _, ok := range append(l.imports, l.folder) { // a package may import its own parts
			if inside == ok || ok != "." && strings.HasPrefix(inside, ok+"/") {
				return ""
			}
		}
	case !strings.Contains(strings.Split(pkg, "/")[0], "."):
		if l.std == nil || l.std(pkg) {
			return ""
		}
	case l.modules, slices.Contains(l.other, pkg):
		return ""
	}
	return fmt.Sprintf("%s may not import %s: %s", folder, pkg, l.why)
}

// goFile is one parsed Go file.
type goFile struct {
	name, folder string
	test         bool
	*ast.File
}

func (s goFile) imported() (list []string) {
	for _, i := range s.Imports {
		pkg, _ := strconv.Unquote(i.Path.Value)
		list = append(list, pkg)
	}
	return list
}

// goFiles parses every Go file of this module, and lists all other files.
func goFiles(t *testing.T) (files *token.FileSet, list []goFile, others []string) {
	t.Helper()
	files = token.NewFileSet()
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			hidden := name != "." && strings.ContainsAny(entry.Name()[:1], "._")
			_, other := os.Stat(filepath.Join(name, "go.mod"))
			if hidden || name != "." && other == nil || entry.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		name = filepath.ToSlash(name)
		if path.Ext(name) != ".go" {
			others = append(others, name)
			return nil
		}
		parsed, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		list = append(list, goFile{name, path.Dir(name), strings.HasSuffix(name, "_test.go"), parsed})
		return err
	}))
	require.NotEmpty(t, list)
	return files, list, others
}

// TestLayering checks which packages import which, and which files use C.
func TestLayering(t *testing.T) {
	files, list, others := goFiles(t)
	var root []goFile
	for _, s := range list {
		if s.folder == "." {
			root = append(root, s)
		}
	}
	t.Run("imports", func(t *testing.T) {
		for _, s := range list {
			l, known := layerOf(s.folder)
			if !known {
				t.Errorf("%s: no layer has this folder; add it to layers", s.name)
			}
			for _, pkg := range s.imported() {
				if why := l.allows(s.folder, pkg); why != "" && !s.test {
					t.Errorf("%s: %s", s.name, why)
				}
				if !s.test && slices.Contains(testPackages, strings.TrimPrefix(pkg, module+"/")) {
					t.Errorf("%s: only tests may import %s", s.name, pkg)
				}
			}
		}
	})
	t.Run("imports of tests", func(t *testing.T) {
		for _, s := range list {
			if !s.test {
				continue
			}
			for _, pkg := range s.imported() {
				inside, ours := strings.CutPrefix(pkg, module+"/")
				other := path.Dir(s.folder)+"/" != path.Dir(inside)+"/" // the imported package belongs to another program
				for _, forbidden := range []string{"cmd", "examples", "interop", "bench"} {
					if ours && inside != s.folder && other && strings.HasPrefix(inside+"/", forbidden+"/") {
						t.Errorf("%s: no package may import %s", s.name, pkg)
					}
				}
				if (s.folder == "." || s.folder == "filter" || s.folder == "wheel") && strings.Contains(pkg, ".") &&
					!ours && pkg != module && pkg != "github.com/stretchr/testify/require" && s.name+" "+pkg != "hostile_floods_test.go golang.org/x/sys/unix" {
					t.Errorf("%s: the tests of this package may not import %s: the only exceptions are testify/require and a clock of the thread", s.name, pkg)
				}
			}
		}
	})
	t.Run("cgo files", func(t *testing.T) {
		var withC []string
		for _, s := range list {
			if slices.Contains(s.imported(), "C") {
				withC = append(withC, s.name)
			}
			if slices.Contains(s.imported(), "unsafe") && !slices.Contains(cgoFiles, s.name) && !slices.Contains(testCgoFiles, s.name) {
				t.Errorf("%s: only %v may import unsafe", s.name, cgoFiles)
			}
		}
		require.ElementsMatch(t, slices.Concat(cgoFiles, testCgoFiles, programCgoFiles), withC, `the files with import "C"`)
	})
	t.Run("options", func(t *testing.T) {
		outside := 0
		for _, s := range root {
			names := namesOf(s, "Options", "options", "opts")
			if !slices.Contains(cgoFiles, s.name) {
				outside += len(names)
				continue
			}
			for _, name := range names {
				t.Errorf("%v: %s: files with import \"C\" take values, and other files read Options", files.Position(name.Pos()), name.Name)
			}
		}
		require.Greater(t, outside, 100, "the search does not find Options")
	})
	t.Run("one crossing", func(t *testing.T) {
		for _, s := range root {
			text, err := os.ReadFile(s.name)
			require.NoError(t, err)
			for what, why := range map[string]string{
				"\n//export ":  "C may not call Go: it returns to Go for a decision",
				"LockOSThread": "an operation and its error are one call of C, on any thread",
			} {
				if !s.test && strings.Contains(string(text), what) {
					t.Errorf("%s has %s: %s", s.name, strings.TrimSpace(what), why)
				}
			}
		}
	})
	t.Run("C sources", func(t *testing.T) {
		var c []string
		for _, name := range others {
			if slices.Contains([]string{".c", ".h", ".cc", ".cpp", ".hpp", ".s", ".S", ".m", ".swig", ".syso"}, path.Ext(name)) {
				c = append(c, name)
			}
		}
		require.ElementsMatch(t, slices.Concat(cFiles, testCFiles, programCFiles), c)
	})
	t.Run("C types", func(t *testing.T) {
		inside, outside := usesOfC(files, root)
		require.Greater(t, inside, 50, "the search does not find C types in the cgo files")
		for _, use := range outside {
			t.Error(use)
		}
	})
}

// namesOf returns the uses of some names in a file.
func namesOf(s goFile, names ...string) (uses []*ast.Ident) {
	ast.Inspect(s.File, func(n ast.Node) bool {
		if name, ok := n.(*ast.Ident); ok && slices.Contains(names, name.Name) {
			uses = append(uses, name)
		}
		return true
	})
	return uses
}

// The name of a test of the root package begins with the topic of its file:
// TestCRLReadOnce is in crl_once_test.go.
func TestLayeringTestNames(t *testing.T) {
	_, list, _ := goFiles(t)
	checked := 0
	for _, s := range list {
		if s.folder != "." || !s.test {
			continue
		}
		topic, _, _ := strings.Cut(strings.TrimSuffix(s.name, "_test.go"), "_")
		topic = strings.TrimSuffix(topic, "s")
		for _, d := range s.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || f.Name.Name == "TestMain" {
				continue
			}
			if about, ok := strings.CutPrefix(f.Name.Name, "Test"); ok {
				checked++
				if !strings.HasPrefix(strings.ToLower(about), topic) {
					t.Errorf("%s has %s: its name must begin with the topic of the file", s.name, f.Name.Name)
				}
			}
		}
	}
	require.NotZero(t, checked)
}

// mentionsC reports whether a type or value contains C: C.int, *C.SSL, handle[*C.SSL_CTX], …
func mentionsC(node ast.Node) (found bool) {
	ast.Inspect(node, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "C" {
				found = true
			}
		}
		return !found
	})
	return found
}

// declaredWithC returns the functions, methods, fields and variables of a cgo file that
// have C in their type. No other file may use them.
func declaredWithC(s goFile) (names []*ast.Ident) {
	for _, d := range s.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if mentionsC(d.Type) {
				names = append(names, d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.VAR && mentionsC(v) {
					names = append(names, v.Names...)
				}
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if f, ok := n.(*ast.Field); ok && (mentionsC(f.Type) || isParameter(f.Type)) {
					names = append(names, f.Names...)
				}
				return true
			})
		}
	}
	return names
}

// isParameter reports whether a type is the type parameter of handle, which is a C pointer.
func isParameter(node ast.Expr) bool {
	name, ok := node.(*ast.Ident)
	return ok && name.Name == "P"
}

// usesOfC counts the uses of such names in the cgo files, and lists those in other files.
func usesOfC(files *token.FileSet, root []goFile) (inside int, outside []string) {
	var parsed []*ast.File
	for _, s := range root {
		if s.Name.Name == "sslfilter" { // including export_test.go
			parsed = append(parsed, s.File)
		}
	}
	info := &types.Info{Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{FakeImportC: true, Importer: noPackages{}, Error: func(error) {}} // only names of this package matter
	config.Check(module, files, parsed, info)
	withC, names := make(map[token.Pos]bool), make(map[string]bool)
	for _, s := range root {
		if slices.Contains(cgoFiles, s.name) {
			for _, name := range declaredWithC(s) {
				withC[name.Pos()], names[name.Name] = true, true
			}
		}
	}
	selected := make(map[*ast.Ident]bool)
	for _, file := range parsed {
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				selected[s.Sel] = true
			}
			name, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			object := info.Uses[name]
			unknown := object == nil && selected[name] && names[name.Name] // such as a field of handle[*C.SSL], which C hides
			switch at := files.Position(name.Pos()); {
			case !unknown && (object == nil || !withC[object.Pos()]):
			case slices.Contains(cgoFiles, at.Filename):
				inside++
			default:
				outside = append(outside, fmt.Sprintf("%v: %s has a C type: only %v may use it", at, name.Name, cgoFiles))
			}
			return true
		})
	}
	return inside, outside
}

// noPackages imports every package as an empty one.
type noPackages struct{}

func (noPackages) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

// The layers reject wrong imports.
func TestLayeringRefuses(t *testing.T) {
	for _, c := range []struct {
		folder, imported string
		refused          bool
	}{
		{".", "net", true},
		{".", "net/http", true},
		{".", "net/netip", false},
		{".", "golang.org/x/crypto/ocsp", true},
		{".", module + "/filter", true},
		{"filter", "net/http", false},
		{"filter", module, true},
		{"filter", "golang.org/x/net/http/httpguts", true},
		{"wheel", module + "/filter", false},
		{"wheel", module, true},
		{"sslnet", module, false},
		{"sslnet", module + "/filter", false},
		{"sslnet", module + "/wheel", true},
		{"sslhttp", module + "/sslnet", false},
		{"sslhttp", module + "/filter", true},
		{"sslhttp", "golang.org/x/net/idna", false},
		{"sslhttp", "golang.org/x/net/http2", true},
		{"sslnet", "golang.org/x/net/idna", true},
		{"cmd/sslrelay", module + "/internal/relay/command", false},
		{"cmd/sslrelay", "github.com/redis/go-redis/v9", true},
		{"cmd/sslrelay", module + "/internal/testpki", true},
		{"examples/clientcert", module + "/internal/testpki", false},
		{"examples/tcpserver", module + "/internal/relay", true},
		{"examples/tcpserver", module + "/cmd/sslrelay", true},
		{"internal/testpki", module, true},
		{"internal/relay/protocol", "net", true},
		{"internal/relay/config", module + "/internal/relay", true},
		{"internal/relay/protocol", module + "/internal/relay", true},
		{"internal/demo", module + "/examples/clientcert", true},
		{"interop", module + "/interop/oracle", false},
		{"interop", module + "/cmd/sslrelay", true},
		{"sslnet", module + "/bench", true},
	} {
		l, known := layerOf(c.folder)
		require.True(t, known)
		require.Equal(t, c.refused, l.allows(c.folder, c.imported) != "", "%s imports %s", c.folder, c.imported)
	}
}
