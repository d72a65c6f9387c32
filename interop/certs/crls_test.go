package certs_test

import (
	"bytes"
	"slices"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/derpki"
)

// lists are the CRLs of a chain: of the root and of the intermediate.
type lists struct {
	*chain
	ofRoot, ofInter derpki.CRL
	more            [][]byte
	drop            []string // "root", "intermediate"
}

// addCRL adds a row for each kind of check. Its lists, one of each CA, are valid unless
// the row changes them.
func (t *table) addCRL(name string, change func(*lists)) {
	for check, suffix := range map[sslfilter.CRLCheck]string{sslfilter.CRLCheckLeaf: "leaf", sslfilter.CRLCheckChain: "chain"} {
		list := func(issuer []byte, key *derpki.Key) derpki.CRL {
			return derpki.CRL{Issuer: issuer, Signer: key, Exts: [][]byte{authorityID(keyID(key)), ext(false, crlNumber, derpki.Int(1))}}
		}
		l := &lists{chain: newChain("CRL/" + name + ", " + suffix)}
		l.ofRoot, l.ofInter = list(l.root.Subject, rootKey), list(l.inter.Subject, interKey)
		l.check = check
		if change != nil {
			change(l)
		}
		if !slices.Contains(l.drop, "root") {
			l.crls = append(l.crls, l.ofRoot.DER())
		}
		if !slices.Contains(l.drop, "intermediate") {
			l.crls = append(l.crls, l.ofInter.DER())
		}
		l.crls = append(l.crls, l.more...)
		*t = append(*t, l.build())
	}
}

func revoked(serial byte, exts ...[]byte) []derpki.Revoked {
	return []derpki.Revoked{{Serial: derpki.Int(serial), Exts: exts}}
}

func because(n byte) []byte { return ext(false, reason, derpki.TLV(derpki.TagEnum, []byte{n})) }

// The serials of a chain.
const rootSerial, interSerial, leafSerial = 1, 2, 3

const removeFromCRL = 8

