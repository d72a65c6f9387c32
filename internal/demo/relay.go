package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/seed-014b8713/sslfilter/internal/dovecot"
)

// file returns the path of a file of the PKI.
func (d *demo) file(name string) string { return filepath.Join(d.pki, name) }

var (
	relayReady  = regexp.MustCompile(`address=tls:(\S+)(?s:.*)msg=ready`)
	relaysReady = regexp.MustCompile(`address=starttls:(\S+)(?s:.*)address=tls:(\S+)(?s:.*)msg=ready`)
)

// httpRelay connects through the relay to a web server that speaks plain HTTP.
func (d *demo) httpRelay(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{ReadHeaderTimeout: visitTime, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s\n%s\n", r.Header.Get("X-Client-Verdict"), strings.Join(r.Header.Values("X-Client-Subject"), "\n"))
	})}
	go web.Serve(l)
	defer web.Close()
	relay, found, err := start(relayReady, filepath.Join(d.programs, "sslrelay"), "-mode", "http", "-listen", "tls:127.0.0.1:0",
		"-backend", l.Addr().String(), "-crt", d.file("server.crt"), "-key", d.file("server.key"),
		"-cacrt", d.file("ca.crt"), "-cacrl", d.file("ca.crl"), "-clientcert")
	if err != nil {
		return err
	}
	t := d.table("cmd/sslrelay with a plain HTTP server as its backend, and the headers that the backend got:", "CLIENT\tX-CLIENT-VERDICT\tX-CLIENT-SUBJECT")
	visit := func() error {
		defer t.Flush()
		for _, v := range []struct{ who, file, verdict, subject string }{
			{"valid", "client-valid", "valid", "/O=sslfilter test/CN=valid client"},
			{"revoked", "client-revoked", "invalid", "/O=sslfilter test/CN=revoked client"},
			{"no certificate", "", "none", ""},
			{"client that forges the headers", "", "none", ""},
		} {
			args := append(certificate(v.file), "https://"+found[0]+"/")
			if strings.Contains(v.who, "forges") {
				args = append(args, "-H", "X-Client-Verdict: valid", "-H", "X-Client-Subject: /CN=valid client")
			}
			out, err := curl(ctx, d.pki, args...)
			if err != nil {
				return fmt.Errorf("request of %q: %w\n%s", v.who, err, relay.output())
			}
			verdict, subject, _ := strings.Cut(strings.TrimSuffix(out, "\n"), "\n")
			t.row(verdict == v.verdict && subject == v.subject, v.verdict+" "+v.subject, v.who, verdict, cmp.Or(subject, "-"))
		}
		return nil
	}
	return errors.Join(visit(), relay.stop())
}

// imapRelay connects through the relay to dovecot. If that is not possible, it prints
// the reason.
func (d *demo) imapRelay(ctx context.Context) error {
	if version, _ := curl(ctx, d.pki, "--version"); !strings.Contains(version, " imaps ") {
		fmt.Println("cmd/sslrelay with an IMAP server is left out: this curl has no IMAP.")
		return nil
	}
	mail, err := dovecot.Start(d.file("server.crt"), d.file("server.key"), false)
	if errors.Is(err, dovecot.ErrMissing) {
		fmt.Println("cmd/sslrelay with an IMAP server is left out: dovecot is not installed (Debian: dovecot-imapd).")
		return nil
	} else if err != nil {
		fmt.Println("cmd/sslrelay with an IMAP server is left out: it did not start here:", err)
		return nil
	}
	defer mail.Stop()
	relay, found, err := start(relaysReady, filepath.Join(d.programs, "sslrelay"), "-mode", "imap",
		"-listen", "starttls:127.0.0.1:0", "-listen", "tls:127.0.0.1:0", "-crt", d.file("server.crt"), "-key", d.file("server.key"),
		"-backend", mail.IMAP, "-user", "anna="+mail.IMAP, "-user", "bert=starttls:"+mail.IMAP, "-user", "carl=tls:"+mail.IMAPS, "-user", "dora=127.0.0.1:1",
		"-backend-cacrt", d.file("ca.crt"), "-backend-servername", "localhost")
	if err != nil {
		return err
	}
	starttls, direct := []string{"--ssl-reqd", "imap://" + found[0]}, []string{"imaps://" + found[1]}
	t := d.table("cmd/sslrelay with dovecot as its backend, and another connection for each user:", "USER\tCLIENT\tBACKEND\tANSWER")
	defer t.Flush()
	for _, v := range []struct {
		who, how string
		args     []string
		backend  string
		right    func(answer string, err error) bool
	}{
		{"anna", "STARTTLS", starttls, "plain text", hasInbox},
		{"bert", "TLS", direct, "STARTTLS", hasInbox},
		{"carl", "STARTTLS", starttls, "TLS", hasInbox},
		{"dora", "TLS", direct, "down", func(_ string, err error) bool { return err != nil && ctx.Err() == nil }},
	} {
		out, err := curl(ctx, d.pki, append(v.args, "--user", v.who+":"+dovecot.Password, "-X", `LIST "" *`)...)
		answer := strings.TrimSpace(out)
		if err != nil {
			answer = err.Error()
		}
		t.row(v.right(out, err), "something else", v.who, v.how, v.backend, answer)
	}
	return relay.stop()
}

func hasInbox(answer string, err error) bool { return err == nil && strings.Contains(answer, "INBOX") }
