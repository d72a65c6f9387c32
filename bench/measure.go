package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
)

// contender is one column of a row: a kind of work for a subject.
type contender struct {
	name    string // of the column
	subject string
	kind    string
	arg     string
	every   int // takes part only in rounds whose number is a multiple of this; 0 means in all
}

// doing returns a contender that takes part in all rounds.
func doing(name, subject, kind, arg string) contender {
	return contender{name: name, subject: subject, kind: kind, arg: arg}
}

// row is one kind of work, done by all contenders in turns. The ratios are to
// the contender base.
type row struct {
	key, group, title string
	pieces            float64 // messages in one piece of work: more than 1 for bursts
	base              string
	fixed             int  // pieces in one round; 0 means as many as fit into the slice
	fresh             bool // each contender gets its own process
	most              int  // the number of rounds, if it is lower than usual
	clock             bool // seconds become µs; otherwise bytes become KB
	contenders        []contender
}

// Stat is the median and the quartiles of the rounds.
type Stat struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
}

// Cell is the result of one contender.
type Cell struct {
	Name  string    `json:"name"`
	Stat            // µs, KB, or what the row's unit says
	Ratio Stat      `json:"ratio"`           // base divided by this one, round by round: below 1 the base is faster
	Parts []float64 `json:"parts,omitempty"` // for memory: all, C, Go, resident, in KB
	Left  string    `json:"left,omitempty"`  // the reason why it is left out
}

// Result is a row that was measured.
type Result struct {
	Key    string  `json:"key"`
	Group  string  `json:"group"`
	Title  string  `json:"title"`
	Unit   string  `json:"unit"`
	Base   string  `json:"base,omitempty"`
	When   string  `json:"when"`
	Load   float64 `json:"load"` // load of the machine at the end of the row
	Rounds int     `json:"rounds,omitempty"`
	From   *Run    `json:"from,omitempty"` // nil means the Run of the file
	Cells  []*Cell `json:"cells"`
}

// cell returns the cell of a contender, or nil if it was left out.
func (r *Result) cell(name string) *Cell {
	for _, c := range r.Cells {
		if c.Name == name && c.Left == "" {
			return c
		}
	}
	return nil
}

func stat(values []float64) Stat {
	s := slices.Clone(values)
	slices.Sort(s)
	at := func(q float64) float64 {
		pos := q * float64(len(s)-1)
		low := int(math.Floor(pos))
		high := min(low+1, len(s)-1)
		return s[low] + (s[high]-s[low])*(pos-float64(low))
	}
	if len(s) == 0 {
		return Stat{}
	}
	return Stat{rounded(at(.5)), rounded(at(.25)), rounded(at(.75))}
}

