package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
)

// choice is a setting that the operator of a server can change. Everything else
// has the defaults of the library and OpenSSL.
type choice struct {
	title   string
	cert    string // name of the test certificate; empty means "ec"
	change  func(server *sslfilter.Options)
	suite   uint16 // the suite that the handshake must negotiate; 0 means any
	group   uint16 // the same for the group
	fresh   bool   // each connection gets its own server Ctx
	names   bool   // the server chooses its Ctx by the ClientHello
	resume  bool   // each connection resumes the session of the first one
	subject string // empty means plainName
	message bool   // also measured with messages of 16 KiB
	advice  string // for the summary; a choice without one is not in it
}

const (
	asDefault   = "defaults"
	serverNames = "Ctx chosen by the server name"
)

var choices = []choice{
	{title: asDefault, message: true},
	{title: "AES-128 before AES-256", change: aes128First, suite: 0x1301, message: true,
		advice: "cheaper, above all for large messages; both are secure. `CipherSuites: \"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256\"`"},
	{title: "X25519 alone", change: func(s *sslfilter.Options) { s.Groups = "X25519" }, group: 29,
		advice: "cheaper from OpenSSL 3.5 on, but gives up the protection of its default group against future quantum computers. `Groups: \"X25519\"`"},
	{title: "AES-128 first and X25519 alone", change: func(s *sslfilter.Options) { aes128First(s); s.Groups = "X25519" }, suite: 0x1301, group: 29},
	{title: "one ticket instead of two", change: func(s *sslfilter.Options) { s.NumTickets = 1 },
		advice: "cheaper; a client that resumes several connections at once needs more. `NumTickets: 1`"},
	{title: "no tickets", change: func(s *sslfilter.Options) { s.NumTickets = -1 },
		advice: "no client can resume. `NumTickets: -1`"},
	{title: "RSA-2048 instead of P-256", cert: "rsa",
		advice: "use ECDSA keys: a server signs once in every full handshake"},
	{title: "resumed with a ticket", resume: true,
		advice: "let clients resume, or keep connections open ([sessions.md](sessions.md))"},
	{title: "resumed with a ticket of TicketKeys", change: withTicketKeys, resume: true},
	{title: "resumed with a session in memory (StatefulSessions)", change: stored, resume: true},
	{title: "client certificate", cert: "cert",
		advice: "verifying one costs about as much as the rest of the handshake, or less"},
	{title: "client certificate, resumed and verified again", cert: "cert", change: verifiedAgain, resume: true,
		advice: "`ResumeClientCert` saves much of that, and verifies the certificate each time"},
	{title: "client certificate, resumed from memory and verified again", cert: "cert", change: storedAndVerifiedAgain, resume: true},
	{title: serverNames, names: true,
		advice: "several names on one address cost little (`NameMap`)"},
	{title: "a Ctx for each connection", fresh: true,
		advice: "make one `Ctx` and keep it: `New`, like the original, reads files and parses keys for every connection"},
	{title: "a Ctx for each connection, RSA-2048", cert: "rsa", fresh: true},
	{title: "GOMAXPROCS=1", subject: plainSingleName,
		advice: "use at least 2, even on one core: a call into C that lasts longer than about 20 µs, as the steps of a handshake do, loses the only processor to Go's scheduler and has to get it back"},
}

func aes128First(s *sslfilter.Options) {
	s.CipherSuites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
}

func withTicketKeys(s *sslfilter.Options) { s.TicketKeys = new(sslfilter.TicketKeys) }

func verifiedAgain(s *sslfilter.Options) { s.ResumeClientCert = true }

func stored(s *sslfilter.Options) { s.StatefulSessions = true }

func storedAndVerifiedAgain(s *sslfilter.Options) {
	s.StatefulSessions, s.ResumeClientCert = true, true
}

func findChoice(title string) (choice, bool) {
	for _, c := range choices {
		if c.title == title {
			return c, true
		}
	}
	return choice{}, false
}

func (c choice) open(pki string) (*engine, error) {
	cert := c.cert
	if cert == "" {
		cert = "ec"
	}
	return openEngine(pki, cert, func(server, _ *sslfilter.Options) {
		if c.change != nil {
			c.change(server)
		}
	})
}

