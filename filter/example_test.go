package filter_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
)

func ExampleStack() {
	s := filter.NewStack(&filter.Line{})
	defer s.Close()

	for _, wire := range []string{"HELO exam", "ple\r\nQUIT\r\n"} { // as the network cuts it
		if err := s.Receive([]byte(wire)); err != nil {
			fmt.Println(err)
			return
		}
		for {
			rec, err := s.Next()
			if err != nil {
				fmt.Println(err)
			}
			if rec == nil {
				break
			}
			fmt.Printf("%q\n", rec)
			s.Send("250 OK")
		}
	}
	fmt.Printf("%q\n", s.Outgoing(nil))
	// Output:
	// "HELO example"
	// "QUIT"
	// "250 OK\r\n250 OK\r\n"
}

// The server of STARTTLS, and a client in between that injects a command.
func ExampleStack_Push() {
	tls, err := sslfilter.New(sslfilter.Options{Crt: "../testdata/pki/server.crt", Key: "../testdata/pki/server.key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	s := filter.NewStack(&filter.Line{})
	defer s.Close()
	s.Receive([]byte("STARTTLS\r\nRSET\r\n"))
	if rec, _ := s.Next(); rec == "STARTTLS" {
		s.Send("220 go ahead")
		if err := s.Push(tls); err != nil {
			tls.Close()
			fmt.Println(err)
		}
	}
	// Output:
	// filter: Push: 6 bytes were received before the switch and do not belong to a record yet
}

// TLS is removed after the peer has ended it, and the bytes that the peer sent after
// it are read.
func ExampleStack_Pop() {
	client, server, err := tlsPair()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	defer server.Close()

	client.Filters()[0].(*sslfilter.Filter).CloseWrite() // of TLS alone
	server.Receive(append(client.Outgoing(nil), "in plain text\n"...))
	if _, err := server.Next(); err == io.EOF {
		tls, err := server.Pop()
		if err != nil {
			fmt.Println(err)
			return
		}
		tls.Close()
	}
	rec, _ := server.Next()
	fmt.Println(rec)
	// Output:
	// in plain text
}

// tlsPair makes two stacks of lines over TLS whose handshake is done.
func tlsPair() (client, server *filter.Stack, err error) {
	client, server = filter.NewStack(&filter.Line{}), filter.NewStack(&filter.Line{})
	for s, o := range map[*filter.Stack]sslfilter.Options{
		client: {Client: true, CACrt: "../testdata/pki/root.crt", ServerName: "localhost"},
		server: {Crt: "../testdata/pki/server.crt", Key: "../testdata/pki/server.key"},
	} {
		tls, err := sslfilter.New(o)
		if err == nil {
			err = s.Push(tls)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	for range 3 {
		if err := server.Receive(client.Outgoing(nil)); err != nil {
			return nil, nil, err
		}
		if err := client.Receive(server.Outgoing(nil)); err != nil {
			return nil, nil, err
		}
	}
	return client, server, nil
}

func ExampleLine() {
	s := filter.NewStack(&filter.Line{Newline: "\r\n", MaxLength: 512})
	s.Receive([]byte("one\r\ntw"))
	line, _ := s.Next()
	fmt.Println(line)
	line, err := s.Next()
	fmt.Println(line, err, s.Unread())
	// Output:
	// one
	// <nil> <nil> 2
}

func ExampleHTTPD() {
	httpd := &filter.HTTPD{MaxBody: 1 << 16}
	s := filter.NewStack(httpd)
	s.Receive([]byte("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"))
	rec, err := s.Next()
	if err != nil {
		fmt.Println(err)
		return
	}
	req := rec.(*http.Request)
	body, _ := io.ReadAll(req.Body)
	s.Send(&http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("you sent " + string(body)))})
	fmt.Println(strings.ReplaceAll(string(s.Outgoing(nil)), "\r\n", "\n"))
	fmt.Println(httpd.Done())
	// Output:
	// HTTP/1.1 200 OK
	// Content-Length: 14
	// Connection: close
	//
	// you sent hello
	// true
}

// A bad request ends reading, and can be answered.
func ExampleBadRequestError() {
	s := filter.NewStack(&filter.HTTPD{})
	s.Receive([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"))
	_, err := s.Next()
	fmt.Println(err)
	if bad, ok := err.(*filter.BadRequestError); ok {
		s.Send(bad.Response())
		s.CloseWrite()
		fmt.Println(strings.SplitN(string(s.Outgoing(nil)), "\r\n", 2)[0])
	}
	// Output:
	// filter: bad HTTP request (400): both Transfer-Encoding and Content-Length
	// HTTP/1.1 400 Bad Request
}

func ExampleStack_SetCodec() {
	s := filter.NewStack(&filter.Line{})
	s.Receive([]byte("IDENTITY 4\r\n\x00\x01\x02\x03"))
	rec, _ := s.Next()
	fmt.Println(rec)
	s.SetCodec(filter.Stream{})
	rec, _ = s.Next()
	fmt.Println(rec)
	// Output:
	// IDENTITY 4
	// [0 1 2 3]
}
