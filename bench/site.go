package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"debug/elf"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
)

// site has what the subjects need: a folder with the configuration, the large
// CRL and the programs that were built for this run.
type site struct {
	dir, pki, self string
	conf, crl      string
	loader, libs   string // of the OpenSSL that this program uses, if they are not the system's
}

// sameForAll is OpenSSL's configuration for every subject. crypto/tls selects
// the same suite and group on a machine with AES instructions.
const sameForAll = `openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
MinProtocol = TLSv1.2
CipherString = DEFAULT@SECLEVEL=2
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
`

func newSite(pki string) (*site, error) {
	s := &site{}
	var err error
	if s.pki, err = filepath.Abs(pki); err != nil {
		return nil, err
	}
	if s.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, err
	}
	s.conf, s.crl = filepath.Join(s.dir, "openssl.cnf"), filepath.Join(s.dir, "crl.pem")
	if err := os.WriteFile(s.conf, []byte(sameForAll), 0o600); err != nil {
		return nil, err
	}
	s.loader, s.libs = dynamic(s.self)
	return s, s.makeCRL(100_000)
}

func (s *site) close() { os.RemoveAll(s.dir) }

// dynamic returns the loader and the folder of the libraries that a program was linked
// with, each "" if it is the system's (see scripts/mkssl.sh).
func dynamic(program string) (loader, libs string) {
	f, err := elf.Open(program)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		if list, err := f.DynString(tag); err == nil && len(list) > 0 {
			libs = list[0]
		}
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name := make([]byte, p.Filesz)
			p.ReadAt(name, 0)
			loader = strings.TrimRight(string(name), "\x00")
		}
	}
	if strings.HasPrefix(loader, "/lib") {
		loader = ""
	}
	return loader, libs
}

// foreign returns a command that runs a program that comes with this program's OpenSSL,
// or else one of the system, which uses this program's OpenSSL if both link a library of
// the same name. See uses.
func (s *site) foreign(name string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name)
	if libs, _, _ := strings.Cut(s.libs, ":"); libs != "" && fileExists(filepath.Join(libs, "..", "..", "bin", name)) {
		path, err = filepath.Join(libs, "..", "..", "bin", name), nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, name); err != nil && fileExists(p) {
			path, err = p, nil
		}
	}
	if err != nil {
		return nil, errors.New(name + " is not installed")
	}
	return s.withLibs(path, args...), nil
}

// withLibs returns a command that runs a program with the libraries of this program.
func (s *site) withLibs(path string, args ...string) *exec.Cmd {
	if s.loader != "" {
		path, args = s.loader, append([]string{"--library-path", s.libs, path}, args...)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = s.env(s.conf)
	if s.loader == "" && s.libs != "" {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+s.libs)
	}
	return cmd
}

