package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

const (
	nginxName   = "nginx"
	sServerName = "openssl s_server"

	fileSize    = 1 << 30
	loadSeconds = 1.0
	visitors    = 8 // connections of the load client at the same time
	socketTurns = 5
)

// serve is an HTTPS server in this program: sslhttp or crypto/tls, with net/http.
func serve(pki, name, file string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	srv := &http.Server{Handler: mux}
	if name == goName {
		config, _, err := goConfigs(pki, "ec")
		if err != nil {
			return err
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", config)
		if err != nil {
			return err
		}
		fmt.Println(l.Addr())
		return srv.Serve(l)
	}
	server, _ := ours(pki, "ec")
	ctx, err := sslfilter.NewCtx(server)
	if err != nil {
		return err
	}
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", ctx)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return sslhttp.Serve(srv, l)
}

// visit is the client of all servers, crypto/tls on another processor. It
// prints what it got as JSON.
func visit(pki, addr, mode string) error {
	_, config, err := goConfigs(pki, "ec")
	if err != nil {
		return err
	}
	var got visited
	start := time.Now()
	switch mode {
	case "new":
		got.Requests, err = visitors8(func(stop <-chan struct{}) (n int, err error) {
			for {
				select {
				case <-stop:
					return n, nil
				default:
				}
				if err := visitOnce(addr, config, false); err != nil {
					return n, err
				}
				n++
			}
		})
	case "resumed":
		got.Requests, err = visitors8(func(stop <-chan struct{}) (int, error) { return visitAgain(addr, config, stop) })
		if errors.Is(err, errNotResumed) {
			got.Left, err = errNotResumed.Error(), nil
		}
	case "kept":
		got.Requests, err = visitors8(func(stop <-chan struct{}) (int, error) { return visitKept(addr, config, stop) })
	case "file":
		got.Bytes, err = download(addr, config)
	default:
		err = errors.New("no such mode: " + mode)
	}
	if err != nil {
		return err
	}
	got.Seconds = time.Since(start).Seconds()
	return json.NewEncoder(os.Stdout).Encode(got)
}

type visited struct {
	Requests int
	Bytes    int64
	Seconds  float64
	Left     string // the reason, if the server cannot do that
}

func visitors8(f func(stop <-chan struct{}) (int, error)) (total int, err error) {
	stop := make(chan struct{})
	time.AfterFunc(time.Duration(loadSeconds*float64(time.Second)), func() { close(stop) })
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range visitors {
		wait.Go(func() {
			n, e := f(stop)
			mu.Lock()
			defer mu.Unlock()
			total += n
			err = errors.Join(err, e)
		})
	}
	wait.Wait()
	return total, err
}

var errNotResumed = errors.New("resumes no session of this client")

// visitAgain makes connections that resume the session of the one before.
func visitAgain(addr string, config *tls.Config, stop <-chan struct{}) (n int, err error) {
	config = config.Clone()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if err := visitOnce(addr, config, false); err != nil {
		return 0, err
	}
	for {
		select {
		case <-stop:
			return n, nil
		default:
		}
		if err := visitOnce(addr, config, true); err != nil {
			return n, err
		}
		n++
	}
}

func visitOnce(addr string, config *tls.Config, resumed bool) error {
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return err
	}
	defer c.Close()
	if resumed && !c.ConnectionState().DidResume {
		return errNotResumed
	}
	if _, err := io.WriteString(c, "GET /hello HTTP/1.0\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if !strings.Contains(string(answer), "hello") {
		return fmt.Errorf("the answer is %q: %w", answer, err)
	}
	return nil // s_server closes without close_notify
}

func visitKept(addr string, config *tls.Config, stop <-chan struct{}) (n int, err error) {
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		select {
		case <-stop:
			return n, nil
		default:
		}
		if _, err := io.WriteString(c, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return n, err
		}
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			return n, err
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || string(body) != "hello\n" {
			return n, fmt.Errorf("the answer is %q: %w", body, err)
		}
		if answer.Close {
			return n, errors.New("the server keeps no connection")
		}
		n++
	}
}

