package main_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/child"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sslrelay-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "sslrelay")
		if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}())
}

// relay is a running program.
type relay struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   testkit.Log
	addrs []string
	done  chan error
}

// startRelay runs the program with these arguments until the test ends.
func startRelay(t *testing.T, env []string, args ...string) *relay {
	t.Helper()
	r := startRelayWith(t, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), env...) }, args...)
	r.ready()
	return r
}

// startRelayWith is startRelay, but does not wait until the program is ready.
func startRelayWith(t *testing.T, prepare func(*exec.Cmd), args ...string) *relay {
	t.Helper()
	r := &relay{t: t, cmd: exec.Command(program, args...), done: make(chan error, 1)}
	if prepare != nil {
		prepare(r.cmd)
	}
	r.cmd.Stderr = &r.log
	require.NoError(t, child.Start(r.cmd))
	go func() { r.done <- r.cmd.Wait() }()
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

// ready waits until the program is ready, and finds its addresses.
func (r *relay) ready() {
	r.t.Helper()
	r.logs("msg=ready")
	for _, m := range regexp.MustCompile(`address=(?:tls|starttls|plain):(127\.0\.0\.1:\d+)`).FindAllStringSubmatch(r.log.String(), -1) {
		r.addrs = append(r.addrs, m[1])
	}
}

// logs waits until the program has logged text.
func (r *relay) logs(text string) {
	r.t.Helper()
	for end := time.Now().Add(testkit.Patience); !strings.Contains(r.log.String(), text); time.Sleep(2 * time.Millisecond) {
		select {
		case err := <-r.done:
			require.FailNow(r.t, "the relay ended", "%v\n%s", err, r.log.String())
		default:
		}
		if time.Now().After(end) {
			require.FailNow(r.t, "not logged: "+text, r.log.String())
		}
	}
}

// wait returns the exit status of the program.
func (r *relay) wait() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(testkit.Patience):
		require.FailNow(r.t, "the relay did not end", r.log.String())
		return nil
	}
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func dialTLS(t *testing.T, addr string) *tls.Conn {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: testkit.Patience}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// The program starts, reloads on SIGHUP, serves its counters and stops on SIGTERM. It
// notifies systemd of each step.
func TestSignals(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	defer systemd.Close()
	hears := func(want string) {
		t.Helper()
		systemd.SetReadDeadline(time.Now().Add(testkit.Patience))
		buf := make([]byte, 100)
		n, err := systemd.Read(buf)
		require.NoError(t, err)
		require.Equal(t, want, string(buf[:n]))
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	replace := func(name, with string) {
		t.Helper()
		data, err := os.ReadFile(testkit.AbsPKI(with))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file(name), data, 0o600))
	}
	replace("server.crt", "server.crt")
	replace("server.key", "server.key")
	config := testkit.TempFile(t, "relay.toml", []byte(fmt.Sprintf("counters = \"127.0.0.1:0\"\n[[relay]]\nlisten = [\"127.0.0.1:0\"]\ncrt = %q\nkey = %q\nbackend = %q\n", file("server.crt"), file("server.key"), testkit.Serve(t, testkit.Listen(t), testkit.Echo))))
	r := startRelay(t, []string{"NOTIFY_SOCKET=" + socket}, "-config", config)
	hears("READY=1")
	kept := dialTLS(t, r.addrs[0])
	testkit.Exchange(t, kept, "hello")
	before := kept.ConnectionState().PeerCertificates[0].Raw

	replace("server.crt", "garbage.pem")
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
	hears("RELOADING=1")
	hears("READY=1")
	r.logs("reload failed, keeping the old configuration")
	require.Equal(t, before, dialTLS(t, r.addrs[0]).ConnectionState().PeerCertificates[0].Raw)

	text, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, append(text, "crtt = \"x\"\n"...), 0o600))
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
	hears("RELOADING=1")
	hears("READY=1")
	r.logs(`unknown key \"relay.crtt\"`)
	require.NoError(t, os.WriteFile(config, text, 0o600))

	replace("server.crt", "server-ec.crt")
	replace("server.key", "server-ec.key")
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
	hears("RELOADING=1")
	hears("READY=1")
	r.logs("msg=reloaded")
	require.NotEqual(t, before, dialTLS(t, r.addrs[0]).ConnectionState().PeerCertificates[0].Raw)

	url := regexp.MustCompile(`address=(http://\S+/debug/vars)`).FindStringSubmatch(r.log.String())
	require.NotNil(t, url)
	answer, err := http.Get(url[1])
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	answer.Body.Close()
	require.Contains(t, string(body), `"reloads": 1`)
	require.Contains(t, string(body), `"reloads_failed": 2`)
	require.NotContains(t, string(body), dir)

	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	hears("STOPPING=1")
	r.logs("msg=\"shutting down\"")
	testkit.Exchange(t, kept, "hello") // an existing connection may finish
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, r.wait())
	_, err = kept.Read(make([]byte, 1))
	require.Error(t, err)
	require.Contains(t, r.log.String(), "connections had to be closed")
}

