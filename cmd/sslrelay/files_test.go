package main_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// join returns the contents of files of the test PKI, one after the other.
func join(t *testing.T, names ...string) []byte {
	t.Helper()
	var all []byte
	for _, name := range names {
		data, err := os.ReadFile(testkit.AbsPKI(name))
		require.NoError(t, err)
		all = append(all, data...)
	}
	return all
}

// -check shows the certificates that the library has loaded. It includes
// the first one of a file with a byte order mark, which other parsers miss.
func TestCheckAndCountersTellWhatIsServed(t *testing.T) {
	marked := append([]byte("\ufeff"), join(t, "server-inter.crt", "inter.crt")...)
	crt := testkit.TempFile(t, "crt.pem", marked)
	args := []string{"-listen", "127.0.0.1:0", "-backend", "127.0.0.1:1", "-crt", crt, "-key", testkit.AbsPKI("server-inter.key")}
	out, err := exec.Command(program, append([]string{"-check"}, args...)...).CombinedOutput()
	if strings.HasPrefix(sslfilter.OpenSSLVersion(), "OpenSSL 1.1.1") {
		require.Error(t, err, "%s", out)
		t.Skip("OpenSSL 1.1.1 does not accept a byte order mark")
	}
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `crt 1 +\S+crt.pem\n +subject +CN=localhost`, string(out))
	require.Regexp(t, `crt 2 +sent after it\n +subject +CN=Oracle Intermediate CA`, string(out))
	require.NotContains(t, string(out), "crt 3")

	r := startRelay(t, nil, append(args, "-counters", "127.0.0.1:0")...)
	served := dialTLS(t, r.addrs[0]).ConnectionState().PeerCertificates
	require.Len(t, served, 2)
	require.Equal(t, served[0].NotAfter.Unix(), notAfter(t, r))

	// -check shows a CRL with a byte order mark too.
	list := testkit.TempFile(t, "list.pem", []byte(string(append([]byte("\ufeff"), join(t, "crl.pem")...))))
	out, err = exec.Command(program, "-check", "-listen", "127.0.0.1:0", "-backend", "127.0.0.1:1", "-crt", testkit.AbsPKI("server.crt"), "-key", testkit.AbsPKI("server.key"),
		"-cacrt", testkit.AbsPKI("root.crt"), "-requirevalidclientcert", "-cacrl", list).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "1 serials")
	require.NotContains(t, string(out), "rejects every client")
}

// notAfter returns the counter certificate_not_after.
func notAfter(t *testing.T, r *relay) int64 {
	t.Helper()
	url := regexp.MustCompile(`address=(http://\S+/debug/vars)`).FindStringSubmatch(r.log.String())
	require.NotNil(t, url)
	answer, err := http.Get(url[1])
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	m := regexp.MustCompile(`"certificate_not_after": (\d+)`).FindSubmatch(body)
	require.NotNil(t, m, "%s", body)
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	require.NoError(t, err)
	return n
}

// pipeOf returns the read end of a pipe with these bytes in it.
func pipeOf(t *testing.T, data []byte) *os.File {
	t.Helper()
	out, in, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { out.Close() })
	go func() {
		in.Write(data)
		in.Close()
	}()
	return out
}

// A certificate can come from a pipe, such as <(cat server.crt) in a shell, which can
// be read only once.
func TestACertificateFromAPipe(t *testing.T) {
	cert, err := tls.LoadX509KeyPair(testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"))
	require.NoError(t, err)
	args := []string{"-listen", "127.0.0.1:0", "-backend", "127.0.0.1:1", "-crt", "/dev/fd/3", "-key", "/dev/fd/4", "-cacrt", "/dev/fd/5", "-clientcert"}
	pipes := func() []*os.File {
		return []*os.File{pipeOf(t, join(t, "server.crt")), pipeOf(t, join(t, "server.key")), pipeOf(t, join(t, "root.crt"))}
	}
	check := exec.Command(program, append([]string{"-check"}, args...)...)
	check.ExtraFiles = pipes()
	out, err := check.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `crt 1 +/dev/fd/3\n +subject +CN=localhost`, string(out))
	require.Regexp(t, `cacrt 1 +/dev/fd/5\n +subject +CN=Oracle Root CA`, string(out))

	r := startRelayWith(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = pipes() }, append(args, "-counters", "127.0.0.1:0")...)
	r.ready()
	require.Equal(t, cert.Leaf.NotAfter.Unix(), notAfter(t, r))
}

