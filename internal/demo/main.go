// Demo is what "make demo" runs: it builds examples/clientcert, lets curl visit
// it once for each kind of client certificate in TLS 1.2 and TLS 1.3, and prints
// who came and what the server said. One wrong answer is exit status 1.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

const (
	buildTime = 5 * time.Minute // a first build compiles net/http
	startTime = 20 * time.Second
	visitTime = 15 * time.Second
	stopTime  = 10 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if _, err := exec.LookPath("curl"); err != nil {
		return errors.New("curl is the visitor of this demo, and it is not installed")
	}
	dir, err := os.MkdirTemp("", "sslfilter-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "clientcert")
	building, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	if out, err := exec.CommandContext(building, "go", "build", "-o", program, "./examples/clientcert").CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./examples/clientcert: %w\n%s", err, out)
	}
	s, err := start(ctx, program)
	if err != nil {
		return err
	}
	wrong, err := visitAll(ctx, s)
	if err := errors.Join(err, s.stop()); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d answers are wrong", wrong)
	}
	fmt.Println("\nEvery answer is right.")
	return nil
}

// server is the running example.
type server struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan error // what Wait returned
	dir    string     // its throw-away certificates
	url    string
}

// start runs program on a free port and reads where it is.
func start(ctx context.Context, program string) (*server, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	s := &server{cmd: exec.Command(program, "-listen", "127.0.0.1:0"), done: make(chan error, 1)}
	s.cmd.Stdout, s.cmd.Stderr = in, &s.stderr
	err = s.cmd.Start()
	in.Close()
	if err != nil {
		return nil, err
	}
	go func() { s.done <- s.cmd.Wait() }()

	out.SetReadDeadline(time.Now().Add(startTime))
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if dir, ok := strings.CutPrefix(lines.Text(), "  cd '"); ok {
			s.dir = strings.TrimSuffix(dir, "'")
		}
		if url, ok := strings.CutPrefix(lines.Text(), "  curl --cacert ca.crt https:"); ok { // its last line
			s.url = "https:" + url
			return s, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("the server did not say where it listens: %v", lines.Err()), s.stop())
}

// stop ends the server as Ctrl-C does.
func (s *server) stop() error {
	s.cmd.Process.Signal(syscall.SIGINT) // one that has ended is reported below
	var err error
	select {
	case err = <-s.done:
	case <-time.After(stopTime):
		s.cmd.Process.Kill()
		err = fmt.Errorf("did not stop within %v: %w", stopTime, <-s.done)
	}
	if err != nil {
		return fmt.Errorf("the server: %w\n%s", err, s.stderr.String())
	}
	if _, err := os.Stat(s.dir); s.dir != "" && err == nil {
		return fmt.Errorf("the server left %s behind", s.dir)
	}
	return nil
}

// visitors are the files of curl's certificate, and what the server must say.
var visitors = []struct{ who, file, verdict, reason string }{
	{"valid", "client-valid", "valid", "CRL: not listed"},
	{"revoked", "client-revoked", "invalid", "CRL: listed"},
	{"expired", "client-expired", "invalid", "Error 10 at depth 0: certificate has expired"},
	{"unknown CA", "client-unknown", "invalid", "Error 20 at depth 0: unable to get local issuer certificate"},
	{"no certificate", "", "none", "No client certificate"},
}

// visitAll prints the table and counts the wrong answers.
func visitAll(ctx context.Context, s *server) (wrong int, err error) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintln(w, "WHO CAME\tPROTOCOL\tCIPHER\tVERDICT\tWHAT THE SERVER SAID")
	for _, version := range []string{"1.2", "1.3"} {
		for _, v := range visitors {
			args := []string{"--cacert", "ca.crt", "--tlsv" + version, "--tls-max", version}
			if v.file != "" {
				args = append(args, "--cert", v.file+".crt", "--key", v.file+".key")
			}
			a, err := s.visit(ctx, args)
			if err != nil {
				return wrong, fmt.Errorf("visit of %q in TLS %s: %w\n%s", v.who, version, err, s.stderr.String())
			}
			mark := ""
			if a.protocol != "TLSv"+version || a.cipher == "" || a.verdict != v.verdict || !strings.HasPrefix(a.reason, v.reason) {
				mark = fmt.Sprintf(" <- WRONG, expected %s: %s", v.verdict, v.reason)
				wrong++
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s%s\n", v.who, a.protocol, a.cipher, a.verdict, a.reason, mark)
		}
	}
	return wrong, nil
}

// answer is what a page says.
type answer struct{ verdict, protocol, cipher, reason string }

var (
	cipherLine = regexp.MustCompile(`(?m)^Cipher: (\S+) (\S+)<br>$`)
	// The first of these that a page has is why: an error, no certificate, or the CRL.
	reasonLine = regexp.MustCompile(`(?m)^(?:Error \d+ .*|No client certificate|CRL: .*)$`)
)

// visit lets curl fetch the page.
func (s *server) visit(ctx context.Context, args []string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", append(args, "-sS", "-i", "--noproxy", "*", "--max-time", "10", s.url)...)
	cmd.Dir = s.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return answer{}, fmt.Errorf("curl: %w: %s", err, stderr.String())
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), nil)
	if err != nil {
		return answer{}, err
	}
	page, err := io.ReadAll(r.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{verdict: r.Header.Get("X-Client-Verdict")}
	if m := cipherLine.FindSubmatch(page); m != nil {
		a.protocol, a.cipher = string(m[1]), string(m[2])
	}
	a.reason = html.UnescapeString(strings.TrimSuffix(string(reasonLine.Find(page)), "<br>"))
	return a, nil
}
