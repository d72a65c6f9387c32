package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
)

// Run is what a row was measured with.
type Run struct {
	OpenSSL string `json:"openssl"`
	Go      string `json:"go"`
	Machine string `json:"machine"`
}

// Results is one file of JSON: all rows that were measured with one series of
// OpenSSL. Run is the last run; rows of other runs say so.
type Results struct {
	Run
	Rounds   int               `json:"rounds"`
	Seconds  float64           `json:"seconds"`
	Versions map[string]string `json:"versions"`
	Left     map[string]string `json:"left_out,omitempty"`
	Rows     []*Result         `json:"rows"`
}

// row returns the row with this key, or nil.
func (r *Results) row(key string) *Result {
	for _, row := range r.Rows {
		if row.Key == key {
			return row
		}
	}
	return nil
}

// cell returns the cell with this name, or nil.
func (r *Results) cell(key, name string) *Cell {
	if row := r.row(key); row != nil {
		return row.cell(name)
	}
	return nil
}

// group returns the rows of a group.
func (r *Results) group(name string) (list []*Result) {
	for _, row := range r.Rows {
		if row.Group == name {
			list = append(list, row)
		}
	}
	return list
}

// series returns the series of a version: "3.0" for "OpenSSL 3.0.19 27 Jan
// 2026".
func (r *Results) series() string {
	short := cend.Short(r.OpenSSL)
	if i := strings.LastIndex(short, "."); i > 0 && !strings.HasPrefix(short, "1.") {
		return short[:i]
	}
	return strings.TrimRight(short, "abcdefghijklmnopqrstuvwxyz")
}

func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// print writes the table of a run.
func (r *Results) print(w io.Writer) {
	last := ""
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range r.Rows {
		if row.Group != last {
			last = row.Group
			fmt.Fprintf(t, "\n== %s\n", row.Group)
		}
		fmt.Fprintf(t, "%s (%s)\tmedian\tquartiles\t%s is faster by\tload %.1f\n", row.Title, row.Unit, row.Base, row.Load)
		for _, c := range row.Cells {
			switch {
			case c.Left != "":
				fmt.Fprintf(t, "  %s\t-\t\t\t%s\n", c.Name, c.Left)
			case row.Group == "calls":
				fmt.Fprintf(t, "  %s\t%g allocations, %g crossings\n", c.Name, c.Parts[0], c.Parts[1])
			default:
				times := ""
				if c.Ratio.Median > 0 {
					times = figure(1 / c.Ratio.Median)
				}
				fmt.Fprintf(t, "  %s\t%s\t%s - %s\t%s\t", c.Name, figure(c.Median), figure(c.Q1), figure(c.Q3), times)
				if len(c.Parts) == 4 {
					fmt.Fprintf(t, "KB: all %s, C %s, Go %s, resident %s", figure(c.Parts[0]), figure(c.Parts[1]), figure(c.Parts[2]), figure(c.Parts[3]))
				}
				fmt.Fprintln(t)
			}
		}
	}
	t.Flush()
	fmt.Fprintf(w, "\nVersions:\n")
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(w, "  %s: %s\n", name, r.Versions[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Left)) {
		fmt.Fprintf(w, "  %s is left out: %s\n", name, r.Left[name])
	}
	fmt.Fprintf(w, "\nTargets:\n")
	t = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, line := range targets(r) {
		fmt.Fprintln(t, "  "+strings.Join(line, "\t"))
	}
	t.Flush()
	fmt.Fprintf(w, "\n%.0f s\n", r.Seconds)
}

// readResults reads the results of a folder, by series.
func readResults(dir string) ([]*Results, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var list []*Results
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		r := new(Results)
		if err := json.Unmarshal(data, r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// write merges r into the folder's results of its series, and writes the plots and
// the document from all results of the folder.
func write(f *flags, r *Results) error {
	if r != nil {
		if err := r.save(f.out); err != nil {
			return err
		}
	}
	all, err := readResults(f.out)
	if err != nil {
		return err
	}
	for _, r := range all {
		for name, svg := range plots(r) {
			if err := os.WriteFile(filepath.Join(f.out, r.series()+"-"+name+".svg"), []byte(svg), 0o644); err != nil {
				return err
			}
		}
	}
	if f.doc == "" {
		return nil
	}
	return document(f.doc, f.out, all)
}

// save writes the file of r's series. Rows of the file that r does not have are kept,
// with the run that they are from.
func (r *Results) save(dir string) error {
	file := filepath.Join(dir, r.series()+".json")
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		old := new(Results)
		if err := json.Unmarshal(data, old); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		r.merge(old)
	}
	if data, err = json.MarshalIndent(r, "", "\t"); err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// merge keeps the rows of old that were not measured again, in the order of
// old. Versions of contenders that were not started, and the reasons of those that
// are left out, are kept too.
func (r *Results) merge(old *Results) {
	list := slices.Clone(old.Rows)
	for i, row := range list {
		if again := r.row(row.Key); again != nil {
			list[i] = again
			continue
		}
		if row.From == nil {
			row.From = &old.Run
		}
		if *row.From == r.Run {
			row.From = nil
		}
	}
	for _, row := range r.Rows {
		if old.row(row.Key) == nil {
			list = append(list, row)
		}
	}
	r.Rows = list
	if r.Versions == nil {
		r.Versions = make(map[string]string)
	}
	if r.Left == nil {
		r.Left = make(map[string]string)
	}
	for name, version := range old.Versions {
		if r.Versions[name] == "" {
			r.Versions[name] = version
		}
	}
	maps.DeleteFunc(r.Left, func(name, why string) bool { return why == notAskedFor && old.Left[name] == "" })
	for name, why := range old.Left {
		if _, known := r.Left[name]; !known && r.Versions[name] == "" {
			r.Left[name] = why
		}
	}
}

// runs returns the runs that rows are from, in the order of the rows, and the rows of
// each.
func (r *Results) runs(rows []*Result) (runs []Run, of map[Run][]*Result) {
	of = make(map[Run][]*Result)
	for _, row := range rows {
		run := r.Run
		if row.From != nil {
			run = *row.From
		}
		if of[run] == nil {
			runs = append(runs, run)
		}
		of[run] = append(of[run], row)
	}
	return runs, of
}
