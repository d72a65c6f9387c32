// Package keylogfile opens the file of a key log as the relay and the examples do: by
// its name, or by an environment variable if "env:" and the name of that are given.
package keylogfile

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/seed-014b8713/sslfilter"
)

// Open opens a file with sslfilter.OpenKeyLog. For "env:SSLKEYLOGFILE", it is the file
// that this environment variable names.
func Open(file string) (*os.File, error) {
	if name, ok := strings.CutPrefix(file, "env:"); ok {
		if file = os.Getenv(name); file == "" {
			return nil, fmt.Errorf("the environment variable %s is not set", name)
		}
	}
	return sslfilter.OpenKeyLog(file)
}

// Flag defines the flag -keylog, which opens a file and sets log to it. A warning goes
// to standard error.
func Flag(flags *flag.FlagSet, log *io.Writer) {
	flags.Func("keylog", "`file` to which the secrets of all connections are appended, for Wireshark, or env:SSLKEYLOGFILE for the file that this variable names; only for debugging", func(file string) error {
		f, err := Open(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "warning: anyone who can read %s can decrypt the connections\n", f.Name())
		*log = f
		return nil
	})
}
