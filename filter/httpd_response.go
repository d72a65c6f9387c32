package filter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// fate is what happens to the connection after a response.
type fate uint8

const (
	fateKeep    fate = iota // the next response follows
	fateInterim             // another response to the same request follows
	fateClose               // it ends
	fateSwitch              // another protocol follows
)

// prepare returns a copy of resp that net/http writes as the answer to asked.
func prepare(resp *http.Response, asked exchange) (*http.Response, fate, error) {
	out := *resp
	out.Header = canonical(resp.Header)
	out.Uncompressed = false
	out.Request = &http.Request{Method: asked.method}
	if err := version(&out, asked); err != nil {
		return nil, 0, err
	}
	switch code := out.StatusCode; {
	case code < 100 || code > 999:
		return nil, 0, fmt.Errorf("filter: HTTPD: a response with status code %d", code)
	case !allTokens(out.Trailer): // net/http drops such a field, and writes its name into Trailer
		return nil, 0, errors.New("filter: HTTPD: the name of a trailer field is not a token")
	case hasControl(out.Status):
		return nil, 0, errors.New("filter: HTTPD: a control character in Status")
	case code < 200 && code != http.StatusSwitchingProtocols:
		if asked.method == "" || asked.minor == 0 {
			return nil, 0, fmt.Errorf("filter: HTTPD: status code %d, but no HTTP/1.1 request waits for an interim response", code)
		}
		return withoutBody(&out), fateInterim, nil
	case code == http.StatusSwitchingProtocols, code < 300 && asked.method == http.MethodConnect:
		if !asked.switches {
			return nil, 0, fmt.Errorf("filter: HTTPD: status code %d to a request that did not ask for another protocol", code)
		}
		return withoutBody(&out), fateSwitch, nil
	}
	untilClose, err := setBody(&out, asked)
	if err != nil {
		return nil, 0, err
	}
	if untilClose || asked.close || out.Close || hasClose(out.Header) {
		setConnection(&out, "close")
		return &out, fateClose, nil
	}
	setConnection(&out, "keep-alive")
	return &out, fateKeep, nil
}

// canonical copies a header with canonical names. A field whose name is not
// canonical, as in a map literal, would escape the checks here: a second
// Content-Length, for example.
func canonical(header http.Header) http.Header {
	if header == nil {
		return nil
	}
	out := make(http.Header, len(header))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		key := http.CanonicalHeaderKey(name)
		out[key] = append(out[key], header[name]...)
	}
	return out
}

// allTokens reports whether each name is a token.
func allTokens(header http.Header) bool {
	for name := range header {
		if !isToken(name) {
			return false
		}
	}
	return true
}

// version sets the version of the response to that of the request, unless the
// response has a lower one.
func version(out *http.Response, asked exchange) error {
	if out.ProtoMajor == 0 && out.ProtoMinor == 0 {
		out.ProtoMajor, out.ProtoMinor = 1, asked.minor
	}
	if out.ProtoMajor != 1 || out.ProtoMinor < 0 || out.ProtoMinor > 1 {
		return fmt.Errorf("filter: HTTPD: a response of HTTP/%d.%d", out.ProtoMajor, out.ProtoMinor)
	}
	out.ProtoMinor = min(out.ProtoMinor, asked.minor)
	return nil
}

// setBody reads the body and chooses its framing.
func setBody(out *http.Response, asked exchange) (untilClose bool, err error) {
	body, err := readBody(out.Body)
	if err != nil {
		return false, err
	}
	if out.StatusCode == http.StatusNoContent || out.StatusCode == http.StatusNotModified {
		withoutBody(out)
		return false, nil
	}
	head := asked.method == http.MethodHead
	chunked := len(out.TransferEncoding) == 1 && strings.EqualFold(out.TransferEncoding[0], "chunked")
	switch {
	case len(out.TransferEncoding) > 0 && !chunked:
		return false, fmt.Errorf("filter: HTTPD: a response with the transfer encoding %q", out.TransferEncoding)
	case out.ContentLength > 0 && !head && int64(len(body)) != out.ContentLength:
		return false, fmt.Errorf("filter: HTTPD: ContentLength is %d and the body has %d bytes", out.ContentLength, len(body))
	case chunked || out.ContentLength < 0:
		out.ContentLength, out.TransferEncoding = -1, []string{"chunked"}
		if out.ProtoMinor == 0 {
			out.TransferEncoding = nil
			untilClose = !head
		}
	case out.ContentLength == 0:
		out.ContentLength = int64(len(body))
	}
	out.Body = http.NoBody
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body))
	}
	return untilClose, nil
}

func readBody(body io.ReadCloser) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, MaxResponse+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("filter: HTTPD: the body of the response: %w", err)
	case len(b) > MaxResponse:
		return nil, fmt.Errorf("filter: HTTPD: a response body of more than %d bytes", MaxResponse)
	}
	return b, nil
}

// withoutBody makes Write omit the body and its header fields. Content-Length: 0
// is omitted too, because 1xx, 204 and 2xx to CONNECT must not have it (RFC 9110
// section 8.6). Uncompressed keeps Write from adding Connection: close.
func withoutBody(out *http.Response) *http.Response {
	out.Body, out.ContentLength, out.TransferEncoding, out.Uncompressed, out.Request = nil, -1, nil, true, nil
	return out
}

// setConnection sets the Connection field if the version does not imply it.
func setConnection(out *http.Response, what string) {
	implied := "keep-alive"
	if out.ProtoMinor == 0 {
		implied = "close"
	}
	out.Close = false // Write would add it even if the version implies it
	var options []string
	for _, line := range out.Header.Values("Connection") {
		for option := range strings.SplitSeq(line, ",") {
			if option = strings.TrimSpace(option); option != "" && !strings.EqualFold(option, "close") && !strings.EqualFold(option, "keep-alive") {
				options = append(options, option)
			}
		}
	}
	if what != implied {
		options = slices.Insert(options, 0, what)
	}
	out.Header.Del("Connection")
	if len(options) == 0 {
		return
	}
	if out.Header == nil {
		out.Header = make(http.Header)
	}
	out.Header.Set("Connection", strings.Join(options, ", "))
}

func hasClose(header http.Header) bool {
	for _, line := range header.Values("Connection") {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "close") {
				return true
			}
		}
	}
	return false
}
