package filter

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	// DefaultMaxHead bounds the request line and the header of a request together,
	// and separately its chunk extensions and trailer, in bytes.
	DefaultMaxHead = 64 << 10
	// DefaultMaxHeaders bounds the number of header fields of a request. It is the
	// default of Apache's LimitRequestFields.
	DefaultMaxHeaders = 100
	// DefaultMaxBody bounds the body of a request in bytes. It is the original's
	// MaxContent.
	DefaultMaxBody = 1 << 20
	// MaxResponse bounds the body of a response in bytes.
	MaxResponse = MaxWaiting
	// MaxPipelined bounds the number of requests that Next has returned and that
	// have not been answered. The next request comes after one of them is answered.
	MaxPipelined = 64
)

// HTTPD is the Codec of an HTTP/1.0 and HTTP/1.1 server. Each incoming record is
// a complete *http.Request, parsed by net/http's parser, with the whole body in
// memory. Each outgoing record is a *http.Response. HTTPD uses no goroutines. An
// HTTPD belongs to one Stack.
//
// Responses are sent in the order of their requests, one for each request; interim
// responses (1xx) may come before it. A response that no
// request waits for is an error and is not sent. While a request is arriving,
// a response (408, for example) answers it and ends the connection. The
// framing of a response is chosen as in net/http: a response to HEAD, 204 and 304
// have no body; a body of unknown length (ContentLength -1) is chunked in
// HTTP/1.1 and ends with the connection in HTTP/1.0; if the length is 0 and
// there is a body, its bytes are counted. HTTPD sets Connection: close and
// keep-alive as needed. It adds no other fields, neither Date nor Server.
//
// Done reports that the last response has been sent. Call CloseWrite of the
// Stack then.
//
// HTTPD rejects requests that two programs could read differently, so that
// nothing can be smuggled past one of them: Content-Length together with
// Transfer-Encoding, or twice; codings other than chunked; a field name that is
// not a token or is followed by a space; folded lines; control characters; a
// chunk size that is not a hexadecimal number; and a body on CONNECT or TRACE,
// for which RFC 9110 allows no content. Such a request is a
// *BadRequestError of Next and ends reading. Send its Response as the answer.
//
// HTTPD answers "Expect: 100-continue" when all earlier requests are answered
// and nothing of the body has arrived. After a request that asks for another
// protocol (Upgrade, CONNECT) it decodes no further request until that one is
// answered. If the answer is 101, or 2xx to a CONNECT, everything after the
// request stays in the Stack for the codec that is set next.
//
// Trailers are checked and dropped.
//
// Corresponds to POE::Filter::HTTPD. Its Streaming has no counterpart.
type HTTPD struct {
	MaxHead    int // bytes; 0 is DefaultMaxHead
	MaxHeaders int // 0 is DefaultMaxHeaders
	MaxBody    int // bytes; 0 is DefaultMaxBody

	state bodyState
	req   *http.Request // whose body is being read; nil between requests
	left  int           // of the body or chunk, in bytes
	extra int           // chunk extensions and trailer so far, in bytes
	lines int           // of the trailer so far
	body  []byte
	taken int   // bytes of req so far
	err   error // what ended reading

	waiting  []exchange // returned by Decode and not answered, oldest first
	expects  bool       // the client of req waits for 100 Continue
	reply    bool       // 100 Continue can be sent now
	last     bool       // no further request is read
	done     bool       // no further response can be sent
	switched bool       // another protocol follows
}

// exchange is what HTTPD needs to know about a request when it is answered.
type exchange struct {
	method   string
	minor    int  // minor version of the answer, 0 or 1; the major version is 1
	close    bool // the connection ends after the answer
	switches bool // the request asks for another protocol
}

// BadRequestError is a request that HTTPD rejects. HTTPD decodes nothing that
// the peer sends afterwards.
type BadRequestError struct {
	Status int    // the status code to answer with: 400, 413, 417, 431, 501 or 505
	Reason string // "more than 100 header fields"
	Err    error  // what net/http's parser said, or nil
}

