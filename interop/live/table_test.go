package live_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

var tableFile = flag.String("interop-table", "", "write the tables of this run into this document")

// documentFile is the document with which the run is compared otherwise.
var documentFile = filepath.Join("..", "..", "docs", "interop.md")

// serverUnknown is the column for clients that do not trust the server.
const serverUnknown = "server's CA unknown"

// scratch is a folder that exists until all tests are done.
var scratch string

// TestMain writes the tables, or compares them with the committed ones.
func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if scratch, err = os.MkdirTemp("", "interop-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	if code == 0 {
		if err := document.finish(); err != nil {
			fmt.Println("FAIL:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// document has the results of the run.
var document = &book{peers: map[string]string{}, rows: map[string]*row{}, extras: map[string]string{}, abilities: map[string]string{}}

type book struct {
	mu     sync.Mutex
	peers  map[string]string // lines by name
	rows   map[string]*row   // by their first three cells
	extras map[string]string // results of single features and scans
	// abilities has the cells of the tables of abilities, by abilityKey and version.
	abilities map[string]string
}

// row is one line of the table: a peer in one direction with one version of TLS.
type row struct {
	key   string
	cells map[string]string
}

// peer records the version of a peer.
func (b *book) peer(name, debian, version string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peers[name] = fmt.Sprintf("| %s | %s | %s |", name, version, debian)
}

func rowKey(name, direction string, version sslfilter.Version) string {
	direction = map[string]string{"client": "its client, our server", "server": "its server, our client"}[direction]
	return fmt.Sprintf("| %s | %s | %s |", name, direction, strings.TrimPrefix(version.String(), "TLSv"))
}

func (b *book) row(p *peer, direction string, version sslfilter.Version) *row {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &row{key: rowKey(p.name, direction, version), cells: map[string]string{}}
	b.rows[r.key] = r
	return r
}

// extra records the result of a feature with a peer.
func (b *book) extra(feature, peer, result string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.extras[fmt.Sprintf("| %s | %s |", feature, peer)] = result
}

// ability records the cell of an ability for one version.
func (b *book) ability(direction string, a ability, p *peer, version sslfilter.Version, cell string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.abilities[abilityKey(direction, a, p)+version.String()] = cell
}

func abilityKey(direction string, a ability, p *peer) string {
	return direction + "/" + a.name + "/" + p.name + "/"
}

// abilityTable returns the lines of the table of one direction. whole is false if a cell
// is missing, since only some of the tests were run.
func (b *book) abilityTable(direction string) (lines []string, whole bool) {
	columns, whole := abilityPeers(direction), true
	head, rule := "| ability |", "|---|"
	for _, p := range columns {
		head, rule = head+" "+p.name+" |", rule+"---|"
	}
	lines = []string{head, rule}
	for _, a := range abilities[direction] {
		line := abilityRow(a)
		for _, p := range columns {
			var cells []string
			for _, v := range a.versions {
				cell := b.abilities[abilityKey(direction, a, p)+v.String()]
				whole = whole && cell != ""
				cells = append(cells, cell)
			}
			if len(slices.Compact(slices.Clone(cells))) > 1 {
				for i, v := range a.versions {
					cells[i] = strings.TrimPrefix(v.String(), "TLSv") + ": " + cells[i]
				}
			} else {
				cells = cells[:1]
			}
			line += " " + strings.Join(cells, "; ") + " |"
		}
		lines = append(lines, line)
	}
	return lines, whole
}

var abilityTitles = map[string]string{"client": "Abilities: its client and our server", "server": "Abilities: its server and our client"}

func abilityRow(a ability) string { return "| " + a.name + " |" }

func (r *row) set(column, value string) { r.cells[column] = value }
func (r *row) cipher(name string)       { r.cells["cipher"] = name }

func columns() (list []string) {
	list = []string{"cipher"}
	for _, id := range identities {
		list = append(list, id.name)
	}
	return append(list, serverUnknown)
}

// whole reports whether every column is filled. That is not so if only some of the
// tests were run.
func (r *row) whole() bool {
	return !slices.ContainsFunc(columns(), func(c string) bool { return r.cells[c] == "" })
}

func (r *row) line() string {
	line := r.key
	for _, c := range columns() {
		line += " " + r.cells[c] + " |"
	}
	return line
}

// The tables are between these lines of the document.
const (
	tablesBegin = "<!-- made by make interop: begin -->\n"
	tablesEnd   = "<!-- made by make interop: end -->\n"
)

// finish writes the lines of this run, or compares them with those in the document.
// They can differ if another OpenSSL is linked in. Then finish does not compare them,
// and only TestDocumentHasEveryRow checks that every peer has its lines.
func (b *book) finish() error {
	if *tableFile != "" {
		return b.write(*tableFile)
	}
	data, err := os.ReadFile(documentFile)
	if err != nil || !strings.Contains(string(data), "our "+series()) {
		return err
	}
	text := withoutCipher(string(data))
	for _, line := range b.lines() {
		if !strings.Contains(text, withoutCipher(line)+"\n") {
			return fmt.Errorf("%s has no line\n%s\nmake interop rewrites it; read the diff", documentFile, line)
		}
	}
	return nil
}

// lines returns the lines that do not depend on the versions of the peers.
func (b *book) lines() (list []string) {
	for _, r := range b.rows {
		if r.whole() {
			list = append(list, r.line())
		}
	}
	for key, result := range b.extras {
		list = append(list, key+" "+result+" |")
	}
	for direction := range abilities {
		if lines, whole := b.abilityTable(direction); whole {
			list = append(list, lines...)
		}
	}
	return list
}

var cipherCell = regexp.MustCompile(`(?m)^(\| [^|]+ \| [^|]+ \| 1\.\d \|) \S+ \|`)

// withoutCipher removes the suites, because some peers choose them by the abilities of
// the processor.
func withoutCipher(lines string) string { return cipherCell.ReplaceAllString(lines, "$1") }

// series returns the version of the OpenSSL that is linked in, without the last number.
func series() string {
	return regexp.MustCompile(`^OpenSSL \d+\.\d+`).FindString(sslfilter.OpenSSLVersion())
}

func (b *book) write(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(data), tablesBegin)
	_, behind, ended := strings.Cut(rest, tablesEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the tables", file)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s%sWritten on %s with our %s (%s).\n", before, tablesBegin, time.Now().UTC().Format(time.DateOnly), series(), sslfilter.OpenSSLVersion())
	fmt.Fprintf(&out, "\n### Peers\n\n| peer | version | Debian package |\n|---|---|---|\n")
	for _, p := range slices.SortedFunc(maps.Keys(b.peers), order) {
		fmt.Fprintln(&out, b.peers[p])
	}
	fmt.Fprintf(&out, "\n### Certificates\n\n| peer | direction | TLS | %s |\n|---|---|---|%s\n", strings.Join(columns(), " | "), strings.Repeat("---|", len(columns())))
	for _, key := range slices.SortedFunc(maps.Keys(b.rows), order) {
		fmt.Fprintln(&out, b.rows[key].line())
	}
	for _, direction := range []string{"client", "server"} {
		lines, whole := b.abilityTable(direction)
		if !whole {
			return fmt.Errorf("a cell of the abilities is missing:\n%s", strings.Join(lines, "\n"))
		}
		fmt.Fprintf(&out, "\n### %s\n\n%s\n", abilityTitles[direction], strings.Join(lines, "\n"))
	}
	fmt.Fprintf(&out, "\n### Features and scanners\n\n| what | peer | result |\n|---|---|---|\n")
	for _, key := range slices.Sorted(maps.Keys(b.extras)) {
		fmt.Fprintf(&out, "%s %s |\n", key, b.extras[key])
	}
	out.WriteString(tablesEnd + behind)
	return os.WriteFile(file, out.Bytes(), 0o644)
}

// order sorts peers, and rows by peer, as allPeers has them.
func order(a, b string) int {
	place := func(s string) int {
		return slices.IndexFunc(allPeers(), func(p *peer) bool { return s == p.name || strings.HasPrefix(s, "| "+p.name+" |") })
	}
	if n := place(a) - place(b); n != 0 {
		return n
	}
	return strings.Compare(a, b)
}

// The document has exactly the peers and the rows of a run for which all peers are
// installed.
func TestDocumentHasEveryRow(t *testing.T) {
	if *tableFile != "" {
		t.Skip("it is being written")
	}
	data, err := os.ReadFile(documentFile)
	require.NoError(t, err)
	_, tables, found := strings.Cut(string(data), tablesBegin)
	require.True(t, found)
	tables, _, _ = strings.Cut(tables, tablesEnd)
	section := func(title string) (lines []string) {
		_, text, found := strings.Cut(tables, "### "+title+"\n")
		require.True(t, found, title)
		text, _, _ = strings.Cut(text, "\n### ")
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "| ") && !strings.Contains(line, "| peer |") && !strings.HasPrefix(line, "| ability |") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return lines
	}
	requireKeys := func(title string, cells int, want []string) {
		var have []string
		for _, line := range section(title) {
			have = append(have, strings.Join(strings.SplitN(line, " | ", cells+1)[:cells], " | ")+" |")
		}
		require.ElementsMatch(t, want, have, "%s of %s: make interop rewrites them", title, documentFile)
	}
	var names, rows []string
	for _, p := range allPeers() {
		names = append(names, "| "+p.name+" |")
		for _, v := range tlsVersions {
			if p.client != nil {
				rows = append(rows, rowKey(p.name, "client", v))
			}
			if p.server != nil {
				rows = append(rows, rowKey(p.name, "server", v))
			}
		}
	}
	for _, e := range extraPeers {
		names = append(names, "| "+e+" |")
	}
	requireKeys("Peers", 1, names)
	requireKeys("Certificates", 3, rows)
	for direction, list := range abilities {
		var wanted []string
		for _, a := range list {
			wanted = append(wanted, abilityRow(a))
		}
		requireKeys(abilityTitles[direction], 1, wanted)
	}
	var wanted []string
	for _, e := range extras {
		wanted = append(wanted, fmt.Sprintf("| %s | %s |", e[0], e[1]))
	}
	requireKeys("Features and scanners", 2, wanted)
}
