// Directcipher is a conversation between two terminals that is encrypted with a
// static key, without TLS and without certificates. Each line that is typed is a
// record. One side listens and the other one connects:
//
//	openssl rand -hex 32 >secret.key
//	directcipher -key-file secret.key -listen 127.0.0.1:7000
//	directcipher -key-file secret.key -connect 127.0.0.1:7000
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

func main() {
	listen := flag.String("listen", "", "`address` to listen on, for one connection")
	connect := flag.String("connect", "", "`address` to connect to")
	keyFile := flag.String("key-file", "", "`file` with the key: 64 hexadecimal digits")
	flag.Parse()
	if err := run(*listen, *connect, *keyFile, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "directcipher:", err)
		os.Exit(1)
	}
}

func run(listen, connect, keyFile string, in io.Reader, out, notes io.Writer) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return err
	}
	cipher, err := sslfilter.NewCipher(sslfilter.CipherOptions{Client: connect != "", Key: key})
	if err != nil {
		return err
	}
	below, err := open(listen, connect, notes)
	if err != nil {
		cipher.Close()
		return err
	}
	conn := sslnet.NewCipherConn(below, cipher)
	defer conn.Close()
	failed := make(chan error, 1)
	go func() { failed <- send(conn, in) }()
	if _, err := io.Copy(out, conn); err != nil {
		return err // io.ErrUnexpectedEOF if the connection was cut
	}
	return <-failed
}

// open returns the connection.
func open(listen, connect string, notes io.Writer) (net.Conn, error) {
	switch {
	case connect != "":
		return net.Dial("tcp", connect)
	case listen == "":
		return nil, errors.New("-listen or -connect is needed")
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	fmt.Fprintln(notes, "listening on", listener.Addr())
	return listener.Accept()
}

// send sends each line as soon as it is complete, and ends the stream at the end of
// the input.
func send(conn *sslnet.CipherConn, in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if _, failed := conn.Write(line); failed != nil {
			return failed
		}
		if err == io.EOF {
			return conn.CloseWrite()
		}
		if err != nil {
			return err
		}
	}
}
