package sslfilter_test

// Options and methods that the documents name exist, and are complete.

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// source is what the root package declares.
type source struct {
	options []string            // the fields of Options, in order
	types   map[string]string   // their types
	funcs   []string            // exported functions
	methods map[string][]string // exported methods by receiver
}

func readSource(t testing.TB) *source {
	t.Helper()
	s := &source{types: make(map[string]string), methods: make(map[string][]string)}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			s.read(file)
		}
	}
	require.NotEmpty(t, s.options)
	return s
}

func (s *source) read(file *ast.File) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			s.readFunc(d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if fields, ok := spec.Type.(*ast.StructType); ok && spec.Name.Name == "Options" {
						s.readOptions(fields)
					}
				}
			}
		}
	}
}

func (s *source) readFunc(d *ast.FuncDecl) {
	if !d.Name.IsExported() {
		return
	}
	if d.Recv == nil {
		s.funcs = append(s.funcs, d.Name.Name)
		return
	}
	receiver := strings.TrimPrefix(types.ExprString(d.Recv.List[0].Type), "*")
	s.methods[receiver] = append(s.methods[receiver], d.Name.Name)
}

func (s *source) readOptions(fields *ast.StructType) {
	for _, f := range fields.Fields.List {
		for _, name := range f.Names {
			s.options = append(s.options, name.Name)
			s.types[name.Name] = types.ExprString(f.Type)
		}
	}
}

// The man page of POE::Filter::SSL 0.41: options of new, methods, the list of
// internal names at its end, and what errorhandler takes and hands out. Those
// internal names that POE calls stand under "Methods".
var (
	manOptions = strings.Fields(`client crt crtmem key keymem cacrt cacrtmem caverifydepth chain cacrl dhcert dhcertmem clientcert
		sni tls tls1_2 nohonor cipher blockbadclientcert ignoreVerifyErrors errorhandler debug`)
	manMethods = strings.Fields(`new handshakeDone clientCertNotOnCRL clientCertIds getCipher clientCertValid doHandshake
		clientCertExists hexdump clone get get_one get_one_start get_pending put`)
	manInternal = strings.Fields(`VERIFY POE_FILTER_X509_get_serialNumber POE_FILTER_SSL_CTX_set_tmp_dh
		POE_FILTER_SSL_CTX_set_tmp_rsa POE_FILTER_SSL_set_tmp_dh doSSL writeToSSLBIO writeToSSL
		verify_serial_against_crl_file DOSENDBACK checkForDoSendback CTX_add_client_CA PEMdataToEVP_PKEY PEMdataToX509 dataToBio`)
	manHandlers = strings.Fields(`"ignore" CODE "carp" "confess" "carponetime"`)
	manHash     = strings.Fields(`ret ssl msg get_error error`)
)

// bare is a name without arguments: "handshakeDone(ignorebuf => 1)" is handshakeDone.
func bare(name string) string {
	name, _, _ = strings.Cut(name, "(")
	return name
}

// firstSpans are the names in the first cells of a section's tables.
func firstSpans(p *page, section string) (names []string) {
	for _, cells := range p.rows(section) {
		for _, s := range spans(cells[0]) {
			names = append(names, bare(s))
		}
	}
	return names
}

func TestDocsPerlNames(t *testing.T) {
	p := readPage(t, "docs/perl-migration.md")
	for section, want := range map[string][]string{
		"Options of new()":               manOptions,
		"Methods":                        append(slices.Clone(manMethods), "DESTROY"),
		"Internal names on the man page": manInternal,
		"Error handlers":                 append(slices.Clone(manHandlers), manHash...),
	} {
		got := firstSpans(p, section)
		for _, name := range want {
			require.Contains(t, got, name, "%q of %s has no line for it", section, p.path)
		}
		for _, name := range got {
			require.Contains(t, want, name, "%q of %s names what the man page does not have", section, p.path)
		}
	}
}

// Each option has one line in the migration table, and each name there is an option.
func TestDocsPerlOptions(t *testing.T) {
	src, p := readSource(t), readPage(t, "docs/perl-migration.md")
	var named []string
	for _, cells := range p.rows("Options of new()") {
		named = append(named, spans(cells[1])...)
	}
	named = append(named, firstSpans(p, "Options that the original lacks")...)
	slices.Sort(named)
	require.Equal(t, slices.Sorted(slices.Values(src.options)), named, "the options in %s", p.path)
}

var methodName = regexp.MustCompile(`(\(\*\w+\)\.)?\b[A-Z]\w*`) // (*Ctx).Close, HandshakeDone

// Each exported method of Filter and Ctx and each function has a line in the
// migration table, and each name there exists.
func TestDocsPerlMethods(t *testing.T) {
	src, p := readSource(t), readPage(t, "docs/perl-migration.md")
	var named []string
	for _, cells := range p.rows("Methods") {
		named = append(named, spans(cells[1])...)
	}
	for _, cells := range p.rows("Methods that the original lacks") {
		named = append(named, spans(cells[0])...)
	}
	for _, cells := range p.rows("Error handlers") {
		named = append(named, spans(cells[1])...)
	}
	calls := methodName.FindAllString(strings.Join(named, " "), -1)
	want := slices.Concat(src.funcs, src.methods["Filter"])
	for _, name := range src.methods["Ctx"] {
		want = append(want, "(*Ctx)."+name)
	}
	for _, name := range want {
		require.Contains(t, calls, name, "%s has no line for it", p.path)
	}
	exist := append(want, "Filter", "Error", "(*Error).Code", "(*Error).Records", "Code")
	for _, name := range calls {
		require.Contains(t, exist, name, "%s names what does not exist", p.path)
	}
}

