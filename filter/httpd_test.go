package filter_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// said is a request in one line, for comparison.
func said(t testing.TB, rec any) string {
	t.Helper()
	req := rec.(*http.Request)
	body, err := io.ReadAll(req.Body)
	require.NoError(t, err)
	return fmt.Sprintf("%s %s %s host=%s close=%v body=%q", req.Method, req.URL, req.Proto, req.Host, req.Close, body)
}

func allSaid(t testing.TB, e *end) (list []string) {
	for _, rec := range e.got {
		list = append(list, said(t, rec))
	}
	return list
}

func answer(text string) *http.Response {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text))}
}

func TestHTTPDRequests(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"one": {
			"GET /x?y=1 HTTP/1.1\r\nHost: a\r\n\r\n",
			[]string{`GET /x?y=1 HTTP/1.1 host=a close=false body=""`},
		},
		"pipelined, with bodies": {
			"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: a\r\n\r\n" +
				"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nPUT /4 HTTP/1.1\r\nhost:b\r\ncontent-length:1\r\n\r\n0",
			[]string{
				`POST /1 HTTP/1.1 host=a close=false body="hello"`, `GET /2 HTTP/1.1 host=a close=false body=""`,
				`POST /3 HTTP/1.1 host=a close=false body=""`, `PUT /4 HTTP/1.1 host=b close=false body="0"`,
			},
		},
		"chunked": {
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00a;x=\"y\"\r\n, world\r\n.\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
			[]string{"POST / HTTP/1.1 host=a close=false body=\"hello, world\\r\\n.\"", `GET / HTTP/1.1 host=a close=false body=""`},
		},
		"chunked, with a trailer": {
			"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n1 ;e\r\nx\r\n0\r\nX: y\r\nContent-Length: 9\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
			[]string{`POST / HTTP/1.1 host=a close=false body="x"`, `GET / HTTP/1.1 host=a close=false body=""`},
		},
		"HTTP/1.0":                     {"GET / HTTP/1.0\r\n\r\nGET /never HTTP/1.0\r\n\r\n", []string{`GET / HTTP/1.0 host= close=true body=""`}},
		"HTTP/1.0, kept alive":         {strings.Repeat("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 2), []string{`GET / HTTP/1.0 host= close=false body=""`, `GET / HTTP/1.0 host= close=false body=""`}},
		"nothing after close":          {"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nxGET /never HTTP/1.1\r\nHost: a\r\n\r\n", []string{`POST / HTTP/1.1 host=a close=true body="x"`}},
		"bare LF, as net/http":         {"GET / HTTP/1.1\nHost: a\n\n", []string{`GET / HTTP/1.1 host=a close=false body=""`}},
		"empty lines before it":        {"\r\n\n\r\nGET / HTTP/1.0\r\n\r\n", []string{`GET / HTTP/1.0 host= close=true body=""`}},
		"absolute form":                {"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", []string{`GET http://b/x HTTP/1.1 host=b close=false body=""`}},
		"a host that is empty":         {"GET / HTTP/1.1\r\nHost:\r\n\r\n", []string{`GET / HTTP/1.1 host= close=false body=""`}},
		"a body that looks like heads": {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n\r\n", []string{`POST / HTTP/1.1 host=a close=false body="GET / HTTP/1.1\r\n\r\n\r\n\r\n"`}},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				e := newEnd(t, &filter.HTTPD{})
				e.deliver([]byte(test.in), cut)
				require.NoError(t, e.err)
				require.Equal(t, test.want, allSaid(t, e))
				require.Zero(t, e.Unread())
				require.Empty(t, e.Outgoing(nil))
			})
		})
	}
}

const head = "POST / HTTP/1.1\r\nHost: a\r\n"

