package openssl_test

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every exported name of the old module exists with the same type, fields, methods
// and, if it is a number, value, and there are no others. scripts/compat.sh sets the
// folder of the old module.
func TestSurface(t *testing.T) {
	old := os.Getenv("COMPAT_OLD_MODULE")
	if old == "" {
		t.Skip("COMPAT_OLD_MODULE is not set: scripts/compat.sh does that")
	}
	for _, folder := range []string{".", "utils"} {
		want, got := surface(t, filepath.Join(old, folder)), surface(t, folder)
		if len(want) < 10 && folder == "." {
			t.Fatalf("%s has only %d names", folder, len(want))
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			switch {
			case got[name] == "":
				t.Errorf("%s is missing: %s", name, want[name])
			case got[name] != want[name]:
				t.Errorf("%s:\n got %s\nwant %s", name, got[name], want[name])
			}
		}
		for name := range got {
			if want[name] == "" {
				t.Errorf("%s is new", name)
			}
		}
		t.Logf("%s: %d names", folder, len(want))
	}
}

// surface describes all exported names of a package: "Conn.Read" is a method or a
// field. C types are the same unknown type in both.
func surface(t *testing.T, folder string) map[string]string {
	t.Helper()
	pkg, err := build.Default.ImportDir(folder, 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range append(pkg.GoFiles, pkg.CgoFiles...) {
		f, err := parser.ParseFile(fset, filepath.Join(folder, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	config := types.Config{FakeImportC: true, Importer: importer.ForCompiler(fset, "gc", nil), Error: func(error) {}}
	checked, _ := config.Check("openssl", fset, files, nil) // dependencies are missing, but not in an exported name
	list := make(map[string]string)
	for _, name := range checked.Scope().Names() {
		o := checked.Scope().Lookup(name)
		if !o.Exported() {
			continue
		}
		switch o := o.(type) {
		case *types.Const:
			list[name] = "const " + o.Type().String() + " = " + o.Val().String()
			if o.Val().String() == "unknown" {
				list[name] = "const " + o.Type().String()
			}
		case *types.Var:
			list[name] = "var " + text(o.Type())
		case *types.Func:
			list[name] = text(o.Type())
		case *types.TypeName:
			describe(list, o)
		}
	}
	return list
}

// describe adds a type with its fields and methods.
func describe(list map[string]string, o *types.TypeName) {
	name := o.Name()
	switch u := o.Type().Underlying().(type) {
	case *types.Struct:
		list[name] = "struct"
		for f := range u.Fields() {
			if f.Exported() {
				list[name+"."+f.Name()] = fmt.Sprintf("field %s embedded=%v", text(f.Type()), f.Embedded())
			}
		}
	case *types.Interface:
		list[name] = "interface"
	default:
		list[name] = text(u)
	}
	set := types.NewMethodSet(types.NewPointer(o.Type()))
	if types.IsInterface(o.Type()) {
		set = types.NewMethodSet(o.Type())
	}
	for m := range set.Methods() {
		if m.Obj().Exported() {
			list[name+"."+m.Obj().Name()] = text(m.Obj().Type())
		}
	}
}

// text is a type without the names of parameters.
func text(t types.Type) string {
	switch t := t.(type) {
	case *types.Signature:
		var in, out []string
		for v := range t.Params().Variables() {
			in = append(in, text(v.Type()))
		}
		for v := range t.Results().Variables() {
			out = append(out, text(v.Type()))
		}
		return fmt.Sprintf("func(%s) (%s) variadic=%v", strings.Join(in, ", "), strings.Join(out, ", "), t.Variadic())
	case *types.Pointer:
		return "*" + text(t.Elem())
	case *types.Slice:
		return "[]" + text(t.Elem())
	}
	return strings.ReplaceAll(t.String(), "interface {}", "any")
}