// fifo makes a named pipe. reached waits until a program reads from it, and blocks that
// program until the file is closed, at the latest when the test ends.
func fifo(t *testing.T) (path string, reached func(*relay) *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	return path, func(r *relay) *os.File {
		t.Helper()
		for end := time.Now().Add(testkit.Patience); ; time.Sleep(2 * time.Millisecond) {
			f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if err == nil { // ENXIO without a reader
				t.Cleanup(func() { f.Close() })
				return f
			}
			if time.Now().After(end) {
				require.FailNow(t, "nobody reads the named pipe", r.log.String())
			}
		}
	}
}

func TestSIGTERMEndsAStartThatWaitsForAFile(t *testing.T) {
	crt, reached := fifo(t)
	r := startRelayWith(t, nil, "-listen", "127.0.0.1:0", "-backend", "127.0.0.1:1", "-crt", crt, "-key", testkit.AbsPKI("server.key"))
	reached(r)
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP)) // it is handled after the start, and does not end the program
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, r.wait())
	require.NotContains(t, r.log.String(), "msg=ready")
}

// A reload that waits for a file delays neither connections nor signals.
func TestSignalsDuringAReload(t *testing.T) {
	dir := t.TempDir()
	crt := filepath.Join(dir, "server.crt")
	require.NoError(t, os.WriteFile(crt, join(t, "server.crt"), 0o600))
	r := startRelay(t, nil, "-listen", "127.0.0.1:0", "-backend", testkit.Serve(t, testkit.Listen(t), testkit.Echo), "-crt", crt, "-key", testkit.AbsPKI("server.key"))
	pipe, reached := fifo(t)
	require.NoError(t, os.Rename(pipe, crt))
	require.NoError(t, os.Symlink(crt, pipe)) // reached opens this path
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
	reached(r)
	kept := dialTLS(t, r.addrs[0])
	testkit.Exchange(t, kept, "hello")
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	r.logs("msg=\"shutting down\"")
	testkit.Exchange(t, kept, "hello")
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, r.wait())
}

// A second SIGHUP during a reload causes another reload afterwards, since the files may
// have changed in between.
func TestAReloadThatWaitedIsFollowedByTheNext(t *testing.T) {
	users, reached := fifo(t)
	config := testkit.TempFile(t, "relay.toml", []byte(""))
	text := func(more string) {
		t.Helper()
		require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf("[[relay]]\nmode = \"imap\"\nlisten = [\"plain:127.0.0.1:0\"]\nbackend = \"127.0.0.1:1\"\n%s\n", more)), 0o600))
	}
	text("")
	r := startRelay(t, nil, "-config", config)
	text(fmt.Sprintf("users-file = %q", users))
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
	f := reached(r)
	text("nonsense = 1")
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
	_, err := f.WriteString("joe 127.0.0.1:1\n")
	require.NoError(t, err)
	require.NotContains(t, r.log.String(), "reload")
	require.NoError(t, f.Close())
	r.logs(`unknown key \"relay.nonsense\"`)
	require.Contains(t, r.log.String(), "msg=reloaded\n")
}

// Files with CRLs have to be regular files. The relay says so instead of waiting
// for the other end of a pipe.
func TestListsAreRegularFiles(t *testing.T) {
	pipe, _ := fifo(t)
	for _, c := range []struct {
		list []string
		want string
	}{
		{[]string{"-cacrl", pipe}, "not a regular file"},
		{[]string{"-crlcheck", "leaf", "-crlfiles", pipe}, "not a regular file"},
		{[]string{"-cacrl", t.TempDir()}, "is a directory"},
	} {
		for _, check := range []string{"-check=true", "-check=false"} {
			args := append([]string{check, "-listen", "127.0.0.1:0", "-backend", "127.0.0.1:1", "-crt", testkit.AbsPKI("server.crt"), "-key", testkit.AbsPKI("server.key"),
				"-cacrt", testkit.AbsPKI("root.crt"), "-requirevalidclientcert"}, c.list...)
			var out bytes.Buffer
			cmd := exec.Command(program, args...)
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.Run()
			require.Equal(t, 1, cmd.ProcessState.ExitCode(), "%v: %s", args, out.String())
			require.Contains(t, out.String(), c.want, "%v", args)
		}
	}
}