// rounded rounds v to five digits: more would only make the files larger.
func rounded(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 4-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// lifetime is the number of rounds that a process works. The memory layout of a
// process changes its speed by a few per cent, so the figures must not come
// from a single process.
const lifetime = 2

// runner has the subjects and measures rows.
type runner struct {
	rounds   int
	slice    time.Duration // processor time of one contender in one round
	open     map[string]func() (subject.Subject, error)
	subjects map[string]subject.Subject
	left     map[string]string // subjects that are not available
	versions map[string]string // of the subjects that were started
}

// get starts a subject, once.
func (r *runner) get(name string) (subject.Subject, error) {
	if why, known := r.left[name]; known {
		return nil, subject.Cannot(why)
	}
	if s := r.subjects[name]; s != nil {
		return s, nil
	}
	s, err := r.open[name]()
	if err != nil {
		r.left[name] = err.Error()
		progress("%s is left out: %v", name, err)
		return nil, subject.Cannot(err.Error())
	}
	r.subjects[name] = s
	r.versions[name] = s.Version()
	return s, nil
}

// close ends the processes of the subjects.
func (r *runner) close() {
	for name, s := range r.subjects {
		if c, ok := s.(*subject.Child); ok {
			c.Close()
		}
		delete(r.subjects, name)
	}
}

// run does n pieces of a contender's work.
func (r *runner) run(w *row, c contender, n int) ([]float64, error) {
	if !w.fresh {
		s, err := r.get(c.subject)
		if err != nil {
			return nil, err
		}
		return s.Run(c.kind, c.arg, n)
	}
	if why, known := r.left[c.subject]; known {
		return nil, subject.Cannot(why)
	}
	s, err := r.open[c.subject]()
	if err != nil {
		r.left[c.subject] = err.Error()
		return nil, subject.Cannot(err.Error())
	}
	if child, ok := s.(*subject.Child); ok {
		defer child.Close()
	}
	return s.Run(c.kind, c.arg, n)
}

// pieces returns the number of pieces that fill a slice.
func (r *runner) pieces(w *row, c contender) (int, error) {
	if w.fixed > 0 {
		if c.subject == perlName && w.fresh {
			return max(1, w.fixed/10), nil
		}
		return w.fixed, nil
	}
	if c.subject == speedName { // it works for a second, whatever the number is
		_, err := r.get(c.subject)
		return 1, err
	}
	if _, err := r.run(w, c, 1); err != nil { // does the work that is done only once
		return 0, err
	}
	n := 1
	for {
		spent, err := r.run(w, c, n)
		if err != nil {
			return 0, err
		}
		switch t := time.Duration(spent[0] * 1e9); {
		case t >= r.slice || n >= 1<<20:
			return n, nil
		case t > r.slice/20:
			return max(n, int(float64(n)*float64(r.slice)/float64(t))), nil
		}
		n *= 8
	}
}

// measure lets the contenders of a row work in turns.
func (r *runner) measure(w *row) (*Result, error) {
	res := &Result{Key: w.key, Group: w.group, Title: w.title, Unit: "KB", Base: w.base, When: time.Now().UTC().Format("2006-01-02 15:04")}
	scale := 1 / 1024.
	if w.clock {
		res.Unit, scale = "µs", 1e6
	}
	rounds := r.rounds
	if w.most > 0 {
		rounds = min(rounds, w.most)
	}
	res.Rounds = rounds
	counts := make([]int, len(w.contenders))
	values := make([]map[int]float64, len(w.contenders)) // by round
	for i, c := range w.contenders {
		cell := &Cell{Name: c.name}
		values[i] = make(map[int]float64)
		res.Cells = append(res.Cells, cell)
		n, err := r.pieces(w, c)
		if errors.Is(err, subject.ErrCannot) {
			cell.Left = strings.TrimPrefix(strings.TrimPrefix(err.Error(), subject.ErrCannot.Error()), ": ")
			if cell.Left == "" {
				cell.Left = "has no such thing"
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", w.title, c.name, err)
		}
		counts[i] = n
	}
	order := rand.New(rand.NewPCG(1, 2)) // the order changes in each round, but is the same in every run
	for round := range rounds {
		if round > 0 && round%lifetime == 0 {
			r.close()
		}
		for _, i := range order.Perm(len(w.contenders)) {
			c := w.contenders[i]
			if res.Cells[i].Left != "" || c.every > 0 && round%c.every != 0 {
				continue
			}
			got, err := r.run(w, c, counts[i])
			if errors.Is(err, subject.ErrCannot) && w.fresh {
				res.Cells[i].Left = "has no such thing"
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", w.title, c.name, err)
			}
			each := scale
			memory := got
			if w.clock {
				each /= float64(counts[i]) * w.pieces
				memory = got[1:]
			}
			values[i][round] = got[0] * each
			res.Cells[i].Parts = nil
			for _, v := range memory {
				res.Cells[i].Parts = append(res.Cells[i].Parts, rounded(v/1024))
			}
		}
	}
	base := slices.IndexFunc(w.contenders, func(c contender) bool { return c.name == w.base })
	for i, cell := range res.Cells {
		if cell.Left != "" {
			continue
		}
		cell.Stat = stat(slices.Collect(maps.Values(values[i])))
		if base >= 0 {
			var ratios []float64
			for round, v := range values[i] {
				if b, both := values[base][round]; both {
					ratios = append(ratios, b/v)
				}
			}
			cell.Ratio = stat(ratios)
		}
	}
	res.Load = load()
	return res, nil
}

func load() float64 {
	var l float64
	data, _ := os.ReadFile("/proc/loadavg")
	fmt.Sscan(string(data), &l)
	return l
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
