package main

import (
	"runtime"

	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
)

// settings has flags, each of which reverses one setting that the library makes in
// OpenSSL, or one default of OpenSSL. Their names are the arguments of "setting handshake" and
// "setting message".
var settings = map[string]int{
	"as the library":            0,
	"buffers kept":              cend.KeepBuffers,
	"automatic chain":           cend.AutoChain,
	"no tickets":                cend.NoTickets,
	"no OCSP request":           cend.NoOCSP,
	"client does not verify":    cend.NoVerify,
	"client certificate":        cend.ClientCert,
	"error queue not looked at": cend.NoClean,
}

// inC returns the subject that does all work in C, over BIO_s_mem or over plain buffers.
func inC(pki string, flags int) subject.Subject {
	with := func(cert string, more int, f func(e *cend.Ends) ([]float64, error)) ([]float64, error) {
		if cert == "cert" {
			more |= cend.ClientCert
		}
		e, err := cend.New(pki, subject.File(cert), flags|more)
		if err != nil {
			return nil, err
		}
		defer e.Close()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return f(e)
	}
	sized := func(burst func(int) int) func(string, int) ([]float64, error) {
		return func(arg string, n int) ([]float64, error) {
			size, err := subject.Number(arg)
			if err != nil {
				return nil, err
			}
			return with("ec", 0, func(e *cend.Ends) ([]float64, error) {
				return subject.InC(n, func(n int) (float64, error) { return e.Messages(size, burst(size), n) })
			})
		}
	}
	return &subject.Funcs{What: cend.OpenSSL(), Runs: map[string]func(string, int) ([]float64, error){
		"handshake": func(arg string, n int) ([]float64, error) {
			return with(arg, 0, func(e *cend.Ends) ([]float64, error) { return subject.InC(n, e.Handshakes) })
		},
		"resumed": func(arg string, n int) ([]float64, error) {
			return with(arg, 0, func(e *cend.Ends) ([]float64, error) { return subject.InC(n, e.Resumed) })
		},
		"client certificate": func(arg string, n int) ([]float64, error) {
			return with("cert", cend.CertTickets, func(e *cend.Ends) ([]float64, error) {
				if arg == "resumed" {
					return subject.InC(n, e.Resumed)
				}
				return subject.InC(n, e.Handshakes)
			})
		},
		"message": sized(func(int) int { return 1 }),
		"burst":   sized(subject.Burst),
		"context": func(arg string, n int) ([]float64, error) {
			return with(arg, 0, func(e *cend.Ends) ([]float64, error) { return subject.InC(n, e.Contexts) })
		},
		"new": func(arg string, n int) ([]float64, error) {
			return with("ec", 0, func(e *cend.Ends) ([]float64, error) { return subject.InC(n, e.News) })
		},
		"setting handshake": func(arg string, n int) ([]float64, error) {
			return with("ec", settings[arg], func(e *cend.Ends) ([]float64, error) { return subject.InC(n, e.Handshakes) })
		},
		"setting message": func(arg string, n int) ([]float64, error) {
			return with("ec", settings[arg], func(e *cend.Ends) ([]float64, error) {
				return subject.InC(n, func(n int) (float64, error) { return e.Messages(1024, 1, n) })
			})
		},
		"memory": func(arg string, n int) ([]float64, error) {
			moved, err := subject.Number(arg)
			if err != nil {
				return nil, err
			}
			return with("ec", 0, func(e *cend.Ends) ([]float64, error) {
				if _, err := e.Messages(1<<16, 1, 1); err != nil { // makes objects that are made once, and the program's buffers
					return nil, err
				}
				before := cend.Held()
				p, err := e.Pairs(n, moved, false)
				if err != nil {
					return nil, err
				}
				defer p.Close()
				return cend.Held().Since(before, n), nil
			})
		},
		"growth": func(arg string, n int) ([]float64, error) {
			count, err := subject.Number(arg)
			if err != nil {
				return nil, err
			}
			return with("ec", 0, func(e *cend.Ends) ([]float64, error) {
				if _, err := e.Messages(1<<16, 1, 1); err != nil {
					return nil, err
				}
				before := cend.Held()
				p, err := e.Pairs(count, 0, true)
				if err != nil {
					return nil, err
				}
				defer p.Close()
				memory := cend.Held().Since(before, count)
				spent, err := subject.InC(n, func(n int) (float64, error) { return p.Messages(1024, n) })
				return append(spent, memory...), err
			})
		},
		"sealed": cipheredInC(sealedCipher, cend.Sealed),
		"enc":    cipheredInC(encCipher, cend.Enc),
		"crl lookup": func(arg string, n int) ([]float64, error) {
			return subject.InC(n, func(n int) (float64, error) { return cend.CRLLookups(arg, pki+"/client-ec.crt", n) })
		},
	}}
}
