package live_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// goPeer returns crypto/tls as a peer.
func goPeer() *peer {
	return &peer{
		name: "Go crypto/tls", short: true, debian: "comes with Go", clientALPN: "interop", serverALPN: "interop",
		version: func(testing.TB) string { return runtime.Version() },
		client:  goClient,
		lacks: map[string]string{
			"client " + again:            "way to ask for it",
			"client " + byStore + " 1.2": "resumption by session id",
			"server " + again:            "way to ask for it",

			"client " + twoKeys + " 1.3": "choice of signature algorithms", "client " + mustStaple: "check of the extension",
		},
		server: goServer,
		quirks: quirks{noCRL: true},
	}
}

func goPool(t testing.TB, file string) *x509.CertPool {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(data))
	return pool
}

func goConfig(t testing.TB, c call) *tls.Config {
	t.Helper()
	config := &tls.Config{MinVersion: uint16(c.version), MaxVersion: uint16(c.version), NextProtos: []string{"interop"}}
	if c.crt != "" {
		cert, err := tls.LoadX509KeyPair(c.crt, c.key)
		require.NoError(t, err)
		// Otherwise the client would not send its certificate to a server that names other CAs.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		config.Certificates = []tls.Certificate{cert}
	}
	if c.staple != "" {
		config.Certificates[0].OCSPStaple = testkit.Contents(t, c.staple)
	}
	for _, suite := range tls.CipherSuites() {
		if c.auth != "" && strings.HasPrefix(suite.Name, "TLS_ECDHE_"+c.auth+"_") {
			config.CipherSuites = append(config.CipherSuites, suite.ID)
		}
	}
	return config
}

// goTalk runs one side with crypto/tls. A client sends first, and ends first.
func goTalk(conn *tls.Conn, c call, client bool) (result outcome) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(peers.Patience))
	got := make([]byte, len(c.want))
	err := conn.Handshake()
	send := func() {
		if err == nil {
			_, err = conn.Write(c.send)
		}
	}
	receive := func() {
		if err == nil {
			_, err = io.ReadFull(conn, got)
		}
	}
	if client {
		send()
		receive()
		if err == nil {
			err = conn.CloseWrite()
		}
	} else {
		receive()
		send()
	}
	if err == nil {
		if _, end := conn.Read(make([]byte, 1)); !errors.Is(end, io.EOF) {
			err = end
		}
	}
	state := conn.ConnectionState()
	result.done = err == nil && bytes.Equal(got, c.want)
	result.version, result.cipher = tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)
	if len(state.PeerCertificates) > 0 {
		result.cert = state.PeerCertificates[0].Subject.String()
	}
	result.resumed = yesNo(state.DidResume)
	result.status = hex.EncodeToString(state.OCSPResponse)
	if err != nil {
		result.text = err.Error()
	}
	return result
}

// goTimes returns the outcome of the last connection, if all of them succeeded.
func goTimes(c call, visit func() outcome) (last outcome) {
	for i := 0; i < c.times() && (i == 0 || last.done); i++ {
		last = visit()
	}
	return last
}

func goClient(t testing.TB, c call) outcome {
	config := goConfig(t, c)
	config.ServerName, config.RootCAs = c.host(), goPool(t, c.ca)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	return goTimes(c, func() outcome {
		conn, err := net.DialTimeout("tcp", c.addr, peers.Patience)
		require.NoError(t, err)
		return goTalk(tls.Client(conn, config), c, true)
	})
}

func goServer(t testing.TB, c call) service {
	config := goConfig(t, c)
	if c.ask {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, goPool(t, c.ca)
	}
	l := testkit.Listen(t)
	result := make(chan outcome, 1)
	go func() {
		result <- goTimes(c, func() outcome {
			conn, err := l.Accept()
			if err != nil {
				return outcome{text: err.Error()}
			}
			return goTalk(tls.Server(conn, config), c, false)
		})
	}()
	return service{addr: l.Addr().String(), end: func() outcome { return <-result }}
}
