// Imaprelay is the fourth program of POE::Filter::SSL's man page: an IMAP relay
// that chooses the backend by the name of the user. It has one port for STARTTLS and
// one for TLS, and speaks plain text with the backends. Unlike the original, it
// accepts no password before TLS. For more features, use cmd/sslrelay.
package main

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/keylogfile"
	"github.com/seed-014b8713/sslfilter/internal/testpki"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

const (
	maxLine    = 8 << 10          // bytes of a command before the login (RFC 7162 section 4)
	maxSession = 12 * time.Hour   // after it; the backend ends idle ones much sooner
	goodbye    = 10 * time.Second // for the backend: to greet, and to end when the client has
)

var (
	sessions sync.WaitGroup
	users    = make(map[string]string) // backend by user
	backend  = flag.String("backend", "127.0.0.1:143", "`host:port` of the IMAP server of all users without -user")
	timeout  = flag.Duration("timeout", time.Minute, "time that a client has to log in")
	login    = regexp.MustCompile(`^\S+ (?i:LOGIN) (?:"([^"\\]+)"|([^\s"\\(){%*]+)) .`) // the password may be a literal
)

func main() {
	var o sslfilter.Options
	imap := flag.String("imap", "127.0.0.1:1143", "`address` for STARTTLS; port 0 picks a free one")
	imaps := flag.String("imaps", "127.0.0.1:1993", "`address` for TLS")
	flag.StringVar(&o.Crt, "crt", "", "certificate `file` of the relay, PEM; default: one to try it with")
	flag.StringVar(&o.Key, "key", "", "`file` with the private key of -crt, PEM")
	flag.Func("user", "`name=host:port`, the IMAP server of this user; may be repeated", func(s string) error {
		name, addr, _ := strings.Cut(s, "=")
		users[name] = addr
		_, _, err := net.SplitHostPort(addr)
		return err
	})
	keylogfile.Flag(flag.CommandLine, &o.KeyLog)
	flag.Parse()
	upgrade, direct := must(net.Listen("tcp", *imap)), must(net.Listen("tcp", *imaps))
	defer must(testpki.ThrowAway(&o.Crt, &o.Key))()
	tls := must(sslfilter.NewCtx(o))
	fmt.Printf("imaprelay listens on %v for STARTTLS and on %v for TLS\n", upgrade.Addr(), direct.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, l := range []net.Listener{upgrade, &sslnet.Listener{Listener: direct, Ctx: tls, HandshakeTimeout: *timeout}} {
		context.AfterFunc(ctx, func() { l.Close() })
		sessions.Go(func() { accept(ctx, tls, l) })
	}
	sessions.Wait()
}

func must[T any](v T, err error) T { // or end the program
	if err != nil {
		log.Fatal("imaprelay: ", err)
	}
	return v
}

// accept serves the clients of one port.
func accept(ctx context.Context, tls *sslfilter.Ctx, l net.Listener) {
	for ctx.Err() == nil {
		conn, err := l.Accept()
		if err != nil {
			time.Sleep(100 * time.Millisecond) // too many open files, perhaps
			continue
		}
		sessions.Go(func() {
			log.Println(conn.RemoteAddr(), "ended:", serve(ctx, tls, conn, "* OK IMAP Relay v0.1 ready.\r\n"))
		})
	}
}

// serve talks to a client until it logs in, and then connects it to its backend.
func serve(ctx context.Context, tls *sslfilter.Ctx, conn net.Conn, greeting string) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(*timeout))
	_, secure := conn.(*sslnet.Conn)
	capability := map[bool]string{false: "IMAP4rev1 STARTTLS", true: "IMAP4rev1"}[secure] // no LOGINDISABLED, because curl would obey it after STARTTLS too
	io.WriteString(conn, greeting)
	for in := bufio.NewReaderSize(conn, maxLine); ; {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		words := append(strings.Fields(string(line)), "", "") // tag, command, ...
		tag, name, user := words[0], strings.ToUpper(words[1]), login.FindStringSubmatch(string(line))
		switch {
		case name == "CAPABILITY":
			fmt.Fprintf(conn, "* CAPABILITY %s\r\n%s OK completed\r\n", capability, tag)
		case name == "STARTTLS" && !secure:
			// docs:begin
			above, err := sslnet.ServerBuffered(conn, in, tls, sslnet.RefuseLeftover)
			if err != nil {
				return err // a command was injected after STARTTLS (CVE-2011-0411)
			}
			fmt.Fprintf(conn, "%s OK Begin SSL/TLS negotiation now.\r\n", tag) // still in plain text
			// docs:end
			stop()
			return serve(ctx, tls, above, "")
		case user != nil && secure:
			return forward(conn, in, string(line), cmp.Or(users[user[1]+user[2]], *backend))
		default:
			fmt.Fprintf(conn, "%s BAD not before STARTTLS, or not before LOGIN\r\n", tag)
		}
	}
}

// forward passes a client that logs in to its backend.
func forward(client net.Conn, fromClient io.Reader, login, addr string) error {
	far, err := net.DialTimeout("tcp", addr, goodbye)
	if err != nil {
		io.WriteString(client, "* BYE [UNAVAILABLE] the mail server cannot be reached\r\n")
		return err
	}
	defer far.Close()
	far.SetDeadline(time.Now().Add(goodbye))
	fromFar := bufio.NewReaderSize(far, maxLine)
	if _, err := fromFar.ReadSlice('\n'); err != nil { // the backend's greeting; the client already has ours
		return err
	}
	far.SetDeadline(time.Now().Add(maxSession))
	client.SetDeadline(time.Now().Add(maxSession))
	sessions.Go(func() {
		io.Copy(far, io.MultiReader(strings.NewReader(login), fromClient))
		far.SetDeadline(time.Now().Add(goodbye))
		far.(*net.TCPConn).CloseWrite()
	})
	_, err = io.Copy(client, fromFar)
	return err
}
