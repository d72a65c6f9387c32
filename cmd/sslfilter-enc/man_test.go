package main

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

var update = flag.Bool("update", false, "write the options into the manual page")

const manual = "../../man/sslfilter-enc.1"

// The manual page describes every flag with the text of -help.
func TestManualHasEveryFlag(t *testing.T) {
	var options strings.Builder
	new(settings).flags().VisitAll(func(f *flag.Flag) {
		argument, text := flag.UnquoteUsage(f)
		if argument != "" {
			argument = " Ar " + argument
		}
		fmt.Fprintf(&options, ".It Fl %s%s\n%s.\n", f.Name, argument, strings.ToUpper(text[:1])+text[1:])
	})
	testkit.Manual(t, manual, "go test ./cmd/sslfilter-enc -run Manual -update", ".Bl -tag -width Ds\n"+options.String()+".El\n", *update)
}

// mandoc reads the manual page without a warning.
func TestManualIsWellFormed(t *testing.T) {
	testkit.WellFormedManual(t, manual)
}
