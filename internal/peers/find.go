package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// SkipWithout skips a test whose peer is not installed. CI names the packages
// that it installs in SSLFILTER_REQUIRE, and there a missing one is a failure.
func SkipWithout(t testing.TB, debianPackage, what string) {
	t.Helper()
	SkipUnless(t, debianPackage, what, "apt-get install "+debianPackage)
}

// SkipUnless is SkipWithout for something that is not in a package. remedy says how to
// install it.
func SkipUnless(t testing.TB, required, what, remedy string) {
	t.Helper()
	for name := range strings.FieldsSeq(os.Getenv("SSLFILTER_REQUIRE")) {
		if name == required {
			t.Fatalf("%s is missing, and SSLFILTER_REQUIRE names %s", what, required)
		}
	}
	t.Skipf("%s is missing: %s", what, remedy)
}

// Find looks for a program of a package. If it is not installed, the test is
// skipped.
//
// A test that needs more than the program, such as a module or a feature that
// may be absent, gives the arguments of a trial: the program runs with them once,
// and the test is skipped if that fails.
func Find(t testing.TB, debianPackage, name string, trial ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		SkipWithout(t, debianPackage, name)
	}
	if len(trial) > 0 {
		if err := try(path, trial); err != nil {
			SkipWithout(t, debianPackage, fmt.Sprintf("a part of %s (%v)", name, err))
		}
	}
	return path
}

// FindOpenSSL returns the openssl command of a series such as "3.5": one that
// scripts/mkssl.sh has built, or the command of the system. It is for packages two
// folders below the root of the module. If there is none, the test is skipped.
func FindOpenSSL(t testing.TB, series string) string {
	t.Helper()
	dir := os.Getenv("SSLFILTER_OPENSSL")
	if dir == "" {
		dir = filepath.Join("..", "..", ".openssl")
	}
	private, err := filepath.Abs(filepath.Join(dir, series, "openssl"))
	require.NoError(t, err)
	if _, err := os.Stat(private); err == nil {
		return private
	}
	if system, err := exec.LookPath("openssl"); err == nil {
		if out, _ := exec.Command(system, "version").Output(); strings.HasPrefix(string(out), "OpenSSL "+series) {
			return system
		}
	}
	SkipUnless(t, "openssl-"+series, "openssl "+series, "scripts/mkssl.sh .openssl "+series)
	return ""
}

// FindDaemon is Find for a program that Debian installs in /usr/sbin, which is not in
// the PATH of every user.
func FindDaemon(t testing.TB, debianPackage, name string) string {
	t.Helper()
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	return Find(t, debianPackage, name)
}

// loading matches the lines of a script that load modules, by its extension.
var loading = map[string]struct {
	lines *regexp.Regexp
	flags []string // run what follows
}{
	".pl":  {regexp.MustCompile(`(?m)^use .*$`), []string{"-e"}},
	".py":  {regexp.MustCompile(`(?m)^(?:import|from) .*$`), []string{"-c"}},
	".mjs": {regexp.MustCompile(`(?m)^import .*$`), []string{"--input-type=module", "-e"}},
}

// FindFor is Find for an interpreter that runs a script: the trial loads the
// modules that the script loads. The language follows from the extension.
func FindFor(t testing.TB, script, debianPackage, name string) string {
	t.Helper()
	if filepath.Ext(script) == ".java" { // Java compiles it first, which a runtime alone cannot
		return Find(t, debianPackage, name, "--add-modules", "jdk.compiler", "-version")
	}
	language, known := loading[filepath.Ext(script)]
	require.True(t, known, script)
	text, err := os.ReadFile(script)
	require.NoError(t, err)
	lines := language.lines.FindAllString(string(text), -1)
	require.NotEmpty(t, lines, script)
	return Find(t, debianPackage, name, append(language.flags, strings.Join(lines, "\n"))...)
}

// FindCurl is Find for a curl that knows the protocols, the versions of HTTP and
// the versions of TLS in its arguments.
func FindCurl(t testing.TB, args ...string) string {
	t.Helper()
	trial := []string{"--proto-default", "https"}
	for _, arg := range args {
		if scheme, _, isURL := strings.Cut(arg, "://"); isURL {
			trial = append(trial, "--proto-default", scheme)
		}
		if strings.HasPrefix(arg, "--http") || strings.HasPrefix(arg, "--tlsv") {
			trial = append(trial, arg)
		}
	}
	return Find(t, "curl", "curl", append(trial, "--version")...)
}

// trials has the results of all trials: a func() error for each command.
var trials sync.Map

// complaint matches the line in which an interpreter or curl reports what is missing.
var complaint = regexp.MustCompile(`(?m)^.*(?:Can't|Error|unsupported|support).*$`)

const maxReason = 160 // bytes; Perl appends all its folders

// try runs a program, once in the life of this process.
func try(path string, args []string) error {
	once, _ := trials.LoadOrStore(fmt.Sprintf("%q %q", path, args), sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env = ForeignEnv()
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			reason := complaint.Find(out)
			return fmt.Errorf("%w: %s", err, reason[:min(len(reason), maxReason)])
		}
		return nil
	}))
	return once.(func() error)()
}

// ForeignEnv returns the environment without the settings for the OpenSSL of this
// library. A program of another project may use another OpenSSL.
func ForeignEnv() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OPENSSL_") && !strings.HasPrefix(v, "LD_") && !strings.HasPrefix(v, "ASAN_") {
			env = append(env, v)
		}
	}
	return env
}