func (e *BadRequestError) Error() string {
	text := fmt.Sprintf("filter: bad HTTP request (%d): %s", e.Status, e.Reason)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the error of net/http's parser, or nil.
func (e *BadRequestError) Unwrap() error { return e.Err }

// Response returns the answer to the request, a plain text. The connection ends
// after it.
func (e *BadRequestError) Response() *http.Response {
	text := fmt.Sprintf("%d %s: %s\n", e.Status, http.StatusText(e.Status), e.Reason)
	return &http.Response{
		StatusCode:    e.Status,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		Body:          io.NopCloser(strings.NewReader(text)),
		ContentLength: int64(len(text)),
		Close:         true,
	}
}

func badRequest(status int, format string, args ...any) error {
	return &BadRequestError{Status: status, Reason: fmt.Sprintf(format, args...)}
}

// Decode looks for the next request.
func (h *HTTPD) Decode(data []byte, seen int) (any, int, error) {
	switch {
	case h.err != nil:
		return nil, 0, h.err
	case h.switched:
		return nil, 0, nil
	case h.last && h.req == nil:
		return nil, len(data), nil
	}
	n, err := 0, error(nil)
	switch {
	case h.req != nil:
		n, err = h.readBody(data)
	case h.paused():
		return nil, 0, nil
	default:
		n, err = h.readHead(data, seen)
	}
	if err != nil {
		h.err, h.req, h.body, h.expects, h.reply = err, nil, nil, false, false
		return nil, n, err
	}
	if h.req != nil {
		h.taken += n
		if h.state == bodyDone {
			return h.finish(), n, nil
		}
	}
	return nil, n, nil
}

// paused reports whether an answer has to be sent before the next request is
// decoded.
func (h *HTTPD) paused() bool {
	n := len(h.waiting)
	return n >= MaxPipelined || n > 0 && h.waiting[n-1].switches
}

// readHead consumes a whole head, or the empty lines before it (RFC 9112 section
// 2.2).
func (h *HTTPD) readHead(data []byte, seen int) (int, error) {
	if n := emptyLines(data); n > 0 {
		return n, nil
	}
	end := headEnd(data, seen)
	if end > h.maxHead() || end == 0 && len(data) > h.maxHead() {
		return 0, badRequest(http.StatusRequestHeaderFieldsTooLarge, "more than %d bytes before the body", h.maxHead())
	}
	if end == 0 {
		return 0, nil
	}
	head := data[:end]
	framing, err := checkHead(head, h.maxHeaders())
	if err == nil {
		err = framing.check(h.maxBody())
	}
	if err != nil {
		return 0, err
	}
	req, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), min(len(head), 4096)))
	if err != nil {
		return 0, &BadRequestError{Status: http.StatusBadRequest, Reason: "the request cannot be parsed", Err: err}
	}
	h.begin(req, framing.length, len(data) > end)
	return end, nil
}

// begin starts reading the body of req.
func (h *HTTPD) begin(req *http.Request, length int, more bool) {
	h.req, h.body, h.taken, h.extra, h.lines = req, nil, 0, 0, 0
	h.left = length
	switch {
	case len(req.TransferEncoding) > 0:
		h.state = bodySize
	case length > 0:
		h.state = bodyPlain
	default:
		h.state = bodyDone
	}
	h.expects = h.state != bodyDone && !more && req.ProtoAtLeast(1, 1) && req.Header.Get("Expect") != ""
	h.reply = h.expects && len(h.waiting) == 0
	h.last = req.Close && !h.switches(req)
}

func (h *HTTPD) switches(req *http.Request) bool {
	return req.Method == http.MethodConnect || req.Header.Get("Upgrade") != ""
}

// finish returns the request, whose body is complete.
func (h *HTTPD) finish() *http.Request {
	req := h.req
	if req.Body = http.NoBody; len(h.body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(h.body))
	}
	req.Trailer = nil
	h.waiting = append(h.waiting, exchange{
		method: req.Method, minor: min(req.ProtoMinor, 1), close: req.Close, switches: h.switches(req),
	})
	h.req, h.body, h.taken, h.expects, h.reply = nil, nil, 0, false, false
	return req
}

// Reply appends "100 Continue" when it is due.
func (h *HTTPD) Reply(dst []byte) []byte {
	if !h.reply {
		return dst
	}
	h.reply, h.expects = false, false
	return append(dst, "HTTP/1.1 100 Continue\r\n\r\n"...)
}

// Partial returns the number of bytes of an incomplete request that Decode has
// consumed.
func (h *HTTPD) Partial() int {
	if h.req == nil {
		return 0
	}
	return h.taken
}

// Done reports whether the last response has been sent: the client or we asked
// to close, a request was bad, or another protocol follows.
func (h *HTTPD) Done() bool { return h.done }

// Encode appends a *http.Response. It reads and closes the body, at most
// MaxResponse bytes.
func (h *HTTPD) Encode(dst []byte, rec any) ([]byte, error) {
	resp, ok := rec.(*http.Response)
	if !ok || resp == nil {
		return dst, recordType("HTTPD", rec, "*http.Response")
	}
	asked := exchange{minor: 1, close: true} // of a request that was refused or is not complete
	switch {
	case h.done:
		return dst, errors.New("filter: HTTPD: the last response has been sent")
	case len(h.waiting) > 0:
		asked = h.waiting[0]
	case h.err == nil && h.req == nil:
		return dst, errors.New("filter: HTTPD: no request waits for a response")
	}
	out, fate, err := prepare(resp, asked)
	if err != nil {
		return dst, err
	}
	w := bytes.NewBuffer(dst)
	if err := out.Write(w); err != nil {
		return dst, fmt.Errorf("filter: HTTPD: %w", err)
	}
	if fate == fateInterim {
		return w.Bytes(), nil
	}
	if len(h.waiting) > 0 {
		h.waiting = h.waiting[1:]
	}
	switch fate {
	case fateClose:
		h.done, h.last = true, true
		h.req, h.body, h.expects, h.reply = nil, nil, false, false
	case fateSwitch:
		h.done, h.switched = true, true
	}
	if h.reply = h.expects && len(h.waiting) == 0; h.reply {
		return h.Reply(w.Bytes()), nil
	}
	return w.Bytes(), nil
}

func (h *HTTPD) maxHead() int    { return orDefault(h.MaxHead, DefaultMaxHead) }
func (h *HTTPD) maxHeaders() int { return orDefault(h.MaxHeaders, DefaultMaxHeaders) }
func (h *HTTPD) maxBody() int    { return orDefault(h.MaxBody, DefaultMaxBody) }

func orDefault(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}
