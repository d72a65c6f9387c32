package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
)

// The contenders, as tables and plots name them.
const (
	engineName = "sslfilter"
	connName   = "sslnet.Conn"
	cMemName   = "C, BIO_s_mem"
	cFlatName  = "C, plain buffers"
	goName     = "crypto/tls"
	monkeyName = "spacemonkeygo/openssl"
	forkName   = "libp2p/go-openssl"
	portName   = "compat/spacemonkeygo" // the program of spacemonkeygo/openssl, on this library
	perlName   = "Perl original"
	singleName = "sslfilter, GOMAXPROCS=1"
	plainName  = "sslfilter, OpenSSL's defaults" // without the settings that all subjects share

	plainSingleName = plainName + ", GOMAXPROCS=1"
)

// bindingName names the other binding of OpenSSL: spacemonkeygo's, or its fork
// if that does not build.
func bindingName(openssl string) string {
	if strings.HasPrefix(openssl, "OpenSSL 1.") {
		return monkeyName
	}
	return forkName
}

// otherName names that binding and the OpenSSL of this run.
var otherName = bindingName(cend.OpenSSL())

var everybody = []string{engineName, connName, cMemName, cFlatName, goName, otherName, perlName}

// work returns contenders that all do the same work.
func work(kind, arg string, names ...string) (list []contender) {
	for _, name := range names {
		list = append(list, doing(name, name, kind, arg))
	}
	return list
}

func timed(key, group, title string, contenders []contender) row {
	return row{key: key, group: group, title: title, pieces: 1, base: engineName, clock: true, contenders: contenders}
}

var sizes = []struct {
	bytes int
	title string
}{{64, "64 B"}, {1024, "1 KiB"}, {16384, "16 KiB"}, {262144, "256 KiB"}}

// growthCounts are the numbers of connections that are held at once.
var growthCounts = []int{1, 10, 100, 1000, 10000}

// rows returns all measurements except those over sockets. crl is a file with a
// large CRL.
func rows(crl string, connections int) (list []row) {
	for _, k := range [][2]string{{"ec", "full handshake, P-256"}, {"rsa", "full handshake, RSA-2048"}, {"cert", "full handshake, P-256, client certificate"}} {
		list = append(list, timed("handshake/"+k[0], "handshake", k[1], work("handshake", k[0], everybody...)))
	}
	for _, k := range [][2]string{{"ec", "resumed handshake, P-256"}, {"rsa", "resumed handshake, RSA-2048"}} {
		r := timed("resumed/"+k[0], "handshake", k[1], work("resumed", k[0], everybody[:6]...))
		r.contenders = append(r.contenders, doing(stepName, engineName, "resumed in C", k[0]))
		list = append(list, r)
	}
	for _, k := range [][2]string{{"full", "full handshake, P-256, client certificate, client in C"}, {"resumed", "resumed handshake, P-256, client certificate"}} {
		list = append(list, timed("certificate/"+k[0], "handshake", k[1], work("client certificate", k[0], engineName, cMemName, cFlatName, goName)))
	}
	for _, s := range sizes {
		arg := fmt.Sprint(s.bytes)
		list = append(list, timed("message/"+arg, "message", s.title, work("message", arg, everybody...)))
	}
	for _, s := range sizes {
		arg := fmt.Sprint(s.bytes)
		r := timed("burst/"+arg, "burst", fmt.Sprintf("%s, %d at a time", s.title, burst(s.bytes)), work("burst", arg, everybody...))
		r.pieces = float64(burst(s.bytes))
		list = append(list, r)
	}
	for _, k := range [][2]string{{"ec", "context of a server, P-256, from files"}, {"rsa", "context of a server, RSA-2048, from files"}} {
		list = append(list, timed("context/"+k[0], "setup", k[1], work("context", k[0], engineName, cMemName, goName, otherName)))
	}
	list = append(list,
		timed("new", "setup", "server connection made from a ready context, and freed", work("new", "", engineName, cMemName, cFlatName, perlName)),
		timed("crl/lookup", "crl", "look-up in a CRL of 100,000 entries", work("crl lookup", crl, engineName, cMemName, perlName)),
		settingsRow("handshake", "C, full handshake, P-256, with one setting the other way round"),
		settingsRow("message", "C, 1 KiB, with one setting the other way round"),
		variantsRow("handshake", "sslfilter, full handshake, P-256"),
		variantsRow("message", "sslfilter, 16 KiB"),
	)
	list = append(list, cipherRows()...)
	list = append(list, compatRows()...)
	for _, m := range [][2]string{{"0", "fresh after the handshake"}, {"1048576", "after 1 MiB each way"}} {
		list = append(list, row{
			key: "memory/" + m[0], group: "memory", title: m[1], base: engineName, fixed: connections, fresh: true, most: 1,
			contenders: work("memory", m[0], everybody...),
		})
	}
	for _, count := range growthCounts {
		arg := fmt.Sprint(count)
		title := fmt.Sprintf("%d connections", count)
		contenders := work("growth", arg, engineName, cMemName, goName)
		r := timed("growth/"+arg, "growth", title, contenders)
		r.fresh, r.most, r.fixed = true, 3, 20000
		if count > 1000 {
			r.most = 1
		}
		list = append(list, r)
	}
	return list
}

// compatRows returns the work of one program with the old binding, or its fork, and
// with compat/spacemonkeygo.
func compatRows() (list []row) {
	for _, w := range []struct{ kind, arg, title string }{
		{"handshake", "ec", "full handshake, P-256"}, {"handshake", "rsa", "full handshake, RSA-2048"},
		{"message", "64", "64 B sent and received"}, {"message", "16384", "16 KiB sent and received"},
		{"digest", "64", "SHA-256 of 64 B"}, {"digest", "16384", "SHA-256 of 16 KiB"},
		{"gcm", "64", "64 B encrypted with AES-256-GCM, context included"}, {"gcm", "16384", "16 KiB encrypted with AES-256-GCM, context included"},
	} {
		r := timed("compat/"+w.kind+"/"+w.arg, "compat", w.title, work(w.kind, w.arg, portName, otherName))
		r.base = portName
		list = append(list, r)
	}
	return list
}

func burst(size int) int { return min(100, 12<<20/size) }

const asLibrary = "as the library"

// settingsRow measures single settings of OpenSSL, in C.
func settingsRow(kind, title string) row {
	names := make([]string, 0, len(settings))
	for name := range settings {
		if name != asLibrary {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	r := timed("settings/"+kind, "settings", title, nil)
	r.base = asLibrary
	for _, name := range append([]string{asLibrary}, names...) {
		r.contenders = append(r.contenders, doing(name, cMemName, "setting "+kind, name))
	}
	return r
}

const asMeasured = "X25519, AES-128-GCM"

// variantsRow measures options of the library.
func variantsRow(kind, title string) row {
	names := make([]string, 0, len(variants))
	for name := range variants {
		if name != asMeasured {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	r := timed("variants/"+kind, "variants", title, nil)
	r.base = asMeasured
	for _, name := range append([]string{asMeasured}, names...) {
		r.contenders = append(r.contenders, doing(name, engineName, "variant "+kind, name))
	}
	plain, arg := "handshake", "ec"
	if kind == "message" {
		plain, arg = "message", "16384"
	}
	r.contenders = append(r.contenders, doing("GOMAXPROCS=1", singleName, plain, arg), doing("nothing set: OpenSSL's defaults", plainName, plain, arg))
	return r
}