// negotiated checks that the handshake used the suite and the group of the choice,
// and resumed a session if it should.
func (c choice) negotiated(s *sslfilter.Filter) error {
	if c.resume != s.Resumed() || c.cert == "cert" && !s.ClientCertValid() {
		return fmt.Errorf("%s: resumed is %t, client certificate: %v", c.title, s.Resumed(), s.Peer())
	}
	if c.suite != 0 && s.CipherSuite() != c.suite || c.group != 0 && s.Group() != 0 && s.Group() != c.group {
		return fmt.Errorf("%s: negotiated suite %#x, group %d", c.title, s.CipherSuite(), s.Group())
	}
	return nil
}

// serverHandshakes makes n full handshakes and returns the processor time of the
// process while the server worked: from making the Filter to closing it. The
// client works in between.
func (c choice) serverHandshakes(pki string, n int) ([]float64, error) {
	e, err := c.open(pki)
	if err != nil {
		return nil, err
	}
	defer e.server.Close()
	defer e.user.Close()
	if e.names, err = sslfilter.NewNameMap(nil, e.server); err != nil {
		return nil, err
	}
	var b buffers
	var spent float64
	if c.resume {
		first := c
		first.resume = false
		if _, err := first.serverHandshake(e, &b); err != nil {
			return nil, err
		}
	}
	done := 0
	_, err = subject.Repeat(n, func() error {
		t, err := c.serverHandshake(e, &b)
		if done++; done > subject.Warm(n) {
			spent += t
		}
		return err
	})
	return []float64{spent}, err
}

func (c choice) serverHandshake(e *engine, b *buffers) (spent float64, err error) {
	client, err := e.user.NewFilter()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	if c.resume {
		if err := client.SetSession(e.session); err != nil {
			return 0, err
		}
	}
	if err := client.Handshake(); err != nil {
		return 0, err
	}
	var server *sslfilter.Filter
	ctx := e.server
	// timed adds the time of a part of the server's work.
	timed := func(f func() error) error {
		start := cend.ProcessTime()
		err := f()
		spent += cend.ProcessTime() - start
		return err
	}
	err = timed(func() (err error) {
		if c.fresh {
			if ctx, err = sslfilter.NewCtx(e.options); err != nil {
				return err
			}
		}
		if c.names {
			server = sslfilter.NewServerFilter(e.names.Choose)
			return nil
		}
		if server, err = ctx.NewFilter(); err != nil || !c.resume {
			return err
		}
		for _, s := range e.stored {
			if err := server.OfferSession(s.ID, s.Data); err != nil {
				return err
			}
		}
		return nil
	})
	for range 10 {
		if err != nil || client.HandshakeDone() && server.HandshakeDone() {
			break
		}
		b.wire = client.Outgoing(b.wire[:0])
		err = timed(func() (err error) {
			b.plain, err = server.Receive(b.plain[:0], b.wire)
			b.wire = server.Outgoing(b.wire[:0])
			return err
		})
		if err == nil {
			b.plain, err = client.Receive(b.plain[:0], b.wire)
		}
	}
	if err != nil {
		return 0, err
	}
	if !server.HandshakeDone() {
		return 0, errors.New("the handshake is not done")
	}
	if err := c.negotiated(server); err != nil {
		return 0, err
	}
	if given := client.Sessions(); e.session == nil && len(given) > 0 {
		e.session, e.stored = given[0], server.NewSessions()
	}
	return spent, timed(func() error {
		server.Close()
		if c.fresh {
			ctx.Close()
		}
		return nil
	})
}

// choiceKinds returns the kinds of work for choices; the argument is the title
// of a choice.
func choiceKinds(pki string) map[string]func(string, int) ([]float64, error) {
	return map[string]func(string, int) ([]float64, error){
		"choice handshake": func(title string, n int) ([]float64, error) {
			c, known := findChoice(title)
			if !known {
				return nil, subject.Cannot("no such choice")
			}
			return c.serverHandshakes(pki, n)
		},
		"choice message": func(title string, n int) ([]float64, error) {
			c, known := findChoice(title)
			if !known {
				return nil, subject.Cannot("no such choice")
			}
			e, err := c.open(pki)
			if err != nil {
				return nil, err
			}
			defer e.server.Close()
			defer e.user.Close()
			return e.messages(16384, 1, n)
		},
	}
}

func choiceRows() []row {
	handshake := timed("choices/handshake", "choices", "a server's handshake, full if it is not resumed", nil)
	message := timed("choices/message", "choices", "16 KiB sent and received", nil)
	handshake.base, message.base = asDefault, asDefault
	for _, c := range choices {
		in := c.subject
		if in == "" {
			in = plainName
		}
		handshake.contenders = append(handshake.contenders, doing(c.title, in, "choice handshake", c.title))
		if c.message {
			message.contenders = append(message.contenders, doing(c.title, in, "choice message", c.title))
		}
	}
	return []row{handshake, message}
}