func crlRows() []row {
	var t table
	unfit := func(name, why string, change func(*lists)) {
		from := len(t)
		t.addCRL(name, change)
		for i := range t[from:] {
			t[from+i].differs, t[from+i].want = why, answer{unusable: true}
		}
	}
	t.addCRL("good", nil)
	t.addCRL("leaf revoked", func(l *lists) { l.ofInter.Entries = revoked(leafSerial) })
	t.addCRL("intermediate revoked", func(l *lists) { l.ofRoot.Entries = revoked(interSerial) })
	t.addCRL("root revoked by itself", func(l *lists) { l.ofRoot.Entries = revoked(rootSerial) })
	t.addCRL("all revoked", func(l *lists) {
		l.ofInter.Entries, l.ofRoot.Entries = revoked(leafSerial), append(revoked(interSerial), revoked(rootSerial)...)
	})
	t.addCRL("leaf's serial on the root's list", func(l *lists) { l.ofRoot.Entries = revoked(leafSerial) })
	t.addCRL("others revoked", func(l *lists) {
		for i := range byte(100) {
			l.ofInter.Entries = append(l.ofInter.Entries, revoked(100-i+20)...)
		}
	})
	t.addCRL("leaf among a hundred", func(l *lists) {
		for i := range byte(100) {
			l.ofInter.Entries = append(l.ofInter.Entries, revoked(100-i)...)
		}
	})
	t.addCRL("negative serial of the same size", func(l *lists) { l.ofInter.Entries = revoked(0xfd) })
	t.addCRL("leaf with a negative serial revoked", func(l *lists) {
		l.leaf.Serial = derpki.Int(0xfd)
		l.ofInter.Entries = revoked(0xfd)
	})
	for n := range byte(11) {
		t.addCRL("reason "+string('0'+rune(n/10))+string('0'+rune(n%10)), func(l *lists) { l.ofInter.Entries = revoked(leafSerial, because(n)) })
	}
	t.addCRL("removeFromCRL, then revoked", func(l *lists) {
		l.ofInter.Entries = append(revoked(leafSerial, because(removeFromCRL)), revoked(leafSerial)...)
	})
	t.addCRL("broken reason", func(l *lists) { l.ofInter.Entries = revoked(9, ext(false, reason, []byte{4, 1})) })
	t.addCRL("invalidity date", func(l *lists) {
		l.ofInter.Entries = revoked(leafSerial, ext(false, 24, derpki.TLV(derpki.TagGeneralized, []byte("20200101000000Z"))))
	})
	for _, who := range []string{"root", "intermediate"} {
		of := func(name string, change func(c *derpki.CRL)) {
			t.addCRL(name+" of the "+who, func(l *lists) {
				if who == "root" {
					change(&l.ofRoot)
				} else {
					change(&l.ofInter)
				}
			})
		}
		t.addCRL("missing of the "+who, func(l *lists) { l.drop = []string{who} })
		of("expired", func(c *derpki.CRL) { c.NextUpdate = derpki.Time(2021) })
		of("expired and revoking", func(c *derpki.CRL) {
			c.NextUpdate, c.Entries = derpki.Time(2021), append(revoked(leafSerial), revoked(interSerial)...)
		})
		of("not yet valid", func(c *derpki.CRL) { c.ThisUpdate = derpki.Time(2098) })
		of("without an end", func(c *derpki.CRL) { c.NextUpdate = []byte{} })
		of("bad begin", func(c *derpki.CRL) { c.ThisUpdate = derpki.TLV(derpki.TagUTCTime, []byte("209901000000Z")) })
		of("bad end", func(c *derpki.CRL) { c.NextUpdate = derpki.TLV(derpki.TagUTCTime, []byte("never")) })
		of("bad signature", func(c *derpki.CRL) { c.BadSig = true })
		of("signed by another", func(c *derpki.CRL) { c.Signer = otherKey })
		of("SHA-1", func(c *derpki.CRL) { c.Alg = &derpki.ECDSAWithSHA1 })
		of("unknown algorithm", func(c *derpki.CRL) { c.Alg = &derpki.UnknownAlg })
		of("issuer is another", func(c *derpki.CRL) { c.Issuer = derpki.CN("somebody") })
		of("issuer in other letters", func(c *derpki.CRL) { c.Issuer = bytes.ToUpper(c.Issuer) })
		of("no extensions", func(c *derpki.CRL) { c.Exts = nil })
		of("version 1", func(c *derpki.CRL) { c.Version, c.Exts = []byte{}, nil })
		of("version 1 with extensions", func(c *derpki.CRL) { c.Version = []byte{} })
		of("version 3", func(c *derpki.CRL) { c.Version = derpki.Int(2) })
		of("authority is another", func(c *derpki.CRL) { c.Exts = with(c.Exts, authorityID([]byte("another key"))) })
		of("broken authority", func(c *derpki.CRL) { c.Exts = with(c.Exts, ext(false, akid, []byte{0x30, 7})) })
		of("unknown extension", func(c *derpki.CRL) {
			c.Exts = append(c.Exts, derpki.Ext(false, []byte{5, 0}, 1, 3, 6, 1, 4, 1, 99999, 6))
		})
		of("unknown critical extension", func(c *derpki.CRL) {
			c.Exts = append(c.Exts, derpki.Ext(true, []byte{5, 0}, 1, 3, 6, 1, 4, 1, 99999, 6))
		})
		of("unknown critical extension, and revoking", func(c *derpki.CRL) {
			c.Entries = append(revoked(leafSerial), revoked(interSerial)...)
			c.Exts = append(c.Exts, derpki.Ext(true, []byte{5, 0}, 1, 3, 6, 1, 4, 1, 99999, 6))
		})
		of("unknown critical extension of an entry", func(c *derpki.CRL) {
			c.Entries = revoked(99, derpki.Ext(true, []byte{5, 0}, 1, 3, 6, 1, 4, 1, 99999, 6))
		})
		of("of users' certificates only", func(c *derpki.CRL) {
			c.Exts = append(c.Exts, ext(true, idp, derpki.Seq(derpki.TLV(0x81, []byte{0xff}))))
		})
		of("of CAs' certificates only", func(c *derpki.CRL) {
			c.Exts = append(c.Exts, ext(true, idp, derpki.Seq(derpki.TLV(0x82, []byte{0xff}))))
		})
		of("of attribute certificates only", func(c *derpki.CRL) {
			c.Exts = append(c.Exts, ext(true, idp, derpki.Seq(derpki.TLV(0x85, []byte{0xff}))))
		})
		of("of users and CAs only", func(c *derpki.CRL) {
			c.Exts = append(c.Exts, ext(true, idp, derpki.Seq(derpki.TLV(0x81, []byte{0xff}), derpki.TLV(0x82, []byte{0xff}))))
		})
		of("of a distribution point", func(c *derpki.CRL) { c.Exts = append(c.Exts, ext(true, idp, derpki.Seq(point("http://a/")))) })
		of("broken distribution point", func(c *derpki.CRL) { c.Exts = append(c.Exts, ext(true, idp, []byte{0x30, 9})) })
		of("revoked, CA without the right", func(c *derpki.CRL) { c.Entries = append(revoked(leafSerial), revoked(interSerial)...) })
		t.addCRL("a byte after the list of the "+who, func(l *lists) {
			l.trailing()
			of := map[string]*derpki.CRL{"root": &l.ofRoot, "intermediate": &l.ofInter}[who]
			of.Outer = func(der []byte) []byte { return append(der, 0) }
		})
		of("of indefinite length", func(c *derpki.CRL) { c.Outer = derpki.Indefinite })
	}
	t.addCRL("point of the leaf", func(l *lists) {
		l.leaf.Exts = append(l.leaf.Exts, ext(false, 31, derpki.Seq(derpki.Seq(point("http://a/")))))
		l.ofInter.Exts = append(l.ofInter.Exts, ext(true, idp, derpki.Seq(point("http://a/"))))
	})
	t.addCRL("a point that is not the leaf's", func(l *lists) {
		l.leaf.Exts = append(l.leaf.Exts, ext(false, 31, derpki.Seq(derpki.Seq(point("http://a/")))))
		l.ofInter.Exts = append(l.ofInter.Exts, ext(true, idp, derpki.Seq(point("http://b/"))))
	})
	t.addCRL("point of the leaf for some reasons", func(l *lists) {
		l.leaf.Exts = append(l.leaf.Exts, ext(false, 31, derpki.Seq(derpki.Seq(point("http://a/"), derpki.TLV(0x81, []byte{6, 0x40})))))
		l.ofInter.Exts = append(l.ofInter.Exts, ext(true, idp, derpki.Seq(point("http://a/"))))
	})
	t.addCRL("CA without the right to sign lists", func(l *lists) { l.inter.Exts = with(l.inter.Exts, usage(certSign)) })
	t.addCRL("root without the right to sign lists", func(l *lists) { l.root.Exts = with(l.root.Exts, usage(certSign)) })
	t.addCRL("an old one and a new one", func(l *lists) {
		old := l.ofInter
		old.NextUpdate, old.Entries = derpki.Time(2021), revoked(leafSerial)
		l.more = [][]byte{old.DER()}
	})
	t.addCRL("two valid ones, the newer revokes", func(l *lists) {
		newer := l.ofInter
		newer.ThisUpdate, newer.Entries = derpki.Time(2022), revoked(leafSerial)
		l.more = [][]byte{newer.DER()}
	})
	t.addCRL("two valid ones, the older revokes", func(l *lists) {
		l.ofInter.ThisUpdate = derpki.Time(2022)
		older := l.ofInter
		older.ThisUpdate, older.Entries = derpki.Time(2020), revoked(leafSerial)
		l.more = [][]byte{older.DER()}
	})
	t.addCRL("one of another key of the same name", func(l *lists) {
		other := l.ofInter
		other.Signer, other.Entries, other.Exts = otherKey, revoked(leafSerial), [][]byte{authorityID(keyID(otherKey))}
		l.more = [][]byte{other.DER()}
	})
	t.addCRL("leaf expired and revoked", func(l *lists) {
		l.leaf.NotAfter = derpki.Time(2021)
		l.ofInter.Entries = revoked(leafSerial)
	})
	t.addCRL("self-signed leaf", func(l *lists) {
		l.leaf.Issuer, l.leaf.Signer, l.leaf.Exts = l.leaf.Subject, leafKey, without(l.leaf.Exts, akid)
		l.sent = [][]byte{l.leaf.DER()}
	})
	t.addCRL("no intermediate", func(l *lists) { l.sent = [][]byte{l.leaf.DER()} })
	t.addCRL("bad signature of the certificate too", func(l *lists) {
		l.leaf.BadSig = true
		l.ofInter.Entries = revoked(leafSerial)
	})

	const why = "lists of this kind are rejected when they are loaded; OpenSSL skips them, and takes a delta for a complete list"
	unfit("delta alone", why, func(l *lists) { l.ofInter.Exts = append(l.ofInter.Exts, ext(true, delta, derpki.Int(1))) })
	unfit("delta beside the complete list", why, func(l *lists) {
		d := l.ofInter
		d.Exts, d.Entries = append(slices.Clone(d.Exts), ext(true, delta, derpki.Int(1))), revoked(leafSerial)
		l.more = [][]byte{d.DER()}
	})
	unfit("delta that removes", why, func(l *lists) {
		l.ofInter.Entries = revoked(leafSerial)
		d := l.ofInter
		d.Exts, d.Entries = append(slices.Clone(d.Exts), ext(true, delta, derpki.Int(1))), revoked(leafSerial, because(removeFromCRL))
		l.more = [][]byte{d.DER()}
	})
	unfit("indirect", why, func(l *lists) {
		l.ofRoot.Exts = append(l.ofRoot.Exts, ext(true, idp, derpki.Seq(derpki.TLV(0x84, []byte{0xff}))))
		l.ofRoot.Entries = revoked(leafSerial, ext(true, certIssuer, derpki.Seq(dirName(l.inter.Subject))))
	})
	unfit("for some reasons", why, func(l *lists) {
		l.ofInter.Exts = append(l.ofInter.Exts, ext(true, idp, derpki.Seq(derpki.TLV(0x83, []byte{6, 0x40}))))
	})
	return t
}

// point returns the name of a distribution point.
func point(url string) []byte { return derpki.TLV(0xa0, derpki.TLV(0xa0, uri(url))) }
