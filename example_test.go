package sslfilter_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/seed-014b8713/sslfilter"
)

// carry moves bytes between two filters until nothing moves: the network of
// these examples. It returns the plaintext that reached each side.
func carry(client, server *sslfilter.Filter) (toClient, toServer []byte, err error) {
	for {
		up, down := client.Outgoing(nil), server.Outgoing(nil)
		if len(up)+len(down) == 0 {
			return toClient, toServer, err
		}
		var errUp, errDown error
		toServer, errUp = server.Receive(toServer, up)
		toClient, errDown = client.Receive(toClient, down)
		err = errors.Join(err, errUp, errDown)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func exampleServer() *sslfilter.Filter {
	return must(sslfilter.New(sslfilter.Options{
		Crt: "testdata/pki/server.crt",
		Key: "testdata/pki/server.key",
	}))
}

func exampleClient() *sslfilter.Filter {
	return must(sslfilter.New(sslfilter.Options{
		Client:     true,
		CACrt:      "testdata/pki/root.crt",
		ServerName: "localhost",
	}))
}

// A client verifies the server's chain and name. Send before the handshake is
// done is kept, so a request can be sent at once.
func Example_client() {
	client, err := sslfilter.New(sslfilter.Options{
		Client: true,
		CACrt:  "testdata/pki/root.crt", // without it: the system's store
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if err := client.SetServerName("localhost"); err != nil {
		fmt.Println(err)
		return
	}
	client.Send([]byte("HEAD / HTTP/1.0\r\n\r\n"))

	server := exampleServer()
	defer server.Close()
	_, request, err := carry(client, server)
	fmt.Printf("%q %v\n", request, err)
	fmt.Println(client.HandshakeDone(), client.Version(), client.Cipher())
	// Output:
	// "HEAD / HTTP/1.0\r\n\r\n" <nil>
	// true TLSv1.3 TLS_AES_256_GCM_SHA384
}

// One Ctx serves any number of connections.
func Example_server() {
	ctx, err := sslfilter.NewCtx(sslfilter.Options{
		Crt:    "testdata/pki/server.crt",
		Key:    "testdata/pki/server.key",
		Cipher: "ECDHE+AESGCM",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ctx.Close()
	for i := range 2 {
		server := must(ctx.NewFilter())
		server.Send(fmt.Appendf(nil, "Smile from connection %d!", i))

		client := exampleClient()
		client.Handshake()
		greeting, _, err := carry(client, server)
		fmt.Printf("%s %v\n", greeting, err)
		client.Close()
		server.Close()
	}
	// Output:
	// Smile from connection 0! <nil>
	// Smile from connection 1! <nil>
}

// OpenSSL checks revocation lists: signature, issuer and dates. A list that is
// missing or has expired blocks, unless an option lets it pass.
func ExampleCRLCheck() {
	options := sslfilter.Options{
		Crt:        "testdata/pki/server.crt",
		Key:        "testdata/pki/server.key",
		CACrt:      "testdata/pki/root.crt",
		ClientCert: true,
		CRLCheck:   sslfilter.CRLCheckLeaf,
	}
	for _, file := range []string{"crl.pem", "crl-expired.pem", "crl-badsig.pem"} {
		options.CRLFiles = []string{"testdata/pki/" + file}
		ctx := must(sslfilter.NewCtx(options))
		for _, who := range []string{"client", "client-revoked"} {
			server := must(ctx.NewFilter())
			client := must(sslfilter.New(sslfilter.Options{
				Client: true, CACrt: "testdata/pki/root.crt", ServerName: "localhost",
				Crt: "testdata/pki/" + who + ".crt", Key: "testdata/pki/" + who + ".key",
			}))
			client.Handshake()
			carry(client, server)
			fmt.Printf("%s, %s: %v\n", file, who, server.Peer().CRLCheck.Status)
			client.Close()
			server.Close()
		}
		ctx.Close()
	}
	// Output:
	// crl.pem, client: not listed
	// crl.pem, client-revoked: listed
	// crl-expired.pem, client: the CRL has expired
	// crl-expired.pem, client-revoked: listed
	// crl-badsig.pem, client: the CRL is not valid
	// crl-badsig.pem, client-revoked: listed
}

// A server asks for a certificate, refuses nobody and looks at the verdict.
func Example_clientCertificate() {
	ctx := must(sslfilter.NewCtx(sslfilter.Options{
		Crt:        "testdata/pki/server.crt",
		Key:        "testdata/pki/server.key",
		CACrt:      "testdata/pki/root.crt",
		CACRL:      "testdata/pki/crl.pem",
		ClientCert: true,
	}))
	defer ctx.Close()
	for _, who := range []string{"client", "client-revoked", "client-expired", ""} {
		server := must(ctx.NewFilter())
		options := sslfilter.Options{Client: true, CACrt: "testdata/pki/root.crt", ServerName: "localhost"}
		if who != "" {
			options.Crt, options.Key = "testdata/pki/"+who+".crt", "testdata/pki/"+who+".key"
		}
		client := must(sslfilter.New(options))
		client.Handshake()
		carry(client, server)

		fmt.Println(server.ClientCertExists(), server.ClientCertValid(), server.Peer())
		if ids := server.ClientCertIDs(); len(ids) > 0 {
			leaf := ids[len(ids)-1]
			fmt.Println(" ", leaf.Subject, sslfilter.Hexdump(leaf.Serial))
		}
		client.Close()
		server.Close()
	}
	// Output:
	// true true valid
	//   /C=DE/O=Oracle Test/CN=client valid 20:01
	// true false invalid: testdata/pki/crl.pem: serial 20:07 of /C=DE/O=Oracle Test/CN=client revoked is listed
	//   /C=DE/O=Oracle Test/CN=client revoked 20:07
	// true false invalid: certificate has expired (10) at depth 0: it was valid until 2021-01-01 00:00:00 UTC
	//   /C=DE/O=Oracle Test/CN=client expired 20:03
	// false false no certificate
}

// STARTTLS: the filter is made on a connection that has spoken plain text.
// Every byte that came after the command goes to the filter, none is taken for
// a command: that is the STARTTLS injection (CVE-2011-0411).
func Example_startTLS() {
	// read is what the server has read so far: the command, and perhaps more.
	starttls := func(read []byte) (*sslfilter.Filter, error) {
		command, rest, _ := bytes.Cut(read, []byte("\r\n"))
		fmt.Printf("%s\n", command)
		// Here the server answers "OK", still in plain text.
		server := exampleServer()
		_, err := server.Receive(nil, rest)
		return server, err
	}

	client := exampleClient()
	defer client.Close()
	client.Handshake()
	server, err := starttls(append([]byte("a1 STARTTLS\r\n"), client.Outgoing(nil)...))
	fmt.Println(err)
	carry(client, server)
	fmt.Println(server.HandshakeDone(), server.Version())
	server.Close()

	server, err = starttls([]byte("a1 STARTTLS\r\na2 LOGIN mallory secret\r\n"))
	fmt.Println(err) // the connection ends here
	fmt.Println(server.HandshakeDone())
	server.Close()
	// Output:
	// a1 STARTTLS
	// <nil>
	// true TLSv1.3
	// a1 STARTTLS
	// sslfilter: SSL_do_handshake: wrong version number: the peer seems not to speak TLS
	// false
}

// A server with Options.ALPN chooses by its own order.
func ExampleFilter_ALPN() {
	server := must(sslfilter.New(sslfilter.Options{
		Crt: "testdata/pki/server.crt", Key: "testdata/pki/server.key",
		ALPN: []string{"h2", "http/1.1"},
	}))
	defer server.Close()
	client := must(sslfilter.New(sslfilter.Options{
		Client: true, CACrt: "testdata/pki/root.crt", ServerName: "localhost",
		ALPN: []string{"http/1.1", "h2"},
	}))
	defer client.Close()
	client.Handshake()
	carry(client, server)
	fmt.Println(client.ALPN(), server.ALPN(), server.ServerName())
	// Output: h2 h2 localhost
}

// Detach takes TLS off and keeps the connection.
func ExampleFilter_Detach() {
	client, server := exampleClient(), exampleServer()
	defer client.Close()
	defer server.Close()
	client.Send([]byte("under TLS"))
	carry(client, server)

	client.CloseWrite()
	wire := append(client.Outgoing(nil), "in plain text"...) // one delivery
	_, err := server.Receive(nil, wire)
	fmt.Println(err == io.EOF)
	plain, err := server.Detach()
	fmt.Printf("%s %v\n", plain, err)
	// server.Outgoing now has our close_notify; plain bytes may follow it.
	fmt.Println(len(server.Outgoing(nil)) > 0)
	// Output:
	// true
	// in plain text <nil>
	// true
}

func ExampleHexdump() {
	fmt.Println(sslfilter.Hexdump([]byte("test")))
	// Output: 74:65:73:74
}

func ExampleCtx_Ciphers() {
	ctx := must(sslfilter.NewCtx(sslfilter.Options{
		Crt:          "testdata/pki/server.crt",
		Key:          "testdata/pki/server.key",
		Cipher:       "DHE-RSA-AES256-GCM-SHA384:AES256-SHA",
		CipherSuites: "TLS_AES_256_GCM_SHA384",
	}))
	defer ctx.Close()
	fmt.Println(strings.Join(ctx.Ciphers(), ":"))
	// Output: TLS_AES_256_GCM_SHA384:DHE-RSA-AES256-GCM-SHA384:AES256-SHA
}

// A wrong option is an error that names the option and the file.
func ExampleOptionError() {
	_, err := sslfilter.NewCtx(sslfilter.Options{Crt: "testdata/pki/server.crt", Key: "testdata/pki/client.key"})
	var option *sslfilter.OptionError
	if errors.As(err, &option) {
		fmt.Println(option.Option, option.File)
	}
	// Output: Key testdata/pki/client.key
}