func download(addr string, config *tls.Config) (int64, error) {
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /file HTTP/1.0\r\nHost: localhost\r\n\r\n"); err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<18)
	var n int64
	for {
		m, err := c.Read(buf)
		n += int64(m)
		if err != nil {
			if n < fileSize {
				return n, err
			}
			return n, nil
		}
	}
}

// server is a process that listens.
type server struct {
	cmd  *exec.Cmd
	addr string
}

// used returns the processor time of all threads of the server, in seconds.
func (s *server) used() float64 {
	var total float64
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		field, _, _ := strings.Cut(string(data), " ")
		ns, _ := strconv.ParseFloat(field, 64)
		total += ns / 1e9
	}
	return total
}

func (s *server) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// announced starts a server that prints its address.
func announced(cmd *exec.Cmd) (*server, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, fmt.Errorf("no address: %w", err)
	}
	return &server{cmd: cmd, addr: strings.TrimSpace(line)}, nil
}

// waited starts a server at addr and waits until it listens.
func waited(cmd *exec.Cmd, addr string) (*server, error) {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, addr: addr}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return s, nil
		}
		select {
		case <-ctx.Done():
			s.stop()
			return nil, fmt.Errorf("does not listen: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freePort returns an address on which no program listens.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

const nginxConf = `daemon off; master_process off; worker_processes 1; pid %[1]s/nginx.pid; error_log stderr crit;
events { worker_connections 256; }
http {
	access_log off; default_type text/plain; keepalive_requests 1000000000; root %[1]s;
	client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
	server {
		listen %[2]s ssl; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
		ssl_certificate %[3]s/server-ec.crt; ssl_certificate_key %[3]s/server-ec.key;
	}
}
`

// startServers starts the servers that are installed, and returns their versions.
func (s *site) startServers(left map[string]string) (map[string]*server, map[string]string, error) {
	file := filepath.Join(s.dir, "file")
	if err := os.WriteFile(filepath.Join(s.dir, "hello"), []byte("hello\n"), 0o600); err != nil {
		return nil, nil, err
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, nil, err
	}
	err = f.Truncate(fileSize)
	if err == nil { // otherwise the first server to read the file would pay for loading its pages
		_, err = io.Copy(io.Discard, struct{ io.Reader }{f})
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, nil, err
	}
	servers, versions := make(map[string]*server), make(map[string]string)
	start := func(name string, f func() (*server, error)) {
		if left[name] != "" {
			return
		}
		server, err := f()
		if err != nil {
			left[name] = err.Error()
			progress("%s is left out: %v", name, err)
			return
		}
		servers[name] = server
	}
	for _, name := range []string{engineName, goName} {
		start(name, func() (*server, error) {
			cmd := exec.Command(s.self, "-pki", s.pki, "serve", name, file)
			cmd.Env = s.env(s.conf)
			return announced(cmd)
		})
	}
	for _, name := range []string{otherName, portName} {
		start(name, func() (*server, error) {
			program, err := s.buildBinding(name)
			if err != nil {
				return nil, err
			}
			cmd := exec.Command(program, s.pki, "serve", file)
			cmd.Env = s.env(s.conf)
			return announced(cmd)
		})
	}
	start(nginxName, func() (*server, error) {
		addr, err := freePort()
		if err != nil {
			return nil, err
		}
		conf := filepath.Join(s.dir, "nginx.conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, s.dir, addr, s.pki), 0o600); err != nil {
			return nil, err
		}
		if cmd, err := s.foreign("nginx", "-V"); err == nil {
			out, _ := cmd.CombinedOutput()
			if uses(string(out)) != nil {
				return nil, errors.New("uses another OpenSSL")
			}
			versions[nginxName] = strings.TrimPrefix(firstLine(out), "nginx version: ")
		}
		cmd, err := s.foreign("nginx", "-p", s.dir, "-e", "stderr", "-c", conf)
		if err != nil {
			return nil, err
		}
		return waited(cmd, addr)
	})
	start(sServerName, func() (*server, error) {
		addr, err := freePort()
		if err != nil {
			return nil, err
		}
		if cmd, err := s.foreign("openssl", "version"); err == nil {
			out, _ := cmd.CombinedOutput()
			if err := uses(firstLine(out)); err != nil {
				return nil, err
			}
			versions[sServerName] = firstLine(out)
		}
		name := filepath.Join(s.pki, "server-ec")
		cmd, err := s.foreign("openssl", "s_server", "-accept", addr, "-cert", name+".crt", "-key", name+".key", "-WWW", "-quiet")
		if err != nil {
			return nil, err
		}
		cmd.Dir = s.dir
		return waited(cmd, addr)
	})
	return servers, versions, nil
}

// overSockets lets one client on another processor visit all servers in turns.
func (s *site) overSockets(f *flags, left map[string]string) ([]*Result, map[string]string, error) {
	servers, versions, err := s.startServers(left)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		for _, server := range servers {
			server.stop()
		}
	}()
	names := []string{engineName, goName, otherName, portName, nginxName, sServerName}
	modes := []struct{ mode, title, unit, rate, rateUnit string }{
		{"new", "HTTPS request on a new connection", "µs of the server", "HTTPS requests, new connections", "1/s"},
		{"resumed", "HTTPS request on a new connection with a resumed session", "µs of the server", "HTTPS requests, resumed sessions", "1/s"},
		{"kept", "HTTPS request on a kept connection", "µs of the server", "HTTPS requests, kept connections", "1/s"},
		{"file", "download of 1 GiB", "ms of the server", "download of 1 GiB", "MB/s"},
	}
	other := (f.cpu + runtime.NumCPU() - 1) % runtime.NumCPU()
	var list []*Result
	for _, m := range modes {
		when := time.Now().UTC().Format("2006-01-02 15:04")
		cost := &Result{Key: "sockets/" + m.mode, Group: "sockets", Title: m.title, Unit: m.unit, Base: engineName, When: when}
		rate := &Result{Key: "sockets/" + m.mode + "/rate", Group: "sockets", Title: m.rate, Unit: m.rateUnit, Base: engineName, When: when}
		costs, rates := make(map[string][]float64), make(map[string][]float64)
		why := make(map[string]string)
		for range min(socketTurns, f.rounds) {
			for _, name := range names {
				server := servers[name]
				if server == nil || why[name] != "" {
					continue
				}
				if name == sServerName && m.mode == "kept" {
					why[name] = "keeps no connection"
					continue
				}
				if err := cend.Pin(other); err != nil {
					return nil, nil, err
				}
				cmd := exec.Command(s.self, "-pki", s.pki, "visit", server.addr, m.mode)
				cmd.Stderr = os.Stderr
				before := server.used()
				out, err := cmd.Output()
				used := server.used() - before
				cend.Pin(f.cpu)
				if err != nil {
					return nil, nil, fmt.Errorf("%s, %s: %w", m.title, name, err)
				}
				var got visited
				if err := json.Unmarshal(out, &got); err != nil {
					return nil, nil, err
				}
				if got.Left != "" {
					why[name] = got.Left
					continue
				}
				if m.mode == "file" {
					costs[name] = append(costs[name], used*1e3)
					rates[name] = append(rates[name], float64(got.Bytes)/1e6/got.Seconds)
				} else {
					costs[name] = append(costs[name], used*1e6/float64(got.Requests))
					rates[name] = append(rates[name], float64(got.Requests)/got.Seconds)
				}
			}
		}
		for _, name := range names {
			if servers[name] == nil {
				why[name] = left[name]
			}
			cost.Cells = append(cost.Cells, compared(name, why[name], costs[engineName], costs[name]))
			rate.Cells = append(rate.Cells, compared(name, why[name], rates[engineName], rates[name]))
		}
		cost.Load, rate.Load = load(), load()
		cost.Rounds, rate.Rounds = min(socketTurns, f.rounds), min(socketTurns, f.rounds)
		list = append(list, cost, rate)
	}
	return list, versions, nil
}

// compared makes a cell from the values of all turns.
func compared(name, left string, base, values []float64) *Cell {
	cell := &Cell{Name: name, Left: left}
	if left != "" {
		return cell
	}
	cell.Stat = stat(values)
	var ratios []float64
	for i := range min(len(base), len(values)) {
		ratios = append(ratios, base[i]/values[i])
	}
	cell.Ratio = stat(ratios)
	return cell
}
