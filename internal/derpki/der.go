// Package derpki makes certificates and CRLs byte by byte, for tests of verification. It
// can make certificates that no CA should issue and that crypto/x509 rejects.
//
// Results are the same in every run, except those of RSA keys. Nothing is checked.
package derpki

import (
	"encoding/asn1"
	"encoding/pem"
	"time"
)

// Tags of ASN.1.
const (
	TagBoolean     = 0x01
	TagInteger     = 0x02
	TagBits        = 0x03
	TagOctets      = 0x04
	TagNull        = 0x05
	TagEnum        = 0x0a
	TagUTF8        = 0x0c
	TagPrintable   = 0x13
	TagT61         = 0x14
	TagUTCTime     = 0x17
	TagGeneralized = 0x18
	TagBMP         = 0x1e
	TagSequence    = 0x30
	TagSet         = 0x31
)

// TLV returns one element, with the length in DER.
func TLV(tag byte, parts ...[]byte) []byte {
	content := Join(parts...)
	out := []byte{tag}
	switch n := len(content); {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, content...)
}

// Join returns the concatenation of parts.
func Join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// Seq returns a SEQUENCE.
func Seq(parts ...[]byte) []byte { return TLV(TagSequence, parts...) }

// Int returns an INTEGER with these bytes of content.
func Int(content ...byte) []byte { return TLV(TagInteger, content) }

// OID returns an OBJECT IDENTIFIER.
func OID(id ...int) []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(id))
	if err != nil {
		panic(err) // a mistake in the test
	}
	return der
}

// Bits returns a BIT STRING of whole bytes.
func Bits(content []byte) []byte { return TLV(TagBits, []byte{0}, content) }

// Long returns the element der with its length in n bytes, which only BER allows.
func Long(der []byte, n int) []byte {
	content := contentOf(der)
	out := []byte{der[0], 0x80 | byte(n)}
	for i := n - 1; i >= 0; i-- {
		out = append(out, byte(len(content)>>(8*i)))
	}
	return append(out, content...)
}

// Indefinite returns the constructed element der without a length, which only BER allows.
func Indefinite(der []byte) []byte {
	return Join([]byte{der[0], 0x80}, contentOf(der), []byte{0, 0})
}

func contentOf(der []byte) []byte {
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(der, &raw); err != nil {
		panic(err)
	}
	return raw.Bytes
}

// Attr returns an attribute of a name, with one value.
func Attr(tag byte, value string, id ...int) []byte {
	return TLV(TagSet, Seq(OID(id...), TLV(tag, []byte(value))))
}

// Name returns a distinguished name.
func Name(attrs ...[]byte) []byte { return Seq(attrs...) }

// CN returns a name with the organization "derpki" and this common name.
func CN(cn string) []byte {
	return Name(Attr(TagUTF8, "derpki", 2, 5, 4, 10), Attr(TagUTF8, cn, 2, 5, 4, 3))
}

// Time returns the beginning of a year: a UTCTime up to 2049, and otherwise a
// GeneralizedTime (RFC 5280 section 4.1.2.5).
func Time(year int) []byte {
	t := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	if year < 2050 {
		return TLV(TagUTCTime, []byte(t.Format("060102150405Z")))
	}
	return TLV(TagGeneralized, []byte(t.Format("20060102150405Z")))
}

// Ext is an extension; value is the content of its OCTET STRING.
func Ext(critical bool, value []byte, id ...int) []byte {
	crit := []byte{}
	if critical {
		crit = TLV(TagBoolean, []byte{0xff})
	}
	return Seq(OID(id...), crit, TLV(TagOctets, value))
}

// PEM writes blocks of one kind.
func PEM(kind string, ders ...[]byte) (out []byte) {
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return out
}
