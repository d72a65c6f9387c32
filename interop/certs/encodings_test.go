package certs_test

import (
	"bytes"
	"encoding/asn1"
	"slices"
	"strings"

	"github.com/seed-014b8713/sslfilter/internal/derpki"
)

// elements returns the elements of a SEQUENCE.
func elements(der []byte) (parts [][]byte) {
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		panic(err)
	}
	for rest := outer.Bytes; len(rest) > 0; {
		var part asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &part); err != nil {
			panic(err)
		}
		parts = append(parts, bytes.Clone(part.FullBytes))
	}
	return parts
}

// lengthOfLength returns the number of bytes that follow the first byte of a length.
func lengthOfLength(der []byte) int {
	if der[1] < 0x80 {
		return 0
	}
	return int(der[1] & 0x7f)
}

// resign replaces the signature of a certificate.
func resign(der, signature []byte) []byte {
	parts := elements(der)
	parts[2] = derpki.Bits(signature)
	return derpki.Seq(parts...)
}

// part changes one element of the TBSCertificate: 0 version, 1 serial, 2
// algorithm, 3 issuer, 4 validity, 5 subject, 6 key, 7 extensions.
func part(i int, change func([]byte) []byte) func([]byte) []byte {
	return func(tbs []byte) []byte {
		parts := elements(tbs)
		parts[i] = change(parts[i])
		return derpki.Seq(parts...)
	}
}

func extensions(t *table) {
	unknown := func(critical bool) []byte { return derpki.Ext(critical, []byte{5, 0}, 1, 3, 6, 1, 4, 1, 99999, 3) }
	for _, place := range places {
		add := func(name string, change func(*derpki.Cert)) {
			t.add("extensions/"+name+" at the "+place, func(c *chain) { change(c.at(place)) })
		}
		more := func(name string, exts ...[]byte) {
			add(name, func(c *derpki.Cert) { c.Exts = append(slices.Clone(c.Exts), exts...) })
		}
		more("unknown", unknown(false))
		more("unknown and critical", unknown(true))
		more("unknown twice", unknown(false), unknown(false))
		more("policy", ext(false, policies, derpki.Seq(derpki.Seq(derpki.OID(1, 2, 3)))))
		more("policy, critical", ext(true, policies, derpki.Seq(derpki.Seq(derpki.OID(1, 2, 3)))))
		more("policy that is broken", ext(false, policies, []byte{0x30, 2, 6}))
		more("policy constraints", ext(true, policyConstraints, derpki.Seq(derpki.TLV(0x80, []byte{0}))))
		more("inhibit any policy", ext(true, inhibitAny, derpki.Int(0)))
		more("freshest CRL", ext(false, freshest, derpki.Seq(derpki.Seq())))
		more("Netscape type", derpki.Ext(false, []byte{3, 2, 1, 6}, 2, 16, 840, 1, 113730, 1, 1))
		more("Netscape type of another purpose", derpki.Ext(false, []byte{3, 2, 4, 0x10}, 2, 16, 840, 1, 113730, 1, 1))
		more("TLS feature", derpki.Ext(false, derpki.Seq(derpki.Int(5)), 1, 3, 6, 1, 5, 5, 7, 1, 24))
		more("poison of transparency", derpki.Ext(true, []byte{5, 0}, 1, 3, 6, 1, 4, 1, 11129, 2, 4, 3))
		more("proxy", derpki.Ext(true, derpki.Seq(derpki.Seq(derpki.OID(1, 3, 6, 1, 5, 5, 7, 21, 1))), 1, 3, 6, 1, 5, 5, 7, 1, 14))
		more("no value", derpki.Ext(false, nil, 1, 3, 6, 1, 4, 1, 99999, 3))
		more("of 60,000 bytes", derpki.Ext(false, make([]byte, 60000), 1, 3, 6, 1, 4, 1, 99999, 3))
		for name, id := range map[string]int{"basic constraints": basic, "key usage": keyUsage, "key identifier": skid, "authority": akid, "names": san, "extended usage": eku} {
			add(name+" twice", func(c *derpki.Cert) {
				for _, e := range c.Exts {
					if int(idOf(e)) == id {
						c.Exts = append(slices.Clone(c.Exts), e)
						break
					}
				}
			})
		}
		add("basic constraints of both kinds", func(c *derpki.Cert) { c.Exts = append(slices.Clone(c.Exts), isCA(-1), notCA()) })
		add("an empty list", func(c *derpki.Cert) { c.ExtsRaw = derpki.TLV(0xa3, derpki.Seq()) })
		add("none", func(c *derpki.Cert) { c.Exts = nil })
		add("critical FALSE written out", func(c *derpki.Cert) {
			c.Exts = append(slices.Clone(c.Exts), derpki.Seq(derpki.OID(1, 3, 6, 1, 4, 1, 99999, 4), derpki.TLV(derpki.TagBoolean, []byte{0}), derpki.TLV(derpki.TagOctets)))
		})
	}
}

