package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
)

// Result is the result of a case, in the form in which it is printed.
type Result struct {
	Name        string  `json:"name"`
	Unsupported string  `json:"unsupported,omitempty"`
	Server      *Report `json:"server,omitempty"`
	Client      *Report `json:"client,omitempty"`
}

// Report is the result of one side, under the keys that Case.Expect uses. If NewError
// is set, only Text is set too.
type Report struct {
	NewError bool   `json:"new_error,omitempty"`
	Text     string `json:"text,omitempty"`
	*Seen
}

// Seen is the result of a side whose New succeeded.
type Seen struct {
	Done    bool            `json:"done"`
	Cipher  string          `json:"cipher"`
	Version string          `json:"version"`
	Exists  bool            `json:"exists"`
	Valid   *bool           `json:"valid"` // null without a certificate
	IDs     [][4]any        `json:"ids"`
	RX      Digest          `json:"rx"`
	Lines   []any           `json:"lines,omitempty"` // of a stack
	CRL     map[string]bool `json:"crl,omitempty"`
	Error   uint64          `json:"error,omitempty"` // the first error that was reported in the handshake
}

// Digest describes received plaintext.
type Digest struct {
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// side is one end while a case runs.
type side struct {
	filter   *sslfilter.Filter // in a stack the one next to the network; may be nil
	stack    *stack            // nil means one filter without a stack
	newError error
	early    []any    // put before the handshake was done, to be sent one by one
	said     []byte   // output for the network that has not been sent yet
	queue    [][]byte // data on its way to this side, in the pieces in which it was sent
	got      []byte
	errs     []error // the errors that ErrorHandler got
}

// Run runs a case. It keeps no state after the call.
func Run(c *Case, pki PKI) Result { return runVisit(c, pki, nil) }

// visit changes a run of a case, and looks at its sides.
type visit interface {
	options(o *sslfilter.Options) // changes the options of a side
	before(server, client *side)  // is called before the first byte, if both sides run
	after(server, client *side)   // is called after the last one
}

func runVisit(c *Case, pki PKI, v visit) Result {
	r := Result{Name: c.Name, Unsupported: c.broken}
	if r.Unsupported != "" {
		return r
	}
	s := &c.Scenario
	server, err := newSide(pki, s.Server, v)
	if err == nil {
		defer server.close()
	}
	client, err2 := newSide(pki, s.Client, v)
	if err2 == nil {
		defer client.close()
	}
	if err := errors.Join(err, err2); err != nil {
		r.Unsupported = err.Error()
		return r
	}
	if why := server.cannot(s, "server") + client.cannot(s, "client"); why != "" {
		r.Unsupported = why
		return r
	}
	if server.runs() && client.runs() {
		if v != nil {
			v.before(server, client)
			defer v.after(server, client)
		}
		(&network{server: server, client: client, chunk: s.Chunk}).play(s)
	}
	r.Server, r.Client = server.report(pki, s.CRLs), client.report(pki, s.CRLs)
	return r
}

// newSide makes a side. It returns nil if the scenario does not have that side. If the
// library rejects the options, that is a result and not an error.
func newSide(pki PKI, spec *SideSpec, v visit) (*side, error) {
	if spec == nil {
		return nil, nil
	}
	s := &side{}
	o, err := pki.Options(spec.New)
	switch {
	case errors.Is(err, errNoScenario):
		return nil, err
	case err != nil:
		s.newError = err
		return s, nil
	}
	if v != nil {
		v.options(&o)
	}
	if handler, _ := text(spec.New["errorhandler"]); handler == "CODE" {
		o.ErrorHandler = func(_ *sslfilter.Filter, err error) { s.errs = append(s.errs, err) }
	}
	if spec.Stack == nil {
		s.filter, s.newError = newFilter(o, spec.Clone)
		return s, nil
	}
	s.stack, s.newError = newStack(spec.Stack, func() (*sslfilter.Filter, error) { return newFilter(o, spec.Clone) })
	if s.newError == nil && len(s.stack.tls) > 0 {
		s.filter = s.stack.tls[0]
	}
	return s, nil
}

// cannot returns the reason why a side cannot send its messages, or "".
func (s *side) cannot(sc *Scenario, name string) string {
	for _, m := range slices.Concat(sc.Early, sc.Messages) {
		for _, item := range m.Data {
			if _, ok := item.(httpResponse); !ok || m.From != name || s == nil || s.newError != nil {
				continue
			}
			if s.stack == nil {
				return name + " has to send an http_response, and has no HTTPD"
			}
			if _, ok := s.stack.codec.(*filter.HTTPD); !ok {
				return name + " has to send an http_response, and has no HTTPD on top"
			}
		}
	}
	return ""
}

func newFilter(o sslfilter.Options, clone bool) (*sslfilter.Filter, error) {
	f, err := sslfilter.New(o)
	if err != nil || !clone {
		return f, err
	}
	defer f.Close()
	return f.Clone()
}

func (s *side) runs() bool { return s != nil && s.newError == nil }

func (s *side) close() {
	switch {
	case !s.runs():
	case s.stack != nil:
		s.stack.close()
	default:
		s.filter.Close()
	}
}

// start starts the handshake of a client.
func (s *side) start() {
	if s.stack != nil {
		s.stack.start()
	} else {
		s.filter.Handshake()
	}
}

// say sends one item. The filter keeps the error and passes it to its ErrorHandler.
func (s *side) say(item any) {
	if s.stack != nil {
		s.stack.say(item)
	} else if data, ok := item.([]byte); ok {
		s.filter.Send(data)
	}
}

func (s *side) outgoing(dst []byte) []byte {
	switch {
	case s.stack == nil:
		return s.filter.Outgoing(dst)
	case s.stack.Stack == nil:
		return dst
	}
	return s.stack.Outgoing(dst)
}

// handshaken reports whether data that is sent leaves at once.
func (s *side) handshaken() bool {
	if s.stack != nil {
		return s.stack.handshaken()
	}
	return s.filter.HandshakeDone()
}

// network moves bytes between the sides in the order of the oracle.
type network struct {
	server, client *side
	chunk          int
}

func (n *network) play(s *Scenario) {
	for _, m := range s.Early {
		n.put(m)
	}
	if s.Kick {
		n.put(Message{From: "client"})
	}
	n.pump()
	for _, m := range s.Messages {
		n.put(m)
		n.pump()
	}
}

// put sends one message, as the original's put does. It also starts a client.
func (n *network) put(m Message) {
	from := n.server
	if m.From == "client" {
		from = n.client
	}
	from.start()
	for _, item := range m.Data {
		switch {
		case item == nil:
		case n.peer(from).stack != nil && !from.handshaken():
			from.early = append(from.early, item)
		case n.peer(from).stack != nil:
			n.sayAlone(from, item)
		default:
			from.say(item)
		}
	}
	n.collect(from)
}

// sayAlone sends an item in a TLS record of its own, as the original does. A Stream on
// the other side returns it as one record.
func (n *network) sayAlone(from *side, item any) {
	from.said = from.outgoing(from.said)
	from.say(item)
	from.said = from.outgoing(from.said)
}

// collect sends the output of a side, in one piece.
func (n *network) collect(from *side) {
	from.said = from.outgoing(from.said)
	if len(from.early) > 0 && from.handshaken() {
		for _, item := range from.early {
			n.sayAlone(from, item)
		}
		from.early = nil
	}
	if to := n.peer(from); len(from.said) > 0 {
		to.queue = append(to.queue, from.said)
		from.said = nil
	}
}

func (n *network) peer(of *side) *side {
	if of == n.server {
		return n.client
	}
	return n.server
}

// pump delivers until nothing moves: first everything that waits for the server, then
// everything for the client, and again.
func (n *network) pump() {
	for moved := true; moved; {
		moved = n.drain(n.server)
		moved = n.drain(n.client) || moved
	}
}

// drain delivers the data that is on its way to a side when drain is called.
func (n *network) drain(to *side) bool {
	waiting := len(to.queue)
	for range waiting {
		if n.chunk > 0 {
			break
		}
		n.deliver(to, to.take(0))
	}
	for n.chunk > 0 && len(to.queue) > 0 {
		n.deliver(to, to.take(n.chunk))
	}
	return waiting > 0
}

func (n *network) deliver(to *side, wire []byte) {
	if to.stack != nil {
		to.stack.receive(wire)
	} else {
		to.got, _ = to.filter.Receive(to.got, wire)
	}
	n.collect(to)
}

// take takes the next delivery from the queue: a piece, or size bytes across pieces.
func (s *side) take(size int) []byte {
	if size == 0 {
		piece := s.queue[0]
		s.queue = s.queue[1:]
		return piece
	}
	var wire []byte
	for len(wire) < size && len(s.queue) > 0 {
		n := min(size-len(wire), len(s.queue[0]))
		wire = append(wire, s.queue[0][:n]...)
		if s.queue[0] = s.queue[0][n:]; len(s.queue[0]) == 0 {
			s.queue = s.queue[1:]
		}
	}
	return wire
}

func (s *side) report(pki PKI, crls []*string) *Report {
	switch {
	case s == nil:
		return nil
	case s.newError != nil:
		return &Report{NewError: true, Text: s.newError.Error()}
	}
	seen := new(Seen)
	if s.stack != nil {
		s.got, seen.Lines = plaintext(s.stack.records), lines(s.stack.records)
	}
	sum := sha256.Sum256(s.got)
	seen.RX = Digest{Bytes: len(s.got), SHA256: hex.EncodeToString(sum[:])}
	f := s.filter
	if f == nil {
		return &Report{Seen: seen}
	}
	seen.Done, seen.Cipher, seen.Version = f.HandshakeDone(), f.Cipher(), f.Version()
	seen.Exists, seen.IDs = f.ClientCertExists(), ids(f.ClientCertIDs())
	seen.Error = s.handshakeError()
	if seen.Exists {
		valid := f.ClientCertValid()
		seen.Valid = &valid
	}
	for _, file := range crls {
		if seen.CRL == nil {
			seen.CRL = make(map[string]bool)
		}
		name, path := crlName(pki, file)
		seen.CRL[name] = f.ClientCertNotOnCRL(path)
	}
	return &Report{Seen: seen}
}

// crlName returns the key of a CRL in the report, and the file. A missing name and an
// empty name have the same key.
func crlName(pki PKI, file *string) (name, path string) {
	if file == nil {
		return "", ""
	}
	return *file, pki.path(*file)
}

// handshakeError is OpenSSL's code of the first error that was reported before
// the handshake was done, or 0. An error freezes the filter, so the handshake was not
// done then if it is not done now.
func (s *side) handshakeError() uint64 {
	var e *sslfilter.Error
	if s.filter.HandshakeDone() || len(s.errs) == 0 || !errors.As(s.errs[0], &e) || len(e.Records) == 0 {
		return 0
	}
	return e.Records[0].Code
}

// ids returns the original's clientCertIds, with the serial as hexdump writes it.
func ids(list []sslfilter.CertID) [][4]any {
	out := make([][4]any, 0, len(list))
	for _, id := range list {
		out = append(out, [4]any{id.Subject, id.Issuer, sslfilter.Hexdump(id.Serial), int(id.Err)})
	}
	return out
}
