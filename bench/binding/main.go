//go:build libp2p || spacemonkey

// Command binding runs another binding of OpenSSL as a subject of the
// benchmark. It is a separate process because the binding loads engines when it
// starts, which would slow the other subjects down.
//
//	binding FOLDER                 answers on the standard output
//	binding FOLDER serve FILE      is an HTTPS server that prints its address
//
// The build tag selects the binding: spacemonkey is
// github.com/spacemonkeygo/openssl, which builds with OpenSSL 1.1.1, and libp2p
// is its fork, which also builds with OpenSSL 3. These modules take longer to
// compile than everything else together. With -modfile=port.mod, the tag spacemonkey
// selects compat/spacemonkeygo instead of the old module, and nothing in this program
// changes.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2:
		err = answer(os.Args[1])
	case len(os.Args) == 4 && os.Args[2] == "serve":
		err = serve(os.Args[1], os.Args[3])
	default:
		err = errors.New("usage: binding FOLDER [serve FILE]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "binding:", err)
		os.Exit(1)
	}
}

func answer(pki string) error {
	table := subject.Table(version+", "+cend.OpenSSL(), pki, func(cert string) (*subject.Conns, error) { return open(pki, cert) })
	table.Runs["context"] = func(arg string, n int) ([]float64, error) {
		name := filepath.Join(pki, subject.File(arg))
		return subject.Repeat(n, func() error {
			if _, err := newCtxFromFiles(name+".crt", name+".key"); err != nil {
				return err
			}
			return nil
		})
	}
	table.Runs["digest"] = sized(func(data []byte) error {
		_, err := sha256(data)
		return err
	})
	table.Runs["gcm"] = sized(sealGCM)
	return subject.Serve(table)
}

// sized is work on arg bytes.
func sized(f func(data []byte) error) func(arg string, n int) ([]float64, error) {
	return func(arg string, n int) ([]float64, error) {
		size, err := subject.Number(arg)
		if err != nil {
			return nil, err
		}
		data := make([]byte, size)
		return subject.Repeat(n, func() error { return f(data) })
	}
}

// sealGCM encrypts data with AES-256-GCM, as the documentation of the module shows.
func sealGCM(data []byte) error {
	ctx, err := newGCM(256, nil, make([]byte, 32), make([]byte, 12))
	if err != nil {
		return err
	}
	if _, err := ctx.EncryptUpdate(data); err != nil {
		return err
	}
	if _, err := ctx.EncryptFinal(); err != nil {
		return err
	}
	_, err = ctx.GetTag()
	return err
}

// server makes a context with the modes that keep memory and time low: idle
// buffers are freed, and no session is cached.
func server(pki, cert string) (*context, error) {
	name := filepath.Join(pki, subject.File(cert))
	ctx, err := newCtxFromFiles(name+".crt", name+".key")
	if err != nil {
		return nil, err
	}
	ctx.SetMode(releaseBuffers)
	ctx.SetSessionCacheMode(sessionCacheOff)
	return ctx, nil
}

func open(pki, cert string) (*subject.Conns, error) {
	s, err := server(pki, cert)
	if err != nil {
		return nil, err
	}
	c, err := newCtx()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(pki, "root.crt")
	if err := c.LoadVerifyLocations(root, ""); err != nil {
		return nil, err
	}
	c.SetVerifyMode(verifyPeer)
	c.SetMode(releaseBuffers)
	c.SetSessionCacheMode(sessionCacheOff)
	if cert == "cert" {
		if err := errors.Join(s.LoadVerifyLocations(root, ""), present(c, filepath.Join(pki, "client-ec"))); err != nil {
			return nil, err
		}
		s.SetVerifyMode(verifyPeer | verifyFailIfNoPeerCert)
		s.SetOptions(noTicket)
	}
	return &subject.Conns{
		Client: func(below net.Conn) (net.Conn, error) {
			conn, err := newClient(below, c)
			if err != nil {
				return nil, err
			}
			return conn, conn.SetTlsExtHostName("localhost")
		},
		Server: func(below net.Conn) (net.Conn, error) { return newServer(below, s) },
		Handshake: func(c net.Conn) error {
			conn := c.(*connection)
			return conn.Handshake()
		},
		Check: func(s net.Conn) error {
			if got := s.(*connection).VerifyResult(); got != verified {
				return fmt.Errorf("verify result %d", got)
			}
			return nil
		},
		Free: func(c net.Conn) { c.Close() },
	}, nil
}

// present gives a client its certificate.
func present(ctx *context, name string) error {
	pem, err := os.ReadFile(name + ".crt")
	if err != nil {
		return err
	}
	crt, err := loadCertificateFromPEM(pem)
	if err != nil {
		return err
	}
	if pem, err = os.ReadFile(name + ".key"); err != nil {
		return err
	}
	key, err := loadPrivateKeyFromPEM(pem)
	if err != nil {
		return err
	}
	return errors.Join(ctx.UseCertificate(crt), ctx.UsePrivateKey(key))
}

func serve(pki, file string) error {
	ctx, err := server(pki, "ec")
	if err != nil {
		return err
	}
	l, err := listen("tcp", "127.0.0.1:0", ctx)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	http.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	return http.Serve(l, nil)
}