func TestWrongStartsSaySo(t *testing.T) {
	config := testkit.TempFile(t, "relay.toml", []byte("[[relay]]\nlisten = [\"127.0.0.1:0\"]\nbackend = \"127.0.0.1:1\"\ncrtt = \"x\"\n"))
	bad := testkit.TempFile(t, "bad.toml", []byte("counters = \"127.0.0.1:abc\"\n[[relay]]\nlisten = [\"plain:127.0.0.1:0\"]\nbackend = \"127.0.0.1:1\"\n"))
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"-nonsense"}, 2, "-nonsense"},
		{[]string{"server.crt"}, 2, `unexpected argument "server.crt"; -config names a configuration file`},
		{[]string{"-check", "-check=false"}, 2, "given twice"},
		{[]string{"-config", config, "-config", config}, 2, "given twice"},
		{[]string{"-requirevalidclientcert", "-requirevalidclientcert=false"}, 2, "-requirevalidclientcert: it is given twice"},
		{[]string{"-strict"}, 2, "-strict needs -check"},
		{[]string{"-config", config, "-tls"}, 2, "-config cannot be combined with -tls"},
		{[]string{"-listen", "127.0.0.1:0"}, 2, `sslrelay: relay "tcp": backend: is missing`},
		{[]string{"-listen", "plain:127.0.0.1:7", "-listen", "plain:0.0.0.0:7", "-backend", "h:1"}, 1, "its port is already used by plain:127.0.0.1:7"},
		{[]string{"-check", "-listen", "plain:127.0.0.1:7", "-listen", "plain:0.0.0.0:7", "-backend", "h:1"}, 1, "ERROR: relay \"tcp\": listen: plain:0.0.0.0:7"},
		{[]string{"-check", "-listen", "plain:127.0.0.1:7", "-counters", "127.0.0.1:7", "-backend", "h:1"}, 1, "ERROR: counters: 127.0.0.1:7"},
		{[]string{"-check", "-listen", "plain:127.0.0.1:0", "-counters", "127.0.0.1:99999", "-backend", "h:1"}, 2, "counters: want a port from 0 to 65535"},
		{[]string{"-check", "-config", bad}, 1, `line 1: counters: want a port from 0 to 65535 in "127.0.0.1:abc", got "abc"`},
		{[]string{"-config", "nowhere.toml"}, 1, "nowhere.toml"},
		{[]string{"-config", config}, 1, `line 4: unknown key "relay.crtt"`},
		{[]string{"-listen", "127.0.0.1:0", "-backend", "127.0.0.1:1"}, 1, `relay "tcp": crt: is missing`},
		{[]string{"-check", "-listen", "127.0.0.1:0", "-backend", "127.0.0.1:1"}, 1, "ERROR: crt: is missing"},
	} {
		var out bytes.Buffer
		cmd := exec.Command(program, c.args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Run()
		require.Equal(t, c.status, cmd.ProcessState.ExitCode(), "%v: %s", c.args, out.String())
		require.Contains(t, out.String(), c.says)
		require.NotContains(t, out.String(), "sslrelay: sslrelay:")
	}
	out, err := exec.Command(program, "-help").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "-backend-insecureskipverify")
	out, err = exec.Command(program, "-version").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "OpenSSL")
}

func TestCheckStatus(t *testing.T) {
	args := []string{"-check", "-listen", "127.0.0.1:0", "-backend", "127.0.0.1:1", "-crt", testkit.AbsPKI("server-expired.crt"), "-key", testkit.AbsPKI("server-expired.key")}
	out, err := exec.Command(program, args...).Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "WEAK: crt 1: expired")
	require.Error(t, exec.Command(program, append(args, "-strict")...).Run())
}

// The program accepts the unit and the configurations in docs/relay.md.
func TestDocumentationIsTrue(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "relay.md"))
	require.NoError(t, err)
	dir := t.TempDir()
	for name, from := range map[string]string{
		"server.crt": "server.crt", "server.key": "server.key", "ca.crt": "root.crt", "ca.crl": "crl.pem", "dh.pem": "dh2048.pem",
		"client.crt": "client.crt", "client.key": "client.key", "web.crt": "server.crt", "web.key": "server.key",
		"intern.crt": "server.crt", "intern.key": "server.key", "other.crt": "server.crt", "other.key": "server.key",
	} {
		data, err := os.ReadFile(testkit.AbsPKI(from))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ticket.key"), testkit.Bytes(80, 1), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "users"), []byte("user3 mailserver3.domain.de:143\n"), 0o600))
	local := strings.NewReplacer("/etc/sslrelay/", dir+"/", "/var/log/sslrelay/", dir+"/")
	snippets := 0
	for i, part := range strings.Split(string(doc), "```") {
		language, text, _ := strings.Cut(part, "\n")
		if i%2 == 0 || language != "toml" {
			continue
		}
		snippets++
		config := testkit.TempFile(t, "relay.toml", []byte(local.Replace(text)))
		out, err := exec.Command(program, "-check", "-config", config).CombinedOutput()
		require.NoError(t, err, "%s\n%s", text, out)
	}
	require.Greater(t, snippets, 5)
	flags := regexp.MustCompile("(?m)^    sslrelay (.*)$").FindAllStringSubmatch(string(doc), -1)
	require.NotEmpty(t, flags)
	for _, m := range flags {
		args := strings.Fields(local.Replace(m[1]))
		if strings.Contains(m[1], "-config") {
			continue
		}
		out, err := exec.Command(program, append([]string{"-check"}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s\n%s", m[1], out)
	}
}
