package certs_test

import (
	"bytes"
	"crypto/elliptic"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-014b8713/sslfilter/internal/derpki"
)

func chainRows() []row {
	var t table
	t.add("good", nil)
	for _, part := range []func(*table){validity, lengths, constraints, signatures, weakKeys, digests, orders, keyIdentifiers, versions, extensions, encodings} {
		part(&t)
	}
	from := len(t)
	for _, part := range []func(*table){extendedUsages, keyUsages, namesOfHosts} { // which depend on the side
		part(&t)
	}
	for i := range t[from:] {
		t[from+i].bothSides = true
	}
	return t
}

func validity(t *table) {
	for _, place := range places {
		for name, change := range map[string]func(*derpki.Cert){
			"expired":                 func(c *derpki.Cert) { c.NotBefore, c.NotAfter = derpki.Time(2010), derpki.Time(2011) },
			"not yet valid":           func(c *derpki.Cert) { c.NotBefore = derpki.Time(2098) },
			"begins after its end":    func(c *derpki.Cert) { c.NotBefore, c.NotAfter = derpki.Time(2098), derpki.Time(2011) },
			"a GeneralizedTime":       func(c *derpki.Cert) { c.NotBefore = derpki.TLV(derpki.TagGeneralized, []byte("20200101000000Z")) },
			"until 9999":              func(c *derpki.Cert) { c.NotAfter = derpki.TLV(derpki.TagGeneralized, []byte("99991231235959Z")) },
			"without seconds":         func(c *derpki.Cert) { c.NotBefore = derpki.TLV(derpki.TagUTCTime, []byte("2001010000Z")) },
			"with an offset":          func(c *derpki.Cert) { c.NotAfter = derpki.TLV(derpki.TagUTCTime, []byte("490101000000+0100")) },
			"with fractions":          func(c *derpki.Cert) { c.NotAfter = derpki.TLV(derpki.TagGeneralized, []byte("20490101000000.5Z")) },
			"month 13":                func(c *derpki.Cert) { c.NotAfter = derpki.TLV(derpki.TagUTCTime, []byte("491301000000Z")) },
			"30 February":             func(c *derpki.Cert) { c.NotBefore = derpki.TLV(derpki.TagUTCTime, []byte("200230000000Z")) },
			"begin is not a date":     func(c *derpki.Cert) { c.NotBefore = derpki.TLV(derpki.TagUTCTime, []byte("yesterday")) },
			"end is empty":            func(c *derpki.Cert) { c.NotAfter = derpki.TLV(derpki.TagUTCTime) },
			"end is an INTEGER":       func(c *derpki.Cert) { c.NotAfter = derpki.Int(99) },
			"two digits before 1950":  func(c *derpki.Cert) { c.NotBefore = derpki.TLV(derpki.TagUTCTime, []byte("500101000000Z")) },
			"a year before the epoch": func(c *derpki.Cert) { c.NotBefore = derpki.TLV(derpki.TagGeneralized, []byte("19000101000000Z")) },
		} {
			t.add("validity/"+place+" "+name, func(c *chain) {
				change(c.at(place))
				if name == "end is an INTEGER" {
					c.unreadable(place)
				}
			})
		}
	}
	t.add("validity/all expired", func(c *chain) {
		for _, place := range places {
			c.at(place).NotAfter = derpki.Time(2021)
		}
	})
}

// deep makes a chain with n intermediates, each with its path length or -1.
func (c *chain) deep(n int, pathLen func(i int) int) {
	issuer, key := c.root.Subject, rootKey
	var sent [][]byte
	for i := range n {
		k := derpki.P256(fmt.Sprint("deep ", i))
		cert := derpki.Cert{
			Serial: derpki.Int(byte(20 + i)), Subject: c.cn(fmt.Sprint("deep ", i)), Issuer: issuer, Key: k, Signer: key,
			Exts: [][]byte{isCA(pathLen(i)), usage(certSign | crlSign), subjectID(keyID(k)), authorityID(keyID(key))},
		}
		sent = append([][]byte{cert.DER()}, sent...)
		issuer, key = cert.Subject, k
	}
	c.leaf.Issuer, c.leaf.Signer = issuer, key
	c.leaf.Exts = with(c.leaf.Exts, authorityID(keyID(key)))
	c.sent = append([][]byte{c.leaf.DER()}, sent...)
}