func encodings(t *table) {
	for _, place := range places {
		add := func(name string, change func(*derpki.Cert)) {
			t.add("encoding/"+name+" at the "+place, func(c *chain) { change(c.at(place)) })
		}
		for name, serial := range map[string][]byte{
			"zero": derpki.Int(0), "negative": derpki.Int(0x80), "minus one": derpki.Int(0xff), "20 bytes": derpki.Int(append([]byte{0x7f}, make([]byte, 19)...)...),
			"200 bytes": derpki.Int(append([]byte{0x7f}, make([]byte, 199)...)...), "with a leading zero": derpki.Int(0, 1), "with a leading ff": derpki.Int(0xff, 0x80),
			"empty": derpki.Int(), "of another type": derpki.TLV(derpki.TagOctets, []byte{1}),
		} {
			t.add("encoding/serial "+name+" at the "+place, func(c *chain) {
				c.at(place).Serial = serial
				switch name {
				case "with a leading zero", "with a leading ff", "empty", "of another type":
					c.unreadable(place)
				}
			})
		}
		add("TBSCertificate with a long length", func(c *derpki.Cert) { c.Changed = func(tbs []byte) []byte { return derpki.Long(tbs, 4) } })
		add("TBSCertificate of indefinite length", func(c *derpki.Cert) { c.Changed = derpki.Indefinite })
		add("validity with a long length", func(c *derpki.Cert) { c.Changed = part(4, func(b []byte) []byte { return derpki.Long(b, 2) }) })
		add("validity of indefinite length", func(c *derpki.Cert) { c.Changed = part(4, derpki.Indefinite) })
		add("subject of indefinite length", func(c *derpki.Cert) { c.Changed = part(5, derpki.Indefinite) })
		add("certificate with a long length", func(c *derpki.Cert) { c.Outer = func(der []byte) []byte { return derpki.Long(der, 4) } })
		add("certificate of indefinite length", func(c *derpki.Cert) { c.Outer = derpki.Indefinite })
		t.add("encoding/a byte after the "+place, func(c *chain) {
			c.at(place).Outer = func(der []byte) []byte { return append(der, 0) }
			c.trailing()
		})
		t.add("encoding/a byte less at the "+place, func(c *chain) {
			c.at(place).Outer = func(der []byte) []byte { return der[:len(der)-1] }
			c.unreadable(place)
		})
		t.add("encoding/a SEQUENCE more at the "+place, func(c *chain) {
			c.at(place).Outer = func(der []byte) []byte { return derpki.Seq(append(elements(der), derpki.Seq())...) }
			c.unreadable(place)
		})
		t.add("encoding/an element more inside at the "+place, func(c *chain) {
			c.at(place).Changed = func(tbs []byte) []byte { return derpki.Seq(append(elements(tbs), derpki.Int(1))...) }
			c.unreadable(place)
		})
		add("algorithm with parameters", func(c *derpki.Cert) {
			c.Inner = derpki.Seq(derpki.OID(1, 2, 840, 10045, 4, 3, 2), derpki.TLV(derpki.TagNull))
		})
		add("unique identifiers", func(c *derpki.Cert) {
			c.Changed = func(tbs []byte) []byte {
				parts := elements(tbs)
				return derpki.Seq(slices.Insert(parts, 7, derpki.TLV(0x81, []byte{0, 1}), derpki.TLV(0x82, []byte{0, 2}))...)
			}
		})
		for name, spki := range map[string][]byte{
			"of an unknown kind": derpki.Seq(derpki.Seq(derpki.OID(1, 3, 6, 1, 4, 1, 99999, 5)), derpki.Bits([]byte{1})),
			"not on the curve":   derpki.Seq(derpki.Seq(derpki.OID(1, 2, 840, 10045, 2, 1), derpki.OID(1, 2, 840, 10045, 3, 1, 7)), derpki.Bits(append([]byte{4}, make([]byte, 64)...))),
			"without a curve":    derpki.Seq(derpki.Seq(derpki.OID(1, 2, 840, 10045, 2, 1)), derpki.Bits(append([]byte{4}, make([]byte, 64)...))),
			"empty":              derpki.Seq(derpki.Seq(derpki.OID(1, 2, 840, 10045, 2, 1), derpki.OID(1, 2, 840, 10045, 3, 1, 7)), derpki.Bits(nil)),
			"RSA of 16 bits":     derpki.Seq(derpki.Seq(derpki.OID(1, 2, 840, 113549, 1, 1, 1), derpki.TLV(derpki.TagNull)), derpki.Bits(derpki.Seq(derpki.Int(0, 0xff, 0xfd), derpki.Int(3)))),
		} {
			add("key "+name, func(c *derpki.Cert) { c.SPKI = spki })
		}
		for name, subject := range map[string][]byte{
			"empty":                derpki.Name(),
			"with a NUL":           derpki.CN("leaf.test\x00.evil.test"),
			"in bad UTF-8":         derpki.CN("\xff\xfe"),
			"BMPString":            derpki.Name(derpki.Attr(derpki.TagBMP, "\x00l\x00e\x00a\x00f", 2, 5, 4, 3)),
			"BMPString of 3 bytes": derpki.Name(derpki.Attr(derpki.TagBMP, "\x00l\x00", 2, 5, 4, 3)),
			"T61String":            derpki.Name(derpki.Attr(derpki.TagT61, "l\xe4af", 2, 5, 4, 3)),
			"bad PrintableString":  derpki.Name(derpki.Attr(derpki.TagPrintable, "leaf@\x01", 2, 5, 4, 3)),
			"with slashes":         derpki.CN("leaf/O=root/CN=root"),
			"of 5,000 bytes":       derpki.CN(strings.Repeat("x", 5000)),
			"twice the CN":         derpki.Name(derpki.Attr(derpki.TagUTF8, "a", 2, 5, 4, 3), derpki.Attr(derpki.TagUTF8, "b", 2, 5, 4, 3)),
			"an empty RDN":         derpki.Name(derpki.TLV(derpki.TagSet)),
			"no SEQUENCE":          derpki.TLV(derpki.TagUTF8, []byte("leaf")),
			"an INTEGER":           derpki.Name(derpki.TLV(derpki.TagSet, derpki.Seq(derpki.OID(2, 5, 4, 3), derpki.Int(1)))),
		} {
			t.add("encoding/name "+name+" of the "+place, func(c *chain) { // wherever it appears
				c.at(place).Subject = subject
				switch place {
				case "root":
					c.root.Issuer, c.inter.Issuer = subject, subject
				case "intermediate":
					c.leaf.Issuer = subject
				}
			})
		}
		add("empty issuer", func(c *derpki.Cert) { c.Issuer = derpki.Name() })
		add("issuer in other letters", func(c *derpki.Cert) { c.Issuer = bytes.ToUpper(c.Issuer) })
		add("issuer in another type of string", func(c *derpki.Cert) {
			c.Issuer = bytes.ReplaceAll(c.Issuer, []byte{derpki.TagUTF8}, []byte{derpki.TagPrintable})
		})
	}
	t.add("encoding/no certificate at all", func(c *chain) { c.sent = [][]byte{[]byte("no certificate"), c.inter.DER()} })
	t.add("encoding/an intermediate that is not a certificate", func(c *chain) {
		c.sent = [][]byte{c.leaf.DER(), []byte("no certificate")}
		c.unreadable("intermediate")
	})
	t.add("encoding/an empty intermediate", func(c *chain) {
		c.sent = [][]byte{c.leaf.DER(), c.inter.DER(), {0x30, 0}}
		c.unreadable("intermediate")
	})
}