// measureChoices measures the choices and prints them. It writes them into the
// marked part of f.doc for this series of OpenSSL, and the summary into
// performance.md in the folder above.
func measureChoices(f *flags) error {
	runtime.LockOSThread() // the children inherit the processor of this thread
	s, err := newSite(f.pki)
	if err != nil {
		return err
	}
	defer s.close()
	if err := cend.Pin(f.cpu); err != nil {
		return err
	}
	r := &runner{rounds: f.rounds, slice: f.slice, open: s.openers(), subjects: make(map[string]subject.Subject),
		left: make(map[string]string), versions: make(map[string]string)}
	defer r.close()
	res := &Results{Run: Run{cend.OpenSSL(), runtime.Version(), machine()}, Rounds: f.rounds}
	for _, w := range choiceRows() {
		progress("%s", w.title)
		got, err := r.measure(&w)
		if err != nil {
			return err
		}
		res.Rows = append(res.Rows, got)
	}
	text := choiceTable(res)
	fmt.Print(text)
	if f.doc == "" {
		return nil
	}
	if err := replacePart(f.doc, "the choices with OpenSSL "+res.series(), choicePart(res.series()), text); err != nil {
		return err
	}
	return summarize(f.doc, filepath.Join(filepath.Dir(f.doc), "..", "performance.md"))
}

// choiceTable is a table for each row, with the ratio of each choice's time to
// that of the defaults.
func choiceTable(r *Results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %s; %s UTC, %d rounds, load average %s.\n",
		r.OpenSSL, r.Go, r.Machine, r.Rows[0].When, r.Rounds, figure(r.Rows[0].Load))
	for _, row := range r.Rows {
		lines := [][]string{{row.Title, "ratio", "quartiles", "µs"}}
		for _, c := range row.Cells {
			if c.Left != "" {
				continue
			}
			line := []string{c.Name, "1", "", figure(c.Median)}
			if c.Name != row.Base { // c.Ratio is that of the base to this one
				line[1] = fmt.Sprintf("**%.2f**", 1/c.Ratio.Median)
				line[2] = fmt.Sprintf("%.2f–%.2f", 1/c.Ratio.Q3, 1/c.Ratio.Q1)
			}
			lines = append(lines, line)
		}
		fmt.Fprintf(&b, "\n%s", table(lines))
	}
	return b.String()
}

// choicePart matches the tables of a series of OpenSSL in measurements.md.
func choicePart(series string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)(<!-- choices:begin ` + regexp.QuoteMeta(series) + ` -->\n).*?(<!-- choices:end -->)`)
}

// replacePart replaces the text between the two marks that part matches.
func replacePart(path, what string, part *regexp.Regexp, text string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !part.Match(page) {
		return fmt.Errorf("%s has no part for %s", filepath.Base(path), what)
	}
	written := part.ReplaceAllStringFunc(string(page), func(old string) string {
		m := part.FindStringSubmatch(old)
		return m[1] + "\n" + strings.TrimRight(text, "\n") + "\n\n" + m[2]
	})
	return os.WriteFile(path, []byte(written), 0o644)
}

// summarized are the series of OpenSSL in the summary.
var summarized = []string{"3.0", "3.5"}

// summarize writes the ratios of the choices with an advice into the summary of a
// page, from the tables in measurements.
func summarize(measurements, page string) error {
	text, err := os.ReadFile(measurements)
	if err != nil {
		return err
	}
	lines := [][]string{{"choice"}}
	for _, series := range summarized {
		lines[0] = append(lines[0], "OpenSSL "+series)
	}
	lines[0] = append(lines[0], "advice")
	for _, c := range choices {
		if c.advice == "" {
			continue
		}
		line := []string{c.title}
		cell := regexp.MustCompile(`\n\| ` + regexp.QuoteMeta(c.title) + ` \| (\*\*[0-9.]+\*\*) \|`)
		for _, series := range summarized {
			m := cell.FindSubmatch(choicePart(series).Find(text))
			if m == nil {
				return fmt.Errorf("%s has no %q with OpenSSL %s", filepath.Base(measurements), c.title, series)
			}
			line = append(line, string(m[1]))
		}
		lines = append(lines, append(line, c.advice))
	}
	return replacePart(page, "the summary", choicePart("summary"), table(lines))
}
