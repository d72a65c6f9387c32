// Command cmd runs a gRPC server and a client that asks it for its health. Both
// sides use TLS of package sslnet, and the client has a certificate. The server logs
// the subject of that certificate in OpenSSL's notation.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/seed-014b8713/sslfilter"
	sslgrpc "github.com/seed-014b8713/sslfilter/examples/grpc"
	"github.com/seed-014b8713/sslfilter/internal/keylogfile"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

const pki = "../../../testdata/pki/"

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stdout)
	var keyLog io.Writer
	keylogfile.Flag(flag.CommandLine, &keyLog)
	flag.Parse()
	server, addr, err := serve(&sslfilter.Options{
		KeyLog: keyLog,
		Crt:    pki + "server.crt", Key: pki + "server.key", CACrt: pki + "root.crt", ClientCert: true, ALPN: []string{"h2"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer server.GracefulStop()
	creds, err := newCredentials(&sslfilter.Options{
		Client: true, CACrt: pki + "root.crt", Crt: pki + "client.crt", Key: pki + "client.key", ALPN: []string{"h2"},
	})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := ask(addr, creds)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the server is", answer)
}

func newCredentials(o *sslfilter.Options) (*sslgrpc.Credentials, error) {
	ctx, err := sslfilter.NewCtx(*o)
	if err != nil {
		return nil, err
	}
	return sslgrpc.New(ctx)
}

// serve starts a server that answers clients with a valid certificate.
func serve(o *sslfilter.Options) (*grpc.Server, string, error) {
	creds, err := newCredentials(o)
	if err != nil {
		return nil, "", err
	}
	creds.Check = logClient
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	server := grpc.NewServer(grpc.Creds(creds), grpc.UnaryInterceptor(onlyKnown))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	return server, listener.Addr().String(), nil
}

// logClient logs the subject of a valid client.
func logClient(conn *sslnet.Conn) error {
	if peer := conn.Peer(); peer.Valid {
		log.Println("the client is", peer.Chain[0].Subject)
	}
	return nil
}

// onlyKnown rejects the calls of a client without a valid certificate.
func onlyKnown(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil, status.Error(codes.Unauthenticated, "no valid client certificate")
	}
	return handler(ctx, req)
}

// ask asks the server at addr for its health.
func ask(addr string, creds credentials.TransportCredentials) (string, error) {
	client, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer, err := grpc_health_v1.NewHealthClient(client).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return "", err
	}
	return answer.Status.String(), nil
}