// namesOfHosts adds rows about host names, which clients compare.
func namesOfHosts(t *table) {
	for name, names := range map[string][][]byte{
		"same":                   {dns("leaf.test")},
		"other letters":          {dns("LEAF.Test")},
		"another":                {dns("other.test")},
		"second of two":          {dns("other.test"), dns("leaf.test")},
		"star":                   {dns("*.test")},
		"star in the middle":     {dns("l*f.test")},
		"star alone":             {dns("*")},
		"below it":               {dns("a.leaf.test")},
		"dot at the end":         {dns("leaf.test.")},
		"NUL after it":           {dns("leaf.test\x00.evil.test")},
		"NUL at the end":         {dns("leaf.test\x00")},
		"address":                {ip(127, 0, 0, 1)},
		"mail":                   {email("leaf.test")},
		"URI":                    {uri("https://leaf.test")},
		"no name":                {},
		"unknown kind":           {derpki.TLV(0xa9, []byte{1})},
		"other name":             {derpki.TLV(0xa0, derpki.OID(1, 2, 3), derpki.TLV(0xa0, derpki.TLV(derpki.TagUTF8, []byte("leaf.test"))))},
		"other name beside dns":  {derpki.TLV(0xa0, derpki.OID(1, 2, 3), derpki.TLV(0xa0, derpki.TLV(derpki.TagUTF8, []byte("x")))), dns("leaf.test")},
		"directory name":         {dirName(derpki.CN("leaf.test"))},
		"empty dns":              {dns("")},
		"dns of 300 bytes":       {dns(strings.Repeat("x", 300))},
		"200 names":              append(slices.Repeat([][]byte{dns("other.test")}, 200), dns("leaf.test")),
		"broken name constraint": {derpki.TLV(0x87, []byte{1, 2, 3})},
	} {
		t.add("names/"+name, func(c *chain) { c.leaf.Exts = with(c.leaf.Exts, altNames(names...)) })
	}
	t.add("names/broken", func(c *chain) { c.leaf.Exts = with(c.leaf.Exts, ext(false, san, []byte{0x30, 9, 0x82})) })
	t.add("names/none, another CN", func(c *chain) { c.leaf.Exts = without(c.leaf.Exts, san) })
	t.add("names/critical", func(c *chain) {
		c.leaf.Subject, c.leaf.Exts = derpki.Name(), with(c.leaf.Exts, ext(true, san, derpki.Seq(dns(hostname))))
	})
}
