// Package dovecot runs the Dovecot mail server for tests and the demo, in a folder of
// its own, with its own configuration and without users of the system. Every user name
// is an account, and the password is [Password].
package dovecot

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/child"
)

// Password is the password of every user.
const Password = "secret"

const (
	attempts  = 3 // ports that were free a moment ago may be in use now
	startTime = 20 * time.Second
	stopTime  = 10 * time.Second
)

// ErrMissing says that dovecot, or its package for a protocol, is not installed.
var ErrMissing = errors.New("dovecot is not installed")

// Server is a running dovecot. All addresses are on 127.0.0.1.
type Server struct {
	IMAP  string // plain text and STARTTLS
	IMAPS string
	POP3  string // plain text and STARTTLS; empty without pop3

	dir    string
	cmd    *exec.Cmd
	output bytes.Buffer // complete once done is closed
	done   chan struct{}
}

// Start runs dovecot with the certificate crt and its key. With pop3 it also serves
// POP3, which Debian has in a package of its own.
func Start(crt, key string, pop3 bool) (s *Server, err error) {
	path, err := find(pop3)
	if err != nil {
		return nil, err
	}
	for range attempts {
		if s, err = start(path, crt, key, pop3); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// find looks for the program, which is not in the PATH of every user.
func find(pop3 bool) (string, error) {
	path, err := exec.LookPath("dovecot")
	if err != nil {
		path = "/usr/sbin/dovecot"
	}
	needed := []string{path, "/usr/lib/dovecot/imap"}
	if pop3 {
		needed = append(needed, "/usr/lib/dovecot/pop3")
	}
	for _, file := range needed {
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("%w: %w", ErrMissing, err)
		}
	}
	return path, nil
}

func start(path, crt, key string, pop3 bool) (s *Server, err error) {
	s = &Server{done: make(chan struct{})}
	if s.dir, err = os.MkdirTemp("", "dovecot-"); err != nil { // short, because the paths of sockets are limited
		return nil, fmt.Errorf("dovecot: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("dovecot: %w\n%s", err, s.Log())
			s.Stop()
		}
	}()
	if err := s.configure(crt, key, pop3); err != nil {
		return s, err
	}
	s.cmd = exec.Command(path, "-F", "-c", filepath.Join(s.dir, "conf"))
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if err := child.Start(s.cmd); err != nil { // in a session of its own: Ctrl-C must not reach it
		s.cmd = nil
		return s, err
	}
	go func() {
		s.cmd.Wait()
		close(s.done)
	}()
	for _, addr := range []string{s.IMAP, s.IMAPS, s.POP3} {
		if addr == "" {
			continue
		}
		if err := s.await(addr); err != nil {
			return s, err
		}
	}
	return s, nil
}

// configure writes the configuration, with ports that are free now.
func (s *Server) configure(crt, key string, pop3 bool) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	c := config{Dir: s.dir, Crt: filepath.Join(s.dir, "crt"), Key: filepath.Join(s.dir, "key"), Password: Password, POP3: pop3}
	c.Login, c.Internal, c.UID, c.GID = me.Username, me.Username, me.Uid, me.Gid
	if me.Uid == "0" { // dovecot refuses to access mail as root
		c.Login, c.Internal, c.UID, c.GID = "dovenull", "dovecot", "65534", "65534"
	}
	if c.Group, err = groupOf(c.Internal); err != nil {
		return err
	}
	for _, addr := range []*string{&s.IMAP, &s.IMAPS, &s.POP3} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		if *addr = l.Addr().String(); addr == &s.POP3 && !pop3 {
			*addr = ""
		}
	}
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	c.IMAPPort, c.IMAPSPort, c.POP3Port = port(s.IMAP), port(s.IMAPS), port(s.POP3)
	for to, from := range map[string]string{c.Crt: crt, c.Key: key} {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			return err
		}
	}
	mail := filepath.Join(s.dir, "mail")
	err = errors.Join(os.Chmod(s.dir, 0o755), os.Mkdir(mail, 0o777), os.Chmod(mail, 0o777)) // for the user that owns the mail
	var text bytes.Buffer
	return errors.Join(err, configuration.Execute(&text, c), os.WriteFile(filepath.Join(s.dir, "conf"), text.Bytes(), 0o600))
}

func groupOf(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return "", err
	}
	return g.Name, nil
}

// await waits until the server listens at addr.
func (s *Server) await(addr string) error {
	for end := time.Now().Add(startTime); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.done:
			return errors.New("it ended")
		default:
		}
		if time.Now().After(end) {
			return err
		}
	}
}

// Log returns the log.
func (s *Server) Log() string {
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	select {
	case <-s.done:
		return s.output.String() + string(log)
	default:
		return string(log)
	}
}

// Stop ends the server and removes its folder.
func (s *Server) Stop() {
	if s.cmd != nil {
		s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(stopTime):
			s.cmd.Process.Kill()
			<-s.done
		}
	}
	os.RemoveAll(s.dir)
}

type config struct {
	Dir, Crt, Key, Password          string
	Login, Internal, Group, UID, GID string
	POP3                             bool
	IMAPPort, IMAPSPort, POP3Port    string
}

var configuration = template.Must(template.New("conf").Parse(`
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/run
log_path = {{.Dir}}/log
protocols = imap{{if .POP3}} pop3{{end}}
listen = 127.0.0.1
default_login_user = {{.Login}}
default_internal_user = {{.Internal}}
default_internal_group = {{.Group}}
mail_location = maildir:{{.Dir}}/mail/%u
mail_uid = {{.UID}}
mail_gid = {{.GID}}
first_valid_uid = 1
first_valid_gid = 1
disable_plaintext_auth = no
auth_failure_delay = 0
auth_mechanisms = plain login
ssl = yes
ssl_cert = <{{.Crt}}
ssl_key = <{{.Key}}
passdb {
  driver = static
  args = password={{.Password}}
}
userdb {
  driver = static
  args = uid={{.UID}} gid={{.GID}} home={{.Dir}}/mail/%u
}
service anvil {
  chroot =
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service imap-login {
  chroot =
  inet_listener imap {
    port = {{.IMAPPort}}
  }
  inet_listener imaps {
    port = {{.IMAPSPort}}
  }
}
{{if .POP3 -}}
service pop3-login {
  chroot =
  inet_listener pop3 {
    port = {{.POP3Port}}
  }
  inet_listener pop3s {
    port = 0
  }
}
{{end -}}
service stats {
  chroot =
}
namespace inbox {
  inbox = yes
}
`))