// uses returns an error if the versions that a program prints do not include the OpenSSL
// of this program: its figures would be those of another OpenSSL.
func uses(printed string) error {
	if strings.Contains(printed+" ", "OpenSSL "+cend.Short(cend.OpenSSL())+" ") {
		return nil
	}
	return fmt.Errorf("uses another OpenSSL: %s", printed)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// env returns the environment of a subject: GOMAXPROCS, and OpenSSL with the
// configuration conf.
func (s *site) env(conf string) []string {
	return append(os.Environ(), "GOMAXPROCS=1", "OPENSSL_CONF="+conf)
}

// openers start the subjects.
func (s *site) openers() map[string]func() (subject.Subject, error) {
	open := make(map[string]func() (subject.Subject, error))
	own := func(name, conf string, processors int) func() (subject.Subject, error) {
		return func() (subject.Subject, error) {
			cmd := exec.Command(s.self, "-pki", s.pki, "subject", name)
			cmd.Env = append(s.env(conf), fmt.Sprintf("GOMAXPROCS=%d", processors))
			return subject.Start(cmd)
		}
	}
	for _, name := range []string{connName, cMemName, cFlatName, goName} {
		open[name] = own(name, s.conf, 1)
	}
	// One goroutine drives the engine. With GOMAXPROCS=1 the scheduler would take
	// its processor away in each long call into C, although no other goroutine is
	// waiting.
	open[engineName] = own(engineName, s.conf, 2)
	open[singleName] = own(singleName, s.conf, 1)
	open[plainName] = own(plainName, os.DevNull, 2)
	open[plainSingleName] = own(plainSingleName, os.DevNull, 1)
	open[otherName] = func() (subject.Subject, error) {
		program, err := s.buildBinding(otherName)
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(program, s.pki)
		cmd.Env = s.env(s.conf)
		return subject.Start(cmd)
	}
	open[portName] = func() (subject.Subject, error) {
		program, err := s.buildBinding(portName)
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(program, s.pki)
		cmd.Env = s.env(s.conf) // as for the old binding
		return subject.Start(cmd)
	}
	open[speedName] = s.openSpeed
	open[perlName] = func() (subject.Subject, error) {
		check, err := s.foreign("perl", "-MPOE::Filter::SSL", "-e", "1")
		if err != nil {
			return nil, err
		}
		if out, err := check.CombinedOutput(); err != nil {
			if s.libs != "" {
				return nil, fmt.Errorf("perl does not run with this OpenSSL: %s", firstLine(out))
			}
			return nil, errors.New("module POE::Filter::SSL is not installed (Debian: libpoe-filter-ssl-perl libpoe-perl)")
		}
		cmd, err := s.foreign("perl", "perl/original.pl", s.pki)
		if err != nil {
			return nil, err
		}
		child, err := subject.Start(cmd)
		if err != nil {
			return nil, err
		}
		if err := uses(child.Version()); err != nil {
			child.Close()
			return nil, err
		}
		return child, nil
	}
	return open
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// buildBinding builds the subject that links another binding, or compat/spacemonkeygo.
// It needs the network.
func (s *site) buildBinding(name string) (string, error) {
	program, args := filepath.Join(s.dir, "binding"), []string{"-tags", "libp2p"}
	switch name {
	case monkeyName:
		args = []string{"-tags", "spacemonkey"}
	case portName:
		program += "-port"
		args = []string{"-tags", "spacemonkey", "-modfile=port.mod", "-ldflags=-X 'main.version=" + portName + "'"}
	}
	if fileExists(program) {
		return program, nil
	}
	args = append(append([]string{"build"}, args...), "-o", program, "./binding")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("does not build: %s", firstLine(out))
	}
	return program, nil
}

// makeCRL writes a CRL of the test CA with n entries. No test certificate is on it.
func (s *site) makeCRL(n int) error {
	load := func(name string) ([]byte, error) {
		data, err := os.ReadFile(filepath.Join(s.pki, name))
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(data)
		if block == nil {
			return nil, errors.New(name + " is not PEM")
		}
		return block.Bytes, nil
	}
	der, err := load("root.crt")
	if err != nil {
		return err
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if der, err = load("root.key"); err != nil {
		return err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return err
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return errors.New("root.key is not an RSA key")
	}
	now := time.Now()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	first := new(big.Int).Lsh(big.NewInt(1), 120)
	for i := range n {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: new(big.Int).Add(first, big.NewInt(int64(i)*7919)), RevocationTime: now,
		})
	}
	if der, err = x509.CreateRevocationList(rand.Reader, list, ca, key); err != nil {
		return err
	}
	if err := os.WriteFile(s.crl, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o600); err != nil {
		return err
	}
	return os.Chtimes(s.crl, now, now.Add(-time.Hour)) // a file that has just changed is hashed for every look-up
}

// machine names the processor.
func machine() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	first, _, _ := strings.Cut(string(data), "\n\n") // all processors are alike
	about := make(map[string]string)
	for line := range strings.Lines(first) {
		if key, value, found := strings.Cut(line, ":"); found {
			about[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	name := "unknown processor"
	if about["model name"] != "" {
		name = about["model name"]
	}
	if about["cpu family"] != "" { // a virtual machine's name may stand for several models
		name += fmt.Sprintf(" family %s model %s", about["cpu family"], about["model"])
	}
	var has []string
	for _, f := range strings.Fields(about["flags"]) {
		if slices.Contains([]string{"avx2", "vaes", "sha_ni", "avx512f", "avx512ifma"}, f) {
			has = append(has, f)
		}
	}
	if has != nil {
		name += " with " + strings.Join(has, ", ")
	}
	return fmt.Sprintf("%s, %d processors, %s/%s", name, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}