func lengths(t *table) {
	none := func(int) int { return -1 }
	for n := range 8 {
		for _, depth := range []int{0, 1, 2, 3, 6, 7} {
			t.add(fmt.Sprintf("depth/%d intermediates, %d allowed", n, depth), func(c *chain) {
				c.depth = depth
				c.deep(n, none)
			})
		}
	}
	for n := range 4 {
		for limit := range 3 {
			t.add(fmt.Sprintf("path length/%d at the root, %d intermediates", limit, n), func(c *chain) {
				c.root.Exts = with(c.root.Exts, isCA(limit))
				c.deep(n, none)
			})
			t.add(fmt.Sprintf("path length/%d at the first of %d intermediates", limit, n+1), func(c *chain) {
				c.deep(n+1, func(i int) int { return limit*(1-min(i, 1)) - min(i, 1) })
			})
		}
	}
	t.add("path length/negative", func(c *chain) {
		c.inter.Exts = with(c.inter.Exts, ext(true, basic, derpki.Seq(derpki.TLV(derpki.TagBoolean, []byte{0xff}), derpki.Int(0xff))))
	})
	t.add("path length/without CA", func(c *chain) { c.leaf.Exts = with(c.leaf.Exts, ext(true, basic, derpki.Seq(derpki.Int(0)))) })
	t.add("path length/a self-issued intermediate does not count", func(c *chain) {
		c.root.Exts = with(c.root.Exts, isCA(1))
		again := c.inter // the intermediate signs a new key with its own name
		again.Key, again.Signer, again.Issuer, again.Serial = otherKey, interKey, c.inter.Subject, derpki.Int(9)
		again.Exts = [][]byte{isCA(-1), usage(certSign), subjectID(keyID(otherKey)), authorityID(keyID(interKey))}
		c.leaf.Signer = otherKey
		c.leaf.Exts = with(c.leaf.Exts, authorityID(keyID(otherKey)))
		c.sent = [][]byte{c.leaf.DER(), again.DER(), c.inter.DER()}
	})
}