var optionFacts = regexp.MustCompile("^Type ((?:`[^`]+`(?:, )?)+); zero value: .+\\. Original: ((?:`[^`]+`(?:, )?)+; default: .+|none)\\.$")

// docs/options.md has one section for each option, in the order of Options,
// with its type.
func TestDocsOptions(t *testing.T) {
	src, p := readSource(t), readPage(t, "docs/options.md")
	var named, original []string
	for i, l := range p.lines {
		if l.heading != 3 {
			continue
		}
		names := spans(l.text)
		named = append(named, names...)
		facts := p.lines[min(i+2, len(p.lines)-1)].text
		m := optionFacts.FindStringSubmatch(facts)
		require.NotNil(t, m, "%s: the second line below must be: Type `T`; zero value: what it means. Original: `name`; default: D.", p.at(l))
		kinds := spans(m[1])
		require.Len(t, kinds, len(names), "%s", p.at(l))
		for j, name := range names {
			require.Equal(t, src.types[name], kinds[j], "%s: the type of %s", p.at(l), name)
		}
		list, _, _ := strings.Cut(m[2], ";")
		original = append(original, spans(list)...)
	}
	require.Equal(t, src.options, named)
	slices.Sort(original)
	require.Equal(t, slices.Sorted(slices.Values(manOptions)), original)
}

var identifier = regexp.MustCompile(`^[A-Za-z_]\w*(\.\w+)*$`)

// members has the fields and methods of the types of this repository, and the
// exported names of its packages, by the name of the type or package. Types with
// the same name are one entry.
type members map[string]map[string]bool

func (m members) add(of, name string) {
	if m[of] == nil {
		m[of] = make(map[string]bool)
	}
	m[of][name] = true
}

func (m members) readGo(file *ast.File) {
	pkg := file.Name.Name
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			of := pkg
			if d.Recv != nil {
				of, _, _ = strings.Cut(strings.TrimPrefix(types.ExprString(d.Recv.List[0].Type), "*"), "[")
			}
			m.add(of, d.Name.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						m.add(pkg, name.Name)
					}
				case *ast.TypeSpec:
					m.add(pkg, spec.Name.Name)
					m.readType(spec)
				}
			}
		}
	}
}

func (m members) readType(spec *ast.TypeSpec) {
	var fields *ast.FieldList
	switch kind := spec.Type.(type) {
	case *ast.StructType:
		fields = kind.Fields
	case *ast.InterfaceType:
		fields = kind.Methods
	default:
		return
	}
	for _, f := range fields.List {
		for _, name := range f.Names {
			m.add(spec.Name.Name, name.Name)
		}
	}
}

var (
	cStruct = regexp.MustCompile(`(?ms)^(?:typedef )?struct (\w+) \{\n(.*?)^\}`)
	cField  = regexp.MustCompile(`(\w+)(\[[^\]]*\])?[,;]`)
)

func (m members) readC(text string) {
	for _, s := range cStruct.FindAllStringSubmatch(text, -1) {
		for _, f := range cField.FindAllStringSubmatch(s[2], -1) {
			m.add(s[1], f[1])
		}
	}
}

// missing returns the part of a name like Filter.lists that does not exist, or "". A
// part that belongs to no type and no package of this repository is not checked.
func (m members) missing(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts[1:] {
		if of := m[parts[i]]; of != nil && !of[part] {
			return parts[i] + "." + part
		}
	}
	return ""
}

// Identifiers and files that ARCHITECTURE.md and docs/internals name exist in the
// source.
func TestDocsIdentifiers(t *testing.T) {
	words, files, all := make(map[string]bool), make(map[string]bool), make(members)
	word := regexp.MustCompile(`[A-Za-z_]\w*`)
	for _, suffix := range []string{".go", ".c", ".h", "go.mod"} {
		walk(t, suffix, func(file string) {
			files[path.Base(file)] = true
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, w := range word.FindAllString(string(data), -1) {
				words[w] = true
			}
			switch {
			case suffix == ".h" || suffix == ".c":
				all.readC(string(data))
			case suffix == ".go" && !strings.HasSuffix(file, "_test.go"):
				parsed, err := parser.ParseFile(token.NewFileSet(), file, data, parser.SkipObjectResolution)
				require.NoError(t, err)
				all.readGo(parsed)
			}
		})
	}
	for _, name := range []string{"Filter.crl", "sslnet.Filter", "fssl_conn.crl", "sslnet.Conn.Nothing"} {
		require.NotEmpty(t, all.missing(name), name)
	}
	pages := []string{"ARCHITECTURE.md"}
	walk(t, ".md", func(file string) {
		if strings.HasPrefix(file, "docs/internals/") {
			pages = append(pages, file)
		}
	})
	checked := 0
	for _, file := range pages {
		p := readPage(t, file)
		for _, l := range p.lines {
			for _, span := range spans(l.text) {
				name := span[strings.LastIndex(span, ".")+1:]
				switch {
				case l.fence != "" || !identifier.MatchString(span):
				case strings.HasPrefix(span, "SSL_"), span == "openssl.cnf": // of OpenSSL, and not in this repository
				case path.Ext(span) == ".go" || path.Ext(span) == ".c" || path.Ext(span) == ".h":
					require.True(t, files[span], "%s: there is no file %s", p.at(l), span)
					checked++
				default:
					require.True(t, words[name], "%s: nothing is named %s", p.at(l), span)
					require.Empty(t, all.missing(span), "%s: %s does not exist", p.at(l), span)
					checked++
				}
			}
		}
	}
	require.NotZero(t, checked)
}
