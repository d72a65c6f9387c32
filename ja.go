//go:build cgo

package sslfilter

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// JA3 returns the JA3 fingerprint of the client, 32 hexadecimal digits: the MD5
// of the version, the cipher suites, the extensions, the groups and the point
// formats, without GREASE values. A client that changes the order of its
// extensions, as browsers do, has another JA3 each time; see JA4. The ClientHello
// must come from this package. The result is "" if Go's cryptography admits
// nothing but FIPS 140 (GODEBUG=fips140=only), because MD5 is not available then.
func (h *ClientHello) JA3() (fingerprint string) {
	defer func() {
		if recover() != nil { // crypto/md5 has no other way to report it
			fingerprint = ""
		}
	}()
	sum := md5.Sum([]byte(h.ja3()))
	return hex.EncodeToString(sum[:])
}

// ja3 returns the text of which JA3 is the MD5.
func (h *ClientHello) ja3() string {
	return strings.Join([]string{
		strconv.Itoa(int(h.legacy)), decimals(ungreased(h.CipherSuites)), decimals(ungreased(h.Extensions)),
		decimals(ungreased(h.Groups)), decimals(h.points),
	}, ",")
}

func decimals[N byte | uint16](list []N) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = strconv.Itoa(int(n))
	}
	return strings.Join(words, "-")
}

// JA4 returns the JA4 fingerprint of the client, as in
// "t13d1516h2_8daaf6152771_e5627efa2ab1". It does not depend on the order of
// cipher suites and extensions.
func (h *ClientHello) JA4() string {
	ciphers, extensions := ungreased(h.CipherSuites), ungreased(h.Extensions)
	destination := 'i'
	if slices.Contains(extensions, extensionServerName) {
		destination = 'd'
	}
	slices.Sort(ciphers)
	hashed := slices.DeleteFunc(slices.Sorted(slices.Values(extensions)), func(n uint16) bool {
		return n == extensionServerName || n == extensionALPN
	})
	text := hexadecimals(hashed)
	if signatures := ungreased(h.SignatureAlgorithms); len(signatures) > 0 {
		text += "_" + hexadecimals(signatures)
	}
	return fmt.Sprintf("t%s%c%02d%02d%s_%s_%s", h.ja4Version(), destination, min(len(ciphers), 99), min(len(extensions), 99), h.ja4ALPN(),
		ja4Hash(hexadecimals(ciphers)), ja4Hash(text))
}

const (
	extensionServerName = 0
	extensionALPN       = 16
)

// ja4Version returns the two characters for the highest version.
func (h *ClientHello) ja4Version() string {
	highest := Version(0)
	for _, v := range h.Versions {
		if !greased(uint16(v)) {
			highest = max(highest, v)
		}
	}
	switch highest {
	case VersionTLS13:
		return "13"
	case VersionTLS12:
		return "12"
	case VersionTLS11:
		return "11"
	case VersionTLS10:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

// ja4ALPN returns the first and last character of the first protocol, or of its
// hexadecimal form if one of them is not a letter or a digit. GREASE values do not
// count.
func (h *ClientHello) ja4ALPN() string {
	protocols := slices.DeleteFunc(slices.Clone(h.ALPN), func(p string) bool { return len(p) == 2 && greased(uint16(p[0])<<8|uint16(p[1])) })
	if len(protocols) == 0 || protocols[0] == "" {
		return "00"
	}
	first := protocols[0]
	if !alphanumeric(first[0]) || !alphanumeric(first[len(first)-1]) {
		first = hex.EncodeToString([]byte(first))
	}
	return first[:1] + first[len(first)-1:]
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// hexadecimals lists numbers as JA4 does: four digits each, with commas.
func hexadecimals(list []uint16) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = fmt.Sprintf("%04x", n)
	}
	return strings.Join(words, ",")
}

// ja4Hash returns the first 12 digits of the SHA-256 of text, or zeros if text is
// empty.
func ja4Hash(text string) string {
	if text == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}

// greased reports whether n is a GREASE value (RFC 8701): 0x0a0a, 0x1a1a, …,
// 0xfafa.
func greased(n uint16) bool { return n&0x0f0f == 0x0a0a && n>>8 == n&0xff }

// ungreased returns a copy of list without GREASE values.
func ungreased(list []uint16) []uint16 {
	return slices.DeleteFunc(slices.Clone(list), greased)
}