func constraints(t *table) {
	cn := func(cn string) []byte { return derpki.CN(cn) }
	org := derpki.Name(derpki.Attr(derpki.TagUTF8, "derpki", 2, 5, 4, 10))
	other := derpki.Name(derpki.Attr(derpki.TagUTF8, "others", 2, 5, 4, 10))
	for kind, names := range map[string]struct{ names, bases map[string][]byte }{
		"dns": {map[string][]byte{"leaf.test": dns("leaf.test"), "a.leaf.test": dns("a.leaf.test"), "LEAF.test": dns("LEAF.TEST"), "star": dns("*.leaf.test"), "xleaf.test": dns("xleaf.test")},
			map[string][]byte{"leaf.test": dns("leaf.test"), ".leaf.test": dns(".leaf.test"), "other": dns("other.test"), "empty": dns("")}},
		"email": {map[string][]byte{"a@leaf.test": email("a@leaf.test"), "a@b.leaf.test": email("a@b.leaf.test"), "no at": email("leaf.test")},
			map[string][]byte{"host": email("leaf.test"), ".host": email(".leaf.test"), "mailbox": email("a@leaf.test"), "other": email("other.test")}},
		"ip": {map[string][]byte{"10.0.0.1": ip(10, 0, 0, 1), "192.0.2.1": ip(192, 0, 2, 1), "v6": ip(append([]byte{0x20, 1, 13, 0xb8}, make([]byte, 12)...)...), "5 bytes": ip(1, 2, 3, 4, 5)},
			map[string][]byte{"10/8": ip(10, 0, 0, 0, 255, 0, 0, 0), "all": ip(make([]byte, 8)...), "bad mask": ip(10, 0, 0, 0, 255, 0, 255, 0), "bad length": ip(10, 0, 0)}},
		"uri": {map[string][]byte{"host": uri("https://leaf.test/x"), "no host": uri("urn:x"), "port": uri("https://leaf.test:1/")},
			map[string][]byte{"host": uri("leaf.test"), ".host": uri(".leaf.test"), "other": uri("other.test")}},
		"dirname": {map[string][]byte{"inside": dirName(cn("x")), "outside": dirName(other)},
			map[string][]byte{"org": dirName(org), "other": dirName(other), "empty": dirName(derpki.Name())}},
	} {
		for name, have := range names.names {
			for base, want := range names.bases {
				for i, how := range []string{"permitted", "excluded"} {
					t.add(fmt.Sprintf("name constraints/%s %s, %s %s", kind, name, base, how), func(c *chain) {
						subtree := derpki.TLV(byte(0xa0+i), derpki.Seq(want))
						c.inter.Exts = with(c.inter.Exts, ext(true, nameConstraints, derpki.Seq(subtree)))
						c.leaf.Exts = with(c.leaf.Exts, altNames(dns(hostname), have))
						if kind == "dns" {
							c.leaf.Exts = with(c.leaf.Exts, altNames(have))
						}
					})
				}
			}
		}
	}
	permit := func(names ...[]byte) []byte {
		var subtrees []byte
		for _, n := range names {
			subtrees = append(subtrees, derpki.Seq(n)...)
		}
		return ext(true, nameConstraints, derpki.Seq(derpki.TLV(0xa0, subtrees)))
	}
	t.add("name constraints/at the root", func(c *chain) { c.root.Exts = with(c.root.Exts, permit(dns("other.test"))) })
	t.add("name constraints/at the root and kept", func(c *chain) { c.root.Exts = with(c.root.Exts, permit(dns(hostname))) })
	t.add("name constraints/on the intermediate's own name", func(c *chain) { c.root.Exts = with(c.root.Exts, permit(dirName(other))) })
	t.add("name constraints/at the leaf", func(c *chain) { c.leaf.Exts = with(c.leaf.Exts, permit(dns("other.test"))) })
	t.add("name constraints/of two kinds", func(c *chain) { c.inter.Exts = with(c.inter.Exts, permit(dns(hostname), email("leaf.test"))) })
	t.add("name constraints/both permit", func(c *chain) { c.inter.Exts = with(c.inter.Exts, permit(dns("other.test"), dns(hostname))) })
	t.add("name constraints/of an unknown kind", func(c *chain) { c.inter.Exts = with(c.inter.Exts, permit(derpki.TLV(0x88, []byte{42}))) })
	t.add("name constraints/with a minimum", func(c *chain) {
		c.inter.Exts = with(c.inter.Exts, ext(true, nameConstraints, derpki.Seq(derpki.TLV(0xa0, derpki.Seq(dns(hostname), derpki.TLV(0x80, []byte{1}))))))
	})
	t.add("name constraints/empty", func(c *chain) { c.inter.Exts = with(c.inter.Exts, ext(true, nameConstraints, derpki.Seq())) })
	t.add("name constraints/broken", func(c *chain) { c.inter.Exts = with(c.inter.Exts, ext(true, nameConstraints, []byte{0x30, 9, 1})) })
	t.add("name constraints/CN is a host, and no names", func(c *chain) {
		c.differs = "our clients do not use the common name as a host name, so OpenSSL does not apply the constraints of hosts to it"
		c.differsFor, c.want = "sslserver", answer{valid: true} // the name itself is not checked here
		c.inter.Exts = with(c.inter.Exts, permit(dns("other.test")))
		c.leaf.Subject, c.leaf.Exts = derpki.CN("leaf.test"), without(c.leaf.Exts, san)
	})
	t.add("name constraints/e-mail in the subject", func(c *chain) {
		c.inter.Exts = with(c.inter.Exts, permit(email("other.test"), dns(hostname)))
		c.leaf.Subject = derpki.Name(derpki.Attr(0x16, "a@leaf.test", 1, 2, 840, 113549, 1, 9, 1))
	})
}

func extendedUsages(t *table) {
	for _, place := range places {
		for name, e := range map[string][]byte{
			"none": nil, "client": purposes(false, clientAuth), "server": purposes(false, serverAuth), "code": purposes(false, codeSigning),
			"client, critical": purposes(true, clientAuth), "mail and time": purposes(false, emailProtection, timeStamping), "OCSP": purposes(false, ocspSigning),
			"any":   ext(false, eku, derpki.Seq(derpki.OID(2, 5, 29, 37, 0))),
			"SGC":   ext(false, eku, derpki.Seq(derpki.OID(2, 16, 840, 1, 113730, 4, 1))),
			"empty": ext(false, eku, derpki.Seq()), "broken": ext(false, eku, []byte{0x30, 3, 6}),
			"unknown": ext(true, eku, derpki.Seq(derpki.OID(1, 3, 6, 1, 4, 1, 99999, 2))),
		} {
			t.add("extended key usage/"+name+" at the "+place, func(c *chain) {
				cert := c.at(place)
				if cert.Exts = without(cert.Exts, eku); e != nil {
					cert.Exts = append(cert.Exts, e)
				}
			})
		}
	}
}

