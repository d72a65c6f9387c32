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
	// DefaultMaxHead bounds the request line and header of a request together,
	// and its chunk extensions and trailer, in bytes.
	DefaultMaxHead = 64 << 10
	// DefaultMaxHeaders bounds the header fields of a request. Apache's
	// LimitRequestFields has the same number.
	DefaultMaxHeaders = 100
	// DefaultMaxBody bounds the body of a request in bytes. It is the original's
	// MaxContent.
	DefaultMaxBody = 1 << 20
	// MaxResponse bounds the body of a response in bytes.
	MaxResponse = MaxWaiting
	// MaxPipelined bounds the requests that have been handed out and not been
	// answered. The next one comes when one of them is.
	MaxPipelined = 64
)

// HTTPD is the Codec of an HTTP/1.0 and HTTP/1.1 server. Each record that
// comes is a complete *http.Request, parsed by net/http's own parser, with the
// whole body in memory. Each record that is sent is a *http.Response. It has
// no goroutine, and needs none. An HTTPD belongs to one Stack.
//
// Responses go in the order of their requests, and a request is answered by
// one of them; interim ones (1xx) may come before it. A response that no
// request waits for is an error and is not sent. While a request is arriving,
// a response (408, for example) answers it and ends the connection. Which framing a response
// gets is decided as net/http does: a response to HEAD, 204 and 304 have no
// body; a body of unknown length (ContentLength -1) is chunked in HTTP/1.1 and
// ends with the connection in HTTP/1.0; a length of 0 with a body is counted.
// Connection: close and keep-alive are set as they have to be. Nothing else is
// added, no Date and no Server.
//
// Done reports that the last response has been sent. Whoever has the
// connection then calls CloseWrite.
//
// Requests that two programs could read differently are refused, so that
// nothing can be smuggled past one of them: Content-Length beside
// Transfer-Encoding, or twice; codings other than chunked; a field name that
// is no token or that a space follows; folded lines; control characters; and a
// chunk size with anything in it but digits; and a body on CONNECT or TRACE,
// which RFC 9110 gives no content. Such a request is a
// *BadRequestError of Next, and the end of reading. Its Response can be sent.
//
// "Expect: 100-continue" is answered when the request's turn has come and none
// of its body is there. After a request that asks for another protocol
// (Upgrade, CONNECT) no further one is decoded until it is answered. If the
// answer is 101, or 2xx to a CONNECT, everything behind the request stays in
// the Stack for the codec that is set then.
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

	waiting  []exchange // handed out and not answered, oldest first
	expects  bool       // req waits for 100 Continue
	reply    bool       // and may have it now
	last     bool       // no request is read any more
	done     bool       // no response can be sent any more
	switched bool       // another protocol follows
}

// exchange is what has to be known about a request when it is answered.
type exchange struct {
	method   string
	minor    int  // of the version to answer in, 0 or 1; the major one is 1
	close    bool // the connection ends behind the answer
	switches bool // it asks for another protocol
}

// BadRequestError is a request that HTTPD refuses. Nothing that the peer sends
// is decoded any more.
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

// Unwrap returns what net/http's parser said.
func (e *BadRequestError) Unwrap() error { return e.Err }

// Response is the answer, a plain text. After it the connection ends.
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

// paused reports whether an answer has to come before the next request.
func (h *HTTPD) paused() bool {
	n := len(h.waiting)
	return n >= MaxPipelined || n > 0 && h.waiting[n-1].switches
}

// readHead takes a whole head, or the empty lines in front of it (RFC 9112
// section 2.2).
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
		return 0, &BadRequestError{Status: http.StatusBadRequest, Reason: "it cannot be parsed", Err: err}
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

// finish gives the request, whose body is complete.
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

// Reply gives "100 Continue" when it is due.
func (h *HTTPD) Reply(dst []byte) []byte {
	if !h.reply {
		return dst
	}
	h.reply, h.expects = false, false
	return append(dst, "HTTP/1.1 100 Continue\r\n\r\n"...)
}

// Partial counts the bytes of an incomplete request that were taken.
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
