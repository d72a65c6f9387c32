package config

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

var update = flag.Bool("update", false, "write the options into the manual page")

const manual = "../../../man/sslrelay.8"

// The manual page describes every flag with the text of -help.
func TestManualHasEveryFlag(t *testing.T) {
	testkit.Manual(t, manual, "go test ./internal/relay/config -run Manual -update", manOptions(), *update)
}

// mandoc reads the manual page without a warning.
func TestManualIsWellFormed(t *testing.T) {
	testkit.WellFormedManual(t, manual)
}

func manOptions() string {
	var b strings.Builder
	title := ""
	for _, o := range options {
		if o.title != title {
			if title != "" {
				b.WriteString(".El\n")
			}
			title = o.title
			fmt.Fprintf(&b, ".Ss %s\n.Bl -tag -width Ds\n", title)
		}
		b.WriteString(manOption(&o))
	}
	return b.String() + ".El\n"
}

func manOption(o *option) string {
	item := ".It Fl " + o.flag
	if open := strings.IndexByte(o.usage, '<'); open >= 0 {
		name, _, _ := strings.Cut(o.usage[open+1:], ">")
		item += " Ar " + name
	}
	text := strings.NewReplacer("<", "", ">", "", `\`, `\e`).Replace(o.usage)
	if d := o.preset + o.unset; d != "" {
		text += " (default: " + d + ")"
	}
	text = strings.ToUpper(text[:1]) + text[1:] + "."
	if table, key, in := strings.Cut(o.key, "."); in {
		text += "\nIn the file the key is\n.Cm " + key + "\nin the table\n.Cm [" + table + "] ."
	} else if o.key != o.flag {
		text += "\nIn the file the key is\n.Cm " + o.key + " ,\na table; the flag may be repeated."
	} else if o.field == "Conf" || o.field == "AllowClients" { // a value may have commas
		text += "\nIn the file it is a list; the flag may be repeated."
	} else if o.field == "Identities" {
		text += "\nIn the file it is a table; the flag may be repeated."
	} else if o.repeatable() {
		text += "\nIn the file it is a list; the flag may be repeated or contain commas."
	}
	return item + "\n" + strings.ReplaceAll(text, ". ", ".\n") + "\n"
}