func keyUsages(t *table) {
	for _, place := range places {
		for name, bits := range map[string]byte{
			"signature": digitalSignature, "non-repudiation": nonRepudiation, "key encipherment": keyEncipherment, "data encipherment": dataEncipherment,
			"key agreement": keyAgreement, "certificates": certSign, "CRLs": crlSign, "no bit": 0, "all": 0xfe,
		} {
			t.add("key usage/"+name+" at the "+place, func(c *chain) {
				c.at(place).Exts = with(c.at(place).Exts, usage(bits))
				if (name == "key encipherment" || name == "key agreement") && place == "leaf" {
					c.tls12, c.differs, c.differsFor = true, "the chain is good, but the handshake of TLS 1.2 with ECDHE fails: this key may not sign", "sslserver"
				}
			})
		}
		t.add("key usage/none at the "+place, func(c *chain) { c.at(place).Exts = without(c.at(place).Exts, keyUsage) })
		t.add("key usage/broken at the "+place, func(c *chain) { c.at(place).Exts = with(c.at(place).Exts, ext(true, keyUsage, []byte{3, 9})) })
		for name, e := range map[string][]byte{
			"none": nil, "false": notCA(), "true": isCA(-1), "not critical": ext(false, basic, derpki.Seq(derpki.TLV(derpki.TagBoolean, []byte{0xff}))),
			"true as 1": ext(true, basic, derpki.Seq(derpki.TLV(derpki.TagBoolean, []byte{1}))), "broken": ext(true, basic, []byte{0x30, 5, 1, 1}),
			"false written out": ext(true, basic, derpki.Seq(derpki.TLV(derpki.TagBoolean, []byte{0}))),
		} {
			t.add("basic constraints/"+name+" at the "+place, func(c *chain) {
				if c.at(place).Exts = without(c.at(place).Exts, basic); e != nil {
					c.at(place).Exts = append(c.at(place).Exts, e)
				}
			})
		}
	}
	t.add("basic constraints/none, and no key usage", func(c *chain) { c.inter.Exts = without(without(c.inter.Exts, basic), keyUsage) })
	t.add("basic constraints/leaf as intermediate", func(c *chain) {
		c.inter.Exts = slices.Clone(c.leaf.Exts)
		c.inter.Exts = with(with(c.inter.Exts, subjectID(keyID(interKey))), authorityID(keyID(rootKey)))
	})
}

func signatures(t *table) {
	for _, place := range places {
		cert := func(c *chain) *derpki.Cert { return c.at(place) }
		t.add("signature/wrong bit at the "+place, func(c *chain) { cert(c).BadSig = true })
		t.add("signature/by another key at the "+place, func(c *chain) { cert(c).Signer = otherKey })
		t.add("signature/two algorithms at the "+place, func(c *chain) { cert(c).Inner = derpki.ECDSAWithSHA384.ID })
		t.add("signature/unknown algorithm at the "+place, func(c *chain) { cert(c).Alg = &derpki.UnknownAlg })
		t.add("signature/algorithm of another key at the "+place, func(c *chain) { cert(c).Alg = &derpki.RSAWithSHA256 })
		t.add("signature/none at the "+place, func(c *chain) {
			cert(c).Outer = func(der []byte) []byte { return resign(der, nil) }
		})
		t.add("signature/garbage at the "+place, func(c *chain) {
			cert(c).Outer = func(der []byte) []byte { return resign(der, bytes.Repeat([]byte{0x30}, 70)) }
		})
		t.add("signature/of 5 bits less at the "+place, func(c *chain) {
			cert(c).Outer = func(der []byte) []byte {
				parts := elements(der)
				parts[2][2+lengthOfLength(parts[2])] = 5
				return derpki.Seq(parts...)
			}
		})
	}
	t.add("signature/changed after signing", func(c *chain) {
		c.leaf.Outer = func(der []byte) []byte { return bytes.Replace(der, []byte("leaf.test"), []byte("evil.test"), 1) }
	})
}

