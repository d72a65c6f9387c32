package filter

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
)

// emptyLines returns the number of bytes of empty lines at the start of data.
func emptyLines(data []byte) (n int) {
	for {
		switch rest := data[n:]; {
		case len(rest) > 0 && rest[0] == '\n':
			n++
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			n += 2
		default:
			return n
		}
	}
}

// headEnd returns the end of the empty line that ends a head, or 0. The first
// seen bytes were searched before.
func headEnd(data []byte, seen int) int {
	for at := max(0, min(seen, len(data))-2); ; {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return 0
		}
		at += i + 1
		switch rest := data[at:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return at + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return at + 2
		}
	}
}

// framing is what a head says about the body and the host. net/http's parser is
// more lenient here than is safe between two programs.
type framing struct {
	method                           string
	major, minor                     int // of the version
	hosts, codings, lengths, expects []string
	length                           int // in bytes; set by check
}

// checkHead checks each line of a head, whose last line is empty. It rejects
// what net/http's parser would accept or repair.
func checkHead(head []byte, maxHeaders int) (*framing, error) {
	f := new(framing)
	lines := strings.Split(string(head), "\n")
	lines = lines[:len(lines)-2] // without the empty line and what follows it
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	if hasControl(lines[0]) {
		return nil, badRequest(http.StatusBadRequest, "a control character in the request line")
	}
	var ok bool
	f.method, _, _ = strings.Cut(lines[0], " ")
	version := lines[0][strings.LastIndexByte(lines[0], ' ')+1:]
	if f.major, f.minor, ok = http.ParseHTTPVersion(version); !ok {
		return nil, badRequest(http.StatusBadRequest, "a request line without an HTTP version")
	}
	fields := lines[1:]
	if len(fields) > maxHeaders {
		return nil, badRequest(http.StatusRequestHeaderFieldsTooLarge, "more than %d header fields", maxHeaders)
	}
	for _, line := range fields {
		name, value, err := field(line)
		if err != nil {
			return nil, err
		}
		switch strings.ToLower(name) {
		case "host":
			f.hosts = append(f.hosts, value)
		case "transfer-encoding":
			f.codings = append(f.codings, value)
		case "content-length":
			f.lengths = append(f.lengths, value)
		case "expect":
			f.expects = append(f.expects, value)
		}
	}
	return f, nil
}

// field splits a header line (RFC 9112 section 5).
func field(line string) (name, value string, err error) {
	if line != "" && (line[0] == ' ' || line[0] == '\t') {
		return "", "", badRequest(http.StatusBadRequest, "a folded header line")
	}
	name, value, found := strings.Cut(line, ":")
	switch {
	case !found:
		return "", "", badRequest(http.StatusBadRequest, "a header line without a colon")
	case !isToken(name):
		return "", "", badRequest(http.StatusBadRequest, "a header field name that is not a token")
	}
	if value = strings.Trim(value, " \t"); hasControl(value) {
		return "", "", badRequest(http.StatusBadRequest, "a control character in a header field")
	}
	return name, value, nil
}

// check sets the length of the body, and rejects a head that leaves it
// ambiguous (RFC 9112 sections 3.2 and 6).
func (f *framing) check(maxBody int) error {
	switch {
	case f.major != 1:
		return badRequest(http.StatusHTTPVersionNotSupported, "the version is not HTTP/1.x")
	case len(f.hosts) > 1:
		return badRequest(http.StatusBadRequest, "more than one Host")
	case len(f.hosts) == 0 && f.minor > 0:
		return badRequest(http.StatusBadRequest, "no Host")
	case len(f.hosts) == 1 && !isHost(f.hosts[0]):
		return badRequest(http.StatusBadRequest, "an invalid Host")
	case len(f.codings)+len(f.lengths) > 0 && withoutContent(f.method):
		return badRequest(http.StatusBadRequest, "a body on %s", strings.ToUpper(f.method))
	case len(f.codings) > 0 && len(f.lengths) > 0:
		return badRequest(http.StatusBadRequest, "both Transfer-Encoding and Content-Length")
	case len(f.codings) > 0 && f.minor == 0:
		return badRequest(http.StatusBadRequest, "Transfer-Encoding in HTTP/1.0")
	case len(f.codings) > 1 || len(f.codings) == 1 && !strings.EqualFold(f.codings[0], "chunked"):
		return badRequest(http.StatusNotImplemented, "a Transfer-Encoding other than chunked")
	case len(f.lengths) > 1:
		return badRequest(http.StatusBadRequest, "more than one Content-Length")
	case len(f.expects) > 1 || len(f.expects) == 1 && !strings.EqualFold(f.expects[0], "100-continue"):
		return badRequest(http.StatusExpectationFailed, "an Expect other than 100-continue")
	}
	if len(f.lengths) == 0 {
		return nil
	}
	if !isDigits(f.lengths[0]) {
		return badRequest(http.StatusBadRequest, "a Content-Length that is not a number")
	}
	length, err := strconv.Atoi(f.lengths[0])
	if err != nil || length > maxBody {
		return tooLarge(maxBody)
	}
	f.length = length
	return nil
}

// withoutContent reports whether RFC 9110 (sections 9.3.6 and 9.3.8) gives a
// request with this method no content. A server that reads no body there takes
// the body for the next request. Case is ignored, since some servers ignore it.
func withoutContent(method string) bool {
	return strings.EqualFold(method, http.MethodConnect) || strings.EqualFold(method, http.MethodTrace)
}

func tooLarge(maxBody int) error {
	return badRequest(http.StatusRequestEntityTooLarge, "a body of more than %d bytes", maxBody)
}

// hasControl reports whether s has a control character other than a tab.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !isAlnum(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// isHost reports whether s has only characters of a host and port (RFC 3986
// section 3.2).
func isHost(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !isAlnum(r) && !strings.ContainsRune("!$%&'()*+,-.:;=[]_~", r)
	})
}

func isAlnum(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
