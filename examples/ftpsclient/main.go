// Ftpsclient lists the files of an FTP server, or prints one of them, over TLS
// (explicit FTPS, RFC 4217). Each data connection resumes the TLS session of the
// control connection, as vsftpd (require_ssl_reuse) and proftpd demand: it proves
// that both connections belong to the same client.
//
//	ftpsclient -connect ftp.example.org:21 -user anonymous pub/file.txt
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

func main() {
	o := sslfilter.Options{Client: true}
	var c client
	addr := flag.String("connect", "", "`host:port` of the server")
	user := flag.String("user", "anonymous", "`name` of the user; the password is in the environment variable FTP_PASSWORD")
	flag.DurationVar(&c.timeout, "timeout", 30*time.Second, "limit of the whole run")
	flag.BoolVar(&c.fresh, "fresh", false, "do not resume the session, to see how the server reacts")
	flag.StringVar(&o.CACrt, "cacrt", "", "PEM `file` with the CAs that the server is verified against (default: the CAs of the system)")
	flag.BoolVar(&o.TLS12, "tls1_2", false, "use only TLS 1.2")
	flag.Parse()
	if err := c.run(o, *addr, *user, os.Getenv("FTP_PASSWORD"), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "ftpsclient:", err)
		os.Exit(1)
	}
}

type client struct {
	timeout time.Duration
	fresh   bool

	ctx      *sslfilter.Ctx
	host     string
	limit    time.Time
	sessions *sslsession.Cache
	control  *textproto.Conn
}

// run logs in, and prints the list of files or the files.
func (c *client) run(o sslfilter.Options, addr, user, password string, files []string) (err error) {
	if c.host, _, err = net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("-connect: %w", err)
	}
	if c.ctx, err = sslfilter.NewCtx(o); err != nil {
		return err
	}
	defer c.ctx.Close()
	c.limit, c.sessions = time.Now().Add(c.timeout), sslsession.NewCache(16)
	tcp, err := net.DialTimeout("tcp", addr, c.timeout)
	if err != nil {
		return err
	}
	defer tcp.Close()
	tcp.SetDeadline(c.limit)
	control, err := c.startTLS(tcp)
	if err != nil {
		return err
	}
	defer control.Close()
	c.control = textproto.NewConn(control)
	for _, command := range []string{"USER " + user, "PASS " + password, "PBSZ 0", "PROT P", "TYPE I"} {
		if err := c.say(command); err != nil {
			return err
		}
	}
	if len(files) == 0 {
		if err := c.fetch("NLST"); err != nil {
			return err
		}
	}
	for _, name := range files {
		if err := c.fetch("RETR " + name); err != nil {
			return err
		}
	}
	return c.say("QUIT")
}

// startTLS reads the greeting, and begins TLS on the control connection.
func (c *client) startTLS(tcp net.Conn) (*sslnet.Conn, error) {
	r := bufio.NewReader(tcp)
	plain := textproto.NewReader(r)
	if _, _, err := plain.ReadResponse(2); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(tcp, "AUTH TLS\r\n"); err != nil {
		return nil, err
	}
	if _, _, err := plain.ReadResponse(2); err != nil {
		return nil, err
	}
	conn, err := sslnet.ClientBuffered(tcp, r, c.ctx, sslnet.RefuseLeftover)
	if err != nil {
		return nil, err
	}
	return conn, c.prepare(conn)
}

// docs:begin
// prepare sets the name that a connection verifies, and the cache that the control
// connection and the data connections share.
func (c *client) prepare(conn *sslnet.Conn) error {
	if !c.fresh {
		if err := conn.SetSessions(c.sessions); err != nil {
			return err
		}
	}
	return conn.SetServerName(c.host)
}

// docs:end

// say sends a command. It returns an error if the server does not accept it.
func (c *client) say(command string) error {
	if strings.ContainsAny(command, "\r\n") {
		return fmt.Errorf("%q has a line break", command)
	}
	if err := c.control.PrintfLine("%s", command); err != nil {
		return err
	}
	code, text, err := c.control.ReadResponse(0)
	if err == nil && code >= 400 {
		err = fmt.Errorf("%s: %d %s", strings.Fields(command)[0], code, text)
	}
	return err
}

// fetch prints what a command sends over a data connection.
func (c *client) fetch(command string) error {
	port, err := c.passive()
	if err != nil {
		return err
	}
	tcp, err := net.DialTimeout("tcp", net.JoinHostPort(c.host, port), time.Until(c.limit))
	if err != nil {
		return err
	}
	defer tcp.Close()
	tcp.SetDeadline(c.limit)
	if err := c.say(command); err != nil {
		return err
	}
	data := sslnet.Client(tcp, c.ctx)
	defer data.Close()
	if err := c.prepare(data); err != nil {
		return err
	}
	if err := data.Handshake(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "data connection: %s, resumed: %t\n", data.Version(), data.State().Resumed)
	if _, err := io.Copy(os.Stdout, data); err != nil { // io.EOF is the server's close_notify
		return err
	}
	data.Close()
	_, _, err = c.control.ReadResponse(2)
	return err
}

// passive asks for the port of a data connection (RFC 2428).
func (c *client) passive() (port string, err error) {
	if err = c.control.PrintfLine("EPSV"); err != nil {
		return "", err
	}
	_, text, err := c.control.ReadResponse(229)
	if err != nil {
		return "", err
	}
	_, port, _ = strings.Cut(text, "(|||")
	port, _, ok := strings.Cut(port, "|)")
	if !ok {
		return "", fmt.Errorf("EPSV: %q has no port", text)
	}
	return port, nil
}
