package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
)

// The direct cipher: a client seals a record and a server opens it, or one side
// encrypts a piece of a stream as "openssl enc" does, and the other decrypts it.
const (
	sealedCipher = "AES-256-GCM"
	encCipher    = "AES-256-CBC"

	togetherName = "SendOutgoing"  // the library with one call in place of Send and Outgoing
	evpName      = "C, EVP"        // the calls of EVP for the same, and nothing else
	callName     = "Go, EVP"       // the same in C functions that Go calls, one for each end
	speedName    = "openssl speed" // the processor time of its loop for the same number of bytes
)

// cipherRows returns the measurements of the direct cipher.
func cipherRows() (list []row) {
	for _, s := range sizes[:3] {
		arg := fmt.Sprint(s.bytes)
		contenders := []contender{doing(engineName, engineName, "sealed", arg), doing(togetherName, engineName, "sealed together", arg), doing(evpName, cMemName, "sealed", arg), doing(callName, engineName, "evp", arg), speedOf(sealedCipher, arg)}
		list = append(list, timed("cipher/sealed/"+arg, "cipher", fmt.Sprintf("CipherSealed, %s, %s", sealedCipher, s.title), contenders))
	}
	const arg = "16384"
	contenders := []contender{doing(engineName, engineName, "enc", arg), doing(evpName, cMemName, "enc", arg), speedOf(encCipher, arg)}
	return append(list, timed("cipher/enc/"+arg, "cipher", fmt.Sprintf("CipherEnc, %s, 16 KiB", encCipher), contenders))
}

// speedOf returns the contender "openssl speed". It works for a second in each direction,
// so that it takes part only in every third round.
func speedOf(cipher, arg string) contender {
	return contender{name: speedName, subject: speedName, kind: cipher, arg: arg, every: 3}
}

// cipherPair has both ends of a direct cipher.
type cipherPair struct {
	client, server *sslfilter.Cipher
	together       bool // send with SendOutgoing
	buffers
}

// openCiphers makes both ends. Sealed records have their final keys afterwards.
func openCiphers(o sslfilter.CipherOptions) (*cipherPair, error) {
	p := new(cipherPair)
	var err error
	if p.server, err = sslfilter.NewCipher(o); err != nil {
		return nil, err
	}
	o.Client = true
	if p.client, err = sslfilter.NewCipher(o); err != nil {
		return nil, err
	}
	if o.Format == sslfilter.CipherEnc {
		return p, nil
	}
	if err := p.client.Send(nil); err != nil {
		return nil, err
	}
	for range 2 {
		p.wire = p.client.Outgoing(p.wire[:0])
		if p.plain, err = p.server.Receive(p.plain[:0], p.wire); err != nil {
			return nil, err
		}
		p.wire = p.server.Outgoing(p.wire[:0])
		if p.plain, err = p.client.Receive(p.plain[:0], p.wire); err != nil {
			return nil, err
		}
	}
	if !p.client.Fresh() || !p.server.Fresh() {
		return nil, errors.New("the keys are not joined")
	}
	return p, nil
}

func (p *cipherPair) close() {
	p.client.Close()
	p.server.Close()
}

// pass sends message and receives it. CipherEnc may keep the last block.
func (p *cipherPair) pass(message []byte) (err error) {
	if p.together {
		p.wire, err = p.client.SendOutgoing(p.wire[:0], message)
	} else if err = p.client.Send(message); err == nil {
		p.wire = p.client.Outgoing(p.wire[:0])
	}
	if err != nil {
		return err
	}
	p.plain, err = p.server.Receive(p.plain[:0], p.wire)
	if err != nil || len(p.plain) < len(message)-16 {
		return fmt.Errorf("%d of %d bytes: %w", len(p.plain), len(message), err)
	}
	return nil
}

func sealedOptions() sslfilter.CipherOptions {
	return sslfilter.CipherOptions{Cipher: sealedCipher, Key: make([]byte, 32)}
}

func encOptions() sslfilter.CipherOptions {
	return sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: encCipher, Key: make([]byte, 32), IV: make([]byte, 16)}
}

// ciphered returns the work of n messages through a direct cipher. together says that
// SendOutgoing sends them.
func ciphered(o sslfilter.CipherOptions, together bool) func(arg string, n int) ([]float64, error) {
	return func(arg string, n int) ([]float64, error) {
		size, err := subject.Number(arg)
		if err != nil {
			return nil, err
		}
		p, err := openCiphers(o)
		if err != nil {
			return nil, err
		}
		defer p.close()
		p.together = together
		message := make([]byte, size)
		if err := p.pass(message); err != nil { // lets the buffers grow
			return nil, err
		}
		return subject.Repeat(n, func() error { return p.pass(message) })
	}
}

// cipheredInC returns the same work in C.
func cipheredInC(name string, f func(cipher string, size, n int) (float64, error)) func(arg string, n int) ([]float64, error) {
	return func(arg string, n int) ([]float64, error) {
		size, err := subject.Number(arg)
		if err != nil {
			return nil, err
		}
		return subject.InC(n, func(n int) (float64, error) { return f(name, size, n) })
	}
}

// evpCalls is the same work again, in C functions that Go calls.
func evpCalls(arg string, n int) ([]float64, error) {
	size, err := subject.Number(arg)
	if err != nil {
		return nil, err
	}
	p, err := cend.NewCipherPair(sealedCipher, size)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return subject.Repeat(n, p.Record)
}

// cipherCalls counts the allocations and the calls into C of a record.
func cipherCalls(arg string, n int) ([]float64, error) {
	size, err := subject.Number(arg)
	if err != nil {
		return nil, err
	}
	p, err := openCiphers(sealedOptions())
	if err != nil {
		return nil, err
	}
	defer p.close()
	message := make([]byte, size)
	return counted(n, func() error { return p.pass(message) }, []func() error{
		func() error { return p.client.Send(message) },
		func() error { p.wire = p.client.Outgoing(p.wire[:0]); return nil },
		func() (err error) { p.plain, err = p.server.Receive(p.plain[:0], p.wire); return err },
	})
}

// speed is "openssl speed", which works for a second in each round, with
// buffers that are encrypted again and again.
type speed struct {
	command func(args ...string) (*exec.Cmd, error)
}

// openSpeed finds the command of the OpenSSL that this program uses.
func (s *site) openSpeed() (subject.Subject, error) {
	command := func(args ...string) (*exec.Cmd, error) { return s.foreign("openssl", args...) }
	cmd, err := command("version")
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	if err := uses(firstLine(out)); err != nil {
		return nil, err
	}
	return &speed{command}, nil
}

// Version returns the version of OpenSSL.
func (s *speed) Version() string { return cend.OpenSSL() }

// Run returns the time in which the command would have encrypted and decrypted n pieces of
// arg bytes with the cipher kind.
func (s *speed) Run(kind, arg string, n int) ([]float64, error) {
	size, err := subject.Number(arg)
	if err != nil {
		return nil, err
	}
	var each float64
	for _, way := range [][]string{nil, {"-decrypt"}} {
		cmd, err := s.command(append([]string{"speed", "-mr", "-seconds", "1", "-bytes", arg, "-evp", kind}, way...)...)
		if err != nil {
			return nil, err
		}
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("openssl speed: %w", err)
		}
		_, last, _ := strings.Cut(string(out), "+F:")
		fields := strings.Split(firstLine([]byte(last)), ":")
		rate, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil || rate <= 0 {
			return nil, fmt.Errorf("openssl speed: %q", out)
		}
		each += float64(size) / rate
	}
	return []float64{each * float64(n)}, nil
}
