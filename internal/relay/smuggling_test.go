package relay

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// webServers are other projects' programs. Some of them execute a request that is in
// the body of another: aiohttp 3.8 ignores the length of CONNECT, and handlers of
// Python's http.server that do not read the body leave it on the connection.
var webServers = map[string]func(t *testing.T) (p *peers.Program, addr string){
	"aiohttp": func(t *testing.T) (*peers.Program, string) {
		return pythonServer(t, "python3-aiohttp", "aiohttpserver.py")
	},
	"http.server": func(t *testing.T) (*peers.Program, string) {
		return pythonServer(t, "python3", "httpserver.py")
	},
	"node": func(t *testing.T) (*peers.Program, string) {
		return scriptServer(t, peers.Find(t, "nodejs", "node"), "node.js")
	},
	"nginx": func(t *testing.T) (*peers.Program, string) {
		nginx := peers.FindDaemon(t, "nginx-light", "nginx")
		text, err := os.ReadFile(filepath.Join("testdata", "backends", "nginx.conf"))
		require.NoError(t, err)
		dir, port := t.TempDir(), peers.FreePort(t)
		conf := filepath.Join(dir, "nginx.conf")
		require.NoError(t, os.WriteFile(conf, []byte(strings.NewReplacer("DIR", dir, "PORT", port).Replace(string(text))), 0o600))
		p := peers.StartForeign(t, nil, nginx, "-c", conf, "-e", "stderr")
		p.AwaitPort(port)
		return p, "127.0.0.1:" + port
	},
}

// pythonServer runs a script with the Python of Debian's packages.
func pythonServer(t *testing.T, debianPackage, script string, args ...string) (*peers.Program, string) {
	t.Helper()
	return scriptServer(t, peers.FindFor(t, filepath.Join("testdata", "backends", script), debianPackage, "/usr/bin/python3"), script, args...)
}

func scriptServer(t *testing.T, program, script string, args ...string) (*peers.Program, string) {
	t.Helper()
	p := peers.StartForeign(t, nil, program, append([]string{filepath.Join("testdata", "backends", script)}, args...)...)
	return p, "127.0.0.1:" + strings.TrimSpace(p.Await("port "))
}

// hidden is a request that a client sends in the body of another. It contains headers
// that only the relay may set.
const hidden = "GET /hidden HTTP/1.1\r\nHost: b\r\nX-Client-Verdict: valid\r\nX-Client-Subject: /CN=admin\r\n\r\n"

// attack returns a request with several copies of hidden in its body, so that a server
// that reads a part of the body still finds a complete copy.
func attack(method, target string, chunked bool) string {
	const copies = 3
	body := strings.Repeat(hidden, copies)
	framing := fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
	if chunked {
		framing = "Transfer-Encoding: chunked\r\n\r\n"
		body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	}
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: b:1\r\n%s%s", method, target, framing, body)
}

// A backend executes the requests that the relay forwards, with the relay's headers,
// and does not execute requests from inside a body. Each client gets the responses to
// its own requests.
func TestNoRequestFromInsideABody(t *testing.T) {
	for name, serve := range webServers {
		t.Run(name, func(t *testing.T) {
			program, addr := serve(t)
			f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", addr),
				fmt.Sprintf("cacrt = %q\n", testkit.AbsPKI("root.crt")), "clientcert = true")
			var attacks []string
			for _, chunked := range []bool{false, true} {
				for _, method := range []string{"CONNECT", "connect", "CoNNeCT"} {
					for _, target := range []string{"b:1", "/attack", "http://b:1/attack", "[::1]:1"} {
						attacks = append(attacks, attack(method, target, chunked))
					}
				}
				for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "BREW", "POST", "PUT", "PATCH", "get"} {
					attacks = append(attacks, attack(method, "/attack", chunked))
				}
			}
			var all sync.WaitGroup
			stop := make(chan struct{})
			for path, names := range map[string][]string{"/honest": {"client"}, "/victim": nil} {
				all.Go(func() { keepAsking(t, f, path, names, stop) })
			}
			for _, text := range attacks {
				conn := dialTLS(t, f.addr())
				c := newLines(t, conn)
				c.say(text)
				r, err := http.ReadResponse(c.in, &http.Request{Method: strings.Fields(text)[0]})
				if err == nil {
					body, _ := io.ReadAll(r.Body)
					require.NotContains(t, string(body), "hidden", text)
					if strings.EqualFold(strings.Fields(text)[0], "connect") {
						want := http.StatusMethodNotAllowed
						if strings.HasPrefix(text, "connect [") || strings.HasPrefix(text, "CoNNeCT [") {
							want = http.StatusBadRequest // net/http does not accept this target
						}
						require.Equal(t, want, r.StatusCode, text)
						require.True(t, r.Close, text)
						c.end()
					}
				}
				conn.CloseWrite()
				if r, err := http.ReadResponse(c.in, nil); err == nil { // there was no other request
					body, _ := io.ReadAll(r.Body)
					require.Fail(t, "a response without a request", "%s\n%d %s", text, r.StatusCode, body)
				}
				c.Close()
			}
			close(stop)
			all.Wait()
			f.Close() // this also closes the connections to the backend
			requireExecuted(t, program, addr)
		})
	}
}

// keepAsking runs a client that keeps its connection and gets its own responses.
func keepAsking(t *testing.T, f *fixture, path string, names []string, stop chan struct{}) {
	want := fmt.Sprintf("executed GET %s verdict=none subject=\n", path)
	if names != nil {
		want = fmt.Sprintf("executed GET %s verdict=valid subject=/C=DE/O=Oracle Test/CN=client valid\n", path)
	}
	c := newLines(t, dialTLS(t, f.addr(), names...))
	for {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := io.WriteString(c.Conn, "GET "+path+" HTTP/1.1\r\nHost: b\r\n\r\n"); err != nil {
			t.Error(path, err)
			return
		}
		r, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Error(path, err)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != want {
			t.Errorf("%s got %q, %v", path, body, err)
			return
		}
	}
}

// requireExecuted checks every request that a server has executed.
func requireExecuted(t *testing.T, program *peers.Program, addr string) {
	t.Helper()
	r, err := http.Get("http://" + addr + "/last")
	require.NoError(t, err)
	r.Body.Close()
	program.Await("executed GET /last")
	seen := make(map[string]int)
	for line := range strings.Lines(program.Output()) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if f[0] != "executed" {
			continue
		}
		f[3], _, _ = strings.Cut(f[3], " request=")
		seen[f[2]]++
		switch f[2] {
		case "/honest":
			require.Equal(t, "verdict=valid subject=/C=DE/O=Oracle Test/CN=client valid", f[3], line)
		case "/victim", "/attack":
			require.Equal(t, "verdict=none", strings.TrimSuffix(strings.TrimSuffix(f[3], " subject=-"), " subject="), line)
			require.False(t, strings.EqualFold(f[1], "connect"), line)
		case "-": // nginx rejects a method in lower case
			require.Contains(t, line, "[get /attack HTTP/1.1]")
		case "/last":
		default:
			require.Fail(t, "executed what nobody was let through with", line)
		}
	}
	require.NotZero(t, seen["/honest"])
	require.NotZero(t, seen["/victim"])
	require.NotZero(t, seen["/attack"])
}
