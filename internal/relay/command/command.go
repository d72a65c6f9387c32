// Package command is the program sslrelay: its flags, signals and log. A main package
// passes in the features that need other modules.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/relay"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// Main runs the relay with these arguments, and returns the exit status of the program.
// sessions opens the store of [sessions]; it is nil in a build without one.
func Main(args []string, sessions relay.OpenSessions) int {
	p, status := parse(args)
	if p == nil {
		return status
	}
	p.sessions = sessions
	return p.run()
}

// program has the values of the flags.
type program struct {
	file   string
	check  bool
	strict bool
	flags  *config.Config // used if file is empty

	sessions relay.OpenSessions
}

// load reads the configuration, at the start and for each SIGHUP.
func (p *program) load() (*config.Config, error) {
	if p.file != "" {
		return config.Load(p.file)
	}
	c := *p.flags
	return &c, nil
}

// run checks the configuration or serves it, and returns the exit status.
func (p *program) run() int {
	c, err := p.load()
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintln(os.Stderr, line)
		}
		return 1
	}
	if p.check {
		found := relay.CheckWith(os.Stdout, c, time.Now(), p.sessions)
		if found.Errors > 0 || p.strict && found.Weak > 0 {
			return 1
		}
		return 0
	}
	if err := serve(p, c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// parse reads the flags. If it returns nil, the program exits with the returned
// status.
func parse(args []string) (*program, int) {
	p := &program{flags: new(config.Config)}
	fs := flag.NewFlagSet("sslrelay", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	config.AddFlag(fs, &p.file, "config", "read the configuration from `file`; only -check and -strict can be combined with it")
	config.AddFlag(fs, &p.check, "check", "explain the configuration and report errors and weaknesses, without opening a port; the exit status is 1 if the relay would not start")
	config.AddFlag(fs, &p.strict, "strict", "with -check: the exit status is also 1 for weaknesses")
	version := false
	config.AddFlag(fs, &version, "version", "print the version of sslrelay and of OpenSSL")
	config.Flags(fs, p.flags)

	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("sslrelay accepts connections, adds or removes TLS, and forwards them. See sslrelay(8).")
		fs.SetOutput(os.Stdout)
		fs.PrintDefaults()
		return nil, 0
	case err == nil && fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q; -config names a configuration file", fs.Arg(0))
	}
	if err == nil && version {
		fmt.Println("sslrelay", moduleVersion(), "with", sslfilter.OpenSSLVersion())
		return nil, 0
	}
	if err == nil {
		err = p.combine(fs)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sslrelay: %s; see -help\n", strings.TrimPrefix(err.Error(), "sslrelay: "))
		return nil, 2
	}
	return p, 0
}

// combine rejects flags that cannot be used together.
func (p *program) combine(fs *flag.FlagSet) error {
	if p.strict && !p.check {
		return errors.New("-strict needs -check")
	}
	if p.file == "" {
		return p.flags.Finish()
	}
	var others []string
	fs.Visit(func(f *flag.Flag) {
		if !slices.Contains([]string{"config", "check", "strict"}, f.Name) {
			others = append(others, "-"+f.Name)
		}
	})
	if len(others) > 0 {
		return fmt.Errorf("-config cannot be combined with %s", strings.Join(others, ", "))
	}
	return nil
}

func moduleVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// serve runs the relay until a signal ends it.
func serve(p *program, c *config.Config) error {
	log := newLog(c)
	slog.SetDefault(log)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)

	s, again, err := start(c, log, p.sessions, signals)
	if s == nil {
		return err
	}
	defer s.Close()
	if c.Counters != "" {
		l, err := net.Listen("tcp", c.Counters)
		if err != nil {
			return fmt.Errorf("sslrelay: counters: %w", err)
		}
		defer l.Close()
		log.Info("counters", "address", "http://"+l.Addr().String()+"/debug/vars")
		counters := &http.Server{Handler: s.Counters(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		go counters.Serve(l)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	notify(log, "READY=1")
	log.Info("ready", "relays", len(c.Relays), "openssl", sslfilter.OpenSSLVersion())
	var reloading chan struct{} // closed at the end of the current reload
	for {
		if again && reloading == nil {
			again, reloading = false, make(chan struct{})
			notify(log, "RELOADING=1")
			go func() {
				defer close(reloading)
				reload(p, s, log)
			}()
		}
		select {
		case err := <-served:
			return err
		case <-reloading:
			reloading = nil
			notify(log, "READY=1")
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				again = true // after the current reload, since the files may have changed again
				continue
			}
			return shutdown(s, c.DrainTimeout.Std(), log, signals)
		}
	}
}

// start makes the relay while it waits for signals, because reading a file can block:
// it may be a pipe without a writer, or on a network that does not respond. If a
// signal ends the start, it returns neither a server nor an error. If SIGHUP was
// received, again is true.
func start(c *config.Config, log *slog.Logger, sessions relay.OpenSessions, signals <-chan os.Signal) (s *relay.Server, again bool, err error) {
	type result struct {
		s   *relay.Server
		err error
	}
	made := make(chan result, 1)
	go func() {
		s, err := relay.NewWith(c, log, sessions)
		made <- result{s, err}
	}()
	for {
		select {
		case r := <-made:
			return r.s, again, r.err
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				log.Info("shutting down before startup was complete")
				return nil, false, nil
			}
			again = true
		}
	}
}

// reload applies the new configuration, or keeps the old one if that fails.
func reload(p *program, s *relay.Server, log *slog.Logger) {
	c, err := p.load()
	if err != nil {
		s.ReloadFailed()
	} else {
		err = s.Reload(c)
	}
	if err != nil {
		log.Error("reload failed, keeping the old configuration", "error", err)
		return
	}
	log.Info("reloaded")
}

// shutdown waits for the connections to finish, for at most the time drain. A second
// signal closes them.
func shutdown(s *relay.Server, drain time.Duration, log *slog.Logger, signals <-chan os.Signal) error {
	notify(log, "STOPPING=1")
	log.Info("shutting down", "drain-timeout", drain)
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	go func() {
		for sig := range signals {
			if sig != syscall.SIGHUP {
				log.Warn("second signal, closing all connections")
				cancel()
				return
			}
		}
	}()
	if err := s.Shutdown(ctx); err != nil {
		log.Warn("shut down", "error", err)
	} else {
		log.Info("shut down")
	}
	return nil
}

func newLog(c *config.Config) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(c.LogLevel)) // the level has been validated
	options := &slog.HandlerOptions{Level: level}
	if c.Log == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

func notify(log *slog.Logger, state string) {
	if err := relay.Notify(state); err != nil {
		log.Warn("sd_notify failed", "error", err)
	}
}