func weakKeys(t *table) {
	for _, level := range []int{0, 1, 2, 3} {
		for _, place := range places {
			keys := map[string]*derpki.Key{
				"RSA 1024": rsaKey(1024), "RSA 2048": rsaKey(2048), "P-224": derpki.EC(elliptic.P224(), place), "P-384": derpki.EC(elliptic.P384(), place), "Ed25519": derpki.Ed25519(place),
			}
			if place != "leaf" { // crypto/tls does not support these keys
				keys["P-192"] = derpki.P192(place)
			} else {
				delete(keys, "P-224")
			}
			for name, key := range keys {
				t.add(fmt.Sprintf("keys/%s at the %s, level %d", name, place, level), func(c *chain) {
					c.level = level
					c.rekey(place, key)
				})
			}
		}
	}
}

func digests(t *table) {
	for _, level := range []int{0, 1, 2, 3} {
		for _, place := range places {
			for name, alg := range map[string]derpki.SigAlg{
				"ECDSA SHA-1": derpki.ECDSAWithSHA1, "ECDSA SHA-224": derpki.ECDSAWithSHA224, "ECDSA SHA-384": derpki.ECDSAWithSHA384, "RSA MD5": derpki.RSAWithMD5, "RSA SHA-1": derpki.RSAWithSHA1,
			} {
				t.add(fmt.Sprintf("digests/%s of the %s, level %d", name, place, level), func(c *chain) {
					c.level = level
					if strings.HasPrefix(name, "RSA") {
						issuer := "root"
						if place == "leaf" {
							issuer = "intermediate"
						}
						c.rekey(issuer, rsaKey(2048))
					}
					c.at(place).Alg = &alg
				})
			}
		}
	}
}