func TestHTTPDRefuses(t *testing.T) {
	limits := filter.HTTPD{MaxHead: 200, MaxHeaders: 3, MaxBody: 10}
	for name, test := range map[string]struct {
		httpd  filter.HTTPD
		in     string
		status int
	}{
		"both lengths":                    {in: head + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", status: 400},
		"both lengths, other order":       {in: head + "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG", status: 400},
		"two lengths":                     {in: head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", status: 400},
		"one length twice":                {in: head + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", status: 400},
		"a list of lengths":               {in: head + "Content-Length: 1, 1\r\n\r\nx", status: 400},
		"a length with a sign":            {in: head + "Content-Length: +1\r\n\r\nx", status: 400},
		"a negative length":               {in: head + "Content-Length: -1\r\n\r\nx", status: 400},
		"a length in hexadecimal":         {in: head + "Content-Length: 0x1\r\n\r\nx", status: 400},
		"an empty length":                 {in: head + "Content-Length:\r\n\r\nx", status: 400},
		"a length beyond 64 bits":         {in: head + "Content-Length: 99999999999999999999\r\n\r\nx", status: 413},
		"chunked twice":                   {in: head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 501},
		"chunked and more":                {in: head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", status: 501},
		"identity":                        {in: head + "Transfer-Encoding: identity\r\n\r\n", status: 501},
		"a coding with a tail":            {in: head + "Transfer-Encoding: chunked\v\r\n\r\n0\r\n\r\n", status: 400},
		"chunked in HTTP/1.0":             {in: "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 400},
		"CONNECT with a length":           {in: "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n", status: 400},
		"CONNECT, chunked":                {in: "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 400},
		"connect, in small letters":       {in: "connect b:1 HTTP/1.1\r\nHost: b:1\r\nContent-Length: 1\r\n\r\nx", status: 400},
		"TRACE with a length":             {in: "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", status: 400},
		"TRACE, chunked":                  {in: "TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 400},
		"a folded line":                   {in: head + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", status: 400},
		"a folded first line":             {in: "POST / HTTP/1.1\r\n Host: a\r\nX: y\r\n\r\n", status: 400},
		"a space before the colon":        {in: head + "Content-Length : 1\r\n\r\nx", status: 400},
		"a space in a name":               {in: head + "Content Length: 1\r\n\r\nx", status: 400},
		"no name":                         {in: head + ": x\r\n\r\n", status: 400},
		"no colon":                        {in: head + "x\r\n\r\n", status: 400},
		"a NUL in a value":                {in: head + "X: a\x00b\r\n\r\n", status: 400},
		"a bare CR in a value":            {in: head + "X: a\rContent-Length: 1\r\n\r\nx", status: 400},
		"a bare CR in the first line":     {in: "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", status: 400},
		"no host":                         {in: "GET / HTTP/1.1\r\n\r\n", status: 400},
		"two hosts":                       {in: head + "Host: b\r\n\r\n", status: 400},
		"an invalid host":                 {in: "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", status: 400},
		"HTTP/0.9":                        {in: "GET /\r\n\r\n", status: 400},
		"HTTP/2":                          {in: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 505},
		"HTTP/1.1 with more":              {in: "GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", status: 400},
		"two spaces":                      {in: "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", status: 400},
		"no method":                       {in: " / HTTP/1.1\r\nHost: a\r\n\r\n", status: 400},
		"a method that is not a token":    {in: "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", status: 400},
		"an expectation":                  {in: head + "Expect: the unexpected\r\n\r\n", status: 417},
		"not HTTP at all":                 {in: "\x16\x03\x01\x02\x00\x01\x00\n\n", status: 400},
		"no chunk size":                   {in: head + "Transfer-Encoding: chunked\r\n\r\n\r\n", status: 400},
		"a chunk size with a sign":        {in: head + "Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n", status: 400},
		"a negative chunk size":           {in: head + "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", status: 400},
		"a chunk size with 0x":            {in: head + "Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", status: 400},
		"a chunk size after a space":      {in: head + "Transfer-Encoding: chunked\r\n\r\n 1\r\nx\r\n0\r\n\r\n", status: 400},
		"a chunk size and a space":        {in: head + "Transfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n", status: 400},
		"a chunk size that wraps":         {in: head + "Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\nx\r\n0\r\n\r\n", status: 400},
		"the largest chunk size":          {in: head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx\r\n0\r\n\r\n", status: 413},
		"a chunk line that ends with LF":  {in: head + "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", status: 400},
		"a CR in an extension":            {in: head + "Transfer-Encoding: chunked\r\n\r\n1;a\r2\r\nx\r\n0\r\n\r\n", status: 400},
		"an extension that ends with LF":  {in: head + "Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n", status: 400},
		"a chunk that ends with LF":       {in: head + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\n0\r\n\r\n", status: 400},
		"a chunk longer than it says":     {in: head + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", status: 400},
		"a chunk line without end":        {in: head + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("e", 1200), status: 400},
		"endless extensions":              {in: head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("e", 1000)+"\r\nx\r\n", 70), status: 400},
		"a trailer without a colon":       {in: head + "Transfer-Encoding: chunked\r\n\r\n0\r\nx\r\n\r\n", status: 400},
		"a folded trailer":                {in: head + "Transfer-Encoding: chunked\r\n\r\n0\r\nx: y\r\n z\r\n\r\n", status: 400},
		"a trailer with LF":               {in: head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\n", status: 400},
		"a head that never ends":          {in: head + "X: " + strings.Repeat("x", filter.DefaultMaxHead), status: 431},
		"a head that is too long":         {in: head + "X: " + strings.Repeat("x", filter.DefaultMaxHead) + "\r\n\r\n", status: 431},
		"too many fields":                 {in: head + strings.Repeat("X: y\r\n", filter.DefaultMaxHeaders) + "\r\n", status: 431},
		"a body that is too long":         {in: head + "Content-Length: 1048577\r\n\r\n", status: 413},
		"own limit of the head":           {httpd: limits, in: head + "X: " + strings.Repeat("x", 200) + "\r\n\r\n", status: 431},
		"own limit of the fields":         {httpd: limits, in: head + "X: 1\r\nX: 2\r\nX: 3\r\n\r\n", status: 431},
		"own limit of the body":           {httpd: limits, in: head + "Content-Length: 11\r\n\r\n", status: 413},
		"own limit of one chunk":          {httpd: limits, in: head + "Transfer-Encoding: chunked\r\n\r\nb\r\n", status: 413},
		"own limit of all chunks":         {httpd: limits, in: head + "Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n5\r\n", status: 413},
		"own limit of the trailer":        {httpd: limits, in: head + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("x", 200) + "\r\n\r\n", status: 400},
		"own limit of the trailer fields": {httpd: limits, in: head + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 4) + "\r\n", status: 431},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				httpd := test.httpd
				e := newEnd(t, &httpd)
				e.deliver([]byte("GET /good HTTP/1.1\r\nHost: a\r\n\r\n"+test.in+"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"), cut)
				require.Len(t, e.got, 1, "%v", e.got)
				var bad *filter.BadRequestError
				require.ErrorAs(t, e.err, &bad)
				require.Equal(t, test.status, bad.Status, "%v", bad)
				require.NoError(t, e.Stack.Err())
				require.Zero(t, e.Unread())

				send(t, e, answer("good"), bad.Response())
				require.True(t, httpd.Done())
				require.Error(t, e.Send(answer("one too many")))
				got := responses(t, e.Outgoing(nil), "GET", "POST")
				require.Len(t, got, 2)
				require.Equal(t, "200 OK close=false body=\"good\"", got[0])
				require.Contains(t, got[1], fmt.Sprintf("%d %s close=true", test.status, http.StatusText(test.status)))
			})
		})
	}
}

// responses reads what was sent with net/http's client side.
func responses(t testing.TB, wire []byte, methods ...string) (list []string) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(wire))
	for _, method := range methods {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		require.NoError(t, err, "%q", wire)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err, "%q", wire)
		list = append(list, fmt.Sprintf("%s close=%v body=%q", resp.Status, resp.Close, body))
	}
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Empty(t, string(rest))
	return list
}

func TestHTTPDResponses(t *testing.T) {
	get := func(version, more string) string { return "GET / HTTP/" + version + "\r\nHost: a\r\n" + more + "\r\n" }
	body := func(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
	for name, test := range map[string]struct {
		request string
		resp    http.Response
		want    string
		done    bool
	}{
		"length known": {
			get("1.1", ""), http.Response{StatusCode: 200, Body: body("hello"), ContentLength: 5, Header: http.Header{"A": {"b"}}},
			"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhello", false,
		},
		"length not set":          {get("1.1", ""), http.Response{StatusCode: 200, Body: body("hello")}, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
		"no body":                 {get("1.1", ""), http.Response{StatusCode: 200}, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false},
		"length unknown":          {get("1.1", ""), http.Response{StatusCode: 200, Body: body("hello"), ContentLength: -1}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false},
		"length unknown and 0":    {get("1.1", ""), http.Response{StatusCode: 200, ContentLength: -1}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		"chunked":                 {get("1.1", ""), http.Response{StatusCode: 200, Body: body("x"), ContentLength: 1, TransferEncoding: []string{"chunked"}}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", false},
		"HTTP/1.0":                {get("1.0", ""), http.Response{StatusCode: 200, Body: body("hello"), ContentLength: 5}, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", true},
		"HTTP/1.0, unknown":       {get("1.0", "Connection: keep-alive\r\n"), http.Response{StatusCode: 200, Body: body("hello"), ContentLength: -1}, "HTTP/1.0 200 OK\r\n\r\nhello", true},
		"HTTP/1.0, kept":          {get("1.0", "Connection: keep-alive\r\n"), http.Response{StatusCode: 200, Body: body("hello"), ContentLength: 5}, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello", false},
		"HTTP/1.0 to HTTP/1.1":    {get("1.1", ""), http.Response{Status: "200 (OK)", StatusCode: 200, ProtoMajor: 1, Body: body("hello"), ContentLength: -1, Header: http.Header{"Content-Type": {"text/plain"}}}, "HTTP/1.0 200 (OK)\r\nContent-Type: text/plain\r\n\r\nhello", true},
		"the client closes":       {get("1.1", "Connection: close\r\n"), http.Response{StatusCode: 200}, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", true},
		"we close":                {get("1.1", ""), http.Response{StatusCode: 200, Close: true}, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", true},
		"we close, by header":     {get("1.1", ""), http.Response{StatusCode: 200, Header: http.Header{"Connection": {"X, Close"}}}, "HTTP/1.1 200 OK\r\nConnection: close, X\r\nContent-Length: 0\r\n\r\n", true},
		"HEAD":                    {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", http.Response{StatusCode: 200, ContentLength: 7}, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", false},
		"HEAD, with a body":       {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", http.Response{StatusCode: 200, Body: body("hello")}, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false},
		"HEAD, unknown":           {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", http.Response{StatusCode: 200, Body: body("hello"), ContentLength: -1}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		"204":                     {get("1.1", ""), http.Response{StatusCode: 204, Body: body("no")}, "HTTP/1.1 204 No Content\r\n\r\n", false},
		"204 to POST":             {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", http.Response{StatusCode: 204}, "HTTP/1.1 204 No Content\r\n\r\n", false},
		"304":                     {get("1.1", ""), http.Response{StatusCode: 304, ContentLength: 5, Header: http.Header{"Etag": {`"x"`}}}, "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n", false},
		"a newline in a value":    {get("1.1", ""), http.Response{StatusCode: 200, Header: http.Header{"A": {"b\r\nSet-Cookie: c"}}}, "HTTP/1.1 200 OK\r\nA: b  Set-Cookie: c\r\nContent-Length: 0\r\n\r\n", false},
		"own length is corrected": {get("1.1", ""), http.Response{StatusCode: 200, Body: body("xy"), Header: http.Header{"Content-Length": {"99"}, "Transfer-Encoding": {"chunked"}}}, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nxy", false},
		"names in lower case":     {get("1.1", ""), http.Response{StatusCode: 200, Body: body("xy"), Header: http.Header{"content-length": {"99"}, "transfer-encoding": {"chunked"}, "connection": {"close"}}}, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nxy", true},
		"to HTTP/1.2":             {get("1.2", ""), http.Response{StatusCode: 200, Body: body("x"), ContentLength: -1}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", false},
		"a trailer":               {get("1.1", ""), http.Response{StatusCode: 200, Body: body("x"), ContentLength: -1, Trailer: http.Header{"T": {"u"}}}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n1\r\nx\r\n0\r\nT: u\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			httpd := &filter.HTTPD{}
			e := newEnd(t, httpd)
			e.deliver([]byte(test.request), testkit.Whole)
			require.Len(t, e.got, 1)
			send(t, e, &test.resp)
			require.Equal(t, test.want, string(e.Outgoing(nil)))
			require.Equal(t, test.done, httpd.Done())
			e.deliver([]byte(get("1.1", "")), testkit.Whole)
			require.Equal(t, test.done, len(e.got) == 1, "a request after the end")
		})
	}
}

// If a response cannot be sent, the request still waits for one.
func TestHTTPDRefusesToSend(t *testing.T) {
	broken := io.NopCloser(io.MultiReader(strings.NewReader("x"), errReader{}))
	for name, rec := range map[string]any{
		"no response":                      "200 OK",
		"a nil response":                   (*http.Response)(nil),
		"no status":                        &http.Response{},
		"a status of four digits":          &http.Response{StatusCode: 1000},
		"a newline in the status":          &http.Response{StatusCode: 200, Status: "200 OK\r\nX: y"},
		"HTTP/2":                           &http.Response{StatusCode: 200, ProtoMajor: 2},
		"a newline in a trailer":           &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader("x")), Trailer: http.Header{"T\r\nSet-Cookie: u": {"v"}}},
		"a coding":                         &http.Response{StatusCode: 200, TransferEncoding: []string{"gzip", "chunked"}},
		"too short a body":                 &http.Response{StatusCode: 200, ContentLength: 2, Body: io.NopCloser(strings.NewReader("x"))},
		"too long a body":                  &http.Response{StatusCode: 200, ContentLength: 1, Body: io.NopCloser(strings.NewReader("xy"))},
		"a body beyond the bound":          &http.Response{StatusCode: 200, Body: io.NopCloser(io.LimitReader(zeros{}, filter.MaxResponse+1))},
		"a body that fails":                &http.Response{StatusCode: 200, Body: broken},
		"an upgrade that nobody asked for": &http.Response{StatusCode: 101},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnd(t, &filter.HTTPD{})
			e.deliver([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), testkit.Whole)
			require.Error(t, e.Send(rec))
			require.Empty(t, e.Outgoing(nil))
			send(t, e, answer("instead"))
			require.Equal(t, []string{`200 OK close=false body="instead"`}, responses(t, e.Outgoing(nil), "GET"))
		})
	}
}

// A response that no request waits for is an error that changes nothing.
func TestHTTPDResponseToNoRequest(t *testing.T) {
	e := newEnd(t, &filter.HTTPD{})
	require.ErrorContains(t, e.Send(answer("to nobody")), "no request waits")
	e.deliver([]byte("GET / HTTP/1.1\r\nHost: a\r\n"), testkit.Whole)
	require.ErrorContains(t, e.Send(answer("to half a head")), "no request waits")
	e.deliver([]byte("\r\n"), testkit.Whole)
	send(t, e, answer("first"))
	require.ErrorContains(t, e.Send(answer("second")), "no request waits")
	require.Equal(t, []string{`200 OK close=false body="first"`}, responses(t, e.Outgoing(nil), "GET"))
	e.deliver([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), testkit.Whole)
	send(t, e, answer("third"))
	require.Equal(t, []string{`200 OK close=false body="third"`}, responses(t, e.Outgoing(nil), "GET"))

	e.deliver([]byte(head+"Content-Length: 5\r\n\r\nab"), testkit.Whole)
	send(t, e, &http.Response{StatusCode: http.StatusRequestTimeout})
	require.Equal(t, []string{`408 Request Timeout close=true body=""`}, responses(t, e.Outgoing(nil), "POST"))
	require.ErrorContains(t, e.Send(answer("after the end")), "last response")
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestHTTPDContinue(t *testing.T) {
	const expecting = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
	const goOn = "HTTP/1.1 100 Continue\r\n\r\n"
	t.Run("at once", func(t *testing.T) {
		e := newEnd(t, &filter.HTTPD{})
		e.deliver([]byte(expecting), testkit.Whole)
		require.Empty(t, e.got)
		require.Equal(t, goOn, string(e.Outgoing(nil)))
		e.deliver([]byte("ok"), testkit.Size(1))
		require.Equal(t, []string{`POST / HTTP/1.1 host=a close=false body="ok"`}, allSaid(t, e))
		require.Empty(t, e.Outgoing(nil))
	})
	t.Run("after the answers to earlier requests", func(t *testing.T) {
		e := newEnd(t, &filter.HTTPD{})
		e.deliver([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"+expecting), testkit.Whole)
		require.Len(t, e.got, 1)
		require.Empty(t, e.Outgoing(nil))
		send(t, e, answer("first"))
		require.Equal(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"+goOn, string(e.Outgoing(nil)))
	})
	for name, in := range map[string]string{
		"the body is there": expecting + "ok",
		"no body":           "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
		"HTTP/1.0":          "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnd(t, &filter.HTTPD{})
			e.deliver([]byte(in), testkit.Whole)
			require.NoError(t, e.err)
			require.Empty(t, e.Outgoing(nil))
		})
	}
}

func TestHTTPDInterimResponses(t *testing.T) {
	e := newEnd(t, &filter.HTTPD{})
	hints := &http.Response{StatusCode: 103, Header: http.Header{"Link": {"</x>"}}}
	require.Error(t, e.Send(hints), "nobody asked")
	e.deliver([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), testkit.Whole)
	send(t, e, hints, answer("x"))
	require.Equal(t, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", string(e.Outgoing(nil)))

	e = newEnd(t, &filter.HTTPD{})
	e.deliver([]byte("GET / HTTP/1.0\r\n\r\n"), testkit.Whole)
	require.Error(t, e.Send(hints), "HTTP/1.0 has none")
}

// The bytes after the request are not HTTP, and arrived before the answer.
func TestHTTPDSwitchesProtocols(t *testing.T) {
	for name, test := range map[string]struct {
		request string
		resp    *http.Response
		want    string
	}{
		"101": {
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
			&http.Response{StatusCode: 101, Header: http.Header{"Upgrade": {"x"}}},
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
		},
		"CONNECT": {"CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n", &http.Response{StatusCode: 200}, "HTTP/1.1 200 OK\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				httpd := &filter.HTTPD{}
				e := newEnd(t, httpd)
				e.deliver([]byte(test.request+"not\r\n\r\nHTTP"), cut)
				require.Len(t, e.got, 1)
				require.NoError(t, e.err)
				send(t, e, test.resp)
				require.True(t, httpd.Done())
				require.Equal(t, test.want, string(e.Outgoing(nil)))
				e.take()
				require.Len(t, e.got, 1)
				require.NoError(t, e.SetCodec(filter.Stream{}))
				e.take()
				require.Equal(t, "not\r\n\r\nHTTP", string(e.got[1].([]byte)))
			})
		})
	}
	t.Run("refused", func(t *testing.T) {
		e := newEnd(t, &filter.HTTPD{})
		e.deliver([]byte("GET /1 HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"), testkit.Whole)
		require.Len(t, e.got, 1)
		send(t, e, answer("no"))
		e.take()
		require.Len(t, e.got, 2, "the next request comes without further input")
	})
}

func TestHTTPDBoundsPipelining(t *testing.T) {
	e := newEnd(t, &filter.HTTPD{})
	e.deliver(bytes.Repeat([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), filter.MaxPipelined+2), testkit.Whole)
	require.Len(t, e.got, filter.MaxPipelined)
	require.NoError(t, e.err)
	send(t, e, answer("x"))
	e.take()
	require.Len(t, e.got, filter.MaxPipelined+1)
}

func TestHTTPDInTheMiddleOfARequest(t *testing.T) {
	for _, in := range []string{"GET / HT", head + "Content-Length: 5\r\n\r\nhel", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nx"} {
		e := newEnd(t, &filter.HTTPD{})
		e.deliver([]byte(in), testkit.Size(1))
		require.Equal(t, len(in), e.Unread())
		var left *filter.LeftoverError
		require.ErrorAs(t, e.Push(tlsServer(t, 0)), &left)
		require.Equal(t, len(in), left.N)
		require.ErrorIs(t, e.ReceiveEOF(), io.ErrUnexpectedEOF)
	}
	e := newEnd(t, &filter.HTTPD{})
	e.deliver([]byte(head+"Content-Length: 5\r\n\r\nhel"), testkit.Whole)
	var left *filter.LeftoverError
	require.ErrorAs(t, e.SetCodec(filter.Stream{}), &left, "a part of a record belongs to no codec")
	require.ErrorAs(t, e.Push(tlsServer(t, 0), filter.KeepLeftover), &left)
}

func TestHTTPDOverTLS(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		httpd := &filter.HTTPD{}
		server, client := newEnd(t, httpd, tlsServer(t, 0)), newEnd(t, nil, tlsClient(t))
		server.record = func(rec any) {
			send(t, server, answer("you asked for "+rec.(*http.Request).URL.Path))
			if httpd.Done() {
				require.NoError(t, server.CloseWrite())
			}
		}
		send(t, client, "GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		transfer(client, server, cut)
		require.Equal(t, io.EOF, client.err)
		require.Equal(t, []string{`200 OK close=false body="you asked for /1"`, `200 OK close=true body="you asked for /2"`},
			responses(t, []byte(client.text()), "GET", "GET"))
	})
}

// However the bytes are split, the same requests and the same error come out, and
// the data that is kept is bounded.
func FuzzHTTPD(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\n\n"), uint64(1))
	f.Add([]byte(head+"Transfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\nT: u\r\n\r\nGET"), uint64(2))
	f.Add([]byte(head+"Content-Length: 3\r\n\r\nabcPUT / HTTP/1.1\r\nHost: b\r\nContent-Length: 9999\r\n\r\n"), uint64(3))
	f.Add([]byte(head+"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), uint64(4))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		run := func(cut testkit.Cut) *end {
			e := newEnd(t, &filter.HTTPD{MaxHead: 300, MaxHeaders: 5, MaxBody: 100})
			e.deliver(in, cut)
			return e
		}
		whole, cut := run(testkit.Whole), run(testkit.Random(seed))
		require.Equal(t, allSaid(t, whole), allSaid(t, cut))
		require.Equal(t, fmt.Sprint(whole.err), fmt.Sprint(cut.err))
		require.Equal(t, whole.Unread(), cut.Unread())
		// a head, 100 chunks of one byte with the longest framing, extensions, a line
		require.LessOrEqual(t, whole.Unread(), 300+100*21+300+1024)
	})
}
