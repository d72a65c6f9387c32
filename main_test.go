package sslfilter_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

var update = flag.Bool("update", false, "write the golden files of the OpenSSL that is linked in")

// leakDeadline is how long the garbage collector may take to run all cleanups.
const leakDeadline = 10 * time.Second

// TestMain also fails if C objects remain after all tests, or if the error queue of any
// thread is not empty.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(childEnv) == "" {
		fmt.Println("linked with", sslfilter.OpenSSLVersion())
	}
	code := m.Run()
	if threads, dirty := errorQueues(); dirty != 0 && code == 0 {
		fmt.Printf("FAIL: of %d threads, %d have an error queue that is not empty\n", threads, dirty)
		code = 1
	}
	if left := leaked(); left != 0 && code == 0 {
		fmt.Printf("FAIL: %d C objects were never freed\n", left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the number of C objects that remain after all cleanups have run.
func leaked() int64 {
	sslfilter.ForgetCRLs()
	for end := time.Now().Add(leakDeadline); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		left := sslfilter.LiveHandles()
		if left == 0 || time.Now().After(end) {
			return left
		}
	}
}

// Packed numbers of the OpenSSL versions in which its behaviour changed.
const (
	openssl30 = 0x30000000
	openssl32 = 0x30200000
	openssl35 = 0x30500000
	openssl36 = 0x30600000
	openssl40 = 0x40000000
)

// since reports whether the OpenSSL that is linked in is at least version.
func since(version uint64) bool { return sslfilter.OpenSSLNumber() >= version }

// notFIPS lists what the FIPS provider does not support, with the reasons. A test, or a row
// of one, is skipped under it only for one of these.
var notFIPS = map[string]string{
	"CHACHA20":     "ChaCha20-Poly1305 is not approved",
	"NULL":         "the module has no NULL cipher",
	"CAMELLIA":     "Camellia is not approved",
	"X25519":       "X25519 is not approved (SP 800-56A names no such curve)",
	"X448":         "X448 is not approved (SP 800-56A names no such curve)",
	"TLSv1":        "TLS 1.0 needs MD5",
	"TLSv1.1":      "TLS 1.1 needs MD5",
	"MD5":          "MD5 is not approved",
	"RSA-1024":     "the module does not sign with RSA keys below 2048 bits (SP 800-131A)",
	"brainpool":    "brainpool curves are not approved",
	"own DH":       "the module accepts only the safe primes of RFC 7919 and RFC 3526 (SP 800-56A)",
	"process-wide": "the configuration of the process must not activate the FIPS provider",
}

// served reports whether all of these keys of notFIPS are supported, which is so except under
// the FIPS provider. There it logs the reason.
func served(t testing.TB, keys ...string) bool {
	t.Helper()
	for _, key := range keys {
		if reason, known := notFIPS[key]; known && sslfilter.FIPSEnabled() {
			t.Logf("not under FIPS: %s: %s", key, reason)
			return false
		}
	}
	return true
}

// needsUnserved skips a test under the FIPS provider that needs this key of notFIPS.
func needsUnserved(t testing.TB, key string) {
	t.Helper()
	require.Contains(t, notFIPS, key)
	if sslfilter.FIPSEnabled() {
		t.Skipf("not under FIPS: %s: %s", key, notFIPS[key])
	}
}

// opensslName returns the version in the names of golden files, such as "3.0".
func opensslName() string {
	n := sslfilter.OpenSSLNumber()
	if !since(openssl30) { // 0xMNNFFPPS
		return fmt.Sprintf("%d.%d.%d", n>>28, n>>20&0xff, n>>12&0xff)
	}
	return fmt.Sprintf("%d.%d", n>>28, n>>20&0xff)
}

// golden compares got with testdata/golden/TOPIC-VERSION.json, or writes the file with
// -update. Under FIPS it uses TOPIC-VERSION-fips.json if it exists; -update writes it if the
// results differ. The files belong to Debian's builds. Without a file for the linked
// version, the test is skipped, and fails in CI.
func golden[T any](t *testing.T, topic string, got map[string]T) {
	t.Helper()
	file := filepath.Join("testdata", "golden", topic+"-"+opensslName()+".json")
	if plain, err := os.ReadFile(file); sslfilter.FIPSEnabled() {
		fips := strings.TrimSuffix(file, ".json") + "-fips.json"
		var want map[string]T
		if *update && err == nil && json.Unmarshal(plain, &want) == nil && reflect.DeepEqual(want, got) {
			if err := os.Remove(fips); !os.IsNotExist(err) {
				require.NoError(t, err)
			}
			return
		}
		if _, err := os.Stat(fips); err == nil || *update {
			file = fips
		}
	}
	if *update {
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		require.NoError(t, enc.Encode(got))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, text.Bytes(), 0o644))
		return
	}
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) && os.Getenv("CI") == "" {
		t.Skipf("no golden file for %s: run go test -run %s -update . and read the diff", sslfilter.OpenSSLVersion(), t.Name())
	}
	require.NoError(t, err)
	var want map[string]T
	require.NoError(t, json.Unmarshal(data, &want))
	for name := range want {
		_, there := got[name]
		require.True(t, there, "%s has a case %q, and the test has not", file, name)
	}
	for name, have := range got {
		_, there := want[name]
		require.True(t, there, "%s does not have the case %q", file, name)
		require.Equal(t, want[name], have, "%s: %s", file, name)
	}
}

const childEnv = "SSLFILTER_TEST_CHILD"

// emulatorEnv is the command that runs a program of another processor. It is set if this
// process runs in an emulator: the kernel does not start its child in one.
const emulatorEnv = "SSLFILTER_EMULATOR"

// inChild runs the calling test again in a process of its own, without a terminal and with
// this standard input. It reports whether this is the child, and returns the output of the
// child to the parent.
func inChild(t *testing.T, stdin string, env ...string) (child bool, output string) {
	t.Helper()
	if name := os.Getenv(childEnv); name == t.Name() {
		return true, ""
	} else if name != "" {
		t.Fatalf("the child for %s must not start another for %s", name, t.Name()) // otherwise it would recurse
	}
	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	argv := append(strings.Fields(os.Getenv(emulatorEnv)), os.Args[0], "-test.run="+pattern, "-test.v", "-test.count=1")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), childEnv+"="+t.Name()), env...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
	return false, string(out)
}