func orders(t *table) {
	unrelated := func() []byte {
		c := newChain("")
		c.root.Subject, c.root.Issuer, c.root.Key, c.root.Signer = derpki.CN("unrelated"), derpki.CN("unrelated"), otherKey, otherKey
		return c.root.DER()
	}()
	send := func(name string, list func(c *chain, leaf, inter, root []byte) [][]byte) {
		t.add("order/"+name, func(c *chain) { c.sent = list(c, c.leaf.DER(), c.inter.DER(), c.root.DER()) })
	}
	send("no intermediate", func(_ *chain, leaf, _, _ []byte) [][]byte { return [][]byte{leaf} })
	send("intermediate is trusted", func(c *chain, leaf, inter, root []byte) [][]byte {
		c.roots = [][]byte{root, inter}
		return [][]byte{leaf}
	})
	send("intermediate alone is trusted", func(c *chain, leaf, inter, _ []byte) [][]byte {
		c.roots = [][]byte{inter}
		return [][]byte{leaf}
	})
	send("leaf alone is trusted", func(c *chain, leaf, inter, _ []byte) [][]byte {
		c.roots = [][]byte{leaf}
		return [][]byte{leaf, inter}
	})
	send("root is sent too", func(_ *chain, leaf, inter, root []byte) [][]byte { return [][]byte{leaf, inter, root} })
	send("root before the intermediate", func(_ *chain, leaf, inter, root []byte) [][]byte { return [][]byte{leaf, root, inter} })
	send("root is sent, another is trusted", func(c *chain, leaf, inter, root []byte) [][]byte {
		c.roots = [][]byte{unrelated}
		return [][]byte{leaf, inter, root}
	})
	send("another is trusted", func(c *chain, leaf, inter, _ []byte) [][]byte {
		c.roots = [][]byte{unrelated}
		return [][]byte{leaf, inter}
	})
	send("an unrelated one in between", func(_ *chain, leaf, inter, _ []byte) [][]byte { return [][]byte{leaf, unrelated, inter} })
	send("an unrelated one at the end", func(_ *chain, leaf, inter, _ []byte) [][]byte { return [][]byte{leaf, inter, unrelated} })
	send("the leaf twice", func(_ *chain, leaf, inter, _ []byte) [][]byte { return [][]byte{leaf, leaf, inter} })
	send("the intermediate twice", func(_ *chain, leaf, inter, _ []byte) [][]byte { return [][]byte{leaf, inter, inter} })
	send("many unrelated ones", func(_ *chain, leaf, inter, _ []byte) [][]byte {
		return append(append([][]byte{leaf}, slices.Repeat([][]byte{unrelated}, 20)...), inter)
	})
	t.add("order/intermediate first", func(c *chain) {
		c.key, c.sent = interKey, [][]byte{c.inter.DER(), c.leaf.DER()}
	})
	t.add("order/self-signed leaf", func(c *chain) {
		c.leaf.Issuer, c.leaf.Signer, c.leaf.Exts = c.leaf.Subject, leafKey, without(c.leaf.Exts, akid)
		c.sent = [][]byte{c.leaf.DER()}
	})
	t.add("order/self-signed leaf that is trusted", func(c *chain) {
		c.leaf.Issuer, c.leaf.Signer, c.leaf.Exts = c.leaf.Subject, leafKey, without(c.leaf.Exts, akid)
		c.sent = [][]byte{c.leaf.DER()}
		c.roots = c.sent
	})
	t.add("order/self-issued leaf by another key", func(c *chain) {
		c.leaf.Issuer, c.leaf.Signer, c.leaf.Exts = c.leaf.Subject, otherKey, without(c.leaf.Exts, akid)
		c.sent = [][]byte{c.leaf.DER()}
	})
	t.add("order/the root as leaf", func(c *chain) { c.key, c.sent = rootKey, [][]byte{c.root.DER()} })
	t.add("order/leaf directly below the root", func(c *chain) {
		c.leaf.Issuer, c.leaf.Signer, c.leaf.Exts = c.root.Subject, rootKey, with(c.leaf.Exts, authorityID(keyID(rootKey)))
		c.sent = [][]byte{c.leaf.DER()}
	})
	cross := func(c *chain, serial byte) derpki.Cert { // the intermediate below an old root
		old := c.inter
		old.Serial, old.Issuer, old.Signer = derpki.Int(serial), derpki.CN("unrelated"), otherKey
		old.Exts = with(old.Exts, authorityID(keyID(otherKey)))
		return old
	}
	for name, list := range map[string]func(c *chain, new, old []byte) ([][]byte, [][]byte){
		"both ways, new root": func(c *chain, new, old []byte) ([][]byte, [][]byte) {
			return [][]byte{old, new}, [][]byte{c.root.DER()}
		},
		"both ways, old root": func(c *chain, new, old []byte) ([][]byte, [][]byte) { return [][]byte{new, old}, [][]byte{unrelated} },
		"both ways, both roots": func(c *chain, new, old []byte) ([][]byte, [][]byte) {
			return [][]byte{old, new}, [][]byte{unrelated, c.root.DER()}
		},
		"one way, the other one": func(c *chain, new, old []byte) ([][]byte, [][]byte) { return [][]byte{old}, [][]byte{c.root.DER()} },
	} {
		t.add("cross-signing/"+name, func(c *chain) {
			inters, roots := list(c, c.inter.DER(), cross(c, 77).DER())
			c.sent, c.roots = append([][]byte{c.leaf.DER()}, inters...), roots
		})
		t.add("cross-signing/"+name+", the new way expired", func(c *chain) {
			c.inter.NotAfter = derpki.Time(2021)
			inters, roots := list(c, c.inter.DER(), cross(c, 77).DER())
			old := cross(c, 77)
			old.NotAfter = derpki.Time(2099)
			c.sent, c.roots = append([][]byte{c.leaf.DER()}, inters...), roots
		})
	}
	t.add("cross-signing/the root itself below another", func(c *chain) {
		crossed := c.root
		crossed.Serial, crossed.Issuer, crossed.Signer = derpki.Int(78), derpki.CN("unrelated"), otherKey
		crossed.Exts = with(crossed.Exts, authorityID(keyID(otherKey)))
		c.sent, c.roots = [][]byte{c.leaf.DER(), c.inter.DER(), crossed.DER()}, [][]byte{unrelated}
	})
	t.add("cross-signing/two that sign each other", func(c *chain) {
		a, b := c.inter, c.inter
		a.Issuer, a.Signer, a.Exts = c.cn("other side"), otherKey, with(a.Exts, authorityID(keyID(otherKey)))
		b.Subject, b.Key, b.Issuer, b.Signer = c.cn("other side"), otherKey, c.inter.Subject, interKey
		b.Exts = with(with(b.Exts, subjectID(keyID(otherKey))), authorityID(keyID(interKey)))
		c.sent = [][]byte{c.leaf.DER(), a.DER(), b.DER()}
	})
}

