package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
)

// httpResponse is the text of {"http_response": text}, from which the oracle for the
// original makes a response object.
type httpResponse string

// object returns HTTP::Response->new(200) with a type and a content, as
// POE::Filter::HTTPD sends it: HTTP/1.0, without a length, with a status in brackets.
func (r httpResponse) object() *http.Response {
	return &http.Response{
		Status: "200 (OK)", StatusCode: 200, ProtoMajor: 1, ProtoMinor: 0,
		Header:        http.Header{"Content-Type": {"text/plain"}},
		Body:          io.NopCloser(strings.NewReader(string(r))),
		ContentLength: -1,
	}
}

// parseStack checks the names of a stack, from the network inward.
func parseStack(raw any) ([]string, error) {
	list, ok := raw.([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("a stack without filters")
	}
	var names []string
	for i, item := range list {
		name, _ := text(item)
		switch {
		case !slices.Contains([]string{"SSL", "Stream", "Line", "HTTPD"}, name):
			return nil, fmt.Errorf("a stack with %q", name)
		case name == "HTTPD" && i < len(list)-1:
			return nil, fmt.Errorf("a stack with HTTPD under another filter")
		}
		names = append(names, name)
	}
	return names, nil
}

// stack is a filter.Stack and the records that came out of it.
type stack struct {
	*filter.Stack
	codec   filter.Codec
	filters []filter.Filter // that are pushed at the start
	tls     []*sslfilter.Filter
	wire    records
	records []any
}

// newStack makes the stack of names. Its filters start with the first put or delivery,
// as in the original.
func newStack(names []string, newSSL func() (*sslfilter.Filter, error)) (*stack, error) {
	s := &stack{codec: filter.Stream{}}
	for i, name := range names {
		top := i == len(names)-1
		switch name {
		case "SSL":
			f, err := newSSL()
			if err != nil {
				s.close()
				return nil, err
			}
			s.tls, s.filters = append(s.tls, f), append(s.filters, f)
		case "Line":
			if s.codec = new(filter.Line); !top {
				s.filters, s.codec = append(s.filters, &between{codec: s.codec}), filter.Stream{}
			}
		case "HTTPD":
			s.codec = new(filter.HTTPD)
		}
	}
	s.wire.tls = names[0] == "SSL"
	return s, nil
}

// start pushes the filters. An error stays in the stack.
func (s *stack) start() {
	if s.Stack != nil {
		return
	}
	s.Stack = filter.NewStack(s.codec)
	for _, f := range s.filters {
		if s.Push(f) != nil {
			return
		}
	}
}

func (s *stack) close() {
	for _, f := range s.tls {
		f.Close()
	}
}

// say sends one item of a put.
func (s *stack) say(item any) {
	r, isResponse := item.(httpResponse)
	if isResponse {
		item = r.object()
	}
	err := s.Send(item)
	// The original counts neither requests nor responses. Here a response without a
	// request is an error, so an encoder that has read a request sends it.
	if isResponse && err != nil {
		asked := new(filter.HTTPD)
		if rec, _, _ := asked.Decode([]byte("GET / HTTP/1.0\r\n\r\n"), 0); rec != nil {
			s.SetEncoder(asked)
			s.Send(r.object())
			s.SetEncoder(s.codec)
		}
		return
	}
	// The original does not end a connection after a response either.
	if h, ok := s.codec.(*filter.HTTPD); ok && h.Done() {
		fresh := new(filter.HTTPD)
		s.SetEncoder(fresh)
		if s.SetDecoder(fresh) == nil {
			s.codec = fresh
		}
	}
}

// receive delivers bytes one TLS record at a time. In the original, the plaintext of a
// TLS record is one record of Stream. Here a Stream has no fixed boundaries.
func (s *stack) receive(wire []byte) {
	s.start()
	for len(wire) > 0 {
		n := s.wire.next(wire)
		s.Receive(wire[:n])
		wire = wire[n:]
		s.take()
	}
}

func (s *stack) take() {
	for {
		rec, _ := s.Next()
		if rec == nil {
			return
		}
		s.records = append(s.records, rec)
	}
}

// handshaken reports whether every TLS filter in the stack has done its handshake.
func (s *stack) handshaken() bool {
	return !slices.ContainsFunc(s.tls, func(f *sslfilter.Filter) bool { return !f.HandshakeDone() })
}

// records splits a stream at the ends of its TLS records.
type records struct {
	tls    bool   // the stream consists of TLS records; otherwise it is not split
	header []byte // bytes of the current record that have arrived
	left   int    // length of its content
}

const recordHeader = 5 // RFC 8446 section 5.1

// next returns the length of the first piece of wire.
func (r *records) next(wire []byte) (n int) {
	if !r.tls {
		return len(wire)
	}
	if r.left == 0 {
		n = min(recordHeader-len(r.header), len(wire))
		if r.header = append(r.header, wire[:n]...); len(r.header) < recordHeader {
			return n
		}
		r.left = int(r.header[3])<<8 | int(r.header[4])
		r.header = r.header[:0]
	}
	content := min(r.left, len(wire)-n)
	r.left -= content
	return n + content
}

// between makes a filter from a codec that has others on top of it. The bytes of its
// records, one after the other, are the input of the next one, as in
// Filter::Stackable.
type between struct {
	codec   filter.Codec
	in, out []byte
}

func (b *between) Receive(dst, wire []byte) ([]byte, error) {
	b.in = append(b.in, wire...)
	for {
		rec, n, err := b.codec.Decode(b.in, 0)
		b.in = b.in[n:]
		switch {
		case err != nil:
			return dst, err
		case rec != nil:
			dst, _ = filter.Stream{}.Encode(dst, rec)
		case n == 0:
			return dst, nil
		}
	}
}

func (b *between) Send(plain []byte) (err error) {
	if len(plain) > 0 {
		b.out, err = b.codec.Encode(b.out, plain)
	}
	return err
}

func (b *between) Outgoing(dst []byte) []byte {
	dst = append(dst, b.out...)
	b.out = nil
	return dst
}

func (b *between) ReceiveEOF() error { return io.EOF }
func (b *between) CloseWrite() error { return nil }
func (b *between) Flushed() bool     { return len(b.out) == 0 }
func (b *between) Err() error        { return nil }
func (b *between) Close() error      { return nil }

// lines returns records in the form of the case file: text unchanged, and a request as
// the oracle for the original describes it.
func lines(list []any) []any {
	out := make([]any, 0, len(list))
	for _, rec := range list {
		switch rec := rec.(type) {
		case *http.Request:
			body, _ := io.ReadAll(rec.Body) // it is in memory
			out = append(out, map[string]any{"http_request": rec.Method + " " + rec.RequestURI, "content": string(body)})
		default:
			b, _ := filter.Stream{}.Encode(nil, rec)
			if utf8.Valid(b) {
				out = append(out, string(b))
			} else {
				out = append(out, map[string]any{"hex": hex.EncodeToString(b)})
			}
		}
	}
	return out
}

// plaintext returns all records that are text, one after the other.
func plaintext(list []any) (all []byte) {
	for _, rec := range list {
		all, _ = filter.Stream{}.Encode(all, rec)
	}
	return all
}
