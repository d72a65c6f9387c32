package relay

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

var update = flag.Bool("update", false, "write the options into the manual page")

const (
	manual   = "../../man/sslrelay.8"
	manBegin = ".\\\" The options are made by: go test ./internal/relay -run Manual -update\n"
	manEnd   = ".\\\" End of the options.\n"
)

func contents(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return data
}

func write(t *testing.T, file string, data []byte) string {
	t.Helper()
	require.NoError(t, os.WriteFile(file, data, 0o644))
	return file
}

// The manual page has every flag, with the words of -help.
func TestManualHasEveryFlag(t *testing.T) {
	page := string(contents(t, manual))
	head, rest, ok := strings.Cut(page, manBegin)
	require.True(t, ok)
	_, tail, ok := strings.Cut(rest, manEnd)
	require.True(t, ok)
	want := head + manBegin + manOptions() + manEnd + tail
	if *update {
		write(t, manual, []byte(want))
	}
	require.Equal(t, want, string(contents(t, manual)), "go test ./internal/relay -run Manual -update")
}

// The manual page is what mandoc and man read without a warning.
func TestManualIsWellFormed(t *testing.T) {
	out, err := exec.Command(peers.Find(t, "mandoc", "mandoc"), "-T", "lint", "-W", "warning", manual).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func manOptions() string {
	var b strings.Builder
	section := func(title string, types ...reflect.Type) {
		fmt.Fprintf(&b, ".Ss %s\n.Bl -tag -width Ds\n", title)
		for _, t := range types {
			for i := range t.NumField() {
				if f := t.Field(i); !f.Anonymous && f.Tag.Get("usage") != "" {
					b.WriteString(manOption(f))
				}
			}
		}
		b.WriteString(".El\n")
	}
	section("The whole program", reflect.TypeFor[Config]())
	section("A relay", reflect.TypeFor[Relay]())
	section("TLS with clients", reflect.TypeFor[ServerTLS]())
	section("TLS with backends", reflect.TypeFor[BackendTLS]())
	section("Before the login", reflect.TypeFor[FrontEnd]())
	section("Mode http", reflect.TypeFor[HTTP]())
	section("Limits of a connection", reflect.TypeFor[Limits]())
	return b.String()
}

func manOption(f reflect.StructField) string {
	usage := f.Tag.Get("usage")
	item := ".It Fl " + flagName(f)
	if open := strings.IndexByte(usage, '<'); open >= 0 {
		name, _, _ := strings.Cut(usage[open+1:], ">")
		item += " Ar " + name
	}
	text := strings.NewReplacer("<", "", ">", "", `\`, `\e`).Replace(usage)
	if d := f.Tag.Get("default"); d != "" {
		text += " (default: " + d + ")"
	}
	text = strings.ToUpper(text[:1]) + text[1:] + "."
	if key := f.Tag.Get("toml"); key != flagName(f) {
		text += "\nIn the file the key is\n.Cm " + key + " ,\na table; the flag may be repeated."
	} else if f.Type.Kind() == reflect.Slice {
		text += "\nIn the file it is a list; the flag may be repeated or have commas."
	}
	return item + "\n" + strings.ReplaceAll(text, ". ", ".\n") + "\n"
}
