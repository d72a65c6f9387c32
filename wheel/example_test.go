package wheel_test

import (
	"fmt"
	"net"
	"os"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/wheel"
)

// A server that echoes lines over TLS.
func ExampleNew() {
	tls, err := sslfilter.New(sslfilter.Options{Crt: "../testdata/pki/server.crt", Key: "../testdata/pki/server.key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	stack := filter.NewStack(&filter.Line{OutNewline: "\n"})
	if err := stack.Push(tls); err != nil {
		fmt.Println(err)
		return
	}
	conn, peer := net.Pipe() // or a connection from Accept
	w, err := wheel.New(conn, stack, wheel.Events{
		Input: func(w *wheel.ReadWrite, rec any) {
			if rec == "quit" {
				w.Put("goodbye")
				w.ShutdownOutput() // after "goodbye"
				return
			}
			w.Put(rec)
		},
		Error: func(w *wheel.ReadWrite, op string, err error) {
			fmt.Println(op, err)
			w.Close()
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	visit(peer)
	w.Wait()
	// Output:
	// hello
	// goodbye
	// read EOF
}

// visit is the client: it says hello, quits and leaves.
func visit(conn net.Conn) {
	tls, err := sslfilter.New(sslfilter.Options{Client: true, CACrt: "../testdata/pki/root.crt", ServerName: "localhost"})
	if err != nil {
		fmt.Println(err)
		return
	}
	stack := filter.NewStack(nil)
	if err := stack.Push(tls); err != nil {
		fmt.Println(err)
		return
	}
	w, err := wheel.New(conn, stack, wheel.Events{
		Input: func(w *wheel.ReadWrite, rec any) { os.Stdout.Write(rec.([]byte)) },
		Error: func(w *wheel.ReadWrite, _ string, _ error) { w.ShutdownOutput() },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	w.Put("hello\nquit\n")
}

// A server that supports STARTTLS.
func ExampleReadWrite_Push() {
	ctx, err := sslfilter.NewCtx(sslfilter.Options{Crt: "../testdata/pki/server.crt", Key: "../testdata/pki/server.key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ctx.Close()
	input := func(w *wheel.ReadWrite, rec any) {
		if rec != "STARTTLS" {
			w.Put("502 what?")
			return
		}
		tls, err := ctx.NewFilter()
		if err != nil {
			w.Close()
			return
		}
		w.Put("220 go ahead") // in plain text
		if err := w.Push(tls); err != nil {
			fmt.Println(err) // an injected command, with its length
			tls.Close()
			w.Close()
		}
	}
	conn, peer := net.Pipe()
	w, err := wheel.New(conn, nil, wheel.Events{
		Input: input,
		Error: func(w *wheel.ReadWrite, _ string, _ error) { w.Close() },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	go fmt.Fprint(peer, "STARTTLS\r\nRSET\r\n")
	w.Wait()
	// Output:
	// filter: Push: 6 bytes were received before the switch and do not belong to a record yet
}
