package filter

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
)

// bodyState is the part of a body that is expected next.
//
//	plain ───────────────────────────────────▶ done
//	size ──▶ chunk ──▶ chunkEnd ──▶ size
//	  └── 0 ──▶ trailer ─────────────────────▶ done
type bodyState uint8

const (
	bodyDone     bodyState = iota // nothing
	bodyPlain                     // the bytes that Content-Length announces
	bodySize                      // the line with a chunk's size
	bodyChunk                     // the bytes of a chunk
	bodyChunkEnd                  // the end of line after a chunk
	bodyTrailer                   // lines up to an empty one
)

const (
	maxChunkLine   = 1 << 10 // bytes of a line with a chunk's size
	maxChunkDigits = 16      // more digits than any permitted size needs
)

// readBody consumes as much of the body as data has.
func (h *HTTPD) readBody(data []byte) (n int, err error) {
	for h.state != bodyDone {
		took, err := h.readPart(data[n:])
		if took == 0 || err != nil {
			return n, err
		}
		n += took
	}
	return n, nil
}

// readPart consumes one part of the body, or nothing if the part is incomplete.
func (h *HTTPD) readPart(data []byte) (n int, err error) {
	switch h.state {
	case bodyPlain, bodyChunk:
		n = min(h.left, len(data))
		h.body = append(h.body, data[:n]...)
		if h.left -= n; h.left > 0 {
			return n, nil
		}
		if h.state == bodyPlain {
			h.state = bodyDone
		} else {
			h.state = bodyChunkEnd
		}
		return n, nil
	case bodyChunkEnd:
		if len(data) < 2 && strings.HasPrefix("\r\n", string(data)) {
			return 0, nil
		}
		if len(data) < 2 || data[0] != '\r' || data[1] != '\n' {
			return 0, badRequest(http.StatusBadRequest, "a chunk that is longer than it says")
		}
		h.state = bodySize
		return 2, nil
	case bodySize:
		line, n, err := chunkLine(data, maxChunkLine)
		if n == 0 || err != nil {
			return 0, err
		}
		return n, h.size(line)
	}
	line, n, err := chunkLine(data, h.maxHead()-h.extra)
	if n == 0 || err != nil {
		return 0, err
	}
	return n, h.trailer(line)
}

// chunkLine returns the line at the start of data, and its length including its
// end, which must be CR LF (RFC 9112 section 7.1). The length is 0 if the line is
// incomplete.
func chunkLine(data []byte, most int) (line string, n int, err error) {
	at := bytes.IndexByte(data, '\n')
	switch {
	case at < 0 && len(data) <= most:
		return "", 0, nil
	case at < 0 || at+1 > most:
		return "", 0, badRequest(http.StatusBadRequest, "a line in a chunked body that is too long")
	case at == 0 || data[at-1] != '\r':
		return "", 0, badRequest(http.StatusBadRequest, "a line in a chunked body that does not end with CR LF")
	}
	return string(data[:at-1]), at + 1, nil
}

// size parses the size of a chunk.
func (h *HTTPD) size(line string) error {
	digits, extension, extended := strings.Cut(line, ";")
	if extended {
		digits = strings.TrimRight(digits, " \t")
	}
	if h.extra += len(extension); h.extra > h.maxHead() {
		return badRequest(http.StatusBadRequest, "more than %d bytes of chunk extensions", h.maxHead())
	}
	if len(digits) > maxChunkDigits || strings.Trim(digits, "0123456789abcdefABCDEF") != "" || hasControl(extension) {
		return badRequest(http.StatusBadRequest, "a chunk size that is not a number")
	}
	size, err := strconv.ParseUint(digits, 16, 64)
	switch {
	case err != nil:
		return badRequest(http.StatusBadRequest, "a chunk size that is not a number")
	case size > uint64(h.maxBody()-len(h.body)):
		return tooLarge(h.maxBody())
	case size == 0:
		h.state = bodyTrailer
	default:
		h.state, h.left = bodyChunk, int(size)
	}
	return nil
}

// trailer checks a line after the last chunk.
func (h *HTTPD) trailer(line string) error {
	if line == "" {
		h.state = bodyDone
		return nil
	}
	h.extra += len(line) + 2
	if h.lines++; h.lines > h.maxHeaders() {
		return badRequest(http.StatusRequestHeaderFieldsTooLarge, "more than %d trailer fields", h.maxHeaders())
	}
	_, _, err := field(line)
	return err
}
