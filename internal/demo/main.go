// Demo is the program that "make demo" runs. It builds examples/clientcert and
// cmd/sslrelay, and connects to them with curl: to the example with each kind of client
// certificate in TLS 1.2 and TLS 1.3, to the relay with a plain HTTP server as its
// backend, and to the relay with dovecot as its backend, if dovecot is installed. It
// prints each client and the answer. If an answer is wrong, the exit status is 1.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/testpki"
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
		return errors.New("the demo needs curl, which is not installed")
	}
	dir, err := os.MkdirTemp("", "sslfilter-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pki, err := testpki.WriteTemp()
	if err != nil {
		return err
	}
	defer os.RemoveAll(pki)
	building, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	build := exec.CommandContext(building, "go", "build", "-o", dir+string(filepath.Separator), "./examples/clientcert", "./cmd/sslrelay")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	d := &demo{programs: dir, pki: pki}
	for _, part := range []func(context.Context) error{d.clientcert, d.httpRelay, d.imapRelay} {
		if err := part(ctx); err != nil {
			return err
		}
		fmt.Println()
	}
	if d.wrong > 0 {
		return fmt.Errorf("%d answers are wrong", d.wrong)
	}
	fmt.Println("Every answer is right.")
	return nil
}

// demo is the state that the parts of the demo share.
type demo struct {
	programs string // folder of the programs
	pki      string // folder of testpki's certificates
	wrong    int    // number of wrong answers
}

// table has a row for each request.
type table struct {
	*tabwriter.Writer
	demo *demo
}

func (d *demo) table(title, head string) *table {
	fmt.Println(title)
	t := &table{tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0), d}
	fmt.Fprintln(t, head)
	return t
}

// row prints a row. It counts a wrong answer, and adds the expected one.
func (t *table) row(right bool, expected string, cells ...string) {
	line := strings.Join(cells, "\t")
	if !right {
		t.demo.wrong++
		line += " <- WRONG, expected " + expected
	}
	fmt.Fprintln(t, line)
}

// certificate returns the flags of curl for a client certificate of testpki. "" means
// no certificate.
func certificate(name string) []string {
	if name == "" {
		return nil
	}
	return []string{"--cert", name + ".crt", "--key", name + ".key"}
}

// curl runs curl in the folder of the certificates.
func curl(ctx context.Context, pki string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", append([]string{"-sS", "--noproxy", "*", "--max-time", "10", "--cacert", "ca.crt"}, args...)...)
	cmd.Dir = pki
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s (%w)", strings.TrimSpace(stderr.String()), err)
	}
	return string(out), nil
}
