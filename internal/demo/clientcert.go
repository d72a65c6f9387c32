package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// visitors lists the certificates of curl, and the expected verdicts of the server.
var visitors = []struct{ who, file, verdict, reason string }{
	{"valid", "client-valid", "valid", "CRL: not listed"},
	{"revoked", "client-revoked", "invalid", "CRL: listed"},
	{"expired", "client-expired", "invalid", "Error 10 at depth 0: certificate has expired"},
	{"unknown CA", "client-unknown", "invalid", "Error 20 at depth 0: unable to get local issuer certificate"},
	{"no certificate", "", "none", "No client certificate"},
}

// clientcertReady matches the last lines that the program prints before it is ready.
var clientcertReady = regexp.MustCompile(`  cd '(.*)'\n(?s:.*)  curl --cacert ca\.crt (https:\S+)\n`)

// clientcert runs examples/clientcert, which makes its own certificates, and connects to
// it with curl.
func (d *demo) clientcert(ctx context.Context) error {
	server, found, err := start(clientcertReady, filepath.Join(d.programs, "clientcert"), "-listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	pki, url := found[0], found[1]
	t := d.table("examples/clientcert requests a certificate and accepts every client:", "CLIENT\tPROTOCOL\tCIPHER\tVERDICT\tANSWER OF THE SERVER")
	visit := func() error {
		defer t.Flush()
		for _, version := range []string{"1.2", "1.3"} {
			for _, v := range visitors {
				out, err := curl(ctx, pki, append(certificate(v.file), "-i", "--tlsv"+version, "--tls-max", version, url)...)
				if err != nil {
					return fmt.Errorf("request of %q in TLS %s: %w\n%s", v.who, version, err, server.output())
				}
				a, err := read(out)
				if err != nil {
					return err
				}
				right := a.protocol == "TLSv"+version && a.cipher != "" && a.verdict == v.verdict && strings.HasPrefix(a.reason, v.reason)
				t.row(right, v.verdict+": "+v.reason, v.who, a.protocol, a.cipher, a.verdict, a.reason)
			}
		}
		return nil
	}
	if err := errors.Join(visit(), server.stop()); err != nil {
		return err
	}
	if _, err := os.Stat(pki); err == nil {
		return fmt.Errorf("clientcert did not remove %s", pki)
	}
	return nil
}

// answer is the content of a page.
type answer struct{ verdict, protocol, cipher, reason string }

var (
	cipherLine = regexp.MustCompile(`(?m)^Cipher: (\S+) (\S+)<br>$`)
	// reasonLine matches the first reason on the page: an error, no certificate, or the CRL.
	reasonLine = regexp.MustCompile(`(?m)^(?:Error \d+ .*|No client certificate|CRL: .*)$`)
)

func read(out string) (a answer, err error) {
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(out)), nil)
	if err != nil {
		return a, err
	}
	page, err := io.ReadAll(r.Body)
	if err != nil {
		return a, err
	}
	a.verdict = r.Header.Get("X-Client-Verdict")
	if m := cipherLine.FindSubmatch(page); m != nil {
		a.protocol, a.cipher = string(m[1]), string(m[2])
	}
	a.reason = html.UnescapeString(strings.TrimSuffix(string(reasonLine.Find(page)), "<br>"))
	return a, nil
}
