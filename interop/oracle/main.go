// Oracle runs cases that were recorded with the original POE::Filter::SSL, with
// two filters and no sockets, and prints the result of each.
//
//	go run ./interop/oracle [-compare] -pki DIR cases.jsonl ...
//
// It prints one JSON line for each case: {"name", "server": {...}, "client": {...}}. A
// case that it cannot run is printed as {"name", "unsupported": "why"}.
//
// With -compare it prints the disagreements with the expectations instead, one on each
// line, and a summary. The exit status is then 1 if there are any. The expectations
// are those of OpenSSL 3.0, without exceptions. The test of this package has the list
// of the differences that are right.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run does the work of main, and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("oracle", flag.ContinueOnError)
	flags.SetOutput(stderr)
	pki := flags.String("pki", "testdata/pki", "`folder` of the files that cases name with @ and <")
	compare := flags.Bool("compare", false, "print disagreements with the expectations and a summary")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: oracle [-compare] [-pki DIR] cases.jsonl ...")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return 2
	}
	var sum tally
	for _, path := range flags.Args() {
		cases, err := ReadCases(path)
		if err != nil {
			fmt.Fprintln(stderr, "oracle:", err)
			return 2
		}
		for _, c := range cases {
			r := Run(c, PKI(*pki))
			if *compare {
				sum.add(stdout, c, r)
			} else {
				fmt.Fprintf(stdout, "%s\n", encode(r))
			}
		}
	}
	if *compare {
		fmt.Fprintln(stdout, sum)
		if sum.disagree > 0 {
			return 1
		}
	}
	return 0
}

// tally counts the cases.
type tally struct{ cases, agree, disagree, unsupported int }

func (t *tally) add(w io.Writer, c *Case, r Result) {
	t.cases++
	if r.Unsupported != "" {
		t.unsupported++
		return
	}
	wrong := Compare(c, r)
	for _, line := range wrong {
		fmt.Fprintf(w, "%s: %s\n", c.Name, line)
	}
	if len(wrong) > 0 {
		t.disagree++
	} else {
		t.agree++
	}
}

func (t tally) String() string {
	return fmt.Sprintf("%d cases: %d agree, %d disagree, %d unsupported", t.cases, t.agree, t.disagree, t.unsupported)
}
