package live_test

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/seed-014b8713/sslfilter"
)

var tableFile = flag.String("interop-table", "", "write the tables into this document")

const serverUnknown = "server's CA unknown"

// scratch is a folder that outlives the single tests.
var scratch string

// document is what the run has to tell.
var document = &book{rows: map[string]*row{}}

type book struct {
	mu   sync.Mutex
	rows map[string]*row
}

type row struct {
	mu    sync.Mutex
	cells map[string]string
}

func (b *book) peer(p *peer, version string) {}

func (b *book) row(p *peer, direction string, version sslfilter.Version) *row {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := p.name + "|" + direction + "|" + version.String()
	r := &row{cells: map[string]string{}}
	b.rows[k] = r
	return r
}

func (r *row) set(column, value string) { r.cells[column] = value }
func (r *row) cipher(name string)       { r.cells["cipher"] = name }

func (b *book) finish(t *testing.T) {
	for k, r := range b.rows {
		fmt.Println(k, r.cells)
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if scratch, err = os.MkdirTemp("", "interop-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}