func keyIdentifiers(t *table) {
	wrong := []byte("another key")
	for name, change := range map[string]func(*chain){
		"authority of the leaf is another":         func(c *chain) { c.leaf.Exts = with(c.leaf.Exts, authorityID(wrong)) },
		"authority of the intermediate is another": func(c *chain) { c.inter.Exts = with(c.inter.Exts, authorityID(wrong)) },
		"authority of the root is another":         func(c *chain) { c.root.Exts = with(c.root.Exts, authorityID(wrong)) },
		"subject of the intermediate is another":   func(c *chain) { c.inter.Exts = with(c.inter.Exts, subjectID(wrong)) },
		"subject of the root is another":           func(c *chain) { c.root.Exts = with(c.root.Exts, subjectID(wrong)) },
		"none": func(c *chain) {
			for _, place := range places {
				c.at(place).Exts = without(without(c.at(place).Exts, akid), skid)
			}
		},
		"no subject at the intermediate": func(c *chain) { c.inter.Exts = without(c.inter.Exts, skid) },
		"no authority at the leaf":       func(c *chain) { c.leaf.Exts = without(c.leaf.Exts, akid) },
		"issuer and serial": func(c *chain) {
			c.leaf.Exts = with(c.leaf.Exts, ext(false, akid, derpki.Seq(derpki.TLV(0xa1, dirName(c.root.Subject)), derpki.TLV(0x82, []byte{2}))))
		},
		"issuer and another serial": func(c *chain) {
			c.leaf.Exts = with(c.leaf.Exts, ext(false, akid, derpki.Seq(derpki.TLV(0xa1, dirName(c.root.Subject)), derpki.TLV(0x82, []byte{99}))))
		},
		"another issuer and serial": func(c *chain) {
			c.leaf.Exts = with(c.leaf.Exts, ext(false, akid, derpki.Seq(derpki.TLV(0xa1, dirName(c.leaf.Subject)), derpki.TLV(0x82, []byte{2}))))
		},
		"empty authority":  func(c *chain) { c.leaf.Exts = with(c.leaf.Exts, ext(false, akid, derpki.Seq())) },
		"empty subject":    func(c *chain) { c.inter.Exts = with(c.inter.Exts, subjectID(nil)) },
		"broken authority": func(c *chain) { c.leaf.Exts = with(c.leaf.Exts, ext(false, akid, []byte{0x30, 7, 0x80})) },
		"broken subject":   func(c *chain) { c.inter.Exts = with(c.inter.Exts, ext(false, skid, []byte{4, 9})) },
		"critical": func(c *chain) {
			c.leaf.Exts = with(c.leaf.Exts, ext(true, akid, derpki.Seq(derpki.TLV(0x80, keyID(interKey)))))
		},
		"two intermediates, one ID": func(c *chain) { // the wrong one first: same name, another key
			wrong := c.inter
			wrong.Key, wrong.Serial = otherKey, derpki.Int(44)
			wrong.Exts = with(wrong.Exts, subjectID(keyID(otherKey)))
			c.sent = [][]byte{c.leaf.DER(), wrong.DER(), c.inter.DER()}
		},
		"two intermediates, no ID": func(c *chain) {
			c.leaf.Exts = without(c.leaf.Exts, akid)
			wrong := c.inter
			wrong.Key, wrong.Serial = otherKey, derpki.Int(44)
			c.sent = [][]byte{c.leaf.DER(), wrong.DER(), c.inter.DER()}
		},
	} {
		t.add("key identifiers/"+name, change)
	}
}

func versions(t *table) {
	for _, place := range places {
		for name, version := range map[string][]byte{
			"1": derpki.Version1, "1 written out": derpki.TLV(0xa0, derpki.Int(0)), "2": derpki.Version2, "4": derpki.Version4, "-1": derpki.TLV(0xa0, derpki.Int(0xff)),
			"huge": derpki.TLV(0xa0, derpki.Int(bytes.Repeat([]byte{0x7f}, 12)...)),
		} {
			t.add("version/"+name+" with extensions at the "+place, func(c *chain) { c.at(place).Version = version })
			if name == "1" || name == "2" {
				t.add("version/"+name+" at the "+place, func(c *chain) { c.at(place).Version, c.at(place).Exts = version, nil })
			}
		}
	}
}
