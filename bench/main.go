// Command bench measures the same work done by this library, by C over memory
// BIOs and over plain buffers, by crypto/tls, by another binding of OpenSSL and
// by the Perl original. They work in turns in a single run on one processor. It
// prints medians, quartiles and ratios of the processor time, and writes them
// as JSON, as plots and into docs/performance/measurements.md. Figures of
// different runs cannot be compared, because the machine is noisy. "bench
// choices" measures the cost of an operator's choices, and writes the summary in
// docs/performance.md too.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
)

// flags are the command-line flags.
type flags struct {
	pki, only, out, doc  string
	without              string
	rounds, cpu, holding int
	slice                time.Duration
	keep                 bool
}

func main() {
	var f flags
	flag.StringVar(&f.pki, "pki", "../testdata/pki", "folder with the test certificates")
	flag.IntVar(&f.rounds, "rounds", 11, "rounds; each contender works once in each")
	flag.DurationVar(&f.slice, "slice", 100*time.Millisecond, "processor time of one contender in one round")
	flag.StringVar(&f.only, "only", "", "groups or rows, with commas between them, and no others: handshake, message, burst, setup, crl, cipher, compat, settings, variants, calls, memory, growth, sockets")
	flag.StringVar(&f.without, "without", "", "subjects that are left out, with commas between them")
	flag.IntVar(&f.holding, "connections", 2000, "connections that are held to measure their memory")
	flag.IntVar(&f.cpu, "cpu", runtime.NumCPU()-1, "processor to work on")
	flag.StringVar(&f.out, "out", "", "folder for JSON and plots; rows that are not measured stay as they were")
	flag.StringVar(&f.doc, "doc", "", "document whose marked parts are rewritten, from everything in -out; with choices, from this run")
	flag.BoolVar(&f.keep, "write-only", false, "measure nothing: only write plots and document from what is in -out")
	flag.Parse()
	if err := run(&f, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(f *flags, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "subject":
		return answer(f.pki, args[1])
	case len(args) == 3 && args[0] == "serve":
		return serve(f.pki, args[1], args[2])
	case len(args) == 3 && args[0] == "visit":
		return visit(f.pki, args[1], args[2])
	case len(args) == 1 && args[0] == "choices":
		return measureChoices(f)
	case len(args) > 0:
		return errors.New("unknown arguments; choices is the only one")
	}
	var r *Results
	if !f.keep {
		var err error
		if r, err = measureAll(f); err != nil {
			return err
		}
	}
	if f.out == "" {
		return nil
	}
	return write(f, r)
}

// answer runs this program as a subject.
func answer(pki, name string) error {
	var s subject.Subject
	switch name {
	case engineName, singleName, plainName, plainSingleName:
		s = engineSubject(pki)
	case connName:
		s = connSubject(pki)
	case cMemName:
		s = inC(pki, 0)
	case cFlatName:
		s = inC(pki, cend.Flat)
	case goName:
		s = goSubject(pki)
	default:
		return errors.New("no such subject: " + name)
	}
	return subject.Serve(s)
}

// notAskedFor is the reason why a contender in -without is left out.
const notAskedFor = "not asked for"

// wants reports whether a row is to be measured.
func (f *flags) wants(key, group string) bool {
	if f.only == "" {
		return true
	}
	for _, want := range strings.Split(f.only, ",") {
		if want == group || strings.HasPrefix(key, want) {
			return true
		}
	}
	return false
}

func measureAll(f *flags) (*Results, error) {
	runtime.LockOSThread() // the children inherit the processor of this thread
	s, err := newSite(f.pki)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := cend.Pin(f.cpu); err != nil {
		return nil, err
	}
	r := &runner{rounds: f.rounds, slice: f.slice, open: s.openers(), subjects: make(map[string]subject.Subject),
		left: make(map[string]string), versions: make(map[string]string)}
	defer r.close()
	for name := range strings.SplitSeq(f.without, ",") {
		if name != "" {
			r.left[name] = notAskedFor
		}
	}
	start := time.Now()
	res := &Results{
		Run: Run{cend.OpenSSL(), runtime.Version(), machine()}, Rounds: f.rounds,
		Versions: r.versions, Left: r.left,
	}
	fmt.Printf("%s, %s, %s; load %.1f\n%d rounds in turns on processor %d, TLS 1.3, X25519, AES-128-GCM\n",
		res.OpenSSL, res.Go, res.Machine, load(), f.rounds, f.cpu)
	warm := false
	for _, w := range rows(s.crl, f.holding) {
		if !f.wants(w.key, w.group) {
			continue
		}
		if !warm && !w.fresh { // new processes are slow at first, some more than others
			if _, err := r.measure(&w); err != nil {
				return nil, err
			}
		}
		warm = true
		progress("%4.0f s  %s: %s", time.Since(start).Seconds(), w.group, w.title)
		got, err := r.measure(&w)
		if err != nil {
			return nil, err
		}
		res.Rows = append(res.Rows, got)
	}
	if f.wants("calls", "calls") {
		got, err := r.counts()
		if err != nil {
			return nil, err
		}
		res.Rows = append(res.Rows, got...)
	}
	if f.wants("sockets", "sockets") {
		progress("%4.0f s  over sockets", time.Since(start).Seconds())
		got, versions, err := s.overSockets(f, r.left)
		if err != nil {
			return nil, err
		}
		res.Rows = append(res.Rows, got...)
		for name, v := range versions {
			res.Versions[name] = v
		}
	}
	if len(res.Rows) == 0 {
		return nil, fmt.Errorf("-only %s selects nothing", f.only)
	}
	res.Seconds = time.Since(start).Seconds()
	res.print(os.Stdout)
	return res, nil
}
